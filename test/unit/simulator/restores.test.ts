import { describe, expect, test } from 'vitest';
import { addBackup, addVolume, holdings, setConfig } from '../../../simulator/administrator.ts';
import { GiB, MiB } from '../../../simulator/sizes.ts';
import { alice, makeWorld, proxy, root, type World } from './world.ts';

const vms = '/nodes/{node}/qemu';
const containers = '/nodes/{node}/lxc';
const sizes = (world: World, vmid: number) =>
  holdings(world.cluster, vmid)
    .volumes.filter(({ content }) => content !== 'backup')
    .map(({ volid, bytes }) => [volid, bytes]);

const web = {
  ...{
    name: 'web',
    cores: 4,
    memory: '8192',
    boot: 'order=scsi0',
    smbios1: 'uuid=11111111-1111-4111-8111-111111111111',
  },
  ...{ net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0', scsi0: 'ceph:vm-100-disk-0,size=1G', meta: 'ctime=1700000000' },
};

describe('restoring a VM', () => {
  const restore = (world: World, archive: string, param: object = {}, caller = proxy) =>
    world.task('POST', vms, { vmid: 100, archive, ...param }, { caller });

  test('brings back its configuration, with what is given laid over it, on the storages of that day', () => {
    const world = makeWorld();
    const config = { ...web, lock: 'backup', unused0: 'ceph:vm-100-disk-9', ide2: 'none,media=cdrom' };
    const { volid } = addBackup(world.cluster, { vmid: 100, config });
    expect(restore(world, volid, { cores: 2, pool: 'alice', start: 1 })).toBe('OK');
    expect(world.config(100)).toMatchObject({
      ...web,
      cores: '2',
      ide2: 'none,media=cdrom',
      scsi0: 'ceph:vm-100-disk-0,size=1G',
    });
    expect(world.config(100)).not.toHaveProperty('lock');
    expect(world.config(100)).not.toHaveProperty('unused0');
    expect(world.cluster.poolOf(100)).toBe('alice');
    expect(world.cluster.guests.get(100)?.status).toBe('running');
    expect(world.cluster.tasks.list()[0]).toMatchObject({ type: 'qmrestore', id: '100' });
  });

  test('believes the header of the archive about sizes, not the text', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web, sizes: { scsi0: 64 * GiB } });
    expect(restore(world, volid, { storage: 'fast' })).toBe('OK');
    expect(world.config(100).scsi0).toBe('fast:vm-100-disk-0,size=64G');
    expect(sizes(world, 100)).toEqual([['fast:vm-100-disk-0', 64 * GiB]]);
  });

  test('gives back what was backed up: disks without backup are dropped, a cloud-init drive is made anew', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:2', scsi1: 'fast:3,backup=0', sata0: 'fast:cloudinit' });
    world.task('POST', '/nodes/{node}/vzdump', { vmid: '100', storage: 'shared' });
    const [{ volid = '' } = {}] = holdings(world.cluster, 100).volumes.filter(({ content }) => content === 'backup');
    expect(restore(world, volid, { vmid: 200 })).toBe('OK');
    expect(world.config(200)).toMatchObject({
      scsi0: 'ceph:vm-200-disk-0,size=2G',
      sata0: 'fast:vm-200-cloudinit,media=cdrom',
    });
    expect(world.config(200)).not.toHaveProperty('scsi1');
    expect(world.config(200).vmgenid).not.toBe(world.config(100).vmgenid);
    expect(world.config(200).smbios1).toBe(world.config(100).smbios1);
  });

  test('makes new addresses and identities only when they are to be unique', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web });
    expect(restore(world, volid, { unique: 1 })).toBe('OK');
    expect(world.config(100).net0).toMatch(/^virtio=BC:24:11:[0-9A-F:]{8},bridge=vmbr0$/);
    expect(world.config(100).net0).not.toBe(web.net0);
    expect(world.config(100).smbios1).not.toBe(web.smbios1);
  });

  test('in place of a VM needs force, frees the disks that come back and keeps the others as unused', () => {
    const world = makeWorld();
    world.vm(100, { scsi0: 'ceph:5', scsi1: 'ceph:6', pool: 'alice' });
    world.task('POST', `${vms}/{vmid}/snapshot`, { vmid: 100, snapname: 'before' });
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web });
    expect(() => restore(world, volid)).toThrow("unable to restore VM 100 - VM 100 already exists on node 'n1'");
    expect(restore(world, volid, { force: 1 })).toBe('OK');
    expect(world.config(100)).toMatchObject({
      cores: '4',
      scsi0: 'ceph:vm-100-disk-0,size=1G',
      unused0: 'ceph:vm-100-disk-1',
    });
    expect(world.cluster.guests.get(100)?.snapshots.size).toBe(0);
    expect(sizes(world, 100)).toEqual([
      ['ceph:vm-100-disk-1', 6 * GiB],
      ['ceph:vm-100-disk-0', GiB],
    ]);
    expect(world.cluster.poolOf(100)).toBe('alice');
  });

  test('adopts what an earlier guest of that vmid left behind', () => {
    const world = makeWorld();
    addVolume(world.cluster, { volid: 'fast:vm-100-disk-3', content: 'images', bytes: GiB });
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web });
    expect(restore(world, volid)).toBe('OK');
    expect(world.config(100).unused0).toBe('fast:vm-100-disk-3');
  });

  test('holds the vmid from the answer on', () => {
    const world = makeWorld('by hand');
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web });
    const upid = world.call<string>('POST', vms, { vmid: 100, archive: volid, pool: 'alice' });
    expect(world.config(100)).toEqual({ lock: 'create' });
    expect(world.cluster.poolOf(100)).toBeUndefined();
    expect(() => world.call('POST', vms, { vmid: 100, archive: volid, force: 1 })).toThrow('VM is locked (create)');
    world.cluster.tasks.finish(upid);
    expect(world.config(100)).toHaveProperty('name', 'web');
  });

  test('that fails leaves a configuration behind, and no volumes', () => {
    const world = makeWorld();
    const config = { ...web, scsi1: 'tank:vm-100-disk-0,size=1G' };
    const { volid } = addBackup(world.cluster, { vmid: 100, config, storage: 'shared' });
    const elsewhere = { vmid: 100, archive: volid, node: 'n3' };
    expect(world.task('POST', vms, elsewhere, { caller: proxy })).toMatch(/tank' is not available on node 'n3'/);
    expect(holdings(world.cluster, 100)).toMatchObject({ exists: true, config: {} });
    expect(sizes(world, 100)).toEqual([]);

    world.cluster.tasks.pace = 'by hand';
    world.cluster.tasks.stop(world.call<string>('POST', vms, { vmid: 101, archive: volid }));
    expect(holdings(world.cluster, 101)).toMatchObject({ exists: true, config: {} });
  });

  test('does not touch a VM that runs or is protected', () => {
    const world = makeWorld();
    world.vm(100, { start: 1, scsi0: 'ceph:1' });
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web });
    expect(restore(world, volid, { force: 1 })).toBe('unable to restore VM 100 - vm is running');
    world.task('POST', `${vms}/{vmid}/status/stop`, { vmid: 100 });
    setConfig(world.cluster, 100, { protection: 1 });
    expect(restore(world, volid, { force: 1 })).toMatch(/protection mode enabled/);
    expect(sizes(world, 100)).toEqual([['ceph:vm-100-disk-0', GiB]]);
  });

  test('of a template makes a template', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, config: { ...web, template: 1 } });
    expect(restore(world, volid)).toBe('OK');
    expect(world.config(100)).toMatchObject({ template: '1', scsi0: 'ceph:base-100-disk-0,size=1G' });
  });

  test.each([
    [{ scsi3: 'ceph:1' }, 'Parameter verification failed.'],
    [{ args: '-x' }, "only root can set 'args'"],
    [{ archive: 'shared:iso/debian-13.iso' }, 'is not a backup'],
    [{ archive: undefined, force: 1 }, 'Parameter verification failed.'],
  ])('refuses a token %o', (param, reason) => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, config: web });
    expect(() => restore(world, volid, param)).toThrow(reason);
    expect(world.cluster.guests.has(100)).toBe(false);
  });

  test('refuses in the task what only the archive shows: host devices, other guests, another kind of guest', () => {
    const world = makeWorld();
    const raw = addBackup(world.cluster, { vmid: 100, config: { ...web, hostpci0: '0000:41:00' } });
    const mapped = addBackup(world.cluster, { vmid: 101, config: { ...web, hostpci0: 'mapping=gpu-a' } });
    const container = addBackup(world.cluster, { vmid: 102, type: 'lxc', config: { rootfs: 'ceph:x,size=1G' } });
    expect(restore(world, raw.volid)).toMatch(/only root can set 'hostpci0'/);
    expect(restore(world, mapped.volid, { vmid: 101 })).toBe('OK');
    expect(restore(world, container.volid, { vmid: 102 })).toMatch(/no backup of a VM/);
    expect(restore(world, raw.volid, { vmid: 103, 'live-restore': 1 }, root)).toMatch(/Proxmox Backup Server/);
    expect(restore(world, raw.volid, { vmid: 104 }, root)).toBe('OK');
  });

  test('over a VM is for those who may back it up, a new one for those who may allocate', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    const { volid } = addBackup(world.cluster, { vmid: 100, config: { cores: 1 } });
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMUser');
    expect(() => restore(world, volid, { vmid: 200 }, alice)).toThrow('Permission check failed');
    expect(restore(world, volid, { force: 1 }, alice)).toBe('OK');
  });
});

