/** What an administrator does at the cluster itself, past the API; and the truth about what the cluster holds. */

import { addArchive, archiveWith } from './archives.ts';
import type { Cluster } from './cluster.ts';
import { isVolumeKey, newGuest, removeGuest, setRunning, volumeIn } from './guests.ts';
import type { Guest, PendingValue, RemoteFile, Volume } from './model.ts';
import { parseSize } from './sizes.ts';
import { grow, ownerOf, splitVolid } from './volumes.ts';

export interface GuestSketch {
  readonly vmid: number;
  readonly type?: Guest['type'];
  readonly node?: string;
  readonly status?: Guest['status'];
  readonly pool?: string;
  readonly config?: Readonly<Record<string, string | number>>;
}

/** Puts a guest into the cluster as it is described; a volume that it names and the storage lacks is made with its `size`. */
export function addGuest(cluster: Cluster, sketch: GuestSketch): Guest {
  const { vmid, type = 'qemu', node = 'n1', status = 'stopped', pool, config = {} } = sketch;
  const guest = newGuest({ vmid, type, node });
  cluster.guests.set(vmid, guest);
  setConfig(cluster, vmid, config);
  if (status === 'running') setRunning(cluster, guest);
  if (pool !== undefined) cluster.join(pool, vmid);
  return guest;
}

/** Changes the current configuration as an editor on the node would; null takes a key away. */
export function setConfig(
  cluster: Cluster,
  vmid: number,
  changes: Readonly<Record<string, string | number | null>>,
): void {
  const guest = known(cluster, vmid);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) guest.config.delete(key);
    else guest.config.set(key, String(value));
    if (value !== null && (isVolumeKey(key) || key.startsWith('unused'))) provide(cluster, guest, String(value));
  }
}

function provide(cluster: Cluster, guest: Guest, value: string): void {
  const volid = volumeIn(value);
  const storage = volid === undefined ? undefined : cluster.storages.get(splitVolid(volid)?.storage ?? '');
  if (volid === undefined || storage === undefined || cluster.volumes.get(guest.node, volid) !== undefined) return;
  addVolume(cluster, {
    volid,
    node: guest.node,
    content: guest.type === 'qemu' ? 'images' : 'rootdir',
    bytes: parseSize(/,size=([^,]+)/.exec(value)?.[1] ?? '') ?? 0,
  });
}

export interface VolumeSketch {
  readonly volid: string;
  readonly node?: string;
  readonly content: Volume['content'];
  readonly bytes: number;
  /** Of an image to import: how big its file is, where its disk has `bytes`. */
  readonly fileBytes?: number;
  readonly notes?: string;
}

/** Puts a volume onto its storage; its name says whose it is. */
export function addVolume(cluster: Cluster, sketch: VolumeSketch): Volume {
  const { volid, node = 'n1', content, bytes, fileBytes, notes } = sketch;
  const { storage, name } = splitVolid(volid) ?? { storage: '', name: '' };
  const definition = cluster.storages.get(storage);
  if (definition === undefined) throw new Error(`storage '${storage}' does not exist`);
  return cluster.volumes.add({
    volid,
    storage,
    node: definition.shared ? '' : node,
    vmid: ownerOf(name),
    content,
    format: formatOf(name, content),
    bytes,
    ...(fileBytes === undefined ? {} : { fileBytes }),
    ctime: Math.floor(cluster.now() / 1000),
    ...(notes === undefined ? {} : { notes }),
  });
}

function formatOf(name: string, content: Volume['content']): string {
  if (content === 'iso') return 'iso';
  const backup = /\.((?:vma|tar)(?:\.(?:gz|lzo|zst))?)$/.exec(name)?.[1];
  if (content === 'backup' && backup !== undefined) return backup;
  return (
    /\.(raw|qcow2|vmdk|subvol|tar\.zst|tar\.gz|tar\.xz|vma\.zst|tzst)$/.exec(name)?.[1]?.replace('tar.', 't') ?? 'raw'
  );
}

