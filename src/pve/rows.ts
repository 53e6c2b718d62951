/** PVE's lists: arrays of objects, whose fields are still to be read. */

import { UpstreamBrokenError } from '../errors.ts';
import { isObject } from '../json.ts';

/** One entry of a list as PVE answered it. */
export type Row = Readonly<Record<string, unknown>>;

/** The rows of a list; null when the data are anything else. */
export function rowsIn(data: unknown): readonly Row[] | null {
  return Array.isArray(data) && data.every(isObject) ? data : null;
}

/** The rows of a list; `name` says in the UpstreamBrokenError which list it is that is none. */
export function rowsOf(data: unknown, name: string): readonly Row[] {
  const rows = rowsIn(data);
  if (rows === null) throw new UpstreamBrokenError(`${name} is not understood`);
  return rows;
}
