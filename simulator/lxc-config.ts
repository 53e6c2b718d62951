/** How PVE writes a container's configuration: what may be said, who may say it, and what of it takes effect when. */

import { permissionError } from './access.ts';
import { applyPending, type ConfigWrite, type Effects, type PartialFault } from './config-write.ts';
import { checkedFormats } from './formats.ts';
import {
  assertUnprotected,
  cleanPending,
  freeVolume,
  isInSnapshot,
  isInUse,
  keepUnused,
  owns,
  saved,
  volumeIn,
} from './guests.ts';
import type { Guest, PendingValue } from './model.ts';
import { canonicalLxcNet, demandMount, isMountKey, makeVolume, measured, parseMount } from './mounts.ts';
import { lxcOptions, optionOf } from './options.ts';
import { type Asker, demand, demandBridges, demandOnGuest, isRoot } from './permit.ts';
import { parseProperties } from './property-string.ts';
import { PveError } from './pve-error.ts';
import { assertReplicable } from './replication.ts';

/** The options of a create or a write: nets are reprinted, mount points keep their text until they take effect. */
export function canonicalLxcOptions(given: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...given].map(([key, value]) => [key, canonical(key, value)]));
}

function canonical(key: string, value: string): string {
  if (/^net\d+$/.test(key)) return canonicalLxcNet(key, value);
  if (isMountKey(key) || key.startsWith('unused')) parseMount(key, value);
  return value;
}

/** Refuses what the caller may not set or take away. */
export function demandLxcOptions(
  asker: Asker,
  vmid: number,
  pool: string | undefined,
  { set, delete: removed }: Pick<ConfigWrite, 'set' | 'delete'>,
  unprivileged: boolean,
): void {
  if (isRoot(asker)) return;
  for (const key of [...removed, ...set.keys()]) {
    const rights = optionOf(lxcOptions, key)?.privileges ?? 'root';
    if (rights === 'root') throw new PveError(500, `only root can set '${key}' config`);
    if (rights !== 'by value') demandOnGuest(asker, vmid, pool, rights, true);
    else if (isMountKey(key)) demandOnGuest(asker, vmid, pool, ['VM.Config.Disk']);
    else if (key !== 'features') throw permissionError(`configuring '${key}' is only allowed for root@pam`);
    else demandFeatures(asker, vmid, pool, set.get(key) ?? '', unprivileged);
    if (key === 'startup') demand(asker, '/', ['Sys.Modify']);
  }
  demandBridges(asker, set);
}

function demandFeatures(
  asker: Asker,
  vmid: number,
  pool: string | undefined,
  value: string,
  unprivileged: boolean,
): void {
  const names = Object.keys(parseProperties(checkedFormats.features ?? { properties: {} }, value));
  if (!unprivileged)
    throw permissionError('changing feature flags for privileged container is only allowed for root@pam');
  if (names.some((name) => name !== 'nesting')) {
    throw permissionError('changing feature flags (except nesting) is only allowed for root@pam');
  }
  demandOnGuest(asker, vmid, pool, ['VM.Allocate']);
}

/** Refuses volumes and storages that the caller may not use; a volume that is only listed as unused is not asked about. */
export function demandMounts(asker: Asker, vmid: number, set: ReadonlyMap<string, string>): void {
  for (const [key, value] of set) if (isMountKey(key)) demandMount(asker, parseMount(key, value), vmid);
}

const undeletable = ['rootfs', 'memory', 'ostype'];

/** Writes all keys into the pending part, then lets take effect what can; what stays pending keeps its literal text. */
export function writeLxcConfig(asker: Asker, guest: Guest, write: ConfigWrite, fault?: PartialFault): void {
  assertReplicable(asker.cluster, guest, write.set);
  for (const key of write.revert) guest.pending.delete(key);
  const steps = [
    ...write.delete.map((key) => () => removeOption(guest, key)),
    ...[...write.set].map(
      ([key, value]) =>
        () =>
          setOption(guest, key, value),
    ),
  ];
  for (const step of steps.slice(0, fault?.keys)) step();
  cleanPending(guest);
  applyPending(guest, effects(asker, guest.status === 'running' ? isHot : () => true));
  if (fault !== undefined) throw new PveError(fault.status, fault.reason);
}

function removeOption(guest: Guest, key: string): void {
  const pending = guest.pending.get(key)?.value;
  if (!guest.config.has(key) && pending === undefined) return;
  if (undeletable.includes(key)) throw new PveError(500, `unable to delete required option '${key}'`);
  if (key === 'unprivileged') throw new PveError(500, `unable to delete read-only option: '${key}'`);
  if (/^(mp|unused)\d+$/.test(key)) assertUnprotected(guest, `can't remove CT ${guest.vmid} drive '${key}'`);
  guest.pending.delete(key);
  if (guest.config.has(key)) guest.pending.set(key, { delete: 1 });
}

function setOption(guest: Guest, key: string, value: string): void {
  if (key === 'unprivileged') throw new PveError(500, `unable to modify read-only option: '${key}'`);
  if (isMountKey(key)) assertUnprotected(guest, `can't update CT ${guest.vmid} drive '${key}'`);
  guest.pending.set(key, { value });
}

function effects(asker: Asker, takes: Effects['takes']): Effects {
  const apply: Effects['apply'] = (guest, key, { value }) => {
    if (value === undefined) remove(asker, guest, key);
    else guest.config.set(key, applied(asker, guest, key, value));
  };
  return { takes, apply, save: saved };
}

/** A mount point is kept as unused; an unused volume is freed, unless a snapshot has it: then only the entry goes. */
function remove({ cluster }: Asker, guest: Guest, key: string): void {
  const volid = volumeIn(guest.config.get(key) ?? '');
  guest.config.delete(key);
  if (volid === undefined || isInUse(guest, volid) || !owns(guest, volid)) return;
  if (isMountKey(key)) keepUnused(guest, volid);
  else if (key.startsWith('unused') && !isInSnapshot(guest, volid)) freeVolume(cluster, guest, volid);
}

/**
 * The value as it is stored. A mount point gets its new volume or its real size, and what it replaces becomes unused;
 * `rootfs` is taken at its word, size and all, and what it replaces is forgotten.
 */
function applied(asker: Asker, guest: Guest, key: string, value: string): string {
  if (key === 'rootfs' || !isMountKey(key)) return value;
  const site = { cluster: asker.cluster, node: guest.node, vmid: guest.vmid };
  const mount = parseMount(key, value);
  const stored = makeVolume(site, key, mount) ?? measured(site, key, mount);
  const before = volumeIn(guest.config.get(key) ?? '');
  if (before !== undefined && before !== volumeIn(stored) && owns(guest, before)) keepUnused(guest, before);
  return stored;
}

/** What a start does first: everything pending takes effect, allocations included. */
export function applyAllLxcPending(asker: Asker, guest: Guest): void {
  applyPending(
    guest,
    effects(asker, () => true),
  );
}

/** Whether a running container takes the change at once. */
function isHot(guest: Guest, key: string, next: PendingValue): boolean {
  if (optionOf(lxcOptions, key)?.instant || /^net\d+$/.test(key)) return true;
  if (/^mp\d+$/.test(key)) return next.value !== undefined && !guest.config.has(key);
  return key.startsWith('unused');
}
