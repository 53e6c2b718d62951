/** The `paasldap` backend: users and groups of an LDAP directory, through the HTTP service PAAS-LDAP. */

import { hash } from 'node:crypto';
import { getCACertificates } from 'node:tls';
import type { BaseLogger } from 'pino';
import { buildConnector, Pool } from 'undici';
import { z } from 'zod';
import { UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../errors.ts';
import { Slots } from '../pve/slots.ts';
import { expected } from '../schema.ts';
import {
  type Backend,
  type BackendChange,
  type BackendCookie,
  type BackendData,
  type BackendResult,
  formatUserName,
  type GroupName,
  type RecordKey,
  type Requester,
  type UserName,
} from './backend.ts';
import {
  cookiesIn,
  groupIn,
  groupsIn,
  isCookieValue,
  isEntryId,
  isInvisible,
  isNamed,
  objectIn,
  problemIn,
  refusalIn,
  type ServiceAnswer,
  userIn,
  usersIn,
} from './paasldap-answer.ts';

/** The configuration of a `paasldap` backend. */
export const paasldapSettings = z.strictObject({
  url: z
    .string()
    .refine((text) => !/^ldaps?:/i.test(text), {
      abort: true,
      error:
        'an LDAP server itself is for the backend "ldap"; expected the URL of the PAAS-LDAP service, such as http://paas-ldap.example.org',
    })
    .refine((text) => baseOf(text) !== null, {
      error: expected('the URL of the PAAS-LDAP service, such as http://paas-ldap.example.org'),
    })
    .describe('URL of the PAAS-LDAP service. Passwords go there: use https unless it is on this machine.'),
  realm: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9.\-_]+$/, { error: expected('the name of a PVE realm') })
    .describe('The PVE realm of its users, which lists of users and groups are labelled with.'),
  deadline: z.number().min(0.05).max(3600).default(10).describe('Seconds after which a call is given up.'),
});

export type PaasLdapSettings = z.output<typeof paasldapSettings>;

export interface PaasLdapOptions {
  readonly log: Pick<BaseLogger, 'warn'>;
  /** Bytes; a longer answer counts as broken. */
  readonly maxAnswer?: number;
  /** Users whose attributes are kept at most. */
  readonly capacity?: number;
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
}

type Attributes = Readonly<Record<string, unknown>>;
type Path = readonly string[];

interface Message {
  readonly cookie?: string;
  readonly form?: Readonly<Record<string, string>>;
}

/** What was last seen of a user, for as long as the session lives that it was seen with. */
interface Kept {
  readonly data: BackendData | null;
  readonly session: string;
  /** Milliseconds since 1970. */
  readonly until: number;
}

/** Seconds in which a connection must be made. */
const connectWithin = 3;

/** Calls of `/ticket` that may wait for their turn. */
const queue = 64;

/** What the service stores of a user; all four make a new one. */
const stored = ['cn', 'sn', 'mail', 'userpassword'] as const;

const done: BackendResult = { ok: true, status: 200, message: '' };
const signInAgain = refusal(401, 'Sign in again: the session at the directory has ended');

/**
 * Users and groups as the LDAP directory shows them to whoever asks: the service keeps a connection bound as each
 * signed-in user, and has no view of its own. It supplies attributes alone, so nothing that is allowed depends on it.
 */
export class PaasLdapBackend implements Backend {
  readonly keys: readonly RecordKey[] = ['dn', 'attributes'];
  readonly #realm: string;
  readonly #base: string;
  readonly #milliseconds: number;
  readonly #pool: Pool;
  readonly #log: PaasLdapOptions['log'];
  readonly #clock: () => number;
  readonly #capacity: number;
  /** The service's table of sessions does not stand two changes at a time. */
  readonly #tickets = new Slots(1, queue);
  /** Anybody can send made-up cookies to be signed out; they must not stand in the way of those who sign in. */
  readonly #strangers = new Slots(1, queue);
  /** By user name in lower case, since LDAP does not tell a uid's cases apart. */
  readonly #kept = new Map<string, Kept>();
  /** As the service named them when somebody last signed in. */
  #cookieNames: readonly string[] = ['PAASLDAPAuthTicket'];

