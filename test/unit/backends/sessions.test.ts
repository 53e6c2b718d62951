import type { IncomingMessage, RequestListener } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Sessions, type SessionsOptions } from '../../../src/backends/sessions.ts';
import {
  NotReadyError,
  UnauthenticatedError,
  UpstreamBrokenError,
  UpstreamUnreachableError,
} from '../../../src/errors.ts';
import type { Credential, Upstream } from '../../../src/pve/call.ts';
import { createUpstream } from '../../../src/pve/upstream.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import { httpServer, type Listening, unusedUrl } from '../../support/listening.ts';

const madeAt = 1_700_000_000;
const hex = (seconds: number): string => seconds.toString(16).toUpperCase().padStart(8, '0');
const ticketOf = (user: string, made = madeAt, signature = 'c2ln'): string => `PVE:${user}:${hex(made)}::${signature}`;
const as = (ticket: string): Credential => ({ kind: 'ticket', ticket });

interface Site extends AsyncDisposable {
  readonly sessions: Sessions;
  readonly asked: readonly IncomingMessage[];
  readonly server: Listening;
}

async function site(answer: RequestListener, options: SessionsOptions = {}): Promise<Site> {
  const asked: IncomingMessage[] = [];
  const server = await httpServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  const upstream = upstreamTo(server.url);
  const sessions = new Sessions(upstream, { clock: () => (madeAt + 60) * 1000, ...options });
  return {
    sessions,
    asked,
    server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await upstream.close();
    },
  };
}

function upstreamTo(url: string): Upstream {
  const token = { user: 'svc', realm: 'pve', id: 'gate', uuid: 'secret' };
  return createUpstream(upstreamSettings.parse({ url, token }), { log: { warn: () => {} } });
}

const accept: RequestListener = (_, response) => response.end('{"data":{"version":"9.2"}}');
const refuse: RequestListener = (_, response) =>
  response.writeHead(401, 'permission denied - invalid PVE ticket').end();

test('the user is the one whom the accepted ticket names, and PVE is shown exactly that ticket', async () => {
  await using pve = await site(accept);
  expect(await pve.sessions.identify(as(ticketOf('alice@pve')))).toBe('alice@pve');
  expect(pve.asked[0]).toMatchObject({ method: 'GET', url: '/api2/json/version' });
  expect(pve.asked[0]?.headers.cookie).toBe(`PVEAuthCookie=${encodeURIComponent(ticketOf('alice@pve'))}`);
});

test('an API token stands for its user', async () => {
  await using pve = await site(accept);
  expect(await pve.sessions.identify({ kind: 'token', token: 'bob@ldap!ci=0f1e' })).toBe('bob@ldap');
  expect(pve.asked[0]?.headers.authorization).toBe('PVEAPIToken=bob@ldap!ci=0f1e');
});

test('many requests at once ask PVE once, and so do those of the next five seconds', async () => {
  let now = 0;
  await using pve = await site(accept, { now: () => now });
  const ask = (): Promise<string> => pve.sessions.identify(as(ticketOf('alice@pve')));
  await Promise.all(Array.from({ length: 20 }, ask));
  now = 4999;
  await ask();
  expect(pve.asked).toHaveLength(1);
  now = 5000;
  await ask();
  expect(pve.asked).toHaveLength(2);
});

test('a user who was cut off is refused five seconds later', async () => {
  let now = 0;
  let enabled = true;
  await using pve = await site((request, response) => (enabled ? accept : refuse)(request, response), {
    now: () => now,
  });
  await pve.sessions.identify(as(ticketOf('alice@pve')));
  enabled = false;
  now = 5000;
  await expect(pve.sessions.identify(as(ticketOf('alice@pve')))).rejects.toThrow(UnauthenticatedError);
});

test('a refusal is remembered too, and only for the very ticket', async () => {
  await using pve = await site(refuse);
  for (let turn = 0; turn < 3; turn += 1)
    await expect(pve.sessions.identify(as(ticketOf('alice@pve')))).rejects.toThrow(UnauthenticatedError);
  expect(pve.asked).toHaveLength(1);
  await expect(pve.sessions.identify(as(ticketOf('alice@pve', madeAt, 'b3RoZXI=')))).rejects.toThrow(
    UnauthenticatedError,
  );
  expect(pve.asked).toHaveLength(2);
});

test.each<[string, Credential]>([
  ['a malformed ticket', as('PVE:alice')],
  ['an old ticket', as(ticketOf('alice@pve', madeAt - 8000))],
  ['a ticket from the future', as(ticketOf('alice@pve', madeAt + 3600))],
  ['half a ticket of a second factor', as(ticketOf('!tfa!%7B%7D'))],
  ['a malformed token', { kind: 'token', token: 'alice@pve=x' }],
  ['nothing', { kind: 'none' }],
  ['the service token', { kind: 'service' }],
])('%s is refused without asking PVE', async (_, credential) => {
  await using pve = await site(accept);
  await expect(pve.sessions.identify(credential)).rejects.toThrow(UnauthenticatedError);
  expect(pve.asked).toHaveLength(0);
});

