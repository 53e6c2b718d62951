/** Making VMs of backups, new ones or in place of what they were. */

import { randomUUID } from 'node:crypto';
import { archiveAt } from './archives.ts';
import { withNewMac } from './clones.ts';
import { givenOptions } from './config-write.ts';
import { isCdrom, isCloudinit, isDriveKey, parseDrive, printDrive } from './drives.ts';
import {
  assertUnlocked,
  assertUnprotected,
  freeVolume,
  keepUnused,
  owns,
  saved,
  volumeIn,
  volumesIn,
} from './guests.ts';
import { overwritten, reserveGuest } from './lifecycle.ts';
import type { Context } from './method.ts';
import type { Archive, Guest, Volume } from './model.ts';
import { qemuOptions } from './options.ts';
import { textOf } from './parameters.ts';
import { demand, demandAllocate, demandVolume } from './permit.ts';
import { PveError, parameterError } from './pve-error.ts';
import { canonicalOptions, demandDevices, demandOptions, demandStorages } from './qemu-config.ts';
import { autostart } from './qemu-power.ts';
import { formatSize, MiB } from './sizes.ts';
import { makeBases } from './templates.ts';
import { allocate, splitVolid, storageOn, volidOf } from './volumes.ts';

/**
 * Starts a restore and answers the task. The configuration is that of the backup with the parameters laid over it;
 * disks come back in the sizes of the archive's header. A restore that fails leaves a configuration behind: an empty
 * one under a new vmid, and that of before under one that it was to replace.
 */
export function restoreVm(context: Context): string {
  const { cluster, node, caller, param } = context;
  const [vmid, pool, storage] = [Number(param.vmid), textOf(param.pool), textOf(param.storage)];
  const volid = volidOf(cluster, String(param.archive));
  const given = givenOptions(qemuOptions, param);
  const before = overwritten(context, 'qemu');
  if (storage !== undefined) demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
  demandAllocate(context, vmid, pool, before !== undefined);
  for (const key of given.keys()) {
    if (isDriveKey(key)) throw parameterError({ [key]: "option conflicts with option 'archive'" });
  }
  demandVolume(context, vmid, volid);
  if (splitVolid(volid)?.name.startsWith('backup/') !== true) throw new PveError(500, `'${volid}' is not a backup`);
  const set = canonicalOptions(context, given);
  demandStorages(context, vmid, set, storage);
  demandOptions(context, vmid, pool, { set, delete: [] });
  if (param['ha-managed']) demand(context, '/', ['Sys.Console']);

  const purpose = `unable to restore VM ${vmid}`;
  if (before !== undefined) assertUnlocked(before);
  const guest = before ?? reserveGuest(context, { vmid, type: 'qemu' }, 'restore');
  guest.config.set('lock', 'create');
  return cluster.tasks.start({
    node,
    type: 'qmrestore',
    id: String(vmid),
    caller,
    run(log) {
      guest.config.delete('lock');
      assertUnprotected(guest, purpose);
      if (guest.status === 'running') throw new PveError(500, `${purpose} - vm is running`);
      const archive = archiveAt(cluster, node, volid);
      if (archive.type !== 'qemu') throw new PveError(500, `${purpose} - '${volid}' is no backup of a VM`);
      demandDevices(context, new Map([...archive.config, ...set]));
      if (param['live-restore']) {
        throw new PveError(500, 'live-restore is only compatible with backup images from a Proxmox Backup Server');
      }
      unpack(context, guest, archive, set);
      if (pool !== undefined) cluster.join(pool, vmid);
      return param.start ? autostart(context, guest, log) : undefined;
    },
    abandon() {
      guest.config.delete('lock');
    },
  });
}

