import { once } from 'node:events';
import { type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../../../src/errors.ts';
import { type Answer, call } from '../../../src/pve/call.ts';
import { Hosts } from '../../../src/pve/hosts.ts';
import { type Reading, Relay } from '../../../src/pve/relay.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import { httpServer, type Listening, tcpServer, unusedUrl } from '../../support/listening.ts';
import { until } from '../../support/site.ts';

const MiB = 1024 ** 2;
const token = { user: 'svc', realm: 'pve', id: 'gate', uuid: 'top-secret' };
const reading: Reading = {
  call: call('GET', '/nodes/n1/storage/{}/content', ['local'], { content: 'iso,backup' }),
  user: 'alice@pve',
  as: { kind: 'ticket', ticket: 'PVE:alice@pve:65F0A0B1::abc=' },
  format: 'json',
  gzip: false,
};

interface Relayed extends AsyncDisposable {
  readonly url: string;
  /** What the reads so far came to. */
  readonly outcomes: (Answer | null | unknown)[];
  readonly outcome: () => Promise<Answer | null | unknown>;
}

/** A server that passes every request on to these hosts as the same read. */
async function relayTo(
  url: string | readonly string[],
  what: Partial<Reading> = {},
  deadlines: { readonly read?: number } = {},
): Promise<Relayed> {
  const settings = upstreamSettings.parse({ url, token, deadlines });
  const hosts = new Hosts(settings, { log: { warn: () => {} } });
  const relay = new Relay(settings, hosts);
  const outcomes: unknown[] = [];
  let told = Promise.withResolvers<unknown>();
  const server = await httpServer(async (_, response) => {
    const begin = (headers: readonly string[]) => void response.writeHead(200, 'OK', [...headers]);
    const outcome = await relay.read({ ...reading, ...what }, { response, begin }).catch((error: unknown) => error);
    outcomes.push(outcome);
    told.resolve(outcome);
    told = Promise.withResolvers();
    if (outcome !== null && !response.headersSent) response.writeHead(418).end();
  });
  return {
    url: server.url,
    outcomes,
    outcome: () => told.promise,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await Promise.all([relay.close(), hosts.close()]);
    },
  };
}

const json = { 'content-type': 'application/json;charset=UTF-8' };
const says =
  (body: string, headers: Readonly<Record<string, string>> = json, status = 200): RequestListener =>
  (_, response) =>
    response.writeHead(status, headers).end(body);

/** A backend that keeps the requests it saw. */
async function recording(answer: RequestListener): Promise<{ seen: IncomingMessage[]; server: Listening }> {
  const seen: IncomingMessage[] = [];
  const server = await httpServer((message, response) => {
    seen.push(message);
    answer(message, response);
  });
  return { seen, server };
}

test('PVE gets the call as written from its parts, with the ticket alone', async () => {
  const { seen, server } = await recording(says('{"data":1}'));
  await using _ = server;
  await using relayed = await relayTo(server.url);
  await (await fetch(relayed.url, { headers: { cookie: 'other=1', 'x-client': 'yes' } })).text();
  expect(seen[0]?.url).toBe('/api2/json/nodes/n1/storage/local/content?content=iso%2Cbackup');
  expect(seen[0]?.headers).toEqual({
    host: new URL(server.url).host,
    connection: 'keep-alive',
    accept: 'application/json',
    cookie: 'PVEAuthCookie=PVE%3Aalice%40pve%3A65F0A0B1%3A%3Aabc%3D',
  });
});

test('a client that takes gzip gets what PVE packed as it is, and extjs is asked for as such', async () => {
  const { seen, server } = await recording(says('packed', { ...json, 'content-encoding': 'gzip' }));
  await using _ = server;
  await using relayed = await relayTo(server.url, { gzip: true, format: 'extjs' });
  const [response] = (await once(request(relayed.url).end(), 'response')) as [IncomingMessage];
  expect(response.headers['content-encoding']).toBe('gzip');
  expect(String(await response.toArray())).toBe('packed');
  expect(seen[0]?.url).toMatch(/^\/api2\/extjs\/nodes/);
  expect(seen[0]?.headers['accept-encoding']).toBe('gzip');
});

