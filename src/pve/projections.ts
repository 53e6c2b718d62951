/** What a call would make of an instance. Pure, and total: what cannot be understood shows up as unknown usage, never as none. */

import {
  type Config,
  type Drive,
  drivesOf,
  type GuestType,
  type Host,
  type Instance,
  isDiskSlot,
  onStorage,
  parseDrive,
  propertiesOf,
  smallDrive,
  type Volume,
} from './instance.ts';
import { parseSize } from './size.ts';

/** Parameters that say how to create or change a guest rather than what it is. */
const directives = new Set([
  'vmid',
  'node',
  'pool',
  'start',
  'storage',
  'digest',
  'delete',
  'revert',
  'force',
  'unique',
  'archive',
  'restore',
  'ostemplate',
  'ssh-public-keys',
  'password',
  'bwlimit',
  'background_delay',
]);

/** The configuration that a call gives, without what says how to go about it. */
export function keysIn(params: Config): Config {
  return Object.fromEntries(Object.entries(params).filter(([key]) => !directives.has(key)));
}

/** PVE's lists are split at commas, semicolons and white space. */
export function parseList(text: string | undefined): string[] {
  return (text ?? '').split(/[,;\s]+/).filter((part) => part !== '');
}

/** What a guest is before it is created: nothing but what storages may still hold under its vmid. */
export function nothingYet(type: GuestType, vmid: number, host: Host, leftovers: Instance['volumes']): Instance {
  return { type, vmid, host, current: {}, next: {}, volumes: leftovers };
}

/** A new guest. A container gets 512 MiB of memory and of swap, and a root disk of 4 GiB, where nothing is said. */
export function created(before: Instance, params: Config): Instance {
  const given = keysIn(params);
  const defaults: Config =
    before.type === 'lxc' ? { memory: '512', swap: '512', rootfs: `${params.storage ?? 'local'}:4` } : {};
  const config = withStores({ ...defaults, ...given }, params.storage);
  return { ...before, current: config, next: config };
}

/** Where drives of a new guest say only a number of GiB, they are allocated on the call's `storage`. */
export function withStores(params: Config, storage = 'local'): Config {
  const isBare = (key: string, text: string) =>
    /^(?:ide|sata|scsi|virtio|efidisk|tpmstate|rootfs|mp)\d*$/.test(key) && /^\d+(?:\.\d+)?(?:,|$)/.test(text);
  return Object.fromEntries(
    Object.entries(params).map(([key, text]) => [key, isBare(key, text) ? `${storage}:${text}` : text]),
  );
}

/**
 * A configuration write. What the guest runs with stays as it is until PVE applies the rest, and every volume stays:
 * PVE may keep one that the write was to free (it is in use, or in a snapshot), so what is freed counts when it is gone.
 */
export function configured(before: Instance, params: Config): Instance {
  const next: Record<string, string> = { ...before.next };
  for (const key of parseList(params.revert)) {
    const current = before.current[key];
    if (current === undefined) delete next[key];
    else next[key] = current;
  }
  for (const key of parseList(params.delete)) delete next[key];
  return { ...before, next: { ...next, ...keysIn(params) } };
}

/** What a slot holds now, as far as it is understood: PVE grows and copies this, whatever is pending there. */
export function driveOf({ type, current }: Instance, slot: string): Drive | null {
  const text = isDiskSlot(type, slot) ? current[slot] : undefined;
  return text === undefined ? null : parseDrive(type, slot, text);
}

/** The volume in a slot, as its storage lists it; null when there is none or the storage does not list it. */
export function volumeIn(instance: Instance, slot: string): Volume | null {
  const drive = driveOf(instance, slot);
  return drive?.kind === 'volume' ? (instance.volumes.get(drive.volid) ?? null) : null;
}

/** The absolute size in bytes that `size` (`+8G` or `40G`) means for a volume; null when it is no size, or too large a one. */
export function sizeAfter(volume: Volume, size: string): number | null {
  const bytes = parseSize(size.replace(/^\+/, ''));
  const absolute = bytes === null ? null : size.startsWith('+') ? volume.bytes + bytes : bytes;
  return Number.isSafeInteger(absolute) ? absolute : null;
}

