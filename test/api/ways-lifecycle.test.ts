/** Ways past a quota through what becomes of guests: copies, restores, moves, and calls about many at once. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addBackup, addGuest, addVolume, destroyGuest, holdings, publish } from '../../simulator/administrator.ts';
import { expectRefused, expectTruth, type Metered, metered } from '../support/metered.ts';
import { GiB, MiB, type Site, startSite, until } from '../support/site.ts';

let site: Site;
let alice: Metered;
let admin: Metered;
const vm = '/nodes/n1/qemu/100';
const ct = '/nodes/n1/lxc/101';
const own = [100, 101, 110, 111, 112];

beforeAll(async () => {
  site = await startSite({
    users: {
      alice: {
        ...{
          cores: 8,
          memory: 8 * GiB,
          swap: 2 * GiB,
          network: 3e7,
          ceph: 40 * GiB,
          local: 20 * GiB,
          vmid: [100, 199],
        },
        fast: 20 * GiB,
        nodes: { n2: { cores: 2 } },
        pools: ['shared'],
      },
      bob: { cores: 8, memory: 8 * GiB, ceph: 64 * GiB, vmid: [300, 399] },
      admin: { admin: true },
    },
    hold: 0.5,
    config: { backups: { storage: 'shared' } },
  });
  const { cluster } = site;
  addGuest(cluster, { vmid: 300, pool: 'bob', config: { cores: 4, scsi0: 'ceph:vm-300-disk-0,size=8G' } });
  addGuest(cluster, {
    vmid: 900,
    config: { cores: 16, memory: 1024, template: 1, scsi0: 'ceph:base-900-disk-0,size=10G' },
  });
  addGuest(cluster, {
    vmid: 901,
    config: { cores: 1, memory: 512, template: 1, scsi0: 'ceph:base-901-disk-0,size=30G' },
  });
  cluster.access.addRole('TemplateUser', ['VM.Clone', 'VM.Audit']);
  for (const vmid of [900, 901]) cluster.access.setAcl(`/vms/${vmid}`, { users: ['alice@pve'] }, 'TemplateUser');
  alice = await metered(site, 'alice');
  admin = await metered(site, 'admin');
});

afterAll(() => site[Symbol.asyncDispose]());

beforeEach(async () => {
  for (const vmid of own) {
    if (exists(vmid)) destroyGuest(site.cluster, vmid);
    for (const volume of site.cluster.volumes.ofGuest(vmid)) site.cluster.volumes.remove(volume);
  }
  addGuest(site.cluster, {
    ...{ vmid: 100, pool: 'alice' },
    config: { cores: 2, memory: 1024, scsi0: 'ceph:vm-100-disk-0,size=8G' },
  });
  addGuest(site.cluster, {
    ...{ vmid: 101, pool: 'alice', type: 'lxc' },
    config: { cores: 1, memory: 512, swap: 0, unprivileged: 1, rootfs: 'ceph:vm-101-disk-0,size=8G' },
  });
  await site.refresh();
});

const exists = (vmid: number) => holdings(site.cluster, vmid).exists;

/** Asks for a copy in the tenant's own pool. */
const clone = (guest: string, params: Record<string, string | number>) =>
  alice.post(`${guest}/clone`, { pool: 'alice', ...params });

describe('what a guest once was', () => {
  test('is charged when a snapshot brings it back, and when a copy is made of it', async () => {
    await alice.put(`${vm}/config`, { cores: 6 });
    await alice.post(`${vm}/snapshot`, { snapname: 'large' });
    await alice.put(`${vm}/config`, { cores: 1 });
    await alice.put(`${ct}/config`, { cores: 5 });
    const back = () => alice.post(`${vm}/snapshot/large/rollback`);
    await expectRefused(site, back, /cores: 5 more requested, 2 left/);
    const copy = (snapname?: string) =>
      clone(vm, { newid: 110, ...(snapname === undefined ? {} : { snapname, full: 1 }) });
    await expectRefused(site, () => copy('large'), /cores: 6 more requested, 2 left/);
    await expectRefused(site, () => copy('nothing'), /PVE does not tell what it holds/);
    expect((await copy()).status).toBe(200);
    expectTruth(site, 'alice', own);
    expect((await alice.delete(`${vm}/snapshot/large`)).status).toBe(200);
    expectTruth(site, 'alice', own);
  });
});

