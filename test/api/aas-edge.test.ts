import { expect, test } from 'vitest';
import { Client, GiB, type Site, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB } as const;
const dashboard = 'https://dashboard.example.org';

const aSite = (config: Readonly<Record<string, unknown>> = {}): Promise<Site> =>
  startSite({ users: { alice: limits, bob: limits }, config });

test('every answer is typed, guarded against sniffing and kept by nobody', async () => {
  await using site = await aSite();
  const alice = await site.signIn('alice');
  const replies = [
    await alice.get('/version'),
    await alice.get('/user/config/cluster'),
    await alice.get('/nothing'),
    await alice.createVm(100, { cores: 'x' }),
    await new Client(site).get('/user/config/cluster'),
    await alice.delete('/access/ticket'),
  ];
  for (const { headers } of replies) {
    expect(headers.get('content-type')).toMatch(/^application\/json/);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('cache-control')).toBe('no-store');
  }
});

test('paths are taken in any case and with a trailing slash; what is not there is a 404 with an error', async () => {
  await using site = await aSite();
  const alice = await site.signIn('alice');
  expect((await alice.get('/User/Config/cluster/')).status).toBe(200);
  for (const path of ['/nothing', '/cluster/<b>', ''])
    expect(await alice.get(path)).toMatchObject({ status: 404, body: { error: expect.not.stringContaining('<') } });
  expect((await alice.send('PATCH', '/version')).status).toBe(404);
  expect((await fetch(`${site.url}/elsewhere`)).status).toBe(404);
});

test('who does not sign in, or is not who the cookie says, gets nothing', async () => {
  await using site = await aSite();
  const instance = '/cluster/n1/qemu/100';
  const nobody = new Client(site);
  expect(await nobody.get('/user/config/cluster')).toMatchObject({
    status: 401,
    body: { auth: false, path: '/version' },
  });
  expect(await nobody.get(instance)).toMatchObject({
    status: 401,
    body: { auth: false, path: '/nodes/n1/qemu/100/config', error: expect.any(String) },
  });
  const alice = await site.signIn('alice');
  alice.cookies.set('username', 'bob%40pve');
  expect(await alice.get('/user/config/cluster')).toMatchObject({ status: 401, body: { auth: false } });
  alice.cookies.delete('username');
  expect((await alice.get('/user/config/cluster')).body.pools).toEqual({ alice: true });
});

test('a change needs the CSRF token of the session and a page of this origin', async () => {
  await using site = await aSite();
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  const create = (headers: Readonly<Record<string, string>>) =>
    alice.send('POST', '/cluster/n1/qemu/100/create', { name: 'web', cores: 1, memory: 512 }, headers);
  expect((await create({ csrfpreventiontoken: '' })).status).toBe(401);
  expect((await create({ csrfpreventiontoken: 'made-up' })).status).toBe(401);
  expect((await create({ origin: 'https://evil.example' })).status).toBe(403);
  alice.cookies.set('CSRFPreventionToken', bob.cookies.get('CSRFPreventionToken') ?? '');
  expect((await create({})).status).toBe(401);
  expect(site.cluster.guests.size).toBe(0);
});

test('only forms are read, and none above the limit', async () => {
  await using site = await aSite({ limits: { bodyBytes: 2000 } });
  const alice = await site.signIn('alice');
  const path = '/cluster/n1/qemu/100/create';
  const json = await alice.send('POST', path, '{"cores":1}', { 'content-type': 'application/json' });
  expect([json.status, typeof json.body.error]).toEqual([415, 'string']);
  const large = await alice.send('POST', path, `name=${'a'.repeat(3000)}`);
  expect([large.status, typeof large.body.error]).toEqual([413, 'string']);
});

test('only pages of configured origins may call from elsewhere', async () => {
  await using site = await aSite({ application: { hostname: 'localhost', listenPort: 0, corsOrigins: [dashboard] } });
  const ask = (origin: string) =>
    fetch(`${site.url}/api/cluster/n1/qemu/100/create`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST' },
    });
  const allowed = await ask(dashboard);
  expect(allowed.status).toBe(204);
  expect(allowed.headers.get('access-control-allow-origin')).toBe(dashboard);
  expect(allowed.headers.get('access-control-allow-credentials')).toBe('true');
  expect(allowed.headers.get('access-control-allow-headers')).toContain('CSRFPreventionToken');
  const refused = await ask('https://evil.example');
  expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([404, null]);
});

test('requests beyond the number served at a time are told to come back', async () => {
  await using site = await aSite({ limits: { concurrentRequests: 3, concurrentPerUser: 3 } });
  const alice = await site.signIn('alice');
  site.simulator.pause();
  const waiting = Array.from({ length: 3 }, () => alice.get('/proxmox/nodes'));
  const refused = await new Promise<Awaited<(typeof waiting)[number]>>((resolve) => {
    const ask = async () => {
      const reply = await alice.get('/version');
      if (reply.status === 503) resolve(reply);
      else setTimeout(ask, 5);
    };
    void ask();
  });
  expect([refused.headers.get('retry-after'), refused.body.error]).toEqual(['1', expect.stringContaining('busy')]);
  site.simulator.resume();
  expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200, 200]);
  expect((await alice.get('/version')).status).toBe(200);
});

test('while PVE is away, requests fail soon and clearly, and work again when it is back', async () => {
  await using site = await aSite();
  const alice = await site.signIn('alice');
  await site.simulator.stop();
  for (const reply of [await alice.createVm(100), await alice.get('/proxmox/nodes'), await alice.get('/cluster/nodes')])
    expect(reply).toMatchObject({ status: 503, body: { error: expect.any(String) } });
  await site.simulator.start();
  expect((await alice.createVm(100)).status).toBe(200);
});
