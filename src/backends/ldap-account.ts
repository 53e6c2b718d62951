/** An LDAP directory that is read and changed with an account of its own. */

import {
  type Backend,
  type BackendChange,
  type BackendData,
  type BackendResult,
  formatUserName,
  type GroupName,
  parseUserName,
  type RecordKey,
  type Requester,
  type UserName,
} from './backend.ts';
import { done, refusal, refusalOfBind, refusalOfChange, signInRefused, userChangeIn } from './ldap-answers.ts';
import { nameIn, userData } from './ldap-entries.ts';
import { groupsOfUser, listUsers, usersInGroup } from './ldap-groups.ts';
import { dataOfGroup, findGroup, findUser, type Groups, isNameable, listGroups, type Named } from './ldap-reading.ts';
import type { LdapConnection, LdapServers } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';
import {
  addEntryOfGroup,
  addEntryOfUser,
  addMember,
  removeEntry,
  removeEntryOfUser,
  removeMember,
  setEntryOfUser,
  setPassword,
} from './ldap-writing.ts';

type Attributes = Readonly<Record<string, unknown>>;

/**
 * Users and groups as the account sees them. Changes are made in its right, so they are taken from administrators alone,
 * and of their own password from everybody; who is one, the directory of all backends says.
 */
export class LdapAccountBackend implements Backend {
  readonly keys: readonly RecordKey[] = ['dn', 'attributes'];
  readonly #settings: LdapSettings;
  readonly #servers: LdapServers;

  constructor(settings: LdapSettings, servers: LdapServers) {
    this.#settings = settings;
    this.#servers = servers;
  }

  async openSession(user: UserName, password: string): Promise<BackendResult> {
    // LDAP takes a bind without a password for an anonymous one, and lets it succeed.
    if (password === '') return signInRefused;
    const found = await this.#find(user, { active: true, anyCase: true });
    if (found === null) return signInRefused;
    try {
      await this.#servers.as({ dn: found.entry.dn, password }, async () => {});
    } catch (error) {
      return refusalOfBind(error, signInRefused);
    }
    return { ...done, username: formatUserName({ id: found.name, realm: user.realm }) };
  }

  async admits(user: UserName): Promise<boolean> {
    return (await this.#find(user, { active: true, anyCase: true })) !== null;
  }

  async groupsOf(user: UserName): Promise<readonly GroupName[]> {
    const { groups, realm } = this.#settings;
    if (groups === null) return [];
    const entries = await this.#about(user, (connection, found) => groupsOfUser(connection, this.#settings, found));
    return (entries ?? []).flatMap((entry) => {
      const id = nameIn(entry, groups.name);
      return id === null ? [] : [{ id, realm }];
    });
  }

  async membersOf(group: GroupName): Promise<readonly UserName[]> {
    const { users, groups, realm } = this.#settings;
    if (groups === null || !this.#mayHold(group)) return [];
    const names = await this.#servers.read(async (connection) => {
      const found = await findGroup(connection, groups, group.id);
      return found === null ? [] : usersInGroup(connection, { users, groups }, found.entry);
    });
    return names.map((id) => ({ id, realm }));
  }

