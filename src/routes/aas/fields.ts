/** The fields of a form: each is checked, and all faults are told at once with the value given, the unit and the range. */

import { BadRequestError, type Fault } from '../../errors.ts';
import { mostFaults } from '../reading.ts';

/** One field of a form. */
export interface Field<T> {
  /** What it must hold, with unit and range; completes "expected ...". */
  readonly expected: string;
  /** What a text means; undefined when it is not what is expected. */
  readonly read: (text: string) => T | undefined;
  /** What it means that the field says nothing; a field without this is required. */
  readonly absent?: { readonly value: T };
  /** Its value is never repeated in a message. */
  readonly secret?: true;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** The values of a form with these fields. */
export type Values<F extends Fields> = { readonly [Name in keyof F]: F[Name] extends Field<infer T> ? T : never };

/**
 * The values of a form, or a BadRequestError with every fault. A field that is empty or holds the `null` that browsers
 * write for what a page does not have says nothing; any other field must be known or among the ignored ones.
 */
export function readForm<F extends Fields>(body: unknown, fields: F, ignored: readonly string[] = []): Values<F> {
  const form = new Map<string, unknown>(Object.entries(Object(body ?? {})));
  const faults: Fault[] = [];
  for (const [field, given] of form) {
    if (Object.hasOwn(fields, field) || ignored.includes(field) || saysNothing(given)) continue;
    faults.push({ field, problem: `unknown here; the fields are ${Object.keys(fields).join(', ') || 'none'}` });
  }
  const values = Object.entries(fields).map(([name, field]) => {
    const given = form.get(name);
    const value = typeof given === 'string' && given !== 'null' ? field.read(given) : undefined;
    if (value !== undefined) return [name, value];
    if (field.absent !== undefined && saysNothing(given)) return [name, field.absent.value];
    faults.push({ field: name, problem: `expected ${field.expected}, got ${shown(given, field.secret)}` });
    return [name, undefined];
  });
  if (faults.length > 0) throw new BadRequestError(faults.slice(0, mostFaults));
  return Object.fromEntries(values) as Values<F>;
}

function saysNothing(given: unknown): boolean {
  return given === undefined || given === '' || given === 'null';
}

function shown(given: unknown, secret = false): string {
  if (given === undefined) return 'nothing';
  if (secret) return 'something else';
  const text = JSON.stringify(given);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The field may say nothing: null. */
export function optional<T>(field: Field<T>): Field<T | null> {
  return { ...field, absent: { value: null } };
}

/** A whole number in plain decimal digits, of a unit such as `MiB`. */
export function wholeNumber(unit: string, min: number, max: number): Field<number> {
  return {
    expected: `a whole number of ${unit} from ${min} to ${max}`,
    read: (text) => {
      const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      return number >= min && number <= max ? number : undefined;
    },
  };
}

/** A text of exactly this form. */
export function matching(form: RegExp, expected: string): Field<string> {
  return { expected, read: (text) => (form.test(text) && !/\p{Cc}/u.test(text) ? text : undefined) };
}

export const storageId = matching(/^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$/, 'the name of a storage');
export const poolId = matching(/^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+){0,2}$/, 'the name of a pool');
export const guestName = matching(
  /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/,
  'a name of letters, digits, hyphens and dots',
);
export const isoImage = matching(
  /^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:iso\/[^\s,;=/]+$/,
  'an ISO image such as shared:iso/debian.iso',
);
export const containerTemplate = matching(
  /^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:vztmpl\/[^\s,;=/]+$/,
  'a container template such as shared:vztmpl/debian.tar.zst',
);
export const flag = matching(/^[01]$/, '1 or 0');

/** The name of a network card inside a container; Linux takes at most 15 characters. */
export const interfaceName = matching(/^[A-Za-z0-9_][\w.-]{0,14}$/, 'the name of a network interface such as eth0');

/** The rate of a network card as PVE writes it; PVE takes 0 for "no limit", and rounds what is smaller than this to 0. */
export const networkRate: Field<string> = {
  expected: 'a number of MB/s from 0.001 to 1000000, or 0 for no limit',
  read: (text) => {
    const number = /^\d{1,7}(?:\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
    return number >= 0 && number <= 1_000_000 ? String(number) : undefined;
  },
};

/** A backup by its volume id. */
export const backupVolume = matching(
  /^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:backup\/(?!.*\.\.)[A-Za-z0-9._:+/-]{1,255}$/,
  'a backup such as shared:backup/vzdump-qemu-100-2025_01_31-12_00_00.vma.zst',
);

/** What is written on a backup, nothing included; PVE keeps 1024 characters, in which a line break counts twice. */
export const note: Field<string> = {
  expected: 'a note of at most 500 characters',
  read: (text) => (text.length <= 500 && !text.includes('\0') ? text : undefined),
  absent: { value: '' },
};

/** The path at which a container mounts a volume: absolute, without detours. */
export const mountPath: Field<string> = {
  expected: 'an absolute path such as /srv/data, without commas and ".."',
  read: (text) =>
    /^\/[^,\p{Cc}]{0,254}$/u.test(text) && !text.split('/').some((part) => part === '.' || part === '..')
      ? text
      : undefined,
};

/** The password of a new guest's root user; never repeated. */
export const newPassword: Field<string> = {
  ...matching(/^.{5,255}$/u, 'a password of 5 to 255 characters on one line'),
  secret: true,
};

/** A password that a user has or wants; where it is stored says what it must be like. Never repeated. */
export const password: Field<string> = { expected: 'a password', read: (text) => text || undefined, secret: true };

export const cores = wholeNumber('cores', 1, 8192);
export const memory = wholeNumber('MiB', 16, 16_777_216);
export const swap = wholeNumber('MiB', 0, 16_777_216);
export const gibibytes = wholeNumber('GiB', 1, 1_048_576);
