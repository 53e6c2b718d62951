/** Growing, moving and handing over a VM's drives. */

import { isCdrom, isDriveKey, parseDrive, printDrive } from './drives.ts';
import {
  assertDigest,
  assertUnlocked,
  freeVolume,
  guestAt,
  isInSnapshot,
  isTemplate,
  keepUnused,
  owns,
  saved,
} from './guests.ts';
import type { Context } from './method.ts';
import type { Guest, Volume } from './model.ts';
import { copyOrGive } from './moving.ts';
import { demand, demandSkiplock } from './permit.ts';
import type { Properties } from './property-string.ts';
import { PveError, parameterError } from './pve-error.ts';
import { formatSize, resizedBytes } from './sizes.ts';
import { allocate, grow, handOver, splitVolid } from './volumes.ts';

interface Attached {
  readonly key: string;
  readonly drive: Properties;
  readonly volume: Volume;
}

/** The drive with its volume; refused when the key has none that could be changed. */
function attached({ cluster }: Context, guest: Guest, key: string, purpose: 'resize' | 'move'): Attached {
  const value = guest.config.get(key);
  if (value === undefined) throw new PveError(500, `disk '${key}' does not exist`);
  const drive = parseDrive(key, value);
  if (isCdrom(drive)) throw new PveError(500, `you can't ${purpose} a cdrom`);
  const volume = cluster.volumes.get(guest.node, drive.file ?? '');
  if (volume === undefined) throw new PveError(500, `disk '${key}' has no associated volume`);
  return { key, drive, volume };
}

/** Starts a resize and answers the task. `+` counts from the volume's real size when the task does its work. */
export function resizeDrive(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  const key = String(param.disk);
  demandSkiplock(context, param.skiplock);
  const check = () => {
    assertDigest(guest, param.digest);
    if (!param.skiplock) assertUnlocked(guest);
    const found = attached(context, guest, key, 'resize');
    demand(context, `/storage/${found.volume.storage}`, ['Datastore.AllocateSpace']);
    const bytes = resizedBytes(String(param.size), found.volume.bytes) ?? 0;
    if (bytes < found.volume.bytes) throw new PveError(500, 'shrinking disks is not supported');
    return { ...found, bytes };
  };
  check();
  return cluster.tasks.start({
    node,
    type: 'resize',
    id: String(guest.vmid),
    caller,
    run() {
      const { drive, volume, bytes } = check();
      if (bytes === volume.bytes) return;
      guest.config.set(key, printDrive(key, { ...drive, size: formatSize(grow(cluster, volume, bytes)) }));
    },
  });
}

/** Starts a move to another storage or to another VM, and answers the task. */
export function moveDrive(context: Context, guest: Guest): string {
  return copyOrGive(
    context,
    (storage) => copyDrive(context, guest, storage),
    () => giveDrive(context, guest),
  );
}

/** The old volume becomes unused unless it is to go; both count then. */
function copyDrive(context: Context, guest: Guest, storage: string): string {
  const { cluster, node, caller, param } = context;
  const key = String(param.disk);
  const check = () => {
    assertUnlocked(guest);
    assertDigest(guest, param.digest);
    if (!isDriveKey(key)) throw new PveError(500, `moving '${key}' is not supported`);
    const found = attached(context, guest, key, 'move');
    if (found.volume.storage === storage && [undefined, found.volume.format].includes(param.format as string)) {
      throw new PveError(500, "you can't move to the same storage with same format");
    }
    if (param.delete && isInSnapshot(guest, found.volume.volid)) {
      throw new PveError(500, "you can't move a disk with snapshots and delete the source");
    }
    return found;
  };
  demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
  check();
  return cluster.tasks.start({
    node,
    type: 'qmmove',
    id: String(guest.vmid),
    caller,
    run() {
      const { drive, volume } = check();
      const copy = allocate(cluster, {
        ...{ node, storage, vmid: guest.vmid, content: 'images', bytes: volume.bytes },
        ...(param.format === undefined ? {} : { format: String(param.format) }),
      });
      guest.config.set(key, printDrive(key, { ...drive, file: copy.volid, size: formatSize(copy.bytes) }));
      if (param.delete) freeVolume(cluster, guest, volume.volid);
      else if (owns(guest, volume.volid)) keepUnused(guest, volume.volid);
      saved(guest);
    },
  });
}

/** The volume takes the other VM's name; the key leaves this one. */
function giveDrive(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  const [key, targetVmid] = [String(param.disk), Number(param['target-vmid'])];
  const targetKey = String(param['target-disk'] ?? key);
  demand(context, `/vms/${targetVmid}`, ['VM.Config.Disk']);
  if (targetVmid === guest.vmid) {
    throw parameterError({ 'target-vmid': 'must be different than source VMID to reassign disk to another VM' });
  }
  const check = () => {
    const target = targetOf(context, targetVmid);
    for (const [one, digest] of [[guest, param.digest] as const, [target, param['target-digest']] as const]) {
      assertUnlocked(one);
      assertDigest(one, digest);
      if (isTemplate(one)) throw new PveError(500, 'Moving disks between templates is not supported');
    }
    const found = attached(context, guest, key, 'move');
    demand(context, `/storage/${found.volume.storage}`, ['Datastore.AllocateSpace']);
    if (target.config.has(targetKey))
      throw new PveError(500, `Target disk key '${targetKey}' is already in use for VM`);
    if (isInSnapshot(guest, found.volume.volid)) {
      throw new PveError(500, 'Moving a disk used by a snapshot to another VM is not supported');
    }
    if (guest.status === 'running' && isDriveKey(key) && /^(ide|sata|efidisk|tpmstate)/.test(key)) {
      throw new PveError(500, `Cannot move disk '${key}' of a running VM`);
    }
    return { ...found, target };
  };
  check();
  return cluster.tasks.start({
    node,
    type: 'qmmove',
    id: `${guest.vmid}-${key}>${targetVmid}-${targetKey}`,
    caller,
    run() {
      const { drive, volume, target } = check();
      const moved = handOver(cluster, volume, node, targetVmid);
      guest.config.delete(key);
      const isUnused = targetKey.startsWith('unused');
      const kept = isUnused ? { file: moved.volid } : { ...drive, file: moved.volid, size: formatSize(moved.bytes) };
      target.config.set(targetKey, printDrive(targetKey, kept));
    },
  });
}

function targetOf({ cluster, node }: Context, vmid: number): Guest {
  const target = cluster.guests.get(vmid);
  if (target?.type === 'qemu' && target.node !== node) {
    throw new PveError(500, `Both VMs need to be on the same node (${node}) but target VM is on ${target.node}.`);
  }
  return guestAt(cluster, node, 'qemu', vmid);
}

/** The storages of a VM's disks, in order of their keys. */
export function driveStorages(guest: Guest): readonly string[] {
  return [...guest.config]
    .filter(([key, value]) => isDriveKey(key) && !isCdrom(parseDrive(key, value)))
    .map(([key, value]) => splitVolid(parseDrive(key, value).file ?? '')?.storage)
    .filter((storage) => storage !== undefined);
}
