import { describe, expect, test } from 'vitest';
import { policyFor } from '../../../src/admission/policies/index.ts';
import { type ChangePolicy, takesDigest } from '../../../src/admission/policy.ts';
import type { Method } from '../../../src/pve/call.ts';
import type { Config, Instance } from '../../../src/pve/instance.ts';
import { usageOf } from '../../../src/quota/usage.ts';
import { GiB, lxc, qemu } from '../quota/instances.ts';

function rowOf(method: Method, path: string): ChangePolicy {
  const found = policyFor({ method, segments: path.split('/'), params: {} });
  if (found === undefined || !('project' in found.policy)) throw new Error(`no change at ${method} ${path}`);
  return found.policy;
}

const at = {
  named: { node: 'n1', vmid: '100' },
  target: { node: 'n1', cpus: 16 },
  allowances: { parameters: [], volumes: [], urls: [], networks: [] },
  backupStorage: undefined,
  others: new Map<number, Instance>(),
  shared: new Set<number>(),
  told: [],
};

const storage = (instance: Instance, name: string): number =>
  usageOf(instance).lines.find(({ resource }) => resource === `storage:${name}`)?.amount ?? 0;

const vm = qemu({
  current: { scsi0: 'lvm:vm-100-disk-0,size=1G', ide0: 'lvm:vm-100-disk-1', scsi5: 'lvm:vm-999-disk-0,size=1G' },
  next: { scsi0: 'lvm:vm-100-disk-0,size=1G', ide0: 'lvm:vm-100-disk-2', scsi5: 'lvm:vm-999-disk-0,size=1G' },
  volumes: { 'lvm:vm-100-disk-0': 8 * GiB, 'lvm:vm-100-disk-1': GiB, 'lvm:vm-100-disk-2': 50 * GiB },
});
const container = lxc({ current: { rootfs: 'lvm:vm-100-disk-0,size=1G' }, volumes: { 'lvm:vm-100-disk-0': 8 * GiB } });

describe('a drive that a call writes', () => {
  const rows: [string, ChangePolicy, Instance, string][] = [
    ['of a VM', rowOf('PUT', 'nodes/n1/qemu/100/config'), vm, 'scsi1'],
    ['of a VM, asynchronously', rowOf('POST', 'nodes/n1/qemu/100/config'), vm, 'scsi1'],
    ['of a new VM', rowOf('POST', 'nodes/n1/qemu'), qemu({}), 'scsi0'],
    ['of a container', rowOf('PUT', 'nodes/n1/lxc/100/config'), container, 'mp0'],
    ['of a new container', rowOf('POST', 'nodes/n1/lxc'), lxc({}), 'rootfs'],
  ];

  test.each(rows)('%s may be newly allocated', (_, policy, before, slot) => {
    expect(policy.objections?.({ ...at, before, params: { [slot]: 'lvm:8' } })).toEqual([]);
    expect(storage(policy.project({ ...at, before, params: { [slot]: 'ceph:8' } }), 'ceph')).toBe(8 * GiB);
  });

  test.each(rows)("%s may not be another guest's, a path or an import", (_, policy, before, slot) => {
    for (const text of [
      'lvm:vm-999-disk-0',
      'lvm:vm-999-disk-0,size=1G',
      'lvm:8,snapshot=1',
      '/dev/sdb',
      '/var/lib/vz/images/9/x.raw',
      'lvm:vm-100-disk-7',
      'nfs:backup/vzdump-qemu-9.vma',
      'lvm:0,import-from=lvm:vm-999-disk-0',
      'lvm:0,import-from=/var/lib/vz/images/9/x.raw',
      'lvm:8,import-from=nfs:import/a.qcow2',
      '8',
    ])
      expect(policy.objections?.({ ...at, before, params: { [slot]: text } }), text).toMatchObject([{ field: slot }]);
  });

  test("may be one of the guest's own volumes", () => {
    const policy = rowOf('PUT', 'nodes/n1/qemu/100/config');
    expect(policy.objections?.({ ...at, before: vm, params: { scsi3: 'lvm:vm-100-disk-2,ssd=1' } })).toEqual([]);
  });

  test('has its storages read anew, each once', () => {
    const params = { scsi1: 'lvm:8', scsi2: 'lvm:4', scsi3: 'ceph:1', ide2: 'none', cores: '2' };
    expect(rowOf('PUT', 'nodes/n1/qemu/100/config').storages?.({ ...at, before: vm, params })).toEqual(['lvm', 'ceph']);
  });

  test('may be a medium, which has to be on offer', () => {
    const policy = rowOf('POST', 'nodes/n1/qemu');
    const params = { ide2: 'nfs:iso/a.iso,media=cdrom', ide3: 'none,media=cdrom' };
    expect(policy.objections?.({ ...at, before: qemu({}), params })).toEqual([]);
    expect(policy.media?.(params)).toEqual([{ field: 'ide2', volid: 'nfs:iso/a.iso', content: 'iso' }]);
    expect(rowOf('POST', 'nodes/n1/lxc').media?.({ ostemplate: 'nfs:vztmpl/a.tar' })).toEqual([
      { field: 'ostemplate', volid: 'nfs:vztmpl/a.tar', content: 'vztmpl' },
    ]);
  });

  test("is a volume of nobody's when a medium is attached as a disk", () => {
    const policy = rowOf('PUT', 'nodes/n1/qemu/100/config');
    expect(policy.objections?.({ ...at, before: vm, params: { scsi1: 'nfs:iso/a.iso' } })).toHaveLength(1);
  });
});

