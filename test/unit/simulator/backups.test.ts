import { describe, expect, test } from 'vitest';
import { addBackup, addGuest, addVolume, holdings } from '../../../simulator/administrator.ts';
import { GiB } from '../../../simulator/sizes.ts';
import { alice, makeWorld, proxy, qemu, root, type World } from './world.ts';

const vzdump = '/nodes/{node}/vzdump';
const prunePath = '/nodes/{node}/storage/{storage}/prunebackups';
const volumePath = '/nodes/{node}/storage/{storage}/content/{volume}';
type Rows = readonly Readonly<Record<string, unknown>>[];

const day = 86_400_000;
const now = 1_763_784_000_000;

function dump(world: World, param: Readonly<Record<string, unknown>>) {
  return world.task('POST', vzdump, { storage: 'shared', compress: 'zstd', ...param }, { caller: proxy });
}

function backups(world: World, vmid?: number) {
  const rows = world.call<Rows>('GET', '/nodes/{node}/storage/{storage}/content', {
    ...{ storage: 'shared', content: 'backup' },
    ...(vmid === undefined ? {} : { vmid }),
  });
  return rows.map(({ volid }) => String(volid));
}

function keepLast(world: World, rules: string) {
  const shared = world.cluster.storages.get('shared');
  if (shared !== undefined) world.cluster.storages.set('shared', { ...shared, pruneBackups: rules });
}