/** Offers a file to whoever fetches it: under a URL, as an appliance template, or as an image of a registry. */
export function publish(cluster: Cluster, name: string, file: RemoteFile): void {
  cluster.outside.set(name, file);
}

export interface BackupSketch {
  readonly vmid: number;
  readonly type?: Guest['type'];
  readonly storage?: string;
  readonly node?: string;
  /** The configuration of that day; disks come back from it whether or not they ever existed. */
  readonly config?: Readonly<Record<string, string | number>>;
  /** What the archive's header says of a VM's disks, in bytes, where it differs from `size=` in the configuration. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** When it was made, in ms; now when absent. */
  readonly at?: number;
  readonly notes?: string;
  readonly protected?: boolean;
}

/** Puts a backup onto a storage (`shared` when absent), of a guest that need not exist. */
export function addBackup(cluster: Cluster, sketch: BackupSketch): Volume {
  const {
    vmid,
    type = 'qemu',
    storage = 'shared',
    node = 'n1',
    config = {},
    sizes,
    at = cluster.now(),
    notes,
  } = sketch;
  const definition = cluster.storages.get(storage);
  if (definition === undefined) throw new Error(`storage '${storage}' does not exist`);
  const texts = new Map(Object.entries(config).map(([key, value]) => [key, String(value)]));
  return addArchive(cluster, {
    ...{ definition, node, vmid, archive: archiveWith(type, texts, sizes), time: Math.floor(at / 1000) },
    ...(notes === undefined ? {} : { notes }),
    ...(sketch.protected ? { protected: true } : {}),
  });
}

/** Gives host devices a name in the cluster; each alternative is one property string. */
export function addPciMapping(cluster: Cluster, id: string, map: readonly string[]): void {
  cluster.pciMappings.set(id, { id, map });
}

/** Destroys the guest with all that bears its name, as `qm destroy --destroy-unreferenced-disks` does. */
export function destroyGuest(cluster: Cluster, vmid: number): void {
  known(cluster, vmid);
  removeGuest(cluster, vmid);
  for (const volume of cluster.volumes.ofGuest(vmid)) if (volume.content !== 'backup') cluster.volumes.remove(volume);
}

/** Grows or shrinks a volume on its storage; the configuration keeps saying what it said. */
export function resizeVolume(cluster: Cluster, vmid: number, volid: string, bytes: number): void {
  const volume = cluster.volumes.get(known(cluster, vmid).node, volid);
  if (volume === undefined) throw new Error(`volume '${volid}' does not exist`);
  grow(cluster, volume, bytes);
}

/** The volume behind a key of the current configuration. */
export function volumeAt(cluster: Cluster, vmid: number, key: string): Volume | undefined {
  const guest = known(cluster, vmid);
  return cluster.volumes.get(guest.node, volumeIn(guest.config.get(key) ?? '') ?? '');
}

function known(cluster: Cluster, vmid: number): Guest {
  const guest = cluster.guests.get(vmid);
  if (guest === undefined) throw new Error(`guest ${vmid} does not exist`);
  return guest;
}

export interface Holdings {
  readonly exists: boolean;
  readonly config: Readonly<Record<string, string>>;
  readonly pending: Readonly<Record<string, PendingValue>>;
  readonly volumes: readonly {
    readonly volid: string;
    readonly storage: string;
    readonly content: string;
    readonly bytes: number;
  }[];
}

/** The truth about a vmid: its configurations, and every volume that bears its name, in a configuration or not. */
export function holdings(cluster: Cluster, vmid: number): Holdings {
  const guest = cluster.guests.get(vmid);
  return {
    exists: guest !== undefined,
    config: Object.fromEntries(guest?.config ?? []),
    pending: Object.fromEntries(guest?.pending ?? []),
    volumes: cluster.volumes
      .ofGuest(vmid)
      .map(({ volid, storage, content, bytes }) => ({ volid, storage, content, bytes })),
  };
}
