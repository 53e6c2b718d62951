import { describe, expect, test } from 'vitest';
import { holdings } from '../../../simulator/administrator.ts';
import { digestOf } from '../../../simulator/guests.ts';
import { GiB, MiB } from '../../../simulator/sizes.ts';
import { alice, lxc, makeWorld, qemu, type World } from './world.ts';

type Rows = readonly Readonly<Record<string, unknown>>[];
const take = (world: World, snapname: string, param: object = {}) =>
  world.task('POST', `${qemu}/snapshot`, { vmid: 100, snapname, ...param });
const back = (world: World, snapname: string, param: object = {}) =>
  world.task('POST', `${qemu}/snapshot/{snapname}/rollback`, { vmid: 100, snapname, ...param });
const drop = (world: World, snapname: string) =>
  world.task('DELETE', `${qemu}/snapshot/{snapname}`, { vmid: 100, snapname });
const put = (world: World, param: object) => world.call('PUT', `${qemu}/config`, { vmid: 100, ...param });
const volids = (world: World) => holdings(world.cluster, 100).volumes.map(({ volid, bytes }) => [volid, bytes]);

describe('a snapshot', () => {
  test('is a copy of the configuration without unused volumes and description', () => {
    const world = makeWorld();
    world.vm(100, { cores: 2, scsi0: 'ceph:1', scsi1: 'ceph:1', description: 'mine' });
    put(world, { delete: 'scsi1' });
    expect(take(world, 'first', { description: 'before the change' })).toBe('OK');
    expect(take(world, 'second')).toBe('OK');
    const section = world.call('GET', `${qemu}/snapshot/{snapname}/config`, { vmid: 100, snapname: 'second' });
    expect(section).toMatchObject({
      cores: 2,
      scsi0: 'ceph:vm-100-disk-0,size=1G',
      parent: 'first',
      snaptime: 1_763_784_000,
    });
    expect(section).not.toHaveProperty('unused0');
    expect(section).not.toHaveProperty('description');
    expect(world.call<Rows>('GET', `${qemu}/snapshot`, { vmid: 100 })).toMatchObject([
      { name: 'first', description: 'before the change', vmstate: 0 },
      { name: 'second', parent: 'first' },
      { name: 'current', parent: 'second', running: 0 },
    ]);
  });

  test('with the memory of a running VM takes a volume of twice the RAM and 500 MiB', () => {
    const world = makeWorld();
    world.vm(100, { memory: '2048', scsi0: 'fast:1', start: 1 });
    expect(take(world, 'live', { vmstate: 1 })).toBe('OK');
    expect(volids(world)).toContainEqual(['fast:vm-100-state-live', 4596 * MiB]);
    expect(world.config(100)).not.toHaveProperty('vmstate');
    world.task('POST', `${qemu}/status/stop`, { vmid: 100 });
    expect(take(world, 'dead', { vmstate: 1 })).toBe('OK');
    expect(volids(world)).toHaveLength(2);
  });

  test('locks the guest while it is taken, and changes its digest', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    const guest = world.cluster.guests.get(100);
    const before = guest && digestOf(guest);
    world.cluster.tasks.pace = 'by hand';
    const upid = world.call<string>('POST', `${qemu}/snapshot`, { vmid: 100, snapname: 'one' });
    expect(() => put(world, { cores: 2 })).toThrow('VM is locked (snapshot)');
    world.cluster.tasks.finish(upid);
    put(world, { name: 'free' });
    expect(guest && digestOf(guest)).not.toBe(before);
  });

  test('is refused in the task: of a name in use, of a template, on a storage that cannot', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    take(world, 'one');
    expect(take(world, 'one')).toBe("snapshot name 'one' already used");
    expect(() => take(world, 'current')).toThrow('reserved name');
    world.vm(101, { scsi0: 'shared:1' });
    const other = { vmid: 101, snapname: 'one' };
    expect(world.task('POST', `${qemu}/snapshot`, other)).toBe('snapshot feature is not available');
    world.vm(102, { scsi0: 'shared:1,format=qcow2' });
    expect(world.task('POST', `${qemu}/snapshot`, { ...other, vmid: 102 })).toBe('OK');
  });

  test('takes the full size of each disk once more where a storage makes chains of volumes', () => {
    const world = makeWorld();
    const { cluster } = world;
    const san = { storage: 'san', type: 'lvm', content: ['images'], shared: true, volumeChain: true };
    cluster.storages.set('san', { ...san, total: 1024 * GiB });
    world.vm(100, { scsi0: 'san:8' });
    expect(take(world, 'one')).toBe('OK');
    const bytes = () => holdings(cluster, 100).volumes.map((volume) => volume.bytes);
    expect(bytes()).toEqual([8 * GiB, 8 * GiB]);
    const listed = world.call<Rows>('GET', '/nodes/{node}/storage/{storage}/content', { storage: 'san' });
    expect(listed).toMatchObject([{ volid: 'san:vm-100-disk-0.qcow2', format: 'qcow2' }]);
    world.task('DELETE', `${qemu}/snapshot/{snapname}`, { vmid: 100, snapname: 'one' });
    expect(bytes()).toEqual([8 * GiB]);
    take(world, 'two');
    world.task('DELETE', qemu, { vmid: 100 });
    expect(bytes()).toEqual([]);
  });

  test('can be described anew', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    take(world, 'one', { description: 'old' });
    world.call('PUT', `${qemu}/snapshot/{snapname}/config`, { vmid: 100, snapname: 'one', description: 'new' });
    expect(world.call<Rows>('GET', `${qemu}/snapshot`, { vmid: 100 })[0]).toMatchObject({ description: 'new' });
  });

  test('needs its own privilege', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    const one = { vmid: 100, snapname: 'one' };
    expect(() => world.call('POST', `${qemu}/snapshot`, one, { caller: alice })).toThrow('/vms/100, VM.Snapshot');
    expect(() => world.call('POST', `${qemu}/snapshot/{snapname}/rollback`, one, { caller: alice })).toThrow(
      'VM.Snapshot|VM.Snapshot.Rollback',
    );
  });
});

