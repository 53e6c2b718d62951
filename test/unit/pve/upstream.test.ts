import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { generate } from 'selfsigned';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../../../src/errors.ts';
import { call, type Upstream } from '../../../src/pve/call.ts';
import { createUpstream, type UpstreamOptions } from '../../../src/pve/upstream.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import { keepLog } from '../../support/kept-log.ts';
import { httpServer, httpsServer, tcpServer, unusedUrl } from '../../support/listening.ts';

const open: Upstream[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((upstream) => upstream.close()));
});

const token = { user: 'svc', realm: 'pve', id: 'gate', uuid: 'top-secret' };

function connect(
  url: string | readonly string[],
  settings: object = {},
  options: Partial<UpstreamOptions> = {},
): Upstream {
  const upstream = createUpstream(upstreamSettings.parse({ url, token, ...settings }), {
    log: { warn: () => {} },
    ...options,
  });
  open.push(upstream);
  return upstream;
}

const says =
  (body: string, status = 200): RequestListener =>
  (_, response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);

const read = call('GET', '/version');
const write = call('POST', '/nodes/n1/qemu', [], { vmid: '100' });
const none = { kind: 'none' } as const;

/** The requests a server saw, each with its body. */
function recording(answer: RequestListener): {
  readonly seen: { readonly request: IncomingMessage; readonly body: string }[];
  readonly listener: RequestListener;
} {
  const seen: { request: IncomingMessage; body: string }[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    seen.push({ request, body: await text(request) });
    answer(request, response);
  };
  return { seen, listener };
}

describe('settings', () => {
  test.each([
    ['https://pve:8006', 'https://pve:8006'],
    ['https://pve:8006/', 'https://pve:8006'],
    ['https://pve:8006/api2/json', 'https://pve:8006'],
    ['https://pve:8006/api2/json/', 'https://pve:8006'],
    ['http://[::1]:8006', 'http://[::1]:8006'],
  ])('the URL %s names the host %s', (url, origin) => {
    expect(upstreamSettings.parse({ url, token }).url).toBe(origin);
  });

  test.each([
    'pve:8006',
    'ftp://pve',
    'https://pve/other',
    'https://user:pass@pve',
    'https://pve?x=1',
    '',
    [],
    ['nonsense'],
  ])('the URL %j is a fault', (url) => {
    expect(upstreamSettings.safeParse({ url, token }).success).toBe(false);
  });

  test('a fingerprint without TLS is a fault', () => {
    const fingerprint = '00'.repeat(32);
    expect(upstreamSettings.safeParse({ url: 'https://pve', token, fingerprint }).success).toBe(true);
    expect(upstreamSettings.safeParse({ url: ['https://pve', 'http://pve'], token, fingerprint }).success).toBe(false);
  });

  test('an unknown key is a fault', () => {
    expect(upstreamSettings.safeParse({ url: 'https://pve', token, colour: 1 }).success).toBe(false);
  });
});