describe('backing up', () => {
  test('makes a volume that bears the vmid and the time, with notes from the template', () => {
    const world = makeWorld();
    world.vm(100, { name: 'web', scsi0: 'ceph:8' });
    expect(dump(world, { vmid: '100', 'notes-template': '{{guestname}} on {{node}}\\n{{vmid}}', protected: 1 })).toBe(
      'OK',
    );
    const rows = world.call<Rows>('GET', '/nodes/{node}/storage/{storage}/content', { storage: 'shared', vmid: 100 });
    expect(rows).toMatchObject([
      {
        volid: 'shared:backup/vzdump-qemu-100-2025_11_22-04_00_00.vma.zst',
        format: 'vma.zst',
        subtype: 'qemu',
        content: 'backup',
        size: 2 * GiB,
        notes: 'web on n1\n100',
        protected: 1,
      },
    ]);
    expect(world.cluster.tasks.list()[0]).toMatchObject({ type: 'vzdump', id: '100' });
  });

  test('keeps the guest locked until it ends', () => {
    const world = makeWorld();
    world.vm(100);
    world.cluster.tasks.pace = 'by hand';
    const upid = world.call<string>('POST', vzdump, { vmid: '100' });
    expect(() => world.call('PUT', `${qemu}/config`, { vmid: 100, cores: 2 })).toThrow('VM is locked (backup)');
    expect(backups(world)).toEqual([]);
    world.cluster.tasks.finish(upid);
    expect(world.config(100)).not.toHaveProperty('lock');
  });

  test('takes several guests in one task without an id, and passes over those of other nodes', () => {
    const world = makeWorld();
    world.vm(100);
    world.container(101);
    addGuest(world.cluster, { vmid: 102, node: 'n2' });
    expect(dump(world, { vmid: '100,101,102' })).toBe('OK');
    expect(backups(world)).toEqual([
      expect.stringMatching(/vzdump-qemu-100-.*\.vma\.zst$/),
      expect.stringMatching(/vzdump-lxc-101-.*\.tar\.zst$/),
    ]);
    expect(world.cluster.tasks.list()[0]?.id).toBe('');
    expect(world.call('POST', vzdump, { vmid: '102' })).toBe('OK');
    expect(world.cluster.tasks.list()).toHaveLength(3);
  });

  test('makes as many of a guest as it is named times', () => {
    const world = makeWorld();
    world.vm(100);
    expect(dump(world, { vmid: '100,100' })).toBe('OK');
    const made = [...world.cluster.volumes.ofGuest(100)].filter(({ content }) => content === 'backup');
    expect(made).toHaveLength(2);
  });

  test('takes the guests of a pool, or all of the node but some', () => {
    const world = makeWorld();
    for (const vmid of [100, 101, 102]) world.vm(vmid, vmid === 101 ? { pool: 'alice' } : {});
    expect(dump(world, { pool: 'alice' })).toBe('OK');
    expect(backups(world)).toHaveLength(1);
    expect(dump(world, { all: 1, exclude: '101' })).toBe('OK');
    expect(backups(world, 101)).toHaveLength(1);
    expect(backups(world)).toHaveLength(3);
  });

  test('goes on with the others when one guest cannot be backed up, and says that there were errors', () => {
    const world = makeWorld();
    world.vm(100);
    expect(dump(world, { vmid: '100,777' })).toBe('job errors');
    expect(backups(world)).toHaveLength(1);
    expect(world.cluster.tasks.list()[0]?.log).toContain("ERROR: Backup of VM 777 failed - unable to find VM '777'");
  });

  test('goes to local without compression unless told, and to no storage that takes no backups', () => {
    const world = makeWorld();
    world.vm(100);
    expect(world.task('POST', vzdump, { vmid: '100' })).toBe('OK');
    expect(holdings(world.cluster, 100).volumes).toMatchObject([
      { volid: 'local:backup/vzdump-qemu-100-2025_11_22-04_00_00.vma' },
    ]);
    expect(dump(world, { vmid: '100', storage: 'ceph' })).toMatch(/wrong content type$/);
  });

  test('prunes by the rules of the storage, but never what is protected', () => {
    const world = makeWorld();
    world.vm(100);
    keepLast(world, 'keep-last=2');
    addBackup(world.cluster, { vmid: 100, at: now - 3 * day, protected: true });
    addBackup(world.cluster, { vmid: 100, at: now - 2 * day });
    addBackup(world.cluster, { vmid: 100, at: now - day });
    addBackup(world.cluster, { vmid: 101, at: now - 9 * day });
    expect(dump(world, { vmid: '100' })).toBe('OK');
    expect(backups(world, 100).map((volid) => volid.slice(30, 40))).toEqual(['2025_11_19', '2025_11_21', '2025_11_22']);
    expect(backups(world, 101)).toHaveLength(1);
  });

  test('without pruning is refused when the rules leave no room', () => {
    const world = makeWorld();
    world.vm(100);
    keepLast(world, 'keep-last=1');
    expect(dump(world, { vmid: '100', remove: 0 })).toBe('OK');
    expect(dump(world, { vmid: '100', remove: 0 })).toBe('job errors');
    expect(backups(world)).toHaveLength(1);
  });

  test.each([
    [{ tmpdir: '/tmp' }, 'Parameter verification failed.'],
    [{ script: '/bin/true' }, 'Parameter verification failed.'],
    [{ bwlimit: 1 }, 'Permission check failed (/, Sys.Modify)'],
    [{ all: 1 }, 'Parameter verification failed.'],
    [{ pool: 'alice' }, 'Parameter verification failed.'],
    [{ 'prune-backups': 'keep-some=1' }, 'Parameter verification failed.'],
    [{ storage: undefined, protected: 1 }, 'Parameter verification failed.'],
    [{ vmid: undefined }, 'Parameter verification failed.'],
  ])('refuses a token %o', (param, reason) => {
    const world = makeWorld();
    world.vm(100);
    expect(() => dump(world, { vmid: '100', ...param })).toThrow(reason);
  });

  test('needs space on the storage, and VM.Backup on each guest that is named', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    const own = { caller: alice };
    expect(() => world.call('POST', vzdump, { vmid: '100', storage: 'shared' }, own)).toThrow(
      '/storage/shared, Datastore.AllocateSpace',
    );
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    expect(world.task('POST', vzdump, { vmid: '100', storage: 'shared' }, own)).toBe(
      'Permission check failed (/vms/100, VM.Backup)',
    );
    expect(world.task('POST', vzdump, { all: 1, storage: 'shared' }, own)).toBe('OK');
    expect(backups(world)).toEqual([]);
    expect(world.config(100)).not.toHaveProperty('lock');
  });

  test('lets five protected backups of a guest be, unless the caller is master of the storage', () => {
    const world = makeWorld();
    for (let index = 0; index < 5; index++)
      addBackup(world.cluster, { vmid: 100, at: now - index * day, protected: true });
    const more = addBackup(world.cluster, { vmid: 100, at: now - 9 * day });
    const volume = more.volid.slice('shared:'.length);
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMUser');
    const change = (param: object, caller = alice) =>
      world.call('PUT', volumePath, { storage: 'shared', volume, ...param }, { caller });
    expect(() => change({ protected: 1 })).toThrow('limited to 5');
    change({ notes: 'kept' });
    change({ protected: 1 }, proxy);
    expect(more).toMatchObject({ notes: 'kept', protected: true });
  });
});

describe('the configuration in a backup', () => {
  const extract = (world: World, volume: string, caller = root) =>
    world.call<string>('GET', '/nodes/{node}/vzdump/extractconfig', { volume }, { caller });

  test('is text, with a line for the place of each disk that is in it', () => {
    const world = makeWorld();
    world.vm(100, {
      ...{ name: 'web', cores: 2, memory: '2048', description: 'first: web\nsecond', boot: 'order=scsi0' },
      ...{
        scsi0: 'ceph:8',
        scsi1: 'fast:1,backup=0',
        efidisk0: 'fast:1',
        ide2: 'shared:iso/debian-13.iso,media=cdrom',
      },
    });
    world.call('PUT', `${qemu}/config`, { vmid: 100, scsi2: 'ceph:1' });
    world.call('PUT', `${qemu}/config`, { vmid: 100, delete: 'scsi2' });
    world.cluster.guests.get(100)?.pending.set('cores', { value: '8' });
    dump(world, { vmid: '100' });
    const [volid = ''] = backups(world);
    const text = extract(world, volid);
    expect(text.split('\n').filter((line) => !/^(meta|smbios1|vmgenid): /.test(line))).toEqual([
      '#first%3A web',
      '#second',
      'boot: order=scsi0',
      'cores: 2',
      'efidisk0: fast:vm-100-disk-1,size=4M',
      'ide2: shared:iso/debian-13.iso,media=cdrom,size=784M',
      'memory: 2048',
      'name: web',
      'scsi0: ceph:vm-100-disk-0,size=8G',
      'scsi1: fast:vm-100-disk-0,backup=0,size=1G',
      '#qmdump#map:scsi0:drive-scsi0:ceph:raw:',
      '#qmdump#map:efidisk0:drive-efidisk0:fast:raw:',
      '',
    ]);
  });

  test('is for those who may back up the guest', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 100, config: { cores: 1 } });
    expect(extract(world, volid, proxy)).toBe('cores: 1\n');
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    expect(() => extract(world, volid, alice)).toThrow('/vms/100, VM.Backup');
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMUser');
    expect(extract(world, volid, alice)).toBe('cores: 1\n');
    expect(() => extract(world, 'shared:backup/vzdump-qemu-7-2025_01_01-00_00_00.vma')).toThrow('does not exist');
  });
});

