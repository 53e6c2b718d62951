import { describe, expect, test } from 'vitest';
import { addGuest, addPciMapping, addVolume, holdings, setConfig } from '../../../simulator/administrator.ts';
import { GiB } from '../../../simulator/sizes.ts';
import { alice, lxc, makeWorld, proxy, qemu, type World } from './world.ts';

const clone = (world: World, newid: number, param: object = {}, caller = proxy) =>
  world.task('POST', `${qemu}/clone`, { vmid: 100, newid, ...param }, { caller });
const volumes = (world: World, vmid: number) =>
  holdings(world.cluster, vmid).volumes.map(({ volid, bytes }) => [volid, bytes]);

describe('a full clone of a VM', () => {
  test('copies disks and options under new identities, and leaves out unused volumes, snapshots and pending changes', () => {
    const world = makeWorld();
    world.vm(100, {
      ...{ name: 'web', cores: 2, net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0,rate=5', tags: 'a' },
      ...{ scsi0: 'ceph:8', scsi1: 'fast:1', efidisk0: 'fast:1', ide2: 'shared:iso/debian-13.iso,media=cdrom' },
      ...{ sata0: 'fast:cloudinit' },
    });
    world.call('PUT', `${qemu}/config`, { vmid: 100, delete: 'scsi1' });
    world.task('POST', `${qemu}/snapshot`, { vmid: 100, snapname: 'one' });
    world.cluster.guests.get(100)?.pending.set('cores', { value: '8' });

    expect(clone(world, 200, { pool: 'alice', description: 'a copy' })).toBe('OK');
    const config = world.config(200);
    expect(config).toMatchObject({
      ...{ name: 'Copy-of-VM-web', cores: '2', tags: 'a', description: 'a copy' },
      ...{ scsi0: 'ceph:vm-200-disk-0,size=8G', efidisk0: 'fast:vm-200-disk-0,size=4M' },
      ...{ ide2: 'shared:iso/debian-13.iso,media=cdrom,size=784M', sata0: 'fast:vm-200-cloudinit,media=cdrom' },
    });
    for (const key of ['scsi1', 'unused0', 'parent', 'lock']) expect(config).not.toHaveProperty(key);
    expect(config.net0).toMatch(/^virtio=BC:24:11:.*,bridge=vmbr0,rate=5$/);
    expect(config.net0).not.toBe(world.config(100).net0);
    expect(config.smbios1).not.toBe(world.config(100).smbios1);
    expect(config.meta).toBe(world.config(100).meta);
    expect(world.cluster.poolOf(200)).toBe('alice');
    expect(world.cluster.tasks.list()[0]).toMatchObject({ type: 'qmclone', id: '100' });
  });

  test('goes to another storage as a whole, and from a snapshot when told to', () => {
    const world = makeWorld();
    world.vm(100, { cores: 8, scsi0: 'ceph:4' });
    world.task('POST', `${qemu}/snapshot`, { vmid: 100, snapname: 'big' });
    world.call('PUT', `${qemu}/config`, { vmid: 100, cores: 1 });
    expect(clone(world, 200, { storage: 'fast', snapname: 'big', name: 'copy' })).toBe('OK');
    expect(world.config(200)).toMatchObject({ cores: '8', name: 'copy', scsi0: 'fast:vm-200-disk-0,size=4G' });
  });

  test('takes the new vmid only when its task runs', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    world.cluster.tasks.pace = 'by hand';
    const [first = '', second = ''] = [1, 2].map(() =>
      world.call<string>('POST', `${qemu}/clone`, { vmid: 100, newid: 200 }),
    );
    expect(world.cluster.guests.has(200)).toBe(false);
    world.cluster.tasks.finishAll();
    expect(world.cluster.tasks.get(first)?.exitstatus).toBe('OK');
    expect(world.cluster.tasks.get(second)?.exitstatus).toMatch(/unable to create VM 200/);
    expect(volumes(world, 200)).toHaveLength(1);
    expect(() => world.call('POST', `${qemu}/clone`, { vmid: 100, newid: 200 })).toThrow('config file already exists');
  });

  test('lands on another node when all is shared', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    expect(clone(world, 200, { target: 'n2' })).toBe('OK');
    expect(world.cluster.guests.get(200)?.node).toBe('n2');
    expect(() => clone(world, 201, { target: 'n2', storage: 'fast' })).toThrow("can't clone to node 'n2'");
    expect(clone(world, 202, { target: 'localhost' })).toBe('OK');
    expect(world.cluster.guests.get(202)?.node).toBe('n1');
  });

  test('that fails leaves nothing behind', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', scsi1: 'ceph:1' });
    expect(clone(world, 200, { storage: 'local' })).toBe('OK');
    const local = world.cluster.storages.get('local');
    if (local !== undefined) world.cluster.storages.set('local', { ...local, content: ['iso'] });
    expect(clone(world, 201, { storage: 'local' })).toMatch(/^clone failed: /);
    expect(holdings(world.cluster, 201)).toMatchObject({ exists: false, volumes: [] });
  });

  test('needs rights on both vmids and on every storage, and no device of the host', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', pool: 'alice' });
    const own = (param: object) => clone(world, 200, param, alice);
    expect(() => own({})).toThrow('/vms/100, VM.Clone');
    world.cluster.access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'PVEVMAdmin');
    expect(() => own({})).toThrow('Permission check failed');
    expect(() => own({ pool: 'alice' })).toThrow('/storage/ceph, Datastore.AllocateSpace');
    world.cluster.access.setAcl('/storage', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    expect(own({ pool: 'alice' })).toBe('OK');
    setConfig(world.cluster, 100, { hostpci0: '0000:41:00' });
    expect(() => clone(world, 201)).toThrow("only root can set 'hostpci0' config for non-mapped devices");
    setConfig(world.cluster, 100, { hostpci0: 'mapping=gpu-a' });
    expect(clone(world, 201)).toBe('OK');
    expect(world.config(201).hostpci0).toBe('mapping=gpu-a');
    expect(() => clone(world, 202, { pool: 'alice' }, alice)).toThrow('/mapping/pci/gpu-a, Mapping.Use');
  });
});

