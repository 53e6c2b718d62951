/** The backend `pve`: PVE's own users, groups and passwords. */

import type { BaseLogger } from 'pino';
import { UpstreamBrokenError } from '../errors.ts';
import { isObject } from '../json.ts';
import { type Answer, type Call, type Credential, call, describeCall, succeeded, type Upstream } from '../pve/call.ts';
import {
  type Backend,
  type BackendChange,
  type BackendData,
  type BackendResult,
  formatUserName,
  type GroupName,
  parseUserName,
  type Requester,
  type UserName,
} from './backend.ts';

/** PVE accepts a ticket for two hours. */
const sessionLength = 7_200_000;

/** Users as PVE shows them to the configured token; sign-in and passwords with the user's own credentials. */
export function createPveBackend(upstream: Upstream, { log }: { readonly log: Pick<BaseLogger, 'warn'> }): Backend {
  let warned = false;

  /**
   * What the token may read; null when there is no such thing, or the token has no right to see it. Where something is
   * allowed on the strength of the answer, it must be `certain`: having no right is an error then.
   */
  async function read(question: Call, { certain = false } = {}): Promise<unknown> {
    const answer = await upstream.send(question, { kind: 'service' });
    if (succeeded(answer)) return answer.data;
    if (answer.status === 403 && !certain) {
      if (!warned)
        log.warn(
          { call: describeCall(question), reason: answer.reason },
          'the API token may not read users and groups of PVE: their names and memberships stay empty',
        );
      warned = true;
      return null;
    }
    if (answer.status === 400 || /no such (user|group)|does not exist/.test(answer.reason)) return null;
    throw unexpected(question, answer);
  }

  /** Changes are made with the right that the requester has in PVE. */
  async function changed(question: Call, requester: Requester): Promise<BackendResult> {
    const session = credentialIn(requester);
    if (session === null) return refusal(401, 'Sign in to change users and groups of PVE');
    const answer = await upstream.send(question, session);
    if (answer.status >= 500 && /already exists/.test(answer.reason)) return refusal(409, answer.reason);
    if (answer.status >= 500 && /no such (user|group)|does not exist/.test(answer.reason))
      return refusal(404, answer.reason);
    return resultOf(answer);
  }

  async function changeMember(
    user: UserName,
    { id, realm }: GroupName,
    requester: Requester,
    joins: boolean,
  ): Promise<BackendResult> {
    const name = formatUserName(user);
    if (realm !== undefined || !isPveName(id) || !isPveName(name)) return nothingNamed(id);
    const data = await read(call('GET', '/access/users/{}', [name]));
    if (!isObject(data)) return nothingNamed(name);
    const groups = names(data.groups);
    if (groups.includes(id) === joins)
      return joins ? refusal(409, `${name} is in ${id} already`) : refusal(404, `${name} is not in ${id}`);
    // PVE takes one group away by being told the others.
    const form = joins ? { groups: id, append: '1' } : { groups: groups.filter((group) => group !== id).join(',') };
    return changed(call('PUT', '/access/users/{}', [name], form), requester);
  }

  return {
    keys: ['attributes'],

    async openSession(user, password): Promise<BackendResult> {
      const question = call('POST', '/access/ticket', [], { username: formatUserName(user), password });
      const answer = await upstream.send(question, { kind: 'none' });
      if (answer.status >= 500) throw unexpected(question, answer);
      return succeeded(answer)
        ? sessionOf(question, answer)
        : refusal(401, 'Authentication failed: the user name or the password is wrong, or the user is disabled');
    },

    async getUser(user) {
      const name = formatUserName(user);
      if (!isPveName(name)) return null;
      const data = await read(call('GET', '/access/users/{}', [name]));
      return isObject(data) ? userData(user, data) : null;
    },

    async getAllUsers() {
      const rows = rowsOf(await read(call('GET', '/access/users', [], { full: '1' })));
      return rows === null
        ? null
        : Object.fromEntries(
            rows.flatMap((row) => {
              const user = parseUserName(text(row.userid));
              return user === null ? [] : [[formatUserName(user), userData(user, row)]];
            }),
          );
    },

    async getGroup({ id, realm }) {
      // PVE's groups belong to no realm, so this one is another backend's.
      if (realm !== undefined || !isPveName(id)) return null;
      const data = await read(call('GET', '/access/groups/{}', [id]));
      return isObject(data) ? groupData(id, names(data.members)) : null;
    },

    async getAllGroups() {
      const rows = rowsOf(await read(call('GET', '/access/groups')));
      return rows === null
        ? null
        : Object.fromEntries(rows.map((row) => [text(row.groupid), groupData(text(row.groupid), names(row.users))]));
    },

    // PVE refuses to tell of users who are not there as if the right were missing, but not of groups.
    async membersOf({ id, realm }): Promise<readonly UserName[]> {
      if (realm !== undefined || !isPveName(id)) return [];
      const data = await read(call('GET', '/access/groups/{}', [id]), { certain: true });
      return isObject(data) ? names(data.members).flatMap((name) => parseUserName(name) ?? []) : [];
    },

    // PVE keeps passwords of its own users and of the nodes' alone; its other realms ask another server.
    async keepsPassword({ realm }) {
      const rows = rowsOf(await read(call('GET', '/access/domains'))) ?? [];
      const type = text(rows.find((row) => row.realm === realm)?.type);
      return type === 'pve' || type === 'pam' || type === '';
    },

    check(change) {
      const profile = 'attributes' in change && 'user' in change ? profileIn(change) : null;
      return profile === null || isForm(profile) ? null : profile;
    },

    async addUser(user, attributes, requester): Promise<BackendResult> {
      const { userpassword: password } = attributes;
      const profile = profileIn({ method: 'addUser', user, attributes });
      if (!isForm(profile)) return profile;
      const secret = typeof password === 'string' ? { password } : {};
      const form = { userid: formatUserName(user), ...profile.form, ...secret };
      return changed(call('POST', '/access/users', [], form), requester);
    },

    async delUser(user, requester): Promise<BackendResult> {
      const name = formatUserName(user);
      return isPveName(name) ? changed(call('DELETE', '/access/users/{}', [name]), requester) : nothingNamed(name);
    },

    async addGroup({ id, realm }, _attributes, requester): Promise<BackendResult> {
      if (realm !== undefined || !isPveName(id)) return nothingNamed(id);
      return changed(call('POST', '/access/groups', [], { groupid: id }), requester);
    },

    async delGroup({ id, realm }, requester): Promise<BackendResult> {
      if (realm !== undefined || !isPveName(id)) return nothingNamed(id);
      return changed(call('DELETE', '/access/groups/{}', [id]), requester);
    },

    addUserToGroup: (user, group, requester) => changeMember(user, group, requester, true),
    delUserFromGroup: (user, group, requester) => changeMember(user, group, requester, false),

    async setUser(user, attributes, requester): Promise<BackendResult> {
      const { userpassword: password, oldpassword: old } = attributes;
      const profile = profileIn({ method: 'setUser', user, attributes });
      if (!isForm(profile)) return profile;
      const name = formatUserName(user);
      if (password === undefined)
        return isPveName(name)
          ? changed(call('PUT', '/access/users/{}', [name], profile.form), requester)
          : nothingNamed(name);
      const session = credentialIn(requester);
      if (session === null) return refusal(401, 'Sign in to change the password');
      const change = (params: Readonly<Record<string, string>>): Promise<Answer> =>
        upstream.send(
          call('PUT', '/access/password', [], { userid: name, password: text(password), ...params }),
          session,
        );
      const answer = await change({ 'confirmation-password': text(old) });
      // PVE 7 knows no such parameter, and refuses the call for it before it does anything.
      const unknown = /not defined in schema/.test(answer.errors?.['confirmation-password'] ?? '');
      return resultOf(unknown ? await change({}) : answer);
    },
  };
}

