/** What differs between two records, told value by value. */

import { isObject } from '../json.ts';

/** One line for each value that is added, removed or changed: `cluster.admin: false -> true`. */
export function differences(before: unknown, after: unknown, path = ''): string[] {
  const keys = [...new Set([...keysOf(before), ...keysOf(after)])];
  if (keys.length > 0 && (before === undefined || isObject(before)) && (after === undefined || isObject(after))) {
    return keys.flatMap((key) => differences(before?.[key], after?.[key], path === '' ? key : `${path}.${key}`));
  }
  const [old, now] = [shown(before), shown(after)];
  return old === now ? [] : [`${path}: ${old} -> ${now}`];
}

function keysOf(value: unknown): string[] {
  return isObject(value) ? Object.keys(value) : [];
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}
