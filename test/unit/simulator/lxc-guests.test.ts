import { describe, expect, test } from 'vitest';
import { addVolume, holdings, resizeVolume, setConfig } from '../../../simulator/administrator.ts';
import { GiB, MiB } from '../../../simulator/sizes.ts';
import { alice, lxc, makeWorld, proxy, template, type World } from './world.ts';

const list = '/nodes/{node}/lxc';
const put = (world: World, vmid: number, param: Readonly<Record<string, unknown>>) =>
  world.call('PUT', `${lxc}/config`, { vmid, ...param });
const volumes = (world: World, vmid: number) =>
  holdings(world.cluster, vmid).volumes.map(({ volid, bytes }) => [volid, bytes]);

describe('creating a container', () => {
  test('fills in what PVE fills in', () => {
    const world = makeWorld();
    world.container(100, { rootfs: 'ceph:8', mp0: 'tank:1,mp=/data,backup=1', net0: 'name=eth0,bridge=vmbr0' });
    expect(world.config(100)).toEqual({
      arch: 'amd64',
      hostname: 'CT100',
      memory: '512',
      mp0: 'tank:subvol-100-disk-0,mp=/data,backup=1,size=1G',
      net0: expect.stringMatching(/^name=eth0,bridge=vmbr0,hwaddr=BC:24:11(:[0-9A-F]{2}){3},type=veth$/),
      ostype: 'debian',
      rootfs: 'ceph:vm-100-disk-0,size=8G',
      swap: '512',
      unprivileged: '1',
    });
  });

  test('puts the root file system on the default storage', () => {
    const world = makeWorld();
    world.container(100);
    world.container(101, { rootfs: '2', storage: 'fast' });
    expect(world.config(100).rootfs).toBe('ceph:vm-100-disk-0,size=4G');
    expect(world.config(101).rootfs).toBe('fast:vm-101-disk-0,size=2G');
  });

  test.each([
    ['local:0.0005', 'local:100/subvol-100-disk-0.subvol,mp=/x,size=0T', 0],
    ['tank:0', 'tank:subvol-100-disk-0,mp=/x,size=0T', 0],
    ['local:0.0015', 'local:100/vm-100-disk-0.raw,mp=/x,size=1M', MiB],
    ['fast:0.001', 'fast:vm-100-disk-0,mp=/x,size=1M', 4 * MiB],
  ])('rounds %s down to MiB, and what is nothing then has no limit', (volume, stored, bytes) => {
    const world = makeWorld();
    world.container(100, { rootfs: 'ceph:1', mp0: `${volume},mp=/x` });
    expect(world.config(100).mp0).toBe(stored);
    expect(volumes(world, 100)).toContainEqual([stored.split(',')[0], bytes]);
  });

  test('leaves nothing behind when it fails', () => {
    const world = makeWorld();
    const param = { vmid: 100, ostemplate: template, rootfs: 'ceph:1', mp0: 'ceph:0,mp=/x' };
    expect(world.task('POST', list, param)).toMatch(/^unable to create CT 100/);
    expect(holdings(world.cluster, 100)).toMatchObject({ exists: false, volumes: [] });
  });

  test.each([
    [{ unprivileged: 0 }, 'Permission check failed (/, Sys.Modify)'],
    [{ mp0: '/srv,mp=/x' }, 'mount point type bind is only allowed for root@pam'],
    [{ features: 'keyctl=1' }, 'changing feature flags (except nesting)'],
    [{ hookscript: 'local:snippets/x' }, 'only allowed for root@pam'],
    [{ dev0: '/dev/fuse' }, 'only allowed for root@pam'],
    [{ ostemplate: 'shared:vztmpl/none.tar.zst' }, "volume 'shared:vztmpl/none.tar.zst' does not exist"],
    [{ rootfs: 'shared:1' }, 'Parameter verification failed.'],
  ])('refuses a token %o', (param, reason) => {
    const world = makeWorld();
    const given = { vmid: 100, ostemplate: template, storage: 'ceph', ...param };
    expect(() => world.call('POST', list, given, { caller: proxy })).toThrow(reason);
  });

  test('allows nesting to who may allocate', () => {
    const world = makeWorld();
    const given = { vmid: 100, ostemplate: template, storage: 'ceph', features: 'nesting=1', pool: 'alice' };
    expect(world.task('POST', list, given, { caller: proxy })).toBe('OK');
    expect(world.call('GET', `${lxc}/config`, { vmid: 100 }, { caller: alice })).toMatchObject({
      memory: 512,
      features: 'nesting=1',
    });
  });
});