describe('a copy', () => {
  test.each<[string, Record<string, string | number>]>([
    ['in full', { full: 1 }],
    ['in full onto another storage', { full: 1, storage: 'fast' }],
  ])('%s takes what it is made of', async (_, params) => {
    const said = await clone(vm, { newid: 110, ...params });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice')[`storage:${params.storage ?? 'ceph'}`]).toBe((params.storage ? 8 : 24) * GiB);
    expectTruth(site, 'alice', own);
    const lxc = await clone(ct, { newid: 111, hostname: 'copy', ...params });
    expect(lxc.status, lxc.text).toBe(200);
    expectTruth(site, 'alice', own);
  });

  test('of a template that is shared takes its whole size where the template lies', async () => {
    await expectRefused(site, () => clone('/nodes/n1/qemu/900', { newid: 110 }), /cores: 16 more requested/);
    await expectRefused(
      site,
      () => clone('/nodes/n1/qemu/901', { newid: 110 }),
      /storage ceph: 30 GiB more requested, 24 GiB left/,
    );
    const full = () => clone('/nodes/n1/qemu/901', { newid: 110, full: 1, storage: 'fast' });
    await expectRefused(site, full, /storage fast: 30 GiB/);
    expect([exists(110), site.booked('alice').cores]).toEqual([false, 3]);
  });

  test('of a template of mine shares its disks and counts them once more', async () => {
    await alice.post(`${vm}/template`);
    const said = await clone(vm, { newid: 110 });
    expect(said.status, said.text).toBe(200);
    expect(site.cluster.guests.get(110)?.config.get('scsi0')).toMatch(/^ceph:base-100-disk-0\/vm-110-disk-0/);
    expectTruth(site, 'alice', own);
  });

  test.each<[string, Record<string, string | number>, RegExp]>([
    ['beyond my vmids', { newid: 310 }, /310 is not in your range/],
    ["in another's pool", { newid: 110, pool: 'bob' }, /bob is not one of your pools/],
    ['on the node that answers', { newid: 110, target: 'localhost' }, /localhost is not one of your nodes/],
    ['on a storage of which I have nothing', { newid: 110, full: 1, storage: 'tank' }, /storage tank/],
    ['on a node where I have too little', { newid: 110, target: 'n2' }, /cores on node n2: 3 more requested/],
    ['at another speed', { newid: 110, bwlimit: 0 }, /bwlimit: not allowed/],
    ['of nothing', { newid: 'x' }, /newid/],
  ])('cannot be %s', async (_, params, why) => {
    await alice.put(`${vm}/config`, { cores: 3 });
    await expectRefused(site, () => clone(vm, params), why);
  });

  test("cannot be made of another's guest, nor of what only an administrator can have made", async () => {
    await expectRefused(site, () => clone('/nodes/n1/qemu/300', { newid: 110 }), /instance 300/);
    const { config } = site.cluster.guests.get(100) ?? { config: new Map() };
    config.set('args', '-S');
    await expectRefused(site, () => clone(vm, { newid: 110 }), /args, which only an administrator/);
    site.cluster.guests.get(101)?.config.delete('unprivileged');
    await expectRefused(site, () => clone(ct, { newid: 110 }), /unprivileged, which only/);
  });

  test('that is lost on the way is charged as long as PVE may be at it, under whatever name', async () => {
    site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu/{vmid}/clone', kind: 'resetAfter' });
    const lost = await clone(vm, { newid: 110 });
    expect(lost.status).toBe(502);
    expect(exists(110)).toBe(true);
    expectTruth(site, 'alice', own);
  });

  test('by an administrator is booked to whose vmid it is, whatever the quota', async () => {
    const said = await admin.post('/nodes/n1/qemu/900/clone', { newid: 110, full: 1, pool: 'alice' });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice').cores).toBe(19);
    expectTruth(site, 'alice', own);
  });
});

