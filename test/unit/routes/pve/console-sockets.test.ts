import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { UnauthenticatedError, UpstreamUnreachableError } from '../../../../src/errors.ts';
import type { Credential } from '../../../../src/pve/call.ts';
import { consoleLimits } from '../../../../src/pve/console.ts';
import { ConsoleSockets, type ConsoleSocketsOptions } from '../../../../src/routes/pve/console-sockets.ts';
import { listening } from '../../../support/listening.ts';
import { until } from '../../../support/site.ts';

const credential: Credential = { kind: 'token', token: 'alice@pve!x=y' };

interface Setting extends AsyncDisposable {
  readonly consoles: ConsoleSockets;
  /** Opens a console; its three ends. */
  view(): Promise<{ readonly viewer: WebSocket; readonly upstream: WebSocket; readonly pve: WebSocket }>;
}

/** Consoles between viewers and something that stands in for PVE's side. */
async function setting({
  limits = {},
  ...options
}: Partial<Omit<ConsoleSocketsOptions, 'limits'>> & { readonly limits?: object } = {}): Promise<Setting> {
  const behind = new WebSocketServer({ noServer: true });
  const pveSide = await listening(
    createServer().on('upgrade', (request, socket, head) =>
      behind.handleUpgrade(request, socket, head, (socket) => behind.emit('connection', socket)),
    ),
    'ws',
  );
  const consoles = new ConsoleSockets({
    limits: consoleLimits.parse(limits),
    sessions: { identify: async () => 'alice@pve' as never },
    ...options,
  });
  let opened: WebSocket | undefined;
  const front = await listening(
    createServer().on('upgrade', (request, connection, head) => {
      const viewer = { user: 'alice@pve', credential };
      void consoles.accept({ request, connection, ip: '192.0.2.1', head }, viewer, async (side) => {
        const upstream = new WebSocket(pveSide.url, 'binary', { ...side });
        upstream.on('error', () => {});
        await once(upstream, 'open');
        upstream.pause();
        opened = upstream;
        return upstream;
      });
    }),
    'ws',
  );
  return {
    consoles,
    async view() {
      const [arrival, viewer] = [once(behind, 'connection'), new WebSocket(front.url, 'binary')];
      viewer.on('error', () => {});
      await once(viewer, 'open');
      const [pve] = (await arrival) as [WebSocket];
      if (opened === undefined) throw new Error('nothing was opened');
      return { viewer, upstream: opened, pve };
    },
    async [Symbol.asyncDispose]() {
      await consoles.close();
      await front[Symbol.asyncDispose]();
      await pveSide[Symbol.asyncDispose]();
    },
  };
}

const frames = 300;
const frame = Buffer.alloc(131_072, 'x');

test('who reads slowly holds the other side back, which goes on when they have caught up', async () => {
  await using world = await setting();
  const { viewer, upstream, pve } = await world.view();
  for (const [reader, writer, isHeldBack] of [
    [viewer, pve, () => upstream.isPaused],
    [pve, viewer, () => upstream.bufferedAmount > 0],
  ] as const) {
    let heard = 0;
    reader.on('message', (data) => {
      heard += (data as Buffer).length;
    });
    reader.pause();
    for (let sent = 0; sent < frames; sent += 1) writer.send(frame);
    await until('it is held back', isHeldBack);
    await delay(100);
    const left = writer.bufferedAmount;
    expect(left).toBeGreaterThan(1024 ** 2);
    await delay(100);
    expect(writer.bufferedAmount).toBe(left);
    reader.resume();
    await until('all of it has come', () => heard === frames * frame.length);
  }
});

test('texts stay texts, and close codes go through in both directions', async () => {
  await using world = await setting();
  const first = await world.view();
  const heard = once(first.pve, 'message');
  first.viewer.send('hello');
  expect((await heard).map(String)).toEqual(['hello', 'false']);
  first.viewer.close(4001, 'enough');
  expect((await once(first.pve, 'close')).map(String)).toEqual(['4001', 'enough']);

  const second = await world.view();
  second.pve.close(3000, 'moved');
  expect((await once(second.viewer, 'close')).map(String)).toEqual(['3000', 'moved']);

  const third = await world.view();
  third.pve.terminate();
  expect((await once(third.viewer, 'close')).map(String)).toEqual(['1001', 'the console has ended']);
  await until('none is left', () => world.consoles.size === 0);
});

test('frames that are too long end the console for both sides', async () => {
  await using world = await setting({ limits: { frameBytes: 1024 } });
  const { viewer, pve } = await world.view();
  const closed = once(viewer, 'close');
  pve.send(Buffer.alloc(1025));
  expect((await closed).map(String)).toEqual(['1009', 'a frame was longer than 1024 bytes']);
});

test('a console ends when nothing goes through for too long, and not before', async () => {
  let now = 0;
  await using world = await setting({ limits: { idle: 60 }, now: () => now, checkEvery: 10 });
  const { viewer, pve } = await world.view();
  const closed = once(viewer, 'close');
  for (let times = 0; times < 3; times += 1) {
    now += 59_000;
    await delay(30);
    pve.send('still here');
    await once(viewer, 'message');
  }
  expect(viewer.readyState).toBe(WebSocket.OPEN);
  now += 61_000;
  expect((await closed).map(String)).toEqual(['1008', 'nothing went through for too long']);
});

test('a console ends with its session, and stays while nobody can tell', async () => {
  let answer: Error | undefined;
  const identify = async () => {
    if (answer !== undefined) throw answer;
    return 'alice@pve' as never;
  };
  await using world = await setting({ sessions: { identify }, checkEvery: 10 });
  const { viewer, pve } = await world.view();
  const closed = once(viewer, 'close');
  answer = new UpstreamUnreachableError('PVE is away');
  await delay(50);
  expect(viewer.readyState).toBe(WebSocket.OPEN);
  answer = new UnauthenticatedError('it has expired');
  expect((await closed).map(String)).toEqual(['1008', 'the session has ended']);
  await until('PVE has heard of it', () => pve.readyState === WebSocket.CLOSED);
});

test('a viewer that answers no ping is cut off', async () => {
  await using world = await setting({ pingEvery: 250 });
  const { viewer, pve } = await world.view();
  await delay(600);
  expect(viewer.readyState).toBe(WebSocket.OPEN);
  viewer.pause();
  await until('it is cut off', () => pve.readyState === WebSocket.CLOSED);
});