  getUser(user: UserName): Promise<BackendData | null> {
    return this.#about(user, async (connection, found) =>
      userData(found.entry, found.name, await groupsOfUser(connection, this.#settings, found)),
    );
  }

  async getAllUsers(): Promise<Readonly<Record<string, BackendData>>> {
    const users = await this.#servers.read((connection) => listUsers(connection, this.#settings));
    return Object.fromEntries(
      [...users].flatMap(([id, data]) => {
        const name = this.#labelled(id);
        return parseUserName(name) === null ? [] : [[name, data]];
      }),
    );
  }

  /** What shows without asking the directory: names that cannot be, what a new user lacks, whether passwords are changed and groups made here. */
  check(change: BackendChange): BackendResult | null {
    if (change.method === 'addGroup') return isNameable(change.group.id) ? this.#noNumbers() : unfit(change.group.id);
    if (!('user' in change) || !('attributes' in change)) return null;
    const { texts, password } = userChangeIn(change.attributes);
    const refused = this.#noPasswords(password);
    if (change.method === 'setUser' || refused !== null) return refused;
    const wanted = Object.entries({ cn: texts.cn, sn: texts.sn, userpassword: password });
    const missing = wanted.flatMap(([key, value]) => (value === undefined ? [key] : []));
    return (
      this.#unfit(change.user) ?? (missing.length > 0 ? refusal(400, `A new user needs ${missing.join(', ')}`) : null)
    );
  }

  /** Makes a user of `cn`, `sn` and `userpassword`, which must be given, and `mail`. */
  async addUser(user: UserName, attributes: Attributes, requester: Requester): Promise<BackendResult> {
    const { texts, password = '' } = userChangeIn(attributes);
    const refused = refusalTo(requester) ?? this.check({ method: 'addUser', user, attributes });
    if (refused !== null) return refused;
    return this.#change(async (connection) => {
      if ((await findUser(connection, this.#settings, user.id)) !== null)
        return refusal(409, `user ${formatUserName(user)} is there already`);
      await addEntryOfUser(connection, this.#settings, user.id, texts, password);
      return done;
    });
  }

  /** Changes those of `cn`, `sn`, `mail` and `userpassword` that are given; one's own `userpassword` is everybody's to change. */
  async setUser(user: UserName, attributes: Attributes, requester: Requester): Promise<BackendResult> {
    const { texts, password, old } = userChangeIn(attributes);
    const changesTexts = Object.keys(texts).length > 0;
    if (!changesTexts && password === undefined) return done;
    const own = requester.username === formatUserName(user);
    const refused = (own && !changesTexts ? null : refusalTo(requester)) ?? this.#noPasswords(password);
    if (refused !== null) return refused;
    const found = await this.#find(user);
    if (found === null) return noUser(user);
    if (own && password !== undefined && old !== undefined && !changesTexts)
      return this.#setOwnPassword(found, password, old);
    return this.#change(async (connection) => {
      await setEntryOfUser(connection, found.entry, texts);
      if (password !== undefined) await setPassword(connection, this.#settings.passwords, found.entry.dn, password);
      return done;
    });
  }

  async delUser(user: UserName, requester: Requester): Promise<BackendResult> {
    const refused = refusalTo(requester) ?? this.#unfit(user);
    if (refused !== null) return refused;
    return this.#change(async (connection) => {
      const found = await findUser(connection, this.#settings, user.id);
      if (found === null) return noUser(user);
      await removeEntryOfUser(connection, this.#settings, found);
      return done;
    });
  }

  async getGroup(group: GroupName): Promise<BackendData | null> {
    const { groups } = this.#settings;
    if (groups === null || !this.#mayHold(group)) return null;
    const found = await this.#servers.read((connection) => findGroup(connection, groups, group.id));
    return found === null ? null : dataOfGroup(found, groups);
  }

  async getAllGroups(): Promise<Readonly<Record<string, BackendData>>> {
    const { groups } = this.#settings;
    if (groups === null) return {};
    const listed = await this.#servers.read((connection) => listGroups(connection, groups));
    return Object.fromEntries([...listed].map(([id, data]) => [this.#labelled(id), data]));
  }

  addGroup(group: GroupName, _attributes: Attributes, requester: Requester): Promise<BackendResult> {
    return this.#changeGroup(group, requester, async (connection, groups, found) => {
      if (found !== null) return refusal(409, `group ${group.id} is there already`);
      const refused = this.#noNumbers();
      if (refused !== null) return refused;
      await addEntryOfGroup(connection, this.#settings, groups, group.id);
      return done;
    });
  }

  /** A group has its name and its members, and nothing that could be set. */
  setGroup(): BackendResult {
    return done;
  }

  delGroup(group: GroupName, requester: Requester): Promise<BackendResult> {
    return this.#changeGroup(group, requester, async (connection, _, found) => {
      if (found === null) return noGroup(group);
      await removeEntry(connection, found.entry);
      return done;
    });
  }

  addUserToGroup(user: UserName, group: GroupName, requester: Requester): Promise<BackendResult> {
    return this.#changeMember(user, group, requester, addMember);
  }

  delUserFromGroup(user: UserName, group: GroupName, requester: Requester): Promise<BackendResult> {
    return this.#changeMember(user, group, requester, removeMember);
  }

  close(): void {
    this.#servers.close();
  }

  #labelled(id: string): string {
    return `${id}@${this.#settings.realm}`;
  }

  #isHere({ id, realm }: UserName): boolean {
    return realm === this.#settings.realm && isNameable(id);
  }

  #mayHold({ realm }: GroupName): boolean {
    return realm === undefined || realm === this.#settings.realm;
  }

