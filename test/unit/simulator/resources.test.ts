import { describe, expect, test } from 'vitest';
import { Access } from '../../../simulator/access.ts';
import { addGuest, addVolume, holdings } from '../../../simulator/administrator.ts';
import { Cluster } from '../../../simulator/cluster.ts';
import { seedDemo } from '../../../simulator/seed.ts';
import { GiB } from '../../../simulator/sizes.ts';
import { Tasks } from '../../../simulator/tasks.ts';
import { alice, makeWorld, proxy, qemu } from './world.ts';

const content = '/nodes/{node}/storage/{storage}/content';
type Rows = readonly Readonly<Record<string, unknown>>[];

describe('the content of a storage', () => {
  test('shows everything that bears a vmid, in a configuration or not', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    addVolume(world.cluster, { volid: 'ceph:vm-100-disk-7', content: 'images', bytes: GiB });
    addVolume(world.cluster, { volid: 'ceph:vm-101-disk-0', content: 'images', bytes: GiB });
    const rows = world.call<Rows>('GET', content, { storage: 'ceph', vmid: 100 });
    expect(rows.map(({ volid }) => volid)).toEqual(['ceph:vm-100-disk-0', 'ceph:vm-100-disk-7']);
    expect(rows[0]).toMatchObject({ format: 'raw', size: GiB, vmid: 100, content: 'images' });
  });

  test('is told apart by node on a local storage', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'fast:1' });
    expect(world.call<Rows>('GET', content, { storage: 'fast' })).toHaveLength(1);
    expect(world.call<Rows>('GET', content, { storage: 'fast', node: 'n2' })).toHaveLength(0);
    expect(() => world.call('GET', content, { storage: 'tank', node: 'n3' })).toThrow(
      "storage 'tank' is not available on node 'n3'",
    );
  });

  test('hides volumes that the caller may not use', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    world.cluster.access.setAcl('/storage', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    expect(world.call<Rows>('GET', content, { storage: 'ceph' }, { caller: alice })).toEqual([]);
    expect(world.call<Rows>('GET', content, { storage: 'shared', content: 'iso' }, { caller: alice })).toHaveLength(1);
    expect(world.call<Rows>('GET', content, { storage: 'ceph' }, { caller: proxy })).toHaveLength(1);
  });

  test.each([
    ['ceph', 'vm-555-disk-0', '1048576', 'ceph:vm-555-disk-0', GiB],
    ['ceph', 'vm-555-x', '2G', 'ceph:vm-555-x', 2 * GiB],
    ['shared', 'anything.qcow2', '1M', 'shared:555/anything.qcow2', 2 ** 20],
  ])('takes a new volume for a guest that does not exist: %s %s', (storage, filename, size, volid, bytes) => {
    const world = makeWorld();
    expect(world.call('POST', content, { storage, filename, size, vmid: 555 })).toBe(volid);
    expect(holdings(world.cluster, 555).volumes).toEqual([{ volid, storage, content: 'images', bytes }]);
  });

  test('is read volume by volume, with or without the storage in front', () => {
    const world = makeWorld();
    const read = (volume: string) => world.call('GET', `${content}/{volume}`, { storage: 'shared', volume });
    expect(read('import/big.qcow2')).toMatchObject({ size: 10 * GiB, path: '/mnt/pve/shared/import/big.qcow2' });
    expect(read('shared:import/big.qcow2')).toEqual(read('import/big.qcow2'));
    expect(() => read('ceph:vm-1-disk-0')).toThrow('Parameter verification failed.');
  });

  test('loses a deleted volume while configurations go on naming it', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1' });
    const one = { storage: 'ceph', volume: 'vm-100-disk-0' };
    expect(world.call('DELETE', `${content}/{volume}`, { ...one, delay: 5 }, { caller: proxy })).toBeNull();
    expect(world.cluster.tasks.list()[0]?.id).toBe('100@ceph');
    expect(world.config(100).scsi0).toBe('ceph:vm-100-disk-0,size=1G');
    expect(holdings(world.cluster, 100).volumes).toEqual([]);
  });

  test('keeps a protected backup', () => {
    const world = makeWorld();
    const volume = 'backup/vzdump-qemu-100-2025_11_22-00_00_00.vma.zst';
    addVolume(world.cluster, { volid: `shared:${volume}`, content: 'backup', bytes: GiB });
    const one = { storage: 'shared', volume };
    world.call('PUT', `${content}/{volume}`, { ...one, protected: 1, notes: 'keep' });
    expect(world.task('DELETE', `${content}/{volume}`, one)).toMatch(/protected/);
    expect(world.call<Rows>('GET', content, { storage: 'shared', content: 'backup' })[0]).toMatchObject({
      vmid: 100,
      notes: 'keep',
      protected: 1,
    });
  });

  test('gives freed disk numbers out again', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:1', scsi1: 'ceph:1' });
    world.call('PUT', `${qemu}/config`, { vmid: 100, delete: 'scsi0', force: 1 });
    world.call('PUT', `${qemu}/config`, { vmid: 100, scsi2: 'ceph:1', scsi3: 'ceph:1' });
    expect(world.config(100)).toMatchObject({
      scsi1: 'ceph:vm-100-disk-1,size=1G',
      scsi2: 'ceph:vm-100-disk-0,size=1G',
      scsi3: 'ceph:vm-100-disk-2,size=1G',
    });
  });
});

