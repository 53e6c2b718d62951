/** The permission checks that PVE makes inside a method, besides the published expression. */

import { permissionError } from './access.ts';
import { authUser, type Caller } from './call.ts';
import type { Cluster } from './cluster.ts';
import type { Context } from './method.ts';
import { PveError, parameterError } from './pve-error.ts';
import { ownerOf, splitVolid } from './volumes.ts';

/** Who asks, and where: what a check needs of a call. */
export interface Asker {
  readonly cluster: Cluster;
  readonly caller: Caller;
}

/** Whether the caller holds all of these privileges on the path, or one of them with `any`. */
export function may({ cluster, caller }: Asker, path: string, privileges: readonly string[], any = false): boolean {
  return cluster.access.check(caller, path, privileges, any);
}

/** Refuses with 403 unless `may`. */
export function demand({ cluster, caller }: Asker, path: string, privileges: readonly string[], any = false): void {
  cluster.access.demand(caller, path, privileges, any);
}

/** The same on a guest; a pool that it is about to enter may grant them too. */
export function demandOnGuest(
  asker: Asker,
  vmid: number,
  pool: string | undefined,
  privileges: readonly string[],
  any = false,
): void {
  if (pool !== undefined && may(asker, `/pool/${pool}`, privileges, any)) return;
  demand(asker, `/vms/${vmid}`, privileges, any);
}

/** Refuses network cards on a bridge, or on VLANs of it, that the caller may not use, whether or not they have them already. */
export function demandBridges(asker: Asker, set: ReadonlyMap<string, string>): void {
  for (const [key, card] of set) {
    const bridge = /^net\d+$/.test(key) ? /(?:^|,)bridge=([^,]+)/.exec(card)?.[1] : undefined;
    if (bridge === undefined) continue;
    const tag = /(?:^|,)tag=(\d+)/.exec(card)?.[1];
    const trunks = /(?:^|,)trunks=([^,]+)/.exec(card)?.[1]?.split(';') ?? [];
    const vlans = [...(tag === undefined ? [] : [tag]), ...trunks];
    for (const vlan of vlans.length === 0 ? [''] : vlans)
      demand(asker, `/sdn/zones/localnetwork/${bridge}${vlan === '' ? '' : `/${vlan}`}`, ['SDN.Use']);
  }
}

/** Compares with root@pam itself, so that a token of root@pam is not it. */
export function isRoot({ caller }: Asker): boolean {
  return authUser(caller) === 'root@pam';
}

/**
 * Refuses a guest that the caller may not make, by right on its vmid or on the pool that it enters. To put a backup in
 * place of a guest, the right to back it up will do.
 */
export function demandAllocate(asker: Asker, vmid: number, pool: string | undefined, overwrites = false): void {
  demandPool(asker, pool);
  if (may(asker, `/vms/${vmid}`, ['VM.Allocate'])) return;
  if (pool !== undefined && may(asker, `/pool/${pool}`, ['VM.Allocate'])) return;
  if (!overwrites || !may(asker, `/vms/${vmid}`, ['VM.Backup'])) throw permissionError();
}

/** Refuses a pool that does not exist. */
export function demandPool({ cluster }: Asker, pool: string | undefined): void {
  if (pool !== undefined && !cluster.pools.has(pool)) throw permissionError(`pool '${pool}' does not exist`);
}

/** Refuses these parameters to all but root@pam. */
export function demandRootFor(asker: Asker & Pick<Context, 'param'>, names: readonly string[]): void {
  const given = names.find((name) => asker.param[name] !== undefined);
  if (given !== undefined && !isRoot(asker)) throw parameterError({ [given]: 'Only root may use this option.' });
}

/** Refuses `skiplock` to all but root@pam. */
export function demandSkiplock(asker: Asker, skiplock: unknown): void {
  if (skiplock && !isRoot(asker)) throw parameterError({ skiplock: 'Only root may use this option.' });
}

/**
 * Refuses a volume that the caller may not use for the guest. Datastore.Allocate opens every volume of a storage;
 * without it images and templates need read access, backups and images of other guests rights on those guests.
 */
export function demandVolume(asker: Asker, vmid: number | undefined, volid: string): void {
  const volume = splitVolid(volid);
  if (volume === undefined) {
    if (!isRoot(asker)) throw new PveError(500, 'only root can pass arbitrary filesystem paths.');
    return;
  }
  const storage = `/storage/${volume.storage}`;
  if (may(asker, storage, ['Datastore.Allocate'])) return;
  const owner = ownerOf(volume.name);
  if (/^(iso|vztmpl|import)\//.test(volume.name)) {
    demand(asker, storage, ['Datastore.AllocateSpace', 'Datastore.Audit'], true);
  } else if (owner === undefined) {
    throw new PveError(500, `missing privileges to access ${volid}`);
  } else if (volume.name.startsWith('backup/')) {
    demand(asker, storage, ['Datastore.AllocateSpace']);
    demand(asker, `/vms/${owner}`, ['VM.Backup']);
  } else if (owner !== vmid) {
    demand(asker, storage, ['Datastore.Audit']);
    demand(asker, `/vms/${owner}`, ['VM.Config.Disk']);
  }
}

/** Whether `demandVolume` lets the caller use it, for no guest in particular. */
export function mayUseVolume(asker: Asker, volid: string): boolean {
  try {
    demandVolume(asker, undefined, volid);
    return true;
  } catch (error) {
    if (error instanceof PveError) return false;
    throw error;
  }
}
