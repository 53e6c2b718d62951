import type { ServerResponse } from 'node:http';
import { generate } from 'selfsigned';
import { describe, expect, test } from 'vitest';
import type { Requester } from '../../src/backends/backend.ts';
import { PaasLdapBackend, paasldapSettings } from '../../src/backends/paasldap.ts';
import { cookiesIn, isEntryId, problemIn } from '../../src/backends/paasldap-answer.ts';
import { check } from '../../src/schema.ts';
import { httpsServer } from '../support/listening.ts';
import { until } from '../support/site.ts';
import { nobody, signIn } from './contract.ts';
import { type PaasLdapSubject, paasLdapSubject } from './subjects.ts';

const user = (id: string) => ({ id, realm: 'ldap' });
const alice = user('alice');
const lab = { id: 'lab', realm: 'ldap' };

const says =
  (status: number, body?: unknown, headers: Record<string, string> = {}) =>
  (response: ServerResponse): void => {
    response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body) || undefined);
  };

/** Lets the service answer calls of this kind in another way. */
function answering(
  { service }: PaasLdapSubject,
  call: string,
  answer: (response: ServerResponse) => void | Promise<void>,
): void {
  service.intervene = async ({ method, path }, response) => {
    if (`${method} ${path}` !== call) return false;
    await answer(response);
    return true;
  };
}

const pathsOf = ({ service }: PaasLdapSubject) => service.requests.map(({ method, path }) => `${method} ${path}`);

describe('settings', () => {
  const faultsOf = (settings: object) => check(paasldapSettings, settings).faults.map(({ problem }) => problem);

  test.each([
    'http://paas.example.org',
    'https://paas.example.org:8443/',
    'http://127.0.0.1:8082/ldap/',
    'http://[::1]',
  ])('take %s', (url) => {
    expect(faultsOf({ url, realm: 'ldap' })).toEqual([]);
  });

  test.each(['ldap://dc1.example.org', 'LDAPS://dc1.example.org:636'])('say which backend %s is for', (url) => {
    expect(faultsOf({ url, realm: 'ldap' })).toEqual([
      expect.stringMatching(/^an LDAP server itself is for the backend "ldap"/),
    ]);
  });

  test.each(['paas.example.org', 'ftp://paas.example.org', 'http://me:secret@paas.example.org', 'http://x/?a=1', ''])(
    'refuse %j as the URL',
    (url) => {
      expect(faultsOf({ url, realm: 'ldap' })).toEqual([expect.stringContaining('the URL of the PAAS-LDAP service')]);
    },
  );

  test('need a realm, and know nothing that they do not use', () => {
    expect(faultsOf({ url: 'http://x' })).toHaveLength(1);
    expect(faultsOf({ url: 'http://x', realm: 'l dap' })).toHaveLength(1);
    expect(faultsOf({ url: 'http://x', realm: 'ldap', colour: 1 })).toHaveLength(1);
  });
});

test.each([
  ['S=v; Max-Age=60; Path=/', ['S', 'v', 60_000]],
  ['S=s%3Aab+/=; HttpOnly', ['S', 's%3Aab+/=', 7_200_000]],
  ['S=v; expires=Thu, 01 Jan 1970 00:10:00 GMT', ['S', 'v', 540_000]],
  ['S=v; Expires=Thu, 01 Jan 1970 00:00:00 GMT; max-age=5', ['S', 'v', 5000]],
  ['S=v; Expires=whenever; Max-Age=soon', ['S', 'v', 7_200_000]],
  [' S = v ', ['S', 'v', 7_200_000]],
  ['S=; Path=/', null],
  ['S=v; Max-Age=0', null],
  ['S=v; Max-Age=-1', null],
  ['S=v; Expires=Thu, 01 Jan 1970 00:01:00 GMT', null],
  ['S=a b', null],
  ['S="v"', null],
  ['=v', null],
  ['S', null],
  ['PVEAuthCookie=v', null],
  ['username=root@pam', null],
])('the line %j sets the cookie %j', (line, cookie) => {
  const found = cookiesIn([line], 60_000).map(({ name, value, expiresMSFromNow }) => [name, value, expiresMSFromNow]);
  expect(found).toEqual(cookie === null ? [] : [cookie]);
});

