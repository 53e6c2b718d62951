/** Ways past a quota through copies that PVE keeps on other nodes, tried in PVE's own words. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { runReplication } from '../../simulator/replication.ts';
import { expectRefused, expectTruth, type Metered, metered } from '../support/metered.ts';
import { GiB, type Site, startSite } from '../support/site.ts';

let site: Site;
let alice: Metered;
let carol: Metered;
let admin: Metered;
const vm = '/nodes/n1/qemu/100';
const jobs = '/cluster/replication';
const own = [100, 101];
const sketch = { cores: 8, memory: 8 * GiB, swap: GiB, network: 2e7, ceph: 40 * GiB };

beforeAll(async () => {
  site = await startSite({
    users: {
      alice: { ...sketch, fast: 40 * GiB, vmid: [100, 199] },
      carol: { ...sketch, fast: 40 * GiB, nodes: { n2: { fast: 6 * GiB } }, vmid: [200, 299] },
      admin: { admin: true },
    },
  });
  const fast = site.cluster.storages.get('fast');
  if (fast === undefined) throw new Error('there is no such storage');
  site.cluster.storages.set('fast', { ...fast, type: 'zfspool' });
  [alice, carol, admin] = await Promise.all([metered(site, 'alice'), metered(site, 'carol'), metered(site, 'admin')]);
});

afterAll(() => site[Symbol.asyncDispose]());

/** Makes the guests anew, 8 GiB each on a storage that can be replicated, and ends all jobs. */
beforeEach(async () => {
  const { cluster } = site;
  cluster.replication.clear();
  for (const vmid of [...own, 200]) {
    for (const volume of cluster.volumes.ofGuest(vmid)) cluster.volumes.remove(volume);
    cluster.guests.delete(vmid);
  }
  const config = { cores: 1, memory: 512 };
  const disk = (vmid: number) => `fast:vm-${vmid}-disk-0,size=8G`;
  addGuest(cluster, { vmid: 100, pool: 'alice', config: { ...config, scsi0: disk(100) } });
  addGuest(cluster, {
    ...{ vmid: 101, pool: 'alice', type: 'lxc' },
    config: { ...config, swap: 0, unprivileged: 1, rootfs: 'fast:subvol-101-disk-0,size=8G' },
  });
  addGuest(cluster, { vmid: 200, pool: 'carol', config: { ...config, scsi0: disk(200) } });
  await site.refresh();
});

const setUp = (by: Metered, vmid: number, target = 'n2', more = {}) =>
  by.post(jobs, { id: `${vmid}-0`, target, type: 'local', ...more });

/** GiB of the storage that are booked for a tenant, on one node. */
function heldOn(node: string, name = 'alice'): number {
  const held = site.server.ledger
    .holdings(`${name}@pve`)
    .filter((holding) => holding.node === node && holding.resource === 'storage:fast');
  return held.reduce((sum, { booked }) => sum + booked, 0) / GiB;
}

/** Runs all jobs, and expects that this changes nothing of what is booked and makes it the truth. */
async function run(): Promise<void> {
  const before = site.booked('alice');
  runReplication(site.cluster);
  await site.refresh();
  expect(site.booked('alice')).toEqual(before);
  expectTruth(site, 'alice', own);
}

test('a replica counts on its node from the moment that its job is set up, as it does once PVE has made it', async () => {
  await alice.put(`${vm}/config`, { scsi1: 'fast:4,replicate=0', scsi2: 'ceph:4', ide2: 'fast:cloudinit' });
  expect(await setUp(alice, 100, 'n2', { rate: 10, schedule: '*/5', comment: 'nightly' })).toMatchObject({
    status: 200,
  });
  expect(heldOn('n2')).toBe(8);
  expect((await setUp(alice, 101)).status).toBe(200);
  expect(heldOn('n2')).toBe(16);
  await run();
  expect(site.cluster.replicationStates.get('100-0')).toMatchObject({ fail_count: 0 });

  const told = await alice.get(`${jobs}/100-0`);
  expect(told.data).toMatchObject({ source: 'n1', target: 'n2', rate: 10 });
  const settings = { disable: 1, delete: 'comment', digest: '0' };
  expect((await alice.put(`${jobs}/100-0`, settings)).status).toBe(200);
  expect((await alice.post('/nodes/n1/replication/100-0/schedule_now')).status).toBe(200);
  expect(heldOn('n2')).toBe(16);
});

test('a job beyond the quota is refused, by the name of the storage and of the node', async () => {
  await alice.put(`${vm}/resize`, { disk: 'scsi0', size: '20G' });
  await expectRefused(
    site,
    () => setUp(alice, 100),
    /storage fast, replicas on n2 included: 20 GiB more requested, 12 GiB left.*"target"/s,
  );
  await expectRefused(site, () => setUp(carol, 200), /storage fast on node n2: 8 GiB more requested, 6 GiB left/);
  expect((await setUp(carol, 200, 'n3')).status).toBe(200);
  expect(heldOn('n3', 'carol')).toBe(8);
});

