/** Storages where a snapshot is a volume of its own, of the full size, below the one that goes on being written. */

import type { Cluster } from './cluster.ts';
import type { Volume } from './model.ts';
import { splitVolid } from './volumes.ts';

/** What a snapshot of that name allocates for the volume, where its storage makes chains of volumes. */
export function chainSnapshot(cluster: Cluster, volume: Volume, snapshot: string): void {
  if (!cluster.storages.get(volume.storage)?.volumeChain) return;
  const { notes: _notes, ...same } = volume;
  cluster.volumes.add({ ...same, volid: `${chainPrefix(volume)}${snapshot}.qcow2`, hidden: true });
}

/** The snapshots below a volume in its chain, or the one of that name. */
export function chainOf({ volumes }: Cluster, volume: Volume, snapshot?: string): readonly Volume[] {
  const start = chainPrefix(volume);
  return volumes
    .ofGuest(volume.vmid ?? 0)
    .filter(({ hidden, node, volid }) => hidden && node === volume.node && volid.startsWith(start))
    .filter(({ volid }) => snapshot === undefined || volid === `${start}${snapshot}.qcow2`);
}

function chainPrefix({ storage, volid }: Volume): string {
  return `${storage}:snap_${splitVolid(volid)?.name.replace(/\.qcow2$/, '')}_`;
}

/** Takes a volume off its storage, and with it the snapshots below it. */
export function discard(cluster: Cluster, volume: Volume): void {
  for (const one of [volume, ...chainOf(cluster, volume)]) cluster.volumes.remove(one);
}
