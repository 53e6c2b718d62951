/** How PVE writes a VM's configuration: what may be said, who may say it, and what of it takes effect when. */

import { applyPending, type ConfigWrite, type Effects, type PartialFault } from './config-write.ts';
import {
  canonicalNet,
  demandDrive,
  isCdrom,
  isCloudinit,
  isDriveKey,
  parseDrive,
  printDrive,
  realize,
} from './drives.ts';
import { checkedFormats } from './formats.ts';
import {
  assertUnprotected,
  cleanPending,
  freeVolume,
  isInSnapshot,
  keepUnused,
  owns,
  saved,
  volumeIn,
} from './guests.ts';
import type { Guest, PendingValue } from './model.ts';
import { splitList } from './named-formats.ts';
import { familyOf, optionOf, qemuOptions } from './options.ts';
import { type Asker, demand, demandBridges, demandOnGuest, isRoot } from './permit.ts';
import { parseProperties } from './property-string.ts';
import { PveError } from './pve-error.ts';
import { assertReplicable } from './replication.ts';
import { volidOf } from './volumes.ts';

/** The options of a create or a write in canonical text: `cdrom` is `ide2`, drives and nets are reprinted. */
export function canonicalOptions(asker: Asker, given: ReadonlyMap<string, string>): Map<string, string> {
  const set = new Map<string, string>();
  for (const [name, value] of given) {
    const [key, text] = name === 'cdrom' ? ['ide2', asCdrom(value)] : [name, value];
    set.set(key, canonical(asker, key, text));
  }
  return set;
}

function asCdrom(value: string): string {
  return value.includes('media=') ? value : `${value},media=cdrom`;
}

function canonical({ cluster }: Asker, key: string, value: string): string {
  if (isDriveKey(key) || key.startsWith('unused')) {
    const drive = parseDrive(key, value);
    const { file } = drive;
    return printDrive(key, file === undefined ? drive : { ...drive, file: volidOf(cluster, file) });
  }
  if (/^net\d+$/.test(key)) return canonicalNet(key, value);
  return value;
}

/** Refuses what the caller may not set or take away; `before` is the configuration that is changed, if there is one. */
export function demandOptions(
  asker: Asker,
  vmid: number,
  pool: string | undefined,
  { set, delete: removed }: Pick<ConfigWrite, 'set' | 'delete'>,
  before: ReadonlyMap<string, string> = new Map(),
): void {
  if (isRoot(asker)) return;
  for (const key of [...removed, ...set.keys()]) {
    const rights = optionOf(qemuOptions, key)?.privileges ?? 'root';
    if (rights === 'root') throw rootOnly(key);
    if (rights !== 'by value') demandOnGuest(asker, vmid, pool, rights, true);
    else for (const value of [before.get(key), set.get(key)]) demandValue(asker, vmid, pool, key, value);
    if (key === 'startup') demand(asker, '/', ['Sys.Modify']);
  }
  demandBridges(asker, set);
  demandMappings(asker, set, before);
}

function rootOnly(key: string, why = ''): PveError {
  return new PveError(500, `only root can set '${key}' config${why}`);
}

function demandValue(
  asker: Asker,
  vmid: number,
  pool: string | undefined,
  key: string,
  value: string | undefined,
): void {
  if (value === undefined) return;
  const onGuest = (privilege: string) => demandOnGuest(asker, vmid, pool, [privilege]);
  if (isDriveKey(key)) {
    onGuest(isCdrom(parseDrive(key, value)) ? 'VM.Config.CDROM' : 'VM.Config.Disk');
    return;
  }
  const family = familyOf(key);
  if (family === 'unused') {
    onGuest('VM.Config.Disk');
    return;
  }
  if (family === 'serial' && value !== 'socket') throw rootOnly(key, ' for real devices');
  if (family === 'usb' || family === 'hostpci') demandDevice(asker, key, value);
  onGuest('VM.Config.HWType');
}