function sessionOf(question: Call, answer: Answer): BackendResult {
  const { NeedTFA, ticket, CSRFPreventionToken: csrf, username } = isObject(answer.data) ? answer.data : {};
  if (NeedTFA)
    return refusal(
      401,
      'This user has a second factor, which this sign-in cannot ask for. Sign in to PVE itself, or use an API token.',
    );
  if (typeof ticket !== 'string' || typeof csrf !== 'string' || typeof username !== 'string')
    throw unexpected(question, answer);
  const cookie = (name: string, value: string) => ({ name, value, expiresMSFromNow: sessionLength });
  return {
    ok: true,
    status: 200,
    message: '',
    username,
    cookies: [cookie('PVEAuthCookie', ticket), cookie('CSRFPreventionToken', csrf)],
  };
}

function credentialIn({ cookies, token }: Requester): Credential | null {
  if (token !== undefined) return { kind: 'token', token };
  const { PVEAuthCookie: ticket, CSRFPreventionToken: csrf } = cookies;
  return ticket === undefined || csrf === undefined ? null : { kind: 'ticket', ticket, csrf };
}

/** PVE's own fields for what a user is called; what it has no field for is refused, and a password where PVE would not take it so. */
function profileIn({
  method,
  user: { id },
  attributes,
}: Extract<BackendChange, { readonly user: UserName; readonly attributes: object }>):
  | { readonly form: Form }
  | BackendResult {
  const { cn, sn, mail, userpassword: password, oldpassword: old, ...others } = attributes;
  const [other] = Object.keys(others);
  if (other !== undefined) return refusal(501, `PVE has no field for '${other}' of a user`);
  if (method === 'setUser' && [cn, sn, mail].every((value) => value === undefined)) {
    if (typeof password !== 'string') return refusal(400, 'userpassword: the new password is missing');
    if (typeof old !== 'string')
      return refusal(
        501,
        'PVE asks for the current password to set a new one, and this form does not send it. Change the password in the PVE interface.',
      );
  } else if (method === 'setUser' && password !== undefined)
    return refusal(501, 'PVE changes a password by itself alone');
  const [full, last] = [text(cn), text(sn)];
  // As it is told: the first name, then the last one, and the user's own name for want of both.
  const first = full.endsWith(` ${last}`) ? full.slice(0, full.length - last.length - 1) : full === id ? '' : full;
  return {
    form: {
      ...(cn === undefined ? {} : { firstname: first }),
      ...(sn === undefined ? {} : { lastname: last }),
      ...(mail === undefined ? {} : { email: text(mail) }),
    },
  };
}