describe('answers', () => {
  test('data, errors, message and counts are read, and an HTTP error is an answer', async () => {
    await using server = await httpServer((_, response) => {
      response
        .writeHead(400, 'Parameter verification failed.')
        .end('{"data":null,"errors":{"vmid":"too small"},"message":"Parameter verification failed.\\n"}');
    });
    expect(await connect(server.url).send(write, none)).toEqual({
      status: 400,
      reason: 'Parameter verification failed.',
      data: null,
      errors: { vmid: 'too small' },
      extra: { message: 'Parameter verification failed.\n' },
    });
  });

  test.each([
    ['Kein Platz f\xc3\xbcr das Ger\xc3\xa4t', 'Kein Platz für das Gerät'],
    ['', 'said in the body'],
    ['Ger\xe4t', 'said in the body'],
  ])('the reason phrase %j is read as %j', async (phrase, reason) => {
    await using server = await tcpServer((socket) => {
      const body = '{"data":null,"message":"said in the body\\n"}';
      socket.once('data', () =>
        socket.end(Buffer.from(`HTTP/1.1 500 ${phrase}\r\ncontent-length: ${body.length}\r\n\r\n${body}`, 'latin1')),
      );
    });
    expect(await connect(server.url).send(write, none)).toMatchObject({ status: 500, reason });
  });

  test.each([595, 596, 599, 401])('the status %d without a body is an answer', async (status) => {
    await using server = await httpServer((_, response) => response.writeHead(status, 'No route to host').end());
    expect(await connect(server.url).send(write, none)).toMatchObject({
      status,
      reason: 'No route to host',
      data: null,
    });
  });

  test.each([
    ['HTML', says('<html>')],
    ['a bare list', says('[]')],
    ['nothing', says('')],
    ['half a document', says('{"data":')],
    ['HTML as an error', says('<html>', 502)],
    ['a cut connection', (_: IncomingMessage, response: ServerResponse) => response.socket?.destroy()],
    [
      'a cut body',
      (_: IncomingMessage, response: ServerResponse) =>
        response.writeHead(200, { 'content-length': 50 }).write('{"data":', () => response.socket?.destroy()),
    ],
  ] as [string, RequestListener][])(
    '%s in place of an answer is a broken one, and the change was sent once',
    async (_, answer) => {
      const { seen, listener } = recording(answer);
      await using server = await httpServer(listener);
      await expect(connect(server.url).send(write, none)).rejects.toThrow(UpstreamBrokenError);
      expect(seen).toHaveLength(1);
    },
  );

  test('a file is an answer that is not read, however long, and its host has not failed', async () => {
    await using server = await httpServer((_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' }).write('x'.repeat(1_000_000));
    });
    const warned: unknown[] = [];
    const upstream = connect(server.url, {}, { log: { warn: (what: unknown) => warned.push(what) } });
    expect(await upstream.send(read, none)).toMatchObject({
      status: 501,
      reason: expect.stringContaining('file'),
      data: null,
    });
    expect(warned).toEqual([]);
  });

  test('an answer over the limit is broken, also one that never ends', async () => {
    await using server = await httpServer((_, response) => {
      Readable.from(
        (function* () {
          while (true) yield 'x'.repeat(65_536);
        })(),
      ).pipe(response);
    });
    await expect(connect(server.url, {}, { maxAnswer: 1_000_000 }).send(write, none)).rejects.toThrow(
      UpstreamBrokenError,
    );
  });
});

describe('requests', () => {
  test('a change has a length, no chunks, and a connection of its own', async () => {
    const { seen, listener } = recording(says('{"data":null}'));
    await using server = await httpServer(listener);
    const upstream = connect(server.url);
    await upstream.send(write, { kind: 'service' });
    await upstream.send(call('PUT', '/a'), none);
    await upstream.send(call('DELETE', '/a', [], { purge: '1' }), none);
    const [post, put, remove] = seen.map(({ request }) => request);
    expect(seen[0]?.body).toBe('vmid=100');
    expect(post?.headers).toMatchObject({
      'content-length': '8',
      authorization: 'PVEAPIToken=svc@pve!gate=top-secret',
      connection: 'close',
    });
    expect(put?.headers['content-length']).toBe('0');
    expect(remove?.url).toBe('/api2/json/a?purge=1');
    expect(remove?.headers['content-length']).toBeUndefined();
    expect(seen.some(({ request }) => request.headers['transfer-encoding'] !== undefined)).toBe(false);
    expect(server.connections).toBe(3);
  });

  test('reads share connections', async () => {
    await using server = await httpServer(says('{"data":1}'));
    const upstream = connect(server.url);
    for (let turn = 0; turn < 20; turn += 1) await upstream.send(read, none);
    expect(server.connections).toBeLessThan(5);
  });

  test('a read whose kept connection was closed under it is repeated', async () => {
    let requests = 0;
    await using server = await httpServer((_, response) => {
      requests += 1;
      if (requests === 2) response.socket?.destroy();
      else response.end('{"data":1}');
    });
    const upstream = connect(server.url);
    expect((await upstream.send(read, none)).data).toBe(1);
    expect((await upstream.send(read, none)).data).toBe(1);
    expect(requests).toBe(3);
  });

  test('a read that fails twice is given up', async () => {
    const { seen, listener } = recording((_, response) => response.socket?.destroy());
    await using server = await httpServer(listener);
    await expect(connect(server.url).send(read, none)).rejects.toThrow(UpstreamBrokenError);
    expect(seen).toHaveLength(2);
  });

  test('no more changes than configured are under way at once, and each is sent', async () => {
    let now = 0;
    let most = 0;
    await using server = await httpServer((_, response) => {
      now += 1;
      most = Math.max(most, now);
      setTimeout(() => {
        now -= 1;
        response.end('{"data":null}');
      }, 20);
    });
    const upstream = connect(server.url, { connections: 3 });
    const answers = await Promise.all(Array.from({ length: 12 }, () => upstream.send(write, { kind: 'service' })));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(most).toBe(3);
  });

  test.each([read, write])('one user who is answered slowly leaves connections to the others', async (asked) => {
    const released = Promise.withResolvers<void>();
    let slow = 0;
    await using server = await httpServer(async (request, response) => {
      if (String(request.headers.authorization).includes('mallory')) {
        slow += 1;
        await released.promise;
      }
      response.end('{"data":1}');
    });
    const upstream = connect(server.url, { connections: 4 });
    const as = (user: string) => ({ kind: 'token', token: `${user}@pve!ci=s` }) as const;
    const flood = Array.from({ length: 12 }, () => upstream.send(asked, as('mallory')));
    expect((await upstream.send(asked, as('alice'))).data).toBe(1);
    expect((await upstream.send(asked, { kind: 'service', for: 'bob@pve' })).data).toBe(1);
    expect(slow).toBeLessThanOrEqual(2);
    released.resolve();
    expect(await Promise.all(flood)).toHaveLength(12);
  });
});

