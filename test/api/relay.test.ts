import { afterAll, beforeAll, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import type { LoggedRequest } from '../../simulator/request-log.ts';
import { PveClient } from '../support/pve-client.ts';
import { GiB, type Site, startSite, until } from '../support/site.ts';

let site: Site;
let alice: PveClient;

beforeAll(async () => {
  site = await startSite({ users: { alice: { cores: 8, memory: 8 * GiB }, bob: { cores: 1 } } });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { name: 'web', cores: 1, memory: 512 } });
  addGuest(site.cluster, { vmid: 200, pool: 'bob', config: { cores: 1, memory: 512 } });
  await site.refresh();
  alice = await PveClient.signIn(site, 'alice');
});
afterAll(() => site[Symbol.asyncDispose]());

/** What reached PVE below a path while this ran, and whether the privileged token was shown. */
async function atPve<T>(path: string, act: () => Promise<T>) {
  // What earlier changes left to be looked at is no part of it, nor is the look at a guest that is due every second.
  await site.settled();
  const from = site.simulator.requests.length;
  const result = await act();
  const isRound = (request: LoggedRequest) => request.viaToken && request.path.endsWith('/pending');
  const asked = site.simulator.requests
    .slice(from)
    .filter((request) => request.path.startsWith(path) && !isRound(request));
  return { result, asked: asked.map(({ method, caller, viaToken }) => ({ method, caller, viaToken })) };
}

test('a read goes to PVE once, as the caller, who sees what PVE lets them see and no header of PVE beyond the few', async () => {
  const { result, asked } = await atPve('/nodes/n1/qemu', () => alice.get('/nodes/n1/qemu'));
  expect(asked).toEqual([{ method: 'GET', caller: 'alice@pve', viaToken: false }]);
  expect(result.body.data.map(({ vmid }: { vmid: number }) => vmid)).toEqual([100]);
  expect([...result.headers.keys()].sort()).toEqual([
    'cache-control',
    'connection',
    'content-length',
    'content-type',
    'date',
    'expires',
    'keep-alive',
    'pragma',
    'server',
    'x-content-type-options',
  ]);
  expect(result.headers.get('server')).toBe('pve-quota-proxy');
});

test('the status and configuration of a guest are read as the caller as well', async () => {
  for (const what of ['config', 'pending', 'status/current']) {
    const { result, asked } = await atPve('/nodes/n1/qemu/100', () => alice.get(`/nodes/n1/qemu/100/${what}`));
    expect([result.status, asked.map(({ viaToken }) => viaToken)]).toEqual([200, [false]]);
  }
});

test('extjs is answered by PVE in its own form, also when it refuses', async () => {
  const extjs = { format: 'extjs' };
  expect((await alice.get('/nodes/n1/qemu/100/config', extjs)).body).toMatchObject({
    success: 1,
    data: { name: 'web' },
  });
  const refused = await alice.get('/nodes/n1/qemu/200/config', extjs);
  expect([refused.status, refused.body.success, refused.body.status]).toEqual([200, 0, 403]);
});

test('what PVE refuses is said with its sentence in the status line and in the body', async () => {
  const refused = await alice.get('/nodes/n1/qemu/200/config');
  expect([refused.status, refused.body.data]).toEqual([403, null]);
  expect(refused.reason).toMatch(/^Permission check failed/);
  expect(refused.body.message).toBe(`${refused.reason}\n`);
});

test('nobody reads without a ticket, with a made-up one or with one that was cut off', async () => {
  const read = (headers: Readonly<Record<string, string>>) => new PveClient(site, headers).get('/nodes/n1/qemu');
  const { asked } = await atPve('/nodes/n1/qemu', async () => {
    expect(await read({})).toMatchObject({ status: 401, reason: 'No ticket' });
    expect((await read({ cookie: 'PVEAuthCookie=PVE:alice@pve:65F0A0B1::AAAA' })).status).toBe(401);
    expect(
      (await read({ authorization: 'PVEAPIToken=alice@pve!none=00000000-0000-4000-8000-000000000000' })).status,
    ).toBe(401);
  });
  expect(asked).toEqual([]);
});

