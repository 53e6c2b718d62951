/** `/nodes`: the hosts, their devices and what they can do. */

import type { Context, MethodRow } from '../method.ts';
import type { ClusterNode, PciDevice } from '../model.ts';
import { splitList } from '../named-formats.ts';
import { flag, text } from '../parameters.ts';
import { type Asker, may } from '../permit.ts';
import { PveError } from '../pve-error.ts';

const upSince = 1_700_000_000;

/** What a node shows of itself; the numbers are for those who may audit it. */
export function nodeRow(asker: Asker, { name, cpus, memory, online }: ClusterNode): Record<string, unknown> {
  const row = { id: `node/${name}`, type: 'node', node: name, status: online ? 'online' : 'offline' };
  if (!online || !may(asker, `/nodes/${name}`, ['Sys.Audit'])) return row;
  return {
    ...row,
    ...{ cpu: 0.05, maxcpu: cpus, mem: Math.floor(memory / 4), maxmem: memory },
    ...{ disk: 8 * 2 ** 30, maxdisk: 100 * 2 ** 30, level: '' },
    uptime: Math.max(1, Math.floor(asker.cluster.now() / 1000) - upSince),
  };
}

function nodeOf({ cluster, node }: Context): ClusterNode {
  const found = cluster.nodes.get(node);
  if (found === undefined) throw new PveError(500, `no such cluster node '${node}'`);
  return found;
}

function nodeStatus(context: Context): Record<string, unknown> {
  const { cpus, memory } = nodeOf(context);
  const { cluster } = context;
  const used = Math.floor(memory / 4);
  return {
    uptime: Math.max(1, Math.floor(cluster.now() / 1000) - upSince),
    cpu: 0.05,
    wait: 0,
    loadavg: ['0.50', '0.40', '0.30'],
    cpuinfo: { cpus, cores: cpus, sockets: 1, model: 'Simulated CPU', mhz: '2400.000', hvm: '1' },
    memory: { total: memory, used, free: memory - used },
    swap: { total: 0, used: 0, free: 0 },
    rootfs: { total: 100 * 2 ** 30, used: 8 * 2 ** 30, free: 92 * 2 ** 30, avail: 92 * 2 ** 30 },
    pveversion: `pve-manager/${cluster.version.version}/${cluster.version.repoid}`,
    kversion: 'Linux 6.17.2-1-pve',
  };
}

/** Memory, bridges and processors are hidden unless another list says so. */
function pciDevices(context: Context): readonly Record<string, unknown>[] {
  const { param } = context;
  const hidden = splitList(String(param['pci-class-blacklist'] ?? '05;06;0b'));
  const isShown = (device: PciDevice) => !hidden.some((start) => device.class.startsWith(`0x${start}`));
  return nodeOf(context)
    .pci.filter(isShown)
    .map((device) => (param.verbose === 0 ? { id: device.id } : { ...device }));
}

const cpuModels: readonly (readonly [string, string])[] = [
  ['host', 'default'],
  ['kvm64', 'default'],
  ['qemu64', 'default'],
  ['max', 'default'],
  ['x86-64-v2', 'default'],
  ['x86-64-v2-AES', 'default'],
  ['x86-64-v3', 'default'],
  ['x86-64-v4', 'default'],
  ['Haswell', 'GenuineIntel'],
  ['Skylake-Server', 'GenuineIntel'],
  ['Icelake-Server', 'GenuineIntel'],
  ['SapphireRapids', 'GenuineIntel'],
  ['EPYC', 'AuthenticAMD'],
  ['EPYC-Rome', 'AuthenticAMD'],
  ['EPYC-Milan', 'AuthenticAMD'],
  ['EPYC-Genoa', 'AuthenticAMD'],
];

function index(path: string, key: string, names: readonly string[]): MethodRow {
  return {
    method: 'GET',
    path,
    permissions: { user: 'all' },
    parameters: {},
    run: () => names.map((name) => ({ [key]: name })),
  };
}

const device = '/nodes/{node}/hardware/pci/{pci-id-or-mapping}';

export const nodeMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/nodes',
    permissions: { user: 'all' },
    parameters: {},
    run: (context) => [...context.cluster.nodes.values()].map((node) => nodeRow(context, node)),
  },
  index('/nodes/{node}', 'name', [
    'capabilities',
    'hardware',
    'lxc',
    'network',
    'qemu',
    'status',
    'storage',
    'tasks',
    'vzdump',
  ]),
  {
    method: 'GET',
    path: '/nodes/{node}/status',
    permissions: { check: ['perm', '/nodes/{node}', ['Sys.Audit']] },
    parameters: {},
    run: nodeStatus,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/network',
    permissions: { user: 'all' },
    parameters: { type: text },
    run: ({ param }) =>
      [undefined, 'bridge', 'any_bridge', 'any_local_bridge', 'include_sdn'].includes(param.type as string | undefined)
        ? [{ iface: 'vmbr0', type: 'bridge', active: 1, autostart: 1, method: 'static', bridge_ports: 'eno1' }]
        : [],
  },
  index('/nodes/{node}/hardware', 'type', ['pci', 'usb']),
  {
    method: 'GET',
    path: '/nodes/{node}/hardware/pci',
    permissions: { check: ['perm', '/', ['Sys.Audit', 'Sys.Modify'], 'any', 1] },
    parameters: { 'pci-class-blacklist': text, verbose: flag },
    run: pciDevices,
  },
  index(device, 'method', ['mdev']),
  {
    method: 'GET',
    path: `${device}/mdev`,
    permissions: { check: ['perm', '/', ['Sys.Audit', 'Sys.Modify'], 'any', 1] },
    parameters: {},
    run: () => [],
  },
  index('/nodes/{node}/capabilities', 'name', ['qemu']),
  index('/nodes/{node}/capabilities/qemu', 'name', ['cpu']),
  {
    method: 'GET',
    path: '/nodes/{node}/capabilities/qemu/cpu',
    permissions: { user: 'all' },
    parameters: { arch: text },
    run: () => cpuModels.map(([name, vendor]) => ({ name, vendor, custom: 0 })),
  },
];
