/** Moving guests to other nodes, and their local volumes with them. */

import type { Cluster } from './cluster.ts';
import { assertUnlocked, isVolumeKey, pendingConfig, volumeIn, volumesIn } from './guests.ts';
import { startLocked } from './locked-task.ts';
import type { Context } from './method.ts';
import type { Guest, Volume } from './model.ts';
import { splitList } from './named-formats.ts';
import { alternativesOn } from './pci.ts';
import { demand, demandOnGuest, demandRootFor } from './permit.ts';
import { PveError, parameterError } from './pve-error.ts';
import { jobsOf, replicatedVolumes, runJob, switchJobs } from './replication.ts';
import { allocate, isOnNode, storageOn } from './volumes.ts';

/** Where a local volume goes: to the storage that is said for its own, else to the one for all, else to one of the same name. */
type StorageMap = (storage: string) => string;

/** Starts the move of a VM and answers the task; one that runs needs `online`, and `with-local-disks` for its local disks. */
export function migrateVm(context: Context, guest: Guest): string {
  const { param } = context;
  demandRootFor(context, ['force', 'migration_type', 'migration_network']);
  const map = storageMap(context, guest, 'targetstorage');
  assertUnlocked(guest);
  if (guest.status === 'running' && !param.online) throw new PveError(500, "can't migrate running VM without --online");
  return move(context, guest, 'qmigrate', map, () => {
    const [device] =
      [...guest.config].find(([key, value]) => key.startsWith('hostpci') && !value.includes('mapping=')) ?? [];
    if (device !== undefined) throw new PveError(500, `can't migrate VM which uses local devices: ${device}`);
    demandMapped(context, guest);
    const local = localVolumes(context, guest);
    if (guest.status === 'running' && local.length > 0 && !param['with-local-disks']) {
      throw new PveError(500, "can't live migrate attached local disks without with-local-disks option");
    }
  });
}

/** A device under a name of the cluster has to be on the target too; nothing carries the state of one that is in use. */
function demandMapped({ cluster, param }: Context, guest: Guest): void {
  for (const [key, value] of guest.config) {
    const name = key.startsWith('hostpci') ? /(?:^|,)mapping=([^,]+)/.exec(value)?.[1] : undefined;
    if (name === undefined) continue;
    const mapping = cluster.pciMappings.get(name);
    if (mapping === undefined || alternativesOn(mapping, String(param.target)).length === 0) {
      throw new PveError(500, `can't migrate to '${param.target}': missing mapped devices ${key}`);
    }
    if (guest.status === 'running' && !mapping['live-migration-capable']) {
      throw new PveError(500, `can't migrate running VM which uses mapped devices: ${key}`);
    }
  }
}

/** Starts the move of a container and answers the task; one that runs is stopped and started again, and only with `restart`. */
export function migrateContainer(context: Context, guest: Guest): string {
  const { param } = context;
  const map = storageMap(context, guest, 'target-storage');
  assertUnlocked(guest);
  if (guest.status === 'running' && !param.online && !param.restart) {
    throw new PveError(500, "can't migrate running container without --online or --restart");
  }
  return move(context, guest, 'vzmigrate', map, () => {
    if (guest.status === 'running' && !param.restart) {
      throw new PveError(500, 'lxc live migration is currently not implemented');
    }
  });
}

