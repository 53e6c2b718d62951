import { describe, expect, test } from 'vitest';
import {
  birthMark,
  type Config,
  type Drive,
  drivesOf,
  type GuestType,
  isDiskSlot,
  isNetSlot,
  parseDrive,
  readPending,
  volumeOwner,
} from '../../../src/pve/instance.ts';
import { GiB, MiB } from '../quota/instances.ts';

describe('what PVE shows as pending', () => {
  test('becomes what a guest runs with and what it will have', () => {
    const rows = [
      { key: 'digest', value: 'abc' },
      { key: 'cores', value: 4, pending: 2 },
      { key: 'memory', value: '2048' },
      { key: 'ide0', value: 'lvm:vm-100-disk-0', delete: 1 },
      { key: 'ide1', value: 'lvm:vm-100-disk-1', delete: 2 },
      { key: 'net0', pending: 'virtio' },
      { key: 'onboot', value: 0 },
    ];
    expect(readPending(rows)).toEqual({
      current: { cores: '4', memory: '2048', ide0: 'lvm:vm-100-disk-0', ide1: 'lvm:vm-100-disk-1', onboot: '0' },
      next: { cores: '2', memory: '2048', net0: 'virtio', onboot: '0' },
      digest: 'abc',
    });
  });

  test.each([[null], ['text'], [{}], [[null]], [[{ value: 1 }]], [[{ key: 7 }]], [[{ key: 'cores', value: [4] }]]])(
    '%j is no such answer',
    (data) => {
      expect(readPending(data)).toBeNull();
    },
  );
});

test.each<[GuestType, string, boolean]>([
  ['qemu', 'scsi0', true],
  ['qemu', 'scsi30', true],
  ['qemu', 'scsi31', false],
  ['qemu', 'ide3', true],
  ['qemu', 'ide4', false],
  ['qemu', 'sata5', true],
  ['qemu', 'sata6', false],
  ['qemu', 'virtio15', true],
  ['qemu', 'virtio16', false],
  ['qemu', 'efidisk0', true],
  ['qemu', 'tpmstate0', true],
  ['qemu', 'unused255', true],
  ['qemu', 'unused256', false],
  ['qemu', 'scsi01', false],
  ['qemu', 'scsi0\n', false],
  ['qemu', 'xscsi0', false],
  ['qemu', 'rootfs', false],
  ['lxc', 'rootfs', true],
  ['lxc', 'mp0', true],
  ['lxc', 'mp255', true],
  ['lxc', 'mp256', false],
  ['lxc', 'unused0', true],
  ['lxc', 'scsi0', false],
])('on a %s guest %j is a disk slot: %s', (type, slot, is) => {
  expect(isDiskSlot(type, slot)).toBe(is);
});

test.each([
  ['net0', true],
  ['net31', true],
  ['net32', false],
  ['net', false],
  ['net00', false],
])('%j is a network slot: %s', (slot, is) => {
  expect(isNetSlot(slot)).toBe(is);
});