/** A volume grown to `bytes`; PVE never shrinks one. */
export function resized(before: Instance, volume: Volume, bytes: number): Instance {
  const grown = bytes > volume.bytes ? onStorage(bytes) : volume.bytes;
  return { ...before, volumes: new Map(before.volumes).set(volume.volid, { ...volume, bytes: grown }) };
}

/** A volume copied to another storage; both count, since the old one goes, if at all, when the copy is complete. */
export function moved(before: Instance, volume: Volume, storage: string): Instance {
  return withVolume(before, storage, `copy of ${volume.volid}`, volume.bytes);
}

/** The guest destroyed: what its configuration names is freed, other volumes under its vmid stay. */
export function destroyed(before: Instance): Instance {
  const volumes = new Map(before.volumes);
  for (const config of [before.current, before.next]) {
    for (const drive of drivesOf(before.type, config).values())
      if (drive?.kind === 'volume') volumes.delete(drive.volid);
  }
  return { ...before, current: {}, next: {}, volumes, absent: true };
}

/** The instance with one more volume, which has no name yet: a blank keeps it apart from every volume id. */
export function withVolume(before: Instance, storage: string, what: string, bytes: number): Instance {
  const volid = `${storage}: ${what}`;
  const volume: Volume = { volid, storage, bytes: onStorage(bytes), format: '' };
  return { ...before, volumes: new Map(before.volumes).set(volid, volume) };
}

/** The instance without one of its volumes, which goes to another, and without the slots that held it. */
export function withoutVolume(before: Instance, { volid }: Volume): Instance {
  const volumes = new Map(before.volumes);
  volumes.delete(volid);
  const rest = (config: Config): Config => {
    const held = [...drivesOf(before.type, config)].flatMap(([slot, drive]) =>
      drive?.kind === 'volume' && drive.volid === volid ? [slot] : [],
    );
    return Object.fromEntries(Object.entries(config).filter(([key]) => !held.includes(key)));
  };
  return { ...before, current: rest(before.current), next: rest(before.next), volumes };
}

/** Where and how a copy of a guest is made. */
export interface Copying {
  /** Every volume is copied; else the copies share the template's, and count with their whole size where those lie. */
  readonly full: boolean;
  /** Where full copies go; absent: where the source has its volumes. */
  readonly storage: string | undefined;
}

/** Keys that belong to the source alone. */
const notCopied = /^(?:unused\d+|lock|parent|template|vmstate|snapstate|snaptime|running.*)$/;

/**
 * A new guest made of another one's configuration, the present one or a snapshot's. A volume is as large as its storage
 * lists it, and unknown where that does not; media stay references, and a cloud-init drive is made anew.
 */
export function cloned(before: Instance, source: Instance, config: Config, { full, storage }: Copying): Instance {
  let copy = before;
  const kept: Record<string, string> = {};
  for (const [key, text] of Object.entries(config)) {
    if (notCopied.test(key)) continue;
    const drive = isDiskSlot(source.type, key) ? parseDrive(source.type, key, text) : null;
    const isCloudInit = drive?.kind === 'volume' && isCloudInitDrive(drive.volid);
    if (drive?.kind !== 'volume' || (!isCloudInit && isCdrom(text))) {
      kept[key] = text;
      continue;
    }
    const place = full || isCloudInit ? (storage ?? drive.storage) : drive.storage;
    // What a configuration states need not be true, so only the storage's word counts.
    const bytes = isCloudInit ? smallDrive : source.volumes.get(drive.volid)?.bytes;
    if (bytes === undefined) kept[key] = `${place}:0,import-from=${drive.volid}`;
    else copy = withVolume(copy, place, `copy of ${key}`, bytes);
  }
  return { ...copy, current: kept, next: kept };
}

/** Whether a volume is a drive for cloud-init, which PVE makes anew for each guest and in no backup. */
export function isCloudInitDrive(volid: string): boolean {
  return /[/:]vm-\d+-cloudinit(?:\.\w+)?$/.test(volid);
}

function isCdrom(text: string): boolean {
  return propertiesOf(text, { defaultKey: 'file' })?.get('media') === 'cdrom';
}

/** Where each storage's local volumes go when a guest changes its node. */
export type StorageMap = (storage: string) => string;

