import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { addGuest, destroyGuest, setConfig } from '../../simulator/administrator.ts';
import { decoded, refusalIn, shapes } from '../support/decoder.ts';
import { Client, GiB, type Site, type SiteOptions, startSite, until } from '../support/site.ts';
import { openSync } from '../support/sync-socket.ts';

const limits = { cores: 8, memory: 8 * GiB } as const;
const quick = { schemes: { interrupt: { 'min-rate': 0.05, 'max-rate': 60 } } };

/** Two tenants with a guest each, and one guest of nobody. */
async function siteWithGuests(options: SiteOptions = {}): Promise<Site> {
  const site = await startSite({
    users: { alice: limits, bob: limits },
    ...options,
    config: { clientsync: quick, ...options.config },
  });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { name: 'web', cores: 1, memory: 512 } });
  addGuest(site.cluster, { vmid: 200, pool: 'bob', config: { name: 'db', cores: 1, memory: 512 } });
  addGuest(site.cluster, { vmid: 900, config: { name: 'stray', cores: 1, memory: 512 } });
  await site.refresh();
  return site;
}

const looks = ({ simulator }: Site) => simulator.requests.filter(({ path }) => path === '/cluster/resources').length;

test('the schemes are told to everybody', async () => {
  await using site = await startSite({ users: {} });
  const schemes = decoded(shapes.schemes, await new Client(site).get('/sync/schemes'));
  expect(schemes).toEqual({
    always: { enabled: true },
    hash: { enabled: true },
    interrupt: { enabled: true, 'min-rate': 1, 'max-rate': 60 },
  });
});

test('schemes that are not enabled are not there', async () => {
  const schemes = { hash: { enabled: false }, interrupt: { enabled: false } };
  await using site = await startSite({ users: { alice: limits }, config: { clientsync: { schemes } } });
  const alice = await site.signIn('alice');
  expect(refusalIn(await alice.get('/sync/hash')).status).toBe(404);
  expect(refusalIn(await alice.get('/sync/interrupt')).status).toBe(404);
  await expect(openSync(site, alice)).rejects.toMatchObject({ status: 404 });
});

test('the hash changes when something changes that the user sees in a dashboard, and never else', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  const seen = new Set<string>();
  const hash = async () => decoded(shapes.hash, await alice.get('/sync/hash'));
  const same = async (what: string) => expect(seen, what).toContain(await hash());
  const other = async (what: string) => {
    const now = await hash();
    expect(seen, what).not.toContain(now);
    seen.add(now);
  };

  await other('the first');
  await same('nothing happened');
  setConfig(site.cluster, 100, { cores: 4, memory: 4096, description: 'x' });
  await same('another size');
  setConfig(site.cluster, 200, { name: 'hidden' });
  addGuest(site.cluster, { vmid: 201, pool: 'bob' });
  await same("somebody else's guests");
  setConfig(site.cluster, 100, { name: 'renamed' });
  await other('another name');
  expect((await alice.post('/proxmox/nodes/n1/qemu/100/status/start')).status).toBe(200);
  await until('it runs', () => site.cluster.guests.get(100)?.status === 'running');
  await other('another status');
  addGuest(site.cluster, { vmid: 101, pool: 'alice' });
  await other('one more');
  destroyGuest(site.cluster, 101);
  await same('as it was before that');
});

test('only the configured types of resources count for the hash', async () => {
  await using site = await siteWithGuests({ config: { clientsync: { resourcetypes: ['node'] } } });
  const alice = await site.signIn('alice');
  const before = decoded(shapes.hash, await alice.get('/sync/hash'));
  setConfig(site.cluster, 100, { name: 'renamed' });
  expect(decoded(shapes.hash, await alice.get('/sync/hash'))).toBe(before);
});

test('the hash is for those who have signed in', async () => {
  await using site = await siteWithGuests();
  expect(await new Client(site).get('/sync/hash')).toMatchObject({ status: 401, body: { auth: false } });
});

test('a socket hears "sync" of nodes and of its own pools, and of nothing else', async () => {
  await using site = await siteWithGuests();
  await using alice = await openSync(site, await site.signIn('alice'));
  await using bob = await openSync(site, await site.signIn('bob'));
  alice.socket.send('rate 0.05');
  // The first look of all finds everything changed; who has not asked for looks hears of those of others.
  await until('both have heard', () => alice.heard.length === 1 && bob.heard.length === 1);
  const heard = () => [alice.heard.length, bob.heard.length];
  const hear = async (wanted: readonly number[]) => {
    await until(`they have heard ${wanted}`, () => String(heard()) === String(wanted));
    const sofar = looks(site);
    await until('it was looked twice', () => looks(site) >= sofar + 2);
    expect(heard()).toEqual(wanted);
  };

  await hear([1, 1]);
  setConfig(site.cluster, 100, { name: 'renamed' });
  await hear([2, 1]);
  setConfig(site.cluster, 900, { name: 'lost' });
  setConfig(site.cluster, 200, { description: 'x' });
  await hear([2, 1]);
  addGuest(site.cluster, { vmid: 201, pool: 'bob' });
  await hear([2, 2]);
  destroyGuest(site.cluster, 201);
  await hear([2, 3]);
  const node = site.cluster.nodes.get('n2');
  if (node !== undefined) node.online = false;
  await hear([3, 4]);
  expect(new Set([...alice.heard, ...bob.heard])).toEqual(new Set(['sync']));
});

