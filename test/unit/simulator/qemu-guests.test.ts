import { describe, expect, test } from 'vitest';
import {
  addGuest,
  addVolume,
  destroyGuest,
  holdings,
  resizeVolume,
  setConfig,
  volumeAt,
} from '../../../simulator/administrator.ts';
import { digestOf } from '../../../simulator/guests.ts';
import { GiB, MiB } from '../../../simulator/sizes.ts';
import { alice, makeWorld, proxy, qemu, root, type World } from './world.ts';

const list = '/nodes/{node}/qemu';
const running = (world: World, vmid: number, param: Readonly<Record<string, unknown>> = {}) =>
  world.vm(vmid, { start: 1, ...param });
const put = (world: World, vmid: number, param: Readonly<Record<string, unknown>>) =>
  world.call('PUT', `${qemu}/config`, { vmid, ...param });
const volids = (world: World, vmid: number) => holdings(world.cluster, vmid).volumes.map(({ volid }) => volid);

describe('creating a VM', () => {
  test('allocates its drives and fills in what PVE fills in', () => {
    const world = makeWorld();
    world.vm(100, {
      scsi0: 'ceph:8,ssd=1',
      sata1: 'fast:cloudinit',
      cdrom: 'shared:iso/debian-13.iso',
      efidisk0: 'fast:1,efitype=4m',
      tpmstate0: 'ceph:99,version=v2.0',
      net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0',
    });

    expect(world.config(100)).toMatchObject({
      scsi0: 'ceph:vm-100-disk-0,size=8G,ssd=1',
      sata1: 'fast:vm-100-cloudinit,media=cdrom',
      ide2: 'shared:iso/debian-13.iso,media=cdrom,size=784M',
      efidisk0: 'fast:vm-100-disk-0,efitype=4m,size=4M',
      tpmstate0: 'ceph:vm-100-disk-1,size=4M,version=v2.0',
      boot: 'order=scsi0;ide2;net0',
      meta: 'creation-qemu=10.1.2,ctime=1763784000',
      smbios1: expect.stringMatching(/^uuid=[0-9a-f-]{36}$/),
      vmgenid: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(world.config(100)).not.toHaveProperty('lock');
    expect(world.config(100)).not.toHaveProperty('memory');
  });

  test('takes the default storage only for drives without one', () => {
    const world = makeWorld();
    world.vm(100, { storage: 'fast', scsi0: '2', scsi1: 'ceph:2' });
    expect(volids(world, 100)).toEqual(['fast:vm-100-disk-0', 'ceph:vm-100-disk-0']);
    expect(() => world.call('POST', list, { vmid: 101, scsi0: '2' })).toThrow('no storage ID specified');
  });

  test.each([
    ['fast:0.001', '1049K', 4 * MiB],
    ['ceph:0.001', '1049K', 2 * MiB],
    ['shared:0.001', '1049K', 1049 * 1024],
  ])('rounds %s up to KiB in the configuration and further on the storage', (drive, size, bytes) => {
    const world = makeWorld();
    world.vm(100, { scsi0: drive });
    expect(world.config(100).scsi0).toContain(`size=${size}`);
    expect(volumeAt(world.cluster, 100, 'scsi0')?.bytes).toBe(bytes);
  });

  test('gives an imported disk the virtual size of its source', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:0,import-from=shared:import/big.qcow2' });
    expect(world.config(100).scsi0).toBe('ceph:vm-100-disk-0,size=10G');
    expect(() => world.vm(101, { scsi0: 'ceph:1,import-from=shared:import/big.qcow2' })).toThrow(
      'Parameter verification',
    );
  });

  test('takes the vmid at once and enters the pool at the end of the task', () => {
    const world = makeWorld('by hand');
    const upid = world.call<string>('POST', list, { vmid: 100, pool: 'alice', start: 1 });

    expect(world.cluster.guests.get(100)?.config.get('lock')).toBe('create');
    expect(world.cluster.poolOf(100)).toBeUndefined();
    expect(() => world.call('GET', `${qemu}/config`, { vmid: 100 }, { caller: alice })).toThrow('/vms/100, VM.Audit');
    expect(() => world.call('POST', list, { vmid: 100 })).toThrow(
      "unable to create VM 100 - VM 100 already exists on node 'n1'",
    );
    expect(() => put(world, 100, { cores: 2 })).toThrow('VM is locked (create)');

    world.cluster.tasks.finish(upid);
    expect(world.cluster.poolOf(100)).toBe('alice');
    expect(world.call('GET', `${qemu}/config`, { vmid: 100 }, { caller: alice })).toHaveProperty('meta');
    expect(world.cluster.guests.get(100)?.status).toBe('running');
  });

  test('leaves nothing behind when it fails, by itself or by being stopped', () => {
    const world = makeWorld();
    const failed = world.task('POST', list, { vmid: 100, pool: 'alice', scsi0: 'ceph:1', scsi1: 'ceph:vm-9-disk-7' });
    expect(failed).toMatch(/^unable to create VM 100 - volume 'ceph:vm-9-disk-7' does not exist/);
    expect(holdings(world.cluster, 100)).toMatchObject({ exists: false, volumes: [] });

    world.cluster.tasks.pace = 'by hand';
    world.cluster.tasks.stop(world.call<string>('POST', list, { vmid: 100, scsi0: 'ceph:1' }));
    expect(holdings(world.cluster, 100)).toMatchObject({ exists: false, volumes: [] });
  });

  test.each([
    [{ args: '-x' }, "only root can set 'args' config"],
    [{ hostpci0: '0000:41:00' }, "only root can set 'hostpci0' config for non-mapped devices"],
    [{ usb0: 'host=1234:5678' }, "only root can set 'usb0' config for real devices"],
    [{ serial0: '/dev/ttyS0' }, "only root can set 'serial0' config for real devices"],
    [{ startup: 'order=1' }, 'Permission check failed (/, Sys.Modify)'],
    [{ 'ha-managed': 1 }, 'Permission check failed (/, Sys.Console)'],
    [{ scsi0: '/dev/sda' }, 'only root can pass arbitrary filesystem paths.'],
    [{ skiplock: 1 }, 'Parameter verification failed.'],
  ])('refuses a token %o', (param, reason) => {
    const world = makeWorld();
    expect(() => world.call('POST', list, { vmid: 100, ...param }, { caller: proxy })).toThrow(reason);
    expect(world.cluster.guests.has(100)).toBe(false);
  });

  test('does not take a token of root@pam for root@pam', () => {
    const world = makeWorld();
    world.cluster.access.addToken('root@pam', 'ci', { privsep: false });
    const token = { user: 'root@pam', token: 'root@pam!ci' };
    expect(() => world.call('POST', list, { vmid: 100, args: '-x' }, { caller: token })).toThrow(
      "only root can set 'args'",
    );
    expect(world.task('POST', list, { vmid: 100, args: '-x' }, { caller: root })).toBe('OK');
  });

  test('needs rights on the vmid or on the pool', () => {
    const world = makeWorld();
    expect(() => world.call('POST', list, { vmid: 100, pool: 'alice' }, { caller: alice })).toThrow(
      'Permission check failed',
    );
    world.cluster.access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'PVEVMAdmin');
    expect(world.task('POST', list, { vmid: 100, pool: 'alice', cores: 2 }, { caller: alice })).toBe('OK');
    expect(() => world.call('POST', list, { vmid: 101, pool: 'alice', scsi0: 'ceph:1' }, { caller: alice })).toThrow(
      'Permission check failed (/storage/ceph, Datastore.AllocateSpace)',
    );
  });

  test('lets the iso of a storage in only as a cdrom', () => {
    const world = makeWorld();
    expect(() => world.call('POST', list, { vmid: 100, ide2: 'shared:iso/debian-13.iso' }, { caller: proxy })).toThrow(
      'Parameter verification failed.',
    );
  });
});

