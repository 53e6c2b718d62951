import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { postHead, type RawConnection, rawConnection } from '../support/raw.ts';
import { range, scale } from '../support/scale.ts';
import { type Client, GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 100, memory: 200 * GiB, ceph: 200 * GiB, vmid: [100, 199] } as const;

/** Resolves when PVE has heard of the create. */
async function heardOf({ simulator }: Site, wanted: number): Promise<void> {
  await simulator.waitForRequest(
    ({ method, path, params }) => method === 'POST' && path === '/nodes/n1/qemu' && Number(params.vmid) === wanted,
  );
}

/** Begins a create, and hangs up when PVE has heard of it. */
async function createAndHangUp(site: Site, client: Client, vmid: number): Promise<void> {
  const cookie = [...client.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const body = 'name=web&cores=1&memory=512';
  const head = postHead(`/api/cluster/n1/qemu/${vmid}/create`, body.length).trimEnd();
  const csrf = decodeURIComponent(client.cookies.get('CSRFPreventionToken') ?? '');
  using connection = await rawConnection(
    site.url,
    `${head}\r\nCookie: ${cookie}\r\nCSRFPreventionToken: ${csrf}\r\n\r\n${body}`,
  );
  await heardOf(site, vmid);
  connection.socket.destroy();
}

test('what a client leaves behind by hanging up takes its place until it has ended', async () => {
  await using site = await startSite({
    users: { alice: limits },
    config: { limits: { concurrentRequests: 3, concurrentPerUser: 3 } },
  });
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'delay', ms: 1500, times: 3 });
  for (const vmid of [100, 101, 102]) await createAndHangUp(site, alice, vmid);

  const refused = await alice.get('/version');
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
  expect(refused.body.error).toContain('busy');
  await until('the places are free again', async () => (await alice.get('/version')).status === 200);
  await site.settled();
  expect(site.cluster.guests.size).toBe(3);
});

test('one address cannot take all the places', async () => {
  await using site = await startSite({
    users: { alice: limits },
    config: { limits: { concurrentRequests: 8, concurrentPerUser: 8 } },
  });
  const alice = await site.signIn('alice');
  const from = (address: string, path: string) => alice.send('GET', path, undefined, { 'x-forwarded-for': address });
  site.simulator.pause();
  const flood = range(20).map(() => from('198.51.100.7', '/proxmox/nodes'));
  await until('the address has its share', async () => (await from('198.51.100.7', '/version')).status === 503);
  expect((await from('198.51.100.8', '/version')).status).toBe(200);

  site.simulator.resume();
  const statuses = (await Promise.all(flood)).map(({ status }) => status);
  expect(statuses.filter((status) => status === 200)).toHaveLength(6);
  expect(statuses.filter((status) => status === 503)).toHaveLength(14);
});

