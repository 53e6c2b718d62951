/** Changes of one instance that would add up although each of them fits alone. */

import { ConflictError } from '../errors.ts';
import type { Instance } from '../pve/instance.ts';
import { disksIn, stateStorages } from '../pve/projections.ts';
import type { ReservationId } from '../quota/ledger.ts';
import { fieldOfGuest } from './causes.ts';
import type { Gate } from './gate.ts';
import { changesOf } from './guests.ts';
import type { Change } from './policy.ts';
import { afterOf, grownIn } from './reserve.ts';
import type { Subject } from './subject.ts';

/** Changes under way that an instance has to be without. */
interface Disturbance {
  readonly vmid: number;
  readonly by: readonly ReservationId[];
}

/**
 * What a call asks of each guest, as it is when no other change under way can still make it larger: PVE makes the one
 * after the other, and each is judged on what the other has left. Throws ConflictError when the others take too long.
 * Administrators, whom no limit holds, wait for nobody.
 */
export async function undisturbed(gate: Gate, subject: Subject): Promise<Change[]> {
  const changes = await changesOf(gate, subject);
  const waitsFor = disturbances(gate, subject, changes).flatMap(({ by }) => by);
  if (waitsFor.length === 0) return changes;
  await gate.settlement.ended(waitsFor);
  const later = await changesOf(gate, subject);
  const [left] = disturbances(gate, subject, later);
  if (left === undefined) return later;
  throw new ConflictError(
    `another change of instance ${left.vmid}, or a copy of it, is under way; try again when it has ended`,
  ).at(fieldOfGuest(subject.policy, subject.about, left.vmid));
}

/**
 * Of an instance that is to grow, the changes that make it grow as well, and those that copy it; of one whose memory
 * would be saved elsewhere, the same, since one of them may be about to save it; of one that is to be copied, every
 * change, as a snapshot may be another one by then. Backups make nothing larger but their own number, and may stand in
 * PVE's queue for hours.
 */
function disturbances({ ledger, counted }: Gate, subject: Subject, changes: readonly Change[]): Disturbance[] {
  const { policy, caller, sources } = subject;
  if (caller.record.cluster.admin || policy.class === 'releasing') return [];
  const changed = policy.kind === 'create' ? [] : changes;
  const found = changed.map((change): Disturbance => {
    const { vmid } = change.before;
    const copying = ledger.copying(vmid);
    if (!ledger.hasOpen(vmid) && copying.length === 0) return { vmid, by: [] };
    const after = afterOf(policy, change);
    const grown = [...grownIn(after, change.before, counted)];
    const copiesMore = !copiedFrom(after).isSubsetOf(copiedFrom(change.before));
    const savedElsewhere = !memoryOf(after).isSubsetOf(memoryOf(change.before));
    const kinds = [isBackup, isOther].filter((kind) => grown.some(kind) || (savedElsewhere && kind === isOther));
    const growing = kinds.flatMap((kind) => ledger.growing(vmid, kind));
    const disturbed = policy.changesCopies === true || copiesMore || grown.some(isOther) ? copying : [];
    return { vmid, by: [...growing, ...disturbed] };
  });
  for (const vmid of policy.copiesSources === true ? sources : []) {
    found.push({ vmid, by: ledger.changing(vmid, isBackup) });
  }
  return found.filter(({ by }) => by.length > 0);
}

/** The volumes that a copy of an instance would be made of, each in its slot. */
function copiedFrom({ type, current, next }: Instance): ReadonlySet<string> {
  const disks = [...new Set([current, next])].flatMap((config) => disksIn(type, config));
  return new Set(disks.map(({ slot, volid }) => `${slot} ${volid}`));
}

/** The storages on which PVE may come to save a VM's memory. */
function memoryOf({ type, current, next }: Instance): ReadonlySet<string> {
  return new Set(type === 'lxc' ? [] : [current, next].flatMap((config) => stateStorages({ type, current: config })));
}

function isBackup(resource: string): boolean {
  return resource === 'backups';
}

function isOther(resource: string): boolean {
  return !isBackup(resource);
}
