/** A change on its way to PVE: sent once, and its reservation followed to the end whatever becomes of it. */

import { UpstreamUnreachableError } from '../errors.ts';
import type { Call, Credential, Params } from '../pve/call.ts';
import type { Instance } from '../pve/instance.ts';
import type { Reservation } from '../quota/ledger.ts';
import type { Gate, Outcome } from './gate.ts';
import { type ChangePolicy, takesDigest } from './policy.ts';
import { type Ending, endingOf } from './settlement.ts';

/** Sends the call and sees to it that the reservation is closed, whatever PVE says and whether it says anything. */
export async function forward(
  { upstream, ledger, settlement }: Gate,
  reservation: Reservation,
  asked: Call,
  as: Credential,
): Promise<Outcome> {
  try {
    const answer = await upstream.send(asked, as);
    const ending = endingOf(answer);
    if (ending.kind === 'task') ledger.setUpid(reservation.id, ending.upid);
    return { answer, settled: settlement.follow(reservation, ending) };
  } catch (error) {
    const outcome = error instanceof Error ? error.message : String(error);
    const ending: Ending =
      error instanceof UpstreamUnreachableError ? { kind: 'nothing', outcome } : { kind: 'lost', outcome };
    void settlement.follow(reservation, ending);
    throw error;
  }
}

/** The parameters with the digest of the configuration that the change was judged on: it applies to that one, or not at all. */
export function withDigest(policy: ChangePolicy, { digest }: Instance, params: Params): Params {
  return takesDigest(policy) && digest !== undefined ? { ...params, digest } : params;
}
