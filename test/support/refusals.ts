/** What is wrong with how a refusal is said to a PVE client: several clients show only one of status line, `message` and `errors`. */

import { expect } from 'vitest';
import type { Body } from './site.ts';

export interface Said {
  readonly status: number;
  /** The status line's. */
  readonly reason: string;
  readonly body: Body;
}

/** The parameters whose fault it is by the answer; throws when the sentence is not said alike in all places, or a name is not the call's. */
export function blamedBy(
  { status, reason, body }: Said,
  path: string,
  params: Readonly<Record<string, unknown>>,
): readonly string[] {
  expect(status).toBeGreaterThanOrEqual(400);
  const { message, errors = {} } = body;
  expect(message).toMatch(/\S\n$/);
  expect(reason).toBe(
    message
      .replace(/\s+/g, ' ')
      .replace(/[^ -~]/g, '?')
      .trim()
      .slice(0, 300),
  );
  for (const [field, problem] of Object.entries<string>(errors)) {
    expect(problem).toMatch(/\S/);
    const isOfCall = Object.hasOwn(params, field) || inPath(path).has(field);
    expect(isOfCall || /is required|: name yours/.test(problem), `${field} is no parameter of ${path}`).toBe(true);
    expect(message).toContain(problem);
  }
  return Object.keys(errors);
}

/** What PVE calls the parameters that stand in a path. */
function inPath(path: string): ReadonlySet<string> {
  const places: readonly (readonly [RegExp, string])[] = [
    [/^\/nodes\//, 'node'],
    [/\/(?:qemu|lxc)\/\d/, 'vmid'],
    [/\/storage\//, 'storage'],
    [/\/content\/./, 'volume'],
    [/\/snapshot\/./, 'snapname'],
    [/^\/pools\/./, 'poolid'],
    [/\/replication\/./, 'id'],
  ];
  return new Set(places.flatMap(([form, name]) => (form.test(path) ? [name] : [])));
}
