import { expect, test } from 'vitest';
import { addGuest, setConfig } from '../../simulator/administrator.ts';
import { GiB, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 4 * GiB, ceph: 64 * GiB, fast: 64 * GiB } as const;
const vm = '/cluster/n1/qemu/100/disk';
const container = '/cluster/n1/lxc/101/disk';

async function siteWithGuests() {
  const site = await startSite({ users: { alice: limits } });
  addGuest(site.cluster, {
    vmid: 100,
    pool: 'alice',
    config: { cores: 1, memory: 512, scsi0: 'ceph:vm-100-disk-0,size=8G' },
  });
  addGuest(site.cluster, {
    vmid: 101,
    type: 'lxc',
    pool: 'alice',
    config: { cores: 1, memory: 512, swap: 512, rootfs: 'ceph:vm-101-disk-0,size=8G' },
  });
  await site.refresh();
  const alice = await site.signIn('alice');
  const configOf = (vmid: number) => Object.fromEntries(site.cluster.guests.get(vmid)?.config ?? []);
  return { site, alice, configOf, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() };
}

test("a VM's disk is made, grown, moved, detached, attached elsewhere and deleted, and counted all the way", async () => {
  await using all = await siteWithGuests();
  const { site, alice, configOf } = all;
  const ok = async (reply: Promise<{ status: number; body: unknown }>) => {
    const { status, body } = await reply;
    expect([status, body]).toEqual([200, expect.anything()]);
  };
  await ok(alice.post(`${vm}/scsi1/create`, { storage: 'ceph', size: 4, iso: 'null' }));
  expect(configOf(100).scsi1).toMatch(/^ceph:vm-100-disk-1,backup=1,size=4G$/);
  await ok(alice.post(`${vm}/scsi1/resize`, { size: 2 }));
  expect(configOf(100).scsi1).toContain('size=6G');
  await ok(alice.post(`${vm}/scsi1/move`, { storage: 'fast', delete: 1 }));
  expect(configOf(100).scsi1).toMatch(/^fast:/);
  await site.settled();
  expect(site.booked('alice')).toMatchObject({ 'storage:ceph': 16 * GiB, 'storage:fast': 6 * GiB });
  await ok(alice.post(`${vm}/scsi1/move`, { storage: 'ceph', delete: 0 }));
  await site.settled();
  expect(site.booked('alice')).toMatchObject({ 'storage:ceph': 22 * GiB, 'storage:fast': 6 * GiB });
  await ok(alice.delete(`${vm}/unused0/delete`));
  await ok(alice.post(`${vm}/scsi1/detach`));
  expect(configOf(100).unused0).toMatch(/^ceph:/);
  await ok(alice.post(`${vm}/sata2/attach`, { source: 0, mp: 'null' }));
  expect(configOf(100).sata2).toMatch(/^ceph:.*size=6G/);
  await ok(alice.post(`${vm}/sata2/detach`));
  await ok(alice.delete(`${vm}/unused0/delete`));
  await site.settled();
  expect(configOf(100)).not.toHaveProperty('unused0');
  expect(site.booked('alice')).toMatchObject({ 'storage:ceph': 16 * GiB });
  expect(site.booked('alice')).toEqual(site.truth([100, 101]));
});

