/** Attacks on the gate: changes that fit alone, what copies bring along, and calls of usual clients that are none. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addBackup, addGuest, addVolume, setConfig } from '../../simulator/administrator.ts';
import { expectRefused, expectTruth, type Metered, metered, startOver } from '../support/metered.ts';
import { PveClient } from '../support/pve-client.ts';
import { range } from '../support/scale.ts';
import { GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 16, memory: 8 * GiB, swap: 8 * GiB, ceph: 64 * GiB, local: 64 * GiB } as const;
const vm = '/nodes/n1/qemu/200';
const ct = '/nodes/n1/lxc/201';
const template = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

let site: Site;
let bob: Metered;
/** The same user, whose calls do not wait for what they begin. */
let hasty: PveClient;
/** A story that takes its time, played beside the others. */
let halfWay: Promise<void>;

beforeAll(async () => {
  halfWay = playHalfWay();
  halfWay.catch(() => {});
  site = await startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, network: 10_000_000, vmid: [200, 299] } },
    config: {
      backups: { storage: 'shared' },
      tenants: { networks: ['vmbr0', 'vmbr0/*'], parameters: ['features'] },
    },
    hold: 0.2,
  });
  bob = await metered(site, 'bob');
  hasty = await PveClient.signIn(site, 'bob');
});

afterAll(() => site[Symbol.asyncDispose]());

beforeEach(() => startOver(site, 'bob', 200));

/** Lets all tasks end that were begun meanwhile, and waits until they are settled. */
async function finish(): Promise<void> {
  site.cluster.tasks.pace = 'at once';
  site.cluster.tasks.finishAll();
  await site.settled();
}

/** A small VM of bob's beside the usual two. */
async function another(vmid: number): Promise<string> {
  addGuest(site.cluster, {
    ...{ vmid, pool: 'bob' },
    config: { cores: 1, memory: 512, scsi0: `ceph:vm-${vmid}-disk-0,size=1G` },
  });
  await site.refresh();
  return `/nodes/n1/qemu/${vmid}`;
}