describe('a template', () => {
  test('has base volumes, cannot start, and cannot be made of a VM with snapshots', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:2', scsi1: 'shared:1' });
    world.task('POST', `${qemu}/snapshot`, { vmid: 100, snapname: 'one' });
    const make = () => world.task('POST', `${qemu}/template`, { vmid: 100 });
    world.cluster.guests.get(100)?.snapshots.set('one', { name: 'one', config: new Map(), snaptime: 0 });
    expect(make).toThrow('contains snapshots');
    world.task('DELETE', `${qemu}/snapshot/{snapname}`, { vmid: 100, snapname: 'one' });
    expect(make()).toBe('OK');
    expect(world.config(100)).toMatchObject({
      template: '1',
      scsi0: 'ceph:base-100-disk-0,size=2G',
      scsi1: 'shared:100/base-100-disk-0.raw,size=1G',
    });
    expect(make).toThrow("can't convert a template to a template");
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 })).toMatch(/template/);
  });

  test('is not needed for links to a snapshot, where the storage can make those', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:2' });
    world.task('POST', `${qemu}/snapshot`, { vmid: 100, snapname: 'one' });
    expect(clone(world, 200, { full: 0, snapname: 'one' })).toBe('OK');
    expect(volumes(world, 200)).toEqual([['ceph:vm-200-disk-0', 2 * GiB]]);
    world.vm(101, { scsi0: 'tank:1' });
    world.task('POST', `${qemu}/snapshot`, { vmid: 101, snapname: 'one' });
    const link = { vmid: 101, newid: 201, full: 0, snapname: 'one' };
    expect(() => world.call('POST', `${qemu}/clone`, link)).toThrow('Linked clone feature is not supported');
  });

  test('is cloned as links that show the whole size and keep it from being destroyed', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:2', scsi1: 'shared:1' });
    expect(() => clone(world, 200, { full: 0 })).toThrow("Linked clone feature is not supported for drive 'scsi0'");
    world.task('POST', `${qemu}/template`, { vmid: 100 });
    expect(() => clone(world, 200, { storage: 'fast' })).toThrow("'storage' not allowed for linked clones");
    expect(clone(world, 200)).toBe('OK');
    expect(volumes(world, 200)).toEqual([
      ['ceph:base-100-disk-0/vm-200-disk-0', 2 * GiB],
      ['shared:100/base-100-disk-0.raw/200/vm-200-disk-0.raw', GiB],
    ]);
    expect(world.config(200)).not.toHaveProperty('template');
    expect(() => world.call('DELETE', qemu, { vmid: 100 })).toThrow('still in use by linked clone');
    expect(clone(world, 201, { full: 1, storage: 'fast' })).toBe('OK');
    expect(volumes(world, 201)).toEqual([
      ['fast:vm-201-disk-0', 2 * GiB],
      ['fast:vm-201-disk-1', GiB],
    ]);
    world.task('DELETE', qemu, { vmid: 200 });
    expect(world.task('DELETE', qemu, { vmid: 100 })).toBe('OK');
  });

  test('of a container is made without its task being named', () => {
    const world = makeWorld();
    world.container(100, { mp0: 'tank:1,mp=/x' });
    expect(world.call('POST', `${lxc}/template`, { vmid: 100 })).toBeNull();
    expect(world.config(100)).toMatchObject({
      template: '1',
      rootfs: 'ceph:base-100-disk-0,size=4G',
      mp0: 'tank:basevol-100-disk-0,mp=/x,size=1G',
    });
    expect(world.task('POST', `${lxc}/clone`, { vmid: 100, newid: 200 })).toBe('OK');
    expect(world.config(200).mp0).toBe('tank:basevol-100-disk-0/subvol-200-disk-0,mp=/x,size=1G');
  });
});