/** PVE's mapping of storages: pairs `from:to`, one storage for all others, or `1` for the same names. */
export function storageMap(text: string | undefined): StorageMap {
  const entries = parseList(text).map((entry) => entry.split(':'));
  const pairs = new Map(entries.flatMap(([from = '', to]) => (to === undefined ? [] : [[from, to] as const])));
  const other = entries.find(([, to]) => to === undefined)?.[0];
  return (storage) => pairs.get(storage) ?? (other === undefined || other === '1' ? storage : other);
}

/**
 * The guest on another node; a volume that goes to another storage counts on both until PVE shows that it has left. Its
 * replicas there become its volumes, and the node that it leaves takes the place of that target.
 */
export function migrated(before: Instance, host: Host, map: StorageMap): Instance {
  const volumes = new Map<string, Volume>();
  for (const [key, volume] of before.volumes) {
    const { node, ...own } = volume;
    const name = node === host.node ? own.volid : key;
    const known = volumes.get(name) ?? own;
    volumes.set(name, node === undefined || node === host.node ? mostOf(known, own) : volume);
  }
  let after: Instance = { ...before, host, volumes };
  if (before.replication !== undefined) {
    const targets = before.replication.targets.map((node) => (node === host.node ? before.host.node : node));
    after = { ...after, replication: { ...before.replication, targets } };
  }
  for (const { volid, storage, bytes, node } of before.volumes.values())
    if (node === undefined && map(storage) !== storage)
      after = withVolume(after, map(storage), `copy of ${volid}`, bytes);
  return after;
}

/** The larger of two volumes of one name; one without limit is larger than any. */
function mostOf(one: Volume, other: Volume): Volume {
  return one.bytes === 0 || (other.bytes !== 0 && one.bytes >= other.bytes) ? one : other;
}

/** The storages on which PVE may put a VM's memory: the one that the VM names, else one of its disks', else `local`. */
export function stateStorages({ type, current }: Pick<Instance, 'type' | 'current'>): string[] {
  if (current.vmstatestorage !== undefined) return [current.vmstatestorage];
  const storages = disksIn(type, current).map(({ storage }) => storage);
  return storages.length === 0 ? ['local'] : [...new Set(storages)];
}

/** The volumes in a configuration's slots, but for unused ones and CD-ROMs. */
export function disksIn(
  type: GuestType,
  config: Config,
): readonly { readonly slot: string; readonly volid: string; readonly storage: string }[] {
  return [...drivesOf(type, config)].flatMap(([slot, drive]) =>
    drive?.kind === 'volume' && !slot.startsWith('unused') && !isCdrom(config[slot] ?? '')
      ? [{ slot, volid: drive.volid, storage: drive.storage }]
      : [],
  );
}

/** The VM with its memory written to each of these storages: twice the memory and 500 MiB. A memory that is not understood makes it unknown. */
export function withState(before: Instance, storages: readonly string[]): Instance {
  const sizes = [before.current, before.next].map((config) =>
    Number(propertiesOf(config.memory ?? '512', { defaultKey: 'current' })?.get('current') ?? Number.NaN),
  );
  const bytes = (2 * Math.max(...sizes) + 500) * 1024 ** 2;
  return storages.reduce((after, storage) => withVolume(after, storage, 'memory', bytes), before);
}

/** A drive whose content PVE copies from an image that is there already. */
export interface Import {
  readonly slot: string;
  readonly storage: string;
  readonly source: string;
}

/** The images that a VM's parameters import. */
export function importsOf(type: GuestType, params: Config): Import[] {
  return [...drivesOf(type, params)].flatMap(([slot, drive]) => (drive?.kind === 'import' ? [{ slot, ...drive }] : []));
}

/** The parameters with each import written as an allocation of what its source really holds; one that PVE does not tell stays. */
export function withImports(type: GuestType, params: Config, told: readonly unknown[]): Config {
  const sized = importsOf(type, params).flatMap(({ slot, storage }, index) => {
    const bytes = Number((told[index] as { readonly size?: unknown } | null | undefined)?.size ?? Number.NaN);
    // Whole MiB, so that no number is written with an exponent.
    return Number.isSafeInteger(bytes) ? [[slot, `${storage}:${Math.ceil(bytes / 1024 ** 2) / 1024}`] as const] : [];
  });
  return { ...params, ...Object.fromEntries(sized) };
}