describe('writing the configuration of a container', () => {
  test('believes what is said about the size of the root file system, and measures mount points', () => {
    const world = makeWorld();
    world.container(100, { rootfs: 'ceph:8', mp0: 'ceph:2,mp=/x' });
    put(world, 100, { rootfs: 'ceph:vm-100-disk-0,size=1G', mp0: 'ceph:vm-100-disk-1,mp=/y,size=1G' });
    expect(world.config(100)).toMatchObject({
      rootfs: 'ceph:vm-100-disk-0,size=1G',
      mp0: 'ceph:vm-100-disk-1,mp=/y,size=2G',
    });
  });

  test('forgets the root file system that is replaced', () => {
    const world = makeWorld();
    world.container(100, { rootfs: 'ceph:8' });
    addVolume(world.cluster, { volid: 'ceph:vm-100-disk-5', content: 'rootdir', bytes: GiB });
    put(world, 100, { rootfs: 'ceph:vm-100-disk-5,size=1G' });
    expect(Object.values(world.config(100)).join()).not.toContain('disk-0');
    expect(volumes(world, 100)).toContainEqual(['ceph:vm-100-disk-0', 8 * GiB]);
  });

  test('keeps a deleted mount point as unused and frees it from there', () => {
    const world = makeWorld();
    world.container(100, { mp0: 'ceph:2,mp=/x' });
    put(world, 100, { delete: 'mp0' });
    expect(world.config(100)).toMatchObject({ unused0: 'ceph:vm-100-disk-1' });
    put(world, 100, { delete: 'unused0' });
    expect(volumes(world, 100)).toEqual([['ceph:vm-100-disk-0', 4 * GiB]]);
  });

  test('drops the entry of an unused volume that a snapshot has, and not the volume', () => {
    const world = makeWorld();
    world.container(100, { mp0: 'ceph:2,mp=/x' });
    const guest = world.cluster.guests.get(100);
    guest?.snapshots.set('before', { name: 'before', config: new Map(guest.config), snaptime: 0 });
    put(world, 100, { delete: 'mp0' });
    put(world, 100, { delete: 'unused0' });
    expect(world.config(100)).not.toHaveProperty('unused0');
    expect(volumes(world, 100)).toHaveLength(2);
  });

  test('takes cores, memory, nets and new mount points at once while it runs, and keeps all else as literal text', () => {
    const world = makeWorld();
    world.container(100, { start: 1, mp0: 'ceph:1,mp=/x' });
    put(world, 100, { cores: 2, memory: 1024, mp1: 'ceph:1,mp=/y', mp0: 'ceph:3,mp=/x', ostype: 'ubuntu' });
    expect(world.config(100)).toMatchObject({ cores: '2', memory: '1024', mp1: 'ceph:vm-100-disk-2,mp=/y,size=1G' });
    expect(holdings(world.cluster, 100).pending).toEqual({
      mp0: { value: 'ceph:3,mp=/x' },
      ostype: { value: 'ubuntu' },
    });

    world.task('POST', `${lxc}/status/reboot`, { vmid: 100 });
    expect(world.config(100)).toMatchObject({ mp0: 'ceph:vm-100-disk-3,mp=/x,size=3G', unused0: 'ceph:vm-100-disk-1' });
  });

  test.each([
    [{ delete: 'rootfs' }, "unable to delete required option 'rootfs'"],
    [{ delete: 'memory' }, "unable to delete required option 'memory'"],
    [{ unprivileged: 0 }, "unable to modify read-only option: 'unprivileged'"],
    [{ net0: 'bridge=vmbr0' }, 'Parameter verification failed.'],
    [{ mp0: 'ceph:1' }, 'Parameter verification failed.'],
    [{ mp256: 'ceph:1,mp=/x' }, 'Parameter verification failed.'],
    [{ cores: 0 }, 'Parameter verification failed.'],
    [{ cores: 1, digest: 'abc' }, 'detected modified configuration'],
  ])('refuses %o', (param, reason) => {
    const world = makeWorld();
    world.container(100);
    expect(() => put(world, 100, param)).toThrow(reason);
  });

  test('takes limits away again: without cores all of the host, with a negative rate less than nothing', () => {
    const world = makeWorld();
    world.container(100, { cores: 1, net0: 'name=eth0,rate=10' });
    put(world, 100, { delete: 'cores', net0: 'name=eth0,rate=-10' });
    expect(world.config(100)).not.toHaveProperty('cores');
    expect(world.config(100).net0).toContain('rate=-10');
    expect(world.call<{ cpus: number }>('GET', `${lxc}/status/current`, { vmid: 100 }).cpus).toBe(16);
  });

  test('is refused under a lock', () => {
    const world = makeWorld();
    world.container(100);
    setConfig(world.cluster, 100, { lock: 'backup' });
    expect(() => put(world, 100, { cores: 1 })).toThrow('CT is locked (backup)');
  });
});

