import { spawnSync } from 'node:child_process';
import Sqlite from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/server.ts';
import { keepLog } from '../support/kept-log.ts';
import { PveClient, ticketOf } from '../support/pve-client.ts';
import { rawConnection } from '../support/raw.ts';
import { range } from '../support/scale.ts';
import { GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 16, memory: 64 * GiB, ceph: 100 * GiB, network: 'unlimited' } as const;

/** A request that says it comes from this address, by way of the web server in front. */
const from = (address: string) => ({ 'x-forwarded-for': address });

/** A ticket that looks like PVE's, made now. */
function madeUp(user: string, n: number): string {
  const time = Math.floor(Date.now() / 1000)
    .toString(16)
    .toUpperCase()
    .padStart(8, '0');
  return `PVE:${user}:${time}::${btoa(`made up ${n}`)}`;
}

/** Ends a site where something still waits for PVE. */
async function ended(site: Site): Promise<void> {
  await site.simulator.stop();
  await site[Symbol.asyncDispose]();
}

describe('a server with few places', () => {
  const slow = [
    ['one', '/api2/json', '/nodes/n1/status'],
    ['two', '/api2/json', '/cluster/nextid'],
    ['three', '/api/proxmox', '/nodes/n2/status'],
  ] as const;
  let site: Site;
  beforeAll(async () => {
    site = await startSite({
      users: { alice: limits, cut: { local: GiB }, ...Object.fromEntries(slow.map(([name]) => [name, limits])) },
      deadlines: { read: 60 },
      config: { limits: { concurrentRequests: 16, concurrentPerUser: 4 } },
    });
  });
  afterAll(() => ended(site));

  test.each(slow)(
    'has a share of the places, from however many addresses, and is told so (%s)',
    async (name, prefix, path) => {
      const [alice, mallory] = [await PveClient.signIn(site, 'alice'), await PveClient.signIn(site, name)];
      const at = async ({ headers }: PveClient, n: number) =>
        fetch(`${site.url}${prefix}${path}?vmid=999`, {
          headers: { ...headers, ...from(`198.51.100.${n}`) },
          signal: hangUp.signal,
        });
      const hangUp = new AbortController();
      site.simulator.faults.add({ path: new RegExp(`^${path}$`), kind: 'hang', times: 4 });
      const held = range(4).map((n) => at(mallory, n).catch(() => 'gone'));
      const atPve = () => site.simulator.requests.filter((request) => request.path === path && request.status === 0);
      await until('PVE has them all', () => atPve().length === 4);

      const refused = await at(mallory, 9);
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
      expect(await refused.text()).toContain('You have too many requests under way (4)');
      expect((await at(alice, 10)).status).toBeLessThan(404);
      hangUp.abort();
      expect(await Promise.all(held)).toEqual(range(4).map(() => 'gone'));
    },
  );

  describe('refuses what two servers could read in two ways', () => {
    const create = '/api2/json/nodes/n1/qemu';
    const body = 'vmid=150&memory=512&pool=alice';
    const post = (...headers: readonly string[]) => [`POST ${create} HTTP/1.1`, 'Host: localhost', ...headers];
    const whole = `Content-Length: ${body.length}`;
    const smuggled = `0\r\n\r\nPOST ${create} HTTP/1.1\r\nHost: localhost\r\n${whole}\r\n\r\n`;
    const chunked = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;

    test.each<[string, readonly string[], string, number]>([
      ['both lengths', post('Content-Length: 5', 'Transfer-Encoding: chunked'), smuggled + body, 400],
      ['two lengths', post(whole, 'Content-Length: 0'), body, 400],
      ['a list of lengths', post(`${whole}, ${body.length}`), body, 400],
      ['a signed length', post(`Content-Length: +${body.length}`), body, 400],
      ['a blank before the colon', post(`Content-Length : ${body.length}`), body, 400],
      ['a folded header', post('X-Long: a', ` ${whole}`, whole), body, 400],
      ['a return alone in a header', post(`X-Long: a\r${whole}`, whole), body, 400],
      ['chunks', post('Transfer-Encoding: chunked'), chunked, 501],
      ['an unknown coding', post('Transfer-Encoding: xchunked'), chunked, 501],
      ['no host', [`POST ${create} HTTP/1.1`, whole], body, 400],
      ['an absolute target', [`POST http://localhost${create} HTTP/1.1`, 'Host: localhost', whole], body, 400],
      ['a fragment', [`POST ${create}# HTTP/1.1`, 'Host: localhost', whole], body, 400],
      ['another method', [`PATCH ${create} HTTP/1.1`, 'Host: localhost', whole], body, 501],
      ['a method in small letters', [`post ${create} HTTP/1.1`, 'Host: localhost', whole], body, 400],
      ['another version', [`POST ${create} HTTP/1.9`, 'Host: localhost', whole], body, 400],
      ['more headers than are read', post(...range(1500).map((n) => `x${n}: a`), whole), body, 431],
      ['an expectation', post('Expect: a miracle', whole), body, 417],
      ['a body of another coding', post('Content-Encoding: gzip', whole), '\x1f'.repeat(body.length), 400],
    ])('%s', async (_, head, rest, status) => {
      const { ticket, csrf } = await ticketOf(site, 'alice');
      const shown = [`Cookie: PVEAuthCookie=${encodeURIComponent(ticket)}`, `CSRFPreventionToken: ${csrf}`];
      using connection = await rawConnection(site.url, `${[...head, ...shown].join('\r\n')}\r\n\r\n${rest}`);
      await until('it is answered', () => /\r\n\r\n/.test(connection.received));
      expect(connection.received).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      connection.socket.end();
      await connection.closed;
      expect(connection.received).not.toContain(' 200 ');
      expect(site.cluster.guests.get(150)).toBeUndefined();
    });

    test('but serves those who offer another protocol, as if they did not', async () => {
      const { headers } = await PveClient.signIn(site, 'alice');
      const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA';
      const head = `GET /api2/json/version HTTP/1.1\r\nHost: localhost\r\nCookie: ${headers.cookie}\r\n${offer}\r\n\r\n`;
      using connection = await rawConnection(site.url, head);
      await until('it is answered', () => connection.received.includes('"version"'));
      expect(connection.received).toMatch(/^HTTP\/1\.1 200 /);
    });
  });

  test('answers nonsense in fewer words than it was sent', async () => {
    const { headers } = await PveClient.signIn(site, 'alice');
    const nonsense = (name: string) =>
      range(20_000)
        .map((n) => `x${n}${name}=1`)
        .join('&');
    for (const [path, name] of [
      ['/api/access/ticket', '['],
      ['/api/cluster/n1/qemu/150/create', ''],
      ['/api2/json/nodes/n1/qemu', ''],
    ] as const) {
      const cookie = `${headers.cookie}; CSRFPreventionToken=${encodeURIComponent(String(headers.csrfpreventiontoken))}`;
      const reply = await fetch(site.url + path, {
        method: 'POST',
        headers: { ...headers, cookie, 'content-type': 'application/x-www-form-urlencoded' },
        body: nonsense(name),
      });
      expect([path, reply.status]).toEqual([path, 400]);
      expect((await reply.text()).length).toBeLessThan(10_000);
    }
  });

  test('gives PVE no end of an upload whose user has been cut off meanwhile', async () => {
    const { ticket, csrf } = await ticketOf(site, 'cut');
    const cookie = `PVEAuthCookie=${encodeURIComponent(ticket)}`;
    const part = (disposition: string, text: string) =>
      `--b\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n${text}`;
    const form = `${part('name="content"', 'iso\r\n')}${part('name="filename"; filename="a.iso"', 'x'.repeat(MiB))}\r\n--b--\r\n`;
    const head = [
      'POST /api2/json/nodes/n1/storage/local/upload HTTP/1.1',
      'Host: localhost',
      `Cookie: ${cookie}`,
      `CSRFPreventionToken: ${csrf}`,
      'Content-Type: multipart/form-data; boundary=b',
      `Content-Length: ${form.length}`,
    ];
    using upload = await rawConnection(site.url, `${head.join('\r\n')}\r\n\r\n${form.slice(0, -8)}`);
    await site.simulator.waitForRequest(({ path }) => path.endsWith('/upload'));
    site.cluster.access.disable('cut@pve');
    await fetch(`${site.url}/api/access/ticket`, { method: 'DELETE', headers: { cookie } });

    upload.socket.write(form.slice(-8));
    await until('it is answered', () => upload.received.includes('\r\n\r\n'));
    expect(upload.received).toMatch(/^HTTP\/1\.1 401 /);
    await site.settled();
    expect([site.cluster.volumes.get('n1', 'local:iso/a.iso'), site.booked('cut')]).toEqual([undefined, {}]);
  });

  test('counts guesses at a password by whoever has only the ticket', async () => {
    const one = await PveClient.signIn(site, 'one');
    const change = (old: string) =>
      one.put('/access/password', { userid: 'one@pve', password: 'another-secret', 'confirmation-password': old });
    for (const n of range(10)) expect((await change(`guess-${n}`)).status).toBe(400);
    expect((await change('one-secret')).status).toBe(429);
    expect((await one.get('/version')).status).toBe(200);
  });

  test('counts made-up credentials like failed sign-ins, once each, and locks out nobody who is known or elsewhere', async () => {
    const at = async (address: string, headers: Readonly<Record<string, string>>) => {
      const response = await fetch(`${site.url}/api2/json/version`, { headers: { ...headers, ...from(address) } });
      await response.text();
      return response;
    };
    const known = await PveClient.signIn(site, 'alice');
    const wrong = (n: number) => ({
      authorization: `PVEAPIToken=alice@pve!ci=00000000-0000-4000-8000-00000000000${n}`,
    });
    for (const n of [...range(10), ...range(10)]) expect((await at('198.51.100.8', wrong(n))).status).toBe(401);

    const fresh = PveClient.withToken(site, 'alice@pve', 'fresh').headers;
    const refused = await at('198.51.100.8', fresh);
    expect([refused.status, Number(refused.headers.get('retry-after'))]).toEqual([429, expect.any(Number)]);
    expect((await at('198.51.100.9', fresh)).status).toBe(200);
    expect((await at('198.51.100.8', fresh)).status).toBe(200);
    expect((await at('198.51.100.8', known.headers)).status).toBe(200);
  });
});

