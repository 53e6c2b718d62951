/** Copies of guests under a new vmid: full ones, and linked ones that share the disks of a template. */

import { randomUUID } from 'node:crypto';
import { canonicalNet, isCdrom, isCloudinit, isDriveKey, newMac, parseDrive, printDrive } from './drives.ts';
import { qemuNet } from './formats.ts';
import { assertUnlocked, guestAt, isTemplate, removeGuest } from './guests.ts';
import { type HeldVolume, heldVolumes, withVolume } from './held-volumes.ts';
import { reserveGuest } from './lifecycle.ts';
import type { Context } from './method.ts';
import type { Guest, Volume } from './model.ts';
import { canonicalLxcNet, isMountKey, parseMount } from './mounts.ts';
import { textOf } from './parameters.ts';
import { demand, demandPool } from './permit.ts';
import { parseProperties, printProperties } from './property-string.ts';
import { PveError } from './pve-error.ts';
import { demandDevices } from './qemu-config.ts';
import { snapshotOf } from './snapshots.ts';
import { allocate, canBeLinked, isBase, splitVolid, storageOn } from './volumes.ts';

interface Plan {
  /** The configuration to copy: the current one, or that of a snapshot. */
  readonly source: ReadonlyMap<string, string>;
  readonly volumes: readonly HeldVolume[];
  readonly full: boolean;
}

/** What PVE asks before it answers, and again when the task runs. */
function plan(context: Context, guest: Guest): Plan {
  const { cluster, node, param } = context;
  demandPool(context, textOf(param.pool));
  assertUnlocked(guest);
  const source = param.snapname === undefined ? guest.config : snapshotOf(guest, String(param.snapname)).config;
  const full = param.full === undefined ? !isTemplate(guest) : param.full === 1;
  for (const name of ['storage', 'format']) {
    if (param[name] !== undefined && !full)
      throw new PveError(500, `parameter '${name}' not allowed for linked clones`);
  }
  if (param.storage !== undefined) storageOn(cluster, node, String(param.storage));
  const volumes = heldVolumes(cluster, guest, source);
  for (const { volume } of volumes)
    demand(context, `/storage/${param.storage ?? volume.storage}`, ['Datastore.AllocateSpace']);
  demandReach(context, source, volumes);
  if (guest.type === 'qemu') demandDevices(context, source);
  else demandContainer(guest, source, full && param.snapname === undefined);
  const isSnapshot = param.snapname !== undefined;
  const unfit = full ? undefined : volumes.find(({ volume }) => !canBeLinked(cluster, volume, isSnapshot));
  if (unfit !== undefined) throw noLinkedClone(guest, unfit);
  return { source, volumes, full };
}

function noLinkedClone({ type }: Guest, { key, volume }: HeldVolume): PveError {
  const what = type === 'qemu' ? `is not supported for drive '${key}'` : `for '${volume.volid}' is not available`;
  return new PveError(500, `Linked clone feature ${what}`);
}

/** Another node has to see every volume, and the storage that a full clone goes to. */
function demandReach(context: Context, source: ReadonlyMap<string, string>, volumes: readonly HeldVolume[]): void {
  const { cluster, node, param } = context;
  const target = targetOf(context);
  if (target === node) return;
  if (!cluster.nodes.has(target)) throw new PveError(500, `target node '${target}' does not exist`);
  const cdroms = [...source].filter(([key, value]) => isDriveKey(key) && isCdrom(parseDrive(key, value)));
  const used = [
    ...volumes.map(({ volume }) => String(param.storage ?? volume.storage)),
    ...cdroms.map(([key, value]) => splitVolid(parseDrive(key, value).file ?? '')?.storage),
  ];
  if (used.some((storage) => storage !== undefined && !cluster.storages.get(storage)?.shared)) {
    throw new PveError(500, `can't clone to node '${target}' (uses local storage)`);
  }
}

/** `localhost` is the node that answers. */
function targetOf({ node, param }: Context): string {
  return param.target === undefined || param.target === 'localhost' ? node : String(param.target);
}

function demandContainer({ status }: Guest, source: ReadonlyMap<string, string>, copiesLive: boolean): void {
  const bound = [...source].find(([key, value]) => isMountKey(key) && parseMount(key, value).volume?.startsWith('/'));
  if (bound !== undefined) throw new PveError(500, `unable to clone mountpoint '${bound[0]}' (type bind)`);
  if (copiesLive && status === 'running') {
    throw new PveError(500, 'Cannot do full clones on a running container without snapshots');
  }
}

/**
 * Starts the clone of a VM and answers the task, which takes the new vmid only when it runs. Everything is copied but
 * unused volumes, snapshots and pending changes; a clone that fails leaves nothing behind.
 */
