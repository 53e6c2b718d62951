import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { type Simulator, startSimulator } from '../../../simulator/index.ts';

interface Offer {
  readonly user: string;
  readonly ticket: string;
  readonly port: number;
  readonly upid: string;
}

let simulator: Simulator;
const tokens = new Map<string, string>();

beforeAll(async () => {
  simulator = await startSimulator({ seed: 'demo' });
  for (const name of ['alice', 'bob']) {
    const secret = simulator.cluster.access.addToken(`${name}@pve`, 't', { privsep: false });
    tokens.set(name, `PVEAPIToken=${name}@pve!t=${secret}`);
  }
});
afterAll(() => simulator[Symbol.asyncDispose]());

async function post<Data>(path: string, who = 'alice', form: Record<string, string> = {}) {
  const body = new URLSearchParams(form);
  const headers = { authorization: tokens.get(who) ?? '' };
  const answer = await fetch(`${simulator.url}/api2/json${path}`, { method: 'POST', headers, body });
  const { data } = (await answer.json()) as { data: Data };
  return { status: answer.status, data };
}

const offer = async (proxy: string) => (await post<Offer>(`/nodes/n1/qemu/100/${proxy}`)).data;

function door({ port, ticket }: Pick<Offer, 'port' | 'ticket'>): string {
  return `/api2/json/nodes/n1/qemu/100/vncwebsocket?port=${port}&vncticket=${encodeURIComponent(ticket)}`;
}

function open(path: string, who = 'alice'): WebSocket {
  const headers = { authorization: tokens.get(who) ?? '' };
  return new WebSocket(`${simulator.url}${path}`, ['binary'], { headers });
}

async function heard(socket: WebSocket): Promise<string> {
  const [data] = await once(socket, 'message');
  return String(data);
}

/** The status with which a handshake is refused. */
async function refusal(path: string, who = 'alice'): Promise<number> {
  const [, response] = await once(open(path, who), 'unexpected-response');
  response.resume();
  return response.statusCode;
}

test('a picture greets, then says what it hears, and its task ends with the connection', async () => {
  const offered = await offer('vncproxy');
  const isRunning = () => simulator.cluster.tasks.running(100).some(({ upid }) => upid === offered.upid);
  const socket = open(door(offered));
  expect(await heard(socket)).toBe('RFB 003.008\n');
  expect([simulator.consoles, isRunning(), socket.protocol]).toEqual([1, true, 'binary']);
  const long = 'x'.repeat(100_000);
  socket.send(long);
  expect(await heard(socket)).toBe(long);
  socket.close();
  await once(socket, 'close');
  await sleep(10);
  expect([simulator.consoles, isRunning()]).toEqual([0, false]);
});

test('a terminal wants user and ticket first', async () => {
  const offered = await offer('termproxy');
  const socket = open(door(offered));
  await once(socket, 'open');
  socket.send(`${offered.user}:${offered.ticket}\n`);
  expect(await heard(socket)).toBe('OK');
  socket.send('0:2:ls');
  expect(await heard(socket)).toBe('0:2:ls');
  socket.terminate();

  const other = open(door(await offer('termproxy')));
  await once(other, 'open');
  other.send('alice@pve!t:nonsense\n');
  await once(other, 'close');
});

describe('a port opens', () => {
  test('for one connection only', async () => {
    const offered = await offer('vncproxy');
    const first = open(door(offered));
    await heard(first);
    const second = open(door(offered));
    await once(second, 'close');
    first.terminate();
  });

  test('not with the ticket of another port or another guest, nor for anybody else', async () => {
    const [one, other] = [await offer('vncproxy'), await offer('vncproxy')];
    expect(await refusal(door({ port: one.port, ticket: other.ticket }))).toBe(401);
    expect(await refusal(door(one).replace('qemu/100', 'lxc/101'))).toBe(401);
    expect(await refusal(door(one), 'bob')).toBe(403);
    simulator.cluster.access.setAcl('/vms/100', { users: ['bob@pve'] }, 'QuotaTenant');
    expect(await refusal(door(one), 'bob')).toBe(401);
    for (const { upid } of [one, other]) simulator.cluster.tasks.stop(upid);
  });

  test('not once its task was stopped, which cuts what is open as well', async () => {
    const [waiting, open1] = [await offer('vncproxy'), await offer('vncproxy')];
    simulator.cluster.tasks.stop(waiting.upid);
    await once(open(door(waiting)), 'close');
    const socket = open(door(open1));
    await heard(socket);
    simulator.cluster.tasks.stop(open1.upid);
    await once(socket, 'close');
    expect(simulator.consoles).toBe(0);
  });
});