describe('a restore', () => {
  const restore = (archive: string, params: Record<string, string | number> = {}) =>
    alice.post('/nodes/n1/qemu', { vmid: 110, archive, pool: 'alice', ...params });

  test('of a backup of mine makes another guest, as large as the backup says', async () => {
    const scsi0 = 'ceph:vm-100-disk-0,size=8G';
    const large = addBackup(site.cluster, { vmid: 100, config: { cores: 7, memory: 1024, scsi0 } }).volid;
    await expectRefused(site, () => restore(large), /cores: 7 more requested, 5 left/);
    const wide = addBackup(site.cluster, {
      ...{ vmid: 100, at: Date.now() + 1000 },
      config: { cores: 1, scsi0: 'ceph:vm-100-disk-0,size=80G' },
    }).volid;
    await expectRefused(site, () => restore(wide), /storage ceph: 80 GiB/);
    const said = await restore(large, { cores: 2, storage: 'fast' });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice')).toMatchObject({ cores: 5, 'storage:fast': 8 * GiB });
    expectTruth(site, 'alice', own);
  });

  test('brings back nothing that only an administrator can have set', async () => {
    const config = { cores: 1, memory: 512, scsi0: 'ceph:vm-100-disk-0,size=1G' };
    let at = Date.now();
    for (const [key, value] of Object.entries({ args: '-S', hookscript: 'local:snippets/x', usb0: 'host=1-2' })) {
      at += 1000;
      const { volid } = addBackup(site.cluster, { vmid: 100, at, config: { ...config, [key]: value } });
      await expectRefused(site, () => restore(volid), new RegExp(`the backup holds ${key}`));
    }
    const device = addBackup(site.cluster, { vmid: 100, at: at + 1000, config: { ...config, hostpci0: '0000:41:00' } });
    await expectRefused(site, () => restore(device.volid), /pci/);
  });

  test('of a container is unprivileged, and as large as the backup says', async () => {
    const { volid } = addBackup(site.cluster, {
      ...{ vmid: 101, type: 'lxc' },
      config: { cores: 1, memory: 512, swap: 0, features: 'nesting=1', rootfs: 'ceph:vm-101-disk-0,size=10G' },
    });
    const params = { vmid: 110, ostemplate: volid, restore: 1, pool: 'alice' };
    await expectRefused(site, () => alice.post('/nodes/n1/lxc', params), /storage: is required/);
    await expectRefused(
      site,
      () => alice.post('/nodes/n1/lxc', { ...params, storage: 'ceph', unprivileged: 0 }),
      /must be 1/,
    );
    await expectRefused(
      site,
      () => alice.post('/nodes/n1/lxc', { ...params, rootfs: 'ceph:30' }),
      /storage ceph: 30 GiB/,
    );
    const said = await alice.post('/nodes/n1/lxc', { ...params, storage: 'ceph' });
    expect(said.status, said.text).toBe(200);
    expect(site.cluster.guests.get(110)?.config.get('unprivileged')).toBe('1');
    expectTruth(site, 'alice', own);
  });

  test('of backups that an earlier guest of a free vmid has left is not for its next owner', async () => {
    const { volid } = addBackup(site.cluster, { vmid: 110, config: { cores: 1, name: 'secret' } });
    await expectRefused(site, () => restore(volid), /is no backup of instance 110/);
    await expectRefused(site, () => restore(volid, { vmid: 111 }), /on instance 110/);
    expect((await alice.post('/nodes/n1/qemu', { vmid: 110, pool: 'alice', cores: 1 })).status).toBe(200);
    site.cluster.guests.get(110)?.config.set('meta', `ctime=${Math.floor(Date.now() / 1000) + 60}`);
    await expectRefused(site, () => restore(volid, { vmid: 111 }), /is no backup of instance 110/);
    // A container does not say when it was made.
    const old = { type: 'lxc', config: { cores: 1, rootfs: 'ceph:vm-112-disk-0,size=1G' } } as const;
    const before = addBackup(site.cluster, { vmid: 112, at: Date.now() - 3_600_000, ...old }).volid;
    const ostemplate = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';
    const container = { vmid: 112, pool: 'alice', cores: 1, memory: 512, swap: 0, storage: 'ceph' };
    expect((await alice.post('/nodes/n1/lxc', { ...container, ostemplate })).status).toBe(200);
    const again = { vmid: 111, pool: 'alice', restore: 1, storage: 'ceph' };
    const bring = (volid: string) => alice.post('/nodes/n1/lxc', { ...again, ostemplate: volid });
    await expectRefused(site, () => bring(before), /is no backup of instance 112/);
    const own = addBackup(site.cluster, { vmid: 112, ...old }).volid;
    const said = await bring(own);
    expect(said.status, said.text).toBe(200);
  });
});

