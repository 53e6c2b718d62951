/** What a change costs, charged before PVE hears of it. */

import { ApiError, ConflictError, ForbiddenError, NotReadyError, QuotaExceededError } from '../errors.ts';
import { describeCall } from '../pve/call.ts';
import type { Instance } from '../pve/instance.ts';
import { type FileName, QuotaNeeded, type Reservation } from '../quota/ledger.ts';
import { type Quota, quotaOf } from '../quota/limits.ts';
import { type Line, type Usage, usageOf } from '../quota/usage.ts';
import { causesOf, fieldOfGuest } from './causes.ts';
import type { Gate } from './gate.ts';
import type { Inventory } from './inventory.ts';
import { type Change, type ChangePolicy, takesDigest } from './policy.ts';
import type { Subject } from './subject.ts';

/** Charges a call's changes to everybody who pays; throws, holding nothing, what the ledger says, or NotReadyError while nothing can be told. */
export async function reserve(gate: Gate, subject: Subject, changes: readonly Change[]): Promise<Reservation> {
  const { inventory, ledger, payers, counted, resources } = gate;
  const { policy, asked, caller } = subject;
  const waived = caller.record.cluster.admin;
  const creates = policy.kind === 'create';
  const states = changes.map((change) => ({ change, after: afterOf(policy, change) }));
  const grows = states.some(({ change: { before }, after }) => creates || grownIn(after, before, counted).size > 0);
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
        after: takenBy(policy, usageOf(after, counted)),
        creates,
        ...(change.file === undefined ? {} : { file: change.file }),
      };
    }),
    copies: changes.flatMap((change) => importedFiles(policy, change, inventory)),
    sources: policy.copiesSources === true ? subject.sources : [],
    waived,
  };
  const quotas = new Map<string, Quota>([[caller.user, quotaOf(caller.user, caller.record, resources)]]);
  for (;;) {
    try {
      return await ledger.reserve({ ...request, quotas });
    } catch (error) {
      if (!(error instanceof QuotaNeeded)) throw blamed(gate, subject, changes, error);
      for (const user of error.users) quotas.set(user, await payers.quota(user));
    }
  }
}

/** The instance as a change would leave it: projected once, however many steps of the gate ask. */
export function afterOf(policy: ChangePolicy, change: Change): Instance {
  const known = projected.get(change);
  if (known !== undefined) return known;
  const after = policy.project(change);
  projected.set(change, after);
  return after;
}

const projected = new WeakMap<Change, Instance>();

/** A call that may stand in PVE's queue for hours must not hold what others change of the guest meanwhile. */
function takenBy({ takesOnly }: ChangePolicy, usage: Usage): Usage {
  if (takesOnly === undefined) return usage;
  return { ...usage, lines: usage.lines.filter(({ resource }) => resource === takesOnly) };
}

/** The ledger's refusal with the parameters of the call whose fault it is. */
function blamed({ counted }: Gate, { policy, about }: Subject, changes: readonly Change[], error: unknown): unknown {
  const judged = { policy, about, changes, counted };
  if (error instanceof QuotaExceededError)
    return new QuotaExceededError(error.overruns, (overrun) => causesOf(judged, overrun, overrun.scope));
  if (!(error instanceof ApiError)) return error;
  if (error.about !== undefined) return error.at(...causesOf(judged, error.about));
  if (!(error instanceof ConflictError || error instanceof ForbiddenError)) return error;
  return error.at(
    policy.file === undefined ? fieldOfGuest(policy, about, changes[0]?.before.vmid ?? Number.NaN) : 'filename',
  );
}

/** The files that a change copies into disks, which PVE may open long after it has answered. */
function importedFiles({ media }: ChangePolicy, { params, target }: Change, inventory: Inventory): FileName[] {
  const imported = (media?.(params) ?? []).filter(({ content }) => content === 'import');
  return imported.map(({ volid }) => ({
    place: inventory.placeOf(volid.slice(0, volid.indexOf(':')), target.node),
    volid,
  }));
}

/** The resources of which an instance takes more than it did, or what cannot be told; all of them where it changes its node. */
export function grownIn(after: Instance, before: Instance, counted: readonly string[]): ReadonlySet<string> {
  const [now, then] = [usageOf(before, counted), usageOf(after, counted)];
  const isLarger = (line: Line) =>
    before.host.node !== after.host.node ||
    !now.lines.some(
      ({ resource, item, node, amount }) =>
        resource === line.resource && item === line.item && node === line.node && amount >= line.amount,
    );
  const untold = then.unknown.length > now.unknown.length ? then.unknown : [];
  return new Set([...then.lines.filter(isLarger), ...untold].map(({ resource }) => resource));
}

function mustBeReady({ frozen, ready }: Inventory): void {
  if (frozen !== undefined) throw new NotReadyError(`nothing may grow at the moment: ${frozen.reason}`, 30);
  if (!ready) throw new NotReadyError('the server is still reading what the cluster holds; try again in a moment', 2);
}
