/** Ways past a quota through volumes and backups, each tried in PVE's own words. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addBackup, addGuest, addVolume, holdings } from '../../simulator/administrator.ts';
import { expectRefused, expectTruth, type Metered, metered } from '../support/metered.ts';
import { GiB, MiB, type Site, startSite, until } from '../support/site.ts';

let site: Site;
let alice: Metered;
let admin: Metered;
const vm = '/nodes/n1/qemu/100';
const own = [100, 101, 110];
const foreignBackup = () => site.cluster.volumes.ofGuest(300).find(({ content }) => content === 'backup')?.volid ?? '';

beforeAll(async () => {
  site = await startSite({
    users: {
      alice: {
        ...{ cores: 8, memory: 8 * GiB, swap: GiB, network: 2e7, ceph: 40 * GiB, fast: 40 * GiB, vmid: [100, 199] },
      },
      bob: { cores: 8, memory: 8 * GiB, ceph: 64 * GiB, vmid: [300, 399] },
      admin: { admin: true },
    },
    config: {
      backups: { storage: 'shared' },
      tenants: {
        parameters: ['hookscript', 'virtiofs[n]'],
        volumes: ['shared:import/open.qcow2', 'shared:snippets/*', 'shared:backup/vzdump-qemu-100-2001*'],
        urls: [],
      },
    },
  });
  addGuest(site.cluster, { vmid: 300, pool: 'bob', config: { scsi0: 'ceph:vm-300-disk-0,size=8G' } });
  addBackup(site.cluster, { vmid: 300, config: { cores: 1 } });
  const image = (name: string, bytes: number) =>
    addVolume(site.cluster, { volid: `shared:import/${name}`, content: 'import', bytes, fileBytes: 200 * 1024 });
  image('open.qcow2', 10 * 1024 * GiB);
  image('private.qcow2', GiB);
  alice = await metered(site, 'alice');
  admin = await metered(site, 'admin');
});

afterAll(() => site[Symbol.asyncDispose]());

/** Makes the tenant's guests anew, 8 GiB each, and takes away what is left of others. */
beforeEach(async () => {
  for (const vmid of own) {
    for (const volume of site.cluster.volumes.ofGuest(vmid)) site.cluster.volumes.remove(volume);
    site.cluster.guests.delete(vmid);
  }
  const config = { cores: 1, memory: 512 };
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { ...config, scsi0: 'ceph:vm-100-disk-0,size=8G' } });
  addGuest(site.cluster, {
    ...{ vmid: 101, pool: 'alice', type: 'lxc' },
    config: { ...config, swap: 0, unprivileged: 1, rootfs: 'ceph:vm-101-disk-0,size=8G' },
  });
  await site.refresh();
});

const imagesOf = (vmid: number) =>
  holdings(site.cluster, vmid).volumes.filter(({ content }) => content !== 'backup' && content !== 'iso');

