import { expect, test } from 'vitest';
import { addBackup, addGuest } from '../../simulator/administrator.ts';
import { admit } from '../../src/admission/admit.ts';
import { call } from '../../src/pve/call.ts';
import { decoded, refusalIn, shapes } from '../support/decoder.ts';
import { GiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 4, memory: 8 * GiB, swap: 4 * GiB, ceph: 32 * GiB } as const;
const vm = '/cluster/n1/qemu/100/backup';
const container = '/cluster/n1/lxc/101/backup';
const vmConfig = { name: 'web', cores: 1, memory: 512, scsi0: 'ceph:vm-100-disk-0,size=8G' };
const containerConfig = {
  ...{ hostname: 'tools', cores: 1, memory: 512, swap: 512, rootfs: 'ceph:vm-101-disk-0,size=4G' },
  mp0: 'ceph:vm-101-disk-1,mp=/srv/data,size=2G',
};

async function siteWithGuests(): Promise<Site> {
  const site = await startSite({
    users: { alice: limits, bob: limits },
    config: { backups: { storage: 'shared' } },
  });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: vmConfig });
  addGuest(site.cluster, { vmid: 101, type: 'lxc', pool: 'alice', config: containerConfig });
  addGuest(site.cluster, { vmid: 200, pool: 'bob', config: { name: 'db', cores: 1, memory: 512 } });
  await site.refresh();
  return site;
}

const backupsOf = (site: Site, vmid: number) =>
  site.cluster.volumes.ofGuest(vmid).filter(({ content }) => content === 'backup');

test('a backup is made, listed with its notes, labelled, and deleted', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  expect(decoded(shapes.backups, await alice.get(vm))).toEqual([]);
  decoded(shapes.upid, await alice.post(vm, { notes: 'before the \\ update\nof today' }));
  await until('it is there', () => backupsOf(site, 100).length === 1);
  await site.settled();
  const [backup] = decoded(shapes.backups, await alice.get(vm));
  expect(backup).toMatchObject({ notes: 'before the \\ update\nof today', vmid: 100 });

  const volid = backup?.volid ?? '';
  decoded(shapes.data, await alice.post(`${vm}/notes`, { volid, notes: 'the good one' }));
  expect(decoded(shapes.backups, await alice.get(vm))[0]?.notes).toBe('the good one');
  decoded(shapes.data, await alice.post(`${vm}/notes`, { volid, notes: '' }));
  expect(decoded(shapes.backups, await alice.get(vm))[0]?.notes).toBe('');

  expect((await alice.delete(vm, { volid })).status).toBe(200);
  await until('it is gone', () => backupsOf(site, 100).length === 0);
  await site.settled();
  expect(decoded(shapes.backups, await alice.get(vm))).toEqual([]);
});

test('a backup without notes bears the name of the guest', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  decoded(shapes.upid, await alice.post(vm, { notes: '' }));
  await until('it is there', () => backupsOf(site, 100).length === 1);
  expect(decoded(shapes.backups, await alice.get(vm))[0]?.notes).toBe('web');
});

test('of two backups at once only one is the last that is allowed', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  addBackup(site.cluster, { vmid: 100, config: vmConfig });
  const replies = await Promise.all([alice.post(vm, { notes: '1' }), alice.post(vm, { notes: '2' })]);
  await site.settled();
  expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
  expect(backupsOf(site, 100)).toHaveLength(2);
  const refused = refusalIn(await alice.post(vm, { notes: '3' }));
  expect(refused).toMatchObject({ status: 403, error: expect.stringContaining('backups of instance 100: 2 of 2') });
});

test('a VM becomes what its backup says, and the quota has to allow that', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  const { volid } = addBackup(site.cluster, { vmid: 100, config: { ...vmConfig, cores: 2, name: 'old' } });
  decoded(shapes.data, await alice.post(`${vm}/restore`, { volid }));
  await site.settled();
  expect(Object.fromEntries(site.cluster.guests.get(100)?.config ?? [])).toMatchObject({ name: 'old', cores: '2' });
  expect(site.booked('alice')).toMatchObject({ cores: 3 });
  expect(site.truth([100, 101])).toMatchObject({ cores: 3, 'storage:ceph': 14 * GiB });

  const large = addBackup(site.cluster, { vmid: 100, config: { ...vmConfig, cores: 16 }, at: Date.now() + 5000 });
  const refused = refusalIn(await alice.post(`${vm}/restore`, { volid: large.volid }));
  expect(refused).toMatchObject({ status: 403, error: expect.stringContaining('cores') });
  expect(site.cluster.guests.get(100)?.config.get('cores')).toBe('2');
});

