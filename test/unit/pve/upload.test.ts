import type { RequestListener } from 'node:http';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, expect, test } from 'vitest';
import {
  BadRequestError,
  UpstreamBrokenError,
  UpstreamDeadlineError,
  UpstreamUnreachableError,
} from '../../../src/errors.ts';
import { type Call, call, type Upstream } from '../../../src/pve/call.ts';
import { Hosts } from '../../../src/pve/hosts.ts';
import { withUploads } from '../../../src/pve/upload.ts';
import { createUpstream } from '../../../src/pve/upstream.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import { httpServer, tcpServer, unusedUrl } from '../../support/listening.ts';

const open: Upstream[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((upstream) => upstream.close()));
});

function connect(url: string | readonly string[], giveUp = new AbortController().signal): Upstream {
  const token = { user: 'svc', realm: 'pve', id: 'gate', uuid: 'top-secret' };
  const settings = upstreamSettings.parse({ url, token, deadlines: { connect: 1 } });
  const log = { warn: () => {} };
  const hosts = new Hosts(settings, { log });
  const upstream = withUploads(createUpstream(settings, { log }, hosts), { hosts, idle: 0.3, giveUp });
  open.push(upstream);
  return upstream;
}

const params = { content: 'iso', filename: 'a.iso', 'checksum-algorithm': 'md5', checksum: '00' };

/** An upload of these pieces, which announces as many bytes as they have and `more`. */
function uploadOf(pieces: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>, bytes: number, given = params): Call {
  const content = (async function* () {
    yield* pieces();
  })();
  return { ...call('POST', '/nodes/n1/storage/local/upload', [], given), cargo: { bytes, content } };
}

const piece = Buffer.alloc(64 * 1024, 'x');
const many = (count: number) => Array.from({ length: count }, () => piece);
const service = { kind: 'service' } as const;
const answerJson: RequestListener = (_, response) =>
  response.writeHead(200, { 'content-type': 'application/json' }).end('{"data":"UPID:x"}');

test.each([0, 2])('PVE gets one form of the announced length when the file is %i bytes shorter', async (short) => {
  let seen: { type: string; length: number; authorization: string; body: string } | undefined;
  await using server = await httpServer(async (request, response) => {
    const { 'content-type': type = '', 'content-length': length, authorization = '' } = request.headers;
    seen = { type, length: Number(length), authorization, body: await text(request) };
    answerJson(request, response);
  });
  const file = Buffer.from('some\r\nbytes\r\n');
  const answer = await connect(server.url).send(
    uploadOf(() => [file], file.length + short),
    service,
  );
  expect(answer).toMatchObject({ status: 200, data: 'UPID:x' });
  const boundary = seen?.type.replace('multipart/form-data; boundary=', '') ?? '';
  expect(seen?.authorization).toBe('PVEAPIToken=svc@pve!gate=top-secret');
  expect(seen?.length).toBe(seen?.body.length);
  expect(seen?.body.split(`--${boundary}`)).toEqual([
    '',
    '\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n',
    '\r\nContent-Disposition: form-data; name="checksum-algorithm"\r\n\r\nmd5\r\n',
    '\r\nContent-Disposition: form-data; name="checksum"\r\n\r\n00\r\n',
    `\r\nContent-Disposition: form-data; name="filename"; filename="a.iso"\r\nContent-Type: application/octet-stream\r\n\r\n${file}\r\n`,
    short === 0 ? '--' : '--\r\n',
  ]);
});

test('a host that cannot be reached is passed over before a byte of the file is read', async () => {
  let received = 0;
  await using server = await httpServer(async (request, response) => {
    received = (await buffer(request)).length;
    answerJson(request, response);
  });
  const upstream = connect([await unusedUrl(), server.url]);
  expect(
    await upstream.send(
      uploadOf(() => many(20), 20 * piece.length),
      service,
    ),
  ).toMatchObject({ status: 200 });
  expect(received).toBeGreaterThan(20 * piece.length);
  await expect(
    connect(await unusedUrl()).send(
      uploadOf(() => [piece], piece.length),
      service,
    ),
  ).rejects.toThrow(UpstreamUnreachableError);
});

test('an answer that comes before the file has is the answer', async () => {
  await using server = await httpServer((_, response) => {
    response.writeHead(401, 'No ticket', { connection: 'close' }).end();
  });
  const answer = await connect(server.url).send(
    uploadOf(() => many(400), 400 * piece.length),
    service,
  );
  expect(answer).toMatchObject({ status: 401, reason: 'No ticket' });
});

test('a file that breaks off, or that PVE does not take, has done nothing there', async () => {
  let received = 0;
  await using server = await httpServer(async (request) => {
    await buffer(request).then(
      () => {
        received += 1;
      },
      () => {},
    );
  });
  const fault = new BadRequestError({ field: 'form', problem: 'it ends too early' });
  const breaking = async function* () {
    yield* many(10);
    throw fault;
  };
  const broken = connect(server.url).send(uploadOf(breaking, 20 * piece.length), service);
  await expect(broken).rejects.toMatchObject({ code: 'upstream_unreachable', cause: fault });
  const shorter = connect(server.url).send(
    uploadOf(() => many(1), 2 * piece.length),
    service,
  );
  await expect(shorter).rejects.toThrow(UpstreamUnreachableError);
  const longer = connect(server.url).send(
    uploadOf(() => many(3), 2 * piece.length),
    service,
  );
  await expect(longer).rejects.toThrow(UpstreamUnreachableError);
  expect(received).toBe(0);

  await using deaf = await tcpServer((socket) => socket.pause());
  await expect(
    connect(deaf.url).send(
      uploadOf(() => many(400), 400 * piece.length),
      service,
    ),
  ).rejects.toThrow(/broken off, so PVE has done nothing: PVE took no byte for 0.3 s/);
  await using closing = await tcpServer((socket) => socket.once('data', () => socket.destroy()));
  await expect(
    connect(closing.url).send(
      uploadOf(() => many(400), 400 * piece.length),
      service,
    ),
  ).rejects.toThrow(UpstreamUnreachableError);
});

test('once the whole form is sent, PVE may have acted on it', async () => {
  await using mute = await httpServer(async (request) => void (await buffer(request)));
  const upload = () => uploadOf(() => many(3), 3 * piece.length);
  await expect(connect(mute.url).send(upload(), service)).rejects.toThrow(UpstreamDeadlineError);
  await using cut = await httpServer(async (request) => {
    await buffer(request);
    request.socket.destroy();
  });
  await expect(connect(cut.url).send(upload(), service)).rejects.toThrow(UpstreamBrokenError);
});

test('the end of the server breaks off what is under way', async () => {
  const ending = new AbortController();
  await using server = await httpServer((request) => request.resume());
  const endless = async function* () {
    for (;;) {
      yield piece;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const upload = connect(server.url, ending.signal).send(uploadOf(endless, 2 ** 40), service);
  setTimeout(() => ending.abort(), 50);
  await expect(upload).rejects.toThrow(UpstreamUnreachableError);
});

test.each(['a".iso', 'a\r\nb.iso', 'a\\.iso'])('a name that would end a header is refused: %j', async (filename) => {
  const upload = uploadOf(() => [piece], piece.length, { ...params, filename });
  await expect(connect(await unusedUrl()).send(upload, service)).rejects.toThrow(BadRequestError);
});
