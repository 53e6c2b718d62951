/** Replication: jobs that keep copies of a guest's local volumes on another node, and what else has to mind them. */

import type { Cluster } from './cluster.ts';
import { isVolumeKey, pendingConfig, volumeIn } from './guests.ts';
import type { Guest, ReplicationJob, Volume } from './model.ts';
import { PveError } from './pve-error.ts';
import { canReplicate, storageOn } from './volumes.ts';

export function jobsOf({ replication }: Cluster, vmid: number): readonly ReplicationJob[] {
  return [...replication.values()].filter(({ guest }) => guest === vmid);
}

/** Refuses while a guest has jobs. */
export function assertNoJobs(cluster: Cluster, vmid: number): void {
  const [job] = jobsOf(cluster, vmid);
  if (job !== undefined)
    throw new PveError(500, `There is a replication job '${job.id}' for guest '${vmid}' - Please remove that first.`);
}

/** Forgets a guest's jobs; what they have copied stays. */
export function dropJobs(cluster: Cluster, vmid: number): void {
  for (const { id } of jobsOf(cluster, vmid)) cluster.replication.delete(id);
}

/** After a move the guest's jobs start from its new node, and the one that led there leads back. */
export function switchJobs(cluster: Cluster, vmid: number, from: string, to: string): void {
  for (const job of jobsOf(cluster, vmid))
    cluster.replication.set(job.id, { ...job, source: to, target: job.target === to ? from : job.target });
}

interface Mention {
  readonly volid: string;
  readonly text: string;
  readonly key: string;
}

const isKeptOut = ({ key, text }: Mention) => !key.startsWith('unused') && /(?:^|,)replicate=0(?:,|$)/.test(text);

/**
 * The local volumes that a guest's jobs copy: all that any of its configurations names without keeping it out. Refused
 * when one of them lies on a storage that cannot be replicated, unless only what is there is to be cleared away.
 */
export function replicatedVolumes(cluster: Cluster, guest: Guest, clearing = false): readonly Volume[] {
  const configs = [guest.config, pendingConfig(guest), ...[...guest.snapshots.values()].map(({ config }) => config)];
  const mentions = configs.flatMap((config) =>
    [...config].flatMap(([key, text]): Mention[] => {
      const volid = isVolumeKey(key) || key.startsWith('unused') ? volumeIn(text) : undefined;
      return volid === undefined ? [] : [{ volid, text, key }];
    }),
  );
  return [...Map.groupBy(mentions, ({ volid }) => volid)].flatMap(([volid, own]) => {
    if (own.every(({ text }) => /(?:^|,)media=cdrom(?:,|$)/.test(text))) return [];
    if (!clearing && own.every(isKeptOut)) return [];
    const volume = cluster.volumes.get(guest.node, volid);
    if (volume === undefined || volume.node === '' || volume.vmid !== guest.vmid) return [];
    if (canReplicate(cluster, volume.storage)) return [volume];
    if (clearing) return [];
    throw new PveError(500, `missing replicate feature on volume '${volid}'`);
  });
}

/** Refuses a volume on a local storage that cannot be replicated, for a guest that has jobs. */
export function assertReplicable(cluster: Cluster, guest: Guest, set: ReadonlyMap<string, string>): void {
  if (jobsOf(cluster, guest.vmid).length === 0) return;
  for (const [key, text] of set) {
    const volid = isVolumeKey(key) ? volumeIn(text) : undefined;
    if (volid === undefined || /(?:^|,)(?:replicate=0|media=cdrom)(?:,|$)|:cloudinit\b/.test(text)) continue;
    const storage = cluster.storages.get(volid.slice(0, volid.indexOf(':')));
    if (storage !== undefined && !storage.shared && !canReplicate(cluster, storage.storage))
      throw new PveError(500, 'cannot add non-replicatable volume to a replicated VM');
  }
}

/** Runs every job that is due, as PVE's scheduler does by the clock; one that fails says so in its state. */
export function runReplication(cluster: Cluster): void {
  for (const job of [...cluster.replication.values()]) if (!job.disable || job.remove_job) runJob(cluster, job);
}

/** Runs one job: its target then holds the guest's volumes as they are now, and no others of the guest. */
export function runJob(cluster: Cluster, job: ReplicationJob): void {
  const { last_sync = 0, fail_count = 0 } = cluster.replicationStates.get(job.id) ?? {};
  try {
    carryOut(cluster, job);
    cluster.replicationStates.set(job.id, { last_sync: Math.floor(cluster.now() / 1000), fail_count: 0 });
  } catch (error) {
    if (!(error instanceof PveError)) throw error;
    cluster.replicationStates.set(job.id, { last_sync, fail_count: fail_count + 1, error: error.message });
  }
}

function carryOut(cluster: Cluster, { id, guest: vmid, target, remove_job }: ReplicationJob): void {
  const guest = cluster.guests.get(vmid);
  if (guest === undefined) throw new PveError(500, `no such guest '${vmid}'`);
  if (guest.node === target) throw new PveError(500, 'unable to sync to local node');
  if (cluster.nodes.get(target)?.online === false) throw new PveError(500, `node '${target}' is offline`);
  const volumes = remove_job === undefined ? replicatedVolumes(cluster, guest) : [];
  for (const { storage } of volumes) storageOn(cluster, target, storage);
  const wanted = new Set(volumes.map(({ volid }) => volid));
  if (remove_job !== 'local')
    for (const replica of cluster.volumes.ofGuest(vmid)) {
      const isReplica = replica.node === target && canReplicate(cluster, replica.storage);
      if (isReplica && !wanted.has(replica.volid)) cluster.volumes.remove(replica);
    }
  for (const volume of volumes) {
    const replica = cluster.volumes.get(target, volume.volid);
    if (replica === undefined) cluster.volumes.add({ ...volume, node: target });
    else replica.bytes = volume.bytes;
  }
  if (remove_job !== undefined) cluster.replication.delete(id);
}
