import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { Client, GiB, type Site, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, ceph: 64 * GiB } as const;
const guest = '/proxmox/nodes/n1/qemu/100';

async function siteWithGuest(): Promise<Site> {
  const site = await startSite({ users: { alice: limits, mallory: limits } });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { name: 'web', cores: 1, memory: 512 } });
  await site.refresh();
  return site;
}

test("reads pass with the caller's own rights, and PVE's answer comes back as it is", async () => {
  await using site = await siteWithGuest();
  const [alice, mallory] = [await site.signIn('alice'), await site.signIn('mallory')];
  const { status, body } = await alice.get(`${guest}/config`);
  expect([status, body.data]).toEqual([200, expect.objectContaining({ name: 'web', cores: 1 })]);
  const guests = async (client: Client) =>
    (await client.get('/proxmox/cluster/resources?type=vm')).body.data.map((row: { vmid: number }) => row.vmid);
  expect(await guests(alice)).toEqual([100]);
  expect(await guests(mallory)).toEqual([]);
  const refused = await mallory.get(`${guest}/config`);
  expect([refused.status, refused.body]).toEqual([
    403,
    expect.objectContaining({ data: null, error: expect.stringContaining('Permission check failed') }),
  ]);
});

test('the cookie username is not needed, and the realms are there without any cookie, or with a stale one', async () => {
  await using site = await siteWithGuest();
  const alice = await site.signIn('alice');
  alice.cookies.delete('username');
  expect((await alice.get('/proxmox/cluster/resources')).status).toBe(200);

  const nobody = new Client(site);
  const { status, body } = await nobody.get('/proxmox/access/domains');
  expect([status, body.data.map(({ realm }: { realm: string }) => realm)]).toEqual([
    200,
    expect.arrayContaining(['pve']),
  ]);
  nobody.cookies.set('PVEAuthCookie', encodeURIComponent('PVE:alice@pve:00000000::x'));
  expect((await nobody.get('/proxmox/access/domains')).status).toBe(200);
  const refused = await nobody.get('/proxmox/cluster/resources');
  expect([refused.status, refused.body]).toMatchObject([401, { auth: false, path: '/version' }]);
});

test('guests are started and stopped by those whom PVE lets, as themselves', async () => {
  await using site = await siteWithGuest();
  const [alice, mallory] = [await site.signIn('alice'), await site.signIn('mallory')];
  const { status, body } = await alice.post(`${guest}/status/start`, { node: 'n1', vmid: 100 });
  expect([status, body.data]).toEqual([200, expect.stringMatching(/^UPID:n1:.*:qmstart:100:alice@pve:$/)]);
  const task = await alice.get(`/proxmox/nodes/n1/tasks/${body.data}/status`);
  expect(task.body.data).toMatchObject({ status: 'stopped', exitstatus: 'OK' });
  expect((await mallory.post(`${guest}/status/stop`)).status).toBe(403);
  expect((await alice.post(`${guest}/status/stop`)).status).toBe(200);
});

test.each([
  ['POST', `${guest}/config`],
  ['PUT', `${guest}/config`],
  ['DELETE', guest],
  ['POST', '/proxmox/nodes/n1/qemu'],
  ['POST', '/proxmox/access/ticket'],
  ['POST', `${guest}/status/stop/more`],
  ['GET', '/proxmox/nodes/localhost/qemu/100/config'],
  ['GET', '/proxmox/nodes/n1/execute'],
])('%s %s is not offered', async (method, path) => {
  await using site = await siteWithGuest();
  const alice = await site.signIn('alice');
  const from = site.simulator.requests.length;
  const { status, body } = await alice.send(method, path, method === 'GET' ? undefined : { cores: 4 });
  expect([status, body.error]).toEqual([403, expect.stringContaining('is not offered here yet')]);
  const asked = site.simulator.requests.slice(from).filter(({ path }) => path !== '/version');
  expect(asked).toEqual([]);
});

test.each(['/proxmox/nodes/..%2f..%2faccess', '/proxmox/nodes/n1%0a/qemu', '/proxmox/%zz'])(
  'the path %s is refused',
  async (path) => {
    await using site = await siteWithGuest();
    const alice = await site.signIn('alice');
    const { status, body } = await alice.get(path);
    expect([status, typeof body.error]).toEqual([400, 'string']);
  },
);

test('encoded and doubled slashes are read as PVE reads them, and names keep their case', async () => {
  await using site = await siteWithGuest();
  const alice = await site.signIn('alice');
  for (const path of ['/proxmox/nodes%2Fn1/qemu//100/config', '/PROXMOX/nodes/n1/qemu/100/config/'])
    expect((await alice.get(path)).status).toBe(200);
  expect((await alice.get('/proxmox/NODES/n1/qemu/100/config')).status).toBe(403);
});

test('the list of tasks has only those of single guests, for clients that take every id for a vmid', async () => {
  await using site = await startSite({ users: { root: { admin: true } } });
  addGuest(site.cluster, { vmid: 100, config: { memory: 512 } });
  await site.refresh();
  const root = await site.signIn('root');
  await root.post(`${guest}/status/start`);
  site.cluster.tasks.start({ node: 'n1', type: 'imgdel', id: '100@ceph', caller: { user: 'root@pve' }, run: () => {} });
  const { body } = await root.get('/proxmox/cluster/tasks');
  expect(body.data.map(({ id }: { id: string }) => id)).toEqual(['100']);
});