describe('pruning', () => {
  test('says what it would do, guest by guest', () => {
    const world = makeWorld();
    for (const age of [0, 1, 2]) addBackup(world.cluster, { vmid: 100, at: now - age * day });
    addBackup(world.cluster, { vmid: 100, type: 'lxc', at: now - 5 * day });
    addBackup(world.cluster, { vmid: 101, at: now - 5 * day, protected: true });
    const marks = (param: object) =>
      world.call<Rows>('GET', prunePath, { storage: 'shared', ...param }).map(({ mark }) => mark);
    expect(marks({ 'prune-backups': 'keep-last=1' })).toEqual(['keep', 'remove', 'remove', 'keep', 'protected']);
    expect(marks({ 'prune-backups': 'keep-last=1', type: 'qemu', vmid: 100 })).toEqual(['keep', 'remove', 'remove']);
    expect(marks({ 'prune-backups': 'keep-all=1', vmid: 100, type: 'qemu' })).toEqual(['keep', 'keep', 'keep']);
    expect(() => marks({})).toThrow('no prune-backups options configured');
  });

  test('keeps the newest of each span that no earlier rule has kept one of', () => {
    const world = makeWorld();
    const hours = [0, 1, 2, 24, 25, 48, 24 * 40, 24 * 400];
    for (const age of hours) addBackup(world.cluster, { vmid: 100, at: now - age * 3_600_000 });
    const kept = (rules: string) =>
      world
        .call<Rows>('GET', prunePath, { storage: 'shared', 'prune-backups': rules })
        .flatMap(({ mark, ctime }) => (mark === 'keep' ? [(now / 1000 - Number(ctime)) / 3600] : []));
    expect(kept('keep-last=2')).toEqual([0, 1]);
    expect(kept('keep-daily=2')).toEqual([0, 24]);
    expect(kept('keep-last=1,keep-daily=2')).toEqual([0, 24, 48]);
    expect(kept('keep-monthly=2,keep-yearly=1')).toEqual([0, 24 * 40, 24 * 400]);
  });

  test('of one guest needs what its backups need, of all the mastery of the storage', () => {
    const world = makeWorld();
    for (const age of [0, 1]) addBackup(world.cluster, { vmid: 100, at: now - age * day });
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    const all = { storage: 'shared', 'prune-backups': 'keep-last=1' };
    const prune = (param: object) => world.task('DELETE', prunePath, { ...all, ...param }, { caller: alice });
    expect(() => prune({})).toThrow('/storage/shared, Datastore.Allocate');
    expect(() => prune({ vmid: 100 })).toThrow('/vms/100, VM.Backup');
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMUser');
    expect(prune({ vmid: 100 })).toBe('OK');
    expect(backups(world)).toHaveLength(1);
    expect(world.cluster.tasks.list()[0]).toMatchObject({ type: 'prunebackups', id: '100@shared' });
  });
});

describe('deleting a backup', () => {
  test('needs the right to back up its guest, which need not exist', () => {
    const world = makeWorld();
    const { volid } = addBackup(world.cluster, { vmid: 555 });
    const one = { storage: 'shared', volume: volid };
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    expect(() => world.call('DELETE', volumePath, one, { caller: alice })).toThrow('/vms/555, VM.Backup');
    world.cluster.access.setAcl('/vms/555', { users: ['alice@pve'] }, 'PVEVMUser');
    expect(world.call('DELETE', volumePath, { ...one, delay: 5 }, { caller: alice })).toBeNull();
    expect(backups(world)).toEqual([]);
  });

  test('of an image that happens to be on the storage needs more', () => {
    const world = makeWorld();
    addVolume(world.cluster, { volid: 'shared:555/vm-555-disk-0.raw', content: 'images', bytes: GiB });
    world.cluster.access.setAcl('/storage/shared', { users: ['alice@pve'] }, 'PVEDatastoreUser');
    const one = { storage: 'shared', volume: '555/vm-555-disk-0.raw' };
    expect(() => world.call('DELETE', volumePath, one, { caller: alice })).toThrow('Datastore.Allocate');
  });
});
