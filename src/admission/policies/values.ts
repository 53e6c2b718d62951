/** Checks of single parameter values: what is wrong with a text, or null. */

import { entryFor, isAllowed } from '../../pve/beyond.ts';
import { type GuestType, parseDrive, propertiesOf } from '../../pve/instance.ts';
import { parseList } from '../../pve/projections.ts';
import { networkRate } from '../../quota/usage.ts';
import type { ParameterTable, ValueCheck } from '../policy.ts';

const shown = (value: string): string => JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value);

/** A whole number in digits, from `min` to `max`. */
export function wholeNumber(min: number, max: number): ValueCheck {
  return (value) =>
    /^(?:0|[1-9]\d{0,14})$/.test(value) && Number(value) >= min && Number(value) <= max
      ? null
      : `must be a whole number from ${min} to ${max}, not ${shown(value)}`;
}

/** A number in digits, with or without a fraction. */
export function decimalNumber(min: number, max: number): ValueCheck {
  return (value) =>
    /^(?:0|[1-9]\d{0,14})(?:\.\d{1,6})?$/.test(value) && Number(value) >= min && Number(value) <= max
      ? null
      : `must be a number from ${min} to ${max}, not ${shown(value)}`;
}

/** 0 or 1. */
export const flag: ValueCheck = (value) =>
  value === '0' || value === '1' ? null : `must be 0 or 1, not ${shown(value)}`;

/** One of these words. */
export function oneOf(...words: readonly string[]): ValueCheck {
  return (value) => (words.includes(value) ? null : `must be ${words.join(' or ')}, not ${shown(value)}`);
}

/** Text on one line, of at most `length` characters; PVE checks the rest. */
export function line(length = 1024): ValueCheck {
  return (value) =>
    value.length <= length && !/\p{Cc}/u.test(value) ? null : `must be one line of at most ${length} characters`;
}

/** Text on any number of lines. */
export const lines: ValueCheck = (value) =>
  value.length <= 8192 && !value.includes('\0') ? null : 'must be text of at most 8192 characters';

/** Text of this form. */
export function matching(form: RegExp, description: string): ValueCheck {
  return (value) => (form.test(value) && !/\p{Cc}/u.test(value) ? null : `must be ${description}, not ${shown(value)}`);
}

export const vmid = matching(/^[1-9][0-9]{2,8}$/, 'a vmid from 100 to 999999999');
export const vmids = matching(
  /^[1-9][0-9]{2,8}(?:[,; ]+[1-9][0-9]{2,8})*$/,
  'vmids from 100 to 999999999, separated by commas',
);
export const nodeName = matching(/^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/, 'the name of a node');
export const snapshotName = matching(/^[A-Za-z][A-Za-z0-9_-]{1,39}$/, 'a name of 2 to 40 letters, digits, - and _');
export const storageId = matching(/^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$/, 'the name of a storage');
export const poolId = matching(/^[A-Za-z0-9._/-]+$/, 'the name of a pool');
export const digest = matching(/^[0-9a-f]{1,64}$/, 'a digest');
export const volumeId = matching(/^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:[^\s,]+$/, 'a volume id');
/** Storages in PVE's mapping: `from:to` pairs, one for all, or `1` for the same names. */
export const storagePairs = matching(
  /^(?:1|[A-Za-z][\w.-]*(?::[A-Za-z][\w.-]*)?)(?:[,; ]+(?:1|[A-Za-z][\w.-]*(?::[A-Za-z][\w.-]*)?))*$/,
  'a storage, 1, or pairs such as local:ceph',
);
export const sizeText = matching(/^\+?\d+(?:\.\d+)?[KMGT]?$/, 'a size such as +8G or 40G');

/** Snippets for cloud-init, by what each replaces. */
export const snippets = matching(
  /^(?:user|network|meta|vendor)=[A-Za-z][\w.-]*:[^\s,]+(?:,(?:user|network|meta|vendor)=[A-Za-z][\w.-]*:[^\s,]+)*$/,
  'snippets such as user=nfs:snippets/user.yaml',
);

/** The text of a disk slot, in a form whose use can be told. */
export function drive(type: GuestType, slot: string): ValueCheck {
  return (value) => (parseDrive(type, slot, value) === null ? `is not understood: ${shown(value)}` : null);
}

/** The text of a network card; a rate below zero would lower a sum. */
export const networkCard: ValueCheck = (value) => {
  const card = propertiesOf(value, { defaultKey: 'model' });
  if (card === null || networkRate(value) === null) return `is not understood: ${shown(value)}`;
  const rate = card.get('rate');
  return rate === undefined || Number(rate) >= 0 ? null : `rate must not be negative, not ${rate}`;
};

/** A property string, whatever its keys. */
export const propertyString: ValueCheck = (value) =>
  propertiesOf(value, { defaultKey: 'value' }) === null ? `is not understood: ${shown(value)}` : null;

/** A list of configuration keys, each of which the table, or the configuration by name, lets a caller write. */
export function keys(table: ParameterTable): ValueCheck {
  return (value, allowed = []) => {
    const wrong = parseList(value).find((key) => entryFor(table, key) === undefined && !isAllowed(allowed, key));
    return wrong === undefined ? null : `${shown(wrong)} is not a key that may be changed here`;
  };
}
