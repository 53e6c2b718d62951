/** Entries of an LDAP directory, read into what a backend says of users and groups. */

import type { Entry as RawEntry } from 'ldapts';
import type { BackendData } from './backend.ts';
import { dnKey, parseDn } from './ldap-names.ts';

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

/** A group as backends tell of one; a member without a name is nobody. */
export function groupData(entry: Entry, name: string, member: string): BackendData {
  return { dn: entry.dn, attributes: { cn: name, member: valuesOf(entry, member).filter((dn) => dn !== '') } };
}

function firstOf(entry: Entry, attributes: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    attributes.flatMap((attribute) => {
      const [first] = valuesOf(entry, attribute);
      return first === undefined ? [] : [[attribute, first]];
    }),
  );
}

/** The groups of these entries, directly. */
type GroupsOf = (members: readonly Entry[]) => readonly Entry[] | Promise<readonly Entry[]>;

/** All groups of an entry, by `levels` of groups within groups at most, in the order of their names. */
export async function allGroupsOf(entry: Entry, levels: number, groupsOf: GroupsOf): Promise<readonly Entry[]> {
  const found = new Map<string, Entry>();
  let latest: readonly Entry[] = [entry];
  for (let level = 0; level <= levels && latest.length > 0; level += 1) {
    const groups = new Map((await groupsOf(latest)).map((group) => [keyOf(group.dn), group]));
    latest = [...groups].flatMap(([key, group]) => (found.has(key) ? [] : [group]));
    for (const [key, group] of groups) found.set(key, group);
  }
  return [...found].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, group]) => group);
}

/** Finds groups among those in a list, by their members or by what their members say. */
export function listedGroups(
  groups: readonly Entry[],
  { member, membership }: { readonly member: string; readonly membership: 'member' | 'memberOf' },
): GroupsOf {
  const [byName, byMember] = [new Map<string, Entry>(), new Map<string, Entry[]>()];
  for (const group of groups) {
    byName.set(keyOf(group.dn), group);
    for (const dn of membership === 'member' ? valuesOf(group, member) : []) {
      const key = keyOf(dn);
      const known = byMember.get(key);
      if (known === undefined) byMember.set(key, [group]);
      else known.push(group);
    }
  }
  return (members) =>
    members.flatMap((entry) =>
      membership === 'member'
        ? (byMember.get(keyOf(entry.dn)) ?? [])
        : valuesOf(entry, 'memberOf').flatMap((dn) => byName.get(keyOf(dn)) ?? []),
    );
}

/** What is no name is like itself alone. */
export function keyOf(dn: string): string {
  return dnKey(dn) ?? dn;
}
