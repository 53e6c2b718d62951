import { describe, expect, test } from 'vitest';
import { beyondGuest, beyondIn, beyondMeasure, familyOf, isAllowed, isForRoot } from '../../../src/pve/beyond.ts';
import type { GuestType } from '../../../src/pve/instance.ts';

describe('what PVE takes from root alone', () => {
  test.each<[GuestType, string, string, boolean]>([
    ['qemu', 'args', '-S', true],
    ['qemu', 'arch', 'aarch64', true],
    ['lxc', 'arch', 'arm64', false],
    ['lxc', 'dev0', '/dev/kvm', true],
    ['lxc', 'features', 'nesting=1', false],
    ['lxc', 'features', 'nesting=1,keyctl=1', true],
    ['lxc', 'unprivileged', '1', false],
    ['lxc', 'unprivileged', '0', true],
    ['qemu', 'serial0', 'socket', false],
    ['qemu', 'serial0', '/dev/ttyS0', true],
    ['qemu', 'usb0', 'spice,usb3=1', false],
    ['qemu', 'usb0', 'host=spice', false],
    ['qemu', 'usb0', 'usb3=1,mapping=stick', false],
    ['qemu', 'usb0', 'host=1-2', true],
    ['qemu', 'usb0', 'host=spicery', true],
    ['qemu', 'cores', '4', false],
    ['qemu', 'net0', 'virtio', false],
  ])('of a %s guest, %s=%s: %s', (type, name, value, root) => {
    expect(isForRoot(type, name, value)).toBe(root);
  });
});

describe('what a copy would hand on', () => {
  test.each<[GuestType, Record<string, string>, string[]]>([
    ['qemu', { cores: '4', startup: 'order=1', serial0: 'socket', usb0: 'spice', hostpci0: '0000:01:00' }, []],
    [
      'qemu',
      { args: '-S', usb1: 'mapping=stick', virtiofs0: 'data', hookscript: 'x:snippets/y' },
      ['args', 'usb1', 'virtiofs0', 'hookscript'],
    ],
    ['lxc', { unprivileged: '1', arch: 'amd64', features: 'nesting=1' }, []],
    ['lxc', { arch: 'amd64', dev0: '/dev/kvm' }, ['dev0', 'unprivileged']],
    ['lxc', { unprivileged: '0' }, ['unprivileged']],
  ])('of a %s guest with %j is %j, unless it is allowed', (type, config, found) => {
    expect(beyondIn(type, config, [])).toEqual(found);
    expect(beyondIn(type, config, ['args', 'dev[n]', 'hookscript', 'unprivileged', 'usb[n]', 'virtiofs[n]'])).toEqual(
      [],
    );
  });
});

test('a name is allowed by itself or by its family, and by nothing else', () => {
  expect([isAllowed(['usb[n]'], 'usb3'), isAllowed(['usb3'], 'usb3'), isAllowed(['usb3'], 'usb4')]).toEqual([
    true,
    true,
    false,
  ]);
  expect([isAllowed(['args'], 'args0'), isAllowed([], 'args'), isAllowed(['usb[n]'], 'usbx')]).toEqual([
    false,
    false,
    false,
  ]);
});

test('what can be allowed and what cannot are kept apart', () => {
  expect(Object.keys(beyondGuest).filter((name) => Object.hasOwn(beyondMeasure, name))).toEqual([]);
});

test('a slot is of its family where PVE has it, and of none where it has not', () => {
  const last = ['net31', 'ide3', 'sata5', 'scsi30', 'virtio15', 'mp255', 'unused255', 'hostpci15', 'usb13', 'numa7'];
  for (const name of ['net0', ...last]) expect(familyOf(name), name).toBe(name.replace(/\d+$/, '[n]'));
  const none = ['net32', 'ide4', 'sata6', 'scsi31', 'virtio16', 'mp256', 'unused256', 'hostpci16', 'usb14', 'numa8'];
  for (const name of [...none, 'net', 'net00', 'net-1', 'constructor0', 'efidisk0']) expect(familyOf(name)).toBe(name);
});
