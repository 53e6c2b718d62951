import { describe, expect, test } from 'vitest';
import { importedFrom, mediaOf, withoutAliases } from '../../../src/admission/policies/drives.ts';
import { policyFor } from '../../../src/admission/policies/index.ts';
import type { Asked, Change, ChangePolicy } from '../../../src/admission/policy.ts';
import type { Method, Params } from '../../../src/pve/call.ts';
import type { Config, Instance } from '../../../src/pve/instance.ts';
import { usageOf } from '../../../src/quota/usage.ts';
import { GiB, MiB, qemu } from '../quota/instances.ts';

const allowances = { parameters: [], volumes: ['nfs:import/open.*', 'lvm:base-9-disk-0'], urls: [], networks: [] };

/** A call's row, and the call as the row reads it. */
function rowOf(
  method: Method,
  path: string,
  params: Params = {},
): { readonly row: ChangePolicy; readonly asked: Asked } {
  const found = policyFor({ method, segments: path.split('/'), params });
  if (found === undefined || !('project' in found.policy)) throw new Error(`no change at ${method} ${path}`);
  return { row: found.policy, asked: { params, named: found.named, allowances } };
}

/** The change of one guest by such a call, with others beside it. */
function changeOf(
  asked: Asked,
  before: Instance,
  others: readonly Instance[] = [],
  told: readonly unknown[] = [],
): Change {
  return {
    ...{ ...asked, params: asked.params as Config, before, target: before.host, told },
    ...{ others: new Map(others.map((other) => [other.vmid, other])), shared: new Set(), backupStorage: undefined },
  };
}

const vm = qemu({
  current: { memory: '1024', scsi0: 'lvm:vm-100-disk-0,size=8G' },
  volumes: { 'lvm:vm-100-disk-0': 8 * GiB },
});
const lines = (instance: Instance) =>
  Object.fromEntries(usageOf(instance).lines.map(({ resource, amount }) => [resource, amount]));

describe('the guests of a call', () => {
  test.each<[Method, string, Params, { guests?: unknown; sources?: unknown; node?: string }]>([
    ['POST', 'nodes/n1/qemu/100/clone', { newid: '110', target: 'n2' }, { guests: [110], sources: [100], node: 'n2' }],
    ['POST', 'nodes/n1/lxc/100/clone', { newid: '110' }, { guests: [110], sources: [100], node: 'n1' }],
    ['POST', 'nodes/n1/qemu/100/move_disk', { 'target-vmid': '110' }, { guests: [100, 110] }],
    ['POST', 'nodes/n1/qemu/100/migrate', { target: 'n2' }, { node: 'n2' }],
    ['POST', 'nodes/n1/vzdump', { vmid: '100,101 102' }, { guests: [100, 101, 102] }],
    ['POST', 'nodes/n1/vzdump', { vmid: '100', all: '1' }, { guests: null }],
    ['POST', 'nodes/n1/vzdump', { pool: 'a' }, { guests: null }],
    ['POST', 'nodes/n1/suspendall', {}, { guests: null }],
    ['POST', 'nodes/n1/suspendall', { vms: '100;101' }, { guests: [100, 101] }],
    [
      'POST',
      'cluster/bulk-action/guest/migrate',
      { vms: ['100', '101'], target: 'n2' },
      { guests: [100, 101], node: 'n2' },
    ],
    ['POST', 'cluster/bulk-action/guest/migrate', { vms: [], target: 'n2' }, { guests: null }],
    ['PUT', 'pools/a', { vms: '100,101' }, { guests: [100, 101] }],
    ['POST', 'nodes/n1/qemu', { vmid: '110', archive: 'nfs:backup/vzdump-qemu-100-x.vma' }, { sources: [100] }],
    [
      'POST',
      'nodes/n1/lxc',
      { vmid: '110', restore: '1', ostemplate: 'nfs:backup/vzdump-lxc-7-x.tar' },
      { sources: [7] },
    ],
    ['POST', 'nodes/n1/qemu', { vmid: '110', scsi0: 'lvm:0,import-from=lvm:vm-7-disk-0' }, { sources: [7] }],
  ])('%s %s %j: %j', (method, path, params, expected) => {
    const { row, asked } = rowOf(method, path, params);
    if ('guests' in expected) expect(row.guests?.(asked)).toEqual(expected.guests);
    if ('sources' in expected) expect(row.sources?.(asked)).toEqual(expected.sources);
    if ('node' in expected) expect(row.node?.(asked)).toBe(expected.node);
  });

  test('whose disks are imported are those of disks, not of files that are named like one', () => {
    const params = {
      ...{ scsi0: 'lvm:0,import-from=lvm:vm-7-disk-0', scsi1: 'lvm:0,import-from=nfs:import/vm-8-disk-0.qcow2' },
      ...{ scsi2: 'lvm:0,import-from=lvm:base-9-disk-0', scsi3: 'lvm:8' },
    };
    expect(importedFrom({ params, named: {}, allowances })).toEqual([7]);
    expect(mediaOf('qemu', params)).toEqual([
      { field: 'scsi1', volid: 'nfs:import/vm-8-disk-0.qcow2', content: 'import' },
    ]);
  });
});

