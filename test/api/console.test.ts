import { randomBytes } from 'node:crypto';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { type ConsoleOffer, openConsole } from '../support/console-socket.ts';
import { listening, unusedUrl } from '../support/listening.ts';
import { startNginx } from '../support/nginx.ts';
import { missingPrograms } from '../support/programs.ts';
import { rawConnection } from '../support/raw.ts';
import { type Client, GiB, type Site, type SiteOptions, startSite, until } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB } as const;
const node = '/nodes/n1';
const vm = '/nodes/n1/qemu/100';
const container = '/nodes/n1/lxc/101';

async function siteWithConsoles(options: SiteOptions = {}): Promise<Site> {
  const site = await startSite({ users: { alice: limits, bob: limits, root: { admin: true } }, ...options });
  const running = { pool: 'alice', status: 'running' } as const;
  addGuest(site.cluster, { ...running, vmid: 100, config: { name: 'web', cores: 1, memory: 512, vga: 'qxl' } });
  addGuest(site.cluster, { ...running, vmid: 101, type: 'lxc', config: { hostname: 'db', cores: 1, memory: 512 } });
  return site;
}

const cookieOf = (client: Client) => ({
  cookie: [...client.cookies].map(([name, value]) => `${name}=${value}`).join('; '),
});

async function offerOf(client: Client, guest: string, kind = 'vncproxy'): Promise<ConsoleOffer> {
  const { status, body } = await client.post(`/proxmox${guest}/${kind}`, {
    ...(kind === 'vncproxy' && { websocket: 1 }),
  });
  if (status !== 200) throw new Error(`${kind} was answered with ${status} ${JSON.stringify(body)}`);
  return body.data;
}

async function viewing(site: Site, client: Client, guest = vm, kind = 'vncproxy') {
  return openConsole(site, guest, await offerOf(client, guest, kind), { headers: cookieOf(client) });
}

/** What a script with a new API token of alice's sends. */
function tokenOf(name: string): { readonly authorization: string } {
  const secret = site.cluster.access.addToken('alice@pve', name, { privsep: false });
  return { authorization: `PVEAPIToken=alice@pve!${name}=${secret}` };
}

async function offerTo(headers: Readonly<Record<string, string>>, guest: string, kind: string): Promise<ConsoleOffer> {
  const answer = await fetch(`${site.url}/api2/json${guest}/${kind}`, { method: 'POST', headers });
  if (answer.status !== 200) throw new Error(`${kind} was answered with ${answer.status} ${answer.statusText}`);
  return ((await answer.json()) as { readonly data: ConsoleOffer }).data;
}

const answers = (site: Site) => site.simulator.requests.filter(({ path }) => path.endsWith('/vncwebsocket'));

let site: Site;
beforeAll(async () => {
  site = await siteWithConsoles({ config: { limits: { consoles: { total: 5, perUser: 3 } } } });
});
afterAll(() => site[Symbol.asyncDispose]());
const none = () => until('no console is open', () => site.simulator.consoles === 0);

test('a VM shows its screen to the caller, at PVE as the caller, below each prefix', async () => {
  const alice = await site.signIn('alice');
  for (const prefix of ['/api2/json', '/api2/extjs', '/api/proxmox']) {
    const offer = await offerOf(alice, vm);
    await using viewer = await openConsole(site, vm, offer, { headers: cookieOf(alice), prefix });
    await until('the greeting is there', () => viewer.heard.toString() === 'RFB 003.008\n');
    const frames = [randomBytes(1), randomBytes(70_000), randomBytes(131_072)];
    for (const frame of frames) viewer.socket.send(frame);
    await until('all of it came back', () => viewer.heard.length === 12 + 201_073);
    expect(viewer.heard.subarray(12).equals(Buffer.concat(frames))).toBe(true);
    expect(viewer.socket.protocol).toBe('binary');
    expect(site.simulator.consoles).toBe(1);
    expect(answers(site).at(-1)).toMatchObject({ caller: 'alice@pve', viaToken: false });
  }
  await none();
});