describe('what there is in the cluster', () => {
  test('is filtered by what the caller may audit', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    world.vm(200);
    const seen = (param = {}) => world.call<Rows>('GET', '/cluster/resources', param, { caller: alice });
    expect(seen({ type: 'vm' }).map(({ id }) => id)).toEqual(['qemu/100']);
    expect(seen({ type: 'storage' })).toEqual([]);
    expect(seen({ type: 'node' })).toEqual(
      ['n1', 'n2', 'n3'].map((node) => ({ id: `node/${node}`, type: 'node', node, status: 'online' })),
    );
    expect(world.call<Rows>('GET', '/cluster/resources', {}, { caller: proxy }).map(({ type }) => type)).toEqual(
      expect.arrayContaining(['qemu', 'node', 'storage', 'pool']),
    );
  });

  test('says little about a guest that is being made, and clamps the cores of a VM', () => {
    const world = makeWorld('by hand');
    const upid = world.call<string>('POST', '/nodes/{node}/qemu', { vmid: 100, cores: 64, scsi0: 'ceph:2,ssd=1' });
    const row = () => world.call<Rows>('GET', '/cluster/resources', { type: 'vm' })[0];
    expect(row()).toEqual({ id: 'qemu/100', type: 'qemu', vmid: 100, node: 'n1', status: 'unknown', lock: 'create' });
    world.cluster.tasks.finish(upid);
    expect(row()).toMatchObject({ status: 'stopped', maxcpu: 16, maxmem: 512 * 2 ** 20, maxdisk: 2 * GiB });
  });

  test('names the lowest free vmid, and refuses one that is taken', () => {
    const world = makeWorld();
    world.vm(100);
    addGuest(world.cluster, { vmid: 101, type: 'lxc' });
    expect(world.call('GET', '/cluster/nextid')).toBe('102');
    expect(world.call('GET', '/cluster/nextid', { vmid: 500 })).toBe('500');
    expect(() => world.call('GET', '/cluster/nextid', { vmid: 101 })).toThrow(
      expect.objectContaining({ status: 400, errors: { vmid: 'CT 101 already exists' } }),
    );
  });

  test('hides bridges among the devices of a node', () => {
    const world = makeWorld();
    const classes = (param = {}) =>
      world.call<Rows>('GET', '/nodes/{node}/hardware/pci', param).map((device) => String(device.class).slice(0, 4));
    expect(classes()).toEqual(['0x02', '0x02', '0x03', '0x04', '0x03', '0x04']);
    expect(classes({ 'pci-class-blacklist': '02;04' })).toEqual(['0x06', '0x03', '0x03']);
  });
});

describe('a pool', () => {
  test('shows its members to anyone who asks by parameter, and to auditors only by path', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    world.cluster.access.addUser('eve@pve');
    const eve = { caller: { user: 'eve@pve' } };
    expect(world.call('GET', '/pools', {}, eve)).toEqual([]);
    expect(world.call('GET', '/pools', { poolid: 'alice' }, eve)).toMatchObject([{ members: [{ vmid: 100 }] }]);
    expect(() => world.call('GET', '/pools/{poolid}', { poolid: 'alice' }, eve)).toThrow('/pool/alice');
  });

  test('takes a guest from another only when told to, and must be empty to go', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    world.call('POST', '/pools', { poolid: 'lab' });
    expect(() => world.call('PUT', '/pools', { poolid: 'lab', vms: '100' })).toThrow("belongs already to pool 'alice'");
    world.call('PUT', '/pools', { poolid: 'lab', vms: '100', 'allow-move': 1 });
    expect(world.cluster.poolOf(100)).toBe('lab');
    expect(world.cluster.pools.get('alice')?.vms.size).toBe(0);
    expect(() => world.call('DELETE', '/pools', { poolid: 'lab' })).toThrow('not empty');
  });
});

test('of ten thousand guests every tenth is in no pool', () => {
  const cluster = new Cluster(new Access(), new Tasks());
  seedDemo(cluster, { guests: 10_000 });
  expect(cluster.guests.size).toBe(10_000);
  expect(cluster.poolOf(1009)).toBeUndefined();
  expect(cluster.poolOf(1010)).toBe('team-1');
});
