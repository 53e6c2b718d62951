/** Making, growing, moving, starting and destroying containers. */

import { givenOptions } from './config-write.ts';
import {
  assertDigest,
  assertUnlocked,
  assertUnprotected,
  freeVolume,
  guestAt,
  isInSnapshot,
  isTemplate,
  keepUnused,
  owns,
  removeGuest,
  saved,
  setRunning,
  volumeIn,
  volumesIn,
} from './guests.ts';
import { assertNoClones, assertRunning, freeAll, power, reserveGuest, undoing } from './lifecycle.ts';
import { applyAllLxcPending, canonicalLxcOptions, demandLxcOptions, demandMounts } from './lxc-config.ts';
import { restoreContainer } from './lxc-restore.ts';
import type { Context } from './method.ts';
import type { Guest, Volume } from './model.ts';
import { isMountKey, makeVolume, parseMount, placed, printMount } from './mounts.ts';
import { copyOrGive } from './moving.ts';
import { lxcOptions } from './options.ts';
import { textOf } from './parameters.ts';
import { demand, demandAllocate, demandVolume } from './permit.ts';
import type { Properties } from './property-string.ts';
import { PveError } from './pve-error.ts';
import { assertNoJobs, dropJobs } from './replication.ts';
import { formatSize, resizedBytes } from './sizes.ts';
import { allocate, grow, handOver } from './volumes.ts';

/**
 * Starts the creation of a container and answers the task. The vmid is taken before the answer; volumes are made and
 * the pool is entered by the task, and a task that fails leaves nothing behind.
 */
export function createContainer(context: Context): string {
  const { cluster, node, caller, param } = context;
  if (param.restore) return restoreContainer(context);
  const vmid = Number(param.vmid);
  const pool = textOf(param.pool);
  const storage = textOf(param.storage) ?? 'local';
  const unprivileged = param.unprivileged !== 0;
  const given = placed(givenOptions(lxcOptions, { ...param, unprivileged: undefined }), storage);
  const set = canonicalLxcOptions(new Map([['rootfs', `${storage}:4`], ...given]));
  if (!unprivileged) demand(context, '/', ['Sys.Modify']);
  if (param['ha-managed']) demand(context, '/', ['Sys.Console']);
  demandAllocate(context, vmid, pool);
  demandLxcOptions(context, vmid, pool, { set, delete: [] }, unprivileged);
  const template = String(param.ostemplate);
  demandVolume(context, vmid, template);
  demandMounts(context, vmid, set);
  if (cluster.volumes.get(node, template)?.content !== 'vztmpl') {
    throw new PveError(500, `volume '${template}' does not exist`);
  }

  const guest = reserveGuest(context, { vmid, type: 'lxc' });
  return cluster.tasks.start({
    node,
    type: 'vzcreate',
    id: String(vmid),
    caller,
    run() {
      undoing(context, guest, () => fill(context, guest, set));
      if (unprivileged) guest.config.set('unprivileged', '1');
      if (pool !== undefined) cluster.join(pool, vmid);
      guest.config.delete('lock');
      if (param.start) setRunning(cluster, guest);
    },
    abandon: () => removeGuest(cluster, vmid),
  });
}

function fill({ cluster, node }: Context, guest: Guest, set: ReadonlyMap<string, string>): void {
  const { config, vmid } = guest;
  const site = { cluster, node, vmid };
  for (const [key, value] of set) {
    config.set(key, isMountKey(key) ? (makeVolume(site, key, parseMount(key, value)) ?? value) : value);
  }
  const defaults = { arch: 'amd64', hostname: `CT${vmid}`, memory: '512', ostype: 'debian', swap: '512' };
  for (const [key, value] of Object.entries(defaults)) if (!config.has(key)) config.set(key, value);
}

