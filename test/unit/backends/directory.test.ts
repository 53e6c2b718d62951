import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Backend, BackendData, BackendResult, RecordKey, Requester } from '../../../src/backends/backend.ts';
import { Directory, type DirectoryOptions } from '../../../src/backends/directory.ts';
import { loadBackends } from '../../../src/backends/index.ts';
import { UpstreamBrokenError, UpstreamUnreachableError } from '../../../src/errors.ts';
import type { Upstream } from '../../../src/pve/call.ts';
import { openDatabase } from '../../../src/store/database.ts';

const alice = { id: 'alice', realm: 'pve' };
const everything: readonly RecordKey[] = ['dn', 'attributes', 'resources', 'cluster', 'templates'];

/** A backend with these users, as somebody might write it. */
function backendWith(users: Record<string, BackendData>, rest: Partial<Backend> = {}): Backend & { asked: number } {
  return {
    asked: 0,
    keys: everything,
    getUser({ id, realm }) {
      this.asked += 1;
      return users[`${id}@${realm}`] ?? null;
    },
    getAllUsers: () => users,
    ...rest,
  } as Backend & { asked: number };
}

function directoryOf(
  backends: Record<string, Backend>,
  options: Partial<DirectoryOptions> & { keys?: readonly RecordKey[] } = {},
) {
  const names = Object.keys(backends);
  return new Directory({
    backends: new Map(
      Object.entries(backends).map(([name, backend]) => [
        name,
        { name, backend, keys: new Set(options.keys ?? everything) },
      ]),
    ),
    users: { realm: { pve: names.filter((name) => name !== 'pve') }, otherwise: [], any: names },
    pve: 'pve',
    defaultuser: {},
    resources: {},
    log: { warn: () => {} },
    now: () => 0,
    ...options,
  });
}

describe('a record', () => {
  test('is merged in the configured order over the default user: the last one wins', async () => {
    const first = backendWith({ 'alice@pve': { cluster: { pools: { a: true }, backups: { max: 1 } } } });
    const last = backendWith({ 'alice@pve': { cluster: { pools: { b: true }, backups: { max: 2 } } } });
    const defaultuser = { cluster: { nodes: { n1: true }, backups: { max: 9 } } };
    const record = await directoryOf({ first, last }, { defaultuser }).record(alice);
    expect(record.cluster).toMatchObject({ nodes: { n1: true }, pools: { a: true, b: true }, backups: { max: 2 } });
  });

  test('has only what a backend may supply, so that no directory attribute makes an administrator', async () => {
    const ldap = backendWith({ 'alice@pve': { attributes: { cn: 'Alice' }, cluster: { admin: true } } });
    const directory = directoryOf({ ldap }, { keys: ['attributes'] });
    expect((await directory.record(alice)).cluster.admin).toBe(false);
    const seen = await directory.getUser(alice, { username: 'alice@pve', cookies: {} });
    expect(seen).toMatchObject({ attributes: { cn: 'Alice', memberOf: [] }, cluster: { admin: false } });
  });

  test('asks only backends that decide what users may do, so that no other one being away matters to it', async () => {
    const ldap = backendWith({}, { getUser: () => Promise.reject(new UpstreamUnreachableError('away')) });
    await expect(directoryOf({ ldap }, { keys: ['attributes'] }).record(alice)).resolves.toBeDefined();
  });

  test('of a user whom no backend knows is the default user, also in a realm without backends', async () => {
    const directory = directoryOf({ a: backendWith({}) }, { defaultuser: { cluster: { backups: { max: 3 } } } });
    for (const realm of ['pve', 'pam', 'constructor']) {
      const { cluster } = await directory.record({ id: 'x', realm });
      expect(cluster.backups).toEqual({ max: 3 });
    }
  });

  test('is read again after five seconds, and at once when a backend tells of a change', async () => {
    let [now, version] = [0, 1];
    const silent = backendWith({});
    const directory = directoryOf({ silent }, { now: () => now });
    for (now of [0, 4999, 5000]) await directory.record(alice);
    expect(silent.asked).toBe(2);

    const telling = backendWith({}, { version: () => version });
    const other = directoryOf({ telling }, { now: () => now });
    for (now of [0, 60_000]) await other.record(alice);
    expect(telling.asked).toBe(1);
    version += 1;
    await other.record(alice);
    expect(telling.asked).toBe(2);
  });

  test('is not given when a backend fails: the error names it, and the next call asks again', async () => {
    let away = true;
    const ldap = backendWith(
      {},
      {
        getUser: () => {
          if (away) throw new UpstreamUnreachableError('connection refused');
          return null;
        },
      },
    );
    const directory = directoryOf({ ldap });
    await expect(directory.record(alice)).rejects.toThrow(UpstreamUnreachableError);
    await expect(directory.record(alice)).rejects.toThrow('Backend "ldap": connection refused');
    away = false;
    await expect(directory.record(alice)).resolves.toBeDefined();

    const broken = backendWith({}, { getUser: () => Promise.reject(new TypeError('bind password hunter2')) });
    const error = await directoryOf({ broken })
      .record(alice)
      .catch((caught: Error) => caught);
    expect(error).toBeInstanceOf(UpstreamBrokenError);
    expect((error as Error).message).toBe('Backend "broken" failed');
  });

  test('with faults names backend, user and path', async () => {
    const mine = backendWith({ 'alice@pve': { cluster: { admin: 'yes' } } });
    await expect(directoryOf({ mine }).record(alice)).rejects.toThrow(
      'Backend "mine" has a faulty record of user alice@pve: cluster.admin: expected true or false, got "yes"',
    );
  });
});

