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

test('changes pass the gate as everywhere, and a refusal has the words of the dashboards', async () => {
  await using site = await siteWithGuest();
  const [alice, mallory] = [await site.signIn('alice'), await site.signIn('mallory')];
  const changed = await alice.send('PUT', `${guest}/config`, { cores: 4 });
  expect([changed.status, changed.body]).toEqual([200, { data: null }]);
  const from = site.simulator.requests.length;
  const refused = await alice.post(`${guest}/config`, { cores: 64 });
  expect([refused.status, refused.body]).toMatchObject([
    403,
    { error: expect.stringMatching(/^Quota exceeded: cores: 60 more/), request: { cores: 60 } },
  ]);
  expect((await mallory.post(`${guest}/config`, { cores: 1 })).body.error).toMatch(/no VM.PowerMgmt/);
  const byJson = await alice.send('PUT', `${guest}/config`, '{"cores":64}', { 'content-type': 'application/json' });
  expect(byJson.status).toBe(403);
  expect(site.simulator.requests.slice(from).filter(({ method }) => method !== 'GET' && method !== 'PUT')).toEqual([]);
  expect(site.booked('alice')).toMatchObject({ cores: 4 });

  const body = { username: 'alice@pve', password: 'alice-secret' };
  const signedIn = await new Client(site).post('/proxmox/access/ticket', body);
  expect([signedIn.body.data.username, signedIn.headers.getSetCookie()]).toEqual(['alice@pve', []]);
});

test('requests that could be read in two ways are refused, and what PVE does not have is not found', async () => {
  await using site = await siteWithGuest();
  const alice = await site.signIn('alice');
  const status = async (method: string, path: string, form?: string) =>
    (await alice.send(method, `/proxmox${path}`, form)).status;
  for (const path of ['/nodes/..%2f..%2faccess', '/nodes/n1%0a/qemu', '/%zz', '/nodes%2Fn1/qemu/100/config'])
    expect([path, await status('GET', path)]).toEqual([path, 400]);
  for (const form of ['cores=1;cores=64', 'cores', 'description=a=b'])
    expect([form, await status('PUT', '/nodes/n1/qemu/100/config', form)]).toEqual([form, 400]);
  expect(await status('PUT', '/nodes/n1/qemu/100/config?cores=64', 'cores=1')).toBe(400);
  expect(await status('DELETE', '/nodes/n1/qemu/100', 'purge=1')).toBe(501);
  for (const path of ['/NODES/n1/qemu/100/config', '/nodes/n1/qemu/100/status/stop/more'])
    expect([path, await status('GET', path)]).toEqual([path, 404]);
});

test('empty components mean nothing, and neither does the case of the prefix', async () => {
  await using site = await siteWithGuest();
  const alice = await site.signIn('alice');
  for (const path of ['/proxmox/nodes/n1/qemu//100/config', '/PROXMOX/nodes/n1/qemu/100/config/'])
    expect((await alice.get(path)).status).toBe(200);
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

  site.simulator.faults.add({ path: '/cluster/tasks', kind: 'otherData', data: () => [null] });
  expect(await root.get('/proxmox/cluster/tasks')).toMatchObject({ status: 200, body: { data: [null] } });
});