/** Starts the destruction and answers the task; a running container is stopped first when that is forced. */
export function destroyContainer(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  const assertDestroyable = () => {
    assertUnprotected(guest, `can't remove CT ${guest.vmid}`);
    assertUnlocked(guest);
    if (guest.status === 'running' && !param.force) {
      throw new PveError(500, `unable to destroy CT ${guest.vmid} - container is running`);
    }
    if (!param.purge) assertNoJobs(cluster, guest.vmid);
    assertNoClones(context, guest);
  };
  assertDestroyable();
  return cluster.tasks.start({
    node,
    type: 'vzdestroy',
    id: String(guest.vmid),
    caller,
    run() {
      assertDestroyable();
      const kept = [...guest.snapshots.values()].flatMap(({ config }) => volumesIn(config));
      for (const volid of kept) if (owns(guest, volid)) freeVolume(cluster, guest, volid);
      freeAll(context, guest, Boolean(param['destroy-unreferenced-disks']));
      removeGuest(cluster, guest.vmid);
      dropJobs(cluster, guest.vmid);
    },
  });
}

interface Mounted {
  readonly mount: Properties;
  readonly volume: Volume;
}

function mounted({ cluster }: Context, guest: Guest, key: string): Mounted {
  const value = guest.config.get(key);
  if (value === undefined) throw new PveError(500, `no such volume '${key}' in CT ${guest.vmid}`);
  const mount = parseMount(key, value);
  const volume = cluster.volumes.get(guest.node, mount.volume ?? '');
  if (volume === undefined) throw new PveError(500, `volume '${mount.volume}' does not exist`);
  return { mount, volume };
}

/** Starts a resize and answers the task. `+` counts from the volume's real size when the task does its work. */
export function resizeMount(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  const key = String(param.disk);
  const check = () => {
    assertDigest(guest, param.digest);
    assertUnlocked(guest);
    const found = mounted(context, guest, key);
    demand(context, `/storage/${found.volume.storage}`, ['Datastore.AllocateSpace']);
    if (found.volume.bytes === 0) throw new PveError(500, `can't resize volume '${found.volume.volid}' without a size`);
    const bytes = resizedBytes(String(param.size), found.volume.bytes) ?? 0;
    if (bytes < found.volume.bytes) throw new PveError(500, 'unable to shrink disk size');
    if (bytes === found.volume.bytes) throw new PveError(500, 'disk is already at specified size');
    return { ...found, bytes };
  };
  check();
  return cluster.tasks.start({
    node,
    type: 'resize',
    id: String(guest.vmid),
    caller,
    run() {
      const { mount, volume, bytes } = check();
      guest.config.set(key, printMount(key, { ...mount, size: formatSize(grow(cluster, volume, bytes)) }));
    },
  });
}

/** Starts a move to another storage or to another container, and answers the task; the container must be stopped. */
export function moveMount(context: Context, guest: Guest): string {
  return copyOrGive(
    context,
    (storage) => copyMount(context, guest, storage),
    () => giveMount(context, guest),
  );
}

function assertStopped(guest: Guest): void {
  if (guest.status === 'running')
    throw new PveError(500, `cannot move volumes of a running container (CT ${guest.vmid})`);
}

function copyMount(context: Context, guest: Guest, storage: string): string {
  const { cluster, node, caller, param } = context;
  const key = String(param.volume);
  const check = () => {
    assertUnlocked(guest);
    assertDigest(guest, param.digest);
    assertStopped(guest);
    if (!isMountKey(key)) throw new PveError(500, `cannot move volume '${key}'`);
    const found = mounted(context, guest, key);
    if (param.delete && isInSnapshot(guest, found.volume.volid)) {
      throw new PveError(500, "you can't move a volume with snapshots and delete the source");
    }
    return found;
  };
  demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
  check();
  return cluster.tasks.start({
    node,
    type: 'move_volume',
    id: String(guest.vmid),
    caller,
    run() {
      const { mount, volume } = check();
      const copy = allocate(cluster, { node, storage, vmid: guest.vmid, content: 'rootdir', bytes: volume.bytes });
      guest.config.set(key, printMount(key, { ...mount, volume: copy.volid, size: formatSize(copy.bytes) }));
      if (param.delete) freeVolume(cluster, guest, volume.volid);
      else if (owns(guest, volume.volid)) keepUnused(guest, volume.volid);
      saved(guest);
    },
  });
}

