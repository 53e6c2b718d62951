import formbody from '@fastify/formbody';
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../simulator/index.ts';
import { Directory } from '../../src/backends/directory.ts';
import { createPveBackend } from '../../src/backends/pve.ts';
import { Sessions } from '../../src/backends/sessions.ts';
import type { Upstream } from '../../src/pve/call.ts';
import { createUpstream } from '../../src/pve/upstream.ts';
import { upstreamSettings } from '../../src/pve/upstream-settings.ts';
import { accessRoutes } from '../../src/routes/aas/access.ts';
import { requireCsrf } from '../../src/routes/caller.ts';
import { refusalOf } from '../../src/routes/edge.ts';
import { SignInLimit } from '../../src/routes/sign-in-limit.ts';

const serviceSecret = '11111111-2222-4333-8444-555555555555';
const log = { warn: () => {} };

let simulator: Simulator;
let upstream: Upstream;
let server: FastifyInstance;

beforeEach(async () => {
  simulator = await startSimulator({ seed: 'demo', serviceSecret });
  const token = { user: 'quota-proxy', realm: 'pve', id: 'gate', uuid: serviceSecret };
  upstream = createUpstream(upstreamSettings.parse({ url: simulator.url, token }), { log });
  const pve = { name: 'pve', backend: createPveBackend(upstream, { log }), keys: new Set(['attributes'] as const) };
  const directory = new Directory({
    backends: new Map([['pve', pve]]),
    users: { realm: {}, otherwise: [], any: [] },
    pve: 'pve',
    defaultuser: {},
    resources: {},
    log,
    now: () => performance.now(),
  });
  const sessions = new Sessions(upstream);
  const origins = { corsOrigins: [] };
  server = Fastify();
  await server.register(formbody);
  server.setErrorHandler((error, _, reply) => {
    const { status, message, headers } = refusalOf(error);
    return reply.code(status).headers(headers).send({ error: message });
  });
  await server.register(
    async (api) => {
      accessRoutes(api, {
        directory,
        sessions,
        signedOut: () => {},
        limit: new SignInLimit({ perUser: 3 }),
        origins,
        cookies: {},
        version: '1.2.3',
      });
      api.post('/change', async ({ headers }) =>
        requireCsrf(headers, sessions, origins).then(() => ({ changed: true })),
      );
    },
    { prefix: '/api' },
  );
});

afterEach(async () => {
  await server.close();
  await upstream.close();
  await simulator[Symbol.asyncDispose]();
});

const form = { 'content-type': 'application/x-www-form-urlencoded' };