test('the log of a task is downloaded as a file', async () => {
  const { body } = await alice.post('/nodes/n1/qemu/100/status/start');
  const cookie = { cookie: await cookieOf('alice') };
  const path = `/nodes/n1/tasks/${encodeURIComponent(body.data)}/log`;
  const response = await fetch(`${site.url}/api2/json${path}?download=1`, { headers: cookie });
  expect([response.status, response.headers.get('content-type')]).toEqual([200, expect.stringMatching(/^text\/plain/)]);
  expect(response.headers.get('content-disposition')).toContain('attachment');
  expect(await response.text()).not.toContain('"data"');
  const { status, body: refused } = await (await site.signIn('alice')).get(`/proxmox${path}?download=1`);
  expect([status, refused.error]).toEqual([501, expect.stringContaining('below /api2')]);
});

async function cookieOf(name: string): Promise<string> {
  const { cookies } = await site.signIn(name);
  return `PVEAuthCookie=${cookies.get('PVEAuthCookie')}`;
}

test.each([
  ['what PVE answers', '/nodes/n1/qemu', 200],
  ['what PVE refuses', '/nodes/n1/qemu/200/config', 403],
  ['a parameter that only repeats the path', '/nodes/n1/qemu/100/config?vmid=100', 200],
  ['a parameter that contradicts the path', '/nodes/n1/qemu/100/config?vmid=200', 400],
  ['a path that can be read in two ways', '/nodes/n1%2Fqemu/100/config', 400],
  ['a method that nobody knows', '/nodes/n1/nothing', 501],
])(
  '%s is the same before Fastify, behind it and behind a proxy, and PVE is asked as often',
  async (_, path, status) => {
    const headersOf = (headers: Headers) => [...headers].filter(([name]) => !['date', 'expires'].includes(name)).sort();
    // What is not spelt plainly is Fastify's.
    const ways = [{}, { format: '/json' }, { headers: { 'x-forwarded-for': '198.51.100.7' } }];
    const [direct, behind, proxied] = await Promise.all(
      ways.map((way) => alice.get(path, way).then((reply) => ({ ...reply, headers: headersOf(reply.headers) }))),
    );
    expect(direct).toEqual(behind);
    expect(direct).toEqual(proxied);
    expect(direct?.status).toBe(status);
    const { asked } = await atPve('/nodes', () => alice.get(path));
    expect(asked).toHaveLength(status === 200 || status === 403 ? 1 : 0);
  },
);

test('direct reads take places as all others do, and give them back when PVE refuses or the client goes', async () => {
  await using small = await startSite({
    users: { carol: {} },
    deadlines: { read: 60 },
    config: { limits: { concurrentRequests: 4, concurrentPerUser: 4 } },
  });
  const carol = await PveClient.signIn(small, 'carol');
  small.simulator.faults.add({ method: 'GET', path: '/nodes', kind: 'hang', times: 3 });
  const hangUp = new AbortController();
  const [here, there] = ['198.51.100.7', '203.0.113.7'].map((address) => ({ 'x-forwarded-for': address }));
  const held = [1, 2, 3].map(() =>
    fetch(`${small.url}/api2/json/nodes`, { headers: { ...carol.headers, ...here }, signal: hangUp.signal }).catch(
      () => 'gone',
    ),
  );
  const atPve = () =>
    small.simulator.requests.filter(({ path, caller }) => path === '/nodes' && caller === 'carol@pve');
  await until('all three are at PVE', () => atPve().length === 3);
  expect((await carol.get('/version', { headers: { ...here } })).status).toBe(503);
  expect((await carol.get('/version', { headers: { ...there } })).status).toBe(200);
  hangUp.abort();
  expect(await Promise.all(held)).toEqual(['gone', 'gone', 'gone']);
  await until('the places are free', async () => (await carol.get('/nodes')).status === 200);
  for (let times = 0; times < 8; times += 1) expect((await carol.get('/nodes/n1/qemu/999/config')).status).toBe(403);
  expect((await carol.get('/nodes')).status).toBe(200);
});