describe('a clone of a container', () => {
  test('takes the new vmid before the answer, and locks its source', () => {
    const world = makeWorld();
    world.container(100, { hostname: 'tools', net0: 'name=eth0,bridge=vmbr0' });
    world.cluster.tasks.pace = 'by hand';
    const upid = world.call<string>('POST', `${lxc}/clone`, { vmid: 100, newid: 200, hostname: 'copy', pool: 'alice' });
    expect(world.config(200)).toEqual({ lock: 'create' });
    expect(() => world.call('PUT', `${lxc}/config`, { vmid: 100, cores: 1 })).toThrow('CT is locked (disk)');
    world.cluster.tasks.finish(upid);
    expect(world.config(200)).toMatchObject({ hostname: 'copy', rootfs: 'ceph:vm-200-disk-0,size=4G' });
    expect(world.config(200).net0).not.toBe(world.config(100).net0);
    expect(world.cluster.poolOf(200)).toBe('alice');

    const other = world.call<string>('POST', `${lxc}/clone`, { vmid: 100, newid: 201 });
    world.cluster.tasks.stop(other);
    expect(world.cluster.guests.has(201)).toBe(false);
    expect(world.config(100)).not.toHaveProperty('lock');
  });

  test('that runs needs a snapshot to copy from, and one with directories of the host cannot be copied', () => {
    const world = makeWorld();
    world.container(100, { start: 1 });
    const copy = (param: object = {}) => world.task('POST', `${lxc}/clone`, { vmid: 100, newid: 200, ...param });
    expect(() => copy()).toThrow('running container without snapshots');
    world.task('POST', `${lxc}/snapshot`, { vmid: 100, snapname: 'one' });
    expect(copy({ snapname: 'one' })).toBe('OK');
    setConfig(world.cluster, 100, { mp0: '/srv,mp=/srv' });
    expect(() => copy({ newid: 201 })).toThrow('type bind');
  });
});

