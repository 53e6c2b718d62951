/** A VM's drives: reading and reprinting them, who may use which, and making their volumes. */

import { randomInt } from 'node:crypto';
import type { Cluster } from './cluster.ts';
import { driveFormats, qemuNet } from './formats.ts';
import type { Volume } from './model.ts';
import { familyOf } from './options.ts';
import { type Asker, demand, demandVolume } from './permit.ts';
import { type Properties, PropertyError, parseProperties, printProperties } from './property-string.ts';
import { PveError, parameterError } from './pve-error.ts';
import { formatSize, GiB, MiB, roundUp } from './sizes.ts';
import { allocate, splitVolid, storageOn } from './volumes.ts';

const driveKey = /^(ide[0-3]|sata[0-5]|scsi([12]?\d|30)|virtio(\d|1[0-5])|efidisk0|tpmstate0)$/;

export function isDriveKey(key: string): boolean {
  return driveKey.test(key);
}

/** A drive's properties; `key` says which kind it is. A text that is none is a 400 on that key. */
export function parseDrive(key: string, text: string): Properties {
  try {
    return parseProperties(driveFormats[familyOf(key)] ?? { properties: {} }, text);
  } catch (error) {
    if (error instanceof PropertyError) throw parameterError({ [key]: error.message });
    throw error;
  }
}

export function printDrive(key: string, drive: Properties): string {
  return printProperties(driveFormats[familyOf(key)] ?? { properties: {} }, drive);
}

/** A net device as PVE saves it, with an address of its own when none was given. */
export function canonicalNet(key: string, text: string): string {
  try {
    const net = parseProperties(qemuNet, text);
    return printProperties(qemuNet, { ...net, macaddr: net.macaddr ?? newMac() });
  } catch (error) {
    if (error instanceof PropertyError) throw parameterError({ [key]: error.message });
    throw error;
  }
}

/** A unicast address below Proxmox's own prefix. */
export function newMac(): string {
  const byte = () => randomInt(256).toString(16).padStart(2, '0').toUpperCase();
  return `BC:24:11:${byte()}:${byte()}:${byte()}`;
}

/** `media=cdrom`, an empty or a physical drive; a cloud-init drive is one too. */
export function isCdrom({ media }: Properties): boolean {
  return media === 'cdrom';
}

export function isCloudinit({ media, file = '' }: Properties): boolean {
  return media === 'cdrom' && /[:/]vm-\d+-cloudinit(\.\w+)?$/.test(file);
}

interface NewDisk {
  readonly storage: string;
  readonly gigabytes: number;
}

/** `<storage>:<GiB>`, or `<GiB>` alone with a default storage; undefined for anything that exists already. */
function newDiskOf(
  key: string,
  { file = '', media }: Properties,
  defaultStorage: string | undefined,
): NewDisk | undefined {
  const match = /^(?:([^/:\s]+):)?(\d+(?:\.\d+)?)$/.exec(file);
  if (match === null || media === 'cdrom') return undefined;
  const storage = match[1] ?? defaultStorage;
  if (storage === undefined) {
    throw new PveError(500, `no storage ID specified (and no default storage) for '${key}'`);
  }
  return { storage, gigabytes: Number(match[2]) };
}

function newCloudinitOf({ file = '' }: Properties, defaultStorage: string | undefined): string | undefined {
  const match = /^(?:([^/:\s]+):)?cloudinit$/.exec(file);
  return match === null ? undefined : (match[1] ?? defaultStorage);
}

/** Refuses a drive that the caller may not have: its storage, its volume, its source of data. */
export function demandDrive(asker: Asker, key: string, drive: Properties, vmid: number, defaultStorage?: string): void {
  const { file = 'none' } = drive;
  if (file === 'none' || newCloudinitOf(drive, defaultStorage) !== undefined) return;
  if (file === 'cdrom') {
    demand(asker, '/', ['Sys.Console']);
    return;
  }
  const fresh = newDiskOf(key, drive, defaultStorage);
  if (fresh === undefined) {
    demandVolume(asker, vmid, file);
    demandContent(key, drive);
    return;
  }
  demand(asker, `/storage/${fresh.storage}`, ['Datastore.AllocateSpace']);
  const definition = asker.cluster.storages.get(fresh.storage);
  if (definition && !definition.content.includes('images')) {
    throw parameterError({ storage: `storage '${fresh.storage}' does not support vm images` });
  }
  if (drive['import-from'] !== undefined) demandVolume(asker, vmid, drive['import-from']);
}

