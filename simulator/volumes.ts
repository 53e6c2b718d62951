/** The volumes of the cluster's storages: how each kind of storage names and sizes them, and who owns them by name. */

import type { Cluster } from './cluster.ts';
import type { StorageDefinition, Volume } from './model.ts';
import { PveError, parameterError } from './pve-error.ts';
import { MiB, roundUp } from './sizes.ts';

interface StorageKind {
  /** Volumes are files below a directory per guest. */
  readonly files: boolean;
  /** Sizes are rounded up to this. */
  readonly step: number;
  /** Volumes of containers are file systems, not images. */
  readonly subvolumes?: true;
  /** Volumes of these formats can have snapshots. */
  readonly snapshots: readonly string[];
  /** A volume can be the base of others. */
  readonly bases: boolean;
  /** So can a snapshot of a volume. */
  readonly snapshotBases?: true;
  /** Volumes can be copied to other nodes by replication jobs. */
  readonly replicates?: true;
}

const fileStorage: StorageKind = { files: true, step: 1024, snapshots: ['qcow2'], bases: true };
const thin = { files: false, snapshots: ['raw', 'subvol'], bases: true };
const kinds: Readonly<Record<string, StorageKind>> = {
  dir: fileStorage,
  nfs: fileStorage,
  cifs: fileStorage,
  cephfs: fileStorage,
  lvm: { files: false, step: 4 * MiB, snapshots: [], bases: false },
  lvmthin: { ...thin, step: 4 * MiB, snapshotBases: true },
  rbd: { ...thin, step: MiB, snapshotBases: true },
  zfspool: { ...thin, step: MiB, subvolumes: true, replicates: true },
};

const chain: StorageKind = { files: false, step: 4 * MiB, snapshots: ['qcow2'], bases: false };

function kindOf({ type, volumeChain }: StorageDefinition): StorageKind {
  return volumeChain ? chain : (kinds[type] ?? fileStorage);
}

/** Whether it keeps files, not only images. */
export function isFileStorage(definition: StorageDefinition): boolean {
  return kindOf(definition).files;
}

/** The storage, if it exists and this node has it; refused in PVE's words otherwise. */
export function storageOn(cluster: Cluster, node: string, storage: string): StorageDefinition {
  const definition = cluster.storages.get(storage);
  if (definition === undefined) throw new PveError(500, `storage '${storage}' does not exist`);
  if (!isOnNode(definition, node)) throw new PveError(500, `storage '${storage}' is not available on node '${node}'`);
  return definition;
}

export function isOnNode({ nodes }: StorageDefinition, node: string): boolean {
  return nodes === undefined || nodes.includes(node);
}

/** Bytes taken on the storage, as this node sees it. */
export function usedBytes({ volumes }: Cluster, definition: StorageDefinition, node: string): number {
  return volumes.onStorage(definition, node).reduce((sum, { bytes, fileBytes }) => sum + (fileBytes ?? bytes), 0);
}

/** The storage part of a volume id and what follows it; undefined when the text is no volume id. */
export function splitVolid(volid: string): { readonly storage: string; readonly name: string } | undefined {
  const [, storage, name] = /^([a-z][a-z0-9\-_.]*[a-z0-9]):(.+)$/i.exec(volid) ?? [];
  return storage === undefined || name === undefined ? undefined : { storage, name };
}

/** The guest that a volume's name gives as its owner; undefined for a file of nobody. */
export function ownerOf(name: string): number | undefined {
  const [, image, archive] =
    /^(?:.*\/)?(?:vm|base|subvol|basevol)-(\d+)-|^backup\/vzdump-(?:qemu|lxc)-(\d+)-/.exec(name) ?? [];
  const vmid = image ?? archive ?? /^(\d+)\/[^/]+$/.exec(name)?.[1];
  return vmid === undefined ? undefined : Number(vmid);
}

export interface Allocation {
  readonly node: string;
  readonly storage: string;
  readonly vmid: number;
  readonly content: 'images' | 'rootdir';
  readonly bytes: number;
  readonly format?: string;
  /** The name's ending in place of `disk-<n>`: `cloudinit`, `state-before`. */
  readonly role?: string;
  /** The volume that this one is a linked clone of. */
  readonly base?: Volume;
}