test('wrong passwords from one network keep nobody of another from signing in', async () => {
  const site = await startSite({
    users: { alice: {} },
    simulator: { unauthorizedDelay: 600_000 },
    deadlines: { read: 600, write: 600 },
  });
  try {
    const signIn = async (address: string, password: string, path = '/api2/json/access/ticket') => {
      const body = new URLSearchParams({ username: 'alice@pve', password });
      return (await fetch(site.url + path, { method: 'POST', body, headers: from(address) })).status;
    };
    const flood = range(8).map((n) =>
      signIn('198.51.100.7', `wrong ${n}`, n % 2 === 0 ? '/api/access/ticket' : undefined),
    );
    const asked = () => site.simulator.requests.filter(({ path, status }) => path === '/access/ticket' && status === 0);
    await until('PVE is asked about some', () => asked().length === 4);
    expect(await signIn('198.51.100.8', 'alice-secret')).toBe(200);
    expect(asked()).toHaveLength(4);
    await site.simulator.stop();
    for (const status of await Promise.all(flood)) expect(status).toBeGreaterThanOrEqual(500);
  } finally {
    await ended(site);
  }
});

test('made-up credentials keep nobody of another network waiting who shows theirs for the first time', async () => {
  const site = await startSite({
    users: { alice: limits, bob: limits },
    simulator: { unauthorizedDelay: 600_000 },
    deadlines: { read: 600 },
  });
  try {
    const at = async (address: string, headers: Readonly<Record<string, string>>) =>
      (await fetch(`${site.url}/api2/json/version`, { headers: { ...headers, ...from(address) } })).status;
    const flood = range(20).map((n) => at('2001:db8::1', { cookie: `PVEAuthCookie=${madeUp('alice@pve', n)}` }));
    const asked = () => site.simulator.requests.filter(({ path, status }) => path === '/version' && status === 0);
    await until('PVE is asked about some', () => asked().length === 3);

    const strangers = range(9).map((n) => PveClient.withToken(site, 'alice@pve', `ci${n}`).headers);
    for (const headers of strangers) expect(await at('2001:db8:0:1::1', headers)).toBe(200);
    const socket = new WebSocket(`${site.url.replace('http', 'ws')}/api/sync/interrupt`, {
      headers: { authorization: `PVEAuthCookie=${madeUp('bob@pve', 1)}`, ...from('2001:db8::2') },
    });
    socket.on('error', () => {});
    expect(await at('2001:db8:0:2::1', PveClient.withToken(site, 'bob@pve', 'ci').headers)).toBe(200);
    expect(asked()).toHaveLength(3);
    socket.terminate();
    await site.simulator.stop();
    expect(new Set(await Promise.all(flood))).toEqual(new Set([503]));
  } finally {
    await ended(site);
  }
});

