/** Users and groups as the backends know them, and a user's own password. */

import type { FastifyRequest } from 'fastify';
import { holds } from '../../admission/access.ts';
import type { Caller } from '../../admission/gate.ts';
import {
  formatUserName,
  type GroupName,
  parseGroupName,
  parseUserName,
  type Requester,
  type UserName,
} from '../../backends/backend.ts';
import type { RecordPatch } from '../../backends/normalise.ts';
import { BadRequestError, ForbiddenError } from '../../errors.ts';
import type { UserRecord } from '../../quota/record.ts';
import type { Resources } from '../../quota/resources.ts';
import { nameOf } from '../caller.ts';
import { readCookies } from '../cookies.ts';
import { plainText } from '../edge.ts';
import type { Rooms } from '../rooms.ts';
import { optional, password, readForm } from './fields.ts';
import { quotaTable } from './quota-table.ts';
import type { Surface } from './surface.ts';
import { grantsOf } from './user.ts';

/** `/access/users`, `/access/groups` and `/access/password`. */
export function peopleRoutes({ app, rooms, identify }: Surface): void {
  const { config, directory, signInLimit } = rooms;

  app.get('/access/users', async (request) => {
    const caller = await identify(request);
    const users = (await seesAll(caller))
      ? await directory.getAllUsers(requesterOf(caller, request))
      : await themselves(caller, request);
    return {
      users: Object.fromEntries([...users].map(([name, record]) => [name, shownUser(record, config.resources)])),
    };
  });

  app.get<{ Params: { username: string }; Querystring: { explain?: unknown } }>(
    '/access/users/:username',
    async (request) => {
      const caller = await identify(request);
      const name = userIn(request.params.username);
      const { explain = '0' } = request.query;
      if (explain !== '0' && explain !== '1')
        throw new BadRequestError({ field: 'explain', problem: 'expected 0 or 1' });
      if (formatUserName(name) !== caller.user && !(await seesAll(caller)))
        return explain === '0' ? { user: {} } : { user: {}, explain: [], own: {} };
      const requester = requesterOf(caller, request);
      const record = await directory.getUser(name, requester);
      const user = record === null ? {} : shownUser(record, config.resources);
      if (explain === '0') return { user };
      const [explained, own] = await Promise.all([
        directory.explain(name, requester),
        directory.ownOf(name, requester),
      ]);
      return { user, explain: explained ?? [], own: own ?? {} };
    },
  );

  app.get('/access/groups', async (request) => {
    const caller = await identify(request);
    const groups = (await seesAll(caller)) ? await directory.getAllGroups(requesterOf(caller, request)) : [];
    return {
      groups: Object.fromEntries([...groups].map(([name, data]) => [name, shownGroup(parseGroupName(name), data)])),
    };
  });

  app.get<{ Params: { groupname: string } }>('/access/groups/:groupname', async (request) => {
    const caller = await identify(request);
    const group = parseGroupName(request.params.groupname);
    const data = (await seesAll(caller)) ? await directory.getGroup(group, requesterOf(caller, request)) : null;
    return { group: data === null ? {} : shownGroup(group, data) };
  });

  app.post('/access/password', async (request, reply) => {
    const caller = await identify(request);
    mustHaveSignedIn(caller);
    const { password: wanted, oldpassword } = readForm(request.body, newPassword);
    const old = oldpassword === null ? {} : { oldpassword };
    // Whoever has taken over a session must not find the password out by trying.
    const forgive = old.oldpassword === undefined ? () => {} : signInLimit.attempt(caller.user, request.ip);
    const result = await directory
      .setPassword(nameOf(caller.user), wanted, old, requesterOf(caller, request))
      .catch((error: unknown) => {
        forgive();
        throw error;
      });
    const { ok, status, message } = result;
    if (ok || status >= 500) forgive();
    return reply.code(status).send({ ...result, ...(ok ? {} : { error: plainText(message) }) });
  });

  const seesAll = (caller: Caller) => administers(rooms, caller, ['Sys.Audit', 'User.Modify']);

  async function themselves(caller: Caller, request: FastifyRequest): Promise<ReadonlyMap<string, UserRecord>> {
    const record = await directory.getUser(nameOf(caller.user), requesterOf(caller, request));
    return new Map(record === null ? [] : [[caller.user, record]]);
  }
}

const newPassword = { password, oldpassword: optional(password) };

/** The user whom a path names; throws BadRequestError for what cannot be a name. */
export function userIn(text: string): UserName {
  const name = parseUserName(text);
  if (name === null) throw new BadRequestError({ field: 'username', problem: 'expected a name such as alice@pve' });
  return name;
}

/** The caller as backends see them: with the cookies of their sessions at other services. */
export function requesterOf({ user, credential }: Caller, { headers }: FastifyRequest): Requester {
  const token = credential.kind === 'token' ? { token: credential.token } : {};
  return { username: user, cookies: readCookies(headers.cookie), ...token };
}

/** Whether the caller administers users: by their record and, since an API token may be narrower, by one of these that PVE grants it. */
export async function administers(
  { upstream }: Pick<Rooms, 'upstream'>,
  caller: Caller,
  privileges: readonly string[],
): Promise<boolean> {
  if (!caller.record.cluster.admin || caller.credential.kind !== 'token') return caller.record.cluster.admin;
  for (const privilege of privileges) if (await holds(upstream, caller, '/access', privilege)) return true;
  return false;
}

/** PVE lets no API token change passwords, since it may be narrower than its user. Throws ForbiddenError for one. */
export function mustHaveSignedIn({ credential }: Caller): void {
  if (credential.kind === 'token') throw new ForbiddenError('An API token changes no password: sign in instead');
}

/** A record in the shape that pages for administrators read, whatever the backends left out. */
function shownUser(record: UserRecord, resources: Resources): Readonly<Record<string, unknown>> {
  return { ...record, resources: quotaTable(record, resources), cluster: grantsOf(record.cluster) };
}

/** A group with the name and the list of members that pages look for in any. */
function shownGroup({ id }: GroupName, { dn = `cn=${id}`, attributes, ...data }: RecordPatch): RecordPatch {
  return { dn, attributes: { cn: id, member: [], ...attributes }, ...data };
}
