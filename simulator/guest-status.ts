/** How a guest does, as lists and status calls show it: made of its configuration, like PVE's own cached statistics. */

import type { Cluster } from './cluster.ts';
import { isDriveKey } from './drives.ts';
import type { Guest } from './model.ts';
import { memoryOf } from './qemu-config.ts';
import { MiB, parseSize } from './sizes.ts';

export interface GuestStatus {
  readonly name: string;
  readonly status: Guest['status'];
  readonly uptime: number;
  readonly maxcpu: number;
  readonly cpu: number;
  readonly maxmem: number;
  readonly mem: number;
  readonly maxdisk: number;
  readonly disk: number;
  readonly template: 0 | 1;
  readonly lock?: string;
  readonly tags?: string;
}

/** Amounts are bytes, uptime seconds. A VM's CPUs are cut at the host's; `maxdisk` is the boot disk alone. */
export function statusOf(cluster: Cluster, guest: Guest): GuestStatus {
  const { config, type, status, vmid } = guest;
  const running = status === 'running';
  const hostCpus = cluster.nodes.get(guest.node)?.cpus ?? 1;
  const maxmem = memoryOf(config.get('memory')) * MiB;
  const maxdisk = diskOf(config, type);
  const [lock, tags] = [config.get('lock'), config.get('tags')];
  return {
    name: nameOf(guest) ?? (type === 'qemu' ? `VM ${vmid}` : `CT${vmid}`),
    status,
    uptime: running ? Math.max(1, Math.floor((cluster.now() - guest.startedAt) / 1000)) : 0,
    maxcpu: type === 'qemu' ? Math.min(qemuCpus(config), hostCpus) : Number(config.get('cores') ?? hostCpus),
    cpu: running ? 0.02 : 0,
    maxmem,
    mem: running ? Math.floor(maxmem / 2) : 0,
    maxdisk,
    disk: type === 'lxc' && running ? Math.floor(maxdisk / 4) : 0,
    template: config.get('template') === '1' ? 1 : 0,
    ...(lock === undefined ? {} : { lock }),
    ...(tags === undefined ? {} : { tags }),
  };
}

/** The status as a guest's own node tells it. */
export function liveStatus(cluster: Cluster, guest: Guest): Record<string, unknown> {
  const { maxcpu, ...status } = statusOf(cluster, guest);
  const counters = { netin: 0, netout: 0, diskread: 0, diskwrite: 0 };
  const own =
    guest.type === 'qemu'
      ? { qmpstatus: guest.status, ...(guest.status === 'running' ? { pid: 1000 + guest.vmid } : {}) }
      : { type: 'lxc', swap: 0, maxswap: Number(guest.config.get('swap') ?? 0) * MiB };
  return { vmid: guest.vmid, ...status, cpus: maxcpu, ...counters, ...own };
}

/** The guest among the cluster's resources. Until it has been measured once, a new one is no more than a place. */
export function guestResource(cluster: Cluster, guest: Guest): Record<string, unknown> {
  const { vmid, type, node } = guest;
  const place = { id: `${type}/${vmid}`, type, vmid, node };
  const pool = cluster.poolOf(vmid);
  const member = pool === undefined ? {} : { pool };
  if (guest.config.get('lock') === 'create') return { ...place, ...member, status: 'unknown', lock: 'create' };
  return { ...place, ...statusOf(cluster, guest), ...member, netin: 0, netout: 0, diskread: 0, diskwrite: 0 };
}

function nameOf({ config, type }: Guest): string | undefined {
  return config.get(type === 'qemu' ? 'name' : 'hostname');
}

/** Sockets times cores. */
export function qemuCores(config: ReadonlyMap<string, string>): number {
  return Number(config.get('sockets') ?? 1) * Number(config.get('cores') ?? 1);
}

function qemuCpus(config: ReadonlyMap<string, string>): number {
  return Number(config.get('vcpus') ?? 0) || qemuCores(config);
}

function diskOf(config: ReadonlyMap<string, string>, type: Guest['type']): number {
  const key = type === 'lxc' ? 'rootfs' : bootDisk(config);
  const [, size = ''] = /,size=([^,]+)/.exec(config.get(key ?? '') ?? '') ?? [];
  return parseSize(size) ?? 0;
}

function bootDisk(config: ReadonlyMap<string, string>): string | undefined {
  const [, order = ''] = /^order=(.*)$/.exec(config.get('boot') ?? '') ?? [];
  const isDisk = (key: string) => isDriveKey(key) && config.get(key)?.includes('media=cdrom') === false;
  return order.split(';').find(isDisk);
}