test.each([
  [{ error: { code: 32, result: 'No Such Object', message: '' } }, { code: 32, words: 'No Such Object' }],
  [{ error: { code: 19, result: 'Constraint', message: 'too short' } }, { code: 19, words: 'Constraint: too short' }],
  [{ error: { code: '32', message: 7 } }, { words: '' }],
  [{ error: ' several\n lines ' }, { words: 'several lines' }],
  [{ error: 'x'.repeat(1000) }, { words: 'x'.repeat(300) }],
  [{ error: null }, { words: '' }],
  [{ error: ['x'] }, { words: '' }],
  [{}, { words: '' }],
])('the body %j tells the problem %j', (body, problem) => {
  expect(problemIn(body)).toEqual(problem);
});

test('an id has no character that means something in a path or in the name of an LDAP entry', () => {
  for (const id of ['alice', 'a.b-c_d', 'Jürgen', "o'neil", 'a b', 'x@y', '100%', 'a?b', 'a&b'])
    expect(isEntryId(id), id).toBe(true);
  for (const id of [...',+"\\<>;=#/\n\0'].map((character) => `a${character}b`)) expect(isEntryId(id), id).toBe(false);
  for (const id of ['', ' a', 'a ', '.', '..', '\uDC00', 'a'.repeat(257)]) expect(isEntryId(id), id).toBe(false);
});

