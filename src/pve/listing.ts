/** PVE's lists, read once into plain data: guests, nodes, storages, and the volumes on them. */

import { UpstreamBrokenError } from '../errors.ts';
import { isFileKind } from './files.ts';
import {
  type Backup,
  backupOwner,
  type GuestType,
  type Instance,
  propertiesOf,
  type Volume,
  volumeOwner,
} from './instance.ts';
import { type Row, rowsOf } from './rows.ts';

/** A guest as PVE's list of resources shows it. */
export interface Guest {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | undefined;
  readonly name: string;
  /** `running`, `stopped`, or `unknown` while nothing is known of it. */
  readonly status: string;
  readonly template: boolean;
}

/** A node as PVE's list of resources shows it. */
export interface ClusterNode {
  readonly node: string;
  readonly status: string;
  /** Logical CPUs. */
  readonly cpus: number | undefined;
}

/** One storage as one node sees it. */
export interface StorageOnNode {
  readonly storage: string;
  readonly node: string;
  readonly shared: boolean;
  /** Whether it may hold the images of guests. */
  readonly holdsImages: boolean;
  /** Whether PVE may copy its volumes to other nodes by replication jobs. */
  readonly replicates: boolean;
  readonly available: boolean;
}

/** PVE's list of resources, sorted by kind. */
export interface Resources {
  readonly guests: readonly Guest[];
  /** By vmid, a text that changes when the list shows that the guest was changed. */
  readonly hints: ReadonlyMap<number, string>;
  readonly nodes: readonly ClusterNode[];
  readonly storages: readonly StorageOnNode[];
}

/** Reads the answer of `GET /cluster/resources`; guests lowest vmid first. Throws UpstreamBrokenError. */
export function readResources(data: unknown): Resources {
  const rows = rowsOf(data, 'the list of resources');
  const guests = rows.flatMap((row) => readGuest(row) ?? []).sort((a, b) => a.vmid - b.vmid);
  return {
    guests,
    hints: new Map(rows.flatMap((row) => (hasVmid(row) ? [[Number(row.vmid), hintOf(row)]] : []))),
    nodes: rows.filter(({ type }) => type === 'node').map(readNode),
    storages: rows.filter(({ type }) => type === 'storage').map(readStorage),
  };
}

/** What one storage holds under one vmid. */
export interface Content {
  readonly volumes: readonly Volume[];
  readonly backups: readonly Backup[];
}

export const noContent: Content = { volumes: [], backups: [] };

/** A storage's list, read. */
export interface Contents {
  /** Images and backups, by the vmid that they belong to. */
  readonly guests: ReadonlyMap<number, Content>;
  /** Files that belong to no guest. */
  readonly files: readonly Volume[];
}

/** Reads the answer of `GET /nodes/{node}/storage/{storage}/content`. Throws UpstreamBrokenError. */
export function readContent(data: unknown, storage: string): Contents {
  const volumes = rowsOf(data, `the list of volumes on ${storage}`).map((row) => readVolume(row, storage));
  return {
    guests: readGuestContent(volumes),
    // Even an empty file is one: it counts as a byte.
    files: volumes.flatMap(({ content, volume }) =>
      isFileKind(content) ? [{ ...volume, bytes: Math.max(1, volume.bytes) }] : [],
    ),
  };
}

/** One volume, and what the list says of it besides what every volume has. */
interface Listed {
  readonly volume: Volume;
  readonly content: unknown;
  readonly row: Row;
}

function readVolume(row: Row, storage: string): Listed {
  const { volid, content, size, format } = row;
  if (typeof volid !== 'string' || !volid.startsWith(`${storage}:`))
    throw new UpstreamBrokenError(
      `the list of volumes on ${storage} names ${JSON.stringify(volid)}, which is no volume of it`,
    );
  return { volume: { volid, storage, bytes: Number(size ?? 0), format: String(format ?? '') }, content, row };
}