/** The volume takes the other container's name; the key leaves this one. */
function giveMount(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  const [key, targetVmid] = [String(param.volume), Number(param['target-vmid'])];
  const targetKey = String(param['target-volume'] ?? key);
  demand(context, `/vms/${targetVmid}`, ['VM.Config.Disk']);
  const check = () => {
    const target = guestAt(cluster, node, 'lxc', targetVmid);
    for (const [one, digest] of [[guest, param.digest] as const, [target, param['target-digest']] as const]) {
      assertUnlocked(one);
      assertDigest(one, digest);
      assertStopped(one);
      if (isTemplate(one)) throw new PveError(500, 'You cannot reassign a volume to or from a template');
    }
    if (key === 'rootfs' || targetKey === 'rootfs') {
      throw new PveError(
        500,
        `Cannot move volume '${key}' to '${targetKey}': the root file system stays with its container`,
      );
    }
    const found = mounted(context, guest, key);
    demand(context, `/storage/${found.volume.storage}`, ['Datastore.AllocateSpace']);
    if (target.config.has(targetKey))
      throw new PveError(500, `Target volume key '${targetKey}' is already in use for CT`);
    if (isInSnapshot(guest, found.volume.volid)) {
      throw new PveError(500, `Cannot move volume '${key}', it is in use by a snapshot`);
    }
    if (isMountKey(targetKey) && found.mount.mp === undefined) {
      throw new PveError(500, `Cannot move volume '${key}' to '${targetKey}': it has no mount path`);
    }
    return { ...found, target };
  };
  check();
  return cluster.tasks.start({
    node,
    type: 'move_volume',
    id: `${guest.vmid}-${key}>${targetVmid}-${targetKey}`,
    caller,
    run() {
      const { mount, volume, target } = check();
      const moved = handOver(cluster, volume, node, targetVmid);
      guest.config.delete(key);
      const isUnused = targetKey.startsWith('unused');
      target.config.set(targetKey, printMount(targetKey, { ...(isUnused ? {} : mount), volume: moved.volid }));
    },
  });
}

/** Starts it: everything pending takes effect first, and every volume has to be there. */
export function startContainer(context: Context, guest: Guest): string {
  if (guest.status === 'running') throw new PveError(500, `CT ${guest.vmid} already running`);
  if (isTemplate(guest)) throw new PveError(500, "you can't start a CT if it's a template");
  return power(context, guest, 'vzstart', () => boot(context, guest));
}

export function stopContainer(context: Context, guest: Guest, type: 'vzstop' | 'vzshutdown'): string {
  assertRunning(guest);
  return power(context, guest, type, () => {
    guest.status = 'stopped';
  });
}

export function rebootContainer(context: Context, guest: Guest): string {
  assertRunning(guest);
  return power(context, guest, 'vzreboot', () => {
    guest.status = 'stopped';
    boot(context, guest);
  });
}

/** Freezes or thaws it: the status stays as it is. */
export function freezeContainer(context: Context, guest: Guest, type: 'vzsuspend' | 'vzresume'): string {
  assertRunning(guest);
  return power(context, guest, type, () => assertRunning(guest));
}

function boot(context: Context, guest: Guest): void {
  applyAllLxcPending(context, guest);
  for (const [key, value] of guest.config) {
    const volid = isMountKey(key) ? volumeIn(value) : undefined;
    if (volid === undefined || context.cluster.volumes.get(guest.node, volid) !== undefined) continue;
    throw new PveError(500, `volume '${volid}' does not exist`);
  }
  setRunning(context.cluster, guest);
}
