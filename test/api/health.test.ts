import { expect, test } from 'vitest';
import { startSite, until } from '../support/site.ts';

async function health(url: string): Promise<readonly [number, Record<string, unknown>, string | null]> {
  const response = await fetch(`${url}/healthz`);
  return [response.status, (await response.json()) as Record<string, unknown>, response.headers.get('retry-after')];
}

test('a server that decides about changes is healthy; asking needs no ticket and asks PVE nothing', async () => {
  await using site = await startSite();
  const before = site.simulator.requests.length;
  expect(await health(site.url)).toEqual([200, { status: 'ok', ready: true }, null]);
  await site.simulator.stop();
  expect((await health(site.url))[0]).toBe(200);
  expect(site.simulator.requests.length).toBe(before);
});

test('the health of a server is told also when it takes on nothing more', async () => {
  await using site = await startSite({ users: { alice: {} }, config: { limits: { concurrentRequests: 1 } } });
  const alice = await site.signIn('alice');
  site.simulator.pause();
  const waiting = alice.get('/proxmox/nodes');
  await until('the only place is taken', async () => (await alice.get('/version')).status === 503);
  expect((await health(site.url))[0]).toBe(200);
  site.simulator.resume();
  expect((await waiting).status).toBe(200);
});

test('a server that loses sight of the guests is not ready, and says why', async () => {
  await using site = await startSite({ refresh: { resources: 0.1 } });
  site.cluster.access.addRole('QuotaProxy', ['VM.Allocate', 'Datastore.Audit', 'Pool.Audit', 'Sys.Audit']);
  await until('the loss is noticed', () => site.server.inventory.frozen !== undefined);
  expect(await health(site.url)).toEqual([
    503,
    { status: 'unready', ready: false, error: expect.stringContaining('VM.Audit') },
    '2',
  ]);
});

test('a server whose PVE is away at first becomes ready by itself', async () => {
  await using site = await startSite({ as: 'process' });
  await site.kill();
  await site.simulator.stop();
  await site.startServer({ ready: false });
  const [status, body] = await health(site.url);
  expect([status, body.ready, body.error]).toEqual([503, false, expect.stringContaining('API token')]);

  await site.simulator.start();
  await until('the server is ready', async () => (await health(site.url))[0] === 200, 30_000);
});