describe('hosts', () => {
  test('when no host can be reached nothing was sent, and the message says which and what to do, and no secret', async () => {
    const url = await unusedUrl();
    const error: unknown = await connect(url)
      .send(write, { kind: 'service' })
      .catch((error: unknown) => error);
    expect(error).toBeInstanceOf(UpstreamUnreachableError);
    expect((error as Error).message).toContain(new URL(url).host);
    expect((error as Error).message).toContain('Check that PVE runs there');
    expect((error as Error).message).not.toContain('top-secret');
  });

  test.each([read, write])('another host takes over when one cannot be reached: $method', async (question) => {
    await using server = await httpServer(says('{"data":1}'));
    expect((await connect([await unusedUrl(), server.url]).send(question, none)).data).toBe(1);
  });

  test('a read goes to another host when the answer was lost, a change does not', async () => {
    const broken = recording((_, response) => response.socket?.destroy());
    const whole = recording(says('{"data":1}'));
    await using one = await httpServer(broken.listener);
    await using two = await httpServer(whole.listener);
    expect((await connect([one.url, two.url]).send(read, none)).data).toBe(1);
    await expect(connect([one.url, two.url]).send(write, none)).rejects.toThrow(UpstreamBrokenError);
    expect(broken.seen).toHaveLength(2);
    expect(whole.seen).toHaveLength(1);
  });

  test('a host that failed is left alone for some seconds, then tried again, and told of every five minutes', async () => {
    let now = 0;
    const { log, lines } = keepLog();
    const broken = recording((_, response) => response.socket?.destroy());
    await using one = await httpServer(broken.listener);
    await using two = await httpServer(says('{"data":1}'));
    const upstream = connect([one.url, two.url], {}, { now: () => now, log });
    for (const at of [0, 1000, 4000]) {
      now = at;
      await upstream.send(read, none);
    }
    expect(broken.seen).toHaveLength(1);
    now = 6000;
    await upstream.send(read, none);
    expect(broken.seen).toHaveLength(2);
    expect(lines).toEqual([expect.stringContaining('a PVE host failed')]);
    now = 300_000;
    await upstream.send(read, none);
    expect(lines).toHaveLength(2);
  });

  test('a cluster that comes back is found again', async () => {
    const url = await unusedUrl();
    const upstream = connect(url);
    await expect(upstream.send(read, none)).rejects.toThrow(UpstreamUnreachableError);
    await using _server = await httpServer(says('{"data":1}'), Number(new URL(url).port));
    expect((await upstream.send(read, none)).data).toBe(1);
  });
});

describe('deadlines', () => {
  const deadlines = { read: 0.6, write: 0.8, connect: 0.6 };

  test.each([read, write])(
    'an answer that does not come in time leaves the outcome open: $method',
    async (question) => {
      const { seen, listener } = recording(() => {});
      await using server = await httpServer(listener);
      await expect(connect(server.url, { deadlines }).send(question, none)).rejects.toThrow(UpstreamDeadlineError);
      expect(seen).toHaveLength(1);
    },
  );

  test('an answer that begins and does not end is late too', async () => {
    await using server = await httpServer((_, response) => response.writeHead(200).write('{"data"'));
    await expect(connect(server.url, { deadlines }).send(write, none)).rejects.toThrow(UpstreamDeadlineError);
  });

  test('a change that waited too long for its turn was not sent', async () => {
    const { seen, listener } = recording(() => {});
    await using server = await httpServer(listener);
    const upstream = connect(server.url, { deadlines, connections: 1 });
    const first = upstream.send(write, none).catch((error: unknown) => error);
    await expect(upstream.send(write, none)).rejects.toThrow(UpstreamUnreachableError);
    expect(await first).toBeInstanceOf(UpstreamDeadlineError);
    expect(seen).toHaveLength(1);
  });
});

