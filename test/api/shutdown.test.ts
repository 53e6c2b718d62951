import { once } from 'node:events';
import { expect, test } from 'vitest';
import { postHead, rawConnection } from '../support/raw.ts';
import { GiB, type Site, type SiteOptions, startSite, until } from '../support/site.ts';

const limits = { cores: 40, memory: 200 * GiB, ceph: 200 * GiB, vmid: [100, 199] } as const;

const start = (more: SiteOptions = {}): Promise<Site> =>
  startSite({ as: 'process', users: { alice: limits }, ...more });

/** How the process ended, and after how many ms. */
async function ended(site: Site): Promise<{ code: number | null; signal: string | null; ms: number }> {
  const from = performance.now();
  const [code, signal] = await once(site.process, 'exit');
  return { code, signal, ms: performance.now() - from };
}

/** How long systemd waits for the service to end, in ms. */
const patience = 15_000;

test('SIGTERM lets running requests end, settles them, and takes no new ones', async () => {
  await using site = await start({ simulator: { taskPace: 300 } });
  const alice = await site.signIn('alice');
  const running = [alice.createVm(100), alice.createVm(101)];
  await site.simulator.waitForRequest(({ method, path }) => method === 'POST' && path === '/nodes/n1/qemu');

  const end = ended(site);
  site.process.kill('SIGTERM');
  for (const { status, body } of await Promise.all(running)) {
    expect(status).toBe(200);
    expect(body.upid).toContain('qmcreate');
  }
  await expect(alice.get('/version')).rejects.toThrow();
  expect(await end).toMatchObject({ code: 0, signal: null });
  expect(site.storedReservations()).toBe(0);
});

// The next three mostly wait, so they wait together.

test.concurrent('SIGTERM ends the process in time although clients stand still', async () => {
  await using site = await start();
  using silent = await rawConnection(site.url);
  using halfHead = await rawConnection(site.url, 'GET /api/version HTTP/1.1\r\nHost: loc');
  using halfBody = await rawConnection(site.url, `${postHead('/api/access/ticket', 1000)}username=ali`);
  using kept = await rawConnection(site.url, 'GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await until('the kept connection was answered', () => kept.received.includes('200 OK'));

  const end = ended(site);
  site.process.kill('SIGTERM');
  const { code, ms } = await end;
  expect(code).toBe(0);
  expect(ms).toBeLessThan(patience);
  await Promise.all([silent, halfHead, halfBody, kept].map(({ closed }) => closed));
});

test.concurrent('SIGTERM ends the process in time although PVE hangs; the change is found open and settled at the next start', async () => {
  await using site = await start({ deadlines: { read: 60, write: 60 } });
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'hang' });
  const lost = alice.createVm(100, { cores: 4 }).catch((error: Error) => error);
  await site.simulator.waitForRequest(({ method, path }) => method === 'POST' && path === '/nodes/n1/qemu');
  site.simulator.pause();

  const end = ended(site);
  site.process.kill('SIGTERM');
  const { code, ms } = await end;
  expect(code).toBe(0);
  expect(ms).toBeLessThan(patience);
  expect(await lost).toBeInstanceOf(Error);
  expect(site.storedReservations()).toBe(1);

  site.simulator.resume();
  await site.startServer();
  await until('the change is settled', () => site.storedReservations() === 0);
});

test.concurrent('SIGTERM ends the process also when nobody reads its log any more', async () => {
  await using site = await start();
  for (let round = 1; round <= 5; round += 1) {
    site.process.stdout?.destroy();
    const end = ended(site);
    site.process.kill('SIGTERM');
    const { code, ms } = await end;
    expect(code).toBe(0);
    expect(ms).toBeLessThan(patience);
    await site.startServer();
  }
});

test('a second signal ends the process at once', async () => {
  await using site = await start();
  using _halfBody = await rawConnection(site.url, `${postHead('/api/access/ticket', 1000)}username=ali`);
  await until('the server runs well', async () => (await fetch(`${site.url}/healthz`)).ok);
  const end = ended(site);
  site.process.kill('SIGTERM');
  await until('it has begun to end', () =>
    fetch(`${site.url}/healthz`).then(
      () => false,
      () => true,
    ),
  );
  site.process.kill('SIGINT');
  const { code, ms } = await end;
  expect(code).toBe(130);
  expect(ms).toBeLessThan(patience);
});

test('what a client that hung up has begun is ended before the process is', async () => {
  await using site = await start({ simulator: { taskPace: 100 } });
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'delay', ms: 1000 });
  const cookie = [...alice.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const csrfpreventiontoken = decodeURIComponent(alice.cookies.get('CSRFPreventionToken') ?? '');
  const hangUp = new AbortController();
  const request = fetch(`${site.url}/api/cluster/n1/qemu/100/create`, {
    method: 'POST',
    headers: { cookie, csrfpreventiontoken },
    body: new URLSearchParams({ name: 'web', cores: '2', memory: '512' }),
    signal: hangUp.signal,
  });
  await site.simulator.waitForRequest(({ method, path }) => method === 'POST' && path === '/nodes/n1/qemu');
  hangUp.abort();
  await expect(request).rejects.toThrow();

  const end = ended(site);
  site.process.kill('SIGTERM');
  expect((await end).code).toBe(0);
  expect(site.cluster.poolOf(100)).toBe('alice');
  expect(site.storedReservations()).toBe(0);
});
