/** `/pools`: which guests and storages belong together. */

import { permissionError } from '../access.ts';
import { guestResource } from '../guest-status.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import type { Pool } from '../model.ts';
import { splitList } from '../named-formats.ts';
import { flag, named, oneOf, text } from '../parameters.ts';
import { mayModifyPermissions } from '../permission.ts';
import { may } from '../permit.ts';
import { PveError } from '../pve-error.ts';
import { isOnNode } from '../volumes.ts';

const poolid = { type: 'string', format: 'pve-poolid' } as const;
const allocates: Permissions = { check: ['perm', '/pool/{poolid}', ['Pool.Allocate']] };

function poolOf({ cluster, param }: Context): Pool {
  const pool = cluster.pools.get(String(param.poolid));
  if (pool === undefined) throw new PveError(500, `pool '${param.poolid}' does not exist`);
  return pool;
}

/** The members as the cluster's resources show them, whether or not the caller could see them there. */
function members({ cluster, param }: Context, { vms, storages }: Pool): readonly Record<string, unknown>[] {
  const guests = [...vms]
    .flatMap((vmid) => cluster.guests.get(vmid) ?? [])
    .map((guest) => guestResource(cluster, guest));
  const places = [...storages].flatMap((storage) => {
    const definition = cluster.storages.get(storage);
    const nodes = [...cluster.nodes.keys()].filter((node) => definition && isOnNode(definition, node));
    return nodes.map((node) => ({ id: `storage/${node}/${storage}`, type: 'storage', storage, node }));
  });
  return [...guests, ...places].filter(({ type }) => param.type === undefined || type === param.type);
}

function described({ comment }: Pool): Record<string, unknown> {
  return comment === '' ? {} : { comment };
}

/** Without a pool the caller's own list; with one its members, for which PVE checks nothing. */
function listPools(context: Context): readonly Record<string, unknown>[] {
  const { cluster, param } = context;
  if (param.poolid !== undefined) {
    const pool = poolOf(context);
    return [{ poolid: pool.poolid, ...described(pool), members: members(context, pool) }];
  }
  return [...cluster.pools.values()]
    .filter((pool) => may(context, `/pool/${pool.poolid}`, ['Pool.Audit']))
    .map((pool) => ({ poolid: pool.poolid, ...described(pool) }));
}

function createPool({ cluster, param }: Context): null {
  const id = String(param.poolid);
  if (cluster.pools.has(id)) throw new PveError(500, `pool '${id}' already exists`);
  const parent = id.slice(0, Math.max(0, id.lastIndexOf('/')));
  if (parent !== '' && !cluster.pools.has(parent)) {
    throw new PveError(500, `parent '${parent}' of pool '${id}' does not exist`);
  }
  cluster.pools.set(id, { poolid: id, comment: String(param.comment ?? ''), vms: new Set(), storages: new Set() });
  return null;
}

function demandModify({ cluster, caller }: Context, path: string): void {
  if (!mayModifyPermissions(cluster.access, caller, path)) throw permissionError(`${path}, Permissions.Modify`);
}

/** Puts members in or takes them out, all or none of them; a guest of another pool moves only when that is said. */
function updatePool(context: Context): null {
  const { cluster, param } = context;
  const pool = poolOf(context);
  const vmids = splitList(String(param.vms ?? '')).map(Number);
  const storages = splitList(String(param.storage ?? ''));
  for (const vmid of vmids) demandModify(context, `/vms/${vmid}`);
  for (const storage of storages) demandModify(context, `/storage/${storage}`);

  for (const vmid of vmids) demandMove(context, pool, vmid);
  for (const storage of storages) demandStorageMove(context, pool, storage);
  for (const vmid of vmids) {
    if (param.delete) cluster.leave(vmid);
    else cluster.join(pool.poolid, vmid);
  }
  for (const storage of storages) {
    if (param.delete) pool.storages.delete(storage);
    else pool.storages.add(storage);
  }
  if (param.comment !== undefined) pool.comment = String(param.comment);
  return null;
}

function demandMove({ cluster, param }: Context, pool: Pool, vmid: number): void {
  if (param.delete) {
    if (!pool.vms.has(vmid)) throw new PveError(500, `VM ${vmid} is not a pool member`);
    return;
  }
  const current = cluster.poolOf(vmid);
  if (current === pool.poolid) throw new PveError(500, `VM ${vmid} is already a pool member`);
  if (current !== undefined && !param['allow-move']) {
    throw new PveError(500, `VM ${vmid} belongs already to pool '${current}' and 'allow-move' is not set`);
  }
}

function demandStorageMove({ param }: Context, { storages }: Pool, storage: string): void {
  if (param.delete && !storages.has(storage)) throw new PveError(500, `Storage '${storage}' is not a pool member`);
  if (!param.delete && storages.has(storage)) throw new PveError(500, `Storage '${storage}' is already a pool member`);
}

function deletePool(context: Context): null {
  const { poolid: id, vms, storages } = poolOf(context);
  if (vms.size + storages.size > 0) throw new PveError(500, `pool '${id}' is not empty`);
  const { cluster } = context;
  const child = [...cluster.pools.keys()].find((other) => other.startsWith(`${id}/`));
  if (child !== undefined) throw new PveError(500, `pool '${id}' is not empty (contains pool '${child}')`);
  cluster.pools.delete(id);
  cluster.access.dropAcl(`/pool/${id}`);
  return null;
}

const changes = {
  comment: text,
  delete: flag,
  'allow-move': flag,
  vms: named('pve-vmid-list'),
  storage: named('pve-storage-id-list'),
};
const sorts = oneOf('qemu', 'lxc', 'storage');

export const poolMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/pools',
    permissions: { user: 'all' },
    parameters: { poolid: { ...poolid, optional: true }, type: { ...sorts, requires: 'poolid' } },
    run: listPools,
  },
  {
    method: 'POST',
    path: '/pools',
    permissions: allocates,
    parameters: { poolid, comment: text },
    run: createPool,
  },
  { method: 'PUT', path: '/pools', permissions: allocates, parameters: { poolid, ...changes }, run: updatePool },
  { method: 'DELETE', path: '/pools', permissions: allocates, parameters: { poolid }, run: deletePool },
  {
    method: 'GET',
    path: '/pools/{poolid}',
    permissions: { check: ['perm', '/pool/{poolid}', ['Pool.Audit']] },
    parameters: { poolid, type: sorts },
    run(context) {
      const pool = poolOf(context);
      return { ...described(pool), members: members(context, pool) };
    },
  },
  {
    method: 'PUT',
    path: '/pools/{poolid}',
    permissions: allocates,
    parameters: { poolid, ...changes },
    run: updatePool,
  },
  { method: 'DELETE', path: '/pools/{poolid}', permissions: allocates, parameters: { poolid }, run: deletePool },
];
