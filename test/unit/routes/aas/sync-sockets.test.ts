import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import type { Caller } from '../../../../src/admission/gate.ts';
import { Watch } from '../../../../src/admission/watch.ts';
import { completeRecord } from '../../../../src/backends/normalise.ts';
import { NotReadyError, UnauthenticatedError, UpstreamUnreachableError } from '../../../../src/errors.ts';
import type { ClusterNode } from '../../../../src/pve/listing.ts';
import { commandIn, SyncSockets, type SyncSocketsOptions } from '../../../../src/routes/aas/sync-sockets.ts';
import { listening } from '../../../support/listening.ts';
import { until } from '../../../support/site.ts';
import { openSync } from '../../../support/sync-socket.ts';

const alice: Caller = { user: 'alice@pve', credential: { kind: 'none' }, record: completeRecord({}), address: '' };

/** A server that only upgrades, asking `identify` who calls. */
async function serving(
  identify: () => Promise<Caller>,
  options: Partial<Omit<SyncSocketsOptions, 'watch' | 'rates'>> = {},
) {
  const inventory = { nodes: [] as readonly ClusterNode[], guests: new Map(), list: async () => {} };
  const watch = new Watch({ inventory, log: { warn: () => {} } });
  const sockets = new SyncSockets({ watch, rates: { min: 0.01, max: 60 }, ...options });
  const errors: unknown[] = [];
  const server = createServer().on('upgrade', (request, connection, head) => {
    sockets.accept(request, connection, head, identify).catch((error: unknown) => {
      errors.push(error);
      connection.destroy();
    });
  });
  const { url, ...listener } = await listening(server, 'http');
  return {
    site: { url },
    sockets,
    /** What the cluster is seen to have. */
    inventory,
    errors,
    async [Symbol.asyncDispose]() {
      await sockets.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

test.each([
  ['rate 1', { rate: 1 }],
  ['rate 2.5', { rate: 2.5 }],
  ['rate 60', { rate: 60 }],
  ['rate 0.5', { error: 'error: rate must be in range [1, 60].' }],
  ['rate 1e1', { error: 'error: rate must be in range [1, 60].' }],
  ['rate 0x5', { error: 'error: rate must be in range [1, 60].' }],
  ['rate  5', { error: 'error: rate must be in range [1, 60].' }],
  ['Rate 5', { error: 'error: Rate command not found.' }],
])('%j means %j', (text, meaning) => {
  expect(commandIn(text, { min: 1, max: 60 })).toEqual(meaning);
});

test('a socket ends when its session does, and stays while nobody can tell', async () => {
  let answer: Error | undefined;
  const identify = async () => {
    if (answer !== undefined) throw answer;
    return alice;
  };
  await using all = await serving(identify, { checkEvery: 10 });
  await using open = await openSync(all.site, undefined);
  answer = new UpstreamUnreachableError('away');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(open.code).toBeUndefined();
  answer = new UnauthenticatedError('expired');
  await until('it is closed', () => open.code === 1008);
  expect(all.sockets.size).toBe(0);
});

test('whose session has ended is told of no change any more, however long ago it was asked', async () => {
  let gone = false;
  const identify = async () => {
    if (gone) throw new UnauthenticatedError('expired');
    return alice;
  };
  await using all = await serving(identify);
  await using open = await openSync(all.site, undefined);
  open.socket.send('rate 0.01');
  all.inventory.nodes = [{ node: 'n1', status: 'online' } as ClusterNode];
  await until('it hears of a node', () => open.heard.length === 1);
  gone = true;
  all.inventory.nodes = [];
  await until('it is closed', () => open.code === 1008);
  expect(open.heard).toEqual(['sync']);
});

test('a client that answers no ping is cut off', async () => {
  await using all = await serving(async () => alice, { pingEvery: 300 });
  await using alive = await openSync(all.site, undefined);
  let pings = 0;
  alive.socket.on('ping', () => {
    pings += 1;
  });
  await using dead = await openSync(all.site, undefined);
  dead.socket.pause();
  await until('one is gone', () => all.sockets.size === 1);
  const sofar = pings;
  await until('the other was asked again', () => pings >= sofar + 2);
  expect([all.sockets.size, alive.code]).toEqual([1, undefined]);
});

test('there are no more sockets than the server has places for, of all users and of one', async () => {
  await using all = await serving(async () => alice, { most: 3, mostOfOne: 2 });
  await using _first = await openSync(all.site, undefined);
  const second = await openSync(all.site, undefined);
  await expect(openSync(all.site, undefined)).rejects.toThrow();
  expect(all.errors).toEqual([expect.objectContaining({ code: 'too_many_requests' })]);
  await second[Symbol.asyncDispose]();
  await until('its place is free', () => all.sockets.size === 1);
  await using _third = await openSync(all.site, undefined);
});

test('those on their way in take places as well, until it is clear who they are', async () => {
  const waiting: (() => void)[] = [];
  const identify = () => new Promise<Caller>((resolve) => waiting.push(() => resolve(alice)));
  await using all = await serving(identify, { most: 1 });
  const first = openSync(all.site, undefined);
  await until('it is on its way', () => waiting.length === 1);
  await expect(openSync(all.site, undefined)).rejects.toThrow();
  expect(all.errors).toEqual([expect.any(NotReadyError)]);
  waiting[0]?.();
  await using _open = await first;
});

test('a client that leaves before it is clear who it is takes no place', async () => {
  const waiting: (() => void)[] = [];
  const identify = () => new Promise<Caller>((resolve) => waiting.push(() => resolve(alice)));
  await using all = await serving(identify, { most: 1 });
  const { hostname, port } = new URL(all.site.url);
  const hasty = connect(Number(port), hostname);
  hasty.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await until('it is on its way', () => waiting.length === 1);
  hasty.destroy();
  await once(hasty, 'close');
  waiting.shift()?.();
  await until('its place is free', () => all.sockets.size === 0);
  const next = openSync(all.site, undefined);
  await until('it is on its way', () => waiting.length === 1);
  waiting.shift()?.();
  await using _open = await next;
});