test('of two restores at once only one gets what is left', async () => {
  await using site = await siteWithGuests();
  addGuest(site.cluster, { vmid: 102, pool: 'alice', config: { name: 'spare', cores: 1, memory: 512 } });
  await site.refresh();
  const alice = await site.signIn('alice');
  const volids = [100, 102].map((vmid) => addBackup(site.cluster, { vmid, config: { cores: 2, memory: 512 } }).volid);

  const replies = await Promise.all(
    [100, 102].map((vmid, n) => alice.post(`/cluster/n1/qemu/${vmid}/backup/restore`, { volid: volids[n] ?? '' })),
  );

  await site.settled();
  expect(replies.map(({ status }) => status).sort()).toEqual([200, 403]);
  expect(site.truth([100, 101, 102]).cores).toBe(4);
  expect(site.booked('alice').cores).toBe(4);
});

test('a rollback is charged as what the instance was then', async () => {
  await using site = await siteWithGuests();
  const { cluster, server } = site;
  const guest = cluster.guests.get(100);
  const then = (name: string, cores: string) =>
    guest?.snapshots.set(name, { name, config: new Map([...guest.config, ['cores', cores]]), snaptime: 1 });
  then('small', '2');
  then('large', '16');
  const user = 'alice@pve';
  const ticket = cluster.access.tickets.issue(user, cluster.access.seconds);
  const csrf = cluster.access.tickets.issueCsrf(user, cluster.access.seconds);
  const record = await server.directory.record({ id: 'alice', realm: 'pve' });
  const caller = { user, credential: { kind: 'ticket', ticket, csrf }, record, address: '127.0.0.1' } as const;
  const rollback = (snapshot: string) =>
    admit(server.gate, call('POST', '/nodes/n1/qemu/100/snapshot/{}/rollback', [snapshot]), caller);

  await expect(rollback('large')).rejects.toThrow('Quota exceeded: cores');
  expect(guest?.config.get('cores')).toBe('1');

  const { settled } = await rollback('small');
  await settled;
  expect(guest?.config.get('cores')).toBe('2');
  expect(site.booked('alice').cores).toBe(site.truth([100, 101]).cores);
});

test('a container gets its disks anew, in the places and sizes that they have now', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  const { volid } = addBackup(site.cluster, {
    vmid: 101,
    type: 'lxc',
    config: { ...containerConfig, hostname: 'old' },
  });
  decoded(shapes.data, await alice.post(`${container}/restore`, { volid }));
  await site.settled();
  const config = Object.fromEntries(site.cluster.guests.get(101)?.config ?? []);
  expect(config.hostname).toBe('old');
  expect(config.rootfs).toMatch(/^ceph:.*size=4G/);
  expect(config.mp0).toMatch(/^ceph:.*mp=\/srv\/data/);
  expect(config.mp0).toContain('size=2G');
  await site.refresh();
  expect(site.booked('alice')).toEqual({ ...site.truth([100, 101]), 'backups 101': 1 });
});

test('backups of others, of earlier guests and made-up ones are not touched and not shown', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  const foreign = addBackup(site.cluster, { vmid: 200, config: { cores: 1 } }).volid;
  const elsewhere = addBackup(site.cluster, { vmid: 100, storage: 'local', config: vmConfig }).volid;
  const madeUp = 'shared:backup/vzdump-qemu-100-2020_01_01-00_00_00.vma.zst';
  expect(decoded(shapes.backups, await alice.get(vm))).toEqual([]);
  for (const volid of [foreign, elsewhere, madeUp]) {
    for (const reply of [
      await alice.post(`${vm}/notes`, { volid, notes: 'x' }),
      await alice.post(`${vm}/restore`, { volid }),
      await alice.delete(vm, { volid }),
    ])
      expect([400, 404]).toContain(refusalIn(reply).status);
  }
  expect(refusalIn(await alice.get('/cluster/n1/qemu/200/backup')).status).toBe(403);
  expect(refusalIn(await alice.post('/cluster/n1/qemu/200/backup', { notes: '' })).status).toBe(403);
  expect(backupsOf(site, 200)).toHaveLength(1);
});

test.each([
  ['shared:iso/debian-13.iso'],
  ['shared:backup/../iso/debian-13.iso'],
  ['shared:backup/vzdump-qemu-100-x.vma.zst,force'],
  ['/etc/passwd'],
  [''],
  ['null'],
])('%j is no backup', async (volid) => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  for (const reply of [
    await alice.post(`${vm}/notes`, { volid, notes: 'x' }),
    await alice.post(`${vm}/restore`, { volid }),
    await alice.delete(vm, { volid }),
  ])
    expect(refusalIn(reply)).toMatchObject({ status: 400, error: expect.stringContaining('volid: expected a backup') });
});

test('without a storage for them there are no backups', async () => {
  await using site = await startSite({ users: { alice: limits } });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: vmConfig });
  await site.refresh();
  const alice = await site.signIn('alice');
  expect(decoded(shapes.backups, await alice.get(vm))).toEqual([]);
  expect(refusalIn(await alice.post(vm, { notes: '' }))).toMatchObject({
    status: 501,
    error: expect.stringContaining('backups.storage'),
  });
});