test.each<[Config, Config]>([
  [{ cdrom: 'none' }, { ide2: 'none,media=cdrom' }],
  [{ cdrom: 'lvm:500,media=disk' }, { ide2: 'lvm:500,media=disk' }],
  [
    { cdrom: 'nfs:iso/a.iso', cores: '2' },
    { ide2: 'nfs:iso/a.iso,media=cdrom', cores: '2' },
  ],
  [
    { delete: 'cdrom net0', revert: 'cdrom' },
    { delete: 'ide2,net0', revert: 'ide2' },
  ],
  [{ cores: '2' }, { cores: '2' }],
])("%j is %j without PVE's other names", (params, canonical) => {
  expect(withoutAliases(params)).toEqual(canonical);
});

describe('a disk that is handed over', () => {
  const receiver: Instance = { ...qemu({ current: { memory: '512' } }), vmid: 110, digest: 'abc' };
  const { row, asked } = rowOf('POST', 'nodes/n1/qemu/100/move_disk', { disk: 'scsi0', 'target-vmid': '110' });

  test('leaves one guest and comes to the other', () => {
    expect(lines(row.project(changeOf(asked, vm, [receiver])))['storage:lvm']).toBeUndefined();
    expect(lines(row.project(changeOf(asked, receiver, [vm])))['storage:lvm']).toBe(8 * GiB);
  });

  test("goes to the configuration that was judged, unless the caller knows another one's digest", () => {
    expect(row.forward?.(changeOf(asked, vm, [receiver]))).toMatchObject({ 'target-digest': 'abc' });
    const own = { ...asked, params: { ...asked.params, 'target-digest': 'fff' } };
    expect(row.forward?.(changeOf(own, vm, [receiver]))).toMatchObject({ 'target-digest': 'fff' });
  });

  test('stays where it is when a guest gives it to itself', () => {
    const { row, asked } = rowOf('POST', 'nodes/n1/qemu/100/move_disk', { disk: 'scsi0', 'target-vmid': '100' });
    expect(row.project(changeOf(asked, vm))).toBe(vm);
  });
});

test('memory that is saved goes where PVE is told, which is where it was charged', () => {
  const path = 'nodes/n1/qemu/100/status/suspend';
  for (const [params, storage] of [
    [{ todisk: '1' }, 'lvm'],
    [{ todisk: '1', statestorage: 'nfs' }, 'nfs'],
  ] as const) {
    const { row, asked } = rowOf('POST', path, params);
    const change = changeOf(asked, vm);
    expect(row.forward?.(change)).toEqual({ todisk: '1', statestorage: storage });
    expect(lines(row.project(change))[`storage:${storage}`]).toBe((storage === 'lvm' ? 8 * GiB : 0) + 2548 * MiB);
  }
});

test.each([
  ['1', 1024],
  ['2097152', 2 ** 31],
  ['512M', 512 * MiB],
  ['8G', 8 * GiB],
])('a volume of size %s takes at least %d bytes, in steps of 4 MiB', (size, bytes) => {
  const params = { vmid: '100', filename: 'vm-100-disk-1', size };
  const { row, asked } = rowOf('POST', 'nodes/n1/storage/nfs/content', params);
  expect(lines(row.project(changeOf(asked, vm)))['storage:nfs']).toBe(Math.ceil(bytes / (4 * MiB)) * 4 * MiB);
});

test('a snapshot that is not told, of a guest to copy or to go back to, makes nothing known', () => {
  const source = { ...vm, vmid: 100 };
  const copy = rowOf('POST', 'nodes/n1/qemu/100/clone', { newid: '110', snapname: 'before' });
  const place = { ...qemu({}), vmid: 110 };
  expect(copy.row.objections?.(changeOf(copy.asked, place, [source], [undefined]))).toMatchObject([
    { field: 'snapname' },
  ]);
  const back = rowOf('POST', 'nodes/n1/qemu/100/snapshot/before/rollback');
  expect(usageOf(back.row.project(changeOf(back.asked, vm, [], [undefined]))).unknown).toHaveLength(1);
});