describe('writing the configuration of a stopped VM', () => {
  test('allocates what is new and keeps what it replaces as unused', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    put(world, 100, { scsi0: 'fast:2' });
    expect(world.config(100)).toMatchObject({ scsi0: 'fast:vm-100-disk-0,size=2G', unused0: 'ceph:vm-100-disk-0' });

    put(world, 100, { delete: 'scsi0' });
    expect(world.config(100)).toMatchObject({ unused0: 'ceph:vm-100-disk-0', unused1: 'fast:vm-100-disk-0' });
    expect(volids(world, 100)).toHaveLength(2);

    put(world, 100, { delete: 'unused0,unused1' });
    expect(volids(world, 100)).toEqual([]);
  });

  test('frees a deleted drive only when it is forced', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', boot: 'order=scsi0' });
    put(world, 100, { delete: 'scsi0', force: 1 });
    expect(volids(world, 100)).toEqual([]);
    expect(world.config(100).boot).toBe('order=');
  });

  test('attaches an unused volume with its real size, which ends its being unused', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:3' });
    put(world, 100, { delete: 'scsi0' });
    put(world, 100, { virtio0: 'ceph:vm-100-disk-0,size=1G' });
    expect(world.config(100)).toMatchObject({ virtio0: 'ceph:vm-100-disk-0,size=3G' });
    expect(world.config(100)).not.toHaveProperty('unused0');
  });

  test('frees a cloud-init drive that is deleted, and makes another one', () => {
    const world = makeWorld();
    world.vm(100, { ide0: 'ceph:cloudinit' });
    put(world, 100, { delete: 'ide0' });
    expect(volids(world, 100)).toEqual([]);
    put(world, 100, { scsi9: 'shared:cloudinit' });
    expect(world.config(100).scsi9).toBe('shared:100/vm-100-cloudinit.qcow2,media=cdrom');
  });

  test('loses an image that was attached as a cdrom', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    put(world, 100, { delete: 'scsi0' });
    put(world, 100, { ide0: 'ceph:vm-100-disk-0,media=cdrom' });
    put(world, 100, { delete: 'ide0' });
    expect(world.config(100)).not.toHaveProperty('unused0');
    expect(volids(world, 100)).toEqual(['ceph:vm-100-disk-0']);
  });

  test('loses the volume of an unused key that is overwritten', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', scsi1: 'ceph:1' });
    put(world, 100, { delete: 'scsi0' });
    put(world, 100, { unused0: 'ceph:vm-100-disk-5' });
    expect(world.config(100).unused0).toBe('ceph:vm-100-disk-5');
    expect(volids(world, 100)).toHaveLength(2);
  });

  test('allocates through the alias cdrom when it says that it is a disk', () => {
    const world = makeWorld();
    world.vm(100);
    put(world, 100, { cdrom: 'ceph:5,media=disk' });
    expect(world.config(100).ide2).toBe('ceph:vm-100-disk-0,media=disk,size=5G');
    put(world, 100, { delete: 'cdrom' });
    expect(world.config(100).unused0).toBe('ceph:vm-100-disk-0');
  });

  test('takes a path in a file storage for the volume that it is', () => {
    const world = makeWorld();
    addVolume(world.cluster, { volid: 'shared:200/vm-200-disk-0.raw', content: 'images', bytes: GiB });
    world.vm(100, { scsi0: '/mnt/pve/shared/images/200/vm-200-disk-0.raw' });
    expect(world.config(100).scsi0).toBe('shared:200/vm-200-disk-0.raw,size=1G');
    put(world, 100, { delete: 'scsi0' });
    expect(world.config(100)).not.toHaveProperty('unused0'); // another guest's
  });

  test('turns smp into sockets and drops cores', () => {
    const world = makeWorld();
    world.vm(100, { cores: 8 });
    put(world, 100, { smp: 2 });
    expect(world.config(100)).toMatchObject({ sockets: '2' });
    expect(world.config(100)).not.toHaveProperty('cores');
  });

  test('sets and clears the template flag like any other', () => {
    const world = makeWorld();
    world.vm(100);
    put(world, 100, { template: 1 });
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 })).toMatch(/template/);
    put(world, 100, { template: 0 });
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 })).toBe('OK');
  });

  test.each([
    [{ cores: 2, delete: 'cores' }, 'Parameter verification failed.'],
    [{ delete: 'nonsense' }, 'Parameter verification failed.'],
    [{ delete: 'net32' }, 'Parameter verification failed.'],
    [{ net32: 'virtio' }, 'Parameter verification failed.'],
    [{ delete: 'cores', revert: 'cores' }, 'Parameter verification failed.'],
    [{ memory: 'current=0' }, 'Parameter verification failed.'],
    [{ scsi0: 'ceph:1,bad=1' }, 'Parameter verification failed.'],
    [{}, 'no options specified'],
    [{ balloon: 4096 }, 'balloon value too large'],
    [{ boot: 'order=scsi7' }, "invalid bootorder: device 'scsi7' does not exist'"],
    [{ cores: 2, digest: 'abc' }, 'checksum missmatch'],
    [{ cores: 2, vmid: 999 }, "Configuration file 'nodes/n1/qemu-server/999.conf' does not exist"],
    [{ cores: 2, node: 'n2' }, "Configuration file 'nodes/n2/qemu-server/100.conf' does not exist"],
  ])('refuses %o', (param, reason) => {
    const world = makeWorld();
    world.vm(100);
    expect(() => put(world, 100, param)).toThrow(reason);
  });

  test('keeps what was written before a key failed', () => {
    const world = makeWorld();
    world.vm(100);
    expect(() => put(world, 100, { cores: 8, scsi0: 'ceph:1', scsi1: 'nowhere:1' })).toThrow(
      "storage 'nowhere' does not exist",
    );
    expect(holdings(world.cluster, 100)).toMatchObject({
      pending: { cores: { value: '8' }, scsi0: { value: 'ceph:vm-100-disk-0,size=1G' } },
      volumes: [{ volid: 'ceph:vm-100-disk-0' }],
    });
  });

  test('fails after as many keys as a fault says, with its refusal', () => {
    const world = makeWorld();
    world.vm(100);
    const fault = { kind: 'partial', keys: 1, status: 400, reason: 'half' } as const;
    expect(() => world.call('PUT', `${qemu}/config`, { vmid: 100, cores: 4, sockets: 2 }, { fault })).toThrow('half');
    expect(world.config(100)).toMatchObject({ cores: '4' });
    expect(world.config(100)).not.toHaveProperty('sockets');
  });

  test('checks the privileges of each key', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    world.cluster.access.addRole('CpuOnly', ['VM.Config.CPU', 'VM.Config.CDROM']);
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'CpuOnly');
    const change = (param: Readonly<Record<string, unknown>>) =>
      world.call('PUT', `${qemu}/config`, { vmid: 100, ...param }, { caller: alice });
    expect(change({ cores: 2 })).toBeNull();
    expect(change({ ide2: 'none,media=cdrom' })).toBeNull();
    for (const [param, privilege] of [
      [{ memory: '1024' }, 'VM.Config.Memory'],
      [{ scsi0: 'ceph:1' }, 'VM.Config.Disk'],
      [{ net0: 'virtio' }, 'VM.Config.Network'],
      [{ usb0: 'spice' }, 'VM.Config.HWType'],
      [{ ciuser: 'x' }, 'VM.Config.Cloudinit|VM.Config.Network'],
      [{ ide2: 'ceph:1' }, 'VM.Config.Disk'],
    ] as const) {
      expect(() => change(param)).toThrow(`(/vms/100, ${privilege})`);
    }
  });

  test('keeps volumes of other guests from those who may not use them', () => {
    const world = makeWorld();
    world.vm(100);
    world.vm(200, { scsi0: 'ceph:1' });
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMAdmin');
    world.cluster.access.setAcl('/storage/ceph', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    const steal = { vmid: 100, scsi0: 'ceph:vm-200-disk-0' };
    expect(() => world.call('PUT', `${qemu}/config`, steal, { caller: alice })).toThrow('(/vms/200, VM.Config.Disk)');
    expect(world.call('PUT', `${qemu}/config`, steal, { caller: proxy })).toBeNull(); // Datastore.Allocate opens all
  });
});

