/** The PAAS-LDAP service, as far as its clients can tell: an LDAP directory behind HTTP, JSON and a cookie. */

import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import {
  type Entry,
  groups,
  type LdapConnection,
  LdapError,
  type LdapServer,
  type Modification,
  memoryLdap,
  people,
} from './ldap.ts';
import { httpServer, type Listening } from './listening.ts';

export interface PaasLdapOptions {
  /** The directory behind it; one in memory when absent. */
  readonly ldap?: LdapServer;
  readonly cookie?: string;
  /** Seconds. */
  readonly maxAge?: number;
  /** What its paths begin with, as behind a web server that has other things to serve. */
  readonly prefix?: string;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly cookie: string | undefined;
  readonly form: Readonly<Record<string, string>>;
}

/** Answers in the service's place; says whether it did. */
export type Intervention = (request: SeenRequest, response: ServerResponse) => boolean | Promise<boolean>;

export interface PaasLdapService extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly SeenRequest[];
  /** Sessions that are open. */
  readonly sessions: number;
  /** The most calls of `/ticket` that were ever under way at a time. */
  readonly mostTickets: number;
  /** Set by a test that wants odd answers. */
  intervene: Intervention | undefined;
  /** Loses all sessions, as a restart does. */
  restart(): void;
  /** Stops listening, and listens again at the same address. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

interface Said {
  readonly status: number;
  /** Absent: an empty body. */
  readonly body?: unknown;
  readonly cookie?: string;
}

const done: Said = { status: 200, body: { ok: true, error: null } };
const notSignedIn: Said = { status: 401, body: { auth: false } };

export async function startPaasLdap({
  ldap = memoryLdap(),
  cookie: cookieName = 'PAASLDAPAuthTicket',
  maxAge = 7200,
  prefix = '',
}: PaasLdapOptions = {}): Promise<PaasLdapService> {
  const sessions = new Map<string, LdapConnection>();
  const requests: SeenRequest[] = [];
  let tickets = 0;
  let mostTickets = 0;

  const listener = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url = '', headers } = incoming;
    const form = Object.fromEntries(new URLSearchParams(await text(incoming)));
    const request: SeenRequest = { method, path: url.slice(prefix.length), cookie: headers.cookie, form };
    requests.push(request);
    const aboutTicket = request.path === '/ticket';
    if (aboutTicket) tickets += 1;
    mostTickets = Math.max(mostTickets, tickets);
    try {
      if ((await service.intervene?.(request, response)) === true) return;
      const { status, body, cookie } = url.startsWith(prefix) ? await answer(request) : unknownPath;
      response.writeHead(status, {
        ...(cookie === undefined ? {} : { 'set-cookie': cookie }),
        'content-type': typeof body === 'string' ? 'text/html' : 'application/json',
      });
      response.end(typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body));
    } finally {
      if (aboutTicket) tickets -= 1;
    }
  };

  const answer = async (request: SeenRequest): Promise<Said> => {
    const { method, path, form } = request;
    const [kind = '', id, members, member, ...more] = path.slice(1).split('/').map(decodeURIComponent);
    const key = sessionIn(request.cookie, cookieName);
    if (method === 'GET' && path === '/version')
      return { status: 200, body: { version: '1.0.4', 'app-version': '1.0.6' } };
    if (path === '/ticket' && method === 'POST') return signIn(form);
    if (path === '/ticket' && method === 'DELETE') {
      sessions.delete(key);
      return { ...notSignedIn, cookie: `${cookieName}=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT` };
    }
    const route =
      routes[
        `${method} ${[kind, ...(id === undefined ? [] : [':id']), ...(members === undefined ? [] : [members, ':member'])].join('/')}`
      ];
    if (route === undefined || more.length > 0) return unknownPath;
    const connection = sessions.get(key);
    if (connection === undefined) return notSignedIn;
    try {
      return await route(connection, { id: id ?? '', member: member ?? '', form });
    } catch (error) {
      if (!(error instanceof LdapError)) return { status: 500 };
      return { status: 400, body: { ok: false, error: { code: error.code, result: error.message, message: '' } } };
    }
  };

  const signIn = async ({ username = '', password = '' }: SeenRequest['form']): Promise<Said> => {
    if (username === '' || password === '')
      return { status: 400, body: { auth: false, error: 'username and password are required' } };
    try {
      const connection = await ldap.bind(`uid=${username},${people}`, password);
      const key = `s:${randomBytes(24).toString('base64')}`;
      sessions.set(key, connection);
      const end = new Date(Date.now() + maxAge * 1000).toUTCString();
      const cookie = `${cookieName}=${key}; Max-Age=${maxAge}; Path=/; Expires=${end}; HttpOnly`;
      return { status: 200, body: { auth: true }, cookie };
    } catch (error) {
      return { status: error instanceof LdapError ? 400 : 500, body: { auth: false, error: (error as Error).message } };
    }
  };

  let listening: Listening | undefined = await httpServer(listener);
  const origin = listening.url;
  const service: PaasLdapService = {
    url: `${origin}${prefix}`,
    requests,
    get sessions() {
      return sessions.size;
    },
    get mostTickets() {
      return mostTickets;
    },
    intervene: undefined,
    restart: () => sessions.clear(),
    async stop() {
      await listening?.[Symbol.asyncDispose]();
      listening = undefined;
    },
    async start() {
      listening ??= await httpServer(listener, Number(new URL(origin).port));
    },
    async [Symbol.asyncDispose]() {
      await this.stop();
      await ldap[Symbol.asyncDispose]();
    },
  };
  return service;
}

