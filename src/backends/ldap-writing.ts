/** Changes of users, groups and passwords in an LDAP directory; each throws ResultCodeError when the server refuses it. */

import { Attribute, BerWriter, Change, type Client, EqualityFilter, ResultCodeError } from 'ldapts';
import type { UserTexts } from './ldap-answers.ts';
import { type Entry, keyOf, valuesOf } from './ldap-entries.ts';
import { type GroupKind, kindOf } from './ldap-group-kinds.ts';
import { escapeDnValue } from './ldap-names.ts';
import type { Groups, Named } from './ldap-reading.ts';
import type { LdapConnection } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';

/** Adds a user who has a password: either with it or not at all. */
export async function addEntryOfUser(
  connection: LdapConnection,
  settings: LdapSettings,
  id: string,
  texts: UserTexts,
  password: string,
): Promise<void> {
  const { type, users, passwords } = settings;
  const step = type === 'ad' ? `cn=${escapeDnValue(texts.cn ?? id)}` : `${users.name}=${escapeDnValue(id)}`;
  const dn = `${step},${users.base}`;
  const encoded = passwords === 'unicodePwd';
  const attributes = attributesOf({
    objectClass: users.classes,
    ...texts,
    [users.name]: id,
    ...(type === 'ad' ? { userAccountControl: normalAccount } : {}),
    ...(encoded ? { unicodePwd: quoted(password) } : {}),
  });
  await leaveGroups(connection, settings, { entry: { dn, values: new Map(), more: new Map() }, name: id });
  await connection.ask('a new user', (client) => client.add(dn, attributes));
  if (encoded) return;
  try {
    await setPassword(connection, passwords, dn, password);
  } catch (error) {
    if (error instanceof ResultCodeError) await connection.ask('to undo it', (client) => client.del(dn));
    throw error;
  }
}

/** In Active Directory: a user like any other, who may sign in. */
const normalAccount = '512';

/** Replaces those of these that are given. */
export async function setEntryOfUser(connection: LdapConnection, { dn }: Entry, texts: UserTexts): Promise<void> {
  const changes = attributesOf({ ...texts }).map((modification) => new Change({ operation: 'replace', modification }));
  if (changes.length > 0) await connection.ask('a change', (client) => client.modify(dn, changes));
}

/** Stores a password: as the user who shows the `old` one, or in the right of the account that the connection is bound as. */
export async function setPassword(
  connection: LdapConnection,
  how: LdapSettings['passwords'],
  dn: string,
  password: string,
  old?: string,
): Promise<void> {
  const change = how === 'unicodePwd' ? activeDirectoryPassword : extendedPassword;
  await connection.ask('a new password', (client) => change(client, dn, password, old));
}

/** The operation of RFC 3062, with which the server stores it as it stores passwords. */
async function extendedPassword(client: Client, dn: string, password: string, old: string | undefined): Promise<void> {
  const writer = new BerWriter();
  writer.startSequence();
  writer.writeString(dn, 0x80);
  if (old !== undefined) writer.writeString(old, 0x81);
  writer.writeString(password, 0x82);
  writer.endSequence();
  await client.exop('1.3.6.1.4.1.4203.1.11.1', writer.buffer);
}

/** Active Directory takes a removal with an addition for a change by the user, and a replacement for one by an administrator. */
async function activeDirectoryPassword(
  client: Client,
  dn: string,
  password: string,
  old: string | undefined,
): Promise<void> {
  const part = (operation: 'add' | 'delete' | 'replace', value: string) =>
    new Change({ operation, modification: new Attribute({ type: 'unicodePwd', values: [quoted(value)] }) });
  await client.modify(
    dn,
    old === undefined ? [part('replace', password)] : [part('delete', old), part('add', password)],
  );
}

function quoted(password: string): Buffer {
  return Buffer.from(`"${password}"`, 'utf16le');
}

/** Removes a user, and then from their groups. */
export async function removeEntryOfUser(
  connection: LdapConnection,
  settings: LdapSettings,
  user: Named,
): Promise<void> {
  await connection.ask('a removal', (client) => client.del(user.entry.dn));
  await leaveGroups(connection, settings, user);
}

/** Takes a user who is not there out of all groups, so that somebody of the same name who comes later is not in them. */
async function leaveGroups(connection: LdapConnection, { groups }: LdapSettings, user: Named): Promise<void> {
  if (groups === null) return;
  for (const kind of groups.kinds) {
    const filter = new EqualityFilter({ attribute: kind.member, value: memberName(user, kind) });
    const search = { base: groups.base, filter, attributes: ['objectClass', kind.member] };
    const found = (await connection.search(search)).filter((group) => kindOf(groups.kinds, group) === kind);
    for (const group of found) await removeMember(connection, groups, group, user);
  }
}

/** Adds a group without members. */
export async function addEntryOfGroup(
  connection: LdapConnection,
  { type }: LdapSettings,
  { base, name, classes, kinds }: Groups,
  id: string,
): Promise<void> {
  const { member, nobody } = kindOf(kinds, classes);
  const attributes = attributesOf({
    objectClass: classes,
    cn: id,
    [name]: id,
    ...(nobody === null ? {} : { [member]: nobody }),
  });
  const dn = `${type === 'ad' ? 'cn' : name}=${escapeDnValue(id)},${base}`;
  await connection.ask('a new group', (client) => client.add(dn, attributes));
}

export async function removeEntry(connection: LdapConnection, { dn }: Entry): Promise<void> {
  await connection.ask('a removal', (client) => client.del(dn));
}

export async function addMember(
  connection: LdapConnection,
  { kinds }: Groups,
  group: Entry,
  added: Named,
): Promise<void> {
  const kind = kindOf(kinds, group);
  const change = changeOf('add', kind.member, memberName(added, kind));
  await connection.ask('a new member', (client) => client.modify(group.dn, change));
}

/** Takes a member out of a group; a group that must have members keeps one who is nobody. */
export async function removeMember(
  connection: LdapConnection,
  { kinds }: Groups,
  group: Entry,
  removed: Named,
): Promise<void> {
  const kind = kindOf(kinds, group);
  const { member, nobody } = kind;
  const others = valuesOf(group, member).filter((name) => keyOf(name) !== keyOf(removed.entry.dn));
  const filling = others.length === 0 && nobody !== null ? [changeOf('add', member, nobody)] : [];
  const changes = [...filling, changeOf('delete', member, memberName(removed, kind))];
  await connection.ask('the removal of a member', (client) => client.modify(group.dn, changes));
}

/** What a user is called in the members of a group of this kind. */
function memberName({ entry, name }: Named, { holds }: GroupKind): string {
  return holds === 'dn' ? entry.dn : name;
}

function changeOf(operation: 'add' | 'delete', type: string, value: string): Change {
  return new Change({ operation, modification: new Attribute({ type, values: [value] }) });
}

function attributesOf(values: Readonly<Record<string, string | readonly string[] | Buffer>>): Attribute[] {
  return Object.entries(values).map(([type, value]) =>
    Buffer.isBuffer(value)
      ? new Attribute({ type, values: [value] })
      : new Attribute({ type, values: [value].flat() as string[] }),
  );
}
