/** An LDAP directory without an account for this server: each user binds for themselves. */

import {
  type Backend,
  type BackendData,
  type BackendResult,
  formatUserName,
  type RecordKey,
  type Requester,
  type UserName,
} from './backend.ts';
import { done, refusal, refusalOfBind, refusalOfChange, signInRefused, userChangeIn } from './ldap-answers.ts';
import { keyOf, userData } from './ldap-entries.ts';
import { groupsOfUser } from './ldap-groups.ts';
import { escapeDnValue, sameName } from './ldap-names.ts';
import { findUser, isNameable, type Named } from './ldap-reading.ts';
import type { LdapConnection, LdapServers } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';
import { setPassword } from './ldap-writing.ts';

interface Kept {
  readonly data: BackendData;
  /** Milliseconds since 1970. */
  readonly until: number;
}

/** As long as PVE's ticket. */
const sessionLength = 7_200_000;

/** Users whose data is kept at most. */
const capacity = 10_000;

/**
 * Users as they see themselves: what was read when they signed in is told to them alone, for as long as a session
 * lives. There are no lists, and nobody is changed by others.
 */
export class LdapOwnBindBackend implements Backend {
  readonly keys: readonly RecordKey[] = ['dn', 'attributes'];
  readonly #settings: LdapSettings;
  readonly #boundAs: string;
  readonly #servers: LdapServers;
  readonly #clock: () => number;
  readonly #kept = new Map<string, Kept>();

  constructor(settings: LdapSettings, boundAs: string, servers: LdapServers, clock: () => number) {
    this.#settings = settings;
    this.#boundAs = boundAs;
    this.#servers = servers;
    this.#clock = clock;
  }

  async openSession(user: UserName, password: string): Promise<BackendResult> {
    return this.#asUser(user, password, signInRefused, async (connection, found) => {
      const groups = await groupsOfUser(connection, this.#settings, found);
      const username = formatUserName({ id: found.name, realm: user.realm });
      this.#keep(username, userData(found.entry, found.name, groups));
      return { ...done, username };
    });
  }

  getUser(user: UserName, requester: Requester): BackendData | null {
    const name = formatUserName(user);
    const kept = requester.username === name ? this.#kept.get(name.toLowerCase()) : undefined;
    return kept !== undefined && this.#clock() < kept.until ? kept.data : null;
  }

  /** Changes one's own password, with the old one. */
  async setUser(
    user: UserName,
    attributes: Readonly<Record<string, unknown>>,
    requester: Requester,
  ): Promise<BackendResult> {
    const { texts, password, old } = userChangeIn(attributes);
    const { realm, passwords } = this.#settings;
    const changesTexts = Object.keys(texts).length > 0;
    if (!changesTexts && password === undefined) return done;
    if (requester.username === undefined) return refusal(401, 'Sign in to change the password');
    if (requester.username !== formatUserName(user))
      return refusal(403, `Users of ${realm} are changed by themselves alone`);
    if (password === undefined || changesTexts || passwords === 'none')
      return refusal(501, `Users of the realm ${realm} are changed in the directory itself`);
    if (old === undefined)
      return refusal(
        501,
        'The directory asks for the current password to set a new one, and this form does not send it',
      );
    return this.#asUser(user, old, refusal(403, 'The current password is wrong'), (connection, { entry }) =>
      setPassword(connection, passwords, entry.dn, password, old).then(() => done, refusalOfChange),
    );
  }

  close(): void {
    this.#servers.close();
  }

  /** Runs `work` bound as the user, and with the entry that shows to be theirs; who has none, or is disabled, is refused. */
  async #asUser(
    user: UserName,
    password: string,
    refused: BackendResult,
    work: (connection: LdapConnection, found: Named) => Promise<BackendResult>,
  ): Promise<BackendResult> {
    const dn = user.realm === this.#settings.realm ? boundName(this.#boundAs, user.id) : null;
    // LDAP takes a bind without a password for an anonymous one, and lets it succeed.
    if (dn === null || password === '') return refused;
    try {
      return await this.#servers.as({ dn, password }, async (connection) => {
        const identity = await connection.ask('who that is', (client) => client.exop(whoAmI));
        const found = await findUser(connection, this.#settings, user.id, { active: true, anyCase: true });
        return found !== null && isSelf(identity.value ?? '', found) ? work(connection, found) : refused;
      });
    } catch (error) {
      return refusalOfBind(error, refused);
    }
  }

  #keep(username: string, data: BackendData): void {
    const key = username.toLowerCase();
    this.#kept.delete(key);
    this.#kept.set(key, { data, until: this.#clock() + sessionLength });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > capacity && oldest !== undefined) this.#kept.delete(oldest);
  }
}

/** The extended operation of RFC 4532. */
const whoAmI = '1.3.6.1.4.1.4203.1.11.3';

/** What a user binds as; in other forms than a distinguished name nothing can be escaped, so only plain names fit in. */
function boundName(boundAs: string, id: string): string | null {
  if (!isNameable(id)) return null;
  if (!/[@\\]/.test(boundAs)) return boundAs.replace('{id}', () => escapeDnValue(id));
  return /^[\p{L}\p{N}._-]+$/u.test(id) ? boundAs.replace('{id}', () => id) : null;
}

/** Whether the server takes the bound user for this entry: Active Directory knows a user by several names, which may be others' elsewhere. */
function isSelf(identity: string, { entry, name }: Named): boolean {
  const { dn, user } = /^(?:dn:(?<dn>.+)|u:(?:[^\\]*\\)?(?<user>.+))$/s.exec(identity)?.groups ?? {};
  return dn === undefined ? user !== undefined && sameName(user, name) : keyOf(dn) === keyOf(entry.dn);
}
