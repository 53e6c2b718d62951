/** What a change costs, charged before PVE hears of it. */

import { NotReadyError } from '../errors.ts';
import { type Call, type Draft, describeCall } from '../pve/call.ts';
import type { Instance } from '../pve/instance.ts';
import { type FileName, QuotaNeeded, type Reservation } from '../quota/ledger.ts';
import { type Quota, quotaOf } from '../quota/limits.ts';
import { type Line, usageOf } from '../quota/usage.ts';
import type { Caller } from './access.ts';
import type { Gate } from './gate.ts';
import type { Inventory } from './inventory.ts';
import { type Change, type ChangePolicy, takesDigest } from './policy.ts';

/** Charges a call's changes to everybody who pays; throws, holding nothing, what the ledger says, or NotReadyError while nothing can be told. */
export async function reserve(
  { inventory, ledger, payers, counted, resources }: Gate,
  policy: ChangePolicy,
  changes: readonly Change[],
  asked: Call | Draft,
  caller: Caller,
): Promise<Reservation> {
  const waived = caller.record.cluster.admin;
  const creates = policy.kind === 'create';
  const states = changes.map((change) => ({ change, after: policy.project(change) }));
  const grows = states.some(({ change: { before }, after }) => creates || exceeds(after, before, counted));
  if (grows && !waived && policy.class !== 'releasing') mustBeReady(inventory);
  const request = {
    by: caller.user,
    address: caller.address,
    call: describeCall(asked),
    digest: takesDigest(policy) ? changes[0]?.before.digest : undefined,
    aims: states.map(({ change, after }) => {
      const { vmid, type } = change.before;
      return {
        vmid,
        type,
        node: after.host.node,
        pool: creates ? change.params.pool : inventory.guests.get(vmid)?.pool,
        after: usageOf(after, counted),
        creates,
        ...(change.file === undefined ? {} : { file: change.file }),
      };
    }),
    copies: changes.flatMap((change) => importedFiles(policy, change, inventory)),
    waived,
  };
  const quotas = new Map<string, Quota>([[caller.user, quotaOf(caller.user, caller.record, resources)]]);
  for (;;) {
    try {
      return await ledger.reserve({ ...request, quotas });
    } catch (error) {
      if (!(error instanceof QuotaNeeded)) throw error;
      for (const user of error.users) quotas.set(user, await payers.quota(user));
    }
  }
}

/** The files that a change copies into disks, which PVE may open long after it has answered. */
function importedFiles({ media }: ChangePolicy, { params, target }: Change, inventory: Inventory): FileName[] {
  const imported = (media?.(params) ?? []).filter(({ content }) => content === 'import');
  return imported.map(({ volid }) => ({
    place: inventory.placeOf(volid.slice(0, volid.indexOf(':')), target.node),
    volid,
  }));
}

/** Whether an instance takes more of anything, or what cannot be told, than it did. */
function exceeds(after: Instance, before: Instance, counted: readonly string[]): boolean {
  const [now, then] = [usageOf(before, counted), usageOf(after, counted)];
  if (before.host.node !== after.host.node || then.unknown.length > now.unknown.length) return true;
  const larger = (line: Line) =>
    !now.lines.some(
      ({ resource, item, amount }) => resource === line.resource && item === line.item && amount >= line.amount,
    );
  return then.lines.some(larger);
}

function mustBeReady({ frozen, ready }: Inventory): void {
  if (frozen !== undefined) throw new NotReadyError(`nothing may grow at the moment: ${frozen.reason}`, 30);
  if (!ready) throw new NotReadyError('the server is still reading what the cluster holds; try again in a moment', 2);
}
