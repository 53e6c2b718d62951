/** The instance that a route's path names. */

import { BadRequestError, type Fault, NotFoundError } from '../../errors.ts';
import type { GuestType } from '../../pve/instance.ts';

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