test('while another program writes to the database changes are refused and reads go on', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');
  const other = new Sqlite(`${site.directory}/site.db`);
  other.exec('BEGIN IMMEDIATE');
  const refused = await alice.createVm(100);
  expect([refused.status, refused.body.error]).toEqual([503, expect.stringContaining('another program holds it')]);
  expect((await alice.get('/proxmox/nodes')).status).toBe(200);
  other.exec('ROLLBACK');
  other.close();
  expect((await alice.createVm(100)).status).toBe(200);
});

test('a server that cannot listen says which setting to mend, and lets go of everything', async () => {
  await using site = await startSite();
  const config = loadConfig(site.configFile);
  const { log, lines } = keepLog();
  const port = Number(new URL(site.url).port);
  const start = (application: object, database: string) =>
    startServer(
      { ...config, application: { ...config.application, ...application }, database: `${site.directory}/${database}` },
      { configFile: site.configFile, version: '0.0.0', log },
    );
  const taken = `application.listenPort: ${port} at 127.0.0.1 is taken by another program`;
  await expect(start({ listenPort: port }, 'other.db')).rejects.toThrow(taken);
  const elsewhere = 'application.listenHost: 192.0.2.1 is no address of this machine';
  await expect(start({ listenHost: '192.0.2.1' }, 'other.db')).rejects.toThrow(elsewhere);
  await expect(start({ listenHost: 'fe80::1' }, 'other.db')).rejects.toThrow('fe80::1 is no address of this machine');
  expect(lines.filter((line) => line.includes('API token') || line.includes('a PVE host'))).toEqual([]);
  await (await start({}, 'other.db')).close();
});

