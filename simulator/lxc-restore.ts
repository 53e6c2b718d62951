/** Making containers of backups, new ones or in place of what they were. */

import { archiveAt } from './archives.ts';
import { withNewMac } from './clones.ts';
import { givenOptions } from './config-write.ts';
import { assertUnlocked, assertUnprotected, freeVolume, owns, removeGuest, setRunning, volumesIn } from './guests.ts';
import { overwritten, reserveGuest } from './lifecycle.ts';
import { canonicalLxcOptions, demandLxcOptions, demandMounts } from './lxc-config.ts';
import type { Context } from './method.ts';
import type { Guest, Volume } from './model.ts';
import { demandRootdir, isMountKey, makeVolume, parseMount, placed, printMount } from './mounts.ts';
import { lxcOptions } from './options.ts';
import { textOf } from './parameters.ts';
import { demand, demandAllocate, demandVolume, isRoot } from './permit.ts';
import { PveError } from './pve-error.ts';
import { GiB, parseSize } from './sizes.ts';
import { makeBases } from './templates.ts';

/**
 * Starts a restore and answers the task. Every key that is not given comes from the backup, but for the volumes: either
 * all of them are given, or all are made anew on `storage` in the sizes that the backup's text tells. A restore that
 * fails once it has begun to make volumes leaves nothing of the container, new or old.
 */
export function restoreContainer(context: Context): string {
  const { cluster, node, caller, param } = context;
  const [vmid, pool, storage] = [Number(param.vmid), textOf(param.pool), textOf(param.storage) ?? 'local'];
  const volid = String(param.ostemplate);
  const unprivileged = param.unprivileged === undefined ? undefined : param.unprivileged === 1;
  const before = overwritten(context, 'lxc');
  if (before?.status === 'running') throw new PveError(500, "can't overwrite running container");
  if (before !== undefined) assertUnprotected(before, `unable to restore CT ${vmid}`);
  demandAllocate(context, vmid, pool, before !== undefined);
  const wasUnprivileged = before?.config.get('unprivileged') === '1';
  if (wasUnprivileged && unprivileged === false) demand(context, '/', ['Sys.Modify']);

  const set = canonicalLxcOptions(placed(givenOptions(lxcOptions, { ...param, unprivileged: undefined }), storage));
  demandLxcOptions(context, vmid, pool, { set, delete: [] }, unprivileged ?? true);
  demandVolume(context, vmid, volid);
  if (!/:backup\//.test(volid)) throw new PveError(500, `'${volid}' is not a backup`);
  const mounts = new Map([...set].filter(([key]) => isMountKey(key)));
  if (mounts.size > 0 && !mounts.has('rootfs')) {
    throw new PveError(500, "mount points configured, but 'rootfs' not set - aborting");
  }
  demandMounts(context, vmid, mounts);
  if (mounts.size === 0) demandRootdir(context, storage);

  if (before !== undefined) assertUnlocked(before);
  const guest = before ?? reserveGuest(context, { vmid, type: 'lxc' }, 'restore');
  guest.config.set('lock', 'create');
  const end = () => {
    if (before === undefined) removeGuest(cluster, vmid);
    else guest.config.delete('lock');
  };
  return cluster.tasks.start({
    node,
    type: 'vzrestore',
    id: String(vmid),
    caller,
    run() {
      const restored = orEnd(end, () => {
        const archive = archiveAt(cluster, node, volid);
        if (archive.type !== 'lxc') throw new PveError(500, `'${volid}' is no backup of a container`);
        const isUnprivileged = unprivileged ?? archive.config.get('unprivileged') === '1';
        if ((before === undefined || wasUnprivileged) && !isUnprivileged) demand(context, '/', ['Sys.Modify']);
        const volumes = mounts.size > 0 ? mounts : mountsOf(context, archive.config, storage);
        return { archive: archive.config, isUnprivileged, volumes };
      });
      const { archive, isUnprivileged, volumes } = restored;
      const made = makeVolumes(context, guest, volumes);
      freeOld(context, guest, made);
      const kept = [...archive]
        .filter(([key]) => !isLeftOut(key))
        .map(([key, value]) => recovered(context, key, value));
      const options = [...set].filter(([key]) => !isMountKey(key) && !key.startsWith('unused'));
      guest.config = new Map([...kept, ...options, ...made]);
      if (isUnprivileged) guest.config.set('unprivileged', '1');
      guest.pending.clear();
      guest.snapshots.clear();
      if (archive.get('template') === '1') {
        guest.config.set('template', '1');
        makeBases(context, guest);
      }
      if (pool !== undefined) cluster.join(pool, vmid);
      if (param.start) setRunning(cluster, guest);
    },
    abandon: end,
  });
}

function orEnd<Result>(end: () => void, act: () => Result): Result {
  try {
    return act();
  } catch (error) {
    end();
    throw error;
  }
}

function isLeftOut(key: string): boolean {
  return isMountKey(key) || /^(unused\d+|unprivileged|parent|lock|template)$/.test(key);
}

function recovered({ param }: Context, key: string, value: string): [string, string] {
  return [key, param.unique && /^net\d+$/.test(key) ? withNewMac('lxc', key, value) : value];
}

/** The backup's mount points as new volumes on one storage; directories and devices of the host are for root@pam alone. */
function mountsOf(asker: Context, config: ReadonlyMap<string, string>, storage: string): ReadonlyMap<string, string> {
  const mounts = [...config].filter(([key]) => isMountKey(key));
  if (!mounts.some(([key]) => key === 'rootfs')) {
    throw new PveError(500, 'rootfs configuration could not be recovered, please check and specify manually!');
  }
  return new Map(
    mounts.map(([key, value]) => {
      const { size, ...mount } = parseMount(key, value);
      if (mount.volume?.startsWith('/')) {
        if (!isRoot(asker)) throw new PveError(500, `restoring '${key}' to bind mount is only possible for root`);
        return [key, value];
      }
      const bytes = parseSize(size ?? '');
      if (bytes === undefined) throw new PveError(500, `unable to detect disk size - please specify ${key} (size)`);
      return [key, printMount(key, { ...mount, volume: `${storage}:${bytes / GiB}` })];
    }),
  );
}

function makeVolumes(context: Context, guest: Guest, mounts: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const { cluster, node } = context;
  const before = new Set<Volume>(cluster.volumes.ofGuest(guest.vmid));
  const site = { cluster, node, vmid: guest.vmid };
  try {
    return new Map([...mounts].map(([key, value]) => [key, makeVolume(site, key, parseMount(key, value)) ?? value]));
  } catch (error) {
    for (const volume of cluster.volumes.ofGuest(guest.vmid)) if (!before.has(volume)) cluster.volumes.remove(volume);
    removeGuest(cluster, guest.vmid);
    throw error;
  }
}

/** Everything of the old container goes, snapshots and unused volumes too; what the new one names stays. */
function freeOld({ cluster }: Context, guest: Guest, made: ReadonlyMap<string, string>): void {
  const named = new Set(volumesIn(made));
  const old = [guest.config, ...[...guest.snapshots.values()].map(({ config }) => config)].flatMap(volumesIn);
  for (const volid of old) if (owns(guest, volid) && !named.has(volid)) freeVolume(cluster, guest, volid);
}