describe('volumes of others', () => {
  test.each([
    ['a disk', { scsi1: 'ceph:vm-300-disk-0' }],
    ['a disk, copied', { scsi1: 'ceph:0,import-from=ceph:vm-300-disk-0' }],
    ['a path of the host', { scsi1: '/dev/sda' }],
    ['a path of the host, copied', { scsi1: 'ceph:0,import-from=/var/lib/vz/images/300/vm-300-disk-0.raw' }],
    ['an image that somebody has put there, copied', { scsi1: 'ceph:0,import-from=shared:import/private.qcow2' }],
    ['an iso that is not on offer', { ide2: 'local:iso/private.iso,media=cdrom' }],
    ['a snippet', { cicustom: 'user=local:snippets/private.yaml' }],
  ])('%s cannot be used by name', async (_, params) => {
    await expectRefused(site, () => alice.put(`${vm}/config`, params), /not allowed|neither yours|not on offer|no /);
    await expectRefused(site, () => alice.post('/nodes/n1/qemu', { vmid: 110, ...params }), /\w/);
  });

  test('a backup cannot be used, labelled, kept or deleted by name', async () => {
    const archive = foreignBackup();
    const content = `/nodes/n1/storage/shared/content/${archive}`;
    const restore = { archive, ostemplate: archive };
    await expectRefused(
      site,
      () => alice.post('/nodes/n1/qemu', { vmid: 110, archive }),
      /VM.PowerMgmt on instance 300/,
    );
    await expectRefused(site, () => alice.post('/nodes/n1/qemu', { vmid: 100, archive, force: 1 }), /instance 300/);
    await expectRefused(
      site,
      () => alice.post('/nodes/n1/lxc', { vmid: 110, ostemplate: restore.ostemplate, restore: 1, storage: 'ceph' }),
      /instance 300/,
    );
    await expectRefused(site, () => alice.put(content, { notes: 'x' }), /instance 300/);
    await expectRefused(site, () => alice.put(content, { protected: 1 }), /instance 300/);
    await expectRefused(site, () => alice.delete(content), /instance 300/);
  });

  test('a disk cannot be grown, copied, freed or labelled through a guest of mine', async () => {
    const content = '/nodes/n1/storage/ceph/content/ceph:vm-300-disk-0';
    await expectRefused(site, () => alice.delete(content), /instance 300/);
    await expectRefused(site, () => alice.put(content, { notes: 'x' }), /instance 300/);
    // An administrator has lent it.
    site.cluster.guests.get(100)?.config.set('scsi5', 'ceph:vm-300-disk-0,size=8G');
    await expectRefused(site, () => alice.put(`${vm}/resize`, { disk: 'scsi5', size: '+1G' }), /no volume of its own/);
    await expectRefused(site, () => alice.post(`${vm}/move_disk`, { disk: 'scsi5', storage: 'fast' }), /no volume of/);
    await expectRefused(site, () => alice.post(`${vm}/clone`, { newid: 110 }), /cannot be told/, 403);
  });
});

describe('images that are larger than they look', () => {
  test('a small file with a huge disk in it is charged as that disk', async () => {
    const scsi1 = 'ceph:0,import-from=shared:import/open.qcow2';
    await expectRefused(site, () => alice.put(`${vm}/config`, { scsi1 }), /storage ceph: 10 TiB more requested/);
    await expectRefused(site, () => alice.post('/nodes/n1/qemu', { vmid: 110, scsi1 }), /storage ceph: 10 TiB more/);
  });

  test('a disk of mine is copied at its real size', async () => {
    const said = await alice.put(`${vm}/config`, { scsi1: 'fast:0,import-from=ceph:vm-100-disk-0' });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice')['storage:fast']).toBe(8 * GiB);
    expectTruth(site, 'alice', own);
  });

  test('a disk that takes longer to copy than PVE takes to answer counts until its task has ended', async () => {
    const { tasks } = site.cluster;
    tasks.paces.set('qmconfig', 'by hand');
    const copying = alice.put(`${vm}/config`, { scsi1: 'fast:0,import-from=ceph:vm-100-disk-0', cores: 3 });
    await until('it is being copied', () => tasks.running().length === 1);
    expect(site.booked('alice')).toMatchObject({ cores: 4, 'storage:fast': 8 * GiB });
    tasks.finishAll();
    tasks.paces.clear();
    const said = await copying;
    expect([said.status, said.data]).toEqual([200, expect.stringContaining(':qmconfig:100:')]);
    expectTruth(site, 'alice', own);
  });

  test('an image whose size PVE does not tell cannot be imported', async () => {
    const path = '/nodes/{node}/storage/{storage}/content/{volume}';
    site.simulator.faults.add({ method: 'GET', path, kind: 'refuse', status: 500, reason: 'no such image' });
    const scsi1 = 'ceph:0,import-from=shared:import/open.qcow2';
    await expectRefused(site, () => alice.put(`${vm}/config`, { scsi1 }), /cannot be told/, 403);
  });

  test('an appliance cannot be unpacked, nor a working storage named', async () => {
    const scsi1 = 'ceph:0,import-from=shared:import/box.ova/disk.vmdk';
    await expectRefused(site, () => alice.put(`${vm}/config`, { scsi1 }), /unpacks an appliance/);
    const params = { scsi1, 'import-working-storage': 'fast' };
    await expectRefused(site, () => alice.post(`${vm}/config`, params), /import-working-storage: not allowed/);
  });
});