function readGuestContent(listed: readonly Listed[]): ReadonlyMap<number, Content> {
  const found = new Map<number, Content>();
  for (const { volume, content, row } of listed) {
    const { volid, bytes } = volume;
    const isBackup = content === 'backup';
    if (!isBackup && content !== 'images' && content !== 'rootdir') continue;
    const vmid = hasVmid(row) ? Number(row.vmid) : isBackup ? backupOwner(volid) : volumeOwner(volid);
    if (vmid === null) continue;
    const { volumes, backups } = found.get(vmid) ?? noContent;
    if (isBackup) found.set(vmid, { volumes, backups: [...backups, { volid, bytes, ctime: Number(row.ctime ?? 0) }] });
    else found.set(vmid, { volumes: [...volumes, volume], backups });
  }
  return found;
}

/** PVE's numbers come as texts from some of its versions. */
function hasVmid({ vmid }: Row): boolean {
  return /^[1-9]\d{2,8}$/.test(String(vmid));
}

function readGuest(row: Row): Guest | null {
  const { type, vmid, node, name, status, pool, template } = row;
  if ((type !== 'qemu' && type !== 'lxc') || !hasVmid(row) || typeof node !== 'string') return null;
  return {
    type,
    vmid: Number(vmid),
    node,
    name: String(name ?? ''),
    status: String(status ?? 'unknown'),
    pool: typeof pool === 'string' && pool !== '' ? pool : undefined,
    template: Number(template) === 1,
  };
}

/** What changes in the list when a guest was changed, as far as the list shows it. */
function hintOf({ node, name, maxcpu, maxmem, maxdisk, template, lock, status, pool, tags }: Row): string {
  return JSON.stringify([node, name, maxcpu, maxmem, maxdisk, template, lock, status, pool, tags]);
}

/** A guest that we met before any list showed it. */
export function unlistedGuest({ type, vmid, host, current, next }: Instance, pool: string | undefined): Guest {
  const { name, hostname, template } = { ...next, ...current };
  return {
    type,
    vmid,
    node: host.node,
    pool,
    name: name ?? hostname ?? '',
    status: 'unknown',
    template: template === '1',
  };
}

function readNode({ node, status, maxcpu }: Row): ClusterNode {
  return {
    node: String(node),
    status: String(status ?? 'unknown'),
    cpus: Number(maxcpu) > 0 ? Number(maxcpu) : undefined,
  };
}

/** The kinds of local storages that PVE knows not to replicate; whoever adds one of their own may let it. */
const neverReplicated: readonly unknown[] = ['dir', 'btrfs', 'lvm', 'lvmthin'];

function readStorage({ storage, node, shared, content, status, plugintype }: Row): StorageOnNode {
  const isShared = Number(shared) === 1;
  return {
    storage: String(storage),
    node: String(node),
    shared: isShared,
    replicates: !isShared && !neverReplicated.includes(plugintype),
    holdsImages: /\b(?:images|rootdir)\b/.test(String(content ?? '')),
    available: status === undefined || status === 'available',
  };
}

/** One function of a PCI device, as PVE lists it. */
export interface PciFunction {
  /** `0000:41:00.0` */
  readonly id: string;
  readonly device_name: string;
  readonly vendor_name: string;
  /** All that PVE says of it. */
  readonly row: Row;
}

/** Reads the answer of `GET /nodes/{node}/hardware/pci`. Throws UpstreamBrokenError. */
export function readPciFunctions(data: unknown): PciFunction[] {
  return rowsOf(data, 'the list of PCI devices').map((row) => ({
    id: String(row.id),
    device_name: String(row.device_name ?? row.device ?? ''),
    vendor_name: String(row.vendor_name ?? row.vendor ?? ''),
    row,
  }));
}

/** Reads the answer of `GET /cluster/mapping/pci`: for each mapping that stands for one device of the node, that device's PCI ids. Throws UpstreamBrokenError. */
export function readMappings(data: unknown, node: string): ReadonlyMap<string, readonly string[]> {
  const mappings = new Map<string, readonly string[]>();
  for (const { id, map } of rowsOf(data, 'the list of PCI mappings')) {
    const entries = (Array.isArray(map) ? map : []).map((text) => propertiesOf(String(text), {}));
    const paths = entries.flatMap((entry) => (entry?.get('node') === node ? [entry.get('path') ?? ''] : []));
    const [path = '', ...choices] = paths;
    if (typeof id === 'string' && path !== '' && choices.length === 0) mappings.set(id, path.split(';'));
  }
  return mappings;
}
