/** Backups as projections need them: one more of them, and what an instance becomes when one is restored. */

import {
  type Config,
  drivesOf,
  type GuestType,
  type Instance,
  isDiskSlot,
  onStorage,
  smallDrive,
  type Volume,
} from './instance.ts';
import { driveOf, isCloudInitDrive, keysIn } from './projections.ts';

/** The instance with a backup more than it has now. */
export function backedUp(before: Instance): Instance {
  return { ...before, backups: [...(before.backups ?? []), { volid: '', bytes: 0, ctime: 0 }] };
}

/** What a backup holds: the guest's configuration, and for a VM the storage that each of its drives was on. */
export interface Archive {
  readonly config: Config;
  readonly storages: ReadonlyMap<string, string>;
  /** Whether the backup says which drives it holds. */
  readonly mapped: boolean;
}

/** Keys of a configuration that PVE does not bring back. */
const notRestored = /^(?:unused\d+|parent|lock|snapstate|snaptime|vmstate|running.*)$/;

/** Reads the text that PVE extracts from a backup: the current configuration stands first, sections of snapshots follow. Null when it is none. */
export function readArchive(type: GuestType, text: unknown): Archive | null {
  if (typeof text !== 'string') return null;
  const config: Record<string, string> = {};
  const storages = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (/^\[.*\]\s*$/.test(line)) break;
    const [, drive, storage] = /^#qmdump#map:([a-z]+\d+):[^:]*:([^:]+):/.exec(line) ?? [];
    if (drive !== undefined && storage !== undefined) storages.set(drive, storage);
    const [, key, value] = /^([a-z][\w-]*):(.*)$/s.exec(line) ?? [];
    if (key !== undefined && value !== undefined && !notRestored.test(key)) config[key] = value.trim();
    if (type === 'lxc' && /^lxc\.[a-z]/.test(line)) config.lxc = line.trim();
  }
  if (Object.keys(config).length === 0) return null;
  return { config, storages, mapped: type === 'qemu' && storages.size > 0 };
}

/**
 * The instance as a restore would leave it: the archive's configuration overlaid by the call's, its volumes with the
 * archive's sizes on the call's `storage`, or on those that the archive names. A size that the archive does not state is
 * unknown. Volumes whose slots the archive does not bring back stay.
 */
export function restored(before: Instance, archive: Archive | null, params: Config): Instance {
  const { type } = before;
  if (archive === null) return notTold(before);
  const given = keysIn(params);
  const givesDisks = Object.keys(given).some((key) => isDiskSlot(type, key));
  const base = Object.fromEntries(
    Object.entries(archive.config).filter(([key]) => !givesDisks || !isDiskSlot(type, key)),
  );
  const next: Record<string, string> = { ...base, ...given };
  const volumes = new Map(before.volumes);
  for (const slot of Object.keys(next)) {
    const replaced = driveOf(before, slot);
    if (replaced?.kind === 'volume') volumes.delete(replaced.volid);
  }
  for (const [slot, drive] of drivesOf(type, base)) {
    if (drive?.kind !== 'volume') continue;
    const isCloudInit = type === 'qemu' && isCloudInitDrive(drive.volid);
    // A VM's drive that was left out of the backup has no line in its map, and is not brought back.
    if (archive.mapped && !archive.storages.has(slot) && !isCloudInit) {
      delete next[slot];
      continue;
    }
    const size = isCloudInit ? smallDrive : drive.size;
    const storage = params.storage ?? archive.storages.get(slot) ?? drive.storage;
    // The new volume has no name yet; a blank keeps it apart from every volume id.
    const volume: Volume = {
      volid: `${storage}: ${slot} of the archive`,
      storage,
      bytes: onStorage(type === 'lxc' ? wholeMiB(size ?? 0) : (size ?? 0)),
      format: '',
    };
    if (size === undefined) next[slot] = `${storage}:0,import-from=archive`;
    else {
      volumes.set(volume.volid, volume);
      delete next[slot];
    }
  }
  return { ...before, current: next, next, volumes };
}

/** PVE makes a container's volume anew in whole MiB; one of less has no limit: 0. */
function wholeMiB(bytes: number): number {
  return Math.floor(bytes / 1024 ** 2) * 1024 ** 2;
}

/** Reads the answer of `GET .../snapshot/{name}/config`: the configuration of that time. Null when it is none. */
export function readSnapshot(data: unknown): Config | null {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return null;
  const entries = Object.entries(data).filter(([key]) => !notRestored.test(key) && key !== 'digest');
  return entries.length === 0 ? null : Object.fromEntries(entries.map(([key, value]) => [key, String(value)]));
}

/** The instance as a rollback would leave it: with the snapshot's configuration, and every volume that it has now. */
export function rolledBack(before: Instance, snapshot: Config | null): Instance {
  return snapshot === null ? notTold(before) : { ...before, next: snapshot };
}

/** What an instance becomes when PVE does not tell: of its storages, anything. */
function notTold(before: Instance): Instance {
  const slot = before.type === 'qemu' ? 'scsi0' : 'rootfs';
  return { ...before, next: { ...before.next, [slot]: 'not told by PVE' } };
}