describe('lists', () => {
  const data = {
    'alice@pve': { cluster: { pools: { lab: true } } },
    'root@pve': { cluster: { admin: true } },
    'not a user': {},
  };

  test('of records have each user as the single record does', async () => {
    const directory = directoryOf({
      a: backendWith(data),
      b: backendWith({ 'bob@pve': {}, 'alice@pve': { cluster: { pools: { lab: false } } } }),
    });
    const records = await directory.records();
    expect([...records.keys()]).toEqual(['alice@pve', 'root@pve', 'bob@pve']);
    for (const [name, record] of records) {
      expect(record).toEqual(await directory.record({ id: name.split('@')[0] ?? '', realm: 'pve' }));
    }
  });

  test('and single users are for administrators, a user sees only themselves', async () => {
    const directory = directoryOf({ a: backendWith(data) });
    const as = (username?: string): Requester => ({ cookies: {}, ...(username === undefined ? {} : { username }) });
    expect((await directory.getAllUsers(as('root@pve'))).size).toBe(2);
    expect((await directory.getAllUsers(as('alice@pve'))).size).toBe(0);
    expect(await directory.getUser(alice, as('alice@pve'))).toMatchObject({ cluster: { pools: { lab: true } } });
    expect(await directory.getUser(alice, as('root@pve'))).not.toBeNull();
    expect(await directory.getUser(alice, as('eve@pve'))).toBeNull();
    expect(await directory.getUser(alice, as())).toBeNull();
    expect(await directory.getUser({ id: 'nobody', realm: 'pve' }, as('root@pve'))).toBeNull();
  });
});

