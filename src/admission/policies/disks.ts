/** Disks that a guest has: growing one, copying it to another storage, handing it over to another guest. */

import type { Fault } from '../../errors.ts';
import { type GuestType, type Instance, isDiskSlot } from '../../pve/instance.ts';
import { driveOf, moved, resized, sizeAfter, volumeIn, withoutVolume, withVolume } from '../../pve/projections.ts';
import { formatSize } from '../../pve/size.ts';
import type { Change, ChangePolicy, ValueCheck } from '../policy.ts';
import { digest, flag, oneOf, sizeText, storageId, vmid } from './values.ts';

function resize(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'PUT',
    path: `/nodes/{node}/${type}/{vmid}/resize`,
    params: { disk: slotOf(type), size: sizeText, digest },
    storages: ({ before, params }) => storageOf(before, params.disk),
    objections: (change) => {
      const faults = mustHoldVolume('disk', change.before, change.params);
      return faults.length > 0 || bytesAfter(change) !== null
        ? faults
        : [{ field: 'size', problem: 'must be a size that can be told, such as +8G or 40G' }];
    },
    project: (change) => {
      const volume = volumeIn(change.before, change.params.disk ?? '');
      const bytes = bytesAfter(change);
      return volume === null || bytes === null ? change.before : resized(change.before, volume, bytes);
    },
    // An absolute size cannot add up twice, whatever became of an earlier call.
    forward: (change) => {
      const bytes = bytesAfter(change);
      return bytes === null ? change.params : { ...change.params, size: formatSize(bytes) };
    },
  };
}

/** The names that PVE gives to the two calls of one kind. */
const moving = {
  qemu: { action: 'move_disk', slot: 'disk', targetSlot: 'target-disk' },
  lxc: { action: 'move_volume', slot: 'volume', targetSlot: 'target-volume' },
} as const;

function move(type: GuestType): ChangePolicy {
  const { action, slot } = moving[type];
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}/{vmid}/${action}`,
    params: {
      [slot]: slotOf(type),
      storage: storageId,
      delete: flag,
      digest,
      ...(type === 'qemu' ? { format: oneOf('raw', 'qcow2', 'vmdk') } : {}),
    },
    storages: ({ before, params }) => storageOf(before, params[slot]),
    objections: ({ before, params }) => [
      ...mustHoldVolume(slot, before, params),
      ...(params.storage === undefined ? [{ field: 'storage', problem: 'is required: to which storage?' }] : []),
    ],
    project: ({ before, params }) => {
      const volume = volumeIn(before, params[slot] ?? '');
      return volume === null ? before : moved(before, volume, params.storage ?? volume.storage);
    },
  };
}

/** A disk leaves one guest and becomes another's, both the caller's: one pays less, the other more. */
function handOver(type: GuestType): ChangePolicy {
  const { action, slot, targetSlot } = moving[type];
  const giver = ({ before, others, named }: Change) =>
    before.vmid === Number(named.vmid) ? before : others.get(Number(named.vmid));
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}/{vmid}/${action}`,
    when: (params) => params['target-vmid'] !== undefined,
    params: {
      [slot]: slotOf(type),
      'target-vmid': vmid,
      [targetSlot]: slotOf(type),
      // The disk itself goes over, whatever is said of a copy; some clients always say it.
      delete: oneOf('0'),
      digest,
      'target-digest': digest,
    },
    guests: ({ named, params }) => [Number(named.vmid), Number(params['target-vmid'])],
    storages: ({ before, params }) => storageOf(before, params[slot]),
    objections: (change) => {
      const from = giver(change);
      return from === undefined ? [] : mustHoldVolume(slot, from, change.params);
    },
    project: (change) => {
      const { before, params } = change;
      const from = giver(change);
      const volume = from === undefined ? null : volumeIn(from, params[slot] ?? '');
      if (volume === null || params['target-vmid'] === change.named.vmid) return before;
      return before === from
        ? withoutVolume(before, volume)
        : withVolume(before, volume.storage, `from ${volume.volid}`, volume.bytes);
    },
    // Both configurations have to be those that were judged.
    forward: ({ others, params }) => {
      const receiver = others.get(Number(params['target-vmid']));
      return receiver?.digest === undefined ? params : { 'target-digest': receiver.digest, ...params };
    },
  };
}

function slotOf(type: GuestType): ValueCheck {
  return (value) => (isDiskSlot(type, value) ? null : `${JSON.stringify(value)} is not a disk slot`);
}

/** The storage that holds what a slot names. */
function storageOf(before: Instance, slot: string | undefined): string[] {
  const drive = driveOf(before, slot ?? '');
  return drive?.kind === 'volume' ? [drive.storage] : [];
}

/** Growing, copying: only what lies in one of the instance's slots and is its own by the storage's word. */
function mustHoldVolume(field: string, before: Instance, params: Change['params']): Fault[] {
  const slot = params[field] ?? '';
  return volumeIn(before, slot) === null
    ? [{ field, problem: `instance ${before.vmid} has no volume of its own in ${slot}` }]
    : [];
}

/** The size in bytes that a volume is to be grown to; null when there is no such volume or size. */
function bytesAfter({ before, params }: Change): number | null {
  const volume = volumeIn(before, params.disk ?? '');
  return volume === null ? null : sizeAfter(volume, params.size ?? '');
}

export const diskPolicies: readonly ChangePolicy[] = (['qemu', 'lxc'] as const).flatMap((type) => [
  resize(type),
  handOver(type),
  move(type),
]);
