/** Users, their groups and their tokens. */

import type { Access, Group, Token, User } from '../access.ts';
import { authUser } from '../call.ts';
import type { Check, Context, MethodRow, Schema } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { flag, integer, named, text, textOf } from '../parameters.ts';
import { PveError, parameterError } from '../pve-error.ts';

/** A user's id where a method takes one. */
export const userid: Schema = { type: 'string', format: 'pve-userid', maxLength: 64 };
/** A password that is being set. */
export const newPassword: Schema = { type: 'string', minLength: 8, maxLength: 64 };

const tokenid: Schema = { type: 'string', pattern: '[A-Za-z][A-Za-z0-9.\\-_]+' };
const atMost = (maxLength: number): Schema => ({ type: 'string', optional: true, maxLength });
const profile: Readonly<Record<string, Schema>> = {
  comment: atMost(2048),
  email: { type: 'string', optional: true, format: 'email-opt', maxLength: 254 },
  enable: flag,
  expire: integer(0),
  firstname: atMost(1024),
  keys: { type: 'string', optional: true, pattern: '[0-9a-zA-Z!=]{0,4096}' },
  lastname: atMost(1024),
};

const ownOrUserModify: Check = ['or', ['userid-param', 'self'], ['userid-group', ['User.Modify']]];
const groupAllocate = { check: ['perm', '/access/groups', ['Group.Allocate']] };

export const userMethods: readonly MethodRow[] = [
  { method: 'GET', path: '/access/groups', permissions: { user: 'all' }, parameters: {}, run: readGroups },
  {
    method: 'POST',
    path: '/access/groups',
    permissions: groupAllocate,
    parameters: { comment: text, groupid: { type: 'string', format: 'pve-groupid' } },
    run({ cluster, param }) {
      const groupid = String(param.groupid);
      if (cluster.access.groups.has(groupid)) throw new PveError(500, `group '${groupid}' already exists`);
      cluster.access.addGroup(groupid, [], textOf(param.comment));
    },
  },
  {
    method: 'GET',
    path: '/access/groups/{groupid}',
    permissions: { check: ['perm', '/access/groups', ['Sys.Audit', 'Group.Allocate'], 'any', 1] },
    parameters: {},
    run({ cluster, param }) {
      const { comment, members } = existingGroup(cluster.access, String(param.groupid));
      return { members: [...members], ...(comment === undefined ? {} : { comment }) };
    },
  },
  {
    method: 'PUT',
    path: '/access/groups/{groupid}',
    permissions: groupAllocate,
    parameters: { comment: text },
    run({ cluster, param }) {
      const { groupid } = existingGroup(cluster.access, String(param.groupid));
      cluster.access.addGroup(groupid, [], textOf(param.comment));
    },
  },
  {
    method: 'DELETE',
    path: '/access/groups/{groupid}',
    permissions: groupAllocate,
    parameters: {},
    run: ({ cluster, param }) =>
      cluster.access.removeGroup(existingGroup(cluster.access, String(param.groupid)).groupid),
  },
  {
    method: 'GET',
    path: '/access/users',
    permissions: { user: 'all' },
    parameters: { enabled: flag, full: flag },
    run: readUsers,
  },
  {
    method: 'POST',
    path: '/access/users',
    permissions: {
      check: [
        'and',
        ['userid-param', 'Realm.AllocateUser'],
        ['userid-group', ['User.Modify'], 'groups_param', 'create'],
      ],
    },
    parameters: {
      ...profile,
      groups: named('pve-groupid-list'),
      password: { ...newPassword, optional: true },
      userid,
    },
    run: createUser,
  },
  {
    method: 'GET',
    path: '/access/users/{userid}',
    permissions: { check: ['userid-group', ['User.Modify', 'Sys.Audit']] },
    parameters: {},
    run({ cluster, param }) {
      const user = cluster.access.user(String(param.userid));
      const tokens = [...user.tokens.values()].map((token) => [token.tokenid, tokenInfo(token)]);
      return {
        ...profileOf(user),
        groups: cluster.access.groupsOf(user.userid),
        ...(tokens.length > 0 ? { tokens: Object.fromEntries(tokens) } : {}),
      };
    },
  },
  {
    method: 'PUT',
    path: '/access/users/{userid}',
    permissions: { check: ['userid-group', ['User.Modify'], 'groups_param', 'update'] },
    parameters: { ...profile, append: { ...flag, requires: 'groups' }, groups: named('pve-groupid-list') },
    run: updateUser,
  },
  {
    method: 'DELETE',
    path: '/access/users/{userid}',
    permissions: {
      check: ['and', ['userid-param', 'Realm.AllocateUser'], ['userid-group', ['User.Modify']]],
    },
    parameters: {},
    run: ({ cluster, param }) => cluster.access.removeUser(cluster.access.user(String(param.userid)).userid),
  },
  {
    method: 'GET',
    path: '/access/users/{userid}/token',
    permissions: { check: ownOrUserModify },
    parameters: {},
    run: ({ cluster, param }) =>
      [...cluster.access.user(String(param.userid)).tokens.values()].map((token) => ({
        tokenid: token.tokenid,
        ...tokenInfo(token),
      })),
  },
  {
    method: 'GET',
    path: '/access/users/{userid}/token/{tokenid}',
    permissions: { check: ownOrUserModify },
    parameters: { tokenid },
    run: (context) => tokenInfo(existingToken(context)),
  },
  {
    method: 'POST',
    path: '/access/users/{userid}/token/{tokenid}',
    permissions: { check: ownOrUserModify },
    parameters: { comment: text, expire: integer(0), privsep: flag, tokenid },
    run: createToken,
  },
  {
    method: 'PUT',
    path: '/access/users/{userid}/token/{tokenid}',
    permissions: { check: ownOrUserModify },
    parameters: {
      comment: text,
      delete: named('pve-configid-list'),
      expire: integer(0),
      privsep: flag,
      regenerate: flag,
      tokenid,
    },
    run: updateToken,
  },
  {
    method: 'PUT',
    path: '/access/users/{userid}/unlock-tfa',
    permissions: { check: ['userid-group', ['User.Modify']] },
    parameters: {},
    run({ cluster, param }) {
      cluster.access.user(String(param.userid));
      // Nobody is ever locked out here, so nobody was before.
      return 0;
    },
  },
  {
    method: 'DELETE',
    path: '/access/users/{userid}/token/{tokenid}',
    permissions: { check: ownOrUserModify },
    parameters: { tokenid },
    run: (context) => context.cluster.access.removeToken(String(context.param.userid), existingToken(context).tokenid),
  },
];