/**
 * Makes a volume and gives it the lowest free disk number of the guest on that storage, so freed names come back.
 * The size is rounded up as the kind of storage does; nothing for a container on a file storage is a plain directory.
 */
export function allocate(cluster: Cluster, wanted: Allocation): Volume {
  const definition = storageOn(cluster, wanted.node, wanted.storage);
  if (!definition.content.includes(wanted.content)) {
    throw parameterError({
      storage: `storage '${wanted.storage}' does not support ${wanted.content === 'images' ? 'vm images' : 'container directories'}`,
    });
  }
  const kind = kindOf(definition);
  const boundless = wanted.content === 'rootdir' && wanted.bytes === 0;
  if (boundless && !kind.files && !kind.subvolumes) {
    throw new PveError(500, `unable to create volume on storage '${wanted.storage}' - size must not be 0`);
  }
  const subvolume = wanted.content === 'rootdir' && (kind.subvolumes || boundless);
  const format = formatFor(kind, wanted, subvolume === true);
  const nameFor = (role: string) =>
    volumeName(kind, wanted.vmid, `${subvolume ? 'subvol' : 'vm'}-${wanted.vmid}-${role}`, format);
  const below = wanted.base === undefined ? '' : `${splitVolid(wanted.base.volid)?.name}/`;
  return cluster.volumes.add({
    volid: `${wanted.storage}:${below}${nameFor(wanted.role ?? `disk-${freeNumber(cluster, definition, wanted)}`)}`,
    storage: wanted.storage,
    node: definition.shared ? '' : wanted.node,
    vmid: wanted.vmid,
    content: wanted.content,
    format,
    bytes: roundedOn(definition, wanted.bytes),
    ctime: Math.floor(cluster.now() / 1000),
    ...(wanted.base === undefined ? {} : { parent: wanted.base.volid }),
  });
}

function formatFor(kind: StorageKind, { content, format, role }: Allocation, subvolume: boolean): string {
  if (subvolume) return 'subvol';
  if (kind === chain && role === undefined && content === 'images') return format ?? 'qcow2';
  if (!kind.files) return 'raw';
  return format ?? (role === 'cloudinit' ? 'qcow2' : 'raw');
}

function volumeName(kind: StorageKind, vmid: number, base: string, format: string): string {
  if (kind.files) return `${vmid}/${base}.${format}`;
  return format === 'qcow2' ? `${base}.qcow2` : base;
}

function freeNumber(cluster: Cluster, { storage, shared }: StorageDefinition, { vmid, node }: Allocation): number {
  const taken = new Set(
    cluster.volumes
      .ofGuest(vmid)
      .filter((volume) => volume.storage === storage && volume.node === (shared ? '' : node))
      .map(({ volid }) => Number(/-disk-(\d+)[^/]*$/.exec(volid)?.[1] ?? -1)),
  );
  let number = 0;
  while (taken.has(number)) number++;
  return number;
}

/** Grows a volume to at least so many bytes, rounded as its storage does; what it really has is returned. */
export function grow(cluster: Cluster, volume: Volume, bytes: number): number {
  const definition = cluster.storages.get(volume.storage);
  volume.bytes = definition === undefined ? bytes : roundedOn(definition, bytes);
  return volume.bytes;
}

/** The size that the kind of storage makes of it: whole extents, whole objects. */
export function roundedOn(definition: StorageDefinition, bytes: number): number {
  return roundUp(bytes, kindOf(definition).step);
}

/** A volume under another guest's name: the old one is gone, data and size stay. */
export function handOver(cluster: Cluster, volume: Volume, node: string, vmid: number): Volume {
  const moved = allocate(cluster, {
    node,
    storage: volume.storage,
    vmid,
    content: volume.content === 'rootdir' ? 'rootdir' : 'images',
    bytes: volume.bytes,
    format: volume.format,
  });
  cluster.volumes.remove(volume);
  return moved;
}