test('a daemon that stops cuts its consoles', async () => {
  const socket = open(door(await offer('vncproxy')));
  await heard(socket);
  await simulator.stop();
  if (socket.readyState !== WebSocket.CLOSED) await once(socket, 'close');
  await simulator.start();
  expect(simulator.consoles).toBe(0);
});

test('a request that wants no WebSocket is told the port', async () => {
  const offered = await offer('vncproxy');
  const answer = await fetch(`${simulator.url}${door(offered)}`, {
    headers: { authorization: tokens.get('alice') ?? '' },
  });
  expect(await answer.json()).toEqual({ data: { port: String(offered.port) } });
  simulator.cluster.tasks.stop(offered.upid);
});

test.each([
  ['longer than 128 KiB', Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0])],
  ['not masked', Buffer.from([0x82, 0x01, 0x41])],
  ['a fragment', Buffer.from([0x02, 0x81, 0, 0, 0, 0, 0x41])],
])('a frame that is %s ends the connection', async (_, frame) => {
  const offered = await offer('vncproxy');
  const socket = connect(Number(new URL(simulator.url).port), '127.0.0.1');
  const lines = [
    `GET ${door(offered)} HTTP/1.1`,
    'Host: pve',
    `Authorization: ${tokens.get('alice')}`,
    ...['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAA'],
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1\.1 101 /);
  socket.write(frame);
  await once(socket, 'close');
});

test('a ticket of a console can be verified by whoever was shown it', async () => {
  const { ticket, port, user, upid } = await offer('termproxy');
  const verify = (form: Record<string, string>) =>
    post('/access/vncticket', 'nobody', {
      authid: user,
      path: '/vms/100',
      privs: 'VM.Console',
      vncticket: ticket,
      ...form,
    });
  expect((await verify({ port: String(port) })).status).toBe(200);
  expect((await verify({ port: String(port + 1) })).status).toBe(401);
  expect((await verify({ port: String(port), privs: 'VM.Allocate' })).status).toBe(401);
  simulator.cluster.tasks.stop(upid);
});

test('SPICE goes to the address that is asked for, else to the node, and only where a guest speaks it', async () => {
  const settings = (path: string, form = {}) =>
    post<Record<string, string>>(`/nodes/n1/${path}/spiceproxy`, 'alice', form);
  expect((await settings('qemu/100')).status).toBe(500);
  simulator.cluster.guests.get(100)?.config.set('vga', 'qxl');
  const { data } = await settings('qemu/100');
  const keys = ['ca', 'host', 'host-subject', 'password', 'proxy', 'title', 'tls-port', 'type'];
  expect(Object.keys(data)).toEqual(expect.arrayContaining(keys));
  expect([data.proxy, data.title, data.host]).toEqual([
    'http://n1:3128',
    expect.stringMatching(/^VM 100 - /),
    expect.stringMatching(/^pvespiceproxy:[0-9a-f]+:100:n1:/),
  ]);
  expect((await settings('qemu/100', { proxy: 'fd00::1' })).data.proxy).toBe('http://[fd00::1]:3128');
  expect((await settings('qemu/100', { proxy: 'no/name' })).status).toBe(400);
});

test("a node's shell is for those who have its console, and starts nothing but a login for them", async () => {
  const shell = (kind: string, form = {}) => post<Offer>(`/nodes/n1/${kind}`, 'alice', form);
  for (const kind of ['vncshell', 'termproxy', 'spiceshell']) expect((await shell(kind)).status).toBe(403);
  simulator.cluster.access.setAcl('/nodes/n1', { users: ['alice@pve'] }, 'PVESysAdmin');
  expect((await shell('vncshell', { cmd: 'upgrade' })).status).toBe(403);
  expect((await shell('vncshell', { 'cmd-opts': 'x' })).status).toBe(400);
  expect((await shell('spiceshell')).data).toMatchObject({ title: "Shell on 'n1'", proxy: 'http://n1:3128' });
  const { data: offered } = await shell('termproxy');
  expect(offered.upid).toMatch(/:vncshell::/);
  expect(await refusal(door(offered))).toBe(401);
  const socket = open(door(offered).replace('/qemu/100', ''));
  await once(socket, 'open');
  socket.send(`${offered.user}:${offered.ticket}\n`);
  expect(await heard(socket)).toBe('OK');
  socket.terminate();
  simulator.cluster.access.removeAcl('/nodes/n1', { users: ['alice@pve'] }, 'PVESysAdmin');
});