describe('what a slot holds', () => {
  const text = 'lvm:0,import-from=nfs:import/a.qcow2';
  test.each<[GuestType, string, string, Drive | null]>([
    ['qemu', 'scsi0', 'lvm:vm-100-disk-0', { kind: 'volume', volid: 'lvm:vm-100-disk-0', storage: 'lvm' }],
    [
      'qemu',
      'scsi0',
      'size=8G,file=lvm:vm-100-disk-0',
      { kind: 'volume', volid: 'lvm:vm-100-disk-0', storage: 'lvm', size: 8 * GiB },
    ],
    [
      'qemu',
      'scsi0',
      'nfs:100/vm-100-disk-0.qcow2,ssd=1',
      { kind: 'volume', volid: 'nfs:100/vm-100-disk-0.qcow2', storage: 'nfs' },
    ],
    [
      'lxc',
      'mp0',
      'volume=lvm:vm-100-disk-1,mp=/data,size=1.5G',
      { kind: 'volume', volid: 'lvm:vm-100-disk-1', storage: 'lvm', size: 1.5 * GiB },
    ],
    ['qemu', 'scsi0', 'lvm:8', { kind: 'allocation', storage: 'lvm', bytes: 8 * GiB }],
    ['qemu', 'scsi0', 'lvm:0.001', { kind: 'allocation', storage: 'lvm', bytes: 4 * MiB }],
    ['qemu', 'scsi0', 'lvm:0', { kind: 'allocation', storage: 'lvm', bytes: 0 }],
    ['lxc', 'rootfs', 'lvm:0.0009', { kind: 'allocation', storage: 'lvm', bytes: 0 }],
    ['lxc', 'rootfs', 'lvm:0.001', { kind: 'allocation', storage: 'lvm', bytes: 4 * MiB }],
    ['qemu', 'efidisk0', 'lvm:500', { kind: 'allocation', storage: 'lvm', bytes: 4 * MiB }],
    ['qemu', 'tpmstate0', 'lvm:1,version=v2.0', { kind: 'allocation', storage: 'lvm', bytes: 4 * MiB }],
    ['qemu', 'ide2', 'lvm:cloudinit', { kind: 'allocation', storage: 'lvm', bytes: 4 * MiB }],
    ['qemu', 'ide2', 'lvm:500,media=cdrom', { kind: 'allocation', storage: 'lvm', bytes: 500 * GiB }],
    ['qemu', 'ide2', 'nfs:iso/a.iso,media=cdrom', { kind: 'medium', volid: 'nfs:iso/a.iso' }],
    ['qemu', 'ide2', 'nfs:iso/a.iso', { kind: 'volume', volid: 'nfs:iso/a.iso', storage: 'nfs' }],
    ['qemu', 'ide2', 'lvm:vm-100-disk-9,media=cdrom', { kind: 'volume', volid: 'lvm:vm-100-disk-9', storage: 'lvm' }],
    ['qemu', 'ide2', 'none', { kind: 'medium' }],
    ['qemu', 'ide2', 'cdrom,media=cdrom', { kind: 'path', path: 'cdrom' }],
    ['qemu', 'scsi0', '/dev/sdb', { kind: 'path', path: '/dev/sdb' }],
    ['lxc', 'mp0', '/srv,mp=/srv', { kind: 'path', path: '/srv' }],
    ['qemu', 'scsi0', text, { kind: 'import', storage: 'lvm', source: 'nfs:import/a.qcow2' }],
    ['qemu', 'scsi0', text.replace(':0', ':8'), { kind: 'opaque', text: text.replace(':0', ':8') }],
    ['lxc', 'rootfs', text, { kind: 'opaque', text }],
    ['qemu', 'scsi0', '8', { kind: 'opaque', text: '8' }],
    ['qemu', 'scsi0', 'x:vm-100-disk-0', { kind: 'opaque', text: 'x:vm-100-disk-0' }],
    ['lxc', 'mp0', 'none', { kind: 'opaque', text: 'none' }],
    ['qemu', 'scsi0', 'file=lvm:1,lvm:2', null],
    ['qemu', 'scsi0', 'volume=lvm:1,file=lvm:2', null],
    ['qemu', 'scsi0', 'size=8G', null],
    ['qemu', 'scsi0', 'lvm:vm-100-disk-0,size=big', null],
    ['qemu', 'scsi0', `lvm:${'9'.repeat(30)}`, null],
    ['qemu', 'scsi0', '', null],
  ])('%s %s: %j', (type, slot, given, drive) => {
    expect(parseDrive(type, slot, given)).toEqual(drive);
  });

  test('is told for the disk slots of a guest and nothing else', () => {
    const config: Config = { scsi0: 'lvm:8', scsihw: 'virtio-scsi-single', mp0: 'lvm:8', unused0: 'lvm:vm-100-disk-1' };
    expect([...drivesOf('qemu', config).keys()]).toEqual(['scsi0', 'unused0']);
    expect([...drivesOf('lxc', config).keys()]).toEqual(['mp0', 'unused0']);
  });
});

test.each([
  ['lvm:vm-100-disk-0', 100],
  ['lvm:base-100-disk-0', 100],
  ['lvm:base-9-disk-0/vm-100-disk-0', 100],
  ['nfs:9/base-9-disk-0.qcow2/100/vm-100-disk-0.qcow2', 100],
  ['nfs:100/vm-100-disk-0.qcow2', 100],
  ['nfs:100/anything.raw', 100],
  ['zfs:subvol-100-disk-0', 100],
  ['zfs:basevol-100-disk-0/subvol-101-disk-0', 101],
  ['lvm:vm-100-state-before', 100],
  ['lvm:vm-100-cloudinit', 100],
  ['nfs:iso/vm-image.iso', null],
  ['lvm:data', null],
])('%s belongs to %s by its name', (volid, owner) => {
  expect(volumeOwner(volid)).toBe(owner);
});

test.each<[Config, Config, string | undefined]>([
  [{ meta: 'creation-qemu=9.0.2,ctime=1700000000', smbios1: 'uuid=A' }, {}, 'ctime=1700000000'],
  [{ meta: 'ctime=1' }, {}, 'ctime=1'],
  [{}, { meta: 'ctime=2' }, 'ctime=2'],
  [{ smbios1: 'uuid=ABCDEF01-2345,manufacturer=x' }, {}, 'uuid=abcdef01-2345'],
  [{ meta: 'creation-qemu=9.0.2', smbios1: 'base64=1,uuid=a0' }, {}, 'uuid=a0'],
  [{ hostname: 'c1' }, {}, undefined],
])('%j and %j are the guest %s', (current, next, mark) => {
  expect(birthMark(current, next)).toBe(mark);
});