test('a volume that stays where it is keeps the size that is said, or none; one that is attached anew gets its real one', () => {
  const world = makeWorld();
  const write = (scsi0: string) => {
    world.call('PUT', `${qemu}/config`, { vmid: 100, scsi0 });
    return world.config(100).scsi0;
  };
  world.vm(100, { scsi0: 'ceph:4' });
  expect(write('ceph:vm-100-disk-0,discard=on')).toBe('ceph:vm-100-disk-0,discard=on');
  expect(write('ceph:vm-100-disk-0,size=1G')).toBe('ceph:vm-100-disk-0,size=1G');
  world.call('PUT', `${qemu}/config`, { vmid: 100, delete: 'scsi0' });
  expect(write('ceph:vm-100-disk-0,size=1G')).toBe('ceph:vm-100-disk-0,size=4G');
});

test.each([
  ['virtio,bridge=vmbr0', []],
  ['virtio,bridge=vmbr0,tag=10', ['vmbr0/10']],
  ['virtio,bridge=vmbr0,trunks=10;11', ['vmbr0/10', 'vmbr0/11']],
])('the card %s is for who may use its bridge, or its VLANs %j', (net0, vlans) => {
  const world = makeWorld();
  const { access } = world.cluster;
  access.addRole('Cards', ['VM.Config.Network', 'VM.Config.Options']);
  world.vm(100, { pool: 'alice' });
  access.removeAcl('/pool/alice', { users: [alice.user] }, 'QuotaTenant');
  access.setAcl('/vms', { users: [alice.user] }, 'Cards');
  const write = () => world.call('PUT', `${qemu}/config`, { vmid: 100, net0 }, { caller: alice });
  for (const network of vlans.length === 0 ? ['vmbr0'] : vlans) {
    expect(write).toThrow(`/sdn/zones/localnetwork/${network}, SDN.Use`);
    access.setAcl(`/sdn/zones/localnetwork/${network}`, { users: [alice.user] }, 'PVESDNUser');
  }
  write();
  expect(world.config(100).net0).toContain('bridge=vmbr0');
});