test('when PVE is away nobody is told to sign in again', async () => {
  const upstream = upstreamTo(await unusedUrl());
  const sessions = new Sessions(upstream, { clock: () => madeAt * 1000 });
  await expect(sessions.identify(as(ticketOf('alice@pve')))).rejects.toThrow(UpstreamUnreachableError);
  await upstream.close();
  await using pve = await site((_, response) => response.writeHead(595, 'No route to host').end());
  await expect(pve.sessions.identify(as(ticketOf('alice@pve')))).rejects.toThrow(UpstreamBrokenError);
  await expect(pve.sessions.identify(as(ticketOf('alice@pve')))).rejects.toThrow('595 No route to host');
});

test('made-up tickets keep eight connections busy at most, and known users are not held up by them', async () => {
  let now = 0;
  const made = (cookie = ''): boolean => cookie.includes('mallory');
  await using pve = await site(
    async (request, response) => {
      if (!made(request.headers.cookie)) return void accept(request, response);
      await delay(300);
      refuse(request, response);
    },
    { now: () => now },
  );
  await pve.sessions.identify(as(ticketOf('alice@pve')));
  now = 6000;
  const attack = Array.from({ length: 300 }, (_, index) =>
    pve.sessions.identify(as(ticketOf(`mallory${index}@pve`))).catch((error: unknown) => error),
  );
  expect(await pve.sessions.identify(as(ticketOf('alice@pve')))).toBe('alice@pve');
  expect(pve.asked.filter(({ headers }) => made(headers.cookie)).length).toBeLessThanOrEqual(8);
  expect(await attack.at(-1)).toBeInstanceOf(NotReadyError);
});

test('after signing out PVE is asked again', async () => {
  await using pve = await site(accept);
  await pve.sessions.identify(as(ticketOf('alice@pve')));
  pve.sessions.forget(as(ticketOf('alice@pve')));
  await pve.sessions.identify(as(ticketOf('alice@pve')));
  expect(pve.asked).toHaveLength(2);
});

const csrf = `${hex(madeAt)}:YWJj`;
const csrfCheck: RequestListener = ({ headers }, response) => {
  if (headers.csrfpreventiontoken === csrf)
    response.writeHead(501, "Method 'PUT /version' not implemented").end('{"data":null}');
  else response.writeHead(401, 'Permission denied - invalid csrf token').end();
};

test('a CSRF token is held against PVE once for each user, also when the ticket is renewed', async () => {
  await using pve = await site(csrfCheck);
  await pve.sessions.verifyCsrf(ticketOf('alice@pve'), csrf);
  await pve.sessions.verifyCsrf(ticketOf('alice@pve', madeAt + 30), csrf);
  expect(pve.asked).toHaveLength(1);
  expect(pve.asked[0]).toMatchObject({ method: 'PUT', url: '/api2/json/version' });
  await pve.sessions.verifyCsrf(ticketOf('bob@pve'), csrf);
  expect(pve.asked).toHaveLength(2);
});

test('a CSRF token is forgotten when it is two hours old', async () => {
  let now = 0;
  await using pve = await site(csrfCheck, { now: () => now });
  await pve.sessions.verifyCsrf(ticketOf('alice@pve'), csrf);
  now = (7200 - 61) * 1000;
  await pve.sessions.verifyCsrf(ticketOf('alice@pve'), csrf);
  expect(pve.asked).toHaveLength(1);
  now = (7200 - 59) * 1000;
  await pve.sessions.verifyCsrf(ticketOf('alice@pve'), csrf);
  expect(pve.asked).toHaveLength(2);
});

test.each([
  ['', 0],
  ['nonsense', 0],
  [`${hex(madeAt - 9000)}:YWJj`, 0],
  [`${csrf}\r\nx: y`, 0],
  [`${hex(madeAt)}:b3RoZXI=`, 1],
])('the CSRF token %j is refused, asking PVE %d times', async (token, times) => {
  await using pve = await site(csrfCheck);
  await expect(pve.sessions.verifyCsrf(ticketOf('alice@pve'), token)).rejects.toThrow(UnauthenticatedError);
  expect(pve.asked).toHaveLength(times);
});

test('a holder is known from the answer of PVE on for 5 s, unless PVE refused them or they were forgotten', async () => {
  let now = 0;
  let status = 200;
  await using it = await site(
    (_, response) => response.writeHead(status, { 'content-type': 'application/json' }).end('{"data":{}}'),
    { now: () => now },
  );
  const alice = as(ticketOf('alice@pve'));
  expect(it.sessions.known(alice)).toBeUndefined();
  const asking = it.sessions.identify(alice);
  expect(it.sessions.known(alice)).toBeUndefined();
  await asking;
  now = 4999;
  expect(it.sessions.known(alice)).toBe('alice@pve');
  expect(it.sessions.known(as(ticketOf('alice@pve', madeAt, 'b3RoZXI=')))).toBeUndefined();
  now = 5000;
  expect(it.sessions.known(alice)).toBeUndefined();
  await it.sessions.identify(alice);
  it.sessions.forget(alice);
  expect(it.sessions.known(alice)).toBeUndefined();
  status = 401;
  await expect(it.sessions.identify(alice)).rejects.toThrow(UnauthenticatedError);
  expect(it.sessions.known(alice)).toBeUndefined();
});