test('a vmid that has just become free is not taken with what another has left there', async () => {
  addVolume(site.cluster, { volid: 'ceph:vm-112-disk-7', content: 'images', bytes: 4 * GiB });
  await site.refresh();
  const said = await alice.post('/nodes/n1/qemu', { vmid: 112, pool: 'alice', cores: 1, memory: 512 });
  // The vmid is one of hers, so what lies there was hers to pay for before.
  expect(said.status, said.text).toBe(200);
  expectTruth(site, 'alice', own);
  const [one, two] = await Promise.all(
    [1, 2].map(() => alice.post('/nodes/n1/qemu', { vmid: 111, pool: 'alice', cores: 1, memory: 512 })),
  );
  expect([one?.status, two?.status].toSorted()).toEqual([200, 409]);
});

describe('a move', () => {
  test('to another node is charged there, with the disks that change their storage', async () => {
    const fast = { cores: 1, memory: 512, scsi0: 'fast:vm-110-disk-0,size=8G' };
    addGuest(site.cluster, { vmid: 110, pool: 'alice', config: fast });
    await site.refresh();
    const move = (params: Record<string, string | number>) =>
      alice.post('/nodes/n1/qemu/110/migrate', { 'with-local-disks': 1, ...params });
    await expectRefused(site, () => move({ target: 'n9' }), /n9 is not one of your nodes/);
    await expectRefused(site, () => move({}), /target/);
    await expectRefused(site, () => move({ target: 'n3', targetstorage: 'tank' }), /storage tank/);
    await expectRefused(site, () => move({ target: 'n3', targetstorage: 'fast:tank' }), /storage tank/);
    await expectRefused(site, () => alice.post(`${vm}/migrate`, { target: 'n2', force: 1 }), /force/);
    const said = await move({ target: 'n3', targetstorage: 'fast:local' });
    expect(said.status, said.text).toBe(200);
    expect(site.booked('alice')).toMatchObject({ 'storage:local': 8 * GiB });
    expectTruth(site, 'alice', own);
  });

  test('is judged by what the target leaves', async () => {
    await alice.put(`${vm}/config`, { cores: 3 });
    const everyWay = [
      () => alice.post(`${vm}/migrate`, { target: 'n2' }),
      () => alice.post('/nodes/n1/migrateall', { target: 'n2', vms: '100,101' }),
      () => alice.post('/cluster/bulk-action/guest/migrate', { target: 'n2', vms: [100, 101] }),
    ];
    for (const way of everyWay) await expectRefused(site, way, /cores on node n2: [34] more requested, 2 left/);
    expect((await alice.post(`${ct}/migrate`, { target: 'n2' })).status).toBe(200);
    expectTruth(site, 'alice', own);
  });

  test('that PVE has only been ordered to make counts on its target all the while', async () => {
    const { highlyAvailable, tasks, guests } = site.cluster;
    highlyAvailable.add(100).add(101);
    tasks.paces.set('qmigrate', 300);
    expect((await alice.post('/nodes/n1/migrateall', { target: 'n2', vms: 100 })).status).toBe(200);
    await expectRefused(site, () => alice.post(`${ct}/migrate`, { target: 'n2' }), /cores on node n2: 1 more/);
    await until('it has moved', () => guests.get(100)?.node === 'n2');
    await site.refresh();
    expectTruth(site, 'alice', own);
    tasks.paces.clear();
    highlyAvailable.clear();
  });

  test('that fails counts with what it has left on its target', async () => {
    addGuest(site.cluster, {
      ...{ vmid: 110, pool: 'alice' },
      config: { cores: 1, memory: 512, scsi0: 'local:110/vm-110-disk-0.raw,size=8G' },
    });
    await site.refresh();
    site.cluster.tasks.pace = 'by hand';
    const moving = alice.post('/nodes/n1/qemu/110/migrate', { target: 'n3', 'with-local-disks': 1 });
    await until('it moves', () => site.cluster.tasks.running().length === 1);
    addVolume(site.cluster, { volid: 'local:110/vm-110-disk-0.raw', node: 'n3', content: 'images', bytes: 5 * GiB });
    site.cluster.tasks.pace = 'at once';
    for (const { upid } of site.cluster.tasks.running()) site.cluster.tasks.stop(upid);
    expect((await moving).status).toBe(200);
    expect(site.cluster.guests.get(110)?.node).toBe('n1');
    expect(site.booked('alice')['storage:local']).toBe(13 * GiB);
  });

  test('out of the cluster, or into it from outside, is not for tenants', async () => {
    const said = await alice.post(`${vm}/remote_migrate`, {
      ...{ 'target-endpoint': 'host=x', 'target-storage': 'x', 'target-bridge': 'x' },
    });
    expect(said.status).toBe(403);
    expect((await alice.post(`${vm}/mtunnel`)).status).toBe(403);
  });
});