describe('signing in', () => {
  test('takes the cookie by the name that the service gives it, for as long as the service says', async () => {
    await using subject = await paasLdapSubject({ cookie: 'SID', maxAge: 600 });
    const result = await subject.backend.openSession(alice, 'alice-secret');
    expect(result.cookies).toEqual([{ name: 'SID', value: expect.any(String), expiresMSFromNow: 600_000 }]);
    const session: Requester = { cookies: { SID: result.cookies?.[0]?.value ?? '' } };
    expect(await subject.backend.getUser(alice, session)).not.toBeNull();
    await subject.backend.closeSession(session);
    expect(subject.service.sessions).toBe(0);
  });

  test('goes to the path that the URL has', async () => {
    await using subject = await paasLdapSubject({ prefix: '/directory/v1' });
    expect(await subject.backend.getUser(alice, await signIn(subject, 'alice'))).not.toBeNull();
  });

  test.each([
    ['a wrong password in words', says(400, { auth: false, error: 'Invalid Credentials' }), 'Invalid Credentials'],
    ['a wrong password as LDAP has it', says(400, { error: { code: 49, result: 'No', message: 'x' } }), 'No: x'],
    ['a wrong password without a word', says(400), 'password is wrong'],
    ['a wrong password in another status', says(401, { auth: false }), 'password is wrong'],
  ])('is refused for %s', async (_, answer, words) => {
    await using subject = await paasLdapSubject();
    answering(subject, 'POST /ticket', answer);
    const result = await subject.backend.openSession(alice, 'alice-secret');
    expect(result).toMatchObject({ ok: false, status: 401, message: expect.stringContaining(words) });
  });

  const cookie = { 'set-cookie': 'PAASLDAPAuthTicket=abc; Max-Age=60' };
  test.each([
    ['LDAP is away', says(500, { auth: false, error: "Can't contact LDAP server" }, cookie)],
    ['no cookie comes', says(200, { auth: true })],
    ['the cookie is one of ours', says(200, { auth: true }, { 'set-cookie': 'PVEAuthCookie=PVE:x' })],
    ['the cookie has ended', says(200, { auth: true }, { 'set-cookie': 'PAASLDAPAuthTicket=; Max-Age=0' })],
    ['the body does not say so', says(200, { auth: false }, cookie)],
    ['there is no body', says(200, undefined, cookie)],
    ['it is a redirection', says(307, { auth: true }, { ...cookie, location: '/version' })],
    ['there is no such path', says(404, 'Cannot POST /ticket')],
  ])('fails as an outage, not as a wrong password, when %s', async (_, answer) => {
    await using subject = await paasLdapSubject();
    answering(subject, 'POST /ticket', answer);
    await expect(subject.backend.openSession(alice, 'alice-secret')).rejects.toMatchObject({ code: 'upstream_broken' });
    expect(pathsOf(subject)).toEqual(['POST /ticket']);
  });

  test('never asks about an empty password, which LDAP would take for no sign-in at all, or a name that means more', async () => {
    await using subject = await paasLdapSubject();
    for (const [id, password] of [
      ['alice', ''],
      ['alice,ou=people', 'alice-secret'],
      ['../users', 'alice-secret'],
    ] as const)
      expect(await subject.backend.openSession(user(id), password)).toMatchObject({ ok: false, status: 401 });
    expect(subject.service.requests).toEqual([]);
  });

  test('does not depend on what the directory shows of the user', async () => {
    await using subject = await paasLdapSubject();
    answering(subject, 'GET /users/alice', says(500));
    expect(await subject.backend.openSession(alice, 'alice-secret')).toMatchObject({ ok: true });
  });

  test('is one at a time for the service, whose table of sessions stands no more', async () => {
    await using subject = await paasLdapSubject();
    subject.service.intervene = async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return false;
    };
    const names = Array.from({ length: 12 }, (_, index) => (index % 3 === 2 ? 'bob' : 'alice'));
    const opened = await Promise.all(names.map((name) => signIn(subject, name)));
    await Promise.all(opened.map((requester) => subject.backend.closeSession(requester)));
    expect(subject.service.mostTickets).toBe(1);
    expect(subject.service.sessions).toBe(0);
  });

  test('says that the service is busy rather than wait for ever, and sends nothing then', async () => {
    await using subject = await paasLdapSubject({ deadline: 0.4 });
    answering(subject, 'POST /ticket', () => {});
    const first = subject.backend.openSession(alice, 'alice-secret');
    const second = subject.backend.openSession(user('bob'), 'bob-secret');
    await expect(second).rejects.toMatchObject({ code: 'upstream_unreachable' });
    await expect(first).rejects.toMatchObject({ code: 'upstream_deadline' });
    expect(subject.service.requests.map(({ form }) => form.username)).toEqual(['alice']);
  });

  test('is not held up by a flood of made-up cookies to be signed out', async () => {
    await using subject = await paasLdapSubject();
    answering(subject, 'DELETE /ticket', async (response) => {
      await new Promise((resolve) => setTimeout(resolve, 10));
      says(401, { auth: false })(response);
    });
    const flood = Array.from({ length: 100 }, (_, index) =>
      subject.backend.closeSession({ cookies: { PAASLDAPAuthTicket: `made-up-${index}` } }),
    );
    const settled = Promise.allSettled(flood);
    expect(await subject.backend.openSession(alice, 'alice-secret')).toMatchObject({ ok: true });
    // The service is busy with one of them at most.
    expect(pathsOf(subject).indexOf('POST /ticket')).toBeLessThan(2);
    expect((await settled).filter(({ status }) => status === 'rejected').length).toBeGreaterThan(30);
  });
});

describe('signing out', () => {
  test('ends the session at the service, which says 401 to it', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    expect(subject.service.sessions).toBe(1);
    expect(await subject.backend.closeSession(session)).toMatchObject({ ok: true });
    expect(subject.service.sessions).toBe(0);
    expect(subject.service.requests.at(-1)).toMatchObject({
      method: 'DELETE',
      path: '/ticket',
      cookie: `PAASLDAPAuthTicket=${session.cookies.PAASLDAPAuthTicket}`,
    });
  });

  test('asks the service nothing when there is no cookie of it, or one that is none', async () => {
    await using subject = await paasLdapSubject();
    for (const cookies of [
      {},
      { PVEAuthCookie: 'x' },
      { PAASLDAPAuthTicket: 'a; b=c' },
      { PAASLDAPAuthTicket: '\r\nX: y' },
    ])
      expect(await subject.backend.closeSession({ cookies })).toMatchObject({ ok: true });
    expect(subject.service.requests).toEqual([]);
  });
});

