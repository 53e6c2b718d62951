/** A qemu or lxc guest as PVE holds it: read once from PVE's answers, and from then on plain data. */

import { type PropertyFormat, PropertyStringError, parsePropertyString } from './property-string.ts';
import { rowsIn } from './rows.ts';
import { parseSize } from './size.ts';

export type GuestType = 'qemu' | 'lxc';

/** A guest's configuration, key to text, as PVE stores it. */
export type Config = Readonly<Record<string, string>>;

/** What an instance needs to know of the node that it is on. */
export interface Host {
  readonly node: string;
  /** Logical CPUs; absent when unknown. */
  readonly cpus?: number;
  /** PCI function (`0000:41:00.0`) to device name. */
  readonly devices?: ReadonlyMap<string, string>;
  /** PVE's resource mappings, by name, with the PCI ids of the one device that each stands for on this node; those with a choice are left out. */
  readonly mappings?: ReadonlyMap<string, readonly string[]>;
  /** Its own storages whose volumes PVE may replicate to other nodes; absent when unknown. */
  readonly replicates?: ReadonlySet<string>;
}

/** One image that a storage holds for an instance. */
export interface Volume {
  readonly volid: string;
  readonly storage: string;
  /** Virtual size in bytes; 0 where the storage sets no limit (directories and subvolumes without quota). */
  readonly bytes: number;
  readonly format: string;
  /** The node whose own storage holds it, when that is not the guest's node: a replica, or what was left behind. */
  readonly node?: string;
}

/** What the replication jobs of a guest keep elsewhere. */
export interface Replication {
  readonly targets: readonly string[];
  /** PVE also copies what a snapshot names, whatever the configuration keeps out. */
  readonly hasSnapshots: boolean;
}

/** One backup of an instance on the storage that backups are counted on. */
export interface Backup {
  readonly volid: string;
  readonly bytes: number;
  /** Seconds since 1970. */
  readonly ctime: number;
}

/**
 * All that PVE holds for one guest. `current` is what it runs with, `next` what it will have once every pending
 * change was applied; `volumes` is every image that a storage lists under its vmid, in a configuration or not.
 */
export interface Instance {
  readonly type: GuestType;
  readonly vmid: number;
  readonly host: Host;
  readonly current: Config;
  readonly next: Config;
  readonly volumes: ReadonlyMap<string, Volume>;
  /** Its backups, as far as they are counted; one that is older than the guest was an earlier guest's. */
  readonly backups?: readonly Backup[];
  /** What an earlier guest of its vmid has left and its payer still pays for: not to be brought back. */
  readonly leftBackups?: readonly Backup[];
  /** Absent: it has no jobs. */
  readonly replication?: Replication;
  /** PVE's digest of the configuration file that `current` and `next` came from. */
  readonly digest?: string;
  /** There is no such guest (any more): all that is held are `volumes`. */
  readonly absent?: true;
}

/**
 * Reads the answer of `GET .../pending`; null when it has not the shape that PVE promises. Where nothing is pending,
 * `next` is `current` itself, so that nothing is measured twice.
 */
export function readPending(data: unknown): { current: Config; next: Config; digest: string | undefined } | null {
  const rows = rowsIn(data);
  if (rows === null) return null;
  const current: Record<string, string> = {};
  const next: Record<string, string> = {};
  let digest: string | undefined;
  let isPending = false;
  for (const { key, delete: isDeleted, ...row } of rows) {
    const [value, pending] = [row.value ?? undefined, row.pending ?? undefined];
    if (typeof key !== 'string' || !isScalar(value) || !isScalar(pending)) return null;
    if (key === 'digest') {
      digest = String(value);
      continue;
    }
    isPending ||= pending !== undefined || Boolean(isDeleted);
    if (value !== undefined) current[key] = String(value);
    if (pending !== undefined) next[key] = String(pending);
    else if (value !== undefined && !isDeleted) next[key] = String(value);
  }
  return { current, next: isPending ? next : current, digest };
}

function isScalar(value: unknown): boolean {
  return value === undefined || typeof value === 'string' || typeof value === 'number';
}

/** The values of a stored property string; null when it is none, for those who must go on without it. */
export function propertiesOf(text: string, format: PropertyFormat): ReadonlyMap<string, string> | null {
  try {
    return parsePropertyString(text, format);
  } catch (error) {
    if (error instanceof PropertyStringError) return null;
    throw error;
  }
}