test('a server without a reader of its log, or out of open files, goes on', async ({ skip }) => {
  await using site = await startSite({ as: 'process', users: { alice: limits } });
  const alice = await site.signIn('alice');
  site.process.stdout?.destroy();
  await site.simulator.stop();
  expect((await alice.get('/proxmox/nodes')).status).toBe(503);
  await site.simulator.start();
  expect((await alice.get('/proxmox/nodes')).status).toBe(200);

  const files = (limit: number) => spawnSync('prlimit', ['--pid', String(site.process.pid), `--nofile=${limit}:`]);
  using kept = await rawConnection(site.url);
  if (files(10).status !== 0) return skip('no limit can be set here');
  await until('it is told', () => {
    kept.socket.write('GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n');
    return kept.received.includes('503 Service Unavailable');
  });
  expect(kept.received).toContain('open files are short');
  files(512);
  await until('it serves again', async () => (await alice.get('/proxmox/nodes')).status === 200);
  expect(site.process.exitCode).toBeNull();
});

test('what anybody may ask keeps nobody from signing in, and neither do right passwords that come at once', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const post = (path: string, fields: Record<string, string>, more: RequestInit = {}) =>
    fetch(`${site.url}${path}`, { method: 'POST', body: new URLSearchParams(fields), ...more });
  const hangUp = new AbortController();
  const ticket = '/access/vncticket';
  site.simulator.faults.add({ method: 'POST', path: ticket, kind: 'hang', times: 100 });
  const asked = { authid: 'alice@pve', path: '/vms/100', privs: 'VM.Console', vncticket: 'PVEVNC:65F0A0B1::abc=' };
  const flood = range(20).map(() =>
    post(`/api2/json${ticket}`, asked, { headers: from('203.0.113.9'), signal: hangUp.signal }).catch(() => 'gone'),
  );
  const atPve = () => site.simulator.requests.filter(({ path }) => path === ticket).length;
  await until('some of it is at PVE', () => atPve() >= 4);

  site.simulator.faults.add({ method: 'POST', path: '/access/ticket', kind: 'delay', ms: 20, times: 100 });
  for (const path of ['/api2/json/access/ticket', '/api/access/ticket']) {
    const forks = await Promise.all(
      range(20).map(() => post(path, { username: 'alice@pve', password: 'alice-secret' })),
    );
    expect(forks.map(({ status }) => status)).toEqual(range(20).map(() => 200));
  }
  expect(atPve()).toBe(4);
  hangUp.abort();
  await Promise.all(flood);
  await site.simulator.stop();
});
