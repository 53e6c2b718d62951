/** The fields of a form as the dashboards send it. */

import { BadRequestError, type Fault } from '../../errors.ts';
import { mostFaults } from '../reading.ts';

/** The fields by name, each a plain text; a missing body is an empty form. Repeated and nested fields are refused, all at once. */
export function formOf(body: unknown): Readonly<Record<string, string>> {
  if (body === undefined || body === null) return {};
  if (typeof body !== 'object')
    throw new BadRequestError({ field: 'body', problem: 'a form is expected (application/x-www-form-urlencoded)' });
  const fields = Object.entries(body);
  const faults = fields.flatMap(([field, value]): Fault[] => {
    if (field.includes('[')) return [{ field, problem: 'nested fields are not understood' }];
    return typeof value === 'string' ? [] : [{ field, problem: 'it is given more than once' }];
  });
  if (faults.length > 0) throw new BadRequestError(faults.slice(0, mostFaults));
  return Object.fromEntries(fields);
}

/** The field's value; null when it is absent, empty, or the `null` that browsers write for a field that the page does not have. */
export function fieldOf(form: Readonly<Record<string, string>>, name: string): string | null {
  const value = Object.hasOwn(form, name) ? form[name] : undefined;
  return value === undefined || value === '' || value === 'null' ? null : value;
}