test('a container gives a terminal, with an API token as well', async () => {
  const headers = tokenOf('shell');
  const data = await offerTo(headers, container, 'termproxy');
  expect(data.user).toBe('alice@pve!shell');
  await using viewer = await openConsole(site, container, data, { headers });
  viewer.socket.send(`${data.user}:${data.ticket}\n`);
  await until('it is let in', () => viewer.heard.toString() === 'OK');
  viewer.socket.send('0:3:ls\n');
  await until('it answers', () => viewer.heard.toString() === 'OK0:3:ls\n');
});

test('SPICE settings are for the own guest, made by PVE for the caller, with the address that they ask for', async () => {
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  for (const guest of [vm, container]) {
    const answer = await alice.post(`/proxmox${guest}/spiceproxy`);
    expect(answer.body.data).toMatchObject({ type: 'spice', proxy: 'http://n1:3128', 'tls-port': 61_000 });
    expect(site.simulator.requests.at(-1)).toMatchObject({ caller: 'alice@pve', viaToken: false });
    expect((await bob.post(`/proxmox${guest}/spiceproxy`)).status).toBe(403);
  }
  const asked = await alice.post(`/proxmox${vm}/spiceproxy`, { proxy: 'spice.example.org' });
  expect(asked.body.data.proxy).toBe('http://spice.example.org:3128');
  expect((await alice.post(`/proxmox${node}/spiceshell`)).status).toBe(403);
});

test("a VM's guest agent answers its own tenant, at PVE as the caller", async () => {
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  site.cluster.guests.get(100)?.config.set('agent', '1');
  site.cluster.access.addRole('Agents', ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted']);
  site.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'Agents');
  const asked = `/proxmox${vm}/agent`;
  expect((await alice.get(`${asked}/get-host-name`)).body.data).toEqual({ result: { 'host-name': 'web' } });
  const { body } = await alice.post(`${asked}/exec`, { command: 'uptime' });
  expect((await alice.get(`${asked}/exec-status?pid=${body.data.pid}`)).body.data).toMatchObject({ exited: 1 });
  expect(site.simulator.requests.at(-1)).toMatchObject({ caller: 'alice@pve', viaToken: false });
  expect((await bob.post(`${asked}/exec`, { command: 'uptime' })).status).toBe(403);
});

test("a node's shell is an administrator's, with their own rights; a tenant gets none, also with another's ticket", async () => {
  const [root, alice] = [await site.signIn('root'), await site.signIn('alice')];
  await none();
  for (const kind of ['vncshell', 'termproxy', 'spiceshell'])
    expect(await alice.post(`/proxmox${node}/${kind}`)).toMatchObject({ status: 403 });
  const offer = await offerOf(root, node, 'termproxy');
  expect(site.simulator.requests.at(-1)).toMatchObject({ caller: 'root@pve', viaToken: false });
  const refused = { status: 403, reason: /Sys\.Console/ };
  await expect(openConsole(site, node, offer, { headers: cookieOf(alice) })).rejects.toMatchObject(refused);
  await using shell = await openConsole(site, node, offer, { headers: cookieOf(root) });
  shell.socket.send(`${offer.user}:${offer.ticket}\n`);
  await until('it is let in', () => shell.heard.toString() === 'OK');
  await using screen = await viewing(site, root, node, 'vncshell');
  await until('the greeting is there', () => screen.heard.toString() === 'RFB 003.008\n');
  const open = [await viewing(site, root, node, 'vncshell')];
  await expect(viewing(site, root, node, 'vncshell')).rejects.toMatchObject({ status: 429 });
  for (const viewer of open) await viewer[Symbol.asyncDispose]();
  await root.delete('/access/ticket');
  await until('both are closed', () => shell.closed?.code === 1008 && screen.closed?.code === 1008);
  await none();
});

test.each([
  [[], ''],
  [['base64'], 'base64'],
  [['base64', 'binary'], 'binary'],
])('a viewer that offers the subprotocols %j gets a console with "%s"', async (protocols, chosen) => {
  const alice = await site.signIn('alice');
  await none();
  await using viewer = await openConsole(site, vm, await offerOf(alice, vm), { headers: cookieOf(alice), protocols });
  await until('the greeting is there', () => viewer.heard.toString() === 'RFB 003.008\n');
  expect(viewer.socket.protocol).toBe(chosen);
});

