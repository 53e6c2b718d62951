/** Reading and changing who may do what: permissions, access control lists, roles, realms. */

import { type Access, normalisePath, permissionError, splitTokenId } from '../access.ts';
import { authUser, type Caller } from '../call.ts';
import type { Context, MethodRow } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { flag, named, text, textOf } from '../parameters.ts';
import { demandRightToAsk, mayModifyPermissions } from '../permission.ts';
import { PveError, parameterError } from '../pve-error.ts';
import { builtInRoles } from '../roles.ts';
import { existingGroup } from './users.ts';

const roleModify = { check: ['perm', '/access', ['Sys.Modify']] };

export const accessMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/access',
    permissions: { user: 'all' },
    parameters: {},
    run: () =>
      ['acl', 'domains', 'groups', 'password', 'permissions', 'roles', 'tfa', 'ticket', 'users'].map((subdir) => ({
        subdir,
      })),
  },
  {
    method: 'GET',
    path: '/access/permissions',
    permissions: { user: 'all' },
    parameters: {
      path: text,
      userid: { type: 'string', optional: true, pattern: '[^\\s:/]+@[A-Za-z][\\w.\\-]+(![A-Za-z][\\w.\\-]+)?' },
    },
    run: readPermissions,
  },
  { method: 'GET', path: '/access/acl', permissions: { user: 'all' }, parameters: {}, run: readAcl },
  {
    method: 'PUT',
    path: '/access/acl',
    permissions: { check: ['perm-modify', '{path}'] },
    parameters: {
      delete: flag,
      groups: named('pve-groupid-list'),
      path: { type: 'string' },
      propagate: flag,
      roles: { type: 'string', format: 'pve-roleid-list' },
      tokens: named('pve-tokenid-list'),
      users: named('pve-userid-list'),
    },
    run: writeAcl,
  },
  {
    method: 'GET',
    path: '/access/roles',
    permissions: { user: 'all' },
    parameters: {},
    run: ({ cluster }) =>
      [...cluster.access.roles].map(([roleid, held]) => ({
        ...{ roleid, privs: [...held].sort().join(',') },
        special: builtInRoles.has(roleid) ? 1 : 0,
      })),
  },
  {
    method: 'POST',
    path: '/access/roles',
    permissions: roleModify,
    parameters: { privs: named('pve-priv-list'), roleid: { type: 'string', format: 'pve-roleid' } },
    run({ cluster, param }) {
      const roleid = String(param.roleid);
      if (cluster.access.roles.has(roleid)) throw new PveError(500, `role '${roleid}' already exists`);
      cluster.access.addRole(roleid, splitList(param.privs));
    },
  },
  {
    method: 'GET',
    path: '/access/roles/{roleid}',
    permissions: { user: 'all' },
    parameters: {},
    run: ({ cluster, param }) =>
      Object.fromEntries([...existingRole(cluster.access, String(param.roleid))].map((held) => [held, 1])),
  },
  {
    method: 'PUT',
    path: '/access/roles/{roleid}',
    permissions: roleModify,
    parameters: { append: { ...flag, requires: 'privs' }, privs: named('pve-priv-list') },
    run({ cluster, param }) {
      const roleid = ownRole(cluster.access, String(param.roleid));
      const kept = param.append ? existingRole(cluster.access, roleid) : [];
      cluster.access.addRole(roleid, [...kept, ...splitList(param.privs)]);
    },
  },
  {
    method: 'DELETE',
    path: '/access/roles/{roleid}',
    permissions: roleModify,
    parameters: {},
    run: ({ cluster, param }) => cluster.access.removeRole(ownRole(cluster.access, String(param.roleid))),
  },
];

function readPermissions({ cluster: { access }, caller, param }: Context): unknown {
  const authid = String(param.userid ?? authUser(caller));
  demandRightToAsk(access, caller, authid);
  const path = textOf(param.path);
  const found = path ? new Map([[path, access.privilegesOf(authid, path)]]) : access.allPrivileges(authid);
  return Object.fromEntries([...found].map(([at, held]) => [at, Object.fromEntries(held)]));
}

function readAcl({ cluster: { access }, caller }: Context): unknown {
  const seesAll = access.check(caller, '/access', ['Sys.Audit']);
  return access
    .acl()
    .filter(({ path }) => seesAll || mayModifyPermissions(access, caller, path))
    .map((entry) => ({ ...entry, propagate: entry.propagate ? 1 : 0 }));
}

function writeAcl({ cluster: { access }, caller, param }: Context): void {
  const path = normalisePath(String(param.path));
  if (path === undefined) throw parameterError({ path: 'invalid ACL path' });
  const subjects = { users: splitList(param.users), groups: splitList(param.groups), tokens: splitList(param.tokens) };
  if (Object.values(subjects).every((ids) => ids.length === 0)) {
    throw parameterError(
      Object.fromEntries(
        Object.keys(subjects).map((kind) => [kind, 'either "users", "groups" or "tokens" is required']),
      ),
    );
  }
  for (const roleid of splitList(param.roles)) {
    demandRightToGive(access, caller, path, roleid);
    if (param.delete) {
      access.removeAcl(path, subjects, roleid);
    } else {
      demandExistence(access, subjects);
      access.setAcl(path, subjects, roleid, param.propagate !== 0);
    }
  }
}

/** Without Permissions.Modify nobody gives away more than they hold there themselves. */
function demandRightToGive(access: Access, caller: Caller, path: string, roleid: string): void {
  const given = existingRole(access, roleid);
  if (access.check(caller, path, ['Permissions.Modify'])) return;
  const isLess = roleid !== 'NoAccess' && access.check(caller, path, [...given]);
  if (!isLess) throw permissionError(`${path}, Permissions.Modify`);
}

function demandExistence(
  access: Access,
  subjects: Readonly<Record<'users' | 'groups' | 'tokens', readonly string[]>>,
): void {
  for (const user of subjects.users) access.user(user);
  for (const group of subjects.groups) existingGroup(access, group);
  for (const id of subjects.tokens) {
    const { user, token = '' } = splitTokenId(id);
    if (!access.user(user).tokens.has(token)) throw new PveError(500, `no such token '${token}' for user '${user}'`);
  }
}

function existingRole(access: Access, roleid: string): ReadonlySet<string> {
  const role = access.roles.get(roleid);
  if (role === undefined) throw new PveError(500, `role '${roleid}' does not exist`);
  return role;
}

function ownRole(access: Access, roleid: string): string {
  existingRole(access, roleid);
  if (builtInRoles.has(roleid)) throw new PveError(500, `auto-generated role '${roleid}' cannot be modified`);
  return roleid;
}