describe('what is kept of a user', () => {
  test('is shown to the user alone when their session at the service is gone, or the service is', async () => {
    await using subject = await paasLdapSubject();
    const [self, admin] = [await signIn(subject, 'alice'), await signIn(subject, 'admin')];
    const seen = await subject.backend.getUser(alice, self);
    expect(seen).toMatchObject({ attributes: { cn: 'Alice Ames' } });

    expect(await subject.backend.getUser(alice, { username: 'alice@ldap', cookies: {} })).toEqual(seen);
    subject.service.restart();
    expect(await subject.backend.getUser(alice, self)).toEqual(seen);
    expect(await subject.backend.getUser(alice, admin)).toBeNull();
    expect(await subject.backend.getUser(alice, nobody)).toBeNull();
    expect(await subject.backend.getAllUsers(admin)).toBeNull();
    expect(await subject.backend.getAllGroups(admin)).toBeNull();
    expect(await subject.backend.getGroup(lab, admin)).toBeNull();
    await subject.service.stop();
    expect(await subject.backend.getUser(alice, self)).toEqual(seen);
    await expect(subject.backend.getUser(alice, admin)).rejects.toMatchObject({ code: 'upstream_unreachable' });
  });

  test('is what was last seen', async () => {
    await using subject = await paasLdapSubject();
    const self = await signIn(subject, 'alice');
    await subject.backend.setUser(alice, { cn: 'Alice Baker', sn: '' }, self);
    expect(await subject.backend.getUser(alice, self)).toMatchObject({ attributes: { cn: 'Alice Baker', sn: 'Ames' } });
    subject.service.restart();
    expect(await subject.backend.getUser(alice, self)).toMatchObject({ attributes: { cn: 'Alice Baker' } });
  });

  test('does not come back by an answer that was on its way at sign-out', async () => {
    await using subject = await paasLdapSubject();
    const self = await signIn(subject, 'alice');
    const seen = await subject.backend.getUser(alice, self);
    const asked = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    answering(subject, 'GET /users/alice', async (response) => {
      asked.resolve();
      await closed.promise;
      says(200, { ok: true, user: seen })(response);
    });
    const late = subject.backend.getUser(alice, self);
    await asked.promise;
    await subject.backend.closeSession(self);
    closed.resolve();
    await late;
    expect(await subject.backend.getUser(alice, { username: 'alice@ldap', cookies: {} })).toBeNull();
  });

  test('ends with the session: when its time is up, or the user signs out', async () => {
    let now = 0;
    await using subject = await paasLdapSubject({ maxAge: 60, options: { clock: () => now } });
    const self = await signIn(subject, 'alice');
    const stranger: Requester = { username: 'alice@ldap', cookies: { PAASLDAPAuthTicket: 'made-up' } };
    await subject.backend.closeSession(stranger);
    subject.service.restart();
    now = 59_999;
    expect(await subject.backend.getUser(alice, self)).not.toBeNull();
    now = 60_000;
    expect(await subject.backend.getUser(alice, self)).toBeNull();

    const again = await signIn(subject, 'alice');
    await subject.backend.closeSession(again);
    expect(await subject.backend.getUser(alice, again)).toBeNull();
  });

  test('is of so many users at most, those who signed in last', async () => {
    await using subject = await paasLdapSubject({ options: { capacity: 2 } });
    for (const id of ['alice', 'bob', 'admin']) await signIn(subject, id);
    const kept = (id: string) => subject.backend.getUser(user(id), { username: `${id}@ldap`, cookies: {} });
    expect(await kept('alice')).toBeNull();
    expect(await kept('bob')).not.toBeNull();
    expect(await kept('admin')).not.toBeNull();
  });
});

