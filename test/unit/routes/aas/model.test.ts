import { expect, test } from 'vitest';
import type { Config, GuestType, Instance } from '../../../../src/pve/instance.ts';
import { modelOf } from '../../../../src/routes/aas/model.ts';

const MiB = 1024 * 1024;

function guest(type: GuestType, next: Config, more: Partial<Instance> = {}): Instance {
  return { type, vmid: 100, host: { node: 'n1', cpus: 16 }, current: next, next, volumes: new Map(), ...more };
}

const shown = (instance: Instance) => modelOf(instance, new Map(), 'listed');

test('absent keys have the defaults of PVE', () => {
  expect(shown(guest('qemu', {}))).toEqual({
    type: 'VM',
    name: 'listed',
    cpu: '',
    cores: 1,
    memory: 512 * MiB,
    swap: 0,
    volumes: {},
    nets: {},
    devices: {},
    boot: { enabled: [], disabled: [] },
  });
  expect(shown(guest('lxc', { hostname: 'ct' }))).toMatchObject({
    type: 'CT',
    name: 'ct',
    cores: 16,
    swap: 0,
    devices: null,
    boot: { enabled: [], disabled: [] },
  });
});

test('pending changes are applied, and memory is read in either spelling', () => {
  const next = { memory: 'current=4096', cores: '4' };
  expect(shown(guest('qemu', next, { current: { memory: '512', cores: '1' } }))).toMatchObject({
    memory: 4096 * MiB,
    cores: 4,
  });
});

test('a volume has the size that its storage knows, else the one that the configuration states', () => {
  const volume = { volid: 'ceph:vm-100-disk-0', storage: 'ceph', bytes: 7 * MiB, format: 'raw' };
  const { volumes } = shown(
    guest(
      'qemu',
      {
        scsi0: 'ceph:vm-100-disk-0,size=4M',
        virtio1: 'file=ceph:vm-100-disk-1,size=3M',
        ide0: 'none,media=cdrom',
        efidisk0: 'ceph:vm-100-disk-2,size=4M',
        unused3: 'ceph:vm-100-disk-3',
      },
      { volumes: new Map([[volume.volid, volume]]) },
    ),
  );
  expect(volumes.scsi0).toMatchObject({ size: 7 * MiB, format: 'raw', storage: 'ceph' });
  expect(volumes.virtio1).toMatchObject({ type: 'virtio', size: 3 * MiB, file: 'ceph:vm-100-disk-1' });
  expect(volumes.ide0).toMatchObject({ type: 'ide', size: 0, file: 'none', storage: '' });
  expect(volumes.unused3).toMatchObject({ type: 'unused', size: 0, file: 'ceph:vm-100-disk-3' });
  expect(volumes).not.toHaveProperty('efidisk0');
});

test('mount points keep their paths', () => {
  const { volumes } = shown(guest('lxc', { rootfs: 'ceph:a-1,size=1M', mp0: 'mp=/srv,volume=ceph:a-2,size=2M' }));
  expect(volumes.rootfs).toMatchObject({ type: 'rootfs', mp: '' });
  expect(volumes.mp0).toMatchObject({ type: 'mp', mp: '/srv', size: 2 * MiB });
});

test('numbers of network cards are whole and never negative, whatever the configuration holds', () => {
  const { nets } = shown(
    guest('qemu', {
      net0: 'virtio=AA,bridge=vmbr0,rate=0.5,tag=7',
      net1: 'virtio=AA,bridge=vmbr0,rate=-3',
      net2: 'not,a,card',
    }),
  );
  expect(nets).toEqual({
    net0: { net_id: 'net0', value: 'virtio=AA,bridge=vmbr0,rate=0.5,tag=7', rate: 1, vlan: 7 },
    net1: { net_id: 'net1', value: 'virtio=AA,bridge=vmbr0,rate=-3', rate: 0, vlan: 0 },
    net2: { net_id: 'net2', value: 'not,a,card', rate: 0, vlan: 0 },
  });
});

test('the boot order names what is there; what could boot and is not in it follows', () => {
  const config = {
    boot: 'order=net0;scsi1;gone;',
    scsi0: 'ceph:a-0',
    scsi1: 'ceph:a-1',
    net0: 'virtio',
    unused0: 'ceph:a-2',
  };
  const { boot, volumes, nets } = shown(guest('qemu', config));
  expect(boot.enabled).toEqual([nets.net0, volumes.scsi1]);
  expect(boot.disabled).toEqual([volumes.scsi0]);
});

test('passed-through devices are named as the node, or the mapping, names them', () => {
  const devices = new Map([['0000:41:00.0', 'Tesla']]);
  const config = { hostpci0: '41:00,pcie=1', hostpci1: 'mapping=gpu', hostpci2: 'host=0000:99:00.1' };
  const { devices: shownDevices } = shown(guest('qemu', config, { host: { node: 'n1', devices } }));
  expect(shownDevices?.hostpci0).toMatchObject({
    device_bus: '0000:41:00',
    device_name: 'Tesla',
    Value: '41:00,pcie=1',
  });
  expect(shownDevices?.hostpci1).toMatchObject({ device_bus: '', device_name: 'gpu' });
  expect(shownDevices?.hostpci2).toMatchObject({ device_bus: '0000:99:00', device_name: '' });
});