/** The group of that name; throws when there is none. */
export function existingGroup(access: Access, groupid: string): Group {
  const group = access.groups.get(groupid);
  if (group === undefined) throw new PveError(500, `group '${groupid}' does not exist`);
  return group;
}

/** Refuses to keep a password for a user whose realm asks another server for it. */
export function demandOwnPasswords(access: Access, id: string): void {
  const type = access.realmOf(id)?.type;
  if (type !== 'pve' && type !== 'pam') throw new PveError(500, `can't change password on auth type '${type}'`);
}

function readGroups({ cluster: { access }, caller }: Context): unknown {
  const wanted = ['User.Modify', 'Sys.Audit', 'Group.Allocate'];
  return [...access.groups.values()]
    .filter(({ groupid }) => access.check(caller, `/access/groups/${groupid}`, wanted, true))
    .map(({ groupid, comment, members }) => ({
      ...{ groupid, users: [...members].join(',') },
      ...(comment === undefined ? {} : { comment }),
    }));
}

/** Oneself, and the members of groups on which one has a privilege over users. */
function readUsers({ cluster: { access }, caller, param }: Context): unknown {
  const wanted = ['User.Modify', 'Sys.Audit'];
  const seesAll = access.check(caller, '/access/groups', wanted, true);
  const seesGroup = (group: string) => access.check(caller, `/access/groups/${group}`, wanted, true);
  const sees = ({ userid }: User) => seesAll || userid === authUser(caller) || access.groupsOf(userid).some(seesGroup);
  return [...access.users.values()]
    .filter((user) => sees(user) && (param.enabled === undefined || user.enable === (param.enabled === 1)))
    .map((user) => {
      const realm = access.realmOf(user.userid);
      const tokens = [...user.tokens.values()].map((token) => ({ tokenid: token.tokenid, ...tokenInfo(token) }));
      const more = { groups: access.groupsOf(user.userid).join(','), tokens };
      return {
        ...{ userid: user.userid, 'realm-type': realm?.type },
        ...profileOf(user),
        ...(param.full ? more : {}),
      };
    });
}