const unknownPath: Said = { status: 404, body: 'Cannot find that path' };

function sessionIn(header = '', name: string): string {
  const pairs = header.split(/;\s*/).map((pair) => pair.split(/=(.*)/s));
  return pairs.find(([key]) => key === name)?.[1] ?? '';
}

interface Asked {
  readonly id: string;
  readonly member: string;
  readonly form: SeenRequest['form'];
}

type Route = (ldap: LdapConnection, asked: Asked) => Promise<Said>;

/** Names of entries are pasted together, unescaped. */
const userDn = (uid: string): string => `uid=${uid},${people}`;
const groupDn = (gid: string): string => `cn=${gid},${groups}`;

const routes: Readonly<Record<string, Route>> = {
  'GET users': async (ldap) => {
    const users = (await ldap.search(people, 'one', 'inetOrgPerson')).map(userOf);
    return { status: 200, body: { ok: true, error: null, users } };
  },
  'GET users/:id': async (ldap, { id }) => {
    const [entry] = await ldap.search(userDn(id), 'base');
    return { status: 200, body: { ok: true, error: null, user: userOf(entry) } };
  },
  'POST users/:id': async (ldap, { id, form }) => {
    const { cn = '', sn = '', mail = '', userpassword = '' } = form;
    if (await exists(ldap, userDn(id))) {
      const given = Object.entries({ cn, sn, mail, userPassword: userpassword }).filter(([, value]) => value !== '');
      const replace = ([attribute, value]: [string, string]): Modification => ({
        operation: 'replace',
        attribute,
        values: [value],
      });
      await ldap.modify(userDn(id), given.map(replace));
      return done;
    }
    if ([cn, sn, mail, userpassword].includes(''))
      return { status: 400, body: { auth: false, error: 'cn, sn, mail and userpassword are required' } };
    const attributes = { objectClass: ['inetOrgPerson'], uid: [id], cn: [cn], sn: [sn], mail: [mail] };
    await ldap.add({ dn: userDn(id), attributes: { ...attributes, userPassword: [userpassword] } });
    return done;
  },
  'DELETE users/:id': (ldap, { id }) => ldap.remove(userDn(id)).then(() => done),
  'GET groups': async (ldap) => {
    const list = (await ldap.search(groups, 'one', 'groupOfNames')).map(groupOf);
    return { status: 200, body: { ok: true, error: null, groups: list } };
  },
  'GET groups/:id': async (ldap, { id }) => {
    const [entry] = await ldap.search(groupDn(id), 'base');
    return { status: 200, body: { ok: true, error: null, group: groupOf(entry) } };
  },
  'POST groups/:id': async (ldap, { id }) => {
    // An LDAP group has at least one member; this one is nobody.
    if (!(await exists(ldap, groupDn(id))))
      await ldap.add({ dn: groupDn(id), attributes: { objectClass: ['groupOfNames'], cn: [id], member: [''] } });
    return done;
  },
  'DELETE groups/:id': (ldap, { id }) => ldap.remove(groupDn(id)).then(() => done),
  'POST groups/:id/members/:member': (ldap, asked) => changeMember(ldap, 'add', asked),
  'DELETE groups/:id/members/:member': (ldap, asked) => changeMember(ldap, 'delete', asked),
};

async function changeMember(ldap: LdapConnection, operation: 'add' | 'delete', { id, member }: Asked): Promise<Said> {
  await ldap.modify(groupDn(id), [{ operation, attribute: 'member', values: [userDn(member)] }]);
  return done;
}

async function exists(ldap: LdapConnection, dn: string): Promise<boolean> {
  try {
    return (await ldap.search(dn, 'base')).length > 0;
  } catch (error) {
    if (error instanceof LdapError && error.code === 32) return false;
    throw error;
  }
}

/** Throws on an entry that is no person, as the service trips over one. */
function userOf(entry: Entry | undefined): unknown {
  if (entry === undefined) throw new LdapError(32);
  const { cn, sn, mail, uid, memberOf = [] } = entry.attributes;
  const only = (values: readonly string[] | undefined): string => {
    if (values === undefined) throw new TypeError('an attribute is missing');
    return values[0] ?? '';
  };
  return { dn: entry.dn, attributes: { cn: only(cn), sn: only(sn), mail: only(mail), uid: only(uid), memberOf } };
}

function groupOf(entry: Entry | undefined): unknown {
  if (entry === undefined) throw new LdapError(32);
  const { cn: [cn] = [], member } = entry.attributes;
  return { dn: entry.dn, attributes: { cn, member } };
}