describe('writing the configuration of a running VM', () => {
  test('leaves cores pending until the next start, and shows the future', () => {
    const world = makeWorld();
    running(world, 100, { cores: 8, memory: '8192' });
    put(world, 100, { cores: 1, memory: '1024', name: 'now' });

    expect(world.call('GET', `${qemu}/config`, { vmid: 100 })).toMatchObject({ cores: 1, memory: '1024', name: 'now' });
    expect(world.call('GET', `${qemu}/config`, { vmid: 100, current: 1 })).toMatchObject({
      cores: 8,
      memory: '8192',
      name: 'now',
    });
    expect(world.call('GET', `${qemu}/pending`, { vmid: 100 })).toEqual(
      expect.arrayContaining([
        { key: 'cores', value: '8', pending: '1' },
        { key: 'name', value: 'now' },
        { key: 'digest', value: expect.stringMatching(/^[0-9a-f]{40}$/) },
      ]),
    );

    world.task('POST', `${qemu}/status/reboot`, { vmid: 100 });
    expect(world.config(100)).toMatchObject({ cores: '1', memory: '1024' });
    expect(holdings(world.cluster, 100).pending).toEqual({});
  });

  test.each([
    ['name', 'x', true],
    ['cpulimit', 2, true],
    ['balloon', 256, true],
    ['net0', 'virtio=BC:24:11:00:00:01,bridge=vmbr0,rate=9', true],
    ['scsi5', 'ceph:1', true],
    ['sata0', 'ceph:1', false],
    ['efidisk0', 'ceph:1', false],
    ['usb0', 'spice', true],
    ['vcpus', 1, false],
    ['sockets', 2, false],
    ['cpu', 'host', false],
    ['ciuser', 'me', true],
    ['machine', 'q35', false],
  ])('takes %s=%s at once: %s', (key, value, isHot) => {
    const world = makeWorld();
    running(world, 100, { net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0' });
    put(world, 100, { [key]: value });
    expect(holdings(world.cluster, 100).pending).toEqual(isHot ? {} : { [key]: { value: expect.any(String) } });
  });

  test('follows the hotplug option', () => {
    const world = makeWorld();
    running(world, 100, { hotplug: 'cpu,memory', vcpus: 1, cores: 4, numa: 1 });
    put(world, 100, { vcpus: 4, memory: '1024', scsi0: 'ceph:1' });
    expect(holdings(world.cluster, 100).pending).toEqual({ scsi0: { value: 'ceph:vm-100-disk-0,size=1G' } });
  });

  test('allocates a drive that stays pending, and keeps it as unused when it is taken back', () => {
    const world = makeWorld();
    running(world, 100);
    put(world, 100, { sata0: 'ceph:7' });
    expect(volids(world, 100)).toEqual(['ceph:vm-100-disk-0']);
    put(world, 100, { revert: 'sata0' });
    expect(holdings(world.cluster, 100)).toMatchObject({ pending: {}, config: { unused0: 'ceph:vm-100-disk-0' } });
  });

  test('keeps a pending volume as unused at once when another takes its place', () => {
    const world = makeWorld();
    running(world, 100);
    put(world, 100, { sata0: 'ceph:1' });
    put(world, 100, { sata0: 'ceph:2' });
    expect(world.config(100).unused0).toBe('ceph:vm-100-disk-0');
    expect(holdings(world.cluster, 100).pending).toEqual({ sata0: { value: 'ceph:vm-100-disk-1,size=2G' } });
  });

  test('takes back a change of what is there', () => {
    const world = makeWorld();
    running(world, 100, { cores: 8 });
    put(world, 100, { cores: 1 });
    put(world, 100, { revert: 'cores' });
    expect(world.call('GET', `${qemu}/config`, { vmid: 100 })).toMatchObject({ cores: 8 });
    expect(holdings(world.cluster, 100).pending).toEqual({});
  });

  test('lets a deleted sata drive go only at the next start', () => {
    const world = makeWorld();
    running(world, 100, { sata0: 'ceph:1' });
    put(world, 100, { delete: 'sata0' });
    expect(world.call('GET', `${qemu}/config`, { vmid: 100 })).not.toHaveProperty('sata0');
    expect(world.config(100)).toMatchObject({ sata0: expect.any(String) });
    world.task('POST', `${qemu}/status/reboot`, { vmid: 100 });
    expect(world.config(100)).toMatchObject({ unused0: 'ceph:vm-100-disk-0' });
  });

  test('unlinks like a delete', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    world.call('PUT', `${qemu}/unlink`, { vmid: 100, idlist: 'scsi0' });
    expect(world.config(100)).toMatchObject({ unused0: 'ceph:vm-100-disk-0' });
  });

  test('does the same by a task when it is posted', () => {
    const world = makeWorld();
    world.vm(100);
    expect(world.task('POST', `${qemu}/config`, { vmid: 100, cores: 4 })).toBe('OK');
    expect(world.call('POST', `${qemu}/config`, { vmid: 100, cores: 5, background_delay: 5 })).toBeNull();
    expect(world.config(100)).toMatchObject({ cores: '5' });
  });
});

describe('the digest', () => {
  test('changes with the configuration, the pending part and nothing else', () => {
    const world = makeWorld();
    running(world, 100);
    const guest = world.cluster.guests.get(100);
    if (guest === undefined) throw new Error('no guest');
    const before = digestOf(guest);
    world.call('GET', `${qemu}/config`, { vmid: 100 });
    expect(digestOf(guest)).toBe(before);
    put(world, 100, { cores: 3, digest: before });
    expect(digestOf(guest)).not.toBe(before);
    expect(() => put(world, 100, { cores: 4, digest: before })).toThrow('checksum missmatch');
  });
});

describe('resizing a drive', () => {
  test('counts a plus from the real size, not from what the configuration says', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:4' });
    resizeVolume(world.cluster, 100, 'ceph:vm-100-disk-0', 6 * GiB);
    expect(world.task('PUT', `${qemu}/resize`, { vmid: 100, disk: 'scsi0', size: '+1G' })).toBe('OK');
    expect(world.config(100).scsi0).toBe('ceph:vm-100-disk-0,size=7G');
  });

  test.each([
    ['1G', 'shrinking disks is not supported'],
    ['1', 'shrinking disks is not supported'],
    ['-1G', 'Parameter verification failed.'],
    ['1e3', 'Parameter verification failed.'],
  ])('refuses %s', (size, reason) => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:4' });
    expect(() => world.call('PUT', `${qemu}/resize`, { vmid: 100, disk: 'scsi0', size })).toThrow(reason);
  });

  test('grows even a foreign volume, a cdrom never', () => {
    const world = makeWorld();
    world.vm(100, { ide2: 'none,media=cdrom' });
    world.vm(200, { scsi0: 'ceph:1' });
    put(world, 100, { scsi0: 'ceph:vm-200-disk-0' });
    world.task('PUT', `${qemu}/resize`, { vmid: 100, disk: 'scsi0', size: '5G' });
    expect(volumeAt(world.cluster, 200, 'scsi0')?.bytes).toBe(5 * GiB);
    expect(() => world.call('PUT', `${qemu}/resize`, { vmid: 100, disk: 'ide2', size: '5G' })).toThrow(
      "you can't resize a cdrom",
    );
  });
});

