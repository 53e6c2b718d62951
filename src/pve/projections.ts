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
  'ostemplate',
  'password',
  'bwlimit',
  'background_delay',
]);

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
  const given = Object.fromEntries(Object.entries(params).filter(([key]) => !directives.has(key)));
  const defaults: Config =
    before.type === 'lxc' ? { memory: '512', swap: '512', rootfs: `${params.storage ?? 'local'}:4` } : {};
  const config = Object.fromEntries(
    Object.entries({ ...defaults, ...given }).map(([key, text]) => [key, withStore(key, text, params.storage)]),
  );
  return { ...before, current: config, next: config };
}

/** A drive that says only a number is allocated on the call's `storage`. */
function withStore(key: string, text: string, storage: string | undefined): string {
  return /^(?:ide|sata|scsi|virtio|efidisk|tpmstate|rootfs|mp)\d*$/.test(key) && /^\d+(?:\.\d+)?(?:,|$)/.test(text)
    ? `${storage ?? 'local'}:${text}`
    : text;
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
  for (const [key, text] of Object.entries(params)) if (!directives.has(key)) next[key] = text;
  return { ...before, next };
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
  const volumes = new Map(before.volumes);
  // The copy has no name yet; a blank keeps it apart from every volume id.
  volumes.set(`${storage}: copy of ${volume.volid}`, { ...volume, storage, bytes: onStorage(volume.bytes) });
  return { ...before, volumes };
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