test('clients that send slowly, half, or nothing keep nobody out, and are cut off', async () => {
  await using site = await startSite({ as: 'process', users: { alice: limits } });
  const alice = await site.signIn('alice');
  const openFiles = descriptors(site);
  const idle = await Promise.all(range(100).map(() => rawConnection(site.url)));
  const slow = await Promise.all(range(100).map(() => rawConnection(site.url, 'GET /api/version HTTP/1.1\r\n')));
  // Whole requests are waited for longer than their heads.
  const half = await Promise.all(
    range(scale(0, 100)).map(() => rawConnection(site.url, `${postHead('/api/access/ticket', 500_000)}username=`)),
  );
  const drip = setInterval(() => {
    for (const { socket } of slow) socket.write('X-Drip: 1\r\n');
    for (const { socket } of half) socket.write('aaaa');
  }, 500);
  const all: readonly RawConnection[] = [...idle, ...slow, ...half];
  const open = new Set(all);
  for (const connection of all) void connection.closed.then(() => open.delete(connection));
  try {
    const end = performance.now() + 60_000;
    while (open.size > 0 && performance.now() < end) {
      const asked = performance.now();
      expect((await alice.get('/user/dynamic/resources')).status).toBe(200);
      expect(performance.now() - asked).toBeLessThan(10_000);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  } finally {
    clearInterval(drip);
    for (const connection of all) connection[Symbol.dispose]();
  }
  expect(open.size).toBe(0);
  // What is still being sent to a connection that ends can cost its last answer.
  expect(slow.map(({ received }) => received.slice(0, 13))).toContain('HTTP/1.1 408 ');
  await until('the connections are forgotten', () => descriptors(site) <= openFiles + 5);
});

test('a flood of large half-sent bodies is shed before memory grows', async () => {
  await using site = await startSite({ as: 'process', users: { alice: limits } });
  const before = resident(site);
  const bytes = 500_000;
  const text = postHead('/api/access/ticket', bytes) + 'a'.repeat(bytes - 1);
  const flood: RawConnection[] = [];
  try {
    for (const _ of range(scale(1000, 3000))) flood.push(await rawConnection(site.url, text));
    await until('the rest is refused', () => flood.filter(({ received }) => received.includes(' 503 ')).length > 500);
    expect(resident(site) - before).toBeLessThan(500 * MiB);
    expect((await fetch(`${site.url}/healthz`)).status).toBe(200);
  } finally {
    for (const connection of flood) connection[Symbol.dispose]();
  }
  await until('the server serves again', async () => (await fetch(`${site.url}/api/version`)).status === 200);
});

test('clients that never read their answers take no memory to speak of', async () => {
  await using site = await startSite({ as: 'process', users: { alice: limits } });
  const before = resident(site);
  const asked = 'GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2000);
  const deaf = await Promise.all(range(50).map(() => rawConnection(site.url)));
  try {
    for (const { socket } of deaf) {
      socket.pause();
      socket.write(asked);
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(resident(site) - before).toBeLessThan(200 * MiB);
    expect((await fetch(`${site.url}/healthz`)).status).toBe(200);
  } finally {
    for (const connection of deaf) connection[Symbol.dispose]();
  }
});

/** Open files and sockets of the server process. */
function descriptors(site: Site): number {
  const { stdout } = spawnSync('ls', [`/proc/${site.process.pid}/fd`], { encoding: 'utf8' });
  return stdout.trim().split('\n').length;
}

/** Bytes of memory that the server process has. */
function resident(site: Site): number {
  const status = readFileSync(`/proc/${site.process.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

/** A small disk of its own, or null where none can be mounted. */
function smallDisk(): ({ readonly path: string; fill(): void; free(): void } & Disposable) | null {
  const path = mkdtempSync(join(tmpdir(), 'disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', path]);
  if (mounted.status !== 0) {
    rmSync(path, { recursive: true });
    return null;
  }
  const filler = join(path, 'filler');
  return {
    path,
    fill() {
      const { bavail, bsize } = statfsSync(path);
      writeFileSync(filler, Buffer.alloc(bavail * bsize));
    },
    free: () => rmSync(filler),
    [Symbol.dispose]() {
      spawnSync('umount', ['--lazy', path]);
      rmSync(path, { recursive: true });
    },
  };
}

test('a full disk stops changes with a clear error and nothing else, and service returns by itself', async ({
  skip,
}) => {
  using disk = smallDisk();
  if (disk === null) return skip('no file system can be mounted here');
  await using site = await startSite({
    users: { alice: limits },
    config: { database: join(disk.path, 'site.db') },
    simulator: { taskPace: 300 },
  });
  const alice = await site.signIn('alice');
  const begun = alice.createVm(100, { cores: 2 });
  await heardOf(site, 100);
  disk.fill();

  expect((await begun).status).toBe(200);
  const refused = await alice.createVm(101);
  expect([refused.status, refused.body.error]).toEqual([503, expect.stringContaining('the disk is full')]);
  expect(refused.headers.get('retry-after')).toBe('10');
  expect((await alice.get('/user/dynamic/resources')).body.cores.total.used).toBe(2);
  expect((await alice.get('/proxmox/cluster/resources')).status).toBe(200);
  const health = async () => (await (await fetch(`${site.url}/healthz`)).json()) as { status: string };
  await until('it is told', async () => (await health()).status === 'degraded');

  disk.free();
  await until('it is over', async () => (await health()).status === 'ok');
  expect((await alice.createVm(101)).status).toBe(200);
  await site.settled();
  await site.stopServer();
  await site.startServer();
  expect(site.server.ledger.reservations()).toEqual([]);
  expect(site.booked('alice').cores).toBe(3);
});

test('a clock that jumps costs users their tickets at most', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  try {
    await using site = await startSite({ users: { alice: limits }, refresh: { resources: 0.2, storage: 0.2 } });
    const now = Date.now();
    for (const [vmid, hours] of [
      [100, 5],
      [101, -48],
      [102, 24 * 400],
      [103, 0],
    ] as const) {
      const before = await site.signIn('alice');
      const begun = before.createVm(vmid);
      await heardOf(site, vmid);
      vi.setSystemTime(now + hours * 3_600_000);
      expect((await begun).status).toBe(200);
      expect((await before.get('/user/dynamic/resources')).status).toBe(401);
      const after = await site.signIn('alice');
      expect((await after.get('/user/dynamic/resources')).status).toBe(200);
      await site.settled();
    }
    await site.refresh();
    expect(site.booked('alice').cores).toBe(4);
  } finally {
    vi.useRealTimers();
  }
});

test('a server that is told to end says so to whoever still asks', async () => {
  await using site = await startSite({ as: 'process', users: { alice: limits } });
  using asking = await rawConnection(site.url, `${postHead('/api/access/ticket', 11)}username=`);
  await until('the server runs', async () => (await fetch(`${site.url}/healthz`)).ok);
  const ended = once(site.process, 'exit');
  site.process.kill('SIGTERM');
  await until('nobody is taken on', () =>
    fetch(`${site.url}/healthz`).then(
      () => false,
      () => true,
    ),
  );
  asking.socket.write('al\r\nGET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await ended;
  expect(asking.received).toMatch(/^HTTP\/1\.1 400 .*HTTP\/1\.1 503 .*it is ending/s);
});
