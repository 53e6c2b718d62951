import { afterAll, beforeAll, expect, test } from 'vitest';
import type { z } from 'zod';
import { addBackup, addGuest } from '../../simulator/administrator.ts';
import { decoded, refusalIn, shapes } from '../support/decoder.ts';
import { Client, GiB, type Site, startSite, type UserSketch } from '../support/site.ts';
import { openSync } from '../support/sync-socket.ts';

const plenty: UserSketch = {
  ...{ cores: 64, memory: 64 * GiB, swap: 64 * GiB, ceph: 640 * GiB, fast: 640 * GiB },
  network: 'unlimited',
  pci: [{ match: 'Tesla', max: 2 }],
  vmid: [100, 299],
};

const vmConfig = {
  ...{ name: 'web', cores: 1, memory: 512, scsi0: 'ceph:vm-100-disk-0,size=4G' },
  ...{ scsi1: 'ceph:vm-100-disk-1,size=4G', unused0: 'ceph:vm-100-disk-2,size=4G' },
  net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0,rate=10',
};
const vm = '/cluster/n1/qemu/100';
const newVm = { name: 'new', cores: 1, memory: 512 };
const sizes = { cores: 2, memory: 1024, proctype: 'host', boot: 'scsi0' };
const device = { device: '0000:41:00', pcie: 1 };

type Form = Readonly<Record<string, string | number>>;
type Row = readonly [
  who: 'nobody' | 'alice' | 'root',
  method: 'GET' | 'POST' | 'PUT' | 'DELETE',
  path: string,
  shape: z.ZodType,
  form?: Form | (() => Form),
];

/** A backup that is there, and one more. */
let kept = '';
let spare = '';

/** Every route in an order in which each can succeed. */
const rows: readonly Row[] = [
  ['nobody', 'GET', '/version', shapes.version],
  ['nobody', 'GET', '/echo', shapes.echo],
  ['alice', 'GET', '/access', shapes.auth],
  ['nobody', 'POST', '/access/ticket', shapes.auth, { username: 'alice@pve', password: 'alice-secret' }],
  ['nobody', 'DELETE', '/access/ticket', shapes.signedOut],
  [
    ...(['alice', 'POST', '/access/password', shapes.password] as const),
    { password: 'another-secret', oldpassword: 'alice-secret' },
  ],
  ['root', 'GET', '/access/users', shapes.users],
  ['root', 'GET', '/access/users/alice@pve', shapes.user],
  ['root', 'GET', '/access/groups', shapes.groups],
  ['root', 'GET', '/access/groups/lab', shapes.group],
  ['alice', 'GET', '/user/dynamic/resources', shapes.usage],
  ['alice', 'GET', '/user/config/resources', shapes.quotas],
  ['alice', 'GET', '/user/vm-isos', shapes.media],
  ['alice', 'GET', '/user/ct-templates', shapes.media],
  ['alice', 'GET', '/global/config/resources', shapes.resources],
  ['nobody', 'GET', '/sync/schemes', shapes.schemes],
  ['alice', 'GET', '/sync/hash', shapes.hash],
  ['alice', 'GET', '/proxmox/cluster/resources', shapes.data],
  ['alice', 'POST', '/proxmox/nodes/n1/qemu/100/status/start', shapes.data],
  ['root', 'GET', '/cluster/pools', shapes.pools],
  ['alice', 'GET', '/cluster/nodes', shapes.nodes],
  ['alice', 'GET', '/cluster/n1/pci', shapes.devices],
  ['alice', 'GET', vm, shapes.instance],
  ['alice', 'POST', `${vm}/resources`, shapes.task, sizes],
  ['alice', 'POST', '/cluster/n1/qemu/110/create', shapes.task, newVm],
  ['alice', 'DELETE', '/cluster/n1/qemu/110/delete', shapes.task],
  ['alice', 'POST', `${vm}/disk/scsi2/create`, shapes.task, { storage: 'ceph', size: 1 }],
  ['alice', 'POST', `${vm}/disk/scsi2/resize`, shapes.task, { size: 1 }],
  ['alice', 'POST', `${vm}/disk/scsi2/move`, shapes.task, { storage: 'fast', delete: 1 }],
  ['alice', 'POST', `${vm}/disk/scsi1/detach`, shapes.task],
  ['alice', 'POST', `${vm}/disk/scsi3/attach`, shapes.task, { source: 0 }],
  ['alice', 'DELETE', `${vm}/disk/unused1/delete`, shapes.task],
  ['alice', 'POST', `${vm}/net/net1/create`, shapes.task, { rate: 10 }],
  ['alice', 'POST', `${vm}/net/net1/modify`, shapes.task, { rate: 20 }],
  ['alice', 'DELETE', `${vm}/net/net1/delete`, shapes.task],
  ['alice', 'POST', `${vm}/pci/create`, shapes.task, device],
  ['alice', 'GET', `${vm}/pci/hostpci0`, shapes.device],
  ['alice', 'POST', `${vm}/pci/hostpci0/modify`, shapes.task, { ...device, pcie: 0 }],
  ['alice', 'DELETE', `${vm}/pci/hostpci0/delete`, shapes.task],
  ['alice', 'POST', `${vm}/pci/hostpci1/create`, shapes.task, device],
  ['alice', 'GET', `${vm}/backup`, shapes.backups],
  ['alice', 'POST', `${vm}/backup/notes`, shapes.data, () => ({ volid: kept, notes: 'kept' })],
  ['alice', 'DELETE', `${vm}/backup`, shapes.blank.or(shapes.upid), () => ({ volid: spare })],
  ['alice', 'POST', `${vm}/backup`, shapes.upid, { notes: 'new' }],
  ['alice', 'POST', `${vm}/backup/restore`, shapes.data, () => ({ volid: kept })],
];

