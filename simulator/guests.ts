/** What PVE keeps about a guest, and the rules that VMs and containers share: digest, locks, pending changes, unused volumes. */

import { createHash } from 'node:crypto';
import type { Cluster } from './cluster.ts';
import type { Context } from './method.ts';
import type { Guest, PendingValue } from './model.ts';
import { lxcOptions, type OptionTable, qemuOptions, shownValue } from './options.ts';
import { takeDevices } from './pci.ts';
import { may } from './permit.ts';
import { PveError } from './pve-error.ts';
import { discard } from './volume-chain.ts';
import { ownerOf, splitVolid } from './volumes.ts';

/** The guest of the call, of that type and on the node that runs the call; refused in PVE's words otherwise. */
export function guestOf({ cluster, node, param }: Context, type: Guest['type']): Guest {
  return guestAt(cluster, node, type, Number(param.vmid));
}

export function guestAt(cluster: Cluster, node: string, type: Guest['type'], vmid: number): Guest {
  const guest = cluster.guests.get(vmid);
  if (guest?.type === type && guest.node === node) return guest;
  const folder = type === 'qemu' ? 'qemu-server' : 'lxc';
  throw new PveError(500, `Configuration file 'nodes/${node}/${folder}/${vmid}.conf' does not exist`);
}

export function optionsOf({ type }: Pick<Guest, 'type'>): OptionTable {
  return type === 'qemu' ? qemuOptions : lxcOptions;
}

/** `VM` or `CT`, as messages name a guest. */
export function kindOf({ type }: Pick<Guest, 'type'>): 'VM' | 'CT' {
  return type === 'qemu' ? 'VM' : 'CT';
}

/** SHA-1 over the whole configuration file, snapshots and pending changes included. */
export function digestOf(guest: Guest): string {
  const hash = createHash('sha1');
  const section = (name: string, config: ReadonlyMap<string, string>) => {
    hash.update(`[${name}]\n`);
    for (const key of [...config.keys()].sort()) hash.update(`${key}: ${config.get(key)}\n`);
  };
  section('', guest.config);
  section('PENDING', new Map([...guest.pending].map(([key, { value }]) => [key, value ?? '\0'])));
  for (const [name, { config, description = '', parent = '' }] of guest.snapshots) {
    section(`${name} ${parent} ${description}`, config);
  }
  return hash.digest('hex');
}

export function assertDigest(guest: Guest, digest: unknown): void {
  // To Perl the text 0 is as good as none.
  if (typeof digest !== 'string' || digest === '' || digest === '0' || digest === digestOf(guest)) return;
  const reason =
    guest.type === 'qemu'
      ? 'checksum missmatch (file change by other user?)'
      : 'detected modified configuration - file changed by other user? Try again.';
  throw new PveError(500, reason);
}

export function assertUnlocked(guest: Guest): void {
  const lock = guest.config.get('lock');
  if (lock !== undefined) throw new PveError(500, `${kindOf(guest)} is locked (${lock})`);
}

export function assertUnprotected(guest: Guest, purpose: string): void {
  if (guest.config.get('protection') === '1') throw new PveError(500, `${purpose} - protection mode enabled`);
}

export function isTemplate({ config }: Guest): boolean {
  return config.get('template') === '1';
}

/** The configuration with everything pending applied: what the guest is after its next start. */
function futureConfig(guest: Guest): ReadonlyMap<string, string> {
  const config = new Map(guest.config);
  for (const [key, { value }] of guest.pending) {
    if (value === undefined) config.delete(key);
    else config.set(key, value);
  }
  return config;
}

/** The configuration as GET shows it, its digest included. */
export function shownConfig(
  guest: Guest,
  { current, snapshot }: { current?: unknown; snapshot?: unknown },
): Record<string, unknown> {
  const table = optionsOf(guest);
  const config =
    typeof snapshot === 'string' ? sectionOf(guest, snapshot) : current ? guest.config : futureConfig(guest);
  const shown: Record<string, unknown> = { digest: digestOf(guest) };
  for (const [key, value] of config) shown[key] = key === 'cipassword' ? '**********' : shownValue(table, key, value);
  return shown;
}

function sectionOf(guest: Guest, name: string): ReadonlyMap<string, string> {
  const snapshot = guest.snapshots.get(name);
  if (snapshot === undefined) throw new PveError(500, `snapshot '${name}' does not exist`);
  return snapshot.config;
}

/** The rows of `GET pending`: every key now, to come, or to go (2 when forced). */
export function pendingRows(guest: Guest): readonly Record<string, unknown>[] {
  const keys = new Set([...guest.config.keys(), ...guest.pending.keys()]);
  const rows = [...keys].map((key) => {
    const row: Record<string, unknown> = { key };
    const now = guest.config.get(key);
    const next = guest.pending.get(key);
    if (now !== undefined) row.value = now;
    if (next?.value !== undefined) row.pending = next.value;
    if (next?.delete !== undefined) row.delete = next.delete;
    return key === 'cipassword' ? masked(row) : row;
  });
  return [...rows, { key: 'digest', value: digestOf(guest) }];
}

function masked(row: Record<string, unknown>): Record<string, unknown> {
  const hidden = Object.keys(row).filter((key) => key === 'value' || key === 'pending');
  return { ...row, ...Object.fromEntries(hidden.map((key) => [key, '**********'])) };
}

