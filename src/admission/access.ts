/** May this user touch this instance, node, pool, vmid? PVE says who may touch, the records say what is theirs. */

import type { UserRecord } from '../backends/record.ts';
import { BadRequestError, type Fault, ForbiddenError, UnauthenticatedError, UpstreamBrokenError } from '../errors.ts';
import { type Credential, call, succeeded, type Upstream } from '../pve/call.ts';

/** A signed-in user, as the gate sees them. */
export interface Caller {
  /** `id@realm` */
  readonly user: string;
  readonly credential: Credential;
  readonly record: UserRecord;
  /** Where they call from, for the record of decisions. */
  readonly address: string;
}

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
  const held = (answer.data as Record<string, Record<string, unknown>> | null)?.[path];
  if (!succeeded(answer) || typeof held !== 'object')
    throw new UpstreamBrokenError(`PVE does not tell the rights on ${path}: ${answer.status} ${answer.reason}`);
  return Object.hasOwn(held, privilege);
}

/** The pool for a new instance: the one asked for, or the user's only one. */
export function poolFor({ cluster }: UserRecord, asked: string | undefined): string {
  const own = Object.entries(cluster.pools).flatMap(([pool, granted]) => (granted ? [pool] : []));
  const pool = asked ?? (own.length === 1 ? own[0] : undefined);
  if (pool === undefined)
    throw new BadRequestError({
      field: 'pool',
      problem: `is required: ${own.length === 0 ? 'you have none' : `choose one of ${own.join(', ')}`}`,
    });
  return pool;
}

/** Throws unless node, pool and vmid of a new instance are all in the user's lists. */
export function mustBeOwnPlace(
  { cluster }: UserRecord,
  { node, pool, vmid }: { node: string; pool: string; vmid: number },
): void {
  const faults: Fault[] = [];
  const { min, max } = cluster.vmid;
  if (vmid < min || vmid > max)
    faults.push({
      field: 'vmid',
      problem:
        min > 0 && max >= min
          ? `${vmid} is not in your range ${min} to ${max}`
          : `${vmid} is not yours: you have no range of vmids`,
    });
  if (!granted(cluster.nodes, node))
    faults.push({ field: 'node', problem: `${node} is not one of your nodes (${listed(cluster.nodes)})` });
  if (!granted(cluster.pools, pool))
    faults.push({ field: 'pool', problem: `${pool} is not one of your pools (${listed(cluster.pools)})` });
  if (faults.length > 0)
    throw new ForbiddenError(faults.map(({ field, problem }) => `${field}: ${problem}`).join('; '));
}

/** Whether a record's list grants a name. */
export function granted(list: Readonly<Record<string, boolean>>, name: string): boolean {
  return Object.hasOwn(list, name) && list[name] === true;
}

function listed(list: Readonly<Record<string, boolean>>): string {
  return (
    Object.entries(list)
      .flatMap(([name, grant]) => (grant ? [name] : []))
      .join(', ') || 'you have none'
  );
}