  constructor(
    { url, realm, deadline }: PaasLdapSettings,
    { log, maxAnswer = 32 * 1024 ** 2, capacity = 10_000, clock = Date.now }: PaasLdapOptions,
  ) {
    const { origin, pathname } = new URL(url);
    this.#realm = realm;
    this.#base = pathname.replace(/\/+$/, '');
    this.#milliseconds = deadline * 1000;
    this.#pool = new Pool(origin, {
      connect: connector(origin),
      connections: 8,
      maxResponseSize: maxAnswer,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    this.#log = log;
    this.#clock = clock;
    this.#capacity = capacity;
  }

  async openSession(user: UserName, password: string): Promise<BackendResult> {
    // LDAP takes a bind without a password for an anonymous one, and lets it succeed.
    if (password === '' || !isEntryId(user.id))
      return refusal(401, 'Authentication failed: the name or password is wrong');
    const answer = await this.#ticket('POST', { form: { username: user.id, password } });
    if ([400, 401, 403].includes(answer.status)) {
      const { words } = problemIn(answer.body);
      return refusal(401, `Authentication failed: ${words || 'the user name or the password is wrong'}`);
    }
    const cookies = cookiesIn(answer.cookies, this.#clock());
    if (answer.status !== 200 || answer.body.auth !== true || cookies.length === 0)
      throw unexpected('POST /ticket', answer);
    this.#cookieNames = cookies.map(({ name }) => name);
    await this.#remember(user, cookies);
    return { ...done, cookies };
  }

  async closeSession(requester: Requester): Promise<BackendResult> {
    const cookie = this.#cookieOf(requester);
    if (cookie === null) return done;
    const close = () => this.#ticket('DELETE', { cookie });
    const name = (requester.username ?? '').toLowerCase();
    const known = this.#kept.get(name)?.session === digest(cookie);
    if (known) this.#kept.delete(name);
    const answer = await (known ? close() : this.#inTurn(this.#strangers, 'DELETE /ticket', close));
    // The service says 401 also when it has closed the session.
    if (![200, 401].includes(answer.status)) throw unexpected('DELETE /ticket', answer);
    return done;
  }

  /** A user who asks about themselves is told what was last seen when the session at the service is gone, or the service is. */
  async getUser(user: UserName, requester: Requester): Promise<BackendData | null> {
    const kept = requester.username === formatUserName(user) ? this.#keptOf(user) : undefined;
    try {
      const seen = await this.#entry('users', user.id, requester);
      if (seen === undefined) return kept?.data ?? null;
      if (seen !== null && kept !== undefined && kept === this.#keptOf(user)) this.#keep(user, { ...kept, data: seen });
      return seen;
    } catch (error) {
      if (kept?.data) return kept.data;
      throw error;
    }
  }

  async getAllUsers(requester: Requester): Promise<Readonly<Record<string, BackendData>> | null> {
    return (await this.#read(['users'], requester, (body) => usersIn(body, this.#realm))) ?? null;
  }

  /** The service changes nothing but in the right of somebody who is signed in there. */
  check(change: BackendChange, requester: Requester): BackendResult | null {
    const form = 'attributes' in change ? formOf(change.attributes) : {};
    const nothing = change.method === 'setGroup' || (change.method === 'setUser' && Object.keys(form).length === 0);
    if (!nothing && this.#cookieOf(requester) === null) return signInAgain;
    return change.method === 'addUser' ? lackOf(form) : null;
  }

  /** Makes a user of `cn`, `sn`, `mail` and `userpassword`, all of which must be given. */
  async addUser(user: UserName, attributes: Attributes, requester: Requester): Promise<BackendResult> {
    const form = formOf(attributes);
    const lack = lackOf(form);
    if (lack !== null) return lack;
    if (await this.#read(['users', user.id], requester, userIn))
      return refusal(409, `user ${formatUserName(user)} is there already, perhaps in another spelling`);
    return this.#change('POST', ['users', user.id], requester, form);
  }

  /** Changes those of `cn`, `sn`, `mail` and `userpassword` that are given; what other backends store changes nothing here. */
  async setUser(user: UserName, attributes: Attributes, requester: Requester): Promise<BackendResult> {
    const form = formOf(attributes);
    if (Object.keys(form).length === 0) return done;
    return this.#changeUser('POST', user, requester, form);
  }

  delUser(user: UserName, requester: Requester): Promise<BackendResult> {
    return this.#changeUser('DELETE', user, requester);
  }

  async getGroup(group: GroupName, requester: Requester): Promise<BackendData | null> {
    return this.#isHere(group) ? ((await this.#entry('groups', group.id, requester)) ?? null) : null;
  }

  async getAllGroups(requester: Requester): Promise<Readonly<Record<string, BackendData>> | null> {
    return (await this.#read(['groups'], requester, (body) => groupsIn(body, this.#realm))) ?? null;
  }

  async addGroup(group: GroupName, _attributes: Attributes, requester: Requester): Promise<BackendResult> {
    if (!this.#isHere(group)) return this.#elsewhere(group);
    if (await this.#read(['groups', group.id], requester, groupIn))
      return refusal(409, `group ${group.id} is there already, perhaps in another spelling`);
    return this.#change('POST', ['groups', group.id], requester);
  }

  /** A group has its name and its members, and nothing that could be set. */
  setGroup(): BackendResult {
    return done;
  }

  delGroup(group: GroupName, requester: Requester): Promise<BackendResult> {
    return this.#changeGroup('DELETE', group, [], requester);
  }

  async addUserToGroup(user: UserName, group: GroupName, requester: Requester): Promise<BackendResult> {
    if ((await this.#entry('users', user.id, requester)) === null) return noUser(user);
    return this.#changeGroup('POST', group, ['members', user.id], requester);
  }

  /** Also one who is not there any more; but nobody by another spelling of their name. */
  async delUserFromGroup(user: UserName, group: GroupName, requester: Requester): Promise<BackendResult> {
    const found = await this.#read(['users', user.id], requester, userIn);
    if (found && !isNamed(found, user.id)) return noUser(user);
    return this.#changeGroup('DELETE', group, ['members', user.id], requester);
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }

  #isHere({ realm }: GroupName): boolean {
    return realm === undefined || realm === this.#realm;
  }

  /** The user's attributes as they are at sign-in; without them there is a session all the same. */
  async #remember(user: UserName, cookies: readonly BackendCookie[]): Promise<void> {
    const requester = { cookies: Object.fromEntries(cookies.map(({ name, value }) => [name, value])) };
    const data = await this.#read(['users', user.id], requester, userIn).catch((error: unknown) => {
      this.#log.warn({ err: error, user: formatUserName(user) }, 'PAAS-LDAP signed a user in but does not show them');
    });
    const lifetime = Math.min(...cookies.map(({ expiresMSFromNow }) => expiresMSFromNow));
    const session = digest(this.#cookieOf(requester) ?? '');
    this.#keep(user, { data: data ?? null, session, until: this.#clock() + lifetime });
  }

  #keep(user: UserName, kept: Kept): void {
    const name = formatUserName(user).toLowerCase();
    this.#kept.delete(name);
    this.#kept.set(name, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > this.#capacity && oldest !== undefined) this.#kept.delete(oldest);
  }

  #keptOf(user: UserName): Kept | undefined {
    const kept = this.#kept.get(formatUserName(user).toLowerCase());
    if (kept === undefined || this.#clock() >= kept.until) return undefined;
    return kept.data === null || isNamed(kept.data, user.id) ? kept : undefined;
  }

  /** The cookies of the service that the requester has, as a header; null when there is none that could be sent. */
  #cookieOf({ cookies }: Requester): string | null {
    const pairs = this.#cookieNames.flatMap((name) => {
      const value = Object.hasOwn(cookies, name) ? cookies[name] : undefined;
      return value !== undefined && isCookieValue(value) ? [`${name}=${value}`] : [];
    });
    return pairs.length === 0 ? null : pairs.join('; ');
  }

  /** An entry by its name as it is written there: LDAP takes other cases and forms of it for the same, and PVE does not. */
  async #entry(kind: 'users' | 'groups', id: string, requester: Requester): Promise<BackendData | null | undefined> {
    const found = await this.#read([kind, id], requester, kind === 'users' ? userIn : groupIn);
    return found && !isNamed(found, id) ? null : found;
  }

  /** What LDAP shows to the requester: null when there is nothing to see, undefined when they have no session. */
  async #read<T>(
    path: Path,
    requester: Requester,
    valueIn: (body: ServiceAnswer['body']) => T | null,
  ): Promise<T | null | undefined> {
    const cookie = this.#cookieOf(requester);
    if (cookie === null) return undefined;
    if (!path.every(isEntryId)) return null;
    const answer = await this.#send('GET', path, { cookie });
    if (answer.status === 401) return undefined;
    if (answer.status === 400 && isInvisible(problemIn(answer.body))) return null;
    const value = answer.status === 200 ? valueIn(answer.body) : null;
    if (value === null) throw unexpected(describe('GET', path), answer);
    return value;
  }

  /** Of a user who is there: with all four fields the service would make one whom it does not find. */
  async #changeUser(
    method: Method,
    user: UserName,
    requester: Requester,
    form?: Message['form'],
  ): Promise<BackendResult> {
    if ((await this.#entry('users', user.id, requester)) === null) return noUser(user);
    return this.#change(method, ['users', user.id], requester, form);
  }

  async #changeGroup(method: Method, group: GroupName, rest: Path, requester: Requester): Promise<BackendResult> {
    if (!this.#isHere(group)) return this.#elsewhere(group);
    if ((await this.#entry('groups', group.id, requester)) === null)
      return refusal(404, `group ${group.id} does not exist`);
    return this.#change(method, ['groups', group.id, ...rest], requester);
  }

  #elsewhere({ realm }: GroupName): BackendResult {
    return refusal(404, `there are no groups of the realm ${realm} here`);
  }

  async #change(method: Method, path: Path, requester: Requester, form?: Message['form']): Promise<BackendResult> {
    const wrong = path.find((part) => !isEntryId(part));
    if (wrong !== undefined) return refusal(400, `${JSON.stringify(wrong)} cannot be a name in the directory`);
    const cookie = this.#cookieOf(requester);
    if (cookie === null) return signInAgain;
    const answer = await this.#send(method, path, { cookie, ...(form === undefined ? {} : { form }) });
    if (answer.status === 200 && answer.body.ok === true) return done;
    if (answer.status === 401) return signInAgain;
    if (answer.status === 400) return refusalIn(answer);
    throw unexpected(describe(method, path), answer);
  }

  #ticket(method: Method, message: Message): Promise<ServiceAnswer> {
    return this.#inTurn(this.#tickets, describe(method, ['ticket']), () => this.#send(method, ['ticket'], message));
  }

  /** Runs `work` when its turn comes; what has waited half its time is not begun any more. */
  async #inTurn<T>(slots: Slots, what: string, work: () => Promise<T>): Promise<T> {
    const patience = AbortSignal.timeout(this.#milliseconds / 2);
    if (slots.full) throw busy(what);
    try {
      return await slots.run(work, patience);
    } catch (error) {
      throw error === patience.reason ? busy(what) : error;
    }
  }

  /** One call on a connection of its own, since a kept one may be closing; redirections are answers like any other. */
  async #send(method: Method, path: Path, { cookie, form }: Message): Promise<ServiceAnswer> {
    const deadline = AbortSignal.timeout(this.#milliseconds);
    try {
      const { statusCode, headers, body } = await this.#pool.request({
        method,
        path: `${this.#base}/${path.map(encodeURIComponent).join('/')}`,
        headers: {
          accept: 'application/json',
          ...(cookie === undefined ? {} : { cookie }),
          ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
        },
        body: form === undefined ? null : new URLSearchParams(form).toString(),
        signal: deadline,
        reset: true,
      });
      return { status: statusCode, cookies: [headers['set-cookie'] ?? []].flat(), body: objectIn(await body.text()) };
    } catch (error) {
      throw failure(error, describe(method, path), deadline.aborted);
    }
  }
}

