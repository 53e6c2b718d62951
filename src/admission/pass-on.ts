/** Calls that take nothing: reads, starting and stopping. */

import { BadRequestError } from '../errors.ts';
import { type Call, succeeded } from '../pve/call.ts';
import type { Caller } from './access.ts';
import type { Gate, Outcome } from './gate.ts';
import type { OwnPolicy } from './policy.ts';

/**
 * Sends a call with the caller's own credentials. Two reads PVE would refuse although the matter is theirs: a guest
 * that is being made for them, and a task that we started for them.
 */
export async function passOn(
  { upstream, ledger, inventory }: Gate,
  policy: OwnPolicy,
  asked: Call,
  caller: Caller,
  { vmid, upid = '' }: { readonly vmid: number; readonly upid: string | undefined },
): Promise<Outcome> {
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
  if (policy.kind === 'power' && succeeded(answer)) inventory.stale.add(vmid);
  return { answer, settled: Promise.resolve(undefined) };
}
