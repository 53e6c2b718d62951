/** Changing users, groups and members: for administrators. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from '../../admission/gate.ts';
import {
  type BackendChange,
  formatGroupName,
  formatUserName,
  type GroupName,
  isGroupName,
  parseGroupName,
  parseUserName,
  type UserName,
} from '../../backends/backend.ts';
import type { ChangeResult } from '../../backends/changes.ts';
import { grantKeys } from '../../backends/index.ts';
import { faultsOfNames, normaliseRecord } from '../../backends/normalise.ts';
import { BadRequestError, ForbiddenError, NotFoundError, NotReadyError } from '../../errors.ts';
import { isObject } from '../../json.ts';
import type { Resources } from '../../quota/resources.ts';
import { fits } from '../../schema.ts';
import { masked } from '../../secret.ts';
import { plainText } from '../edge.ts';
import { type Field, flag, matching, optional, password, readForm } from './fields.ts';
import { becomeOf, described, estateOf, isEmpty, type Leaving } from './leaving.ts';
import { administers, mustHaveSignedIn, requesterOf, userIn } from './people.ts';
import type { Surface } from './surface.ts';

type UserParams = { Params: { username: string } };
type GroupParams = { Params: { groupname: string } };
type MemberParams = { Params: { groupname: string; username: string } };

/** The changing methods of `/access/users/...` and `/access/groups/...`: POST makes, PUT changes, DELETE removes. */
export function peopleChangeRoutes({ app, rooms, identify }: Surface): void {
  const { config, directory, inventory, payers, signInLimit } = rooms;

  for (const [verb, method] of [
    ['post', 'addUser'],
    ['put', 'setUser'],
  ] as const) {
    app[verb]<UserParams>('/access/users/:username', async (request, reply) => {
      const caller = await administrator(request);
      const user = userIn(request.params.username);
      const form = readForm(request.body, userFields);
      const { password: userpassword, ...others } = form;
      const attributes = given({ ...others, userpassword });
      if (method === 'setUser' && Object.keys(attributes).every((key) => key === 'oldpassword'))
        throw nothingGiven(userFields);
      if (method === 'setUser' && userpassword !== null) mustHaveSignedIn(caller);
      mustBeRecord(attributes, config.resources);
      // Whoever has taken over a session must not find the administrator's password out by trying.
      const forgive = form.oldpassword === null ? () => {} : signInLimit.attempt(caller.user, request.ip);
      const result = await make({ method, user, attributes }, caller, request).catch((error: unknown) => {
        forgive();
        throw error;
      });
      if (result.ok || result.status >= 500) forgive();
      return answer(reply, result);
    });
  }

  app.delete<UserParams>('/access/users/:username', async (request, reply) => {
    const caller = await administrator(request);
    const user = userIn(request.params.username);
    const name = formatUserName(user);
    const leaving = await leavingIn(request, user, caller);
    if (!inventory.ready)
      throw new NotReadyError('the server is still reading what the cluster holds; try again in a moment', 2);
    await payers.refresh();
    const owned = estateOf(rooms.ledger, name);
    if (!isEmpty(owned) && leaving === null) {
      const error = `${name} owns ${described(owned)}; say who shall have them (reassign=bob@pve), or leave=1 to leave them without an owner`;
      return reply.code(409).send({ error: plainText(error), ...owned });
    }
    const result = await make({ method: 'delUser', user }, caller, request).catch((error: unknown) => {
      // Whose answer was lost, or who was deleted in PVE itself, may still own something.
      if (error instanceof NotFoundError && !isEmpty(owned)) return goneAlready;
      throw error;
    });
    if (!result.ok) return answer(reply, result);
    rooms.sockets.endOf(name);
    const instances = await becomeOf(rooms, name, owned, leaving);
    const { to, above = [] } = instances;
    const resources = [...new Set(above.map(({ resource }) => resource))].join(', ');
    const warning = `${to} is above the limit of ${resources} now, and gets no more of it until less is held`;
    return answer(reply, result, { instances, ...(above.length === 0 ? {} : { warning: plainText(warning) }) });
  });

  for (const [verb, method] of [
    ['post', 'addGroup'],
    ['put', 'setGroup'],
  ] as const) {
    app[verb]<GroupParams>('/access/groups/:groupname', async (request, reply) => {
      const caller = await administrator(request);
      const group = groupIn(request.params.groupname);
      const attributes = given(readForm(request.body, grantFields));
      if (method === 'setGroup' && Object.keys(attributes).length === 0) throw nothingGiven(grantFields);
      mustBeRecord(attributes, config.resources);
      const isIdle = Object.keys(attributes).length > 0 && !directory.counts(group);
      const warning = `handlers.users.groups does not name ${formatGroupName(group)}, so its limits count for nobody`;
      const result = await make({ method, group, attributes }, caller, request);
      return answer(reply, result, isIdle ? { warning: plainText(warning) } : {});
    });
  }

  app.delete<GroupParams>('/access/groups/:groupname', async (request, reply) => {
    const caller = await administrator(request);
    const group = groupIn(request.params.groupname);
    readForm(request.body, {});
    return answer(reply, await make({ method: 'delGroup', group }, caller, request));
  });

  for (const [verb, method] of [
    ['post', 'addUserToGroup'],
    ['delete', 'delUserFromGroup'],
  ] as const) {
    app[verb]<MemberParams>('/access/groups/:groupname/members/:username', async (request, reply) => {
      const caller = await administrator(request);
      const group = groupIn(request.params.groupname);
      const user = userIn(request.params.username);
      readForm(request.body, {});
      return answer(reply, await make({ method, user, group }, caller, request));
    });
  }

  async function administrator(request: FastifyRequest): Promise<Caller> {
    const caller = await identify(request);
    if (!caller.record.cluster.admin) throw new ForbiddenError('Only administrators change users and groups');
    if (!(await administers(rooms, caller, ['User.Modify'])))
      throw new ForbiddenError('The API token has no User.Modify on /access in PVE, so it changes no users and groups');
    return caller;
  }

  /** Who gave which limits and grants, the log alone shows later. */
  async function make(change: BackendChange, caller: Caller, request: FastifyRequest): Promise<ChangeResult> {
    const result = await directory.change(change, requesterOf(caller, request));
    const { user: by } = caller;
    rooms.log.info(
      { by, address: request.ip, change: masked(change), status: result.status },
      result.ok ? 'a user or group was changed' : 'a change of users or groups failed',
    );
    return result;
  }

  /** What shall become of the user's instances; null when the request does not say. */
  async function leavingIn(request: FastifyRequest, user: UserName, caller: Caller): Promise<Leaving | null> {
    const { reassign, leave } = readForm(request.body ?? {}, leavingFields);
    const leaves = leave === '1';
    if (reassign !== null && leaves)
      throw new BadRequestError({ field: 'leave', problem: 'give either this or reassign' });
    if (reassign === null) return leaves ? { kind: 'leave' } : null;
    const heir = parseUserName(reassign);
    const known = heir === null ? null : await directory.getUser(heir, requesterOf(caller, request));
    if (heir === null || known === null || reassign === formatUserName(user))
      throw new BadRequestError({ field: 'reassign', problem: `expected another user who exists, got ${reassign}` });
    return { kind: 'reassign', to: reassign, waived: known.cluster.admin };
  }
}