describe('signing in', () => {
  /** A backend that writes down what happens to it. */
  function witness(name: string, story: string[], ok = true): Backend {
    return {
      keys: [],
      openSession: () => {
        story.push(`open ${name}`);
        return {
          ok,
          status: ok ? 200 : 401,
          message: ok ? '' : `${name} says no`,
          cookies: [{ name, value: `of ${name}`, expiresMSFromNow: 1 }],
        };
      },
      closeSession: ({ cookies }) => {
        story.push(`close ${name} with ${Object.keys(cookies).join()}`);
        return { ok: true, status: 200, message: '' };
      },
    };
  }

  test('goes through the backends of the realm in order, then PVE, each once', async () => {
    const story: string[] = [];
    const backends = { pve: witness('pve', story), b: witness('b', story), a: witness('a', story) };
    const directory = directoryOf(backends, {
      users: { realm: { pve: ['pve', 'a', 'b', 'a'] }, otherwise: [], any: [] },
    });
    const result = await directory.openSession(alice, 'x');
    expect(story).toEqual(['open a', 'open b', 'open pve']);
    expect(result).toMatchObject({ ok: true, username: 'alice@pve' });
    expect(result.cookies?.map(({ name }) => name)).toEqual(['a', 'b', 'pve']);
    await directory.closeSession({ username: 'alice@pve', cookies: { a: '1' } });
    expect(story.slice(3)).toEqual(['close a with a', 'close b with a', 'close pve with a']);
  });

  test('ends with the first refusal, closes what was open, and keeps no cookie', async () => {
    const story: string[] = [];
    const directory = directoryOf({
      a: witness('a', story),
      b: witness('b', story, false),
      pve: witness('pve', story),
    });
    expect(await directory.openSession(alice, 'x')).toMatchObject({
      ok: false,
      status: 401,
      message: 'b says no',
      cookies: [],
    });
    expect(story).toEqual(['open a', 'open b', 'close a with a']);
  });

  test('closes what was open when a backend is away', async () => {
    const story: string[] = [];
    const away: Backend = { keys: [], openSession: () => Promise.reject(new UpstreamUnreachableError('refused')) };
    const directory = directoryOf({ a: witness('a', story), pve: away });
    await expect(directory.openSession(alice, 'x')).rejects.toThrow('Backend "pve": refused');
    expect(story).toEqual(['open a', 'close a with a']);
  });
});

describe('a new password', () => {
  const requester: Requester = { username: 'alice@pve', cookies: {} };
  const ok = { ok: true, status: 200, message: '' };
  /** A backend that keeps passwords, and what it was told to store. */
  const keeper = (answer: BackendResult = ok) => {
    const told: unknown[] = [];
    const backend = backendWith(
      {},
      {
        openSession: () => ok,
        setUser: (_user, attributes) => {
          told.push(attributes);
          return answer;
        },
      },
    );
    return { backend, told };
  };

  test('goes to the backends of the realm in order, and to PVE where no other one knows it', async () => {
    const [ldap, pve] = [keeper(), keeper()];
    const local = backendWith({}, { setUser: () => ok });
    const own = directoryOf({ local, ldap: ldap.backend, pve: pve.backend });
    const by = (backend: string) => ({ ...ok, allResponses: [{ ...ok, backend, outcome: 'done' }] });
    expect(await own.setPassword(alice, 'new', {}, requester)).toEqual(by('ldap'));
    expect([ldap.told, pve.told]).toEqual([[{ userpassword: 'new' }], []]);
    const without = directoryOf({ local, pve: pve.backend });
    expect(await without.setPassword(alice, 'new', { oldpassword: 'old' }, requester)).toEqual(by('pve'));
    expect(pve.told).toEqual([{ userpassword: 'new', oldpassword: 'old' }]);
  });

  test('is stored no further than the first refusal', async () => {
    const [first, second] = [keeper({ ok: false, status: 400, message: 'too short' }), keeper()];
    const directory = directoryOf({ first: first.backend, second: second.backend });
    expect(await directory.setPassword(alice, 'new', {}, requester)).toMatchObject({
      ok: false,
      status: 400,
      message: 'too short; nothing is changed',
      allResponses: [
        { backend: 'first', outcome: 'refused' },
        { backend: 'second', outcome: 'untouched' },
      ],
    });
    expect(second.told).toEqual([]);
  });

  test.each([
    [
      'refuses it',
      () => ({ ok: false, status: 400, message: 'too short' }),
      400,
      'refused',
      /"first" is changed all the same/,
    ],
    [
      'is away',
      () => Promise.reject(new UpstreamUnreachableError('gone')),
      503,
      'unknown',
      /"second" may be changed or not/,
    ],
  ] as const)(
    'that is stored where the next backend %s is said to be',
    async (_, setUser, status, outcome, message) => {
      const first = keeper();
      const second = { ...keeper().backend, setUser };
      const result = await directoryOf({ first: first.backend, second }).setPassword(alice, 'new', {}, requester);
      expect(result).toMatchObject({
        ...{ ok: false, status, message: expect.stringMatching(message) },
        allResponses: [
          { backend: 'first', outcome: 'kept' },
          { backend: 'second', outcome },
        ],
      });
    },
  );

  test('is refused where nothing that can be written keeps it', async () => {
    const readOnly = backendWith({}, { openSession: () => ok });
    const directory = directoryOf({ local: backendWith({}, { setUser: () => ok }), readOnly });
    expect(await directory.setPassword(alice, 'new', {}, requester)).toMatchObject({
      ...{ ok: false, status: 501, message: expect.stringContaining('realm pve') },
    });
  });
});