describe('disks on their way', () => {
  test('one that is detached still counts, and is freed by the second deletion', async () => {
    await alice.put(`${vm}/config`, { delete: 'scsi0' });
    expect(site.booked('alice')['storage:ceph']).toBe(16 * GiB);
    await alice.put(`${vm}/config`, { delete: 'unused0' });
    expect(site.booked('alice')['storage:ceph']).toBe(8 * GiB);
    expectTruth(site, 'alice', own);
  });

  test('one that is moved and kept counts twice', async () => {
    await alice.post(`${vm}/move_disk`, { disk: 'scsi0', storage: 'fast' });
    expect(site.booked('alice')).toMatchObject({ 'storage:ceph': 16 * GiB, 'storage:fast': 8 * GiB });
    expectTruth(site, 'alice', own);
    await alice.put(`${vm}/resize`, { disk: 'scsi0', size: '+30G' });
    await expectRefused(site, () => alice.post(`${vm}/move_disk`, { disk: 'scsi0', storage: 'ceph' }), /storage ceph/);
  });

  test('one that is handed over is paid for by the other guest, also as an unused one', async () => {
    addGuest(site.cluster, { vmid: 110, pool: 'alice', config: { cores: 1, memory: 512 } });
    await site.refresh();
    // There is no room for one more of that size, and none is needed.
    await alice.put(`${vm}/resize`, { disk: 'scsi0', size: '30G' });
    const give = { disk: 'scsi0', 'target-vmid': 110 };
    const said = await alice.post(`${vm}/move_disk`, { ...give, 'target-disk': 'unused0' });
    expect(said.status, said.text).toBe(200);
    expect([imagesOf(100), imagesOf(110)].map((images) => images.length)).toEqual([0, 1]);
    expectTruth(site, 'alice', own);
    await expectRefused(site, () => alice.post(`${vm}/move_disk`, give), /no volume of its own in scsi0/);
  });

  test("one cannot be handed over to another's guest, and none of theirs taken", async () => {
    const target = { 'target-vmid': 300, 'target-disk': 'scsi9' };
    await expectRefused(site, () => alice.post(`${vm}/move_disk`, { disk: 'scsi0', ...target }), /instance 300/);
    const taken = () => alice.post('/nodes/n1/qemu/300/move_disk', { disk: 'scsi0', 'target-vmid': 100 });
    await expectRefused(site, taken, /instance 300/);
    await expectRefused(site, () => alice.post(`${vm}/move_disk`, { disk: 'scsi0', 'target-vmid': 101 }), /lxc guest/);
  });

  test('a whole cluster-full of disks counts from the moment it is asked for', async () => {
    const outcomes = await Promise.all(
      ['scsi1', 'scsi2', 'scsi3', 'scsi4'].map((slot) => alice.put(`${vm}/config`, { [slot]: 'ceph:10' })),
    );
    expect(outcomes.filter(({ status }) => status === 200)).toHaveLength(2);
    expectTruth(site, 'alice', own);
  });
});