test('of the headers only type, length, encoding and disposition reach the client', async () => {
  const sent = {
    'content-type': 'text/plain',
    'content-disposition': 'attachment; filename="task.log"',
    'set-cookie': 'PVEAuthCookie=stolen',
    'x-internal': 'secret',
    server: 'pve-api-daemon/3.0',
    'keep-alive': 'timeout=99',
  };
  await using server = await httpServer(says('a log', { ...sent, 'content-length': '5' }));
  await using relayed = await relayTo(server.url);
  const response = await fetch(relayed.url);
  expect(await response.text()).toBe('a log');
  expect([...response.headers.keys()].sort()).toEqual([
    'connection',
    'content-disposition',
    'content-length',
    'content-type',
    'date',
    'keep-alive',
  ]);
});

test.each([
  [0, 'nothing'],
  [60, 'a small one'],
  [16_385, 'one of several pieces'],
  [3 * MiB, 'a long one'],
])('every byte of an answer of %i bytes arrives', async (bytes) => {
  const body = Buffer.alloc(bytes, 'ä\xff\0 ', 'latin1');
  await using server = await httpServer((_, response) =>
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes }).end(body),
  );
  await using relayed = await relayTo(server.url);
  const got = Buffer.from(await (await fetch(relayed.url)).arrayBuffer());
  expect(got.equals(body)).toBe(true);
});

test.each([401, 403, 500, 501, 596])('a refusal with %i comes back to be said, with its reason', async (status) => {
  await using server = await httpServer((_, response) =>
    response.writeHead(status, 'not like this', json).end('{"data":null,"errors":{"content":"no such thing"}}'),
  );
  await using relayed = await relayTo(server.url);
  expect((await fetch(relayed.url)).status).toBe(418);
  expect(relayed.outcomes).toEqual([
    { status, reason: 'not like this', data: null, errors: { content: 'no such thing' } },
  ]);
});

test('what is neither JSON nor a file is an error, and none of it reaches the client', async () => {
  await using server = await httpServer(says('<script>alert(1)</script>', { 'content-type': 'text/html' }));
  await using relayed = await relayTo(server.url);
  const response = await fetch(relayed.url);
  expect(await response.text()).toBe('');
  expect(relayed.outcomes[0]).toBeInstanceOf(UpstreamBrokenError);
  expect((relayed.outcomes[0] as Error).message).toContain("something else than PVE's JSON");
});

test('a host that cannot be reached, or breaks off before it answers, is followed by the next', async () => {
  await using broken = await tcpServer((socket) => socket.once('data', () => socket.destroy()));
  await using server = await httpServer(says('{"data":"here"}'));
  await using relayed = await relayTo([await unusedUrl(), broken.url, server.url]);
  expect(await (await fetch(relayed.url)).text()).toBe('{"data":"here"}');
});

test('a kept connection that PVE has closed costs one more try, on a new one', async () => {
  let requests = 0;
  await using server = await httpServer((message, response) => {
    requests += 1;
    if (requests === 2) message.socket.destroy();
    else says('{"data":1}')(message, response);
  });
  await using relayed = await relayTo(server.url);
  for (const _ of [1, 2]) expect(await (await fetch(relayed.url)).text()).toBe('{"data":1}');
  expect(requests).toBe(3);
});

test('when no host can be reached, nothing was sent and the error says so', async () => {
  await using relayed = await relayTo(await unusedUrl());
  await fetch(relayed.url);
  expect(relayed.outcomes[0]).toBeInstanceOf(UpstreamUnreachableError);
});

test('a host that does not begin to answer in time is given up', async () => {
  await using server = await httpServer(() => {});
  await using relayed = await relayTo(server.url, {}, { read: 0.2 });
  await fetch(relayed.url);
  expect(relayed.outcomes[0]).toBeInstanceOf(UpstreamDeadlineError);
});

test('an answer that breaks off midway breaks off for the client too', async () => {
  await using server = await httpServer((_, response) => {
    response.writeHead(200, { ...json, 'content-length': '1000' }).write('{"data":"half of');
    setTimeout(() => response.destroy(), 50);
  });
  await using relayed = await relayTo(server.url);
  const response = await fetch(relayed.url);
  expect(response.status).toBe(200);
  await expect(response.text()).rejects.toThrow();
  expect(relayed.outcomes).toEqual([null]);
});

test('what comes slowly is passed on as it comes', async () => {
  await using server = await httpServer((_, response) => void response.writeHead(200, json).write('{"data":'));
  await using relayed = await relayTo(server.url);
  const response = await fetch(relayed.url);
  const { value } = (await response.body?.getReader().read()) ?? {};
  expect(Buffer.from(value ?? []).toString()).toBe('{"data":');
});

