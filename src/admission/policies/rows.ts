/** Rows that go with the caller's own credentials, written as lines of text: a reader sees the paths and nothing else. */

import type { Method } from '../../pve/call.ts';
import type { ClosedPolicy, OwnPolicy } from '../policy.ts';

/**
 * The rows of one class, one for each method of each line: `PUT DELETE /pools/{poolid}`. Words with a bar between
 * them, `qemu|lxc`, stand for a row each. Throws a TypeError for a line that is not of this form.
 */
export function ownRows(
  kind: OwnPolicy['class'],
  lines: string,
  more: Omit<Partial<OwnPolicy>, 'class' | 'method' | 'path'> = {},
): OwnPolicy[] {
  return methodsIn(lines).map(([method, path]) => ({ class: kind, method, path, ...more }));
}

/** The rows of calls that are for administrators alone, with the reason and the remedy that others are told. */
export function closedRows(reason: string, lines: string): ClosedPolicy[] {
  return methodsIn(lines).map(([method, path]) => ({ class: 'closed', method, path, reason }));
}

const form = /^(?<methods>(?:(?:GET|POST|PUT|DELETE) )+)(?<path>\/|(?:\/(?:[a-z0-9|_-]+|\{[a-z_-]+\}))+)$/;

function methodsIn(lines: string): (readonly [Method, string])[] {
  return lines
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .flatMap((line) => {
      const { methods = '', path = '' } = form.exec(line)?.groups ?? {};
      if (path === '') throw new TypeError(`${JSON.stringify(line)} is no row`);
      return methods
        .trim()
        .split(' ')
        .flatMap((method) => alternatives(path).map((one) => [method as Method, one] as const));
    });
}

function alternatives(path: string): string[] {
  const [bar = ''] = /[a-z0-9_-]+(?:\|[a-z0-9_-]+)+/.exec(path) ?? [];
  return bar === '' ? [path] : bar.split('|').flatMap((word) => alternatives(path.replace(bar, word)));
}
