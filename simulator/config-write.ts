/** Configuration writes as VMs and containers take them alike: what is set, deleted and taken back. */

import { checkedFormats } from './formats.ts';
import type { Guest, PendingValue } from './model.ts';
import { splitList } from './named-formats.ts';
import { familyOf, type OptionTable, optionOf } from './options.ts';
import { PropertyError, parseProperties } from './property-string.ts';
import { PveError, parameterError } from './pve-error.ts';

/** One configuration write, verified: keys to set in PVE's canonical text, keys to take away, keys to take back. */
export interface ConfigWrite {
  readonly set: ReadonlyMap<string, string>;
  readonly delete: readonly string[];
  readonly revert: readonly string[];
  /** Deleted drives are freed, not kept as unused. */
  readonly force: boolean;
}

/** A refusal that comes after so many keys have been written. */
export interface PartialFault {
  readonly keys: number;
  readonly status: number;
  readonly reason: string;
}

/** The options among the parameters, as text; one that is not of its format is a 400. */
export function givenOptions(table: OptionTable, param: Readonly<Record<string, unknown>>): Map<string, string> {
  const given = Object.entries(param).filter(
    ([key, value]) => value !== undefined && optionOf(table, key) !== undefined,
  );
  for (const [key, value] of given) assertFormat(key, String(value));
  return new Map(given.map(([key, value]) => [key, String(value)]));
}

function assertFormat(key: string, value: string): void {
  const format = checkedFormats[key] ?? checkedFormats[`${familyOf(key)}[n]`];
  if (format === undefined || key === 'numa') return;
  try {
    parseProperties(format, value);
  } catch (error) {
    if (error instanceof PropertyError) throw parameterError({ [key]: error.message });
    throw error;
  }
}

/** Keys to delete or revert: known ones, none of which is set or taken back in the same call. */
export function withdrawnKeys(
  table: OptionTable,
  set: ReadonlyMap<string, string>,
  param: Readonly<Record<string, unknown>>,
): Pick<ConfigWrite, 'delete' | 'revert'> {
  const revert = splitList(String(param.revert ?? ''));
  const remove = splitList(String(param.delete ?? '')).map((key) => (key === 'cdrom' ? 'ide2' : key));
  for (const [name, keys] of [['revert', revert] as const, ['delete', remove] as const]) {
    for (const key of keys) {
      if (optionOf(table, key) === undefined) throw parameterError({ [name]: `unknown option '${key}'` });
      if (set.has(key))
        throw parameterError({ [name]: `you can't use '-${key}' and '-${name} ${key}' at the same time` });
    }
  }
  const both = remove.find((key) => revert.includes(key));
  if (both !== undefined) {
    throw parameterError({ revert: `you can't use '-delete ${both}' and '-revert ${both}' at the same time` });
  }
  return { delete: remove, revert };
}

/** How pending changes take effect on a guest of one kind. */
export interface Effects {
  /** Whether this one does now. */
  takes(guest: Guest, key: string, next: PendingValue): boolean;
  apply(guest: Guest, key: string, next: PendingValue): void;
  save(guest: Guest): void;
}

/** Lets pending changes take effect, deletions first; what cannot stays pending and is named in a 400. */
export function applyPending(guest: Guest, { takes, apply, save }: Effects): void {
  const errors: Record<string, string> = {};
  const changes = [...guest.pending].sort(
    ([, a], [, b]) => Number(a.value !== undefined) - Number(b.value !== undefined),
  );
  for (const [key, next] of changes) {
    if (!takes(guest, key, next)) continue;
    try {
      apply(guest, key, next);
      guest.pending.delete(key);
    } catch (error) {
      if (!(error instanceof PveError)) throw error;
      errors[key] = `unable to apply pending change ${key} : ${error.message}`;
    }
  }
  save(guest);
  if (Object.keys(errors).length > 0) throw parameterError(errors);
}
