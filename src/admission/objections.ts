/** What speaks against a change whatever the quota. */

import { BadRequestError, type Fault, NotReadyError } from '../errors.ts';
import { call, succeeded } from '../pve/call.ts';
import { rowsIn } from '../pve/rows.ts';
import { isAmong } from './allowances.ts';
import { asSent } from './causes.ts';
import type { Caller, Gate } from './gate.ts';
import { strangeNetworks } from './networks.ts';
import type { Change, Medium } from './policy.ts';
import type { Subject } from './subject.ts';

/** Throws, with all faults at once, when the change would use volumes of others, host paths, media that are not on offer, or networks of others. */
export async function mustNotObject(gate: Gate, { policy, about, caller }: Subject, change: Change): Promise<void> {
  const faults: Fault[] = [...(policy.objections?.(change) ?? [])];
  for (const medium of policy.media?.(change.params) ?? []) {
    const problem = await problemOf(gate, medium, change, caller);
    if (problem !== null) faults.push({ field: medium.field, problem });
  }
  faults.push(...(await strangeNetworks(gate, policy, change, caller)));
  if (faults.length > 0)
    throw new BadRequestError(
      faults.map(({ field, problem }) => ({ field: asSent(policy, about, field) ?? field, problem })),
    );
}

/** A medium is the caller's own, opened to all by the configuration, or on offer on the storage for media and nobody else's. */
async function problemOf(
  { upstream, media, allowances, inventory, ledger }: Gate,
  { volid, content }: Medium,
  { target }: Change,
  { user }: Caller,
): Promise<string | null> {
  const place = inventory.placeOf(volid.slice(0, volid.indexOf(':')), target.node);
  const owner = ledger.fileOwner({ place, volid });
  if (owner !== undefined && owner !== user) return `${volid} is not on offer`;
  // What is being written may be larger in a moment than PVE has just told.
  if (owner !== undefined)
    return ledger.isAwaited({ place, volid }) ? `${volid} is still being written; use it when that has ended` : null;
  if (isAmong(allowances.volumes, volid)) return null;
  if (content !== 'iso' && content !== 'vztmpl') return `${volid} is neither yours nor open to all (tenants.volumes)`;
  if (media === undefined) return 'no storage is configured to offer media from (useriso)';
  const { node, storage } = media;
  const asked = call('GET', '/nodes/{}/storage/{}/content', [node, storage], { content });
  const answer = await upstream.send(asked, { kind: 'service' });
  const rows = succeeded(answer) ? rowsIn(answer.data) : null;
  if (rows === null)
    throw new NotReadyError(
      `storage ${storage} does not list what is on offer (${answer.status} ${answer.reason}); try again in a moment`,
      5,
    );
  return rows.some((row) => row.volid === volid) ? null : `${volid} is not on offer on storage ${storage}`;
}
