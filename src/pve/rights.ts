/** What PVE's access control grants somebody on a path. */

import { isObject } from '../json.ts';
import { type Answer, succeeded } from './call.ts';

/** The privileges in an answer of `GET /access/permissions`, whether or not they propagate; null when it does not tell them. */
export function privilegesOn(answer: Answer, path: string): ReadonlySet<string> | null {
  if (!succeeded(answer) || !isObject(answer.data) || !Object.hasOwn(answer.data, path)) return null;
  const granted = answer.data[path];
  return isObject(granted) ? new Set(Object.keys(granted)) : null;
}
