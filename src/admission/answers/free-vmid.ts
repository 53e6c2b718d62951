/** Which vmid is free, for a tenant who may only use those of a range. */

import { ConflictError, ForbiddenError } from '../../errors.ts';
import type { Answer, Call } from '../../pve/call.ts';
import type { Caller, Gate } from '../gate.ts';

/**
 * The lowest vmid of a tenant's range that no guest has, is about to have, or has left volumes under, and that PVE
 * calls free. Throws ForbiddenError without a range, ConflictError when it is used up.
 */
export async function lowestFreeVmid(
  { inventory, ledger }: Gate,
  { params }: Call,
  { record: { cluster } }: Caller,
): Promise<Answer | undefined> {
  if (cluster.admin || Object.keys(params).length > 0) return undefined;
  const { min, max } = cluster.vmid;
  if (min <= 0 || max < min) throw new ForbiddenError('you have no range of vmids; ask an administrator for one');
  for (let vmid = Math.max(min, 100); vmid <= max; vmid += 1) {
    const isKnown = inventory.guests.has(vmid) || ledger.account(vmid) !== undefined;
    // PVE gives the number as text.
    if (!isKnown && (await inventory.isFree(vmid))) return { status: 200, reason: 'OK', data: String(vmid) };
  }
  throw new ConflictError(
    `every vmid of your range ${min} to ${max} is taken; delete an instance, or ask an administrator for a wider range`,
  );
}