describe('volumes by their own names', () => {
  const content = '/nodes/n1/storage/ceph/content';

  test('one can be allocated for a guest of mine, as large as there is room for', async () => {
    const filename = 'vm-100-disk-9';
    const small = await alice.post(content, { vmid: 100, filename, size: '2097152' });
    expect(small.status, small.text).toBe(200);
    expect(site.booked('alice')['storage:ceph']).toBe(18 * GiB);
    expectTruth(site, 'alice', own);
    for (const size of ['25G', '25600M', '26214400'])
      await expectRefused(
        site,
        () => alice.post(content, { vmid: 100, filename: `${filename}9`, size }),
        /storage ceph/,
      );
  });

  test.each([
    ['another guest', { vmid: 300, filename: 'vm-300-disk-9', size: '1G' }, /instance 300/],
    ['a vmid that nobody has', { vmid: 777, filename: 'vm-777-disk-9', size: '1G' }, /no instance 777/],
    ['a vmid of mine that is free', { vmid: 150, filename: 'vm-150-disk-9', size: '1G' }, /no instance 150/],
    ['another guest by the name', { vmid: 100, filename: 'vm-300-disk-9', size: '1G' }, /must begin with vm-100-/],
    ['nobody', { filename: 'vm-100-disk-9', size: '1G' }, /vmid/],
    ['a size that is none', { vmid: 100, filename: 'vm-100-disk-9', size: '1e3' }, /size/],
  ])('none can be allocated for %s', async (_, params, why) => {
    await expectRefused(site, () => alice.post(content, params), why);
  });

  test('one that a configuration or a snapshot may need cannot be freed; others can', async () => {
    const volume = `${content}/ceph:vm-100-disk-0`;
    await expectRefused(site, () => alice.delete(volume), /is scsi0 of instance 100/);
    await alice.post(`${vm}/snapshot`, { snapname: 'before' });
    await alice.post(content, { vmid: 100, filename: 'vm-100-disk-9', size: '2G' });
    await expectRefused(site, () => alice.delete(`${content}/vm-100-disk-9`), /has snapshots \(before\)/);
    await alice.delete(`${vm}/snapshot/before`);
    expect((await alice.delete(`${content}/vm-100-disk-9`)).status).toBe(200);
    expectTruth(site, 'alice', own);
  });

  test('what a destroyed guest has left is paid for until it is freed, by who had it', async () => {
    await alice.post('/nodes/n1/qemu', { vmid: 110, cores: 1, memory: 512, scsi0: 'ceph:4', scsi1: 'ceph:4' });
    await alice.post('/nodes/n1/qemu/110/snapshot', { snapname: 'before' });
    site.cluster.guests.get(110)?.config.delete('scsi1');
    expect((await alice.delete('/nodes/n1/qemu/110')).status).toBe(200);
    const [left] = imagesOf(110);
    expect(left?.bytes).toBe(4 * GiB);
    expectTruth(site, 'alice', own);
    const bob = await metered(site, 'bob');
    await expectRefused(site, () => bob.delete(`${content}/${left?.volid}`), /not yours/);
    expect((await alice.delete(`${content}/${left?.volid}`)).status).toBe(200);
    expect(imagesOf(110)).toEqual([]);
    expectTruth(site, 'alice', own);
  });

  test('an administrator may allocate for anybody, and whose vmid it is pays', async () => {
    const said = await admin.post(content, { vmid: 150, filename: 'vm-150-disk-0', size: '200G' });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice')['storage:ceph']).toBe(216 * GiB);
    expect((await admin.delete(`${content}/vm-150-disk-0`)).status).toBe(200);
    expectTruth(site, 'alice', own);
  });
});

describe('backups', () => {
  const make = { storage: 'shared', remove: 0 };
  const backupsOf = (vmid: number) =>
    holdings(site.cluster, vmid).volumes.filter(({ volid }) => volid.startsWith('shared:backup/'));

  test('of several guests in one call are counted for each', async () => {
    const said = await alice.post('/nodes/n1/vzdump', { vmid: '100,101', storage: 'shared' });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice')).toMatchObject({ 'backups 100': 1, 'backups 101': 1 });
    await alice.post('/nodes/n1/vzdump', { vmid: '100', ...make });
    await expectRefused(
      site,
      () => alice.post('/nodes/n1/vzdump', { vmid: '101,100', ...make }),
      /backups of instance 100/,
    );
    expect([backupsOf(100).length, backupsOf(101).length]).toEqual([2, 1]);
  });

  test.each<[string, Record<string, string | number>, RegExp]>([
    ['of others beside my own', { vmid: '100,300' }, /instance 300/],
    ['of all', { all: 1 }, /for every guest here unless it names some/],
    ['of all but one', { vmid: 100, all: 1, exclude: 300 }, /for every guest here unless it names some/],
    ['of a pool', { pool: 'alice' }, /for every guest here unless it names some/],
    ['of nobody', {}, /for every guest here unless it names some/],
    ['on a storage where they are not counted', { vmid: 100, storage: 'local' }, /must be shared/],
    ['on the default storage', { vmid: 100, storage: '' }, /storage/],
    ['that push others out', { vmid: 100, remove: 1 }, /remove: must be 0/],
    ['that prune others', { vmid: 100, 'prune-backups': 'keep-last=1' }, /prune-backups: not allowed/],
    ['with images elsewhere', { vmid: 100, fleecing: 'enabled=1,storage=fast' }, /fleecing: not allowed/],
    ['in a directory of the host', { vmid: 100, dumpdir: '/tmp' }, /dumpdir: not allowed/],
    ['with a script', { vmid: 100, script: '/tmp/x' }, /script: not allowed/],
  ])('%s cannot be made', async (_, params, why) => {
    await expectRefused(site, () => alice.post('/nodes/n1/vzdump', { ...make, ...params }), why);
  });

  test('that are protected count like others, and only mine can be pruned', async () => {
    await alice.post('/nodes/n1/vzdump', { vmid: 100, protected: 1, ...make });
    await alice.post('/nodes/n1/vzdump', { vmid: 100, ...make });
    await expectRefused(
      site,
      () => alice.post('/nodes/n1/vzdump', { vmid: 100, protected: 1, ...make }),
      /2 of 2 taken/,
    );
    const prune = (vmid?: number) =>
      alice.delete('/nodes/n1/storage/shared/prunebackups', {
        'prune-backups': 'keep-last=1',
        ...(vmid === undefined ? {} : { vmid }),
      });
    await expectRefused(site, () => prune(), /unless it names some/);
    await expectRefused(site, () => prune(300), /instance 300/);
    expect((await prune(100)).status).toBe(200);
    const stranger = addBackup(site.cluster, { vmid: 100, at: 1_000_000_000_000 });
    site.cluster.guests.get(100)?.config.set('meta', `ctime=${Math.floor(Date.now() / 1000) - 5}`);
    await expectRefused(site, () => prune(100), new RegExp(`${stranger.volid} is of an earlier guest`));
    // What is open to all is there to be restored.
    const content = `/nodes/n1/storage/shared/content/${stranger.volid}`;
    await expectRefused(site, () => alice.delete(content), /no backup of instance 100/);
    await expectRefused(site, () => alice.put(content, { protected: 0 }), /no backup of instance 100/);
  });
});