type Form = Readonly<Record<string, string>>;

function isForm(profile: { readonly form: Form } | BackendResult): profile is { readonly form: Form } {
  return 'form' in profile;
}

function nothingNamed(name: string): BackendResult {
  return refusal(404, `${name} does not exist in PVE`);
}

function refusal(status: number, message: string): BackendResult {
  return { ok: false, status, message };
}

function resultOf(answer: Answer): BackendResult {
  if (succeeded(answer)) return { ok: true, status: 200, message: '' };
  // The realm is a directory's: PVE signs its users in there, and stores nothing of them.
  if (/can't set password on auth type/.test(answer.reason)) return refusal(501, answer.reason);
  const faults = Object.entries(answer.errors ?? {}).map(([field, problem]) => `${field}: ${problem.trim()}`);
  return refusal(answer.status, [answer.reason, ...faults].join(' '));
}

function unexpected(question: Call, { status, reason }: Answer): UpstreamBrokenError {
  return new UpstreamBrokenError(`PVE answered ${status} ${reason} to ${describeCall(question)}`);
}

function userData({ id }: UserName, row: Readonly<Record<string, unknown>>): BackendData {
  const sn = text(row.lastname);
  const cn = [text(row.firstname), sn].filter((part) => part !== '').join(' ');
  const attributes = {
    cn: cn === '' ? id : cn,
    sn,
    mail: text(row.email),
    uid: id,
    memberOf: names(row.groups).map((group) => `cn=${group}`),
  };
  return { attributes };
}

function groupData(id: string, members: readonly string[]): BackendData {
  return { attributes: { cn: id, member: members.map((member) => `uid=${member}`) } };
}

/** Names of groups or members, which PVE lists as an array for one and as a comma-separated text for many. */
function names(value: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : text(value).split(',');
  return list.map(text).filter((name) => name !== '');
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function rowsOf(value: unknown): readonly Readonly<Record<string, unknown>>[] | null {
  return Array.isArray(value) ? value.filter(isObject) : null;
}

/** Whether PVE could hold this name at all; it is not asked about any other. */
function isPveName(name: string): boolean {
  return name.isWellFormed() && !/^\.{1,2}$|[\s:/\p{Cc}]/u.test(name) && name !== '';
}
