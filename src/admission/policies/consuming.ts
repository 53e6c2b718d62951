/** Calls that may take resources: what they may carry, what they would make of the instance, and what speaks against them. */

import type { Fault } from '../../errors.ts';
import { birthMark, type GuestType, type Instance, isDiskSlot } from '../../pve/instance.ts';
import { configured, created, driveOf, moved, resized, sizeAfter, volumeIn } from '../../pve/projections.ts';
import { formatSize } from '../../pve/size.ts';
import type { Change, ChangePolicy, ValueCheck } from '../policy.ts';
import { changesRawDevice, withMappings } from './devices.ts';
import { allocates, driveObjections, mediaOf } from './drives.ts';
import { configParameters, createParameters } from './parameters.ts';
import { digest, flag, oneOf, sizeText, storageId } from './values.ts';

export const consumingPolicies: readonly ChangePolicy[] = [
  create('qemu'),
  create('lxc'),
  configure('qemu', 'POST'),
  configure('qemu', 'PUT'),
  configure('lxc', 'PUT'),
  resize('qemu'),
  resize('lxc'),
  move('qemu', 'move_disk', 'disk'),
  move('lxc', 'move_volume', 'volume'),
];

function create(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'create',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}`,
    params: createParameters(type),
    media: (params) => mediaOf(type, params),
    objections: driveObjections,
    project: ({ before, params }) => created(before, params),
    // PVE makes a privileged container where nothing is said.
    ...(type === 'lxc' ? { forward: ({ params }) => ({ ...params, unprivileged: '1' }) } : {}),
  };
}

function configure(type: GuestType, method: 'POST' | 'PUT'): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method,
    path: `/nodes/{node}/${type}/{vmid}/config`,
    params: configParameters(type),
    storages: ({ params }) => allocates(type, params),
    media: (params) => mediaOf(type, params),
    objections: (change) => [...driveObjections(change), ...mustStayItself(change)],
    project: ({ before, params }) => configured(before, params),
    ...(type === 'qemu' ? { forward: withMappings, needsRoot: changesRawDevice } : {}),
  };
}

/** What tells a guest from others that have had its vmid says who pays for it. */
function mustStayItself({ before, params }: Change): Fault[] {
  const mark = birthMark({ current: before.next, next: before.next });
  const { next } = configured(before, params);
  return mark === undefined || birthMark({ current: next, next }) === mark
    ? []
    : [{ field: 'smbios1', problem: `not allowed: instance ${before.vmid} is known by its uuid, which has to stay` }];
}

function resize(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'PUT',
    path: `/nodes/{node}/${type}/{vmid}/resize`,
    params: { disk: slotOf(type), size: sizeText, digest: digest },
    storages: ({ before, params }) => storageOf(before, params.disk),
    objections: (change) => {
      const faults = mustHoldVolume('disk')(change);
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

function move(type: GuestType, action: string, slot: 'disk' | 'volume'): ChangePolicy {
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
      digest: digest,
      ...(type === 'qemu' ? { format: oneOf('raw', 'qcow2', 'vmdk') } : {}),
    },
    storages: ({ before, params }) => storageOf(before, params[slot]),
    objections: (change) => [
      ...mustHoldVolume(slot)(change),
      ...(change.params.storage === undefined ? [{ field: 'storage', problem: 'is required: to which storage?' }] : []),
    ],
    project: ({ before, params }) => {
      const volume = volumeIn(before, params[slot] ?? '');
      return volume === null ? before : moved(before, volume, params.storage ?? volume.storage);
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
function mustHoldVolume(field: string) {
  return ({ before, params }: Change): Fault[] => {
    const slot = params[field] ?? '';
    return volumeIn(before, slot) === null
      ? [{ field, problem: `instance ${before.vmid} has no volume of its own in ${slot}` }]
      : [];
  };
}

/** The size in bytes that a volume is to be grown to; null when there is no such volume or size. */
function bytesAfter({ before, params }: Change): number | null {
  const volume = volumeIn(before, params.disk ?? '');
  return volume === null ? null : sizeAfter(volume, params.size ?? '');
}