type Method = 'GET' | 'POST' | 'DELETE';

/** The base of the service, http or https, with or without a path; null for any other text. */
function baseOf(text: string): URL | null {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) return null;
  return url.username || url.password || url.search || url.hash ? null : url;
}

/** Opening the connection failed, so nothing of the request can have been sent. */
class ConnectError extends Error {
  override readonly name = 'ConnectError';
}

/** TLS trusts what Node trusts and what the system does. */
function connector(origin: string): buildConnector.connector {
  const secure = origin.startsWith('https:');
  const ca = secure ? { ca: [...getCACertificates('default'), ...getCACertificates('system')] } : {};
  const open = buildConnector({ allowH2: false, timeout: connectWithin * 1000, ...ca });
  return (options, finish) =>
    open(options, (error, socket) =>
      error === null ? finish(null, socket) : finish(new ConnectError(error.message, { cause: error }), null),
    );
}

function describe(method: Method, path: Path): string {
  return `${method} /${path.join('/')}`;
}

function failure(cause: unknown, what: string, late: boolean): Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof ConnectError)
    return new UpstreamUnreachableError(
      `PAAS-LDAP could not be reached (${why}), so ${what} was not sent. Check that it runs and that "url" is right.`,
      { cause },
    );
  if (late) return new UpstreamDeadlineError(`PAAS-LDAP did not answer ${what} in time`, { cause });
  return new UpstreamBrokenError(`PAAS-LDAP was sent ${what}, but its answer was lost: ${why}`, { cause });
}

