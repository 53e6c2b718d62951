/** Finding users and groups of an LDAP directory by name. Values are sent as values, so none can be a piece of a filter. */

import { AndFilter, EqualityFilter, type Filter, FilterParser, NotFilter, OrFilter } from 'ldapts';
import { UpstreamBrokenError } from '../errors.ts';
import type { BackendData } from './backend.ts';
import { type Entry, groupData, keyOf, nameIn } from './ldap-entries.ts';
import { kindOf, memberAttributes, membersIn } from './ldap-group-kinds.ts';
import { sameName } from './ldap-names.ts';
import type { LdapConnection, Search } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';

/** An entry with the name that it goes by in PVE. */
export interface Named {
  readonly entry: Entry;
  readonly name: string;
}

export type Groups = NonNullable<LdapSettings['groups']>;
type Users = LdapSettings['users'];

/**
 * The user of this name; null when there is none or, if asked for an `active` one, when they may not sign in. Whoever
 * types a name may do so in `anyCase`; else it is written as in the directory, so that one user does not go by two names.
 */
export async function findUser(
  connection: LdapConnection,
  { users }: LdapSettings,
  id: string,
  { active = false, anyCase = false, at = Date.now() } = {},
): Promise<Named | null> {
  if (!isNameable(id)) return null;
  const allowed = active && users.disabled !== null ? [not(users.disabled.replaceAll('{filetime}', fileTime(at)))] : [];
  const filter = all([users.filter, ...allowed, equal(users.name, id)]);
  const entries = await connection.search({ base: users.base, filter, attributes: userAttributes(users.name) });
  return theOne(entries, users.name, id, anyCase);
}

/** The group of this name, or null. */
export async function findGroup(connection: LdapConnection, groups: Groups, id: string): Promise<Named | null> {
  if (!isNameable(id)) return null;
  const filter = all([groups.filter, equal(groups.name, id)]);
  const entries = await connection.search({ base: groups.base, filter, attributes: groupAttributes(groups) });
  return theOne(entries, groups.name, id);
}

/** All groups by name. */
export async function listGroups(
  connection: LdapConnection,
  groups: Groups,
): Promise<ReadonlyMap<string, BackendData>> {
  const entries = byName(await groupEntries(connection, groups), groups.name);
  return new Map([...entries].map(([name, entry]) => [name, dataOfGroup({ entry, name }, groups)]));
}

/** What is told of a group. */
export function dataOfGroup({ entry, name }: Named, { kinds }: Groups): BackendData {
  const kind = kindOf(kinds, entry);
  return groupData(entry, name, membersIn(entry, kind), kind.holds);
}

/** Every entry that is a group. */
export function groupEntries(connection: LdapConnection, groups: Groups): Promise<readonly Entry[]> {
  const { base, filter } = groups;
  return connection.search({ base, filter: all([filter]), attributes: groupAttributes(groups) });
}

/** Every entry that is a user. */
export function userEntries(connection: LdapConnection, { base, filter, name }: Users): Promise<readonly Entry[]> {
  return connection.search({ base, filter: all([filter]), attributes: userAttributes(name) });
}

/** Alternatives in one question at most; servers bound its length. */
const atOnce = 100;

/** The entries that fit any of these besides the filter, each once. */
export async function searchAny(
  connection: LdapConnection,
  { base, filter, attributes }: Omit<Search, 'filter'> & { readonly filter: string },
  matches: readonly Filter[],
): Promise<readonly Entry[]> {
  const found = new Map<string, Entry>();
  for (let at = 0; at < matches.length; at += atOnce) {
    const any = new OrFilter({ filters: matches.slice(at, at + atOnce) });
    for (const entry of await connection.search({ base, filter: all([filter, any]), attributes }))
      found.set(keyOf(entry.dn), entry);
  }
  return [...found.values()];
}

/** What is read of a user. */
export function userAttributes(name: string): readonly string[] {
  return [name, 'cn', 'sn', 'mail', 'memberOf'];
}

/** What is read of a group to know who is in it, and whom it is in. */
export function groupAttributes({ name, kinds }: Groups): readonly string[] {
  return [name, 'objectClass', 'memberOf', ...memberAttributes(kinds).map(({ member }) => member)];
}

/**
 * Of what a server takes for this name, the one that it really is: LDAP overlooks blanks, cases and characters that PVE
 * does not. Two of it, be it in other cases, are an error: whoever signs in could be either.
 */
function theOne(entries: readonly Entry[], attribute: string, id: string, anyCase = false): Named | null {
  const [found, other] = entries.flatMap((entry) => {
    const name = nameIn(entry, attribute);
    return name !== null && sameName(name, id) ? [{ entry, name }] : [];
  });
  if (found !== undefined && other !== undefined) throw ambiguous(id, found.entry, other.entry);
  return found !== undefined && (anyCase || found.name === id) ? found : null;
}

/** Those of the entries that have a name, by it; throws UpstreamBrokenError when two have the same, be it in other cases. */
export function byName(entries: readonly Entry[], attribute: string): ReadonlyMap<string, Entry> {
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
  return new UpstreamBrokenError(
    `Two entries of the directory are named ${name}: ${one.dn} and ${other.dn}. Have "base" or "filter" leave one out.`,
  );
}

/** Whether a name of PVE can be this, and a value of LDAP. */
export function isNameable(id: string): boolean {
  return id !== '' && id.length <= 256 && id.isWellFormed() && id === id.trim() && !/\p{Cc}/u.test(id);
}

/** Fits entries that have this value. */
export function equal(attribute: string, value: string): Filter {
  return new EqualityFilter({ attribute, value });
}

/** A time in milliseconds since 1970 as Active Directory writes it: in steps of 100 ns since 1601. */
function fileTime(at: number): string {
  return String((BigInt(at) + 11_644_473_600_000n) * 10_000n);
}

function not(filter: string): Filter {
  return new NotFilter({ filter: FilterParser.parseString(filter) });
}

/** What fits all of these. */
export function all(filters: readonly (Filter | string)[]): Filter {
  const parsed = filters.map((filter) => (typeof filter === 'string' ? FilterParser.parseString(filter) : filter));
  return new AndFilter({ filters: parsed });
}