describe('moving a drive', () => {
  test('to another storage keeps the old volume as unused unless it is to go', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:4', scsi1: 'ceph:1' });
    world.task('POST', `${qemu}/move_disk`, { vmid: 100, disk: 'scsi0', storage: 'fast' });
    world.task('POST', `${qemu}/move_disk`, { vmid: 100, disk: 'scsi1', storage: 'fast', delete: 1 });
    expect(world.config(100)).toMatchObject({
      scsi0: 'fast:vm-100-disk-0,size=4G',
      scsi1: 'fast:vm-100-disk-1,size=1G',
      unused0: 'ceph:vm-100-disk-0',
    });
    expect(volids(world, 100)).toHaveLength(3);
  });

  test('to another VM gives it the volume under its own name', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:4' });
    world.vm(200, { scsi0: 'ceph:1' });
    const give = { vmid: 100, disk: 'scsi0', 'target-vmid': 200 };
    expect(() => world.call('POST', `${qemu}/move_disk`, give)).toThrow('already in use');
    expect(world.task('POST', `${qemu}/move_disk`, { ...give, 'target-disk': 'unused3' })).toBe('OK');
    expect(world.config(100)).not.toHaveProperty('scsi0');
    expect(world.config(200)).toMatchObject({ unused3: 'ceph:vm-200-disk-1' });
    expect(volids(world, 100)).toEqual([]);
    expect(world.cluster.tasks.list()[0]?.id).toBe('100-scsi0>200-unused3');
  });
});

