/** Calls that take nothing: PVE's own access control decides. */

import { BadRequestError, ForbiddenError } from '../errors.ts';
import { type Call, describeCall, succeeded } from '../pve/call.ts';
import type { Caller } from './access.ts';
import type { Gate, Outcome } from './gate.ts';
import type { ClosedPolicy, Named, OwnPolicy } from './policy.ts';

/**
 * Sends a call with the caller's own credentials. Two reads PVE would refuse although the matter is theirs: a guest
 * that is being made for them, and a task that we started for them.
 */
export async function passOn(
  { upstream, ledger, inventory }: Gate,
  policy: OwnPolicy | ClosedPolicy,
  asked: Call,
  caller: Caller,
  { vmid: guest, upid = '' }: Named,
): Promise<Outcome> {
  if (policy.class === 'closed') {
    if (!caller.record.cluster.admin)
      throw new ForbiddenError(`${describeCall(asked)} is for administrators here: ${policy.reason}`);
    return { answer: await upstream.send(asked, caller.credential), settled: Promise.resolve(undefined) };
  }
  const vmid = Number(guest);
  const refused = Object.entries(policy.refused ?? {}).filter(
    ([name]) => asked.params[name] !== undefined && asked.params[name] !== '0',
  );
  if (refused.length > 0)
    throw new BadRequestError(refused.map(([field, problem]) => ({ field, problem: `not allowed: ${problem}` })));
  const isTheirs =
    (policy.ofGuest === true && ledger.isCreating(vmid, caller.user)) ||
    (policy.ofTask === true && ledger.taskUser(upid) === caller.user);
  const answer = await upstream.send(asked, isTheirs ? { kind: 'service' } : caller.credential);
  // Starting and stopping apply what was pending: what is held may have become less.
  if (policy.class === 'power' && succeeded(answer)) inventory.stale.add(vmid);
  return { answer, settled: Promise.resolve(undefined) };
}