/** An object as JSON, in the form that records have in the database. */
const recordPart: Field<Readonly<Record<string, unknown>>> = {
  expected: 'an object as JSON',
  read: (text) => {
    try {
      const value: unknown = JSON.parse(text);
      return isObject(value) ? value : undefined;
    } catch {
      return undefined;
    }
  },
};

const line = optional(matching(/^.{1,256}$/u, 'a text of at most 256 characters on one line'));

const grantFields = {
  resources: optional(recordPart),
  cluster: optional(recordPart),
  templates: optional(recordPart),
};

const userFields = {
  cn: line,
  sn: line,
  mail: optional(matching(/^[^\s@]{1,64}@[^\s@]{1,190}$/u, 'a mail address')),
  password: optional(password),
  oldpassword: optional(password),
  ...grantFields,
};

const leavingFields = {
  reassign: optional(matching(/^.{1,64}$/u, 'a user such as bob@pve')),
  leave: optional(flag),
};

const goneAlready: ChangeResult = { ok: true, status: 200, message: 'the user was gone already', allResponses: [] };

/** The fields that say something. */
function given(form: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(form).filter(([, value]) => value !== null));
}

function nothingGiven(fields: object): BadRequestError {
  return new BadRequestError({
    field: 'body',
    problem: `nothing is to be changed; the fields are ${Object.keys(fields).join(', ')}`,
  });
}

/** Throws BadRequestError for what is no record, and for limits that would have no effect. */
function mustBeRecord(attributes: Readonly<Record<string, unknown>>, resources: Resources): void {
  const grants = Object.entries(attributes).filter(([key]) => (grantKeys as readonly string[]).includes(key));
  const checked = normaliseRecord(Object.fromEntries(grants), resources);
  const faults = fits(checked) ? faultsOfNames(checked.value, resources) : checked.faults;
  if (faults.length > 0) throw new BadRequestError(faults);
}

/** The group that a path names; throws BadRequestError for what cannot be one. */
function groupIn(text: string): GroupName {
  if (!isGroupName(text))
    throw new BadRequestError({ field: 'groupname', problem: 'expected a name such as lab@pve or students@ldap' });
  return parseGroupName(text);
}

function answer(reply: FastifyReply, result: ChangeResult, more: object = {}) {
  const status = result.ok ? 200 : result.status >= 400 && result.status <= 599 ? result.status : 502;
  const error = result.ok ? {} : { error: plainText(result.message) };
  return reply.code(status).send({ ...result, status, ...more, ...error });
}