test('a job is for guests of the tenant, to nodes of the tenant, and only with what this server knows of', async () => {
  await expectRefused(site, () => setUp(alice, 200), /instance 200.*"id"/s);
  await setUp(carol, 200, 'n3');
  for (const call of [
    () => alice.put(`${jobs}/200-0`, { disable: 1 }),
    () => alice.delete(`${jobs}/200-0`),
    () => alice.post('/nodes/n1/replication/200-0/schedule_now'),
  ])
    await expectRefused(site, call, /instance 200.*"id"/s);
  await expectRefused(site, () => setUp(alice, 100, 'n9'), /n9 is not one of your nodes.*"target"/s);
  await expectRefused(site, () => setUp(alice, 100, 'n2', { source: 'n1' }), /source/);
  await expectRefused(site, () => setUp(alice, 100, 'n2', { remove_job: 'local' }), /remove_job/);
  await expectRefused(site, () => alice.post(jobs, { id: '100', target: 'n2', type: 'local' }), /100-0/);
  await expectRefused(site, () => alice.post(jobs, { id: '100-0', type: 'local' }), /target/);
  await expectRefused(site, () => alice.delete(`${jobs}/x`), /is required/);
});

describe('what grows on a guest with a job grows twice', () => {
  beforeEach(async () => {
    expect((await setUp(alice, 100)).status).toBe(200);
  });

  test('a disk that is added, resized, or moved there', async () => {
    await expectRefused(site, () => alice.put(`${vm}/config`, { scsi1: 'fast:9' }), /replicas on n2 included: 18 GiB/);
    await alice.put(`${vm}/config`, { scsi1: 'fast:1', scsi2: 'ceph:3' });
    expect([heldOn('n1'), heldOn('n2')]).toEqual([17, 9]);
    await expectRefused(site, () => alice.put(`${vm}/resize`, { disk: 'scsi1', size: '+8G' }), /n2 included: 16 GiB/);
    await alice.put(`${vm}/resize`, { disk: 'scsi1', size: '+1G' });
    await alice.post(`${vm}/move_disk`, { disk: 'scsi2', storage: 'fast', delete: 1 });
    expect([heldOn('n1'), heldOn('n2')]).toEqual([21, 13]);
    await expectRefused(site, () => alice.put(`${vm}/config`, { scsi3: 'fast:4' }), /8 GiB more requested, 6 GiB left/);
    await run();
  });

  test('a disk beside one that is detached and goes on counting, and whatever a rollback makes of them', async () => {
    await alice.post(`${vm}/snapshot`, { snapname: 'before' });
    await alice.put(`${vm}/config`, { delete: 'scsi0' });
    await alice.put(`${vm}/config`, { scsi1: 'fast:2' });
    expect([heldOn('n1'), heldOn('n2')]).toEqual([18, 10]);
    await alice.post(`${vm}/snapshot/before/rollback`);
    await run();
    await site.refresh();
    expect([heldOn('n1'), heldOn('n2')]).toEqual([18, 10]);
  });

  test('a disk that is kept out grows once, as long as there is no snapshot that may say otherwise', async () => {
    await alice.put(`${vm}/config`, { scsi1: 'fast:9,replicate=0', ide2: 'fast:cloudinit' });
    expect(heldOn('n2')).toBe(8);
    await run();
    const take = () => alice.post(`${vm}/snapshot`, { snapname: 'one' });
    await expectRefused(site, take, /replicas on n2 included: 9 GiB more requested, 7 GiB left/);
    for (const change of [{ delete: 'scsi1' }, { scsi1: 'fast:vm-100-disk-1' }])
      await expectRefused(site, () => alice.put(`${vm}/config`, change), /9 GiB more requested, 7 GiB left/);
    await alice.put(`${vm}/config`, { delete: 'ide2' });
    expect(heldOn('n2')).toBe(8);
  });
});

test('a guest that moves to its replicas pays the same, and its job leads back', async () => {
  await setUp(alice, 100);
  await run();
  const before = site.booked('alice');
  expect((await alice.post(`${vm}/migrate`, { target: 'n2' })).status).toBe(200);
  expect(site.booked('alice')).toEqual(before);
  expect([heldOn('n1'), heldOn('n2')]).toEqual([16, 8]);
  expect(site.cluster.replication.get('100-0')).toMatchObject({ source: 'n2', target: 'n1' });
  await run();
  await alice.put('/nodes/n2/qemu/100/config', { scsi1: 'fast:2' });
  expect([heldOn('n1'), heldOn('n2')]).toEqual([18, 10]);
  await run();
});