test('a snapshot that would be a volume of the whole size is not made where no list shows it', async () => {
  const fast = site.cluster.storages.get('fast');
  if (fast === undefined) throw new Error('there is no such storage');
  site.cluster.storages.set('fast', { ...fast, volumeChain: true });
  await alice.put(`${vm}/config`, { scsi1: 'fast:4' });
  const take = () => alice.post(`${vm}/snapshot`, { snapname: 'one' });
  await expectRefused(site, take, /storage fast keeps a volume of the disk's size for each snapshot/);
  site.simulator.faults.add({ method: 'GET', path: '/storage', kind: 'refuse', status: 500, reason: 'no' });
  await expectRefused(site, take, /PVE does not tell how its storages keep snapshots/);
  site.cluster.storages.set('fast', fast);
  expect((await take()).status).toBe(200);
});

test('what the configuration allows by name is passed on, and by root alone where PVE wants root', async () => {
  const shared = await alice.put(`${vm}/config`, { virtiofs0: 'data' });
  expect(shared.text).not.toContain('not allowed');
  await expectRefused(site, () => alice.put(`${vm}/config`, { hookscript: 'shared:snippets/x' }), /root/, 501);
  await expectRefused(site, () => alice.put(`${vm}/config`, { delete: 'hookscript' }), /root/, 501);
  await expectRefused(site, () => alice.put(`${vm}/config`, { delete: 'args' }), /is not a key that may be changed/);
  await expectRefused(site, () => alice.put(`${vm}/config`, { args: '-S' }), /args: not allowed/);
  await expectRefused(site, () => alice.put(`${vm}/config`, { cicustom: 'user=local:snippets/x' }), /neither yours/);
  const snippet = await alice.put(`${vm}/config`, { cicustom: 'user=shared:snippets/x.yaml' });
  expect(snippet.text).not.toContain('neither yours');
});

test('memory that is saved counts on the storage where it goes', async () => {
  await alice.put(`${vm}/config`, { memory: 2048 });
  await alice.post(`${vm}/status/start`);
  await alice.post(`${vm}/snapshot`, { snapname: 'ram', vmstate: 1 });
  expect(site.booked('alice')['storage:ceph']).toBe(16 * GiB + 4596 * MiB);
  expectTruth(site, 'alice', own);
  await alice.put(`${vm}/config`, { scsi1: 'fast:36' });
  await expectRefused(
    site,
    () => alice.post(`${vm}/status/suspend`, { todisk: 1, statestorage: 'fast' }),
    /storage fast: 4.49 GiB more requested, 4 GiB left/,
  );
  await expectRefused(site, () => alice.post('/nodes/n1/suspendall', { vms: '100' }), /storage fast/);
  const bulk = { vms: [100], 'to-disk': 1, statestorage: 'fast' };
  await expectRefused(site, () => alice.post('/cluster/bulk-action/guest/suspend', bulk), /storage fast/);
  expect((await alice.post(`${vm}/status/suspend`, { todisk: 1 })).status).toBe(200);
  expectTruth(site, 'alice', own);
});
