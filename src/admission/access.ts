/** May this user touch this instance, node, pool, vmid? PVE says who may touch, the records say what is theirs. */

import {
  BadRequestError,
  ConflictError,
  type Fault,
  ForbiddenError,
  UnauthenticatedError,
  UpstreamBrokenError,
} from '../errors.ts';
import { call, type Upstream } from '../pve/call.ts';
import type { Config } from '../pve/instance.ts';
import { privilegesOn } from '../pve/rights.ts';
import { type Grants, grantedNames, grants, type UserRecord } from '../quota/record.ts';
import type { Caller, Gate } from './gate.ts';

/** Whether PVE grants the caller a privilege on a path, asked now and with the caller's own credential. */
export async function holds(
  upstream: Upstream,
  { credential }: Caller,
  path: string,
  privilege: string,
): Promise<boolean> {
  const answer = await upstream.send(call('GET', '/access/permissions', [], { path }), credential);
  if (answer.status === 401)
    throw new UnauthenticatedError(`PVE does not accept the session any more: ${answer.reason}`);
  const held = privilegesOn(answer, path);
  if (held === null)
    throw new UpstreamBrokenError(`PVE does not tell the rights on ${path}: ${answer.status} ${answer.reason}`);
  return held.has(privilege);
}

/** Whether PVE makes the caller an operator of a pool of theirs, for what is in no pool. */
export async function operatesSomewhere({ upstream, operatorPrivilege }: Gate, caller: Caller): Promise<boolean> {
  for (const pool of grantedNames(caller.record.cluster.pools))
    if (await holds(upstream, caller, `/pool/${pool}`, operatorPrivilege)) return true;
  return false;
}

/** Throws unless PVE makes the caller an operator of a pool of theirs. */
export async function mustOperateSomewhere(gate: Gate, caller: Caller): Promise<void> {
  if (await operatesSomewhere(gate, caller)) return;
  throw new ForbiddenError(`you have no ${gate.operatorPrivilege} on a pool of yours in PVE`);
}

/** The pool for a new instance: the one asked for, or the user's only one. */
export function poolFor({ cluster }: UserRecord, asked: string | undefined): string {
  const own = grantedNames(cluster.pools);
  const pool = asked ?? (own.length === 1 ? own[0] : undefined);
  if (pool === undefined)
    throw new BadRequestError({
      field: 'pool',
      problem: `is required: ${own.length === 0 ? 'you have none' : `choose one of ${own.join(', ')}`}`,
    });
  return pool;
}

/** Where a new instance is to be. */
export interface Place {
  readonly node: string;
  readonly pool: string;
  readonly vmid: number;
}

/** By which parameters a call says where. */
export type PlaceFields = Readonly<Record<'node' | 'vmid', string>>;

/** Throws unless node, pool and vmid of a new instance are all in the user's lists. */
export function mustBeOwnPlace(
  { cluster }: UserRecord,
  { node, pool, vmid }: Place,
  fields: PlaceFields = { node: 'node', vmid: 'vmid' },
): void {
  const faults: Fault[] = [];
  const { min, max } = cluster.vmid;
  if (vmid < min || vmid > max)
    faults.push({
      field: fields.vmid,
      problem:
        min > 0 && max >= min
          ? `${vmid} is not in your range ${min} to ${max}`
          : `${vmid} is not yours: you have no range of vmids`,
    });
  if (!grants(cluster.nodes, node))
    faults.push({ field: fields.node, problem: `${node} is not one of your nodes (${listed(cluster.nodes)})` });
  if (!grants(cluster.pools, pool))
    faults.push({ field: 'pool', problem: `${pool} is not one of your pools (${listed(cluster.pools)})` });
  if (faults.length > 0) throw new ForbiddenError(faults);
}

/** Throws unless a guest that goes to this node stays on the user's nodes. */
export function mustBeOwnNode({ cluster }: UserRecord, node: string, field: string): void {
  if (!grants(cluster.nodes, node))
    throw new ForbiddenError([{ field, problem: `${node} is not one of your nodes (${listed(cluster.nodes)})` }]);
}