export function cloneVm(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  const newid = Number(param.newid);
  const check = () => {
    const taken = cluster.guests.get(newid);
    if (taken?.type === 'qemu' && taken.node === node) {
      throw new PveError(500, `unable to create VM ${newid}: config file already exists`);
    }
    return plan(context, guest);
  };
  check();
  return cluster.tasks.start({
    node,
    type: 'qmclone',
    id: String(guest.vmid),
    caller,
    run() {
      const current = guestAt(cluster, node, 'qemu', guest.vmid);
      const ready = check();
      const copy = reserveGuest(context, { vmid: newid, type: 'qemu' }, 'create', 'clone');
      fill(context, copy, () => ready, current);
    },
  });
}

/** Starts the clone of a container and answers the task; the new vmid is taken before the answer, and the source locked. */
export function cloneContainer(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  plan(context, guest);
  const copy = reserveGuest(context, { vmid: Number(param.newid), type: 'lxc' });
  guest.config.set('lock', 'disk');
  return cluster.tasks.start({
    node,
    type: 'vzclone',
    id: String(guest.vmid),
    caller,
    run() {
      guest.config.delete('lock');
      fill(context, copy, () => plan(context, guest), guest);
    },
    abandon() {
      guest.config.delete('lock');
      removeGuest(cluster, copy.vmid);
    },
  });
}

function fill(context: Context, copy: Guest, check: () => Plan, guest: Guest): void {
  const { cluster, param } = context;
  const made: Volume[] = [];
  try {
    copy.config = newConfig(context, copy, guest, check(), made);
  } catch (error) {
    for (const volume of made) cluster.volumes.remove(volume);
    removeGuest(cluster, copy.vmid);
    if (!(error instanceof Error)) throw error;
    throw new PveError(500, `clone failed: ${error.message}`);
  }
  copy.node = targetOf(context);
  if (param.pool !== undefined) cluster.join(String(param.pool), copy.vmid);
}

function newConfig(
  context: Context,
  copy: Guest,
  { type, vmid }: Guest,
  { source, volumes, full }: Plan,
  made: Volume[],
) {
  const config = new Map<string, string>();
  for (const [key, value] of source) {
    if (/^(lock|parent|template|vmstate|unused\d+)$/.test(key)) continue;
    config.set(key, /^net\d+$/.test(key) ? withNewMac(type, key, value) : value);
  }
  for (const held of volumes) {
    const volume = copyOf(context, copy, held.volume, full);
    made.push(volume);
    config.set(held.key, withVolume(type, held, volume));
  }
  const { name = `Copy-of-VM-${source.get('name') ?? vmid}`, hostname } = context.param;
  if (type === 'qemu') {
    renewVm(context, copy, config, made);
    config.set('name', String(name));
  } else if (hostname !== undefined) {
    config.set('hostname', String(hostname));
  }
  if (context.param.description !== undefined) config.set('description', String(context.param.description));
  return config;
}

/** A linked clone lies on its base's storage and shows the base's whole size. */
function copyOf({ cluster, node, param }: Context, { vmid }: Guest, volume: Volume, full: boolean): Volume {
  const format = textOf(param.format) ?? volume.format;
  return allocate(cluster, {
    ...{ node, vmid, bytes: volume.bytes, content: volume.content === 'rootdir' ? 'rootdir' : 'images' },
    storage: full ? (textOf(param.storage) ?? volume.storage) : volume.storage,
    format: full ? format : volume.format,
    ...(!full && isBase(volume) ? { base: volume } : {}),
  });
}

/** Identities are made anew, and so is the cloud-init drive, whose content depends on them. */
function renewVm(
  { cluster, node, param }: Context,
  { vmid }: Guest,
  config: Map<string, string>,
  made: Volume[],
): void {
  const uuid = `uuid=${randomUUID()}`;
  const smbios = config.get('smbios1')?.split(',') ?? [];
  config.set('smbios1', [uuid, ...smbios.filter((part) => !part.startsWith('uuid='))].join(','));
  if (config.has('vmgenid')) config.set('vmgenid', randomUUID());
  for (const [key, value] of config) {
    const drive = isDriveKey(key) ? parseDrive(key, value) : {};
    const old = isCloudinit(drive) ? cluster.volumes.get(node, drive.file ?? '') : undefined;
    if (old === undefined) continue;
    const storage = textOf(param.storage) ?? old.storage;
    const place = { node, storage, vmid, content: 'images', role: 'cloudinit', format: old.format } as const;
    const volume = allocate(cluster, { ...place, bytes: old.bytes });
    made.push(volume);
    config.set(key, printDrive(key, { ...drive, file: volume.volid }));
  }
}

/** The net with another address and all else as it was. */
export function withNewMac(type: Guest['type'], key: string, value: string): string {
  if (type === 'lxc') return canonicalLxcNet(key, value.replace(/hwaddr=[^,]*/, `hwaddr=${newMac()}`));
  const net = parseProperties(qemuNet, canonicalNet(key, value));
  return printProperties(qemuNet, { ...net, macaddr: newMac() });
}