describe('volumes of a container', () => {
  test('grow from their real size, and never to the size they have', () => {
    const world = makeWorld();
    world.container(100);
    const resize = (size: string) => world.task('PUT', `${lxc}/resize`, { vmid: 100, disk: 'rootfs', size });
    resizeVolume(world.cluster, 100, 'ceph:vm-100-disk-0', 6 * GiB);
    expect(() => resize('6G')).toThrow('disk is already at specified size');
    expect(() => resize('5G')).toThrow('unable to shrink disk size');
    expect(resize('+1G')).toBe('OK');
    expect(world.config(100).rootfs).toBe('ceph:vm-100-disk-0,size=7G');
  });

  test('move to another storage, doubled until the unused one goes', () => {
    const world = makeWorld();
    world.container(100);
    const move = { vmid: 100, volume: 'rootfs', storage: 'fast' };
    expect(world.task('POST', `${lxc}/move_volume`, move)).toBe('OK');
    expect(world.config(100)).toMatchObject({ rootfs: 'fast:vm-100-disk-0,size=4G', unused0: 'ceph:vm-100-disk-0' });
    world.task('POST', `${lxc}/status/start`, { vmid: 100 });
    expect(() => world.call('POST', `${lxc}/move_volume`, move)).toThrow('running container');
  });

  test('are handed over to another container, or to another key of the same', () => {
    const world = makeWorld();
    world.container(100, { mp0: 'ceph:2,mp=/x' });
    world.container(200);
    const give = { vmid: 100, volume: 'mp0', 'target-vmid': 200 };
    expect(world.task('POST', `${lxc}/move_volume`, give)).toBe('OK');
    expect(world.config(200)).toMatchObject({ mp0: 'ceph:vm-200-disk-1,mp=/x,size=2G' });
    expect(world.config(100)).not.toHaveProperty('mp0');
    const turn = { vmid: 200, volume: 'mp0', 'target-vmid': 200, 'target-volume': 'unused1' };
    expect(world.task('POST', `${lxc}/move_volume`, turn)).toBe('OK');
    expect(world.config(200)).toMatchObject({ unused1: 'ceph:vm-200-disk-2' });
  });
});

describe('destroying a container', () => {
  test('needs force while it runs', () => {
    const world = makeWorld();
    world.container(100, { start: 1 });
    expect(() => world.call('DELETE', lxc, { vmid: 100 })).toThrow('unable to destroy CT 100 - container is running');
    expect(world.task('DELETE', lxc, { vmid: 100, force: 1 })).toBe('OK');
    expect(holdings(world.cluster, 100)).toMatchObject({ exists: false, volumes: [] });
  });
});