describe('while a task has not ended', () => {
  test('nothing that it was judged without can make it larger, and nothing that it makes larger is judged without it', async () => {
    await another(230);
    const third = await another(231);
    const copied = await another(232);
    const asleep = await another(233);
    site.cluster.tasks.pace = 'by hand';
    const begun = await Promise.all([
      hasty.post(`${vm}/clone`, { newid: 240, pool: 'bob' }),
      hasty.post('/nodes/n1/vzdump', { vmid: 230, storage: 'shared' }),
      hasty.post(`${third}/config`, { scsi1: 'ceph:8', cores: 2 }),
      hasty.put(`${ct}/resize`, { disk: 'rootfs', size: '+4G' }),
      hasty.post('/nodes/n1/qemu', {
        ...{ vmid: 241, pool: 'bob', cores: 1, memory: 512 },
        scsi0: 'ceph:0,import-from=ceph:vm-232-disk-0',
      }),
      hasty.post('/nodes/n1/suspendall', { vms: 233 }),
    ]);
    expect(begun.map(({ status, reason }) => `${status} ${reason}`)).toEqual(begun.map(() => '200 OK'));

    const refused = await Promise.all([
      // PVE copies what is there when the task comes to it.
      hasty.put(`${vm}/config`, { cores: 4 }),
      hasty.put(`${copied}/resize`, { disk: 'scsi0', size: '32G' }),
      hasty.put(`${asleep}/config`, { vmstatestorage: 'local' }),
      hasty.post(`${third}/clone`, { newid: 242, pool: 'bob' }),
      hasty.post(`${vm}/snapshot`, { snapname: 'other' }),
      // PVE makes one backup after the other.
      hasty.post('/nodes/n1/vzdump', { vmid: 230, storage: 'shared' }),
      // Each alone would leave the container as large as the other.
      hasty.post('/nodes/n1/storage/ceph/content', { vmid: 201, filename: 'vm-201-disk-7', size: '4G' }),
    ]);
    expect(refused.map(({ status }) => status)).toEqual(refused.map(() => 409));
    for (const { reason } of refused) expect(reason).toMatch(/under way; try again when it has ended/);
    expect([...site.cluster.volumes.ofGuest(201)].map(({ volid }) => volid)).toEqual(['ceph:vm-201-disk-0']);

    // What takes nothing, gives back, copies what stays as it is, or has nothing to do with it, goes on.
    const passed = await Promise.all([
      hasty.put(`${vm}/config`, { description: 'being copied' }),
      hasty.post(`${vm}/clone`, { newid: 243, pool: 'bob' }),
    ]);
    expect(passed.map(({ status }) => status)).toEqual([200, 200]);
    await finish();
    expectTruth(
      site,
      'bob',
      range(100).map((n) => 200 + n),
    );
    expect((await bob.put(`${vm}/config`, { cores: 2 })).status).toBe(200);
  });

  test('no larger disk becomes part of what is being copied', async () => {
    addVolume(site.cluster, { volid: 'ceph:vm-200-disk-1', content: 'images', bytes: 40 * GiB });
    setConfig(site.cluster, 200, { unused0: 'ceph:vm-200-disk-1' });
    await site.refresh();
    site.cluster.tasks.pace = 'by hand';
    expect((await hasty.post(`${vm}/clone`, { newid: 240, pool: 'bob', full: 1 })).status).toBe(200);
    expect((await hasty.put(`${vm}/config`, { scsi1: 'ceph:vm-200-disk-1' })).status).toBe(409);
    await finish();
    await site.refresh();
    expect(site.booked('bob')['storage:ceph']).toBeLessThanOrEqual(limits.ceph);
    expect((await bob.put(`${vm}/config`, { scsi1: 'ceph:vm-200-disk-1' })).status).toBe(200);
  });

  test('a backup of several guests that stands in the queue keeps nobody from changing or cloning one of them', async () => {
    expect((await bob.put(`${vm}/config`, { memory: 2048 })).status).toBe(200);
    site.cluster.tasks.pace = 'by hand';
    expect((await hasty.post('/nodes/n1/vzdump', { vmid: '200,201', storage: 'shared' })).status).toBe(200);
    // PVE has locked neither as yet.
    setConfig(site.cluster, 200, { lock: null });
    for (const memory of [512, 1024]) expect((await hasty.put(`${vm}/config`, { memory })).status).toBe(200);
    expect((await hasty.post(`${vm}/clone`, { newid: 240, pool: 'bob' })).status).toBe(200);
    // That of one of them is there, and the task goes on with the other.
    addBackup(site.cluster, { vmid: 200, at: Date.now() + 5000, config: { cores: 1 } });
    await site.server.inventory.listStorages();
    expect((await hasty.post(`${vm}/clone`, { newid: 241, pool: 'bob' })).status).toBe(200);
    await finish();
  });

  test('what comes next waits until an answer is settled, and is not refused for it', async () => {
    const sizes = await Promise.all(range(3).map((n) => hasty.put(`${vm}/config`, { [`scsi${n + 1}`]: 'ceph:2' })));
    expect(sizes.map(({ status }) => status)).toEqual([200, 200, 200]);
    await site.settled();
    expectTruth(site, 'bob', [200, 201]);
  });
});

