import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../simulator/index.ts';
import { type Backend, parseUserName, type Requester, type UserName } from '../../src/backends/backend.ts';
import { createPveBackend } from '../../src/backends/pve.ts';
import type { ApiError } from '../../src/errors.ts';
import type { Upstream } from '../../src/pve/call.ts';
import { parseTicket } from '../../src/pve/ticket.ts';
import { createUpstream } from '../../src/pve/upstream.ts';
import { upstreamSettings } from '../../src/pve/upstream-settings.ts';

const serviceSecret = '11111111-2222-4333-8444-555555555555';
const nobody: Requester = { cookies: {} };
const warnings: unknown[] = [];
const log = { warn: (...said: unknown[]) => void warnings.push(said) };

let simulator: Simulator;
let upstream: Upstream;
let pve: Backend;

beforeEach(async () => {
  simulator = await startSimulator({ seed: 'demo', serviceSecret });
  const { access } = simulator.cluster;
  access.addGroup('lab', ['alice@pve']);
  access.addGroup('web', ['alice@pve', 'bob@pve']);
  access.addUser('carol@pve', {
    password: 'carol-demo',
    firstname: 'Carol',
    lastname: 'Cole',
    email: 'carol@example.org',
  });
  const token = { user: 'quota-proxy', realm: 'pve', id: 'gate', uuid: serviceSecret };
  upstream = createUpstream(upstreamSettings.parse({ url: simulator.url, token }), { log: { warn: () => {} } });
  pve = createPveBackend(upstream, { log });
  warnings.length = 0;
});

afterEach(async () => {
  await upstream.close();
  await simulator[Symbol.asyncDispose]();
});

const named = (text: string): UserName => parseUserName(text) ?? { id: '', realm: '' };

describe('signing in', () => {
  test('gives the ticket, the CSRF token and the name as PVE writes it', async () => {
    const result = await pve.openSession?.(named('alice@pve'), 'alice-demo');
    expect(result).toMatchObject({ ok: true, status: 200, username: 'alice@pve' });
    expect(result?.cookies?.map(({ name, expiresMSFromNow }) => [name, expiresMSFromNow])).toEqual([
      ['PVEAuthCookie', 7_200_000],
      ['CSRFPreventionToken', 7_200_000],
    ]);
    expect(parseTicket(result?.cookies?.[0]?.value ?? '')?.user).toBe('alice@pve');
  });

  test.each([
    ['alice@pve', 'wrong'],
    ['nobody@pve', 'alice-demo'],
    ['alice@elsewhere', 'alice-demo'],
  ])('is refused for %s with the password %s', async (user, password) => {
    expect(await pve.openSession?.(named(user), password)).toMatchObject({ ok: false, status: 401 });
  });

  test('is refused for a user with a second factor, and says so', async () => {
    simulator.cluster.access.setTotp('alice@pve', '123456');
    const result = await pve.openSession?.(named('alice@pve'), 'alice-demo');
    expect(result).toMatchObject({ ok: false, status: 401, message: expect.stringContaining('second factor') });
    expect(result?.cookies).toBeUndefined();
  });

  test('fails as an outage when PVE is away or in trouble, not as a wrong password', async () => {
    simulator.faults.add({ method: 'POST', path: '/access/ticket', kind: 'refuse', status: 500, reason: 'no quorum' });
    await expect(pve.openSession?.(named('alice@pve'), 'alice-demo')).rejects.toMatchObject({
      code: 'upstream_broken',
    } satisfies Partial<ApiError>);
    await simulator.stop();
    await expect(pve.openSession?.(named('alice@pve'), 'alice-demo')).rejects.toMatchObject({
      code: 'upstream_unreachable',
    } satisfies Partial<ApiError>);
  });
});

describe('users and groups', () => {
  beforeEach(() => simulator.cluster.access.setAcl('/', { users: ['quota-proxy@pve'] }, 'Administrator'));

  test('a user has a name, an address and the groups', async () => {
    expect(await pve.getUser?.(named('carol@pve'), nobody)).toEqual({
      attributes: { cn: 'Carol Cole', sn: 'Cole', mail: 'carol@example.org', uid: 'carol', memberOf: [] },
    });
    expect(await pve.getUser?.(named('alice@pve'), nobody)).toMatchObject({
      attributes: { cn: 'alice', memberOf: ['cn=lab', 'cn=web'] },
    });
  });

  test('who does not exist is nobody', async () => {
    expect(await pve.getUser?.(named('nobody@pve'), nobody)).toBeNull();
    expect(await pve.getGroup?.({ id: 'nothing' }, nobody)).toBeNull();
  });

  test('lists say the same as single answers', async () => {
    const all = await pve.getAllUsers?.(nobody);
    expect(Object.keys(all ?? {})).toContain('bob@pve');
    for (const [name, data] of Object.entries(all ?? {}))
      expect(data).toEqual(await pve.getUser?.(named(name), nobody));
    const groups = await pve.getAllGroups?.(nobody);
    expect(groups).toEqual({
      lab: await pve.getGroup?.({ id: 'lab' }, nobody),
      web: await pve.getGroup?.({ id: 'web' }, nobody),
    });
    expect(groups?.web).toEqual({ attributes: { cn: 'web', member: ['uid=alice@pve', 'uid=bob@pve'] } });
  });
});

test('without the right to see users there is nothing to tell, and one warning', async () => {
  const { access } = simulator.cluster;
  access.removeAcl('/', { users: ['quota-proxy@pve'] }, 'QuotaProxy');
  expect(await pve.getUser?.(named('alice@pve'), nobody)).toBeNull();
  expect(await pve.getUser?.(named('bob@pve'), nobody)).toBeNull();
  expect(warnings).toHaveLength(1);
});

describe('a new password', () => {
  const signIn = async (password: string): Promise<Requester> => {
    const { cookies = [] } = (await pve.openSession?.(named('alice@pve'), password)) ?? {};
    return { username: 'alice@pve', cookies: Object.fromEntries(cookies.map(({ name, value }) => [name, value])) };
  };

  test('is set with the old one', async () => {
    const alice = await signIn('alice-demo');
    expect(
      await pve.setUser?.(named('alice@pve'), { userpassword: 'new-password', oldpassword: 'alice-demo' }, alice),
    ).toMatchObject({ ok: true });
    expect((await signIn('new-password')).cookies).toHaveProperty('PVEAuthCookie');
  });

  test.each([
    [{ userpassword: 'new-password', oldpassword: 'wrong' }, false],
    [{ userpassword: 'new-password' }, 501],
    [{ userpassword: 'new-password', oldpassword: 'alice-demo', mail: 'x@example.org' }, 501],
    [{ oldpassword: 'alice-demo' }, 400],
  ])('is not set by %j', async (attributes, status) => {
    const result = await pve.setUser?.(named('alice@pve'), attributes, await signIn('alice-demo'));
    expect(result).toMatchObject(status === false ? { ok: false } : { ok: false, status });
    expect((await signIn('alice-demo')).cookies).toHaveProperty('PVEAuthCookie');
  });

  test('is not set for others', async () => {
    const result = await pve.setUser?.(
      named('bob@pve'),
      { userpassword: 'new-password', oldpassword: 'alice-demo' },
      await signIn('alice-demo'),
    );
    expect(result).toMatchObject({ ok: false, status: 403 });
  });
});