describe('power', () => {
  test('suspending to disk makes a state volume of twice the memory and 500 MiB, and a start uses it up', () => {
    const world = makeWorld();
    running(world, 100, { memory: '2048', scsi0: 'ceph:1' });
    world.task('POST', `${qemu}/status/suspend`, { vmid: 100, todisk: 1 });
    expect(world.config(100)).toMatchObject({ lock: 'suspended', vmstate: 'ceph:vm-100-state-suspend-2025-11-22' });
    expect(volumeAt(world.cluster, 100, 'vmstate')?.bytes).toBe((2 * 2048 + 500) * MiB);
    world.task('POST', `${qemu}/status/start`, { vmid: 100 });
    expect(volids(world, 100)).toEqual(['ceph:vm-100-disk-0']);
    expect(world.config(100)).not.toHaveProperty('lock');
  });

  test.each([
    [{ scsi0: 'fast:1', scsi1: 'ceph:1' }, 'ceph'],
    [{ scsi0: 'ceph:1', scsi1: 'shared:1' }, 'shared'],
    [{ scsi0: 'local:1', scsi1: 'tank:1' }, 'local'],
    [{ scsi0: 'tank:1', scsi1: 'fast:1' }, 'fast'],
    [{ scsi0: 'ceph:1', vmstatestorage: 'fast' }, 'fast'],
    [{}, 'local'],
  ])('a VM with %o is suspended to %s', (config, storage) => {
    const world = makeWorld();
    running(world, 100, config);
    world.task('POST', `${qemu}/status/suspend`, { vmid: 100, todisk: 1 });
    expect(volumeAt(world.cluster, 100, 'vmstate')?.storage).toBe(storage);
  });

  test('a VM with more cores than its host does not start', () => {
    const world = makeWorld();
    world.vm(100, { cores: 17 });
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 })).toBe('MAX 16 vcpus allowed per VM on this node');
  });

  test('starting twice fails, stopping twice does not, and what is stopped cannot be reset', () => {
    const world = makeWorld();
    running(world, 100);
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 })).toBe('VM 100 already running');
    expect(world.task('POST', `${qemu}/status/shutdown`, { vmid: 100 })).toBe('OK');
    expect(world.task('POST', `${qemu}/status/stop`, { vmid: 100 })).toBe('OK');
    expect(() => world.call('POST', `${qemu}/status/reset`, { vmid: 100 })).toThrow('VM 100 not running');
  });

  test('a tenant starts and stops its guest, and nothing else', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 }, { caller: alice })).toBe('OK');
    expect(() => world.call('PUT', `${qemu}/config`, { vmid: 100, cores: 2 }, { caller: alice })).toThrow('/vms/100');
    expect(() => world.call('DELETE', qemu, { vmid: 100 }, { caller: alice })).toThrow('(/vms/100, VM.Allocate)');
  });
});

