/** The part of PVE's own path that says in which form the answer is wanted. */

import { BadRequestError } from '../../errors.ts';

/** The forms of an answer that are offered; PVE's other ones are pages for people. */
export type Format = 'json' | 'extjs';

/** The format and what follows it. PVE runs the same methods in every format, so one that is not offered is refused. */
export function readTarget(url: string): { readonly format: Format; readonly target: string } {
  const [, format, target = ''] = /^\/api2\/+([^/?]*)(.*)$/s.exec(url) ?? [];
  if (format === 'json' || format === 'extjs') return { format, target };
  throw new BadRequestError({
    field: 'path',
    problem: 'calls begin with /api2/json/ or /api2/extjs/, spelt like this',
  });
}

/** The format in which to refuse a request, whether or not it can be read. */
export function formatFor(url: string): Format {
  return /^\/api2\/+extjs(?![^/?])/.test(url) ? 'extjs' : 'json';
}
