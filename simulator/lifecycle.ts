/** How guests come and go: a vmid is taken, filled or given back, what bears its name is freed; and how they are started and stopped. */

import { assertUnlocked, freeVolume, kindOf, newGuest, owns, pendingConfig, removeGuest, volumesIn } from './guests.ts';
import type { Context } from './method.ts';
import type { Guest } from './model.ts';
import { demandSkiplock } from './permit.ts';
import { PveError } from './pve-error.ts';

/** Takes a vmid for a new guest with a locked configuration, before anything is allocated; refused when it is taken. */
export function reserveGuest(
  { cluster, node }: Context,
  { vmid, type }: Pick<Guest, 'vmid' | 'type'>,
  purpose: 'create' | 'restore' = 'create',
  lock: 'create' | 'clone' = 'create',
): Guest {
  const taken = cluster.guests.get(vmid);
  if (taken !== undefined) {
    const why = `${kindOf(taken)} ${vmid} already exists on node '${taken.node}'`;
    throw new PveError(500, `unable to ${purpose} ${kindOf({ type })} ${vmid} - ${why}`);
  }
  const guest = newGuest({ vmid, type, node });
  guest.config.set('lock', lock);
  cluster.guests.set(vmid, guest);
  return guest;
}

/** The guest that a restore may overwrite: one of that type on the node, when that is asked for. */
export function overwritten({ cluster, node, param }: Context, type: Guest['type']): Guest | undefined {
  const guest = cluster.guests.get(Number(param.vmid));
  return param.force && guest?.type === type && guest.node === node ? guest : undefined;
}

/** Runs what makes a guest; when it throws, the guest and every volume made meanwhile are gone again. */
export function undoing({ cluster }: Context, guest: Guest, make: () => void): void {
  const before = new Set(cluster.volumes.ofGuest(guest.vmid));
  try {
    make();
  } catch (error) {
    for (const volume of cluster.volumes.ofGuest(guest.vmid)) if (!before.has(volume)) cluster.volumes.remove(volume);
    removeGuest(cluster, guest.vmid);
    if (!(error instanceof Error)) throw error;
    throw new PveError(500, `unable to create ${kindOf(guest)} ${guest.vmid} - ${error.message}`);
  }
}

/** Refuses while a linked clone lives on one of the guest's volumes. */
export function assertNoClones({ cluster, node }: Context, guest: Guest): void {
  const definition = (storage: string) => cluster.storages.get(storage);
  for (const volid of volumesIn(guest.config)) {
    const volume = cluster.volumes.get(node, volid);
    const place = volume && definition(volume.storage);
    if (!place || !cluster.volumes.onStorage(place, node).some(({ parent }) => parent === volid)) continue;
    throw new PveError(500, `base volume '${volid}' is still in use by linked cloned`);
  }
}

/** Frees the guest's own volumes, and with `unreferenced` every image that bears its name on a storage of the node. */
export function freeAll({ cluster, node }: Context, guest: Guest, unreferenced: boolean): void {
  for (const volid of [...volumesIn(guest.config), ...volumesIn(pendingConfig(guest))]) {
    if (owns(guest, volid)) freeVolume(cluster, guest, volid);
  }
  if (!unreferenced) return;
  for (const volume of cluster.volumes.ofGuest(guest.vmid)) {
    const isImage = volume.content === 'images' || volume.content === 'rootdir';
    if (isImage && (volume.node === '' || volume.node === node)) cluster.volumes.remove(volume);
  }
}

export function assertRunning(guest: Guest): void {
  if (guest.status !== 'running') throw new PveError(500, `${kindOf(guest)} ${guest.vmid} not running`);
}

/** Starts a task that does this to a guest; refused when it runs while the guest is locked, unless by its own suspension. */
export function power(context: Context, guest: Guest, type: string, run: () => void): string {
  const { cluster, node, caller, param } = context;
  demandSkiplock(context, param.skiplock);
  return cluster.tasks.start({
    node,
    type,
    id: String(guest.vmid),
    caller,
    run() {
      if (!param.skiplock && guest.config.get('lock') !== 'suspended') assertUnlocked(guest);
      run();
    },
  });
}