describe('destroying a VM', () => {
  test('frees what the configuration names, and orphans only when asked', () => {
    const world = makeWorld();
    for (const vmid of [100, 101]) {
      world.vm(vmid, { scsi0: 'ceph:1', pool: 'alice' });
      put(world, vmid, { delete: 'scsi0' });
      addVolume(world.cluster, { volid: `ceph:vm-${vmid}-disk-9`, content: 'images', bytes: GiB });
    }
    world.task('DELETE', qemu, { vmid: 100 });
    world.task('DELETE', qemu, { vmid: 101, 'destroy-unreferenced-disks': 1 });
    expect(volids(world, 100)).toEqual(['ceph:vm-100-disk-9']);
    expect(volids(world, 101)).toEqual([]);
    expect(world.cluster.poolOf(100)).toBeUndefined();
  });

  test('forgets the rights that were given on it', () => {
    const world = makeWorld();
    world.vm(100);
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMAdmin');
    world.task('DELETE', qemu, { vmid: 100 });
    expect(world.cluster.access.acl().some(({ path }) => path === '/vms/100')).toBe(false);
  });

  test('is refused while it runs, is protected or is locked', () => {
    const world = makeWorld();
    running(world, 100);
    expect(() => world.call('DELETE', qemu, { vmid: 100 })).toThrow('VM 100 is running - destroy failed');
    world.task('POST', `${qemu}/status/stop`, { vmid: 100 });
    setConfig(world.cluster, 100, { protection: 1 });
    expect(() => world.call('DELETE', qemu, { vmid: 100 })).toThrow("can't remove VM 100 - protection mode enabled");
    setConfig(world.cluster, 100, { protection: null, lock: 'backup' });
    expect(() => world.call('DELETE', qemu, { vmid: 100 })).toThrow('VM is locked (backup)');
    expect(world.task('DELETE', qemu, { vmid: 100, skiplock: 1 }, { caller: root })).toBe('OK');
  });
});

test('an administrator changes things past the API', () => {
  const { cluster } = makeWorld();
  addGuest(cluster, { vmid: 300, config: { cores: 2, scsi0: 'ceph:vm-300-disk-0,size=3G' }, pool: 'alice' });
  setConfig(cluster, 300, { cores: 4 });
  expect(holdings(cluster, 300)).toMatchObject({
    exists: true,
    config: { cores: '4' },
    volumes: [{ volid: 'ceph:vm-300-disk-0', storage: 'ceph', bytes: 3 * GiB }],
  });
  destroyGuest(cluster, 300);
  expect(holdings(cluster, 300)).toEqual({ exists: false, config: {}, pending: {}, volumes: [] });
});