describe('calls about many guests', () => {
  test.each([
    ['/nodes/n1/suspendall', {}],
    ['/nodes/n1/migrateall', { target: 'n3' }],
    ['/cluster/bulk-action/guest/suspend', { 'to-disk': 1 }],
    ['/cluster/bulk-action/guest/migrate', { target: 'n3' }],
  ])('%s has to name guests, all of them mine', async (path, params) => {
    await expectRefused(site, () => alice.post(path, params), /for every guest here unless it names some/, 403);
    const vms = path.startsWith('/nodes') ? '100,300' : [100, 300];
    await expectRefused(site, () => alice.post(path, { ...params, vms }), /instance 300/, 403);
    await expectRefused(site, () => alice.post(path, { ...params, vms: 'x' }), /vms/);
  });

  test('are for administrators when they name none', async () => {
    const said = await admin.post('/nodes/n1/vzdump', { all: 1, storage: 'shared', remove: 0 });
    expect(said.status, said.text).toBe(200);
    await site.refresh();
    expect(site.booked('alice')).toMatchObject({ 'backups 100': 1, 'backups 101': 1 });
  });

  test('count as long as what they have begun for one of them goes on without them', async () => {
    const { tasks } = site.cluster;
    const { settlement } = site.server;
    tasks.pace = 'by hand';
    const saving = alice.post('/nodes/n1/suspendall', { vms: 100 });
    await until('it is followed', () => settlement.open === 1);
    const [all] = tasks.running();
    const state = { volid: 'ceph:vm-100-state-suspend', content: 'images', bytes: (2 * 1024 + 500) * MiB } as const;
    const run = () => void addVolume(site.cluster, state);
    const one = tasks.start({ node: 'n1', type: 'qmsuspend', id: '100', caller: { user: 'root@pam' }, run });
    const asked = () => site.simulator.requests.filter(({ path }) => path === '/nodes/n1/tasks').length;
    const before = asked();
    tasks.stop(all?.upid ?? '');
    await until('its end is known', () => settlement.open === 0 || asked() > before);
    expect(settlement.open).toBe(1);
    tasks.finish(one);
    tasks.pace = 'at once';
    expect((await saving).status).toBe(200);
    expectTruth(site, 'alice', own);
  });

  test('go through when all is theirs', async () => {
    const said = await alice.post('/cluster/bulk-action/guest/migrate', { target: 'n3', vms: [100, 101] });
    expect(said.status, said.text).toBe(200);
    await site.refresh();
    expectTruth(site, 'alice', own);
  });
});

describe('pools', () => {
  test('of mine may have guests of mine, and nothing else changes', async () => {
    const shared = '/pools/shared';
    expect((await alice.put(shared, { vms: '100', 'allow-move': 1 })).status).toBe(200);
    expect(site.cluster.pools.get('shared')?.vms.has(100)).toBe(true);
    await until('the list shows it', async () => {
      await site.refresh();
      return site.server.inventory.guests.get(100)?.pool === 'shared';
    });
    expectTruth(site, 'alice', own);
    expect((await alice.put('/pools', { poolid: 'alice', vms: '100', 'allow-move': 1 })).status).toBe(200);
    await expectRefused(site, () => alice.put('/pools/bob', { vms: '100', 'allow-move': 1 }), /bob is not one of your/);
    await expectRefused(site, () => alice.put(shared, { vms: '300', 'allow-move': 1 }), /instance 300/);
    addGuest(site.cluster, { vmid: 302, pool: 'shared', config: { cores: 1, memory: 512 } });
    await site.refresh();
    site.server.ledger.assign(302, ['bob@pve']);
    await expectRefused(site, () => alice.put('/pools/alice', { vms: '302', 'allow-move': 1 }), /could not reach it/);
    await expectRefused(site, () => alice.put(shared, { vms: '100', delete: 1 }), /delete/);
    await expectRefused(site, () => alice.put(shared, { vms: '100', storage: 'ceph' }), /storage/);
  });
});

