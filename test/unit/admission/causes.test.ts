import { describe, expect, test } from 'vitest';
import { asSent, causesOf, fieldOfGuest } from '../../../src/admission/causes.ts';
import { policyFor } from '../../../src/admission/policies/index.ts';
import type { Asked, Change, ChangePolicy } from '../../../src/admission/policy.ts';
import type { Method, Params } from '../../../src/pve/call.ts';
import type { Config, Instance } from '../../../src/pve/instance.ts';
import { GiB, lxc, qemu } from '../quota/instances.ts';

const allowances = { parameters: [], volumes: [], urls: [], networks: [] };

/** A call's row, and the call as the row reads it. */
function read(method: Method, path: string, params: Params): { readonly policy: ChangePolicy; readonly about: Asked } {
  const found = policyFor({ method, segments: path.split('/'), params });
  if (found === undefined || !('project' in found.policy)) throw new Error(`no change at ${method} ${path}`);
  return { policy: found.policy, about: { params, named: found.named, allowances } };
}

interface Scene {
  readonly before: Instance;
  readonly others?: readonly Instance[];
  readonly told?: readonly unknown[];
  readonly scope?: string;
}

function causes(
  method: Method,
  path: string,
  params: Config,
  taken: string,
  { before, others = [], told = [], scope }: Scene,
): readonly string[] {
  const { policy, about } = read(method, path, params);
  const known = policy.canonical?.(params) ?? params;
  const change: Change = {
    ...{ ...about, params: known, before, target: before.host, told, backupStorage: undefined },
    ...{ others: new Map(others.map((other) => [other.vmid, other])), shared: new Set() },
  };
  const [resource = '', item = ''] = taken.split(' ');
  return causesOf({ policy, about, changes: [change], counted: [] }, { resource, item }, scope);
}

const vm = qemu({
  current: { cores: '2', memory: '1024', net0: 'virtio,bridge=vmbr0,rate=10', scsi0: 'lvm:vm-100-disk-0,size=8G' },
  volumes: { 'lvm:vm-100-disk-0': 8 * GiB },
});
const container = lxc({ current: { cores: '1', memory: '512', rootfs: 'lvm:vm-100-disk-0,size=8G' } });
const template: Instance = { ...vm, vmid: 100, current: { ...vm.current, template: '1' } };
const noVm = { before: { ...qemu({}), vmid: 110 } };
const noCt = { before: { ...lxc({}), vmid: 110 } };
const config = 'nodes/n1/qemu/100/config';
const clone = { ...noVm, others: [template] };
const archive = 'memory: 4096\ncores: 8\nscsi0: lvm:vm-9-disk-0,size=40G\n#qmdump#map:scsi0:drive-scsi0:lvm:raw:\n';
const backup = 'nfs:backup/vzdump-qemu-9-x.vma';