let site: Site;
const clients = new Map<Row[0], Client>();

beforeAll(async () => {
  site = await startSite({
    users: { alice: plenty, root: { admin: true } },
    config: { backups: { storage: 'shared' } },
  });
  site.cluster.access.addGroup('lab', ['alice@pve']);
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: vmConfig });
  kept = addBackup(site.cluster, { vmid: 100, config: vmConfig }).volid;
  spare = addBackup(site.cluster, { vmid: 100, config: vmConfig, at: Date.now() + 5000 }).volid;
  await site.refresh();
  for (const name of ['alice', 'root'] as const) clients.set(name, await site.signIn(name));
  clients.set('nobody', new Client(site));
});

afterAll(() => site[Symbol.asyncDispose]());

const cases = rows.map(([who, method, path, shape, form]) => ({ who, method, path, shape, form }));

test.each(cases)('$who is answered $method $path as dashboards read it', async ({ who, method, path, shape, form }) => {
  // One change of an instance at a time: the last one may still be settling.
  await site.settled();
  if (/\/(?:disk|pci)\//.test(path)) await stopped();
  const client = clients.get(who) ?? new Client(site);
  const reply = await client.send(method, path, typeof form === 'function' ? form() : form);
  expect(() => decoded(shape, reply)).not.toThrow();
});

const forUsers = cases.filter(({ who }) => who !== 'nobody');

test.each(forUsers)('$method $path is for those who have signed in', async ({ method, path }) => {
  const reply = await new Client(site).send(method, path);
  expect(refusalIn(reply).status).toBe(401);
  expect(reply.body).toMatchObject({ auth: false });
});

test.each(forUsers.filter(({ method }) => method !== 'GET'))('$method $path is for no foreign page', async (row) => {
  const client = clients.get(row.who) ?? new Client(site);
  const send = (headers: Readonly<Record<string, string>>) => client.send(row.method, row.path, undefined, headers);
  expect(refusalIn(await send({ csrfpreventiontoken: '' })).status).toBe(401);
  expect(refusalIn(await send({ origin: 'https://evil.example' })).status).toBe(403);
});

/** Only a VM that stands still takes every change at once. */
async function stopped(): Promise<void> {
  if (site.cluster.guests.get(100)?.status !== 'running') return;
  const reply = await clients.get('alice')?.post('/proxmox/nodes/n1/qemu/100/status/stop');
  expect(reply?.status).toBe(200);
  await expect.poll(() => site.cluster.guests.get(100)?.status).toBe('stopped');
}

test.each([
  ['PUT', '/proxmox/nodes/n1/qemu/100/config', { cores: 1000 }],
  ['DELETE', '/proxmox/pools/alice', undefined],
])('%s %s, which no tenant may do, is refused, and says so', async (method, path, form) => {
  const alice = clients.get('alice') ?? new Client(site);
  expect(refusalIn(await alice.send(method, path, form)).status).toBe(403);
});

test('the sync socket opens', async () => {
  await using socket = await openSync(site, clients.get('alice'));
  expect(socket.code).toBeUndefined();
});

test('these are all 48 routes', () => {
  const [proxmoxPutAndDelete, syncSocket] = [2, 1];
  expect(new Set(rows.map(([, method, path]) => `${method} ${path}`)).size + proxmoxPutAndDelete + syncSocket).toBe(48);
});