test('a client that hangs up ends the read at PVE, whether or not it has begun', async () => {
  for (const begins of [true, false]) {
    const arrived = Promise.withResolvers<ServerResponse>();
    await using server = await httpServer((_, response) => {
      if (begins) response.writeHead(200, json).write('{');
      arrived.resolve(response);
    });
    await using relayed = await relayTo(server.url);
    const client = new AbortController();
    const asked = fetch(relayed.url, { signal: client.signal }).catch(() => {});
    const atPve = await arrived.promise;
    if (begins) await asked;
    const outcome = relayed.outcome();
    client.abort();
    await once(atPve, 'close');
    expect(begins || (await outcome)).toBe(begins || null);
  }
});

test('PVE sends no faster than the client reads, and a long file arrives whole, in however many pieces', async () => {
  const size = 80 * MiB;
  const pieces = Buffer.from(`1000\r\n${'x'.repeat(4096)}\r\n`.repeat(256));
  let written = 0;
  await using server = await tcpServer((socket) =>
    socket.once('data', async () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n');
      for (; written < size; written += MiB) if (!socket.write(pieces)) await once(socket, 'drain');
      socket.write('0\r\n\r\n');
    }),
  );
  const warnings: string[] = [];
  const warned = ({ name }: Error) => void warnings.push(name);
  process.on('warning', warned);
  await using relayed = await relayTo(server.url);
  const [response] = (await once(request(relayed.url).end(), 'response')) as [IncomingMessage];
  let before = -1;
  while (written > before) {
    before = written;
    await delay(200);
  }
  // What the system keeps for two connections, and no more.
  expect(written).toBeLessThan(32 * MiB);
  let got = 0;
  for await (const chunk of response) got += chunk.length;
  expect(got).toBe(size);
  process.off('warning', warned);
  expect(warnings).not.toContain('MaxListenersExceededWarning');
});

test('JSON beyond any that PVE sends is cut', async () => {
  await using server = await httpServer((_, response) => {
    response.writeHead(200, json);
    Readable.from(Array(66).fill(Buffer.alloc(MiB, ' '))).pipe(response);
  });
  await using relayed = await relayTo(server.url);
  await expect((await fetch(relayed.url)).arrayBuffer()).rejects.toThrow();
});

test('a user whose reads are slow waits for their own, and leaves connections to the others', async () => {
  const released = Promise.withResolvers<void>();
  let slow = 0;
  await using pve = await httpServer(async (_, response) => {
    slow += 1;
    if (slow <= 2) await released.promise;
    response.writeHead(200, json).end('{"data":1}');
  });
  const settings = upstreamSettings.parse({ url: pve.url, token, connections: 4, deadlines: { read: 60 } });
  const hosts = new Hosts(settings, { log: { warn: () => {} } });
  const relay = new Relay(settings, hosts);
  const outcomes: unknown[] = [];
  await using front = await httpServer(async (message, response) => {
    const begin = (headers: readonly string[]) => void response.writeHead(200, 'OK', [...headers]);
    const user = String(message.headers.user);
    outcomes.push([user, await relay.read({ ...reading, user }, { response, begin })]);
  });
  const ask = async (user: string, signal?: AbortSignal) =>
    (await fetch(front.url, { headers: { user }, ...(signal && { signal }) })).status;

  const hangUp = new AbortController();
  const held = [1, 2, 3].map(() => ask('mallory@pve'));
  await until('PVE has two of them', () => slow === 2);
  const impatient = ask('mallory@pve', hangUp.signal).catch(() => 'gone');
  expect([await ask('alice@pve'), await ask('bob@pve')]).toEqual([200, 200]);
  hangUp.abort();
  expect(await impatient).toBe('gone');
  released.resolve();
  expect(await Promise.all(held)).toEqual([200, 200, 200]);
  await until('all have ended', () => outcomes.length === 6);
  await Promise.all([relay.close(), hosts.close()]);
});

test('a long refusal, which PVE packs for clients that take gzip, is read as the refusal that it is', async () => {
  const body = gzipSync(JSON.stringify({ data: null, message: `${'x'.repeat(1200)}\n` }));
  const head = { ...json, 'content-encoding': 'gzip', 'content-length': String(body.length), connection: 'close' };
  await using server = await httpServer((_, response) => response.writeHead(500, 'some error', head).end(body));
  await using relayed = await relayTo(server.url, { gzip: true });
  const outcome = relayed.outcome();
  await fetch(relayed.url).catch(() => {});
  expect(await outcome).toMatchObject({ status: 500, reason: 'some error' });
});
