/** Which users and groups of an LDAP directory are in which groups, from both sides. */

import type { Filter } from 'ldapts';
import type { BackendData } from './backend.ts';
import { type Entry, keyOf, userData, valuesOf } from './ldap-entries.ts';
import { kindOf, memberAttributes, membersIn } from './ldap-group-kinds.ts';
import {
  byName,
  equal,
  type Groups,
  groupAttributes,
  groupEntries,
  type Named,
  searchAny,
  userAttributes,
  userEntries,
} from './ldap-reading.ts';
import type { LdapConnection } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';

/** Who can be in a group: a user by both names, a group by that of its entry alone. */
interface Member {
  readonly entry: Entry;
  readonly name: string | null;
}

/** The groups that these are in, directly. */
type GroupsOf = (members: readonly Member[]) => readonly Entry[] | Promise<readonly Entry[]>;

/** The groups that a user is in, those within others included as far as they count. */
export async function groupsOfUser(
  connection: LdapConnection,
  { groups }: LdapSettings,
  user: Named,
): Promise<readonly Entry[]> {
  return groups === null ? [] : allGroupsOf(user, groups, (members) => askedGroups(connection, groups, members));
}

/** All users by name, each with the same data as when asked for alone. */
export async function listUsers(
  connection: LdapConnection,
  { users, groups }: LdapSettings,
): Promise<ReadonlyMap<string, BackendData>> {
  const named = byName(await userEntries(connection, users), users.name);
  const groupsOf = groups === null ? async () => [] : groupsAmong(await groupEntries(connection, groups), groups);
  const data = new Map<string, BackendData>();
  for (const [name, entry] of named) data.set(name, userData(entry, name, await groupsOf({ entry, name })));
  return data;
}

/** Tells the groups of a user as `groupsOfUser` does, when these are all groups. */
export function groupsAmong(listed: readonly Entry[], groups: Groups): (user: Named) => Promise<readonly Entry[]> {
  const kinded = listed.map((group) => ({ group, kind: kindOf(groups.kinds, group) }));
  const byEntry = new Map(kinded.flatMap(({ group, kind }) => (kind.holds === 'dn' ? [[keyOf(group.dn), group]] : [])));
  const byMember = { dn: new Map<string, Entry[]>(), name: new Map<string, Entry[]>() };
  for (const { group, kind } of kinded) {
    const known = byMember[kind.holds];
    for (const member of membersIn(group, kind)) {
      const key = kind.holds === 'dn' ? keyOf(member) : member;
      const others = known.get(key);
      if (others === undefined) known.set(key, [group]);
      else others.push(group);
    }
  }
  const heldByDn = ({ entry }: Member) =>
    groups.membership === 'member'
      ? (byMember.dn.get(keyOf(entry.dn)) ?? [])
      : valuesOf(entry, 'memberOf').flatMap((dn) => byEntry.get(keyOf(dn)) ?? []);
  const heldByName = ({ name }: Member) => (name === null ? [] : (byMember.name.get(name) ?? []));
  return (user) =>
    allGroupsOf(user, groups, (members) => members.flatMap((member) => [...heldByDn(member), ...heldByName(member)]));
}

/** The names of the users who are in a group, as `groupsOfUser` would tell of each of them. */
export async function usersInGroup(
  connection: LdapConnection,
  { users, groups }: { readonly users: LdapSettings['users']; readonly groups: Groups },
  group: Entry,
): Promise<readonly string[]> {
  const kind = kindOf(groups.kinds, group);
  const attributes = userAttributes(users.name);
  if (kind.holds === 'name') {
    const names = new Set(membersIn(group, kind));
    const matches = [...names].map((name) => equal(users.name, name));
    const found = await searchAny(connection, { ...users, attributes }, matches);
    return [...byName(found, users.name).keys()].filter((name) => names.has(name));
  }
  const within = await groupsWithin(connection, groups, group);
  const found = await searchAny(connection, { ...users, attributes }, membersOf(within, groups));
  return [...byName(found, users.name).keys()];
}

/** A group with those within it, as far as they count; groups that go by the names of users are in none. */
async function groupsWithin(connection: LdapConnection, groups: Groups, group: Entry): Promise<readonly Entry[]> {
  const found = new Map([[keyOf(group.dn), group]]);
  let latest: readonly Entry[] = [group];
  for (let level = 0; level < groups.nested && latest.length > 0; level += 1) {
    const search = { ...groups, attributes: groupAttributes(groups) };
    const inner = await searchAny(connection, search, membersOf(latest, groups));
    latest = inner.filter((one) => !found.has(keyOf(one.dn)) && kindOf(groups.kinds, one).holds === 'dn');
    for (const one of latest) found.set(keyOf(one.dn), one);
  }
  return [...found.values()];
}

/** What fits whoever is in one of these groups by the name of their entry. */
function membersOf(within: readonly Entry[], { kinds, membership, nameOfEntry }: Groups): readonly Filter[] {
  if (membership === 'memberOf') return within.map(({ dn }) => equal('memberOf', dn));
  return within.flatMap((group) => membersIn(group, kindOf(kinds, group)).map((dn) => equal(nameOfEntry, dn)));
}

/** All groups of a user, by `nested` levels of groups within groups at most, in the order of their names. */
async function allGroupsOf(user: Named, { kinds, nested }: Groups, groupsOf: GroupsOf): Promise<readonly Entry[]> {
  const found = new Map<string, Entry>();
  let latest: readonly Member[] = [user];
  for (let level = 0; level <= nested && latest.length > 0; level += 1) {
    const groups = new Map((await groupsOf(latest)).map((group) => [keyOf(group.dn), group]));
    latest = [...groups].flatMap(([key, entry]) =>
      found.has(key) || kindOf(kinds, entry).holds === 'name' ? [] : [{ entry, name: null }],
    );
    for (const [key, group] of groups) found.set(key, group);
  }
  return [...found].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, group]) => group);
}

/** The groups that these are in directly. A group of two kinds may be found by either, and goes by its first alone. */
async function askedGroups(
  connection: LdapConnection,
  groups: Groups,
  members: readonly Member[],
): Promise<readonly Entry[]> {
  const { kinds, membership, nameOfEntry } = groups;
  const found: Entry[] = [];
  const search = { ...groups, attributes: [groups.name, 'objectClass', 'memberOf'] };
  const ask = async (matches: readonly Filter[], goesBy: (entry: Entry) => boolean): Promise<void> => {
    const entries = await searchAny(connection, search, matches);
    found.push(...entries.filter(goesBy));
  };
  if (membership === 'memberOf') {
    const dns = members.flatMap(({ entry }) => valuesOf(entry, 'memberOf'));
    await ask(
      dns.map((dn) => equal(nameOfEntry, dn)),
      (entry) => kindOf(kinds, entry).holds === 'dn',
    );
  }
  for (const { member, holds } of memberAttributes(kinds)) {
    if (holds === 'dn' && membership === 'memberOf') continue;
    const names = members.flatMap(({ entry, name }) => (holds === 'dn' ? entry.dn : (name ?? [])));
    await ask(
      names.map((name) => equal(member, name)),
      (entry) => kindOf(kinds, entry).member === member,
    );
  }
  return found;
}
