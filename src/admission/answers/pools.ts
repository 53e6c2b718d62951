/** The members of a pool: PVE checks no privilege when the pool is named by a parameter. */

import { ForbiddenError } from '../../errors.ts';
import type { Answer, Call } from '../../pve/call.ts';
import { holds } from '../access.ts';
import type { Caller, Gate } from '../gate.ts';

/** Leaves the answer to PVE; throws ForbiddenError when the caller could not read that pool by its path either. */
export async function poolOfTheirs(
  { upstream }: Gate,
  { params: { poolid } }: Call,
  caller: Caller,
): Promise<Answer | undefined> {
  if (typeof poolid === 'string' && !(await holds(upstream, caller, `/pool/${poolid}`, 'Pool.Audit')))
    throw new ForbiddenError(`Permission check failed (/pool/${poolid}, Pool.Audit)`);
  return undefined;
}