test('who may not, or shows the wrong thing, is told in the status line and reaches no console', async () => {
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  await none();
  const offer = await offerOf(alice, vm);
  const attempt = (headers: Readonly<Record<string, string>>, given = offer, guest = vm) =>
    openConsole(site, guest, given, { headers });
  const sofar = answers(site).length;
  await expect(attempt({})).rejects.toMatchObject({ status: 401, reason: 'No ticket' });
  const foreign = { ...cookieOf(alice), origin: 'https://evil.example' };
  await expect(attempt(foreign)).rejects.toMatchObject({ status: 403 });
  const noPort = { ...offer, port: '22' };
  await expect(attempt(cookieOf(alice), noPort)).rejects.toMatchObject({ status: 400, reason: /port: expected/ });
  await expect(attempt(cookieOf(alice), offer, '/nodes/n1/disks')).rejects.toMatchObject({ status: 403 });
  expect(answers(site)).toHaveLength(sofar);

  await expect(attempt(cookieOf(bob))).rejects.toMatchObject({ status: 403, reason: /VM\.Console/ });
  const forged = { ...offer, ticket: `${offer.ticket.slice(0, -4)}AAAA` };
  await expect(attempt(cookieOf(alice), forged)).rejects.toMatchObject({ status: 401, reason: /PVEVNC/ });
  await expect(attempt(cookieOf(alice), offer, container)).rejects.toMatchObject({ status: 401 });
  expect(site.simulator.consoles).toBe(0);
  await using own = await attempt({ ...cookieOf(alice), origin: site.url });
  expect(own.closed).toBeUndefined();
});

test.each([
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: not one',
])('a half-made upgrade request is told so, and leaves nothing open at PVE: %j', async (lines) => {
  const alice = await site.signIn('alice');
  await none();
  const { port, ticket } = await offerOf(alice, vm);
  const query = new URLSearchParams({ port: String(port), vncticket: ticket });
  using raw = await rawConnection(
    site.url,
    [
      `GET /api2/json${vm}/vncwebsocket?${query} HTTP/1.1`,
      'Host: localhost',
      'Connection: Upgrade',
      'Upgrade: websocket',
      lines,
      `Cookie: ${cookieOf(alice).cookie}`,
      '',
      '',
    ].join('\r\n'),
  );
  await until('it is refused', () => raw.received.startsWith('HTTP/1.1 400'));
  await none();
});

test('consoles are counted, in all and for each user', async () => {
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  addGuest(site.cluster, { vmid: 200, pool: 'bob', status: 'running', config: { cores: 1, memory: 512 } });
  await none();
  const open = [await viewing(site, alice), await viewing(site, alice), await viewing(site, alice)];
  const tooMany = { status: 429, reason: 'You have too many consoles open (3); close some' };
  await expect(viewing(site, alice)).rejects.toMatchObject(tooMany);
  const other = '/nodes/n1/qemu/200';
  open.push(await viewing(site, bob, other), await viewing(site, bob, other));
  await expect(viewing(site, bob, other)).rejects.toMatchObject({
    status: 503,
    reason: /too many consoles open \(5\)/,
  });
  open[0]?.socket.close();
  await until('one has gone', () => site.simulator.consoles === 4);
  open.push(await viewing(site, bob, other));
  for (const viewer of open) await viewer[Symbol.asyncDispose]();
  await none();
});

test('a frame that is too long ends the console, and says why', async () => {
  const alice = await site.signIn('alice');
  await none();
  await using viewer = await viewing(site, alice);
  viewer.socket.send(randomBytes(131_073));
  await until('it is closed', () => viewer.closed?.code === 1009);
  await none();
});

test('either side ends the other', async () => {
  const alice = await site.signIn('alice');
  await none();
  await using first = await viewing(site, alice);
  first.socket.close(4001, 'enough');
  await none();
  await using second = await viewing(site, alice, container, 'termproxy');
  second.socket.send('nobody:nothing\n');
  await until('PVE has ended it', () => second.closed !== undefined);
  expect(second.closed).toEqual({ code: 1001, reason: 'the console has ended' });
});