describe('restoring a container', () => {
  const tools = {
    ...{ arch: 'amd64', cores: 2, hostname: 'tools', memory: 2048, ostype: 'debian', swap: 512, unprivileged: 1 },
    ...{ rootfs: 'ceph:vm-100-disk-0,size=8G', mp0: 'tank:subvol-100-disk-0,mp=/data,backup=1,size=2G' },
    ...{ unused0: 'ceph:vm-100-disk-7', net0: 'name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:02,type=veth' },
  };
  const restore = (world: World, ostemplate: string, param: object = {}, caller = proxy) =>
    world.task('POST', containers, { vmid: 100, ostemplate, restore: 1, storage: 'fast', ...param }, { caller });

  test('makes all volumes anew on one storage in the sizes of the backup', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: tools });
    expect(restore(world, volid, { memory: 512, pool: 'alice' })).toBe('OK');
    expect(world.config(100)).toEqual({
      ...{ arch: 'amd64', cores: '2', hostname: 'tools', memory: '512', ostype: 'debian', swap: '512' },
      ...{ unprivileged: '1', net0: tools.net0, rootfs: 'fast:vm-100-disk-0,size=8G' },
      mp0: 'fast:vm-100-disk-1,mp=/data,backup=1,size=2G',
    });
    expect(world.cluster.poolOf(100)).toBe('alice');
    expect(world.cluster.tasks.list()[0]).toMatchObject({ type: 'vzrestore', id: '100' });
  });

  test('takes mount points as they are given, all of them or none', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: tools });
    expect(() => restore(world, volid, { mp0: 'ceph:1,mp=/x' })).toThrow("'rootfs' not set");
    expect(restore(world, volid, { rootfs: '1', mp1: 'ceph:0.5,mp=/x', unique: 1 })).toBe('OK');
    expect(sizes(world, 100)).toEqual([
      ['fast:vm-100-disk-0', GiB],
      ['ceph:vm-100-disk-0', 512 * MiB],
    ]);
    expect(world.config(100)).not.toHaveProperty('mp0');
    expect(world.config(100).net0).not.toBe(tools.net0);
  });

  test('in place of a container destroys all its volumes', () => {
    const world = makeWorld();
    world.container(100, { mp0: 'ceph:1,mp=/old', pool: 'alice' });
    world.task('POST', `${containers}/{vmid}/snapshot`, { vmid: 100, snapname: 'before' });
    world.call('PUT', `${containers}/{vmid}/config`, { vmid: 100, delete: 'mp0' });
    const { volid } = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: tools });
    expect(() => restore(world, volid)).toThrow('unable to restore CT 100 - CT 100 already exists');
    expect(restore(world, volid, { force: 1 })).toBe('OK');
    expect(sizes(world, 100)).toEqual([
      ['fast:vm-100-disk-0', 8 * GiB],
      ['fast:vm-100-disk-1', 2 * GiB],
    ]);
    expect(world.cluster.guests.get(100)?.snapshots.size).toBe(0);
  });

  test('that fails before it makes volumes leaves the old container; later it leaves nothing', () => {
    const world = makeWorld();
    world.container(100);
    const { volid } = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: { ...tools, rootfs: 'ceph:x' } });
    expect(restore(world, volid, { force: 1 })).toMatch(/unable to detect disk size/);
    expect(world.config(100)).toMatchObject({ rootfs: 'ceph:vm-100-disk-0,size=4G' });
    expect(world.config(100)).not.toHaveProperty('lock');

    expect(restore(world, volid, { vmid: 101 })).toMatch(/unable to detect disk size/);
    expect(world.cluster.guests.has(101)).toBe(false);
    expect(restore(world, volid, { force: 1, rootfs: 'ceph:0' })).toMatch(/size must not be 0/);
    expect(world.cluster.guests.has(100)).toBe(false);
  });

  test('does not make a privileged container, and mounts no directory of the host, but for root@pam', () => {
    const world = makeWorld();
    const { unprivileged: _unprivileged, ...privileged } = tools;
    const one = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: privileged });
    expect(restore(world, one.volid)).toBe('Permission check failed (/, Sys.Modify)');
    expect(restore(world, one.volid, { unprivileged: 1 })).toBe('OK');
    const two = addBackup(world.cluster, { vmid: 101, type: 'lxc', config: { ...tools, mp1: '/srv,mp=/srv' } });
    expect(restore(world, two.volid, { vmid: 101 })).toMatch(/only possible for root/);
    expect(restore(world, two.volid, { vmid: 101 }, root)).toBe('OK');
  });

  test('keeps features that the backup has', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: { ...tools, features: 'keyctl=1' } });
    expect(restore(world, volid)).toBe('OK');
    expect(world.config(100).features).toBe('keyctl=1');
  });

  test('does not overwrite a container that runs', () => {
    const world = makeWorld();
    world.container(100, { start: 1 });
    const { volid } = addBackup(world.cluster, { vmid: 100, type: 'lxc', config: tools });
    expect(() => restore(world, volid, { force: 1 })).toThrow("can't overwrite running container");
  });
});