/** Devices of the host are for root@pam alone, unless the cluster has a name for them. */
function demandDevice(asker: Asker, key: string, value: string): void {
  const family = familyOf(key);
  const { host, mapping } = parseProperties(checkedFormats[`${family}[n]`] ?? { properties: {} }, value);
  const isSpice = family === 'usb' && host?.toLowerCase() === 'spice';
  if (host !== undefined && !isSpice)
    throw rootOnly(key, family === 'usb' ? ' for real devices' : ' for non-mapped devices');
  if (host === undefined && mapping === undefined) throw new PveError(500, "either 'host' or 'mapping' must be set.");
  if (mapping !== undefined) demand(asker, `/mapping/${family === 'usb' ? 'usb' : 'pci'}/${mapping}`, ['Mapping.Use']);
}

/** Refuses a configuration that is copied as a whole, by a clone or a restore, when it has host devices that the caller may not use. */
export function demandDevices(asker: Asker, config: ReadonlyMap<string, string>): void {
  if (isRoot(asker)) return;
  for (const [key, value] of config) if (/^(usb|hostpci)\d+$/.test(key)) demandDevice(asker, key, value);
}

/** Custom CPU models and the hardware random generator are cluster resources of their own. */
function demandMappings(asker: Asker, set: ReadonlyMap<string, string>, before: ReadonlyMap<string, string>): void {
  const model = (config: ReadonlyMap<string, string>) =>
    /(?:^|,)(?:cputype=)?custom-([^,=]+)/.exec(config.get('cpu') ?? '')?.[1];
  const custom = model(set);
  if (custom !== undefined && custom !== model(before)) demand(asker, `/mapping/cpu/${custom}`, ['Mapping.Use']);
  if (set.get('rng0')?.includes('/dev/hwrng')) demand(asker, '/mapping/hwrng', ['Mapping.Use']);
}

/** Refuses volumes and storages that the caller may not use. */
export function demandStorages(
  asker: Asker,
  vmid: number,
  set: ReadonlyMap<string, string>,
  defaultStorage?: string,
): void {
  for (const [key, value] of set) {
    if (isDriveKey(key) || key.startsWith('unused'))
      demandDrive(asker, key, parseDrive(key, value), vmid, defaultStorage);
  }
  const state = set.get('vmstatestorage');
  if (state !== undefined) demand(asker, `/storage/${state}`, ['Datastore.AllocateSpace']);
}

/**
 * Writes key by key into the pending part, then lets take effect what can. A key that fails leaves the ones before it
 * written. Drives are allocated when they are written, even if they stay pending.
 */
export function writeQemuConfig(asker: Asker, guest: Guest, write: ConfigWrite, fault?: PartialFault): void {
  const { set, removed } = withReverts(guest, write);
  assertReplicable(asker.cluster, guest, write.set);
  assertBalloon(guest, set);
  const steps = [
    ...removed.map((key) => () => removeOption(asker, guest, key, write.force)),
    ...[...set].map(
      ([key, value]) =>
        () =>
          setOption(asker, guest, key, value, set),
    ),
  ];
  for (const step of steps.slice(0, fault?.keys)) {
    step();
    savedQemu(guest);
  }
  cleanPending(guest);
  applyPending(guest, effects(asker, guest.status === 'running' ? isHot : () => true));
  if (fault !== undefined) throw new PveError(fault.status, fault.reason);
}

/** A pending value that is taken back is either set to what it is now, or deleted when it is not there yet. */
function withReverts(guest: Guest, { set, delete: removed, revert }: ConfigWrite) {
  const current = revert.filter((key) => guest.config.has(key));
  const onlyPending = revert.filter((key) => !guest.config.has(key) && guest.pending.get(key)?.value !== undefined);
  return {
    set: new Map([...set, ...current.map((key) => [key, guest.config.get(key) ?? ''] as const)]),
    removed: [...removed, ...onlyPending],
  };
}