test("a container's disk is mounted where the form says, or below its own name", async () => {
  await using all = await siteWithGuests();
  const { alice, configOf } = all;
  expect((await alice.post(`${container}/mp0/create`, { storage: 'ceph', size: 4 })).body).toEqual({ data: null });
  expect(configOf(101).mp0).toMatch(/^ceph:vm-101-disk-1,.*mp=\/mp0\/,.*size=4G|^ceph:vm-101-disk-1,.*mp=\/mp0\//);
  expect((await alice.post(`${container}/mp0/resize`, { size: 1 })).status).toBe(200);
  expect((await alice.post(`${container}/mp0/move`, { storage: 'fast', delete: 1 })).status).toBe(200);
  expect((await alice.post(`${container}/mp0/detach`)).status).toBe(200);
  expect((await alice.post(`${container}/mp3/attach`, { source: 0, mp: '/srv/data' })).status).toBe(200);
  expect(configOf(101).mp3).toMatch(/^fast:.*mp=\/srv\/data/);
  expect((await alice.post(`${container}/mp3/detach`)).status).toBe(200);
  expect((await alice.post(`${container}/mp4/attach`, { source: 0 })).status).toBe(200);
  expect(configOf(101).mp4).toMatch(/mp=\/mp4\//);
});

test('an ISO image on offer goes into an ide drive and out again, and takes no quota', async () => {
  await using all = await siteWithGuests();
  const { site, alice, configOf } = all;
  const iso = 'shared:iso/debian-13.iso';
  expect((await alice.post(`${vm}/ide2/create`, { iso, storage: 'null', size: '' })).status).toBe(200);
  expect(configOf(100).ide2).toMatch(/^shared:iso\/debian-13\.iso,media=cdrom/);
  await site.settled();
  expect(site.booked('alice')).toMatchObject({ 'storage:ceph': 16 * GiB });
  expect((await alice.delete(`${vm}/ide2/delete`)).status).toBe(200);
  expect(configOf(100)).not.toHaveProperty('ide2');

  const unknown = await alice.post(`${vm}/ide2/create`, { iso: 'shared:iso/other.iso' });
  expect([unknown.status, unknown.body.error]).toEqual([400, expect.stringContaining('not on offer')]);
  const elsewhere = await alice.post(`${vm}/scsi5/create`, { iso });
  expect(elsewhere.status).toBe(400);
});

test('a disk in an ide slot is a disk: it counts, and deleting it keeps it as unused', async () => {
  await using all = await siteWithGuests();
  const { site, alice, configOf } = all;
  expect((await alice.post(`${vm}/ide0/create`, { storage: 'ceph', size: 60 })).body.error).toMatch(/storage ceph/);
  expect((await alice.post(`${vm}/ide0/create`, { storage: 'ceph', size: 4 })).status).toBe(200);
  expect((await alice.delete(`${vm}/ide0/delete`)).status).toBe(200);
  expect(configOf(100).unused0).toMatch(/^ceph:/);
  await site.settled();
  expect(site.booked('alice')).toMatchObject({ 'storage:ceph': 20 * GiB });
});

test.each<[string, string, Record<string, string>, number, RegExp]>([
  ['POST', `${vm}/scsi0/create`, { storage: 'ceph', size: '1' }, 409, /has a disk scsi0 already/],
  ['POST', `${vm}/unused0/create`, { storage: 'ceph', size: '1' }, 400, /no disk can be created as unused0/],
  ['POST', `${vm}/efidisk0/create`, { storage: 'ceph', size: '1' }, 400, /no disk can be created as efidisk0/],
  ['POST', `${container}/rootfs/create`, { storage: 'ceph', size: '1' }, 400, /no disk can be created as rootfs/],
  ['POST', `${vm}/scsi1/create`, { storage: 'shared', size: '1' }, 403, /scsi disks may not lie on storage shared/],
  ['POST', `${vm}/scsi1/attach`, { source: '7' }, 404, /no disk unused7/],
  ['POST', `${vm}/unused1/attach`, { source: '0' }, 400, /unused1 is no slot/],
  ['POST', `${vm}/scsi9/detach`, {}, 404, /no disk scsi9/],
  ['POST', `${vm}/unused0/detach`, {}, 400, /unused0 is detached already/],
  ['POST', `${vm}/unused0/resize`, { size: '1' }, 400, /unused0 is in no use/],
  ['POST', `${vm}/scsi9/resize`, { size: '1' }, 400, /no volume of its own in scsi9/],
  ['POST', `${vm}/scsi9/move`, { storage: 'fast', delete: '1' }, 400, /no volume of its own in scsi9/],
  ['DELETE', `${vm}/scsi0/delete`, {}, 403, /scsi0 is in use/],
  ['DELETE', `${vm}/unused3/delete`, {}, 404, /no disk unused3/],
  ['DELETE', `${container}/rootfs/delete`, {}, 403, /rootfs is in use/],
])('%s %s with %j is refused with %i and says why', async (method, path, form, status, why) => {
  await using all = await siteWithGuests();
  const { site, alice } = all;
  const reply = await alice.send(method, path, form);
  expect([reply.status, reply.body.error]).toEqual([status, expect.stringMatching(why)]);
  expect(site.simulator.requests.filter(({ method, path }) => method !== 'GET' && /^\/nodes/.test(path))).toEqual([]);
});

test('a disk is not put over one that was put there in the meantime', async () => {
  await using all = await siteWithGuests();
  const { site, alice, configOf } = all;
  const { faults } = site.simulator;
  faults.add({ path: '/nodes/{node}/qemu/{vmid}/config', method: 'POST', kind: 'delay', ms: 200 });
  const creating = alice.post(`${vm}/scsi1/create`, { storage: 'ceph', size: 1 });
  await site.simulator.waitForRequest(({ method, path }) => method === 'POST' && path.endsWith('/config'));
  setConfig(site.cluster, 100, { scsi1: 'ceph:vm-100-disk-9,size=2G' });
  expect((await creating).status).not.toBe(200);
  expect(configOf(100).scsi1).toContain('vm-100-disk-9');
});