describe('migrating', () => {
  const move = (world: World, param: object = {}) =>
    world.task('POST', `${qemu}/migrate`, { vmid: 100, target: 'n2', ...param }, { caller: proxy });

  test('changes the node, and carries local volumes along in every configuration', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', scsi1: 'fast:2', scsi2: 'fast:3' });
    world.call('PUT', `${qemu}/config`, { vmid: 100, delete: 'scsi2' });
    world.task('POST', `${qemu}/snapshot`, { vmid: 100, snapname: 'one' });
    addGuest(world.cluster, { vmid: 100_000, node: 'n2', config: { scsi0: 'fast:vm-100-disk-0,size=1G' } });
    expect(move(world)).toBe('OK');
    const guest = world.cluster.guests.get(100);
    expect(guest?.node).toBe('n2');
    expect(world.config(100)).toMatchObject({
      ...{ scsi0: 'ceph:vm-100-disk-0,size=1G', scsi1: 'fast:vm-100-disk-1,size=2G' },
      unused0: 'fast:vm-100-disk-2',
    });
    expect(guest?.snapshots.get('one')?.config.get('scsi1')).toBe('fast:vm-100-disk-1,size=2G');
    expect(() => world.call('GET', `${qemu}/config`, { vmid: 100 })).toThrow('does not exist');
    expect(world.call('GET', `${qemu}/config`, { vmid: 100, node: 'n2' })).toHaveProperty('scsi0');
  });

  test('puts local volumes onto the storage that is said for theirs', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'fast:1', scsi1: 'tank:2' });
    expect(move(world, { targetstorage: 'fast:ceph,shared' })).toBe('OK');
    expect(volumes(world, 100)).toEqual([
      ['ceph:vm-100-disk-0', GiB],
      ['shared:100/vm-100-disk-0.raw', 2 * GiB],
    ]);
    expect(world.cluster.poolOf(100)).toBeUndefined();
  });

  test.each([
    [{ target: 'n1' }, 'Parameter verification failed.'],
    [{ target: 'n9' }, 'Parameter verification failed.'],
    [{ force: 1 }, 'Parameter verification failed.'],
    [{ migration_type: 'insecure' }, 'Parameter verification failed.'],
    [{ targetstorage: 'none' }, "storage 'none' does not exist"],
  ])('refuses a token %o', (param, reason) => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'fast:1' });
    expect(() => move(world, param)).toThrow(reason);
  });

  test('fails in the task when the target lacks a storage, and for local discs and devices', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'tank:1' });
    expect(move(world, { target: 'n3' })).toBe("storage 'tank' is not available on node 'n3'");
    setConfig(world.cluster, 100, { scsi0: null, hostpci0: '0000:41:00' });
    expect(move(world)).toBe("can't migrate VM which uses local devices: hostpci0");
    addVolume(world.cluster, { volid: 'local:iso/x.iso', content: 'iso', bytes: GiB });
    setConfig(world.cluster, 100, { hostpci0: null, ide2: 'local:iso/x.iso,media=cdrom' });
    expect(move(world)).toBe("can't migrate local volume 'local:iso/x.iso'");
    expect(world.cluster.guests.get(100)?.node).toBe('n1');
    expect(world.config(100)).not.toHaveProperty('lock');
  });

  test('needs the mapped devices of a VM on the target, and a VM that has them stopped', () => {
    const world = makeWorld();
    world.vm(100, { hostpci0: 'mapping=gpu-a' });
    expect(move(world)).toBe("can't migrate to 'n2': missing mapped devices hostpci0");
    addPciMapping(world.cluster, 'gpu-a', [
      'id=10de:1eb8,node=n1,path=0000:41:00',
      'id=8086:1572,node=n2,path=0000:03:00.0',
    ]);
    world.task('POST', `${qemu}/status/start`, { vmid: 100 });
    expect(move(world, { online: 1 })).toBe("can't migrate running VM which uses mapped devices: hostpci0");
    world.task('POST', `${qemu}/status/stop`, { vmid: 100 });
    expect(move(world)).toBe('OK');
    world.task('POST', `${qemu}/status/start`, { vmid: 100, node: 'n2' });
    expect(world.cluster.guests.get(100)?.devices).toEqual(['0000:03:00.0']);
  });

  test('of a guest that runs has to be asked for', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'fast:1', start: 1 });
    expect(() => move(world)).toThrow('without --online');
    expect(move(world, { online: 1 })).toMatch(/with-local-disks/);
    expect(move(world, { online: 1, 'with-local-disks': 1 })).toBe('OK');
    expect(world.cluster.guests.get(100)?.status).toBe('running');

    world.container(101, { start: 1 });
    const carry = (param: object) => world.task('POST', `${lxc}/migrate`, { vmid: 101, target: 'n2', ...param });
    expect(() => carry({})).toThrow('without --online or --restart');
    expect(carry({ online: 1 })).toMatch(/not implemented/);
    expect(carry({ restart: 1 })).toBe('OK');
    expect(world.cluster.guests.get(101)).toMatchObject({ node: 'n2', status: 'running' });
  });

  test('needs its privilege, and more to choose a storage', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'fast:1', pool: 'alice' });
    const own = (param: object = {}) =>
      world.call('POST', `${qemu}/migrate`, { vmid: 100, target: 'n2', ...param }, { caller: alice });
    expect(() => own()).toThrow('/vms/100, VM.Migrate');
    world.cluster.access.addRole('Mover', ['VM.Migrate', 'VM.Config.Disk']);
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'Mover');
    expect(() => own({ targetstorage: 'ceph' })).toThrow('/storage/ceph, Datastore.AllocateSpace');
    own();
    expect(world.cluster.guests.get(100)?.node).toBe('n2');
  });
});