describe('the parameters that make an overrun', () => {
  test.each<[string, Method, string, Config, string, Scene, readonly string[]]>([
    ['only what grows', 'PUT', config, { cores: '64', memory: '512' }, 'cores', { before: vm }, ['cores']],
    ['both factors', 'PUT', config, { cores: '4', sockets: '4' }, 'cores', { before: vm }, ['cores', 'sockets']],
    ['the factor above 1', 'PUT', config, { cores: '2', sockets: '4' }, 'cores', { before: vm }, ['sockets']],
    [
      'not the card that shrinks',
      ...(['PUT', config] as const),
      { net0: 'virtio,bridge=vmbr0,rate=1', net1: 'virtio,bridge=vmbr0,rate=90' },
      'network',
      { before: vm },
      ['net1'],
    ],
    [
      'a card',
      'PUT',
      config,
      { net1: 'virtio,bridge=vmbr0', name: 'x' },
      'network unlimited',
      { before: vm },
      ['net1'],
    ],
    ['the CPU type', 'PUT', config, { cpu: 'host', cores: '2' }, 'cpu host', { before: vm }, ['cpu']],
    [
      'the disks of that storage',
      ...(['PUT', config] as const),
      { scsi1: 'ceph:8', scsi2: 'lvm:8', sata0: 'ceph:1' },
      'storage:ceph',
      { before: vm },
      ['scsi1', 'sata0'],
    ],
    [
      "PVE's other name for a drive",
      'PUT',
      config,
      { cdrom: 'ceph:8,media=disk' },
      'storage:ceph',
      { before: vm },
      ['cdrom'],
    ],
    [
      'what is taken away',
      'PUT',
      'nodes/n1/lxc/100/config',
      { delete: 'cores' },
      'cores',
      { before: container },
      ['delete'],
    ],
    [
      'the swap',
      'PUT',
      'nodes/n1/lxc/100/config',
      { swap: '64', mp0: 'lvm:1,mp=/a' },
      'swap',
      { before: container },
      ['swap'],
    ],
    [
      'a size',
      'PUT',
      'nodes/n1/qemu/100/resize',
      { disk: 'scsi0', size: '+8G' },
      'storage:lvm',
      { before: vm },
      ['size'],
    ],
    [
      'where a copy goes',
      ...(['POST', 'nodes/n1/qemu/100/move_disk'] as const),
      { disk: 'scsi0', storage: 'ceph' },
      'storage:ceph',
      { before: vm },
      ['storage'],
    ],
    [
      'who gets a disk',
      ...(['POST', 'nodes/n1/qemu/110/move_disk'] as const),
      { disk: 'scsi0', 'target-vmid': '100' },
      'storage:lvm',
      { before: vm, others: [{ ...vm, vmid: 110 }] },
      ['target-vmid'],
    ],
    [
      'the default storage of new drives',
      ...(['POST', 'nodes/n1/qemu'] as const),
      { vmid: '110', scsi0: '8', storage: 'ceph' },
      'storage:ceph',
      noVm,
      ['scsi0', 'storage'],
    ],
    [
      'the import, whose size PVE has told',
      ...(['PUT', config] as const),
      { scsi1: 'ceph:0,import-from=nfs:import/a.raw', scsi2: 'lvm:0,import-from=nfs:import/b.raw' },
      'storage:lvm',
      { before: vm, told: [{ size: GiB }, { size: 2 * GiB }] },
      ['scsi2'],
    ],
    [
      'what is said, also as the default',
      'POST',
      'nodes/n1/qemu',
      { vmid: '110', memory: '512' },
      'memory',
      noVm,
      ['memory'],
    ],
    [
      'what is said, also below the default',
      ...(['POST', 'nodes/n1/lxc'] as const),
      { vmid: '110', cores: '16', memory: '512', rootfs: 'local:4' },
      'cores',
      noCt,
      ['cores'],
    ],
    [
      'a root disk as by default',
      'POST',
      'nodes/n1/lxc',
      { vmid: '110', rootfs: 'local:4' },
      'storage:local',
      noCt,
      ['rootfs'],
    ],
    ['the vmid, where nothing is said', 'POST', 'nodes/n1/qemu', { vmid: '110' }, 'memory', noVm, ['vmid']],
    ['the new vmid of a copy', 'POST', 'nodes/n1/qemu/100/clone', { newid: '110' }, 'cores', clone, ['newid']],
    [
      'the storage of a copy',
      ...(['POST', 'nodes/n1/qemu/100/clone'] as const),
      { newid: '110', full: '1', storage: 'ceph' },
      'storage:ceph',
      clone,
      ['full', 'storage'],
    ],
    [
      'the node of a copy, where its limit is the one',
      ...(['POST', 'nodes/n1/qemu/100/clone'] as const),
      { newid: '110', target: 'n2' },
      'cores',
      { ...clone, scope: 'n2' },
      ['target'],
    ],
    [
      'the snapshot, where it was larger',
      ...(['POST', 'nodes/n1/qemu/100/clone'] as const),
      { newid: '110', snapname: 'before' },
      'cores',
      { ...clone, told: [{ cores: 32 }] },
      ['snapname'],
    ],
    [
      'an archive',
      ...(['POST', 'nodes/n1/qemu'] as const),
      { vmid: '110', archive: backup, memory: '512' },
      'cores',
      { ...noVm, told: [archive] },
      ['archive'],
    ],
    [
      'what is said over an archive',
      ...(['POST', 'nodes/n1/qemu'] as const),
      { vmid: '110', archive: backup, cores: '9', storage: 'ceph' },
      'cores',
      { ...noVm, told: [archive] },
      ['cores'],
    ],
    [
      'where an archive goes',
      ...(['POST', 'nodes/n1/qemu'] as const),
      { vmid: '110', archive: backup, cores: '9', storage: 'ceph' },
      'storage:ceph',
      { ...noVm, told: [archive] },
      ['storage'],
    ],
    [
      "a container's archive",
      'POST',
      'nodes/n1/lxc',
      { vmid: '110', restore: '1', ostemplate: 'nfs:backup/vzdump-lxc-9-x.tar' },
      'memory',
      { ...noCt, told: ['memory: 4096\n'] },
      ['ostemplate'],
    ],
    [
      'going back',
      'POST',
      'nodes/n1/qemu/100/snapshot/a1/rollback',
      {},
      'cores',
      { before: vm, told: [{ cores: 32 }] },
      ['snapname'],
    ],
    [
      'memory in a snapshot',
      'POST',
      'nodes/n1/qemu/100/snapshot',
      { snapname: 'a1', vmstate: '1' },
      'storage:lvm',
      { before: vm },
      ['vmstate'],
    ],
    [
      'memory on a storage',
      'POST',
      'nodes/n1/qemu/100/status/suspend',
      { todisk: '1' },
      'storage:lvm',
      { before: vm },
      ['todisk'],
    ],
    ['a backup', 'POST', 'nodes/n1/vzdump', { vmid: '100', storage: 'nfs' }, 'backups 100', { before: vm }, ['vmid']],
    [
      'another node',
      'POST',
      'nodes/n1/qemu/100/migrate',
      { target: 'n2', online: '1' },
      'cores',
      { before: vm, scope: 'n2' },
      ['target'],
    ],
    [
      'a volume',
      'POST',
      'nodes/n1/storage/nfs/content',
      { vmid: '100', filename: 'vm-100-a', size: '1G' },
      'storage:nfs',
      { before: vm },
      ['size'],
    ],
    [
      'a file',
      'POST',
      'nodes/n1/storage/local/upload',
      { content: 'iso', filename: 'a.iso' },
      'storage:local',
      { before: vm },
      ['filename'],
    ],
  ])('are %s', (_, method, path, params, taken, scene, expected) => {
    expect(causes(method, path, params, taken, scene)).toEqual(expected);
  });
});