describe('going back', () => {
  test('brings the configuration back, drops what is pending and keeps newer volumes as unused', () => {
    const world = makeWorld();
    world.vm(100, { cores: 8, memory: '4096', scsi0: 'ceph:1', description: 'then' });
    take(world, 'big');
    put(world, { cores: 1, scsi1: 'ceph:2', description: 'now' });
    world.task('POST', `${qemu}/status/start`, { vmid: 100 });
    put(world, { cores: 2 });
    expect(holdings(world.cluster, 100).pending).toHaveProperty('cores');

    expect(back(world, 'big')).toBe('OK');
    expect(holdings(world.cluster, 100).pending).toEqual({});
    expect(world.config(100)).toMatchObject({
      ...{ cores: '8', memory: '4096', description: 'now', parent: 'big' },
      ...{ scsi0: 'ceph:vm-100-disk-0,size=1G', unused0: 'ceph:vm-100-disk-1' },
    });
    expect(world.config(100)).not.toHaveProperty('scsi1');
    expect(world.cluster.guests.get(100)?.status).toBe('stopped');
  });

  test('takes a volume out of the unused ones that is in use again', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    take(world, 'one');
    put(world, { delete: 'scsi0' });
    expect(world.config(100).unused0).toBe('ceph:vm-100-disk-0');
    back(world, 'one');
    expect(world.config(100)).not.toHaveProperty('unused0');
  });

  test('to saved memory starts the VM, and so does asking for it', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', start: 1 });
    take(world, 'live', { vmstate: 1 });
    take(world, 'dead');
    world.task('POST', `${qemu}/status/stop`, { vmid: 100 });
    back(world, 'dead');
    expect(world.cluster.guests.get(100)?.status).toBe('stopped');
    back(world, 'live');
    expect(world.cluster.guests.get(100)?.status).toBe('running');
    expect(world.config(100)).not.toHaveProperty('vmstate');
    back(world, 'dead', { start: 1 });
    expect(world.cluster.guests.get(100)?.status).toBe('running');
  });

  test('to what does not exist fails in the task', () => {
    const world = makeWorld();
    world.vm(100);
    expect(back(world, 'none')).toBe("snapshot 'none' does not exist");
    expect(world.config(100)).not.toHaveProperty('lock');
  });
});

describe('giving up a snapshot', () => {
  test('frees its memory, keeps disks that only it had as unused, and closes the row of parents', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', scsi1: 'ceph:2', start: 1 });
    take(world, 'one', { vmstate: 1 });
    put(world, { delete: 'scsi1' });
    put(world, { name: 'x' });
    take(world, 'two');
    world.cluster.guests.get(100)?.config.delete('unused0');

    expect(drop(world, 'one')).toBe('OK');
    expect(world.config(100)).toMatchObject({ unused0: 'ceph:vm-100-disk-1', parent: 'two' });
    expect(volids(world)).toEqual([
      ['ceph:vm-100-disk-0', GiB],
      ['ceph:vm-100-disk-1', 2 * GiB],
    ]);
    expect(world.cluster.guests.get(100)?.snapshots.get('two')?.parent).toBeUndefined();
    expect(drop(world, 'two')).toBe('OK');
    expect(world.config(100)).not.toHaveProperty('parent');
  });

  test('is the same for containers, which have no memory to save', () => {
    const world = makeWorld();
    world.container(100, { mp0: 'ceph:1,mp=/x' });
    const one = { vmid: 100, snapname: 'one' };
    expect(world.task('POST', `${lxc}/snapshot`, one)).toBe('OK');
    expect(() => world.call('POST', `${lxc}/snapshot`, { ...one, vmstate: 1 })).toThrow(
      'Parameter verification failed.',
    );
    world.call('PUT', `${lxc}/config`, { vmid: 100, delete: 'mp0', cores: 4 });
    expect(world.task('POST', `${lxc}/snapshot/{snapname}/rollback`, one)).toBe('OK');
    expect(world.config(100)).toMatchObject({ mp0: 'ceph:vm-100-disk-1,mp=/x,size=1G' });
    expect(world.config(100)).not.toHaveProperty('cores');
    expect(world.task('DELETE', `${lxc}/snapshot/{snapname}`, one)).toBe('OK');
    expect(
      world.cluster.tasks
        .list()
        .map(({ type }) => type)
        .slice(0, 3),
    ).toEqual(['vzdelsnapshot', 'vzrollback', 'vzsnapshot']);
  });
});