test('a user is deleted in PVE first, also where it is none of the backends of the realm, and is gone at once', async () => {
  const asked: string[] = [];
  const holding = (name: string): Backend =>
    backendWith(
      { 'bob@ldap': { attributes: {} } },
      {
        keys: ['attributes'],
        delUser: () => {
          asked.push(name);
          return { ok: true, status: 200, message: '' };
        },
      },
    );
  const root = { 'root@pve': { cluster: { admin: true } } };
  const directory = directoryOf(
    { ldap: holding('ldap'), pve: holding('pve'), localdb: backendWith(root) },
    { users: { realm: { ldap: ['ldap'], pve: ['localdb'] }, otherwise: [], any: [] } },
  );
  const bob = { id: 'bob', realm: 'ldap' };
  await directory.mustAdmit(bob);
  expect(await directory.change({ method: 'delUser', user: bob }, { username: 'root@pve', cookies: {} })).toMatchObject(
    {
      ...{ ok: true, allResponses: [{ backend: 'pve' }, { backend: 'ldap' }] },
    },
  );
  expect(asked).toEqual(['pve', 'ldap']);
  await expect(directory.mustAdmit(bob)).rejects.toThrow('bob@ldap is disabled or does not exist any more');
  await directory.mustAdmit({ id: 'bob', realm: 'pve' });
});

describe("a module of one's own", () => {
  const folder = mkdtempSync(join(tmpdir(), 'modules-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  let count = 0;

  async function load(source: string, supplies?: 'cluster'[]) {
    const file = `mine-${count++}.ts`;
    writeFileSync(join(folder, file), source);
    const database = openDatabase(join(folder, 'modules.db'));
    const upstream: Upstream = { send: () => Promise.reject(new Error('not asked')), close: () => Promise.resolve() };
    const context = { database, upstream, resources: {}, log: { info: () => {}, warn: () => {} } };
    try {
      const entry = {
        import: `./${file}`,
        config: { greeting: 'hello' },
        ...(supplies === undefined ? {} : { supplies }),
      };
      return (await loadBackends({ mine: entry }, folder, context)).get('mine');
    } finally {
      database.close();
    }
  }

  const good = `export default (config: { greeting: string }, { name }: { name: string }) => ({
    keys: ['attributes', 'cluster'],
    getUser: () => ({ attributes: { cn: config.greeting + ' from ' + name } }),
  });`;

  test('is loaded from beside the configuration, with its settings', async () => {
    const mine = await load(good);
    expect(await mine?.backend.getUser?.(alice, { cookies: {} })).toEqual({ attributes: { cn: 'hello from mine' } });
  });

  test('decides over grants only with the consent of the configuration', async () => {
    expect([...((await load(good))?.keys ?? [])]).toEqual(['attributes']);
    expect([...((await load(good, ['cluster']))?.keys ?? [])]).toEqual(['attributes', 'cluster']);
  });

  test.each([
    ['export const a = 1;', 'its default export must be a function'],
    ['export default 5;', 'its default export must be a function'],
    ['export default () => null;', 'what its factory returns must be an object'],
    [
      'export default () => ({ keys: ["admin"], getUser: 5 });',
      '"keys" must be a list with some of dn, attributes, resources, cluster, templates; "getUser" must be a function, or absent',
    ],
    ['export default () => { throw new Error("no server given") };', 'cannot be set up: no server given'],
    ['import "./nowhere.ts"; export default () => ({});', 'cannot be loaded'],
  ])('that is %s is refused', async (source, problem) => {
    await expect(load(source)).rejects.toThrow(problem);
  });
});