test.each<[Method, string, Params, number, string]>([
  ['PUT', config, { cores: '100' }, 100, 'vmid'],
  ['POST', 'nodes/n1/qemu/100/clone', { newid: '110' }, 110, 'newid'],
  ['POST', 'nodes/n1/qemu/100/clone', { newid: '110' }, 100, 'vmid'],
  ['POST', 'nodes/n1/qemu/100/clone', {}, Number.NaN, 'newid'],
  ['POST', 'nodes/n1/qemu/100/move_disk', { disk: 'scsi0', 'target-vmid': '110' }, 110, 'target-vmid'],
  ['POST', 'nodes/n1/suspendall', { vms: '100,1101;110' }, 110, 'vms'],
  ['POST', 'cluster/bulk-action/guest/migrate', { target: 'n2', vms: ['100', '110'] }, 110, 'vms'],
  ['POST', 'nodes/n1/vzdump', { storage: 'nfs', vmid: '110' }, 110, 'vmid'],
  ['PUT', 'pools/a', {}, Number.NaN, 'vms'],
  [
    'POST',
    'nodes/n1/qemu',
    { vmid: '110', memory: '900', archive: 'nfs:backup/vzdump-qemu-900-x.vma' },
    900,
    'archive',
  ],
  ['POST', 'nodes/n1/qemu', { vmid: '110', memory: '900', scsi0: 'lvm:0,import-from=lvm:vm-900-disk-0' }, 900, 'scsi0'],
  ['DELETE', 'nodes/n1/storage/nfs/content/vm-999-disk-0', {}, 999, 'volume'],
])('%s %s %j names %d by %s', (method, path, params, vmid, field) => {
  const { policy, about } = read(method, path, params);
  expect(fieldOfGuest(policy, about, vmid)).toBe(field);
});

test('a parameter is known by the name that was sent', () => {
  const { policy, about } = read('PUT', config, { cdrom: 'none', cores: '2' });
  expect(['ide2', 'cores', 'memory'].map((name) => asSent(policy, about, name))).toEqual(['cdrom', 'cores', undefined]);
});

test('of a call about many guests no parameter is weighed, as each overrun would take a projection of all of them', () => {
  const vmids = Array.from({ length: 50 }, (_, n) => 200 + n);
  const params = { vmid: vmids.join(','), storage: 'shared', mode: 'snapshot' };
  const { policy, about } = read('POST', 'nodes/n1/vzdump', params);
  let projected = 0;
  const counting: ChangePolicy = {
    ...policy,
    project: (change) => {
      projected += 1;
      return policy.project(change);
    },
  };
  const changes = vmids.map((vmid): Change => {
    const before = { ...qemu({ current: { cores: '2' } }), vmid };
    const known = {
      before,
      target: before.host,
      told: [],
      backupStorage: 'shared',
      others: new Map(),
      shared: new Set<number>(),
    };
    return { ...about, params, ...known };
  });
  const judged = { policy: counting, about, changes, counted: [] };
  expect(vmids.map((vmid) => causesOf(judged, { resource: 'backups', item: String(vmid) }))).toEqual(
    vmids.map(() => ['vmid']),
  );
  expect(projected).toBe(0);
});