describe('growing a disk', () => {
  const policy = rowOf('PUT', 'nodes/n1/qemu/100/resize');

  test.each<[Config, number, string]>([
    [{ disk: 'scsi0', size: '+8G' }, 16, '16G'],
    [{ disk: 'scsi0', size: '9.5G' }, 9.5, '9728M'],
    [{ disk: 'scsi0', size: '1G' }, 8, '1G'],
    [{ disk: 'ide0', size: '+1G' }, 2, '2G'],
  ])('by %j makes it %d GiB, and is sent as the absolute size %s', (params, gibibytes, size) => {
    const change = { ...at, before: vm, params };
    const others = storage(vm, 'lvm') - (params.disk === 'scsi0' ? 8 : 1) * GiB;
    expect(policy.objections?.(change)).toEqual([]);
    expect(storage(policy.project(change), 'lvm') - others).toBe(gibibytes * GiB);
    expect(policy.forward?.(change)).toEqual({ ...params, size });
    expect(policy.storages?.(change)).toEqual(['lvm']);
  });

  test.each<[Config, string]>([
    [{ disk: 'scsi5', size: '+1G' }, 'disk'],
    [{ disk: 'scsi9', size: '+1G' }, 'disk'],
    [{ disk: 'constructor', size: '+1G' }, 'disk'],
    [{ size: '+1G' }, 'disk'],
    [{ disk: 'scsi0' }, 'size'],
    [{ disk: 'scsi0', size: '8192T' }, 'size'],
    [{ disk: 'scsi0', size: '+99999999999T' }, 'size'],
    [{ disk: 'scsi0', size: '+8191.9999999T' }, 'size'],
  ])('by %j is refused because of its %s', (params, field) => {
    expect(policy.objections?.({ ...at, before: vm, params })).toMatchObject([{ field }]);
  });

  test('works on containers alike', () => {
    const change = { ...at, before: container, params: { disk: 'rootfs', size: '+2G' } };
    const row = rowOf('PUT', 'nodes/n1/lxc/100/resize');
    expect([row.objections?.(change), storage(row.project(change), 'lvm')]).toEqual([[], 10 * GiB]);
  });
});

describe('moving a disk', () => {
  const policy = rowOf('POST', 'nodes/n1/qemu/100/move_disk');

  test.each<[Config, { lvm: number; ceph: number }]>([
    [
      { disk: 'scsi0', storage: 'ceph' },
      { lvm: 59, ceph: 8 },
    ],
    [
      { disk: 'scsi0', storage: 'ceph', delete: '0' },
      { lvm: 59, ceph: 8 },
    ],
    [
      { disk: 'scsi0', storage: 'ceph', delete: '1' },
      { lvm: 59, ceph: 8 },
    ],
    [
      { disk: 'scsi0', storage: 'lvm', format: 'qcow2', delete: '1' },
      { lvm: 67, ceph: 0 },
    ],
  ])('by %j takes %j GiB, the old one included until PVE shows that it is gone', (params, expected) => {
    const change = { ...at, before: vm, params };
    const after = policy.project(change);
    expect(policy.objections?.(change)).toEqual([]);
    expect({ lvm: storage(after, 'lvm') / GiB, ceph: storage(after, 'ceph') / GiB }).toEqual(expected);
  });

  test.each<[Config, string[]]>([
    [{ disk: 'scsi0' }, ['storage']],
    [{ disk: 'scsi5', storage: 'ceph' }, ['disk']],
    [{}, ['disk', 'storage']],
  ])('%j is refused because of %j', (params, fields) => {
    expect(policy.objections?.({ ...at, before: vm, params }).map(({ field }) => field)).toEqual(fields);
  });

  test('works on containers alike, by the name that PVE has there', () => {
    const change = { ...at, before: container, params: { volume: 'rootfs', storage: 'ceph' } };
    const row = rowOf('POST', 'nodes/n1/lxc/100/move_volume');
    expect([row.objections?.(change), storage(row.project(change), 'ceph')]).toEqual([[], 8 * GiB]);
  });
});

test('destroying a guest is never more than it had', () => {
  for (const [type, before] of [
    ['qemu', vm],
    ['lxc', container],
  ] as const) {
    const after = rowOf('DELETE', `nodes/n1/${type}/100`).project({ ...at, before, params: {} });
    expect(usageOf(after)).toEqual({ lines: [], unknown: [] });
  }
});

test('the changes that PVE takes a digest for are those of something that is there', () => {
  expect(takesDigest(rowOf('POST', 'nodes/n1/qemu'))).toBe(false);
  expect(takesDigest(rowOf('DELETE', 'nodes/n1/qemu/100'))).toBe(false);
  for (const [method, what] of [
    ['PUT', 'config'],
    ['PUT', 'resize'],
    ['POST', 'move_disk'],
  ] as const)
    expect(takesDigest(rowOf(method, `nodes/n1/qemu/100/${what}`))).toBe(true);
});