test('there is one look for all at the fastest rate asked for, and none when nobody listens', async () => {
  await using site = await siteWithGuests();
  const client = await site.signIn('alice');
  const quiet = async () => {
    const sofar = looks(site);
    await delay(300);
    return looks(site) - sofar;
  };
  await until('the server has looked at what it starts with', async () => (await quiet()) === 0);
  const sockets = await Promise.all(Array.from({ length: 5 }, () => openSync(site, client)));
  expect(await quiet()).toBe(0);
  for (const { socket } of sockets.slice(0, 4)) socket.send('rate 0.1');
  sockets[4]?.socket.send('rate 60');
  const [least, most] = [1, 4];
  const counted = await quiet();
  expect(counted).toBeGreaterThanOrEqual(least);
  expect(counted).toBeLessThanOrEqual(most);
  for (const socket of sockets) await socket[Symbol.asyncDispose]();
  await until('nobody looks any more', async () => (await quiet()) === 0);
});

test.each([
  ['rate 0.01', 'error: rate must be in range [0.05, 60].'],
  ['rate 61', 'error: rate must be in range [0.05, 60].'],
  ['rate', 'error: rate must be in range [0.05, 60].'],
  ['rate NaN', 'error: rate must be in range [0.05, 60].'],
  ['rate 5 5', 'error: rate must be in range [0.05, 60].'],
  ['hello there', 'error: hello command not found.'],
  ['', 'error:  command not found.'],
])('%j is answered with %j, and the socket is closed', async (text, answer) => {
  await using site = await siteWithGuests();
  await using alice = await openSync(site, await site.signIn('alice'));
  alice.socket.send(text);
  await until('it is closed', () => alice.code !== undefined);
  expect(alice.heard).toEqual([answer]);
});

test('a client that says too much, or too often, is cut off', async () => {
  await using site = await siteWithGuests();
  const client = await site.signIn('alice');
  await using wordy = await openSync(site, client);
  wordy.socket.send('x'.repeat(10_000));
  await until('it is closed', () => wordy.code === 1009);
  await using restless = await openSync(site, client);
  for (let times = 0; times < 200; times += 1) restless.socket.ping();
  await until('it is closed', () => restless.code !== undefined);
  await using fragmented = await openSync(site, client);
  for (let times = 0; times < 10; times += 1) fragmented.socket.send('', { fin: false });
  await until('it is closed', () => fragmented.code !== undefined);
});

test('who has not signed in, or comes from a foreign page, gets no socket', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  await expect(openSync(site, undefined)).rejects.toMatchObject({
    status: 401,
    body: { auth: false, error: expect.any(String) },
  });
  const headers = { origin: 'https://evil.example' };
  await expect(openSync(site, alice, { headers })).rejects.toMatchObject({ status: 403 });
  await using own = await openSync(site, alice, { headers: { origin: site.url } });
  own.socket.send('rate 1');
  alice.cookies.set('username', 'bob%40pve');
  await expect(openSync(site, alice)).rejects.toMatchObject({ status: 401 });
});

test('an ordinary request gets an ordinary error, and a wrong address as well', async () => {
  await using site = await siteWithGuests();
  const alice = await site.signIn('alice');
  expect(refusalIn(await alice.get('/sync/interrupt'))).toMatchObject({ status: 426 });
  await expect(openSync(site, alice, { path: '/api/sync/elsewhere' })).rejects.toMatchObject({ status: 404 });
  await using other = await openSync(site, alice, { path: '/API/Sync/Interrupt/?x=1' });
  expect(other.code).toBeUndefined();
  const offer = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABkAAQAAP__' };
  expect((await rawRequest(site, 'GET /api/version HTTP/1.1', offer)).split('\r\n')[0]).toBe('HTTP/1.1 200 OK');
  const half = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
  const cookie = [...alice.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const answer = await rawRequest(site, 'GET /api/sync/interrupt HTTP/1.1', { ...half, cookie });
  expect(answer.split('\r\n')[0]).toBe('HTTP/1.1 400 Bad Request');
});

test('a socket ends when its user signs out, and no other', async () => {
  await using site = await siteWithGuests();
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  await using first = await openSync(site, alice);
  await using second = await openSync(site, bob);
  await alice.delete('/access/ticket');
  await until('it is closed', () => first.code === 1008);
  expect(second.code).toBeUndefined();
});

test('when the server ends, so do all sockets, also those of clients that do not answer', async () => {
  await using site = await siteWithGuests();
  const client = await site.signIn('alice');
  await using polite = await openSync(site, client);
  await using stuck = await openSync(site, client);
  stuck.socket.pause();
  const began = performance.now();
  await site.stopServer();
  expect(performance.now() - began).toBeLessThan(10_000);
  await until('it is closed', () => polite.code === 1001);
  stuck.socket.resume();
  await until('it is cut', () => stuck.code !== undefined);
});

test('while PVE is away sockets stay, and hear of what has changed when it is back', async () => {
  await using site = await siteWithGuests();
  await using alice = await openSync(site, await site.signIn('alice'));
  alice.socket.send('rate 0.05');
  await until('it has heard', () => alice.heard.length === 1);
  await site.simulator.stop();
  setConfig(site.cluster, 100, { name: 'renamed' });
  await delay(200);
  expect([alice.heard.length, alice.code]).toEqual([1, undefined]);
  await site.simulator.start();
  await until('it has heard again', () => alice.heard.length === 2);
});

/** Sends a request as it is and reads until the connection ends or a head has come. */
function rawRequest(site: Site, line: string, headers: Readonly<Record<string, string>>): Promise<string> {
  const { hostname, port, host } = new URL(site.url);
  const head = Object.entries({ host, ...headers }).map(([name, value]) => `${name}: ${value}`);
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(Number(port), hostname, () => socket.write([line, ...head, '', ''].join('\r\n')));
    socket.on('error', reject).on('close', () => resolve(text));
    socket.on('data', (chunk) => {
      text += chunk;
      if (text.includes('\r\n\r\n')) socket.destroy();
    });
  });
}