describe('certificates', () => {
  let tls: { readonly cert: string; readonly key: string };
  let fingerprint: string;
  let folder: string;
  let ca: string;

  const make = async () => {
    const made = await generate([{ name: 'commonName', value: '127.0.0.1' }], {
      keySize: 2048,
      extensions: [
        { name: 'basicConstraints', cA: true },
        { name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] },
      ],
    });
    return { cert: made.cert, key: made.private };
  };

  beforeAll(async () => {
    tls = await make();
    fingerprint = createHash('sha256').update(new X509Certificate(tls.cert).raw).digest('hex');
    folder = mkdtempSync(join(tmpdir(), 'ca-'));
    ca = join(folder, 'ca.pem');
    writeFileSync(ca, tls.cert);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([read, write])(
    'a self-signed certificate is refused before anything is sent: $method',
    async (question) => {
      const { seen, listener } = recording(says('{"data":1}'));
      await using server = await httpsServer(tls, listener);
      const error: unknown = await connect(server.url)
        .send(question, none)
        .catch((error: unknown) => error);
      expect(error).toBeInstanceOf(UpstreamUnreachableError);
      expect((error as Error).message).toContain('"fingerprint"');
      expect(seen).toHaveLength(0);
    },
  );

  test('it is accepted when its fingerprint is the configured one, on each connection', async () => {
    await using server = await httpsServer(tls, says('{"data":1}'));
    for (const pinned of [fingerprint, fingerprint.toUpperCase().replace(/(..)(?!$)/g, '$1:')]) {
      const upstream = connect(server.url, { fingerprint: pinned });
      for (const question of [read, write, write]) expect((await upstream.send(question, none)).data).toBe(1);
    }
  });

  test('another fingerprint is refused on each connection before anything is sent', async () => {
    const { seen, listener } = recording(says('{"data":1}'));
    await using server = await httpsServer(tls, listener);
    const upstream = connect(server.url, { fingerprint: '00'.repeat(32) });
    for (const question of [read, write, write])
      await expect(upstream.send(question, none)).rejects.toThrow(UpstreamUnreachableError);
    expect(seen).toHaveLength(0);
  });

  test('it is accepted from the configured authority', async () => {
    await using server = await httpsServer(tls, says('{"data":1}'));
    expect((await connect(server.url, { ca }).send(write, none)).data).toBe(1);
  });

  test('a host that has shown it resumes its session, and shows it anew where there is none any more', async () => {
    const seen: boolean[] = [];
    const resumed = () => seen.splice(0);
    const listener: RequestListener = (request, response) => {
      seen.push((request.socket as TLSSocket).isSessionReused());
      says('{"data":1}')(request, response);
    };
    const first = await httpsServer(tls, listener);
    const upstreams = [{ fingerprint }, { ca }].map((trust) => connect(first.url, trust));
    for (const upstream of upstreams) {
      for (const _ of [1, 2, 3]) await upstream.send(write, none);
      expect(resumed()).toEqual([false, true, true]);
    }
    await first[Symbol.asyncDispose]();

    const port = Number(new URL(first.url).port);
    const stranger = await httpsServer(await make(), listener, port);
    for (const upstream of upstreams)
      for (const _ of [1, 2]) await expect(upstream.send(write, none)).rejects.toThrow(UpstreamUnreachableError);
    await stranger[Symbol.asyncDispose]();

    await using _again = await httpsServer(tls, listener, port);
    for (const upstream of upstreams) for (const _ of [1, 2]) await upstream.send(write, none);
    expect(resumed()).toEqual([false, true, false, true]);
  });

  test('a host of TLS 1.2 shows it on each connection', async () => {
    await using server = await httpsServer({ ...tls, maxVersion: 'TLSv1.2' }, says('{"data":1}'));
    for (const trust of [{ fingerprint }, { ca }]) {
      const upstream = connect(server.url, trust);
      for (const _ of [1, 2]) expect((await upstream.send(write, none)).data).toBe(1);
    }
  });
});
