/** The instance that a route's path names. */

import { admit } from '../../admission/admit.ts';
import type { Caller } from '../../admission/gate.ts';
import type { Storages } from '../../admission/inventory.ts';
import { BadRequestError, type Fault, NotFoundError } from '../../errors.ts';
import { call } from '../../pve/call.ts';
import type { GuestType, Instance } from '../../pve/instance.ts';
import type { Rooms } from '../rooms.ts';
import { dataOf } from './reply.ts';

export interface Target {
  readonly node: string;
  readonly type: GuestType;
  readonly vmid: number;
}

/** The target in a path `/cluster/:node/:type/:vmid...`; what cannot be one is refused. */
export function targetOf(params: unknown): Target {
  const { node, type, vmid }: Readonly<Record<string, string>> = Object(params);
  if (type !== 'qemu' && type !== 'lxc') throw new NotFoundError(`there are qemu and lxc instances, and no ${type}`);
  const faults: Fault[] = [];
  if (!/^[\w-]{1,63}$/.test(node ?? '')) faults.push({ field: 'node', problem: `${JSON.stringify(node)} is no node` });
  if (!/^[1-9]\d{2,8}$/.test(vmid ?? ''))
    faults.push({
      field: 'vmid',
      problem: `expected a whole number from 100 to 999999999, got ${JSON.stringify(vmid)}`,
    });
  if (node === undefined || faults.length > 0) throw new BadRequestError(faults);
  return { node, type, vmid: Number(vmid) };
}

/**
 * The instance as it is now, for a caller to whom PVE itself shows it: what they may see, we may look at more closely.
 * Throws PveRefusal, or NotFoundError when it is gone.
 */
export async function visibleInstance(
  { gate, inventory }: Rooms,
  caller: Caller,
  target: Target,
  storages: Storages,
): Promise<Instance> {
  const { node, type, vmid } = target;
  dataOf((await admit(gate, call('GET', '/nodes/{}/{}/{}/config', [node, type, vmid]), caller)).answer);
  const { instance } = await inventory.look(target, storages);
  if (instance === null) throw new NotFoundError(`there is no instance ${vmid}`);
  return instance;
}