  async #find(
    user: UserName,
    options: { readonly active?: boolean; readonly anyCase?: boolean } = {},
  ): Promise<Named | null> {
    if (!this.#isHere(user)) return null;
    return this.#servers.read((connection) => findUser(connection, this.#settings, user.id, options));
  }

  /** What a question tells of a user, asked on the connection that has found them; null when there is no such user. */
  async #about<T>(user: UserName, ask: (connection: LdapConnection, found: Named) => Promise<T>): Promise<T | null> {
    if (!this.#isHere(user)) return null;
    return this.#servers.read(async (connection) => {
      const found = await findUser(connection, this.#settings, user.id);
      return found === null ? null : ask(connection, found);
    });
  }

  /** With the right of the user, who shows the old one. */
  async #setOwnPassword({ entry: { dn } }: Named, password: string, old: string): Promise<BackendResult> {
    const { passwords } = this.#settings;
    try {
      return await this.#servers.as({ dn, password: old }, (connection) =>
        setPassword(connection, passwords, dn, password, old).then(() => done, refusalOfChange),
      );
    } catch (error) {
      return refusalOfBind(error, refusal(403, 'The current password is wrong'));
    }
  }

  #change(work: (connection: LdapConnection) => Promise<BackendResult>): Promise<BackendResult> {
    return this.#servers.write((connection) => work(connection).catch(refusalOfChange));
  }

  async #changeGroup(
    group: GroupName,
    requester: Requester,
    work: (connection: LdapConnection, groups: Groups, found: Named | null) => Promise<BackendResult>,
  ): Promise<BackendResult> {
    const { groups } = this.#settings;
    const refused = refusalTo(requester);
    if (refused !== null) return refused;
    if (groups === null || !this.#mayHold(group)) return noGroup(group);
    if (!isNameable(group.id)) return unfit(group.id);
    return this.#change(async (connection) => work(connection, groups, await findGroup(connection, groups, group.id)));
  }

  #changeMember(
    user: UserName,
    group: GroupName,
    requester: Requester,
    change: typeof addMember,
  ): Promise<BackendResult> {
    return this.#changeGroup(group, requester, async (connection, groups, found) => {
      if (found === null) return noGroup(group);
      const member = this.#isHere(user) ? await findUser(connection, this.#settings, user.id) : null;
      if (member === null) return noUser(user);
      await change(connection, groups, found.entry, member);
      return done;
    });
  }

  #unfit(user: UserName): BackendResult | null {
    if (user.realm !== this.#settings.realm) return refusal(404, `there are no users of the realm ${user.realm} here`);
    return isNameable(user.id) ? null : unfit(user.id);
  }

  #noNumbers(): BackendResult | null {
    const classes = this.#settings.groups?.classes.map((name) => name.toLowerCase());
    return classes?.includes('posixgroup') === true
      ? refusal(
          501,
          'A group of the class posixGroup has a number, which is given in the directory itself: make it there',
        )
      : null;
  }

  #noPasswords(password: string | undefined): BackendResult | null {
    return password === undefined || this.#settings.passwords !== 'none'
      ? null
      : refusal(501, `Passwords of the realm ${this.#settings.realm} are changed in the directory itself`);
  }
}

function refusalTo({ username, admin }: Requester): BackendResult | null {
  if (username === undefined) return refusal(401, 'Sign in to change users and groups');
  return admin === true ? null : refusal(403, 'Only administrators change users and groups of the directory');
}

function unfit(id: string): BackendResult {
  return refusal(400, `${JSON.stringify(id)} cannot be a name in the directory`);
}

function noUser(user: UserName): BackendResult {
  return refusal(404, `user ${formatUserName(user)} does not exist`);
}

function noGroup({ id }: GroupName): BackendResult {
  return refusal(404, `group ${id} does not exist`);
}