/** What stands in the way of a move, as PVE tells it beforehand: for a VM with its local disks and devices. */
export function migrationConditions({ cluster, node }: Context, guest: Guest): Record<string, unknown> {
  const running = guest.status === 'running' ? 1 : 0;
  const volumes = volumesIn(guest.config).flatMap((volid) => cluster.volumes.get(node, volid) ?? []);
  const needed = [...new Set(volumes.map(({ storage }) => storage))];
  const others = [...cluster.nodes.keys()].filter((name) => name !== node);
  const lacking = new Map(others.map((name) => [name, needed.filter((storage) => !isThere(cluster, storage, name))]));
  const allowed = others.filter((name) => lacking.get(name)?.length === 0);
  const refused = others.filter((name) => !allowed.includes(name));
  const missing = Object.fromEntries(refused.map((name) => [name, { unavailable_storages: lacking.get(name) }]));
  if (guest.type === 'lxc') return { running, 'allowed-nodes': allowed, 'not-allowed-nodes': missing };
  const devices = [...guest.config].filter(([key]) => /^(hostpci|usb)\d+$/.test(key));
  const [mapped, raw] = [true, false].map((wanted) =>
    devices.filter(([, value]) => /\bmapping=/.test(value) === wanted),
  );
  return {
    running,
    ...(running ? {} : { allowed_nodes: allowed, not_allowed_nodes: missing }),
    local_disks: volumes
      .filter((volume) => volume.node !== '')
      .map(({ volid, bytes }) => ({ volid, size: bytes, cdrom: 0, is_unused: 0 })),
    local_resources: raw?.map(([key]) => key),
    'mapped-resources': mapped?.map(([key]) => key),
    'mapped-resource-info': Object.fromEntries(mapped?.map(([key, value]) => [key, { name: value }]) ?? []),
    'has-dbus-vmstate': 1,
  };
}

function isThere({ storages }: Cluster, storage: string, node: string): boolean {
  const definition = storages.get(storage);
  return definition !== undefined && isOnNode(definition, node);
}

function storageMap(context: Context, { vmid }: Guest, name: string): StorageMap {
  const { cluster, node, param } = context;
  const target = String(param.target);
  if (target === node) throw parameterError({ target: 'target is local node.' });
  if (!cluster.nodes.has(target)) throw parameterError({ target: `no such cluster node '${target}'` });
  if (param[name] === undefined) return (storage) => storage;
  demandOnGuest(context, vmid, undefined, ['VM.Config.Disk']);
  const entries = splitList(param[name]).map((entry) => entry.split(':'));
  const pairs = new Map(entries.flatMap(([from = '', to]) => (to === undefined ? [] : [[from, to] as const])));
  const all = entries.find(([, to]) => to === undefined)?.[0];
  for (const storage of [...pairs.values(), ...(all === undefined || all === '1' ? [] : [all])]) {
    demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
    storageOn(cluster, target, storage);
  }
  return (storage) => pairs.get(storage) ?? (all === undefined || all === '1' ? storage : all);
}

/** How long high availability takes to come to an order, in ms. */
const orderedWithin = 50;

/** Starts the move; of a guest that is highly available the task only orders it, and it starts after that. */
function move(context: Context, guest: Guest, type: string, map: StorageMap, demandFit: () => void): string {
  const { cluster, node, caller } = context;
  const start = () => startMove(context, guest, type, map, demandFit);
  if (!cluster.highlyAvailable.has(guest.vmid)) return start();
  const run = () => void setTimeout(start, orderedWithin).unref();
  return cluster.tasks.start({ node, type: 'hamigrate', id: String(guest.vmid), caller, run });
}

function startMove(context: Context, guest: Guest, type: string, map: StorageMap, demandFit: () => void): string {
  const { cluster, param } = context;
  const target = String(param.target);
  return startLocked(context, guest, {
    type,
    lock: 'migrate',
    check() {
      if (cluster.nodes.get(target)?.online === false) throw new PveError(500, `node '${target}' is offline`);
      demandReplicated(context, guest);
      demandFit();
      for (const storage of storagesOf(context, guest)) storageOn(cluster, target, storage);
      for (const { storage } of localVolumes(context, guest)) storageOn(cluster, target, map(storage));
    },
    work() {
      const names = new Map<string, string>();
      const [source, replicas] = [guest.node, replicate(context, guest)];
      for (const volume of localVolumes(context, guest)) {
        if (replicas.has(volume.volid)) continue;
        names.set(volume.volid, carry(context, guest, volume, map(volume.storage)).volid);
      }
      guest.config = renamed(guest.config, names);
      guest.pending = new Map(
        [...guest.pending].map(([key, change]) => [
          key,
          change.value === undefined ? change : { ...change, value: withNewName(key, change.value, names) },
        ]),
      );
      for (const snapshot of guest.snapshots.values()) {
        guest.snapshots.set(snapshot.name, { ...snapshot, config: renamed(snapshot.config, names) });
      }
      guest.node = target;
      if (replicas.size > 0) switchJobs(cluster, guest.vmid, source, target);
    },
  });
}