/** PVE writes a configuration before it has made the disk that the same call asks for, and nobody hears the answer. */
async function playHalfWay(): Promise<void> {
  await using slow = await startSite({ users: { alice: { ...limits, vmid: [100, 199] } }, hold: 60 });
  const { faults, requests } = slow.simulator;
  addGuest(slow.cluster, { vmid: 100, pool: 'alice', config: { cores: 1, memory: 512, description: 'old' } });
  await slow.refresh();
  const alice = await PveClient.signIn(slow, 'alice');
  faults.add({
    kind: 'refuse',
    status: 596,
    reason: 'timed out',
    method: 'PUT',
    path: '/nodes/{node}/qemu/{vmid}/config',
  });
  const lost = await alice.put('/nodes/n1/qemu/100/config', { delete: 'description', scsi1: 'ceph:40' });
  expect(lost.status).toBe(596);
  const [from, looks] = [requests.length, () => requests.slice(from).filter(({ path }) => path.endsWith('/pending'))];
  setConfig(slow.cluster, 100, { description: null });
  await until('the configuration was looked at again and again', () => looks().length >= 4);
  expect(slow.booked('alice')['storage:ceph']).toBe(40 * GiB);
  addVolume(slow.cluster, { volid: 'ceph:vm-100-disk-0', content: 'images', bytes: 40 * GiB });
  setConfig(slow.cluster, 100, { scsi1: 'ceph:vm-100-disk-0,size=40G' });
  await slow.settled();
  expectTruth(slow, 'alice', [100]);
}

test('what PVE has half done when its answer is lost counts until all of it is there', () => halfWay);

describe('what an administrator has given to one guest is not brought to another by', () => {
  const strange = 'virtio=BC:24:11:00:02:00,bridge=vmbr1,tag=20,rate=1';

  test('a copy: a network, a drive of the host, a raw setting', async () => {
    const clone = (from: string) => bob.post(`${from}/clone`, { newid: 240, pool: 'bob' });
    setConfig(site.cluster, 200, { net0: strange });
    await expectRefused(site, () => clone(vm), /net0 is on vmbr1\/20/);
    setConfig(site.cluster, 200, { net0: null, ide2: 'cdrom,media=cdrom' });
    await expectRefused(site, () => clone(vm), /ide2, which only an administrator can copy/);
    setConfig(site.cluster, 201, { lxc: 'lxc.mount.entry: /srv srv none bind' });
    await expectRefused(site, () => clone(ct), /lxc, which only an administrator can copy/);
    setConfig(site.cluster, 200, { ide2: null, net0: 'virtio=BC:24:11:00:02:00,bridge=vmbr0,tag=7,rate=1' });
    expect((await clone(vm)).status).toBe(200);
  });

  test('a backup, unless the call says otherwise or the guest has it still', async () => {
    const { volid: archive } = addBackup(site.cluster, {
      ...{ vmid: 200, at: Date.now() + 1000 },
      config: { cores: 1, memory: 512, net0: strange, scsi0: 'ceph:vm-200-disk-0,size=1G' },
    });
    await site.refresh();
    const restore = (more: Readonly<Record<string, string | number>>) =>
      bob.post('/nodes/n1/qemu', { archive, storage: 'ceph', ...more });
    await expectRefused(site, () => restore({ vmid: 240, pool: 'bob' }), /net0 is on vmbr1\/20/);
    const net0 = 'virtio,bridge=vmbr0,rate=1';
    const said = await restore({ vmid: 240, pool: 'bob', net0 });
    expect(said.status, said.text).toBe(200);
    setConfig(site.cluster, 200, { net0: strange });
    expect((await restore({ vmid: 200, force: 1 })).status).toBe(200);
  });

  test('a backup with raw settings of a container, where root would have to restore it', async () => {
    const { volid: ostemplate } = addBackup(site.cluster, {
      ...{ vmid: 201, type: 'lxc', at: Date.now() + 1000 },
      config: {
        cores: 1,
        memory: 512,
        unprivileged: 1,
        rootfs: 'ceph:vm-201-disk-0,size=1G',
        'lxc.mount.entry': '/srv srv',
      },
    });
    await site.refresh();
    const values = { vmid: 240, pool: 'bob', restore: 1, ostemplate, storage: 'ceph' };
    await expectRefused(site, () => bob.post('/nodes/n1/lxc', { ...values, features: 'fuse=1' }), /holds lxc/);
    expect((await bob.post('/nodes/n1/lxc', values)).text).not.toMatch(/holds lxc/);
  });
});