describe('users and groups', () => {
  test('are labelled with the realm', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    expect(Object.keys((await subject.backend.getAllUsers(session)) ?? {}).toSorted()).toEqual([
      'admin@ldap',
      'alice@ldap',
      'bob@ldap',
    ]);
    expect(await subject.backend.getAllGroups(session)).toEqual({
      'lab@ldap': {
        dn: 'cn=lab,ou=groups,dc=example,dc=org',
        attributes: { cn: 'lab', member: ['', 'uid=alice,ou=people,dc=example,dc=org'] },
      },
    });
    expect(await subject.backend.getGroup({ id: 'lab', realm: 'other' }, session)).toBeNull();
  });

  test('have the attributes of a record and no others, lists where a record has lists', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    const entry = (attributes: object) => ({ dn: 'uid=alice,ou=people', attributes });
    const told = { userPassword: '{SSHA}x', cn: ['Alice', 'Ali'], uid: 'alice', memberOf: 'cn=lab' };
    answering(subject, 'GET /users/alice', says(200, { ok: true, user: entry(told) }));
    expect(await subject.backend.getUser(alice, session)).toEqual(
      entry({ cn: ['Alice', 'Ali'], uid: 'alice', memberOf: ['cn=lab'] }),
    );
    const users = [entry({ uid: ['alice', 'ali'] }), entry({ cn: 'without a uid' })];
    answering(subject, 'GET /users', says(200, { ok: true, users }));
    expect(await subject.backend.getAllUsers(session)).toEqual({
      'alice@ldap': entry({ uid: ['alice', 'ali'], memberOf: [] }),
    });
  });

  test.each([
    ['is not there', 32, null],
    ['may not be seen', 50, null],
    ['cannot be read now', 51, 'upstream_broken'],
  ])('of which LDAP says that the entry %s', async (_, code, outcome) => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    subject.service.intervene = (_, response) => {
      says(400, { ok: false, error: { code, result: 'No', message: '' } })(response);
      return true;
    };
    const failed = (error: { code: string }) => error.code;
    expect(await subject.backend.getUser(user('bob'), session).catch(failed)).toBe(outcome);
    expect(await subject.backend.getGroup(lab, session).catch(failed)).toBe(outcome);
    expect(await subject.backend.getAllUsers(session).catch(failed)).toBe(outcome);
  });

  test('that an entry of another kind stands in the place of are an error', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    await expect(subject.backend.getUser(user('printer'), session)).rejects.toMatchObject({ code: 'upstream_broken' });
  });

  test('are not asked for by a name that means more, nor without a session', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'admin');
    const before = pathsOf(subject);
    for (const id of ['a/../bob', '..', 'alice,ou=people', ' alice', '\uD800', 'x'.repeat(300)]) {
      expect(await subject.backend.getUser(user(id), session)).toBeNull();
      expect(await subject.backend.getGroup({ id }, session)).toBeNull();
      expect(await subject.backend.delUser(user(id), session)).toMatchObject({ ok: false, status: 404 });
    }
    expect(await subject.backend.getAllUsers(nobody)).toBeNull();
    expect(await subject.backend.delUser(alice, nobody)).toMatchObject({ ok: false, status: 401 });
    expect(pathsOf(subject)).toEqual(before);
  });

  test('have their names and values encoded', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'admin');
    const attributes = { cn: 'Dé & Co', sn: 'a=b', mail: 'd+1@example.org', userpassword: 'x&y=z %2B+ü' };
    expect(await subject.backend.addUser(user('d?é %2f'), attributes, session)).toMatchObject({ ok: true });
    expect(subject.service.requests.at(-1)).toMatchObject({ path: '/users/d%3F%C3%A9%20%252f', form: attributes });
    expect(await subject.backend.openSession(user('d?é %2f'), attributes.userpassword)).toMatchObject({ ok: true });
  });
});