function assertBalloon(guest: Guest, set: ReadonlyMap<string, string>): void {
  if (!set.has('memory') && !set.has('balloon')) return;
  const value = (key: string) => set.get(key) ?? guest.pending.get(key)?.value ?? guest.config.get(key);
  if (Number(value('balloon') ?? 0) > memoryOf(value('memory'))) {
    throw new PveError(500, 'balloon value too large (must be smaller than assigned memory)');
  }
}

/** MiB of a VM's `memory`, written as a number or as `current=`; 512 when it is absent. */
export function memoryOf(value: string | undefined): number {
  if (value === undefined) return 512;
  return Number(
    value
      .split(',')
      .map((part) => part.replace(/^current=/, ''))
      .find((part) => part !== '') ?? 512,
  );
}

function removeOption(asker: Asker, guest: Guest, key: string, force: boolean): void {
  const pending = guest.pending.get(key)?.value;
  const value = guest.config.get(key) ?? pending;
  if (value === undefined) return;
  guest.pending.delete(key);
  if (key.startsWith('unused')) {
    assertUnprotected(guest, `can't remove unused disk '${volumeIn(value)}'`);
    deallocate(asker, guest, key, value);
    guest.config.delete(key);
    return;
  }
  if (isDriveKey(key)) {
    assertUnprotected(guest, `can't remove drive '${key}'`);
    if (pending !== undefined) detach(asker, guest, key, pending);
  }
  leaveBootOrder(guest, key);
  if (guest.config.has(key)) guest.pending.set(key, { delete: force ? 2 : 1 });
}

function leaveBootOrder(guest: Guest, key: string): void {
  const [, order] = /^order=(.+)$/.exec(guest.pending.get('boot')?.value ?? guest.config.get('boot') ?? '') ?? [];
  const devices = order?.split(';') ?? [];
  if (!devices.includes(key)) return;
  guest.pending.set('boot', { value: `order=${devices.filter((device) => device !== key).join(';')}` });
}

function setOption(asker: Asker, guest: Guest, key: string, value: string, set: ReadonlyMap<string, string>): void {
  const pending = guest.pending.get(key)?.value;
  if (pending === value) return;
  if (isDriveKey(key)) {
    const site = { cluster: asker.cluster, node: guest.node, vmid: guest.vmid };
    const before = guest.config.get(key);
    const realized = realize(site, key, parseDrive(key, value), before === undefined ? {} : { before });
    if (pending !== undefined) {
      // Only then is it no longer pending, and its volume free to be kept as unused.
      guest.pending.delete(key);
      detach(asker, guest, key, pending);
    }
    guest.pending.set(key, { value: realized });
    return;
  }
  if (key === 'boot') assertBootOrder(guest, value, set);
  guest.pending.set(key, { value: key === 'vmgenid' && value === '1' ? crypto.randomUUID() : value });
}

function assertBootOrder(guest: Guest, value: string, set: ReadonlyMap<string, string>): void {
  const [, order = ''] = /(?:^|,)order=([^,]*)/.exec(value) ?? [];
  const missing = splitList(order).find(
    (device) => !set.has(device) && !guest.config.has(device) && guest.pending.get(device)?.value === undefined,
  );
  if (missing !== undefined) throw new PveError(500, `invalid bootorder: device '${missing}' does not exist'`);
}

/** What becomes of a volume that leaves its key: kept as unused if it is the guest's; cdroms vanish, cloud-init is freed. */
function detach({ cluster }: Asker, guest: Guest, key: string, value: string): void {
  const drive = parseDrive(key, value);
  const { file = '' } = drive;
  if (isCloudinit(drive)) freeVolume(cluster, guest, file);
  else if (!isCdrom(drive) && owns(guest, file)) keepUnused(guest, file);
}