function unexpected(what: string, { status, body }: ServiceAnswer): UpstreamBrokenError {
  const { words } = problemIn(body);
  return new UpstreamBrokenError(
    `PAAS-LDAP gave an unexpected answer ${status} to ${what}${words === '' ? '' : `: ${words}`}`,
  );
}

function busy(what: string): UpstreamUnreachableError {
  return new UpstreamUnreachableError(
    `PAAS-LDAP is busy with others who sign in; ${what} was not sent. Try again in a moment.`,
  );
}

function refusal(status: number, message: string): BackendResult {
  return { ok: false, status, message };
}

function noUser(user: UserName): BackendResult {
  return refusal(404, `user ${formatUserName(user)} does not exist`);
}

/** What of the attributes the service stores; it takes an empty value for none. */
function formOf(attributes: Attributes): Readonly<Record<string, string>> {
  return Object.fromEntries(
    stored.flatMap((key) => {
      const value = Object.hasOwn(attributes, key) ? attributes[key] : undefined;
      return typeof value === 'string' && value !== '' ? [[key, value]] : [];
    }),
  );
}

function lackOf(form: Readonly<Record<string, string>>): BackendResult | null {
  const missing = stored.filter((key) => form[key] === undefined);
  return missing.length > 0 ? refusal(400, `A new user needs ${missing.join(', ')}`) : null;
}

function digest(cookie: string): string {
  return hash('sha256', cookie);
}
