/** Questions about the users and groups of an LDAP directory. Values are sent as values, so none can be a piece of a filter. */

import { AndFilter, EqualityFilter, type Filter, FilterParser, NotFilter, OrFilter } from 'ldapts';
import { UpstreamBrokenError } from '../errors.ts';
import type { BackendData } from './backend.ts';
import { allGroupsOf, type Entry, groupData, listedGroups, nameIn, userData, valuesOf } from './ldap-entries.ts';
import { sameName } from './ldap-names.ts';
import type { LdapConnection } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';

/** An entry with the name that it goes by in PVE. */
export interface Named {
  readonly entry: Entry;
  readonly name: string;
}

type Groups = NonNullable<LdapSettings['groups']>;

/** The user of this name; null when there is none or, if asked for an `active` one, when they may not sign in. */
export async function findUser(
  connection: LdapConnection,
  { users }: LdapSettings,
  id: string,
  { active = false } = {},
): Promise<Named | null> {
  if (!isNameable(id)) return null;
  const allowed = active && users.disabled !== null ? [not(users.disabled)] : [];
  const filter = all([users.filter, ...allowed, equal(users.name, id)]);
  const attributes = userAttributes(users.name);
  return theOne(await connection.search({ base: users.base, filter, attributes }), users.name, id);
}

/** The group of this name, or null. */
export async function findGroup(connection: LdapConnection, groups: Groups, id: string): Promise<Named | null> {
  if (!isNameable(id)) return null;
  const filter = all([groups.filter, equal(groups.name, id)]);
  const attributes = groupAttributes(groups);
  return theOne(await connection.search({ base: groups.base, filter, attributes }), groups.name, id);
}

/** The groups that a user is in, those within others included as far as they count. */
export async function groupsOfUser(
  connection: LdapConnection,
  { groups }: LdapSettings,
  { entry }: Named,
): Promise<readonly Entry[]> {
  if (groups === null) return [];
  return allGroupsOf(entry, groups.nested, async (members) => {
    const matches =
      groups.membership === 'member'
        ? members.map(({ dn }) => equal(groups.member, dn))
        : members.flatMap((member) => valuesOf(member, 'memberOf').map((dn) => equal(groups.nameOfEntry, dn)));
    if (matches.length === 0) return [];
    const filter = all([groups.filter, new OrFilter({ filters: matches })]);
    return connection.search({ base: groups.base, filter, attributes: [groups.name, 'memberOf'] });
  });
}

/** All users by name, each with the same data as when asked for alone. */
export async function listUsers(
  connection: LdapConnection,
  settings: LdapSettings,
): Promise<ReadonlyMap<string, BackendData>> {
  const { users, groups } = settings;
  const { base, name } = users;
  const entries = await connection.search({ base, filter: all([users.filter]), attributes: userAttributes(name) });
  const listed = groups === null ? [] : await groupEntries(connection, groups);
  const groupsOf = groups === null ? () => [] : listedGroups(listed, groups);
  const data = new Map<string, BackendData>();
  for (const [id, entry] of byName(entries, name))
    data.set(id, userData(entry, id, await allGroupsOf(entry, groups?.nested ?? 0, groupsOf)));
  return data;
}

/** All groups by name. */
export async function listGroups(
  connection: LdapConnection,
  groups: Groups,
): Promise<ReadonlyMap<string, BackendData>> {
  const entries = byName(await groupEntries(connection, groups), groups.name);
  return new Map([...entries].map(([id, entry]) => [id, groupData(entry, id, groups.member)]));
}

function groupEntries(connection: LdapConnection, groups: Groups): Promise<readonly Entry[]> {
  const { base, filter } = groups;
  return connection.search({ base, filter: all([filter]), attributes: groupAttributes(groups) });
}

function userAttributes(name: string): readonly string[] {
  return [name, 'cn', 'sn', 'mail', 'memberOf'];
}

function groupAttributes({ name, member }: Groups): readonly string[] {
  return [name, member, 'memberOf'];
}

/** Of what a server takes for this name, the one that it really is: LDAP overlooks blanks and characters that PVE does not. */
function theOne(entries: readonly Entry[], attribute: string, id: string): Named | null {
  const [found, other] = entries.flatMap((entry) => {
    const name = nameIn(entry, attribute);
    return name !== null && sameName(name, id) ? [{ entry, name }] : [];
  });
  if (found !== undefined && other !== undefined) throw ambiguous(id, found.entry, other.entry);
  return found ?? null;
}

function byName(entries: readonly Entry[], attribute: string): ReadonlyMap<string, Entry> {
  const named = new Map<string, Entry>();
  const seen = new Map<string, Entry>();
  for (const entry of entries) {
    const name = nameIn(entry, attribute);
    if (name === null || !isNameable(name)) continue;
    const before = seen.get(name.toLowerCase());
    if (before !== undefined) throw ambiguous(name, before, entry);
    seen.set(name.toLowerCase(), entry);
    named.set(name, entry);
  }
  return named;
}

function ambiguous(name: string, one: Entry, other: Entry): UpstreamBrokenError {
  return new UpstreamBrokenError(`Two entries of the directory are named ${name}: ${one.dn} and ${other.dn}`);
}

/** Whether a name of PVE can be this, and a value of LDAP. */
export function isNameable(id: string): boolean {
  return id !== '' && id.length <= 256 && id.isWellFormed() && id === id.trim() && !/\p{Cc}/u.test(id);
}

function equal(attribute: string, value: string): Filter {
  return new EqualityFilter({ attribute, value });
}

function not(filter: string): Filter {
  return new NotFilter({ filter: FilterParser.parseString(filter) });
}

function all(filters: readonly (Filter | string)[]): Filter {
  const parsed = filters.map((filter) => (typeof filter === 'string' ? FilterParser.parseString(filter) : filter));
  return new AndFilter({ filters: parsed });
}