/** Whether the volume's storage can keep snapshots of it. */
export function canSnapshot(cluster: Cluster, { storage, format }: Volume): boolean {
  const definition = cluster.storages.get(storage);
  return definition !== undefined && kindOf(definition).snapshots.includes(format);
}

/** Whether replication jobs can copy the volumes of a storage. */
export function canReplicate({ storages }: Cluster, storage: string): boolean {
  const definition = storages.get(storage);
  return definition !== undefined && !definition.shared && kindOf(definition).replicates === true;
}

/** Whether the volume's storage can make linked clones of volumes. */
export function canBeBase(cluster: Cluster, { storage }: Volume): boolean {
  const definition = cluster.storages.get(storage);
  return definition !== undefined && kindOf(definition).bases;
}

/** Whether a linked clone can be made of the volume, or of a snapshot of it. */
export function canBeLinked(cluster: Cluster, volume: Volume, isSnapshot: boolean): boolean {
  const definition = cluster.storages.get(volume.storage);
  if (isBase(volume)) return canBeBase(cluster, volume);
  return isSnapshot && definition !== undefined && kindOf(definition).snapshotBases === true;
}

/** Whether linked clones can be made of the volume: it is the disk of a template. */
export function isBase({ volid }: Volume): boolean {
  return /[:/](base|basevol)-[^/]*$/.test(volid);
}

/** The volume under the name of a template's disk, from which linked clones can be made. */
export function makeBase(cluster: Cluster, volume: Volume): Volume {
  const name = splitVolid(volume.volid)?.name ?? '';
  const base = name.replace(/(?<=^|\/)(vm|subvol)(?=-[^/]*$)/, (kind) => (kind === 'vm' ? 'base' : 'basevol'));
  cluster.volumes.remove(volume);
  return cluster.volumes.add({ ...volume, volid: `${volume.storage}:${base}` });
}

/** Where each sort of file lies below a file storage: what its volume name starts with, and the folder. */
const folders: readonly (readonly [string, string])[] = [
  ['iso/', 'template/iso/'],
  ['vztmpl/', 'template/cache/'],
  ['backup/', 'dump/'],
  ['import/', 'import/'],
  ['snippets/', 'snippets/'],
  ['', 'images/'],
];

function rootOf({ storage, type }: StorageDefinition): string {
  return type === 'dir' && storage === 'local' ? '/var/lib/vz/' : `/mnt/pve/${storage}/`;
}

/** The file or device behind a volume id. */
export function pathOf(definition: StorageDefinition, volid: string): string {
  const name = splitVolid(volid)?.name ?? '';
  if (!kindOf(definition).files) return `/dev/${definition.storage}/${name}`;
  const [prefix, folder] = folders.find(([start]) => name.startsWith(start)) ?? ['', ''];
  return rootOf(definition) + folder + name.slice(prefix.length);
}

/** The volume id of a path that lies in a file storage, which PVE puts in the path's place; other texts stay as they are. */
export function volidOf(cluster: Cluster, text: string): string {
  for (const definition of cluster.storages.values()) {
    const root = rootOf(definition);
    if (!kindOf(definition).files || !text.startsWith(root)) continue;
    const place = text.slice(root.length);
    const [prefix, folder] = folders.find(([, start]) => place.startsWith(start)) ?? [];
    if (prefix !== undefined && folder !== undefined)
      return `${definition.storage}:${prefix}${place.slice(folder.length)}`;
  }
  return text;
}

/** A name given by the caller, as `POST content` takes it; undefined when the kind of storage does not allow it. */
export function namedVolid(
  definition: StorageDefinition,
  vmid: number,
  filename: string,
  format: string,
): string | undefined {
  if (!kindOf(definition).files) {
    return new RegExp(`^vm-${vmid}-\\S+$`).test(filename) ? `${definition.storage}:${filename}` : undefined;
  }
  const name = /\.(raw|qcow2|vmdk|subvol)$/.test(filename) ? filename : `${filename}.${format}`;
  return /^[^/\s]+$/.test(name) ? `${definition.storage}:${vmid}/${name}` : undefined;
}
