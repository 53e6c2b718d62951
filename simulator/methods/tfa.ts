/** `/access/tfa`: the second factors of users. */

import { randomUUID } from 'node:crypto';
import { type Access, permissionError, type User } from '../access.ts';
import { authUser } from '../call.ts';
import type { Check, Context, MethodRow, Schema } from '../method.ts';
import { flag, oneOf, required, text, textOf } from '../parameters.ts';
import { PveError, parameterError } from '../pve-error.ts';
import { recoveryFactor, type SecondFactor, totpFactor } from '../second-factors.ts';

const one = '/access/tfa/{userid}';
const entry = `${one}/{id}`;
const id: Schema = { type: 'string' };
const password: Schema = { type: 'string', optional: true, minLength: 5, maxLength: 64 };
const description: Schema = { ...text, maxLength: 255 };
const selfOr = (...privileges: readonly string[]): Check => [
  'or',
  ['userid-param', 'self'],
  ['userid-group', privileges],
];
const reads = { check: selfOr('User.Modify', 'Sys.Audit') };
const writes = { check: selfOr('User.Modify') };

function shown({ id: name, type, created, description: said, enable }: SecondFactor): Record<string, unknown> {
  return { id: name, type, created, description: said, ...(enable ? {} : { enable: 0 }) };
}

function userOf({ cluster, param }: Context): User {
  return cluster.access.user(String(param.userid));
}

function factorOf(context: Context): SecondFactor {
  const factor = userOf(context).factors.get(String(context.param.id));
  if (factor === undefined) throw new PveError(404, `no such tfa entry '${context.param.id}'`);
  return factor;
}

/** Whoever changes a factor shows its own password again; only root@pam need not, and only it changes those of root@pam. */
function demandChange({ cluster, caller, param }: Context): void {
  if (authUser(caller) === 'root@pam') return;
  if (param.userid === 'root@pam') throw permissionError();
  if (param.password === undefined) throw parameterError({ password: 'password is required to modify TFA data' });
  if (cluster.access.user(caller.user).password !== param.password) throw new PveError(401, 'authentication failure');
}

function listAll({ cluster: { access }, caller }: Context): unknown {
  return [...access.users.values()]
    .filter((user) => user.factors.size > 0 && maySee(access, caller, user))
    .map(({ userid, factors }) => ({ userid, entries: [...factors.values()].map(shown) }));
}

function maySee(access: Access, caller: Context['caller'], { userid }: User): boolean {
  const wanted = ['User.Modify', 'Sys.Audit'];
  const groups = ['/access/groups', ...access.groupsOf(userid).map((group) => `/access/groups/${group}`)];
  return userid === authUser(caller) || groups.some((path) => access.check(caller, path, wanted, true));
}

function addFactor(context: Context): unknown {
  const { cluster, param } = context;
  demandChange(context);
  const { factors } = userOf(context);
  const created = cluster.access.seconds;
  if (param.type === 'recovery') {
    if (factors.has('recovery')) throw new PveError(500, 'recovery keys already exist');
    const { factor, keys } = recoveryFactor(created);
    factors.set(factor.id, factor);
    return { id: factor.id, recovery: keys };
  }
  if (param.type !== 'totp') throw new PveError(500, `no ${param.type} configuration available`);
  const about = { id: randomUUID(), created, description: textOf(param.description) ?? '' };
  const factor = param.totp === undefined ? undefined : totpFactor(String(param.totp), about);
  if (factor === undefined) throw parameterError({ totp: 'missing or invalid totp URI' });
  if (!factor.accepts(String(param.value ?? ''), created)) throw new PveError(500, 'failed to verify TOTP challenge');
  factors.set(factor.id, factor);
  return { id: factor.id };
}

function updateFactor(context: Context): null {
  const { param } = context;
  demandChange(context);
  const factor = factorOf(context);
  userOf(context).factors.set(factor.id, {
    ...factor,
    ...(param.description === undefined ? {} : { description: String(param.description) }),
    ...(param.enable === undefined ? {} : { enable: param.enable === 1 }),
  });
  return null;
}

function deleteFactor(context: Context): null {
  demandChange(context);
  userOf(context).factors.delete(factorOf(context).id);
  return null;
}

/** `oath` is what PVE called codes before there were several factors. */
function kindsOf(context: Context): unknown {
  const { param } = context;
  const types = [...new Set([...userOf(context).factors.values()].map(({ type }) => type))];
  if (param.multiple) return types.length === 0 ? {} : { types };
  const [first] = types;
  return first === undefined ? {} : { user: first === 'totp' ? 'oath' : first };
}

export const tfaMethods: readonly MethodRow[] = [
  { method: 'GET', path: '/access/tfa', permissions: { user: 'all' }, parameters: {}, run: listAll },
  {
    method: 'GET',
    path: one,
    permissions: reads,
    parameters: {},
    run: (context) => [...userOf(context).factors.values()].map(shown),
  },
  {
    method: 'POST',
    path: one,
    allowToken: false,
    permissions: writes,
    parameters: {
      challenge: text,
      description,
      password,
      totp: text,
      type: required(oneOf('totp', 'u2f', 'webauthn', 'recovery', 'yubico')),
      value: text,
    },
    run: addFactor,
  },
  { method: 'GET', path: entry, permissions: reads, parameters: { id }, run: (context) => shown(factorOf(context)) },
  {
    method: 'PUT',
    path: entry,
    allowToken: false,
    permissions: writes,
    parameters: { id, description, enable: flag, password },
    run: updateFactor,
  },
  {
    method: 'DELETE',
    path: entry,
    allowToken: false,
    permissions: writes,
    parameters: { id, password },
    run: deleteFactor,
  },
  {
    method: 'GET',
    path: '/access/users/{userid}/tfa',
    permissions: reads,
    parameters: { multiple: flag },
    run: kindsOf,
  },
];