/** Drops pending changes that would change nothing. */
export function cleanPending(guest: Guest): void {
  for (const [key, { value }] of guest.pending) {
    if (guest.config.get(key) === value) guest.pending.delete(key);
  }
}

/** The volume that a configuration value names, whatever options follow it; undefined when it names none. */
export function volumeIn(value: string): string | undefined {
  const parts = value.split(',');
  const named = parts.find((part) => /^(file|volume)=/.test(part))?.replace(/^\w+=/, '');
  const volid = named ?? parts.find((part) => !part.includes('='));
  return volid !== undefined && splitVolid(volid) !== undefined ? volid : undefined;
}

const holdsVolume = /^(ide|sata|scsi|virtio|mp)\d+$|^(efidisk0|tpmstate0|rootfs|vmstate)$/;

/** Whether a key's value is a volume that is in use; `unusedN` is not. */
export function isVolumeKey(key: string): boolean {
  return holdsVolume.test(key);
}

/** Every volume id that the configuration names, in use or unused. */
export function volumesIn(config: ReadonlyMap<string, string>): readonly string[] {
  return [...config]
    .filter(([key]) => isVolumeKey(key) || key.startsWith('unused'))
    .map(([, value]) => volumeIn(value))
    .filter((volid) => volid !== undefined);
}

function isUsed(config: ReadonlyMap<string, string>, volid: string): boolean {
  return [...config].some(([key, value]) => isVolumeKey(key) && volumeIn(value) === volid);
}

export function isInSnapshot(guest: Guest, volid: string): boolean {
  return [...guest.snapshots.values()].some(({ config }) => isUsed(config, volid));
}

export function pendingConfig(guest: Guest): ReadonlyMap<string, string> {
  return new Map([...guest.pending].flatMap(([key, { value }]) => (value === undefined ? [] : [[key, value]])));
}

/** Whether the volume is in the configuration, current or pending. */
export function isInUse(guest: Guest, volid: string): boolean {
  return isUsed(guest.config, volid) || isUsed(pendingConfig(guest), volid);
}

/** Whether the volume is the guest's by its name. */
export function owns(guest: Guest, volid: string): boolean {
  const parts = splitVolid(volid);
  return parts !== undefined && ownerOf(parts.name) === guest.vmid;
}

const mostUnused = 256;

/** Keeps a detached volume as the first free `unusedN`; PVE refuses to detach when all are taken. */
export function keepUnused(guest: Guest, volid: string): void {
  const held = [...guest.config].filter(([key]) => key.startsWith('unused'));
  if (held.some(([, value]) => volumeIn(value) === volid)) return;
  const taken = new Set(held.map(([key]) => key));
  for (let index = 0; index < mostUnused; index++) {
    if (taken.has(`unused${index}`)) continue;
    guest.config.set(`unused${index}`, volid);
    return;
  }
  throw new PveError(500, 'Too many unused volumes - please delete them first.');
}

/** Saving drops `unusedN` entries whose volume is in use. */
export function saved(guest: Guest): void {
  for (const [key, value] of guest.config) {
    const volid = key.startsWith('unused') ? volumeIn(value) : undefined;
    if (volid !== undefined && isInUse(guest, volid)) guest.config.delete(key);
  }
}

/** Frees a volume on its storage; one that is already gone is no error. */
export function freeVolume(cluster: Cluster, guest: Guest, volid: string): void {
  const volume = cluster.volumes.get(guest.node, volid);
  if (volume !== undefined) discard(cluster, volume);
}

/** The rows of `GET snapshot`: each snapshot, and `current` for the state that runs. */
export function snapshotRows(guest: Guest): readonly Record<string, unknown>[] {
  const rows = [...guest.snapshots.values()].map(({ name, snaptime, parent, description, config }) => ({
    name,
    snaptime,
    description: description ?? '',
    vmstate: config.has('vmstate') ? 1 : 0,
    ...(parent === undefined ? {} : { parent }),
  }));
  const running = guest.status === 'running' ? 1 : 0;
  const parent = guest.config.get('parent');
  const current = { name: 'current', description: 'You are here!', digest: digestOf(guest), running };
  return [...rows, { ...current, ...(parent === undefined ? {} : { parent }) }];
}

/** The guests of that type on the node of the call that the caller may see. */
export function listedGuests(context: Context, type: Guest['type']): readonly Guest[] {
  return [...context.cluster.guests.values()].filter(
    (guest) => guest.type === type && guest.node === context.node && may(context, `/vms/${guest.vmid}`, ['VM.Audit']),
  );
}

/** A stopped guest without any configuration. */
export function newGuest({ vmid, type, node }: Pick<Guest, 'vmid' | 'type' | 'node'>): Guest {
  return {
    vmid,
    type,
    node,
    status: 'stopped',
    config: new Map(),
    pending: new Map<string, PendingValue>(),
    snapshots: new Map(),
    startedAt: 0,
    devices: [],
  };
}

/** Takes the guest out of the cluster, its pool and its own ACL entries; volumes stay. */
export function removeGuest(cluster: Cluster, vmid: number): void {
  cluster.guests.delete(vmid);
  cluster.leave(vmid);
  cluster.access.dropAcl(`/vms/${vmid}`);
}

/** Starts it; refused when a host device that it is to have is missing or taken. */
export function setRunning(cluster: Cluster, guest: Guest): void {
  guest.devices = takeDevices(cluster, guest);
  guest.status = 'running';
  guest.startedAt = cluster.now();
}