describe('usual clients are understood', () => {
  const made = { pool: 'bob', cores: 1, memory: 512 };

  test('when they say what they leave off', async () => {
    const said = await Promise.all([
      bob.post('/nodes/n1/qemu', { vmid: 240, ...made, template: 0 }),
      bob.post('/nodes/n1/lxc', {
        ...{ vmid: 241, ...made, swap: 0, ostemplate: template, rootfs: 'ceph:1', template: 0 },
        ...{ force: 0, restore: 0, 'ignore-unpack-errors': 0 },
      }),
    ]);
    expect(said.map(({ status, text }) => `${status} ${text}`)).toEqual(['200 {}', '200 {}']);
    const on = { vmid: 242, ...made, ostemplate: template, rootfs: 'ceph:1' };
    expect((await bob.post('/nodes/n1/vzdump', { vmid: 200, all: 0, storage: 'shared' })).status).toBe(200);
    for (const field of ['force', 'template'])
      await expectRefused(site, () => bob.post('/nodes/n1/lxc', { ...on, [field]: 1 }), /not allowed/);
  });

  test('when they say that a disk which is handed over is kept', async () => {
    const other = await another(230);
    const said = await bob.post(`${other}/move_disk`, {
      ...{ disk: 'scsi0', 'target-vmid': 200, 'target-disk': 'scsi1', delete: 0 },
    });
    expect(said.status, said.text).toBe(200);
    expectTruth(site, 'bob', [200, 201, 230]);
  });

  test('when they repeat a name for each thing of a list', async () => {
    setConfig(site.cluster, 201, { description: 'old', tags: 'old' });
    const said = await bob.put(`${ct}/config`, { delete: ['description', 'tags'] });
    expect(said.status, said.text).toBe(200);
    expect(site.simulator.requests.findLast(({ path }) => path.endsWith('/config'))?.params.delete).toBe(
      'description,tags',
    );
    const backups = await bob.post('/nodes/n1/vzdump', { vmid: [200, 201], storage: 'shared' });
    expect(backups.status, backups.text).toBe(200);
    await expectRefused(site, () => bob.put(`${ct}/config`, { delete: ['tags', 'lock'] }), /lock/);
    await expectRefused(site, () => bob.post('/nodes/n1/vzdump', { vmid: [200, 100], storage: 'shared' }), /100/, 403);
  });

  test('when they name the storage of new disks once', async () => {
    const vms = await bob.post('/nodes/n1/qemu', { vmid: 240, ...made, storage: 'ceph', scsi0: '2,discard=on' });
    expect(vms.status, vms.text).toBe(200);
    const cts = await bob.post('/nodes/n1/lxc', {
      ...{ vmid: 241, ...made, swap: 0, ostemplate: template, storage: 'ceph', rootfs: '2' },
    });
    expect(cts.status, cts.text).toBe(200);
    expectTruth(site, 'bob', [200, 201, 240, 241]);
    await expectRefused(site, () => bob.post('/nodes/n1/qemu', { vmid: 242, ...made, scsi0: '2' }), /scsi0/);
    const large = { vmid: 242, ...made, storage: 'ceph', scsi0: '65' };
    await expectRefused(site, () => bob.post('/nodes/n1/qemu', large), /ceph/, 403);
  });

  test('when they look whether they may make backups', async () => {
    const { data } = await bob.get('/access/permissions', { path: '/storage/shared' });
    expect(data['/storage/shared']).toMatchObject({ 'Datastore.AllocateSpace': 1 });
  });

  test('when they repeat a size that the storage has rounded up', async () => {
    addVolume(site.cluster, { volid: 'ceph:vm-200-disk-1', content: 'images', bytes: 4 * MiB });
    await site.refresh();
    expect((await bob.put(`${vm}/config`, { efidisk0: 'ceph:vm-200-disk-1,size=528K' })).status).toBe(200);
    await expectRefused(site, () => bob.put(`${vm}/config`, { efidisk0: 'ceph:vm-200-disk-1,size=8M' }), /size/);
  });
});
