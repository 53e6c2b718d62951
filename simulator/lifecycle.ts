/** How guests come and go: a vmid is taken, filled or given back, and what bears its name is freed. */

import type { Guest } from './cluster.ts';
import { freeVolume, kindOf, newGuest, owns, pendingConfig, removeGuest, volumesIn } from './guests.ts';
import { type Context, PveError } from './method.ts';

/** Takes a vmid for a new guest with a locked configuration, before anything is allocated; refused when it is taken. */
export function reserveGuest(context: Context, type: Guest['type']): Guest {
  const { cluster, node, param } = context;
  const vmid = Number(param.vmid);
  const kind = kindOf({ type });
  const taken = cluster.guests.get(vmid);
  if (taken !== undefined) {
    const why = `${kindOf(taken)} ${vmid} already exists on node '${taken.node}'`;
    throw new PveError(500, `unable to create ${kind} ${vmid} - ${why}`);
  }
  const guest = newGuest({ vmid, type, node });
  guest.config.set('lock', 'create');
  cluster.guests.set(vmid, guest);
  return guest;
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