function createUser({ cluster: { access }, param }: Context): void {
  const id = String(param.userid);
  if (access.users.has(id)) throw new PveError(500, `create user failed: user '${id}' already exists`);
  if (access.realmOf(id) === undefined) throw new PveError(500, `create user failed: realm of '${id}' does not exist`);
  const groups = splitList(param.groups);
  for (const group of groups) existingGroup(access, group);
  const password = textOf(param.password);
  if (password !== undefined) demandOwnPasswords(access, id);
  access.addUser(id, { ...profileIn(param), groups, ...(password === undefined ? {} : { password }) });
}

function updateUser({ cluster: { access }, param }: Context): void {
  const user = Object.assign(access.user(String(param.userid)), profileIn(param));
  if (param.groups === undefined) return;
  const groups = splitList(param.groups);
  for (const group of groups) existingGroup(access, group);
  const left = param.append ? [] : access.groupsOf(user.userid).filter((group) => !groups.includes(group));
  for (const group of left) access.removeFromGroup(group, user.userid);
  for (const group of groups) access.addGroup(group, [user.userid]);
}

function createToken({ cluster: { access }, param }: Context): unknown {
  const [userid, id] = [String(param.userid), String(param.tokenid)];
  if (access.user(userid).tokens.has(id)) throw parameterError({ tokenid: 'Token already exists.' });
  const comment = textOf(param.comment);
  const expire = Number(param.expire ?? access.user(userid).expire);
  const privsep = param.privsep !== 0;
  const value = access.addToken(userid, id, { expire, privsep, ...(comment === undefined ? {} : { comment }) });
  const info = { expire, privsep: privsep ? 1 : 0, ...(comment === undefined ? {} : { comment }) };
  return { 'full-tokenid': `${userid}!${id}`, info, value };
}

const deletable = ['comment', 'expire', 'privsep'];

/** The secret stays unless a new one is asked for; only then it is shown. */
function updateToken(context: Context): unknown {
  const { cluster, param } = context;
  const { access } = cluster;
  const id = String(param.userid);
  const before = existingToken(context);
  const removed = splitList(param.delete);
  const unknown = removed.find((key) => !deletable.includes(key));
  if (unknown !== undefined) throw parameterError({ delete: `no such property '${unknown}'` });
  const value = <Kind>(key: string, given: Kind | undefined, now: Kind | undefined) =>
    given ?? (removed.includes(key) ? undefined : now);
  const comment = value('comment', textOf(param.comment), before.comment);
  const privsep = param.privsep === undefined ? undefined : param.privsep === 1;
  const token = {
    expire: value('expire', param.expire as number | undefined, before.expire) ?? 0,
    privsep: value('privsep', privsep, before.privsep) ?? true,
    ...(comment === undefined ? {} : { comment }),
  };
  const secret = access.addToken(id, before.tokenid, {
    ...token,
    ...(param.regenerate ? {} : { secret: before.secret }),
  });
  const shown = tokenInfo({ ...token, tokenid: before.tokenid, secret });
  return param.regenerate ? { ...shown, 'full-tokenid': `${id}!${before.tokenid}`, value: secret } : shown;
}

function existingToken({ cluster: { access }, param }: Context): Token {
  const [userid, id] = [String(param.userid), String(param.tokenid)];
  const token = access.user(userid).tokens.get(id);
  if (token === undefined) throw new PveError(500, `no such token '${id}' for user '${userid}'`);
  return token;
}

function tokenInfo({ privsep, expire, comment }: Token) {
  return { privsep: privsep ? 1 : 0, expire, ...(comment === undefined ? {} : { comment }) };
}

function profileOf({ enable, expire, firstname, lastname, email, comment, keys }: User) {
  const texts = Object.entries({ firstname, lastname, email, comment, keys });
  return {
    ...{ enable: enable ? 1 : 0, expire },
    ...Object.fromEntries(texts.filter(([, value]) => value !== undefined)),
  };
}

function profileIn(param: Context['param']): Partial<User> {
  const given = Object.keys(profile).filter((key) => param[key] !== undefined);
  return Object.fromEntries(given.map((key) => [key, key === 'enable' ? param.enable === 1 : param[key]]));
}