function signIn(
  username: string,
  password: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<LightMyRequestResponse> {
  const payload = new URLSearchParams({ username, password }).toString();
  return server.inject({
    method: 'POST',
    url: '/api/access/ticket',
    headers: { ...form, csrfpreventiontoken: '', ...headers },
    payload,
  });
}

const get = (url: string, headers: Readonly<Record<string, string>> = {}): Promise<LightMyRequestResponse> =>
  server.inject({ method: 'GET', url, headers });

const cookieOf = (answer: LightMyRequestResponse): string =>
  [answer.headers['set-cookie'] ?? []]
    .flat()
    .map((line) => line.split(';')[0])
    .join('; ');

test('a user signs in, is known by the cookies, and signs out', async () => {
  const answer = await signIn('alice@pve', 'alice-demo');
  expect([answer.statusCode, answer.json()]).toEqual([200, { auth: true }]);
  const cookie = cookieOf(answer);
  expect(cookie).toMatch(/^PVEAuthCookie=PVE%3Aalice%40pve.*; CSRFPreventionToken=.*; username=alice%40pve; auth=1$/);
  expect((await get('/api/access', { ...form, cookie })).json()).toEqual({ auth: true });

  const raw = decodeURIComponent(cookie);
  expect((await get('/api/access', { cookie: raw })).statusCode).toBe(200);

  const out = await server.inject({ method: 'DELETE', url: '/api/access/ticket', headers: { ...form, cookie } });
  expect([out.statusCode, out.json()]).toEqual([200, { auth: false }]);
  expect(cookieOf(out).split('; ').toSorted()).toEqual([
    'CSRFPreventionToken=',
    'PVEAuthCookie=',
    'auth=',
    'username=',
  ]);
});

test('signing out succeeds for those who never signed in', async () => {
  const out = await server.inject({ method: 'DELETE', url: '/api/access/ticket', headers: form });
  expect([out.statusCode, out.json()]).toEqual([200, { auth: false }]);
});

test('nobody is signed in by a cookie that names them', async () => {
  expect((await get('/api/access', { cookie: 'username=admin@pve; auth=1' })).statusCode).toBe(401);
});

test('an API token is as good as a ticket', async () => {
  const made = simulator.cluster.access.addToken('alice@pve', 'ci', { privsep: false });
  const secret = typeof made === 'string' ? made : String(Reflect.get(made as object, 'secret'));
  expect((await get('/api/access', { authorization: `PVEAPIToken=alice@pve!ci=${secret}` })).statusCode).toBe(200);
  expect(
    (await get('/api/access', { authorization: 'PVEAPIToken=alice@pve!ci=00000000-0000-4000-8000-000000000000' }))
      .statusCode,
  ).toBe(401);
});

test('a change needs the CSRF token of the session in the header', async () => {
  const cookie = cookieOf(await signIn('alice@pve', 'alice-demo'));
  const csrf = decodeURIComponent(/CSRFPreventionToken=([^;]+)/.exec(cookie)?.[1] ?? '');
  const change = (headers: Readonly<Record<string, string>>): Promise<LightMyRequestResponse> =>
    server.inject({ method: 'POST', url: '/api/change', headers: { ...form, ...headers } });
  expect((await change({ cookie, csrfpreventiontoken: csrf })).json()).toEqual({ changed: true });
  expect((await change({ cookie })).statusCode).toBe(401);
  const tossed = `${csrf.slice(0, 9)}${'A'.repeat(43)}`;
  expect(
    (
      await change({
        cookie: cookie.replace(/CSRFPreventionToken=[^;]+/, `CSRFPreventionToken=${tossed}`),
        csrfpreventiontoken: tossed,
      })
    ).statusCode,
  ).toBe(401);
});

test('a wrong password says so, and after some of them the same place has to wait while others do not', async () => {
  for (let turn = 0; turn < 3; turn += 1) {
    const answer = await signIn('alice@pve', 'wrong');
    expect([answer.statusCode, answer.json()]).toEqual([
      401,
      { auth: false, error: expect.stringContaining('password is wrong') },
    ]);
  }
  const answer = await signIn('alice@pve', 'alice-demo');
  expect(answer.statusCode).toBe(429);
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  expect((await signIn('bob@pve', 'bob-demo')).statusCode).toBe(200);
});

test('a sign-in from the page of another site is refused', async () => {
  expect((await signIn('alice@pve', 'alice-demo', { origin: 'https://evil.example' })).statusCode).toBe(403);
});

test.each([
  'username=alice@pve&username=bob@pve&password=x',
  'username[a]=1&password=x',
  'username=alice&password=x',
  'username=alice@pve',
  '',
])('the form %j is refused with the field that is wrong', async (payload) => {
  const answer = await server.inject({ method: 'POST', url: '/api/access/ticket', headers: form, payload });
  expect(answer.statusCode).toBe(400);
  expect(answer.json().error).toMatch(/^(username|password)/);
  expect(simulator.requests).toHaveLength(0);
});

test('while PVE is away sign-in is unavailable, not refused, and nobody is made to wait for it afterwards', async () => {
  await simulator.stop();
  for (let turn = 0; turn < 5; turn += 1) expect((await signIn('alice@pve', 'alice-demo')).statusCode).toBe(503);
  await simulator.start();
  expect((await signIn('alice@pve', 'alice-demo')).statusCode).toBe(200);
});

test('the version needs no session', async () => {
  expect((await get('/api/version')).json()).toEqual({ version: '1.2.3' });
});