/** A running guest that has replicas goes only to where they are, and none goes by a job that is about to end. */
function demandReplicated({ cluster, param }: Context, guest: Guest): void {
  const jobs = jobsOf(cluster, guest.vmid);
  const job = jobs.find(({ target }) => target === param.target);
  if (job?.remove_job !== undefined)
    throw new PveError(500, 'refusing to migrate replicated VM whose replication job is marked for removal');
  if (guest.status === 'running' && jobs.length > 0 && job === undefined)
    throw new PveError(500, `Cannot live-migrate replicated VM to node '${param.target}' - not a replication target.`);
}

/** Where a job leads to the target, it runs once more; those volumes are there then, and stay here as the new replicas. */
function replicate({ cluster, param }: Context, guest: Guest): ReadonlySet<string> {
  const job = jobsOf(cluster, guest.vmid).find(({ target }) => target === param.target);
  if (job === undefined) return new Set();
  runJob(cluster, job);
  return new Set(replicatedVolumes(cluster, guest).map(({ volid }) => volid));
}

/** Every configuration of the guest: current, pending, and of snapshots. */
function configsOf(guest: Guest): readonly ReadonlyMap<string, string>[] {
  return [guest.config, pendingConfig(guest), ...[...guest.snapshots.values()].map(({ config }) => config)];
}

/** The guest's volumes that only its node has; images and discs of others cannot go along. */
function localVolumes({ cluster }: Context, guest: Guest): readonly Volume[] {
  const named = new Set(configsOf(guest).flatMap(volumesIn));
  const local = [...named]
    .flatMap((volid) => cluster.volumes.get(guest.node, volid) ?? [])
    .filter(({ node }) => node !== '');
  const stranger = local.find(({ vmid }) => vmid !== guest.vmid);
  if (stranger === undefined) return local;
  throw new PveError(500, `can't migrate local volume '${stranger.volid}'`);
}

/** The shared storages that the target has to have too. */
function storagesOf({ cluster }: Context, guest: Guest): readonly string[] {
  const volumes = volumesIn(guest.config).flatMap((volid) => cluster.volumes.get(guest.node, volid) ?? []);
  return volumes.filter(({ node }) => node === '').map(({ storage }) => storage);
}

/** The volume on the target: under its own name where that is free, else under the next. */
function carry({ cluster, param }: Context, { vmid }: Guest, volume: Volume, storage: string): Volume {
  const node = String(param.target);
  cluster.volumes.remove(volume);
  if (storage === volume.storage && cluster.volumes.get(node, volume.volid) === undefined) {
    return cluster.volumes.add({ ...volume, node });
  }
  const content = volume.content === 'rootdir' ? 'rootdir' : 'images';
  return allocate(cluster, { node, storage, vmid, content, bytes: volume.bytes, format: volume.format });
}

function renamed(config: ReadonlyMap<string, string>, names: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...config].map(([key, value]) => [key, withNewName(key, value, names)]));
}

function withNewName(key: string, value: string, names: ReadonlyMap<string, string>): string {
  const volid = isVolumeKey(key) || key.startsWith('unused') ? volumeIn(value) : undefined;
  const name = volid === undefined ? undefined : names.get(volid);
  return volid === undefined || name === undefined ? value : value.replace(volid, name);
}
