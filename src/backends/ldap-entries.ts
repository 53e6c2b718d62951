/** Entries of an LDAP directory, read into what a backend says of users and groups. */

import type { Entry as RawEntry } from 'ldapts';
import type { BackendData } from './backend.ts';
import { dnKey, escapeDnValue, parseDn } from './ldap-names.ts';

/** An entry with its attributes by their names in lower case; values that are no text are left out. */
export interface Entry {
  readonly dn: string;
  readonly values: ReadonlyMap<string, readonly string[]>;
  /** Attributes of which the server has sent the first values only: from which one on they must be asked for. */
  readonly more: ReadonlyMap<string, number>;
}

/** What ldapts makes of an entry, with the ranges that Active Directory cuts long lists of values into. */
export function entryOf({ dn, ...attributes }: RawEntry): Entry {
  const values = new Map<string, readonly string[]>();
  const more = new Map<string, number>();
  for (const [type, value] of Object.entries(attributes)) {
    const { name = type, last = '*' } = ranged.exec(type)?.groups ?? {};
    const key = name.toLowerCase();
    const texts = [value].flat().filter((item) => typeof item === 'string');
    values.set(key, [...(values.get(key) ?? []), ...texts]);
    if (last !== '*') more.set(key, Number(last) + 1);
  }
  return { dn, values, more };
}

const ranged = /^(?<name>[^;]+);range=\d+-(?<last>\d+|\*)$/i;

/** An entry with these values after those that it has. */
export function withMore(entry: Entry, attribute: string, { values, more }: Entry): Entry {
  const key = attribute.toLowerCase();
  const all = [...valuesOf(entry, key), ...(values.get(key) ?? [])];
  return { ...entry, values: new Map(entry.values).set(key, all), more };
}

export function valuesOf({ values }: Entry, attribute: string): readonly string[] {
  return values.get(attribute.toLowerCase()) ?? [];
}

/**
 * The one name of an entry by this attribute: that in its own distinguished name, else its only value. An entry that
 * goes by several has none, since whoever may add a value would take somebody else's name.
 */
export function nameIn(entry: Entry, attribute: string): string | null {
  const named = parseDn(entry.dn)?.[0]?.find(({ type }) => type === attribute.toLowerCase());
  const [only = null, ...others] = valuesOf(entry, attribute);
  return named?.value ?? (others.length === 0 ? only : null);
}

/** A user as backends tell of one, with the names of the entries of all groups that count. */
export function userData(entry: Entry, name: string, groups: readonly Entry[]): BackendData {
  return {
    dn: entry.dn,
    attributes: { ...firstOf(entry, ['cn', 'sn', 'mail']), uid: name, memberOf: groups.map(({ dn }) => dn) },
  };
}

/** A group as backends tell of one; `members` are distinguished names, or names of users. */
export function groupData(
  { dn }: Entry,
  name: string,
  members: readonly string[],
  holds: 'dn' | 'name' = 'dn',
): BackendData {
  const member = holds === 'dn' ? members : members.map((user) => `uid=${escapeDnValue(user)}`);
  return { dn, attributes: { cn: name, member } };
}

function firstOf(entry: Entry, attributes: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    attributes.flatMap((attribute) => {
      const [first] = valuesOf(entry, attribute);
      return first === undefined ? [] : [[attribute, first]];
    }),
  );
}

/** What is no name is like itself alone. */
export function keyOf(dn: string): string {
  return dnKey(dn) ?? dn;
}