describe('a job that is removed counts until its replicas are gone', () => {
  test('by the tenant, who has PVE remove them with it', async () => {
    await setUp(alice, 100);
    await run();
    for (const wrong of ['keep', 'force'])
      await expectRefused(site, () => alice.delete(`${jobs}/100-0`, { [wrong]: 1 }), /would stay on the target/);
    await expectRefused(site, () => alice.put(`${jobs}/100-0`, { remove_job: 'local' }), /must be full/);
    expect((await alice.delete(`${jobs}/100-0`)).status).toBe(200);
    expect(heldOn('n2')).toBe(8);
    runReplication(site.cluster);
    await site.refresh();
    expect(heldOn('n2')).toBe(0);
    expectTruth(site, 'alice', own);
  });

  test('by an administrator, who leaves them there', async () => {
    await setUp(alice, 100);
    await run();
    await admin.delete(`${jobs}/100-0`, { force: 1 });
    expect(heldOn('n2')).toBe(8);
    expectTruth(site, 'alice', own);
  });

  test('at PVE itself, before anybody here has seen what it had copied', async () => {
    await setUp(alice, 100);
    runReplication(site.cluster);
    site.cluster.replication.clear();
    await site.server.inventory.list();
    expect(heldOn('n2')).toBe(8);
    expectTruth(site, 'alice', own);
  });

  test('with its guest, whose payer can then delete them by name', async () => {
    await setUp(alice, 100);
    await run();
    const destroyed = await alice.delete(vm);
    expect(destroyed.text).toContain('replication job');
    expect((await alice.delete(vm, { purge: 1 })).status).toBe(200);
    expect(heldOn('n2')).toBe(8);
    expectTruth(site, 'alice', own);
    expect((await alice.delete('/nodes/n2/storage/fast/content/fast:vm-100-disk-0')).status).toBe(200);
    expect(heldOn('n2')).toBe(0);
  });
});

test('a job that an administrator sets up counts for whoever pays, whatever the quota', async () => {
  await alice.put(`${vm}/resize`, { disk: 'scsi0', size: '20G' });
  expect((await setUp(admin, 100)).status).toBe(200);
  expect(heldOn('n2')).toBe(20);
  await expectRefused(site, () => alice.put(`${vm}/config`, { scsi1: 'fast:1' }), /0 B left|0 left/);
  await run();
});

test('a job and a disk that fit alone are not both given when they are asked for at once', async () => {
  const statuses = await Promise.all([
    setUp(alice, 100).then(({ status }) => status),
    alice.put(`${vm}/config`, { scsi1: 'fast:9' }).then(({ status }) => status),
  ]);
  expect(statuses.filter((status) => status === 200)).toHaveLength(1);
  await run();
  expect(site.booked('alice')['storage:fast']).toBeLessThanOrEqual(40 * GiB);
});

test('a job counts when PVE has set it up and its answer was lost, and does not when PVE has refused it', async () => {
  site.simulator.faults.add({ method: 'POST', path: jobs, kind: 'resetAfter' });
  expect((await setUp(alice, 100)).status).toBeGreaterThanOrEqual(500);
  expect(heldOn('n2')).toBe(8);
  const twice = await alice.post(jobs, { id: '100-1', target: 'n2', type: 'local' });
  expect(twice.text).toContain('already exists');
  expect(heldOn('n2')).toBe(8);
  await alice.put('/nodes/n1/lxc/101/config', { mp0: 'ceph:1,mp=/data' });
  site.simulator.faults.add({ method: 'POST', path: jobs, kind: 'refuse', status: 500, reason: 'no quorum' });
  expect((await setUp(alice, 101)).text).toContain('no quorum');
  expect(heldOn('n2')).toBe(8);
  await run();
});

test('a storage that cannot be looked at, where a job has ended, keeps nothing else from being seen, and the promise stays', async () => {
  for (const vmid of own) expect((await setUp(alice, vmid)).status).toBe(200);
  await site.refresh();
  const held = heldOn('n2');
  site.cluster.replication.delete('100-0');
  site.simulator.faults.add({
    ...{ method: 'GET', path: /^\/nodes\/n2\/storage\/fast\/content/ },
    ...{ kind: 'resetBefore', times: 1000 },
  });
  await site.server.inventory.list();
  expect(await site.server.inventory.look({ vmid: 101, type: 'lxc', node: 'n1' }, 'all')).toBeDefined();
  expect(heldOn('n2')).toBe(held);
  site.simulator.faults.clear();
  await site.refresh();
  expect(heldOn('n2')).toBeLessThan(held);
});
