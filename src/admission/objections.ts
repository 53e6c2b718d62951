/** What speaks against a change whatever the quota. */

import { BadRequestError, type Fault, NotReadyError } from '../errors.ts';
import { call, succeeded } from '../pve/call.ts';
import type { Gate } from './gate.ts';
import type { Change, ChangePolicy, Medium } from './policy.ts';

/** Throws, with all faults at once, when the change would use volumes of others, host paths, or media that are not on offer. */
export async function mustNotObject(gate: Gate, policy: ChangePolicy, change: Change): Promise<void> {
  const faults: Fault[] = [...(policy.objections?.(change) ?? [])];
  for (const medium of policy.media?.(change.params) ?? []) {
    const problem = await problemOf(gate, medium);
    if (problem !== null) faults.push({ field: medium.field, problem });
  }
  if (faults.length > 0) throw new BadRequestError(faults);
}

async function problemOf({ upstream, media }: Gate, { volid, content }: Medium): Promise<string | null> {
  if (media === undefined) return 'no storage is configured to offer media from (useriso)';
  const { node, storage } = media;
  const asked = call('GET', '/nodes/{}/storage/{}/content', [node, storage], { content });
  const answer = await upstream.send(asked, { kind: 'service' });
  if (!succeeded(answer))
    throw new NotReadyError(
      `storage ${storage} does not list what is on offer (${answer.status} ${answer.reason}); try again in a moment`,
      5,
    );
  const rows: readonly { readonly volid?: unknown }[] = Array.isArray(answer.data) ? answer.data : [];
  return rows.some((row) => row.volid === volid) ? null : `${volid} is not on offer on storage ${storage}`;
}