function demandContent(key: string, { file = '', media }: Properties): void {
  const name = splitVolid(file)?.name ?? '';
  if (/^(vztmpl|backup|snippets|import|rootdir)\//.test(name)) {
    throw parameterError({ [key]: "content type needs to be 'images' or 'iso'" });
  }
  if (name.startsWith('iso/') && media !== 'cdrom') {
    throw parameterError({ [key]: 'explicit media type is required for iso images' });
  }
}

/** Where a VM's volumes are made. */
export interface Site {
  readonly cluster: Cluster;
  readonly node: string;
  readonly vmid: number;
}

/**
 * The drive as the configuration keeps it; what is asked for anew is allocated now and its real name and size filled in.
 * Of a volume that is in `before`, the drive as it is now, PVE keeps what is said, a wrong size or none included.
 */
export function realize(
  site: Site,
  key: string,
  drive: Properties,
  { storage: defaultStorage, before }: { readonly storage?: string | undefined; readonly before?: string } = {},
): string {
  const { format, 'import-from': source, ...kept } = drive;
  const { file = 'none' } = drive;
  const cloudinit = newCloudinitOf(drive, defaultStorage);
  if (cloudinit !== undefined) {
    const volume = allocate(site.cluster, {
      ...site,
      storage: cloudinit,
      content: 'images',
      bytes: 4 * MiB,
      role: 'cloudinit',
    });
    return printDrive(key, { ...kept, file: volume.volid, media: 'cdrom' });
  }
  if (file === 'none' || file === 'cdrom') {
    const { size: _size, ...empty } = kept;
    return printDrive(key, empty);
  }
  const fresh = newDiskOf(key, drive, defaultStorage);
  if (before !== undefined && parseDrive(key, before).file === file) return printDrive(key, kept);
  if (fresh === undefined) return printDrive(key, { ...kept, size: formatSize(existing(site, file).bytes) });
  const bytes = source === undefined ? bytesOf(key, drive, fresh) : importedBytes(site, key, fresh, source);
  const volume = allocate(site.cluster, {
    ...site,
    storage: fresh.storage,
    content: 'images',
    bytes,
    ...(format === undefined ? {} : { format }),
  });
  const isFixed = fixedBytes(key, drive) !== undefined;
  return printDrive(key, { ...kept, file: volume.volid, size: formatSize(isFixed ? volume.bytes : bytes) });
}

const KiB = 1024;

/** The number given does not matter for these two: they are as big as what they hold. */
function fixedBytes(key: string, { efitype }: Properties): number | undefined {
  if (key === 'tpmstate0') return 4 * MiB;
  if (key === 'efidisk0') return (efitype === '4m' ? 528 : 128) * KiB;
  return undefined;
}

function bytesOf(key: string, drive: Properties, { gigabytes }: NewDisk): number {
  return fixedBytes(key, drive) ?? roundUp(gigabytes * GiB, KiB);
}

function importedBytes(site: Site, key: string, { gigabytes }: NewDisk, source: string): number {
  if (gigabytes !== 0) throw parameterError({ [key]: "size must be 0 when using 'import-from'" });
  const volume = existing(site, source);
  if (volume.content !== 'images' && volume.content !== 'import') {
    throw parameterError({ [key]: `'${source}' is neither an image nor a file to import` });
  }
  return volume.bytes;
}

function existing({ cluster, node }: Site, volid: string): Volume {
  const parts = splitVolid(volid);
  if (parts !== undefined) storageOn(cluster, node, parts.storage);
  const volume = cluster.volumes.get(node, volid);
  if (volume === undefined) throw new PveError(500, `volume '${volid}' does not exist`);
  return volume;
}