/** Frees a volume that is the guest's; one of another guest just leaves the configuration. */
function deallocate(asker: Asker, guest: Guest, key: string, value: string): void {
  const volid = volumeIn(value);
  if (volid === undefined || !owns(guest, volid)) return;
  demand(asker, `/storage/${volid.split(':', 1)[0]}`, ['Datastore.AllocateSpace']);
  const elsewhere = [...guest.config].some(([other, text]) => other !== key && volumeIn(text) === volid);
  if (isInSnapshot(guest, volid) || elsewhere) {
    throw new PveError(500, `unable to delete '${volid}' - volume is still in use (snapshot?)`);
  }
  freeVolume(asker.cluster, guest, volid);
}

function effects(asker: Asker, takes: Effects['takes']): Effects {
  return { takes, apply: (guest, key, next) => apply(asker, guest, key, next), save: savedQemu };
}

function apply(asker: Asker, guest: Guest, key: string, next: PendingValue): void {
  const before = guest.config.get(key);
  if (next.value !== undefined) {
    if (before !== undefined && isDriveKey(key)) detach(asker, guest, key, before);
    guest.config.set(key, next.value);
  } else {
    if (before !== undefined && isDriveKey(key)) release(asker, guest, key, before, next.delete === 2);
    guest.config.delete(key);
  }
}

function release(asker: Asker, guest: Guest, key: string, value: string, force: boolean): void {
  if (force && !isCdrom(parseDrive(key, value))) deallocate(asker, guest, key, value);
  else detach(asker, guest, key, value);
}

/** What a start does first: everything pending takes effect. */
export function applyAllPending(asker: Asker, guest: Guest): void {
  applyPending(
    guest,
    effects(asker, () => true),
  );
}

/** What saving a VM's configuration does: unused entries in use go, and `smp` becomes `sockets`. */
function savedQemu(guest: Guest): void {
  const smp = guest.config.get('smp');
  if (smp !== undefined) {
    if (!guest.config.has('sockets')) {
      guest.config.set('sockets', smp);
      guest.config.delete('cores');
    }
    guest.config.delete('smp');
  }
  saved(guest);
}

/** Whether a running VM takes the change at once. */
function isHot(guest: Guest, key: string, next: PendingValue): boolean {
  if (optionOf(qemuOptions, key)?.instant || key === 'cpulimit' || key === 'cpuunits') return true;
  const features = hotplugFeatures(guest.config.get('hotplug'));
  if (isDriveKey(key)) return isHotDrive(guest, key, next, features.has('disk'));
  if (/^net\d+$/.test(key)) return features.has('network') || isSameNet(guest.config.get(key), next.value);
  if (/^usb\d+$/.test(key)) return features.has('usb');
  if (key === 'vcpus') return features.has('cpu');
  if (key === 'memory') return features.has('memory');
  if (key === 'balloon') return guest.config.get('balloon') !== '0' && next.value !== '0';
  if (key === 'hotplug') return !/cpu|memory/.test(`${guest.config.get('hotplug')},${next.value}`);
  return false;
}

function hotplugFeatures(value = '1'): ReadonlySet<string> {
  if (value === '0') return new Set();
  return new Set(value === '1' ? ['network', 'disk', 'usb'] : splitList(value));
}

/** Rate, bridge and tag change live; another model or address means another device. */
function isSameNet(before: string | undefined, next: string | undefined): boolean {
  return before !== undefined && next !== undefined && before.split(',', 1)[0] === next.split(',', 1)[0];
}

const fixedWhileRunning = [
  'aio',
  'cache',
  'detect_zeroes',
  'discard',
  'iothread',
  'queues',
  'ro',
  'ssd',
  'serial',
  'wwn',
];

function isHotDrive(guest: Guest, key: string, next: PendingValue, hotplug: boolean): boolean {
  if (/^(efidisk|tpmstate)/.test(key)) return false;
  const isPluggable = hotplug && !/^(ide|sata)/.test(key);
  const value = guest.config.get(key);
  if (next.value === undefined || value === undefined) return isPluggable;
  const [before, after] = [parseDrive(key, value), parseDrive(key, next.value)];
  if (isCdrom(before) && isCdrom(after)) return true;
  if (before.file === after.file) return fixedWhileRunning.every((name) => before[name] === after[name]);
  return isPluggable;
}