test('a console ends when its user signs out, and no other', async () => {
  const alice = await site.signIn('alice');
  const headers = tokenOf('other');
  await none();
  await using first = await viewing(site, alice);
  await using second = await openConsole(site, container, await offerTo(headers, container, 'termproxy'), { headers });
  await alice.delete('/access/ticket');
  await until('it is closed', () => first.closed?.code === 1008);
  expect(second.closed).toBeUndefined();
});

test('a console ends within seconds of its session: an API token that was taken away', async () => {
  const headers = tokenOf('lost');
  await none();
  await using viewer = await openConsole(site, vm, await offerTo(headers, vm, 'vncproxy'), { headers });
  site.cluster.access.removeToken('alice@pve', 'lost');
  await until('it is closed', () => viewer.closed !== undefined);
  expect(viewer.closed).toEqual({ code: 1008, reason: 'the session has ended' });
  await none();
});

test('when the server ends, so do all consoles, also those of viewers that do not answer', async () => {
  await using ending = await siteWithConsoles({ simulator: { tls: true } });
  const alice = await ending.signIn('alice');
  await using stuck = await viewing(ending, alice);
  await using polite = await viewing(ending, alice, container, 'termproxy');
  stuck.socket.pause();
  const began = performance.now();
  await ending.stopServer();
  expect(performance.now() - began).toBeLessThan(10_000);
  await until('it is closed', () => polite.closed?.code === 1001);
  await until('PVE has none open', () => ending.simulator.consoles === 0);
});

const withoutNginx = missingPrograms('nginx');
const reason = withoutNginx === undefined ? '' : ` (${withoutNginx})`;

test.skipIf(withoutNginx !== undefined)(
  `consoles go through the example of a web server in front${reason}`,
  async () => {
    const alice = await site.signIn('alice');
    await none();
    const pages = 'test/support/dashboard';
    await using nginx = await startNginx({ server: site.url, hostname: 'localhost', pages });
    const ca = nginx.certificate;
    await using viewer = await openConsole(nginx, vm, await offerOf(alice, vm), { headers: cookieOf(alice), ca });
    const frame = randomBytes(131_072);
    viewer.socket.send(frame);
    await until('it came back', () => viewer.heard.length === 12 + frame.length);
    viewer.socket.close();
    await none();
  },
);

test('of several hosts the one that made the ticket is asked, whichever would be asked first', async () => {
  const simulator = { port: Number(new URL(await unusedUrl()).port) };
  const to = (port: number) => (url: string) =>
    listening(
      createTcpServer((socket) => {
        const onward = connectTcp(port, '127.0.0.1').on('error', () => socket.destroy());
        socket.pipe(onward).pipe(socket);
      }),
      'http',
      Number(new URL(url).port),
    );
  const forward = to(simulator.port);
  const [urlA, urlB] = [await unusedUrl(), await unusedUrl()];
  let [a, b] = [await forward(urlA), await forward(urlB)];
  await using several = await siteWithConsoles({ simulator, pveUrl: [urlA, urlB] });
  const alice = await several.signIn('alice');
  await a[Symbol.asyncDispose]();
  const offer = await offerOf(alice, vm);
  // B has made it. Now B fails, so A comes first again.
  await b[Symbol.asyncDispose]();
  a = await forward(urlA);
  expect((await alice.get('/proxmox/version')).status).toBe(200);
  b = await forward(urlB);
  const [atA, atB] = [a.connections, b.connections];
  await using viewer = await openConsole(several, vm, offer, { headers: cookieOf(alice) });
  await until('the greeting is there', () => viewer.heard.length === 12);
  expect([a.connections - atA, b.connections - atB]).toEqual([0, 1]);
  const unknown = { ...offer, ticket: 'PVEVNC:00000000::AAAA' };
  await expect(openConsole(several, vm, unknown, { headers: cookieOf(alice) })).rejects.toMatchObject({
    status: 400,
    reason: /vncticket: it was not made through this server/,
  });
  await a[Symbol.asyncDispose]();
  await b[Symbol.asyncDispose]();
});