describe('a change', () => {
  test.each([
    [says(400, { ok: false, error: { code: 50, result: 'Insufficient Access', message: '' } }), 403, 'Insufficient'],
    [says(400, { ok: false, error: { code: 32, result: 'No Such Object', message: '' } }), 404, 'No Such Object'],
    [says(400, { ok: false, error: { code: 19, result: 'Constraint', message: 'short' } }), 400, 'Constraint: short'],
    [says(400, { auth: false, error: 'cn is required' }), 400, 'cn is required'],
    [says(400), 400, 'without a reason'],
    [says(401, { auth: false }), 401, 'Sign in again'],
  ])('that is refused says why (%#)', async (answer, status, words) => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    answering(subject, 'POST /users/alice', answer);
    const result = await subject.backend.setUser(alice, { userpassword: 'new' }, session);
    expect(result).toMatchObject({ ok: false, status, message: expect.stringContaining(words) });
  });

  test.each([
    ['500 without a body', says(500)],
    ['a success that is none', says(200, { ok: false, error: 'no' })],
    ['a success without a body', says(200)],
    ['a redirection', says(308, undefined, { location: '/users/bob' })],
  ])('that is answered with %s is an error, and is not sent again', async (_, answer) => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    answering(subject, 'POST /users/alice', answer);
    await expect(subject.backend.setUser(alice, { userpassword: 'new' }, session)).rejects.toMatchObject({
      code: 'upstream_broken',
    });
    expect(pathsOf(subject).filter((path) => path === 'POST /users/alice')).toHaveLength(1);
  });

  test('of a user stores what the directory stores, and leaves the rest to other backends', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'alice');
    const before = subject.service.requests.length;
    expect(await subject.backend.setUser(alice, { cluster: { admin: true }, cn: '' }, session)).toMatchObject({
      ok: true,
    });
    expect(subject.service.requests).toHaveLength(before);
    const both = { userpassword: 'new', oldpassword: 'alice-secret', cluster: {} };
    expect(await subject.backend.setUser(alice, both, session)).toMatchObject({ ok: true });
    expect(subject.service.requests.at(-1)?.form).toEqual({ userpassword: 'new' });
  });

  test('of somebody who does not exist makes nobody', async () => {
    await using subject = await paasLdapSubject();
    const session = await signIn(subject, 'admin');
    const whole = { cn: 'C', sn: 'C', mail: 'c@example.org', userpassword: 'c' };
    for (const attributes of [whole, { userpassword: 'c' }])
      expect((await subject.backend.setUser(user('carol'), attributes, session)).ok).toBe(false);
    expect(await subject.backend.setUser(user('carol'), whole, nobody)).toMatchObject({ status: 401 });
    expect(await subject.backend.addUser(user('carol'), { ...whole, mail: '' }, session)).toMatchObject({
      ok: false,
      status: 400,
      message: 'A new user needs mail',
    });
    const change = { method: 'addUser', user: user('carol'), attributes: { cn: 'Carol' } } as const;
    expect(subject.backend.check(change, session)).toMatchObject({ status: 400 });
    expect(subject.backend.check(change, { cookies: {} })).toMatchObject({ status: 401 });
    expect(
      subject.backend.check({ ...change, method: 'setUser', attributes: { cluster: {} } }, { cookies: {} }),
    ).toBeNull();
    expect(await subject.backend.getUser(user('carol'), session)).toBeNull();
  });
});

test('a service whose certificate nobody vouches for is sent nothing', async () => {
  const { private: key, cert } = await generate([{ name: 'commonName', value: '127.0.0.1' }]);
  let asked = 0;
  await using server = await httpsServer({ key, cert }, (_, response) => {
    asked += 1;
    response.end();
  });
  const settings = paasldapSettings.parse({ url: server.url, realm: 'ldap' });
  const backend = new PaasLdapBackend(settings, { log: { warn: () => {} } });
  await expect(backend.openSession(alice, 'alice-secret')).rejects.toMatchObject({ code: 'upstream_unreachable' });
  expect(asked).toBe(0);
  await backend.close();
});

test('a backend that is closed gives up what it waits for', async () => {
  await using subject = await paasLdapSubject({ deadline: 30 });
  answering(subject, 'POST /ticket', () => {});
  const opening = expect(subject.backend.openSession(alice, 'alice-secret')).rejects.toMatchObject({
    code: 'upstream_broken',
  });
  await until('the service is asked', () => subject.service.requests.length > 0);
  await subject.backend.close();
  await opening;
});