test('what shrinks or goes may do so while nothing may grow', async () => {
  const { access } = site.cluster;
  const service = { users: ['quota-proxy@pve'] };
  access.addRole('Half', ['VM.Allocate', 'VM.PowerMgmt']);
  access.addRole('Whole', [...(access.roles.get('QuotaProxy') ?? [])]);
  for (const vmid of [100, 101]) access.setAcl(`/vms/${vmid}`, service, 'Whole');
  access.setAcl('/vms', service, 'Half');
  await site.refresh();
  expect(site.server.inventory.frozen).toBeDefined();
  const grown = await alice.put(`${vm}/config`, { cores: 3 });
  expect([grown.status, grown.text]).toEqual([503, expect.stringContaining('nothing may grow')]);
  expect((await alice.put(`${vm}/config`, { cores: 1 })).status).toBe(200);
  expect((await alice.delete(ct)).status).toBe(200);
  expect(exists(101)).toBe(false);
});

test('a copy whose answer was lost stays charged while its task runs, and no longer for others, and a file that is being written is not imported', async () => {
  let ahead = 0;
  await using slow = await startSite({
    users: { alice: { cores: 8, memory: 8 * GiB, local: 20 * GiB, vmid: [100, 199] } },
    config: { tenants: { urls: ['https://images.example.org/*'] } },
    hold: 0.2,
    simulator: { taskPace: 800, now: () => Date.now() + ahead },
  });
  addGuest(slow.cluster, { vmid: 100, pool: 'alice', config: { cores: 2, memory: 1024 } });
  await slow.refresh();
  slow.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu/{vmid}/clone', kind: 'resetAfter' });
  const tenant = await metered(slow, 'alice');
  const answer = tenant.post(`${vm}/clone`, { newid: 110 });
  await slow.simulator.waitForRequest(({ path }) => path.endsWith('/tasks'));
  expect(slow.cluster.guests.has(110)).toBe(false);
  expect(slow.booked('alice').cores).toBe(4);
  expect((await answer).status).toBe(502);
  expect(slow.cluster.guests.has(110)).toBe(true);
  expectTruth(slow, 'alice', [100, 110]);

  // Neither a console nor what has run for an hour or begins in an hour can be the call's.
  const running = [-3_600_000, 3_600_000].flatMap((skew) => {
    ahead = skew;
    return [{ type: 'vncproxy', id: '100' } as const, { type: 'vzdump', id: '' } as const].map((task) =>
      slow.cluster.tasks.start({
        ...{ ...task, node: 'n1', pace: 'by hand', run: () => {} },
        caller: { user: 'root@pam' },
      }),
    );
  });
  ahead = 0;
  slow.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu/{vmid}/clone', kind: 'resetBefore' });
  expect((await tenant.post(`${vm}/clone`, { newid: 111 })).status).toBe(502);
  expect(slow.cluster.tasks.running().length).toBe(running.length);
  for (const upid of running) slow.cluster.tasks.finish(upid);
  expectTruth(slow, 'alice', [100, 110]);

  // Trouble in telling is no end of the task, nor is a proxy's of waiting.
  const { faults } = slow.simulator;
  faults.add({ kind: 'refuse', method: 'GET', path: '/nodes/{node}/tasks/{upid}/status', status: 500, reason: 'busy' });
  faults.add({ kind: 'refuseAfter', method: 'POST', path: /\/100\/clone$/, status: 504, reason: 'Gateway Time-out' });
  const copied = await Promise.all([112, 113].map((newid) => tenant.post(`${vm}/clone`, { newid })));
  expect(copied.map(({ status }) => status).toSorted()).toEqual([200, 504]);
  expect([112, 113].map((vmid) => slow.cluster.guests.has(vmid))).toEqual([true, true]);
  expectTruth(slow, 'alice', [100, 110, 112, 113]);

  publish(slow.cluster, 'https://images.example.org/a.qcow2', { bytes: GiB });
  const fetched = tenant.post('/nodes/n1/storage/local/download-url', {
    ...{ content: 'import', filename: 'a.qcow2', url: 'https://images.example.org/a.qcow2' },
  });
  await slow.simulator.waitForRequest(({ path, status }) => path.endsWith('/download-url') && status === 200);
  const scsi0 = 'local:0,import-from=local:import/a.qcow2';
  expect((await tenant.put(`${vm}/config`, { scsi0 })).text).toMatch(/is still being written/);
  expect((await fetched).status).toBe(200);
  const imported = await tenant.put(`${vm}/config`, { scsi0 });
  expect(imported.status, imported.text).toBe(200);
  expect(slow.booked('alice')['storage:local']).toBe(2 * GiB);
});