/** Guests that go into a pool: it is one of the caller's, PVE makes them an operator there, and who pays stays as it is and can reach it there. */
export async function mustJoin(
  { upstream, ledger, operatorPrivilege }: Gate,
  caller: Caller,
  pool: string,
  vmids: readonly number[],
): Promise<void> {
  const { pools } = caller.record.cluster;
  if (!grants(pools, pool))
    throw new ForbiddenError([{ field: 'poolid', problem: `${pool} is not one of your pools (${listed(pools)})` }]);
  if (!(await holds(upstream, caller, `/pool/${pool}`, operatorPrivilege)))
    throw new ForbiddenError(`you have no ${operatorPrivilege} on pool ${pool} in PVE`).at('poolid');
  for (const vmid of vmids) {
    const payers = new Set(ledger.payersOf(vmid));
    const claimants = new Set(ledger.payersOfNew({ vmid, pool }, caller.user, true));
    const isRecorded = ledger.recordedPayers(vmid).length > 0;
    if (!isRecorded && payers.symmetricDifference(claimants).size > 0)
      throw new ForbiddenError(
        `others would pay for instance ${vmid} there; ask an administrator to record its payer first`,
      ).at('vms');
    if (isRecorded && ![...payers].every((payer) => payer === caller.user || ledger.isIn(payer, pool)))
      throw new ForbiddenError(
        `another user pays for instance ${vmid} and could not reach it there; leave it in a pool of theirs`,
      ).at('vms');
  }
}

/** An instance that is there: PVE makes the caller its operator, and it is theirs to pay for or in a pool of theirs. */
export async function mustBeTheirs(
  { upstream, inventory, ledger, operatorPrivilege }: Gate,
  caller: Caller,
  vmid: number,
): Promise<void> {
  if (!(await holds(upstream, caller, `/vms/${vmid}`, operatorPrivilege))) {
    throw new ForbiddenError(
      `you have no ${operatorPrivilege} on instance ${vmid} in PVE, or there is no such instance`,
    );
  }
  const { pool } = await inventory.find(vmid);
  const payers = ledger.payersOf(vmid);
  if (payers.length === 0) {
    throw new ForbiddenError(
      `nobody pays for instance ${vmid}, so only an administrator can change it; ask one to assign it to you`,
    );
  }
  if (!payers.includes(caller.user) && (pool === undefined || !grants(caller.record.cluster.pools, pool))) {
    throw new ForbiddenError(`instance ${vmid} is neither yours to pay for nor in one of your pools`);
  }
}

/** A new instance: node, pool and vmid are the caller's, and PVE makes them an operator there. Gives the parameters with the pool. */
export async function placed(
  { upstream, inventory, operatorPrivilege }: Gate,
  caller: Caller,
  params: Config,
  { node, vmid }: Omit<Place, 'pool'>,
  fields: PlaceFields,
): Promise<Config> {
  if (!Number.isSafeInteger(vmid) || vmid < 100) {
    throw new BadRequestError({ field: fields.vmid, problem: 'the new guest needs a vmid from 100 to 999999999' });
  }
  if (caller.record.cluster.admin) return params;
  const pool = poolFor(caller.record, params.pool);
  mustBeOwnPlace(caller.record, { node, pool, vmid }, fields);
  const isOperator = async (path: string) => await holds(upstream, caller, path, operatorPrivilege);
  if (!(await isOperator(`/pool/${pool}`)) && !(await isOperator(`/vms/${vmid}`)))
    throw new ForbiddenError(`you have no ${operatorPrivilege} on pool ${pool} in PVE`).at(
      params.pool === undefined ? fields.vmid : 'pool',
    );
  // A guest that no list has shown yet must not become the caller's by their asking for its vmid.
  if (!(await inventory.isFree(vmid)))
    throw new ConflictError(`vmid ${vmid} is already taken; choose another one`).at(fields.vmid);
  return { ...params, pool };
}

function listed(list: Grants): string {
  return grantedNames(list).join(', ') || 'you have none';
}
