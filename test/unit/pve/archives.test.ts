import { describe, expect, test } from 'vitest';
import { readArchive, readSnapshot, restored, rolledBack } from '../../../src/pve/archives.ts';
import { usageOf } from '../../../src/quota/usage.ts';
import { GiB, lxc, qemu } from '../quota/instances.ts';

const amounts = (instance: Parameters<typeof usageOf>[0]) =>
  Object.fromEntries(
    usageOf(instance).lines.map(({ resource, item, amount }) => [
      `${resource}${item === '' ? '' : ` ${item}`}`,
      amount,
    ]),
  );
const unknowns = (instance: Parameters<typeof usageOf>[0]) => usageOf(instance).unknown.map(({ resource }) => resource);

const text = [
  'cores: 4',
  'memory: 8192',
  'scsi0: lvm:vm-100-disk-0,size=20G',
  'scsi1: lvm:vm-100-disk-1,size=5G,backup=0',
  'ide2: nfs:iso/debian.iso,media=cdrom',
  'unused0: lvm:vm-100-disk-9',
  'lock: backup',
  '#qmdump#map:scsi0:drive-scsi0:lvm:raw:',
  '',
  '[before]',
  'cores: 64',
].join('\n');

const vm = qemu({
  current: { cores: '1', memory: '512', scsi0: 'lvm:vm-100-disk-0,size=1G', scsi7: 'ceph:vm-100-disk-7,size=3G' },
  volumes: { 'lvm:vm-100-disk-0': GiB, 'ceph:vm-100-disk-7': 3 * GiB },
});

describe('a restore', () => {
  test('makes of a VM what the archive says, with volumes of its sizes where they lay', () => {
    const after = restored(vm, readArchive('qemu', text), {});
    expect(amounts(after)).toMatchObject({
      cores: 4,
      memory: 8 * GiB,
      'storage:lvm': 20 * GiB,
      'storage:ceph': 3 * GiB,
    });
    expect(unknowns(after)).toEqual([]);
  });

  test('puts the volumes on the storage that the call names', () => {
    expect(amounts(restored(vm, readArchive('qemu', text), { storage: 'nfs' }))).toMatchObject({
      'storage:nfs': 20 * GiB,
    });
  });

  test('makes a drive for cloud-init anew, which no archive holds', () => {
    for (const size of ['', ',size=4M']) {
      const archive = readArchive('qemu', `ide0: nfs:100/vm-100-cloudinit.qcow2,media=cdrom${size}\n${text}`);
      const after = restored(vm, archive, {});
      expect([amounts(after)['storage:nfs'], unknowns(after)]).toEqual([4 * 1024 ** 2, []]);
      expect(amounts(restored(vm, archive, { storage: 'lvm' }))['storage:lvm']).toBe(20 * GiB + 4 * 1024 ** 2);
    }
  });

  test('is unknown where the archive tells no size, or nothing at all', () => {
    expect(unknowns(restored(vm, readArchive('qemu', 'cores: 1\nscsi0: lvm:vm-100-disk-0'), {}))).toEqual([
      'storage:lvm',
    ]);
    for (const told of [undefined, null, '', 42, 'nonsense']) {
      expect(unknowns(restored(vm, readArchive('qemu', told), {})), String(told)).not.toEqual([]);
    }
  });

  test('makes of a container the mount points that the call gives', () => {
    const container = lxc({
      current: { rootfs: 'lvm:vm-100-disk-0,size=2G' },
      volumes: { 'lvm:vm-100-disk-0': 2 * GiB },
    });
    const archive = readArchive(
      'lxc',
      'cores: 2\nmemory: 1024\nrootfs: lvm:vm-100-disk-0,size=2G\nmp0: lvm:vm-100-disk-1,mp=/x,size=90G',
    );
    expect(amounts(restored(container, archive, { rootfs: 'ceph:8' }))).toMatchObject({
      cores: 2,
      'storage:ceph': 8 * GiB,
    });
    expect(amounts(restored(container, archive, {}))).toMatchObject({ 'storage:lvm': 92 * GiB });
  });
});

describe('a rollback', () => {
  test('is charged as what the instance was then', () => {
    const snapshot = readSnapshot({
      cores: 12,
      memory: '4096',
      scsi0: 'lvm:vm-100-disk-0,size=1G',
      snaptime: 1,
      digest: 'x',
    });
    expect(amounts(rolledBack(vm, snapshot))).toMatchObject({ cores: 12, memory: 4 * GiB, 'storage:lvm': GiB });
  });

  test('is unknown where PVE does not tell', () => {
    for (const told of [undefined, null, [], {}, 'x'])
      expect(unknowns(rolledBack(vm, readSnapshot(told)))).not.toEqual([]);
  });
});