function unpack(context: Context, guest: Guest, archive: Archive, set: ReadonlyMap<string, string>): void {
  const { cluster } = context;
  freeReplaced(context, guest, archive);
  const made: Volume[] = [];
  try {
    guest.config = new Map([...restoredConfig(context, guest, archive, made), ...set]);
  } catch (error) {
    for (const volume of made) cluster.volumes.remove(volume);
    throw error;
  }
  guest.pending.clear();
  guest.snapshots.clear();
  adoptLeftovers(context, guest);
  if (guest.config.get('template') === '1') makeBases(context, guest);
}

/** The disks that the backup brings anew are freed, and all saved memory; other volumes stay where they are. */
function freeReplaced({ cluster }: Context, guest: Guest, { config }: Archive): void {
  const replaced = [...guest.config].filter(([key]) => isDriveKey(key) && config.has(key)).map(([, value]) => value);
  const states = [guest.config, ...[...guest.snapshots.values()].map((snapshot) => snapshot.config)];
  for (const value of [...replaced, ...states.map((state) => state.get('vmstate') ?? '')]) {
    const volid = volumeIn(value);
    if (volid !== undefined && owns(guest, volid)) freeVolume(cluster, guest, volid);
  }
}

function restoredConfig(context: Context, guest: Guest, { config, disks }: Archive, made: Volume[]) {
  const { cluster, param } = context;
  const restored = new Map<string, string>();
  const make = (storage: string, wanted: { bytes: number; format?: string; role?: string }) => {
    const volume = makeDisk(context, guest, textOf(param.storage) ?? storage, wanted);
    made.push(volume);
    return volume;
  };
  for (const [key, value] of config) {
    if (/^(lock|parent|vmstate|unused\d+)$/.test(key)) continue;
    const disk = disks.find((one) => one.key === key);
    const drive = isDriveKey(key) ? parseDrive(key, value) : {};
    if (disk !== undefined) {
      const volume = make(cluster.storages.has(disk.storage) ? disk.storage : 'local', disk);
      restored.set(key, printDrive(key, { ...drive, file: volume.volid, size: formatSize(volume.bytes) }));
    } else if (isCloudinit(drive)) {
      const volume = make(splitVolid(drive.file ?? '')?.storage ?? 'local', { bytes: 4 * MiB, role: 'cloudinit' });
      restored.set(key, printDrive(key, { ...drive, file: volume.volid }));
    } else if (!isDriveKey(key) || isCdrom(drive) || drive.backup !== '0') {
      restored.set(key, param.unique || key === 'vmgenid' ? renewed(key, value) : value);
    }
  }
  return restored;
}

function makeDisk(
  context: Context,
  { vmid }: Guest,
  storage: string,
  { bytes, format, role }: { bytes: number; format?: string; role?: string },
): Volume {
  const { cluster, node } = context;
  demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
  if (!storageOn(cluster, node, storage).content.includes('images')) {
    throw new PveError(500, `Content type 'images' is not available on storage '${storage}'`);
  }
  return allocate(cluster, {
    ...{ node, storage, vmid, content: 'images', bytes },
    ...(format === undefined ? {} : { format }),
    ...(role === undefined ? {} : { role }),
  });
}

/** Identities that must not be twice in a cluster. */
function renewed(key: string, value: string): string {
  if (/^net\d+$/.test(key)) return withNewMac('qemu', key, value);
  if (key === 'smbios1') return value.replace(/uuid=[^,]*/, `uuid=${randomUUID()}`);
  return key === 'vmgenid' && value !== '0' ? randomUUID() : value;
}

/** Every image that bears the vmid and is in no key becomes unused, whoever left it there. */
function adoptLeftovers({ cluster, node }: Context, guest: Guest): void {
  const known = new Set(volumesIn(guest.config));
  for (const volume of cluster.volumes.ofGuest(guest.vmid)) {
    const isHere = volume.content === 'images' && (volume.node === '' || volume.node === node);
    if (isHere && !known.has(volume.volid) && !/-(cloudinit|state-)/.test(volume.volid))
      keepUnused(guest, volume.volid);
  }
  saved(guest);
}