const diskSlots: Readonly<Record<GuestType, RegExp>> = {
  qemu: /^(?:ide[0-3]|sata[0-5]|scsi(?:[0-9]|[12][0-9]|30)|virtio(?:[0-9]|1[0-5])|efidisk0|tpmstate0|unused(?:[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))$/,
  lxc: /^(?:rootfs|(?:mp|unused)(?:[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))$/,
};

/** Whether `name` is exactly one of the slots that can hold a volume on such a guest. */
export function isDiskSlot(type: GuestType, name: string): boolean {
  return diskSlots[type].test(name);
}

/** Whether `name` is a slot for a device of the host that is passed through: `hostpci0`, ... */
export function isDeviceSlot(name: string): boolean {
  return /^hostpci\d+$/.test(name);
}

/** Whether `name` is `net0` to `net31`. */
export function isNetSlot(name: string): boolean {
  return /^net(?:[0-9]|[12][0-9]|3[01])$/.test(name);
}

/** What a disk slot holds. */
export type Drive =
  /** An image, by volume id; `size` in bytes as the configuration states it, which PVE does not guarantee. */
  | { readonly kind: 'volume'; readonly volid: string; readonly storage: string; readonly size?: number }
  /** Text that makes PVE allocate an image: `store:8`, `store:cloudinit`. `bytes`: at most what it takes, 0 for one without limit. */
  | { readonly kind: 'allocation'; readonly storage: string; readonly bytes: number }
  /** A CD-ROM medium or an empty drive: takes nothing. */
  | { readonly kind: 'medium'; readonly volid?: string }
  /** A path or device of the host, which root alone can attach: takes nothing of any storage. */
  | { readonly kind: 'path'; readonly path: string }
  /** Text that makes PVE allocate a copy of an image, as large as that really is: the text does not tell. */
  | { readonly kind: 'import'; readonly storage: string; readonly source: string }
  /** A text of no known form: how much it takes cannot be told. */
  | { readonly kind: 'opaque'; readonly text: string };

const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;

/** Storages allocate in steps of their own (an LVM extent is the largest usual one), so an allocation may take this much more. */
const extent = 4 * mib;

/** The most that a storage takes for a volume of so many bytes. */
export function onStorage(bytes: number): number {
  return Math.ceil(bytes / extent) * extent;
}

/** Cloud-init, TPM and EFI variable drives: PVE chooses their size, and it is at most this. */
export const smallDrive = 4 * mib;

const allocation = /^([A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):(\d+(?:\.\d+)?)$/;
const volumeId = /^([A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):([^\s,:]+)$/;

/** Reads what a disk slot holds; null when the text is not one that this server understands. */
export function parseDrive(type: GuestType, slot: string, text: string): Drive | null {
  const properties = propertiesOf(text, {
    defaultKey: type === 'qemu' ? 'file' : 'volume',
    aliases: type === 'qemu' ? { volume: 'file' } : {},
  });
  const file = properties?.get(type === 'qemu' ? 'file' : 'volume');
  if (properties == null || file === undefined) return null;
  if (type === 'qemu' && file === 'none') return { kind: 'medium' };
  if (type === 'qemu' && file === 'cdrom') return { kind: 'path', path: file };
  const source = properties.get('import-from');
  if (source !== undefined) return parseImport(type, slot, file, source) ?? { kind: 'opaque', text };
  if (file.startsWith('/')) return { kind: 'path', path: file };
  const [, allocatedOn, amount] = allocation.exec(file) ?? [];
  if (allocatedOn !== undefined && amount !== undefined) {
    const bytes = allocatedBytes(type, slot, amount);
    return Number.isSafeInteger(bytes) ? { kind: 'allocation', storage: allocatedOn, bytes } : null;
  }
  const [, storage, name] = volumeId.exec(file) ?? [];
  if (storage === undefined || name === undefined) return { kind: 'opaque', text };
  if (name === 'cloudinit') return { kind: 'allocation', storage, bytes: smallDrive };
  if (properties.get('media') === 'cdrom' && name.startsWith('iso/')) return { kind: 'medium', volid: file };
  const stated = properties.get('size');
  const size = stated === undefined ? undefined : parseSize(stated);
  if (size === null) return null;
  return { kind: 'volume', volid: file, storage, ...(size === undefined ? {} : { size }) };
}

/** PVE imports disks for VMs alone, and only where the text gives no size of its own. */
function parseImport(type: GuestType, slot: string, file: string, source: string): Drive | null {
  const [, storage, amount] = allocation.exec(file) ?? [];
  const isDisk = type === 'qemu' && slot !== 'efidisk0' && slot !== 'tpmstate0';
  return isDisk && storage !== undefined && Number(amount) === 0 ? { kind: 'import', storage, source } : null;
}

/**
 * The most that `store:<amount GiB>` takes, in bytes. PVE rounds a VM's disk up to KiB and a container's down to MiB;
 * a container's volume of less than 1 MiB becomes one without limit: 0.
 */
function allocatedBytes(type: GuestType, slot: string, amount: string): number {
  if (slot === 'efidisk0' || slot === 'tpmstate0') return smallDrive;
  const bytes = Number(amount) * gib;
  return onStorage(type === 'qemu' ? Math.ceil(bytes / kib) * kib : Math.floor(bytes / mib) * mib);
}

/** The vmid that owns a volume by its name, or null when the name tells none. */
export function volumeOwner(volid: string): number | null {
  const name = volid.slice(volid.indexOf(':') + 1);
  const last = name.slice(name.lastIndexOf('/') + 1);
  const named = /^(?:vm|base|subvol|basevol)-(\d+)-/.exec(last) ?? /^(\d+)\//.exec(name);
  return named?.[1] === undefined ? null : Number(named[1]);
}

/** The vmid that a backup is of by its name, or null when it is no backup. */
export function backupOwner(volid: string): number | null {
  const name = volid.slice(volid.indexOf(':') + 1);
  const [, file, snapshot] = /^backup\/(?:vzdump-(?:qemu|lxc)-(\d+)-[^/]+|(?:vm|ct)\/(\d+)\/[^/]+)$/.exec(name) ?? [];
  return file === undefined && snapshot === undefined ? null : Number(file ?? snapshot);
}

/** All disk slots of a configuration with what they hold; null for text that is not understood. */
export function drivesOf(type: GuestType, config: Config): ReadonlyMap<string, Drive | null> {
  const drives = new Map<string, Drive | null>();
  for (const [key, text] of Object.entries(config)) {
    if (isDiskSlot(type, key)) drives.set(key, parseDrive(type, key, text));
  }
  return drives;
}

/** When a guest was made, in seconds since 1970, by the `meta` that PVE writes; undefined for those made otherwise and for containers. */
export function bornAt(current: Config, next = current): number | undefined {
  const ctime = /(?:^|,)ctime=(\d+)/.exec(current.meta ?? next.meta ?? '')?.[1];
  return ctime === undefined ? undefined : Number(ctime);
}

/**
 * What tells this guest from another that had the same vmid: the creation time in `meta`, else the SMBIOS uuid.
 * Containers carry neither: undefined.
 */
export function birthMark(current: Config, next = current): string | undefined {
  const ctime = bornAt(current, next);
  if (ctime !== undefined) return `ctime=${ctime}`;
  const uuid = /(?:^|,)uuid=([0-9a-fA-F-]+)/.exec(current.smbios1 ?? '')?.[1];
  return uuid === undefined ? undefined : `uuid=${uuid.toLowerCase()}`;
}

/** The bus id of the whole device that a PCI id names: `41:00.0` and `0000:41:00` are on `0000:41:00`; null for anything else. */
export function pciBus(id: string): string | null {
  const [, domain = '0000', bus] = /^(?:([0-9a-f]{4}):)?([0-9a-f]{2}:[0-9a-f]{2})(?:\.[0-9a-f])?$/i.exec(id) ?? [];
  return bus === undefined ? null : `${domain}:${bus}`.toLowerCase();
}

/** The PCI ids that one `hostpciN` passes through on a node; null when that cannot be told. */
export function passedThrough(text: string, host: Host): readonly string[] | null {
  const properties = propertiesOf(text, { defaultKey: 'host' });
  const mapping = properties?.get('mapping');
  const ids = mapping === undefined ? properties?.get('host')?.split(';') : host.mappings?.get(mapping);
  return ids === undefined || ids.length === 0 ? null : ids;
}
