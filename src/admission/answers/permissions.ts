/** What a tenant may do: clients look before they ask, and PVE does not know what this server does for them. */

import { isObject } from '../../json.ts';
import { type Answer, type Call, call, succeeded } from '../../pve/call.ts';
import { privilegesOn } from '../../pve/rights.ts';
import { lineResource, quotaOf } from '../../quota/limits.ts';
import { grantedNames, grants } from '../../quota/record.ts';
import type { Caller, Gate } from '../gate.ts';

/** The privileges in whose place a change is judged here, on what they are needed for. */
const lifted = {
  guests: [
    'VM.Allocate',
    'VM.Backup',
    'VM.Clone',
    'VM.Config.CDROM',
    'VM.Config.CPU',
    'VM.Config.Cloudinit',
    'VM.Config.Disk',
    'VM.Config.HWType',
    'VM.Config.Memory',
    'VM.Config.Network',
    'VM.Config.Options',
    'VM.Migrate',
    'VM.Replicate',
    'VM.Snapshot',
    'VM.Snapshot.Rollback',
  ],
  storages: ['Datastore.AllocateSpace', 'Datastore.AllocateTemplate'],
} as const;

/** Privileges by path; PVE writes 1 where they hold below as well, else 0. */
type Permissions = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/**
 * A tenant's own permissions as PVE tells them, and on what is theirs those that this server lifts for them: on guests
 * and pools that PVE makes them an operator of, and on storages that they have a quota on or may make backups on. Only
 * privileges that the privileged token holds, so none that this version of PVE does not know; nothing about anybody else.
 */
export async function ownPermissions(gate: Gate, asked: Call, caller: Caller): Promise<Answer | undefined> {
  const { path, userid = caller.user, ...unknown } = asked.params;
  if (caller.record.cluster.admin || userid !== caller.user || Object.keys(unknown).length > 0) return undefined;
  const own = await gate.upstream.send(asked, caller.credential);
  if (!succeeded(own) || !isObject(own.data)) return own;
  const told = own.data as Permissions;
  const paths = typeof path === 'string' ? [path] : pathsOf(gate, caller);
  const theirs = paths.filter((one) => isLifted(gate, caller, one, heldOn(told, one)));
  const tokens = await Promise.all(
    Object.keys(kinds)
      .filter((root) => theirs.some((one) => rootOf(one) === root))
      .map(async (root) => [root, await heldByToken(gate, root)] as const),
  );
  const additions = theirs.map((one) => [one, { ...heldOn(told, one), ...new Map(tokens).get(rootOf(one)) }]);
  return { ...own, data: { ...told, ...Object.fromEntries(additions) } };
}

const kinds: Readonly<Record<string, readonly string[]>> = {
  '/vms': lifted.guests,
  '/pool': lifted.guests,
  '/storage': lifted.storages,
};

/** The paths of all that could be the caller's. */
function pathsOf({ inventory, resources, backupStorage }: Gate, { record }: Caller): string[] {
  const counted = Object.keys(resources).filter((name) => resources[name]?.type === 'storage');
  const storages = new Set([...counted, ...(backupStorage === undefined ? [] : [backupStorage])]);
  return [
    ...[...inventory.guests.keys()].map((vmid) => `/vms/${vmid}`),
    ...grantedNames(record.cluster.pools).map((pool) => `/pool/${pool}`),
    ...[...storages].map((storage) => `/storage/${storage}`),
  ];
}

function isLifted(
  gate: Gate,
  { user, record }: Caller,
  path: string,
  held: Readonly<Record<string, unknown>>,
): boolean {
  const name = path.slice(rootOf(path).length + 1);
  const isOperator = Object.hasOwn(held, gate.operatorPrivilege);
  switch (rootOf(path)) {
    case '/vms': {
      const guest = gate.inventory.guests.get(Number(name));
      const payers = gate.ledger.payersOf(Number(name));
      const inPool = guest?.pool !== undefined && grants(record.cluster.pools, guest.pool);
      return isOperator && guest !== undefined && payers.length > 0 && (inPool || payers.includes(user));
    }
    case '/pool':
      return isOperator && grants(record.cluster.pools, name);
    case '/storage': {
      const { limits } = quotaOf(user, record, gate.resources);
      const [limit, backups] = [limits.get(lineResource(name, gate.resources)), limits.get('backups')];
      if (name === gate.backupStorage && backups?.kind === 'each' && backups.max > 0) return true;
      return limit?.kind === 'amount' && [limit.global, ...limit.nodes.values()].some((amount) => amount > 0);
    }
    default:
      return false;
  }
}

/** `/vms` of `/vms/100`. */
function rootOf(path: string): string {
  return path.slice(0, path.indexOf('/', 1));
}

/** What PVE's answer grants on a path: said of the path itself, or of the nearest one above that it names. */
function heldOn(told: Permissions, path: string): Readonly<Record<string, unknown>> {
  const here = told[path];
  if (here !== undefined) return here;
  const above = path.slice(0, path.lastIndexOf('/')) || '/';
  if (path === '/') return {};
  return Object.fromEntries(Object.entries(heldOn(told, above)).filter(([, propagates]) => Number(propagates) === 1));
}

/** Of what is lifted there, what the token may really do, as PVE would write it. */
async function heldByToken({ upstream }: Gate, root: string): Promise<Readonly<Record<string, 1>>> {
  const answer = await upstream.send(call('GET', '/access/permissions', [], { path: root }), { kind: 'service' });
  const held = privilegesOn(answer, root);
  return Object.fromEntries((kinds[root] ?? []).filter((name) => held?.has(name)).map((name) => [name, 1]));
}
