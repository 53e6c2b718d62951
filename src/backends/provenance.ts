/** Where each value of a merged record comes from. */

import { isObject } from '../json.ts';
import type { UserRecord } from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';
import { formatPath } from '../schema.ts';
import { completeRecord, hasParts, merge, mergeRecords, type RecordPatch } from './normalise.ts';

/** Who said a value: a backend of the user, a backend of one of their groups, or nobody but the configuration. */
export type Source =
  | { readonly from: 'default' }
  | { readonly from: 'group'; readonly group: string; readonly backend: string }
  | { readonly from: 'user'; readonly backend: string };

/** What one source says; the later of two layers wins. */
export interface Layer {
  readonly source: Source;
  readonly patch: RecordPatch;
}

/** One value of a record, by its path, with the layer that decided it. */
export interface Explained {
  readonly key: string;
  readonly value: unknown;
  readonly source: Source;
}

/** The whole record that these layers make. */
export function recordOf(layers: readonly Layer[]): UserRecord {
  return completeRecord(layers.map(({ patch }) => patch).reduce(mergeRecords, {}));
}

/**
 * Every value of the record that these layers make, with its source. What no layer says is a default: nothing is
 * allowed of it, and so of the declared resources that no layer names.
 */
export function explain(layers: readonly Layer[], resources: Resources): readonly Explained[] {
  const all = [{ source: byDefault, patch: nothingOf(resources) }, ...layers];
  const sources = all.map(({ patch, source }) => marked(patch, source)).reduce((base, over) => merge(base, over), {});
  return valuesIn(recordOf(all)).map(({ path, value }) => ({
    key: formatPath(path),
    value,
    source: sourceAt(sources, path),
  }));
}

const byDefault: Source = { from: 'default' };

/** The same tree with the source where values were; in a list, since a list is a value as a whole. */
function marked(value: unknown, source: Source, path = ''): unknown {
  if (!hasParts(value, path)) return [source];
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, marked(part, source, `${path}/${key}`)]));
}

function sourceAt(sources: unknown, path: readonly string[]): Source {
  let found = sources;
  for (const key of path) found = isObject(found) && Object.hasOwn(found, key) ? found[key] : undefined;
  return Array.isArray(found) ? ((found as Source[])[0] ?? byDefault) : byDefault;
}

interface Value {
  readonly path: readonly string[];
  readonly value: unknown;
}

function valuesIn(value: unknown, path: readonly string[] = []): Value[] {
  if (!hasParts(value, path.map((key) => `/${key}`).join(''))) return [{ path, value }];
  return Object.entries(value).flatMap(([key, part]) => valuesIn(part, [...path, key]));
}

function nothingOf(resources: Resources): RecordPatch {
  return {
    resources: Object.fromEntries(
      Object.entries(resources).map(([name, { type }]) => [
        name,
        type === 'list' ? { global: [], nodes: {} } : { global: { max: 0 }, nodes: {} },
      ]),
    ),
  };
}
