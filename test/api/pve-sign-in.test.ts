import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PveClient } from '../support/pve-client.ts';
import { type Site, startSite } from '../support/site.ts';

let site: Site;
let nobody: PveClient;

beforeAll(async () => {
  site = await startSite({ users: { alice: {}, bob: {}, carol: {} } });
  nobody = new PveClient(site);
});
afterAll(() => site[Symbol.asyncDispose]());

const alice = { username: 'alice@pve', password: 'alice-secret' };

test('signing in gives what PVE gives, and no cookie', async () => {
  const { status, headers, body } = await nobody.post('/access/ticket', alice);
  expect([status, body]).toMatchObject([
    200,
    {
      data: {
        username: 'alice@pve',
        ticket: expect.stringMatching(/^PVE:alice@pve:/),
        CSRFPreventionToken: expect.any(String),
        cap: {},
      },
    },
  ]);
  expect(headers.getSetCookie()).toEqual([]);
  const split = await nobody.post('/access/ticket', { username: 'alice', realm: 'pve', password: 'alice-secret' });
  expect(split.body.data.username).toBe('alice@pve');
  expect((await nobody.post('/access/ticket', {}, { json: alice, format: 'extjs' })).body).toMatchObject({
    success: 1,
  });
});

test('a wrong password is told as PVE tells it', async () => {
  const { status, reason, body } = await nobody.post('/access/ticket', { ...alice, password: 'wrong' });
  expect([status, reason, body]).toEqual([
    401,
    'authentication failure',
    { data: null, message: 'authentication failure\n' },
  ]);
  const extjs = await nobody.post('/access/ticket', { ...alice, password: 'wrong' }, { format: 'extjs' });
  expect([extjs.status, extjs.body]).toMatchObject([200, { success: 0, status: 401 }]);
});

test('a second factor is asked for and taken as by PVE, and half a ticket opens nothing', async () => {
  site.cluster.access.setTotp('carol@pve', '123456');
  const carol = { username: 'carol@pve', password: 'carol-secret' };
  const { body } = await nobody.post('/access/ticket', carol);
  expect(body.data).toMatchObject({ NeedTFA: 1, ticket: expect.stringContaining('!tfa!') });
  const half = new PveClient(site, { cookie: `PVEAuthCookie=${encodeURIComponent(body.data.ticket)}` });
  expect((await half.get('/nodes')).status).toBe(401);

  const second = { username: 'carol@pve', 'tfa-challenge': body.data.ticket };
  expect((await nobody.post('/access/ticket', { ...second, password: 'totp:000000' })).status).toBe(401);
  const whole = await nobody.post('/access/ticket', { ...second, password: 'totp:123456' });
  expect(whole.body.data.NeedTFA).toBeUndefined();
  const { ticket } = whole.body.data;
  expect((await new PveClient(site, { cookie: `PVEAuthCookie=${ticket}` }).get('/nodes')).status).toBe(200);
});

test('a ticket is renewed with itself, and rights are checked without a new one', async () => {
  const { ticket } = (await nobody.post('/access/ticket', alice)).body.data;
  const renewed = await nobody.post('/access/ticket', { username: 'alice@pve', password: ticket });
  expect(renewed.body.data.ticket).toMatch(/^PVE:alice@pve:/);
  const rights = { path: '/pool/alice', privs: 'VM.Audit' };
  expect((await nobody.post('/access/ticket', { ...alice, ...rights })).body.data.ticket).toBeUndefined();
  expect((await nobody.post('/access/ticket', { ...alice, path: '/', privs: 'Sys.Modify' })).status).toBe(401);
});

test('an API token cannot sign anybody in, a stale ticket keeps nobody out, and a page of another site neither', async () => {
  const token = PveClient.withToken(site, 'alice@pve', 'ci', { privsep: false });
  const asked = site.simulator.requests.length;
  expect((await token.post('/access/ticket', alice)).status).toBe(403);
  const none = new PveClient(site, { authorization: 'PVEAPIToken=no such thing' });
  expect((await none.post('/access/ticket', alice)).reason).toMatch(/not an API token/);
  expect(site.simulator.requests.slice(asked).filter(({ path }) => path === '/access/ticket')).toEqual([]);
  const stale = new PveClient(site, { cookie: 'PVEAuthCookie=PVE:alice@pve:00000000::x' });
  expect((await stale.post('/access/ticket', alice)).status).toBe(200);
  const foreign = await nobody.post('/access/ticket', alice, { headers: { origin: 'https://evil.example' } });
  expect([foreign.status, foreign.body.data]).toEqual([403, null]);
  expect((await nobody.get('/access/ticket')).body).toEqual({ data: null });
});

describe('failing to sign in', () => {
  test('is bounded for each user, by whichever surface, and PVE is not asked any more', async () => {
    const bob = { username: 'bob@pve', password: 'wrong' };
    const tries = Array.from({ length: 10 }, (_, index) =>
      index % 2 === 0
        ? nobody.post('/access/ticket', bob)
        : nobody.post('/access/ticket', { ...bob, username: 'bob', realm: 'pve' }),
    );
    for (const { status } of await Promise.all(tries)) expect(status).toBe(401);
    const from = site.simulator.requests.length;
    const refused = await nobody.post('/access/ticket', { ...bob, password: 'bob-secret' });
    expect([refused.status, Number(refused.headers.get('retry-after'))]).toEqual([429, expect.any(Number)]);
    expect(refused.reason).toMatch(/^Too many failed sign-ins; try again in \d+ s/);
    await expect(site.signIn('bob')).rejects.toThrow('429');
    const other = await fetch(`${site.url}/api/proxmox/access/ticket`, {
      method: 'POST',
      body: new URLSearchParams(bob),
    });
    expect(other.status).toBe(429);
    expect(site.simulator.requests.slice(from)).toEqual([]);
    expect((await nobody.post('/access/ticket', alice)).status).toBe(200);
  });

  test('counts nothing that PVE did not refuse for the password', async () => {
    for (let round = 0; round < 12; round += 1) {
      expect((await nobody.post('/access/ticket', { username: 'alice@pve' })).status).toBe(400);
      expect((await nobody.post('/access/ticket', alice)).status).toBe(200);
    }
  });
});
