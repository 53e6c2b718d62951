/** PVE's lists, read once into plain data: guests, nodes, storages, and the volumes on them. */

import { UpstreamBrokenError } from '../errors.ts';
import { type GuestType, type Instance, type Volume, volumeOwner } from './instance.ts';

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
  if (!Array.isArray(data)) throw new UpstreamBrokenError('the list of resources is not understood');
  const rows = data as Record<string, unknown>[];
  const guests = rows.flatMap((row) => readGuest(row) ?? []).sort((a, b) => a.vmid - b.vmid);
  return {
    guests,
    hints: new Map(rows.flatMap((row) => (typeof row.vmid === 'number' ? [[row.vmid, hintOf(row)]] : []))),
    nodes: rows.filter(({ type }) => type === 'node').map(readNode),
    storages: rows.filter(({ type }) => type === 'storage').map(readStorage),
  };
}

/** The images in a storage's list, by the vmid that owns them. */
export function readVolumes(data: unknown): ReadonlyMap<number, readonly Volume[]> {
  if (!Array.isArray(data)) throw new UpstreamBrokenError('a list of volumes is not understood');
  const volumes = new Map<number, Volume[]>();
  for (const row of data as Record<string, unknown>[]) {
    const { volid, content, format, size } = row;
    if (typeof volid !== 'string' || (content !== 'images' && content !== 'rootdir')) continue;
    const vmid = typeof row.vmid === 'number' ? row.vmid : volumeOwner(volid);
    if (vmid === null) continue;
    const own = volumes.get(vmid) ?? [];
    volumes.set(vmid, own);
    own.push({
      volid,
      storage: volid.slice(0, volid.indexOf(':')),
      bytes: Number(size ?? 0),
      format: String(format ?? ''),
    });
  }
  return volumes;
}

function readGuest({ type, vmid, node, name, status, pool, template }: Record<string, unknown>): Guest | null {
  if ((type !== 'qemu' && type !== 'lxc') || typeof vmid !== 'number' || typeof node !== 'string') return null;
  return {
    type,
    vmid,
    node,
    name: String(name ?? ''),
    status: String(status ?? 'unknown'),
    pool: typeof pool === 'string' && pool !== '' ? pool : undefined,
    template: template === 1,
  };
}

/** What changes in the list when a guest was changed, as far as the list shows it. */
function hintOf({
  node,
  name,
  maxcpu,
  maxmem,
  maxdisk,
  template,
  lock,
  status,
  pool,
  tags,
}: Record<string, unknown>): string {
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

function readNode({ node, status, maxcpu }: Record<string, unknown>): ClusterNode {
  return {
    node: String(node),
    status: String(status ?? 'unknown'),
    cpus: typeof maxcpu === 'number' ? maxcpu : undefined,
  };
}

function readStorage({ storage, node, shared, content, status }: Record<string, unknown>): StorageOnNode {
  return {
    storage: String(storage),
    node: String(node),
    shared: shared === 1,
    holdsImages: /\b(?:images|rootdir)\b/.test(String(content ?? '')),
    available: status === undefined || status === 'available',
  };
}
