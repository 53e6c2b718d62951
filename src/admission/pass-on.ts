/** Calls that take nothing: PVE's own access control decides. */

import { BadRequestError, ForbiddenError } from '../errors.ts';
import { type Call, describeCall, succeeded } from '../pve/call.ts';
import { operatesSomewhere } from './access.ts';
import type { Caller, Gate, Outcome } from './gate.ts';
import type { ClosedPolicy, Named, OwnPolicy } from './policy.ts';

/**
 * Sends a call with the caller's own credentials. Some PVE would refuse although the matter is theirs: reads of a
 * guest that is being made for them, and calls about a task that we started for them. Some have answers of ours.
 */
export async function passOn(
  gate: Gate,
  policy: OwnPolicy | ClosedPolicy,
  asked: Call,
  caller: Caller,
  { vmid: guest, upid = '' }: Named,
): Promise<Outcome> {
  const { upstream, ledger, inventory } = gate;
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
    !caller.record.cluster.admin &&
    ((policy.ofGuest === true && (await isBeingMade(gate, vmid, caller))) ||
      (policy.ofTask === true && ledger.taskUser(upid) === caller.user)) &&
    // A token of theirs may be for looking only.
    (asked.method === 'GET' || caller.credential.kind !== 'token' || (await operatesSomewhere(gate, caller)));
  if (isTheirs && policy.ofTask === true && asked.params.download === '1')
    throw new BadRequestError({
      field: 'download',
      problem: 'leave it out: this log is given in lines, not as a file',
    });
  const answer =
    (await policy.answer?.(gate, asked, caller)) ??
    (await upstream.send(asked, isTheirs ? { kind: 'service' } : caller.credential));
  // Starting and stopping apply what was pending: what is held may have become less.
  if (policy.class === 'power' && guest !== undefined && succeeded(answer)) inventory.stale.add(vmid);
  return { answer, settled: Promise.resolve(undefined) };
}

/** Whether the guest is one that we have asked PVE to make for the caller; once it is in a pool, PVE's own rights tell whose it is. */
async function isBeingMade({ ledger, inventory }: Gate, vmid: number, { user }: Caller): Promise<boolean> {
  if (!ledger.isCreating(vmid, user)) return false;
  // Another may have got the vmid while the answer is still out.
  const listed = await inventory.find(vmid).catch(() => undefined);
  return listed !== undefined && listed.pool === undefined;
}
