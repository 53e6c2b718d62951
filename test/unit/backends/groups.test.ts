import { describe, expect, test } from 'vitest';
import type { Backend, BackendData, GroupName, RecordKey } from '../../../src/backends/backend.ts';
import { formatGroupName, formatUserName, parseGroupName } from '../../../src/backends/backend.ts';
import { Directory, type DirectoryOptions } from '../../../src/backends/directory.ts';
import { UnauthenticatedError, UpstreamBrokenError } from '../../../src/errors.ts';

const alice = { id: 'alice', realm: 'ldap' };
const bob = { id: 'bob', realm: 'ldap' };
const carl = { id: 'carl', realm: 'pve' };

/** A backend that decides, with records of users and groups. */
function deciding(
  users: Readonly<Record<string, BackendData>>,
  groups: Readonly<Record<string, BackendData>>,
): Backend {
  return {
    keys: ['cluster', 'resources', 'templates'],
    version: () => 1,
    getUser: (user) => users[formatUserName(user)] ?? null,
    getAllUsers: () => users,
    getGroup: (group) => groups[formatGroupName(group)] ?? null,
    getAllGroups: () => groups,
  };
}

/** A backend that tells who is in which group. */
function telling(members: Readonly<Record<string, readonly string[]>>, more: Partial<Backend> = {}): Backend {
  return {
    keys: ['dn', 'attributes'],
    groupsOf: (user) =>
      Object.keys(members)
        .filter((group) => members[group]?.includes(formatUserName(user)))
        .map(parseGroupName),
    membersOf: (group: GroupName) =>
      (members[formatGroupName(group)] ?? []).map((name) => ({
        id: name.split('@')[0] ?? '',
        realm: name.split('@')[1] ?? '',
      })),
    ...more,
  };
}

const backup = (max: number) => ({ cluster: { backups: { max } } });

function directoryOf(
  backends: { readonly localdb: Backend; readonly ldap: Backend; readonly pve: Backend },
  groups: readonly string[],
  options: Partial<DirectoryOptions> = {},
) {
  return new Directory({
    backends: new Map(
      Object.entries(backends).map(([name, backend]) => [
        name,
        { name, backend, keys: new Set<RecordKey>(backend.keys) },
      ]),
    ),
    users: {
      realm: { ldap: ['ldap', 'localdb'], pve: ['pve', 'localdb'] },
      otherwise: [],
      any: ['ldap', 'localdb'],
      groups,
    },
    pve: 'pve',
    defaultuser: { cluster: { nodes: { n1: true }, backups: { max: 1 } } },
    resources: {},
    log: { warn: () => {} },
    now: () => 0,
    ...options,
  });
}

const ldap = telling({
  'students@ldap': ['alice@ldap', 'bob@ldap'],
  'staff@ldap': ['alice@ldap'],
  'cinema@ldap': ['bob@ldap'],
});
const pve = telling({ everyone: ['alice@ldap', 'carl@pve'] });
const groups = {
  everyone: { cluster: { pools: { lab: true } } },
  'students@ldap': { cluster: { pools: { lab: false, exam: true }, backups: { max: 2 } } },
  'staff@ldap': backup(5),
  'cinema@ldap': { cluster: { admin: true } },
};
const localdb = deciding({ 'alice@ldap': { cluster: { pools: { own: true } } } }, groups);
const listed = ['everyone@pve', 'students@ldap', 'staff@ldap'];

describe('groups that carry limits', () => {
  test('count in their order between the default user and the user, the last one most', async () => {
    const directory = directoryOf({ localdb, ldap, pve }, listed);
    expect((await directory.record(alice)).cluster).toMatchObject({
      nodes: { n1: true },
      pools: { exam: true, own: true },
      backups: { max: 5 },
    });
    expect((await directory.record(bob)).cluster).toMatchObject({ pools: { exam: true }, backups: { max: 2 } });
    expect((await directory.record(carl)).cluster).toMatchObject({ pools: { lab: true }, backups: { max: 1 } });
    const turned = directoryOf({ localdb, ldap, pve }, listed.toReversed());
    expect((await turned.record(alice)).cluster).toMatchObject({
      pools: { lab: true, exam: true },
      backups: { max: 2 },
    });
  });

  test('are overruled by what is said of the user alone', async () => {
    const own = { cluster: { backups: { max: 9 }, pools: { exam: false } } };
    const directory = directoryOf({ localdb: deciding({ 'alice@ldap': own }, groups), ldap, pve }, listed);
    const requester = { username: 'alice@ldap', cookies: {} };
    const records = [
      await directory.record(alice),
      (await directory.records()).get('alice@ldap'),
      await directory.getUser(alice, requester),
    ];
    for (const record of records) expect(record?.cluster).toMatchObject({ backups: { max: 9 }, pools: {} });
    const rows = (await directory.explain(alice, requester)) ?? [];
    expect(rows.find(({ key }) => key === 'cluster.backups.max')?.source).toEqual({ from: 'user', backend: 'localdb' });
  });

  test('give their members nothing of who the group is', async () => {
    const named = { 'students@ldap': { dn: 'cn=students', attributes: { cn: 'Students', mail: 's@example.org' } } };
    const records = { ...deciding({}, named), keys: ['dn', 'attributes', 'cluster'] as const };
    const { dn, attributes } = await directoryOf({ localdb: records, ldap, pve }, listed).record(alice);
    expect([dn, attributes]).toEqual([undefined, { memberOf: [] }]);
  });

  test("are what backends of the user's realm say, and no others", async () => {
    const users = { realm: { ldap: ['ldap'], pve: ['pve', 'localdb'] }, otherwise: [], any: [], groups: listed };
    const directory = directoryOf({ localdb, ldap, pve }, listed, { users });
    const records = await directory.records();
    for (const user of [alice, bob]) {
      expect((await directory.record(user)).cluster).toMatchObject({ pools: {}, backups: { max: 1 } });
      expect(records.get(formatUserName(user))).toEqual(await directory.record(user));
    }
    expect((await directory.record(carl)).cluster.pools).toEqual({ lab: true });
  });

  test('have whom any backend of their realm says to be in them', async () => {
    const other = telling({ 'students@ldap': [] });
    for (const realm of [
      ['ldap', 'pve', 'localdb'],
      ['pve', 'ldap', 'localdb'],
    ]) {
      const users = { realm: { ldap: realm }, otherwise: [], any: [], groups: ['students@ldap'] };
      const directory = directoryOf({ localdb, ldap, pve: other }, [], { users, pve: 'none of these' });
      expect((await directory.record(bob)).cluster.backups).toEqual({ max: 2 });
      expect((await directory.records()).get('bob@ldap')?.cluster.backups).toEqual({ max: 2 });
    }
  });

  test('are shown as all backends for lists tell of them, the last one most', async () => {
    const [first, last] = [
      deciding({}, { lab: backup(1) }),
      deciding({}, { lab: { cluster: { backups: { max: 2 } } } }),
    ];
    const boss = deciding({ 'root@pve': { cluster: { admin: true } } }, {});
    const users = { realm: { pve: ['pve'] }, otherwise: [], any: ['ldap', 'localdb'] };
    const directory = directoryOf({ localdb: last, ldap: first, pve: boss }, [], { users });
    const root = { username: 'root@pve', cookies: {} };
    expect(await directory.getGroup({ id: 'lab' }, root)).toEqual(backup(2));
    expect((await directory.getAllGroups(root)).get('lab')).toEqual(backup(2));
  });

  test('are not shown with members of a group of the same name elsewhere', async () => {
    const sees: Backend = { ...ldap, keys: ['attributes'], getGroup: () => ({ attributes: { member: ['uid=eve'] } }) };
    const boss = deciding({ 'root@pve': { cluster: { admin: true } } }, { everyone: backup(1) });
    const users = { realm: { ldap: ['ldap'], pve: ['localdb'] }, otherwise: [], any: ['pve', 'ldap', 'localdb'] };
    const directory = directoryOf({ localdb: boss, ldap: sees, pve }, [], { users });
    const root = { username: 'root@pve', cookies: {} };
    expect(await directory.getGroup({ id: 'everyone' }, root)).toEqual(backup(1));
    expect(await directory.getGroup({ id: 'everyone', realm: 'ldap' }, root)).toMatchObject({
      attributes: { member: ['uid=eve'] },
    });
  });

  test('are all that is shown of those of whom nobody else knows anything', async () => {
    const directory = directoryOf({ localdb: deciding({}, groups), ldap, pve }, listed);
    const asked = { username: 'carl@pve', cookies: {} };
    expect((await directory.getUser(carl, asked))?.cluster.pools).toEqual({ lab: true });
    const source = { from: 'group', group: 'everyone', backend: 'localdb' };
    expect(await directory.explain(carl, asked)).toContainEqual({ key: 'cluster.pools.lab', value: true, source });
    const stranger = { id: 'dave', realm: 'pve' };
    expect(await directory.explain(stranger, { username: 'dave@pve', cookies: {} })).toContainEqual({
      ...{ key: 'cluster.admin', value: false },
      source: { from: 'default' },
    });
    expect(await directory.getUser(stranger, asked)).toBeNull();
  });

  test('that are misspelt, have no limits, or are not listed, are hinted at; while nobody can tell, they are not', async () => {
    const known: Backend = { ...ldap, getGroup: ({ id }) => (id === 'nobody' ? null : { dn: `cn=${id}` }) };
    const away: Backend = { ...pve, getGroup: () => Promise.reject(new Error('away')) };
    const names = ['students@ldap', 'nobody@ldap', 'empty@ldap', 'everyone'];
    expect(await directoryOf({ localdb, ldap: known, pve: away }, names).hints()).toEqual([
      expect.stringMatching(/"nobody@ldap", and there is no such group/),
      expect.stringMatching(/"empty@ldap", and no backend has limits for it: give some with node \. group set/),
      expect.stringMatching(/does not name "staff@ldap", for which "localdb" has limits/),
      expect.stringMatching(/does not name "cinema@ldap"/),
    ]);
  });

  test('are hinted at also where a module lists a group of which it says nothing', async () => {
    const careless = deciding({}, { lab: null as unknown as BackendData, 'cinema@ldap': backup(1) });
    expect(await directoryOf({ localdb: careless, ldap, pve }, []).hints()).toEqual([
      expect.stringMatching(/does not name "cinema@ldap"/),
    ]);
  });

  test.each([
    [{ 'alice@pve': {} }, [/^PVE knows no alcie@pve, of whom "localdb" has records: see how they are written/]],
    [{ 'alice@pve': {}, 'alcie@pve': {} }, []],
    [null, []],
  ])('are hinted at beside records of whom PVE does not know, if it knows %j', async (known, hints) => {
    const written = deciding({ 'alice@pve': backup(1), 'alcie@pve': backup(2) }, {});
    const directory = directoryOf({ localdb: written, ldap, pve: { ...pve, getAllUsers: () => known } }, []);
    expect(await directory.hints()).toEqual(hints.map((hint) => expect.stringMatching(hint)));
  });

  test('are the listed ones alone', async () => {
    expect((await directoryOf({ localdb, ldap, pve }, listed).record(bob)).cluster.admin).toBe(false);
    expect((await directoryOf({ localdb, ldap, pve }, [...listed, 'cinema@ldap']).record(bob)).cluster.admin).toBe(
      true,
    );
  });

  test('give in the list of records what they give each, also to those without a record of their own', async () => {
    const directory = directoryOf({ localdb, ldap, pve }, listed);
    const records = await directory.records();
    expect([...records.keys()].toSorted()).toEqual(['alice@ldap', 'bob@ldap', 'carl@pve']);
    for (const user of [alice, bob, carl])
      expect(records.get(formatUserName(user))).toEqual(await directory.record(user));
  });

  test('are found by the lists of a backend that has no list of members', async () => {
    const dn = 'cn=students,dc=example';
    const { membersOf: _, ...untold } = ldap;
    const lists: Backend = {
      ...untold,
      getGroup: ({ id }) => (id === 'students' ? { dn } : null),
      getAllUsers: () => ({
        'alice@ldap': { attributes: { memberOf: [dn] } },
        'bob@ldap': { attributes: { memberOf: [] } },
      }),
    };
    const records = await directoryOf({ localdb: deciding({}, groups), ldap: lists, pve }, ['students@ldap']).records();
    expect([...records.keys()]).toEqual(['alice@ldap']);
  });

  test('take no word from the backends of another realm', async () => {
    const boasting = telling({ everyone: ['bob@ldap'], 'staff@other': ['bob@ldap'] });
    const directory = directoryOf({ localdb, ldap: boasting, pve: telling({ 'students@ldap': ['carl@pve'] }) }, listed);
    expect((await directory.record(bob)).cluster.backups).toEqual({ max: 1 });
    expect((await directory.record(bob)).cluster.pools).toEqual({});
    expect((await directory.record(carl)).cluster.pools).toEqual({});
  });

  test('are never left out: while nobody can tell who is in them, there is no record', async () => {
    const away = () => Promise.reject(new TypeError('connection refused'));
    const directory = directoryOf({ localdb, ldap: telling({}, { groupsOf: away, membersOf: away }), pve }, listed);
    await expect(directory.record(alice)).rejects.toThrow(UpstreamBrokenError);
    await expect(directory.record(alice)).rejects.toThrow('Backend "ldap"');
    await expect(directory.records()).rejects.toThrow('Backend "ldap"');
    // Whom the directory cannot know is not affected.
    await expect(directory.record(carl)).resolves.toBeDefined();
  });

  test('need a backend that can tell of their members without a session', () => {
    const silent: Backend = { keys: ['attributes'], getUser: () => null };
    expect(directoryOf({ localdb, ldap: silent, pve }, listed).faults()).toMatchObject([
      { field: 'handlers.users.groups', problem: expect.stringContaining('"students@ldap"') },
      { problem: expect.stringContaining('"staff@ldap"') },
    ]);
    expect(directoryOf({ localdb, ldap, pve }, listed).faults()).toEqual([]);
  });

  test('are believed for five seconds, and at once when their record changes', async () => {
    let [now, version, asked] = [0, 1, 0];
    const counted: Backend = {
      ...ldap,
      groupsOf: (user) => {
        asked += 1;
        return ldap.groupsOf?.(user) ?? [];
      },
    };
    const versioned = { ...localdb, version: () => version };
    const directory = directoryOf({ localdb: versioned, ldap: counted, pve }, listed, { now: () => now });
    for (now of [0, 2999, 5000]) await directory.record(alice);
    expect(asked).toBe(2);
    version += 1;
    await directory.record(alice);
    expect(asked).toBe(3);
  });

  test('are named as the source of what they give', async () => {
    const directory = directoryOf({ localdb, ldap, pve }, listed);
    const rows = (await directory.explain(alice, { username: 'alice@ldap', cookies: {} })) ?? [];
    const source = (key: string) => rows.find((row) => row.key === key)?.source;
    expect(source('cluster.backups.max')).toEqual({ from: 'group', group: 'staff@ldap', backend: 'localdb' });
    expect(source('cluster.pools.own')).toEqual({ from: 'user', backend: 'localdb' });
    expect(source('cluster.nodes.n1')).toEqual({ from: 'default' });
    expect(await directory.explain(alice, { username: 'bob@ldap', cookies: {} })).toBeNull();
  });
});

test('a backend that cannot tell who may go on is told at start, with what it says', async () => {
  const admitting = (admits: Backend['admits']) =>
    directoryOf({ localdb: deciding({}, {}), ldap: { ...ldap, ...(admits && { admits }) }, pve }, []).hints();
  const refused = () => Promise.reject(new UpstreamBrokenError('The account cn=proxy of "bind" is refused'));
  expect(await admitting(refused)).toEqual([
    'nobody of the realm ldap is let in: Backend "ldap": The account cn=proxy of "bind" is refused',
  ]);
  for (const known of [() => false, () => true, undefined]) expect(await admitting(known)).toEqual([]);
});

test('a user who is disabled or gone has no record to act with, and pays all the same', async () => {
  let [now, active] = [0, true];
  const disabling = telling({}, { admits: () => active });
  const directory = directoryOf({ localdb, ldap: disabling, pve }, [], { now: () => now });
  expect(await directory.admit(alice)).toEqual(await directory.record(alice));
  active = false;
  now = 5000;
  await expect(directory.admit(alice)).rejects.toThrow(UnauthenticatedError);
  await expect(directory.record(alice)).resolves.toBeDefined();
  await expect(directory.admit(carl)).resolves.toBeDefined();
});

test('signing out names the backends that did not do it, and asks those of the realm alone', async () => {
  const closed: string[] = [];
  const closing = (name: string, ok: boolean): Partial<Backend> => ({
    closeSession: async () => {
      closed.push(name);
      if (!ok) throw new Error('away');
      return { ok: true, status: 200, message: '' };
    },
  });
  const away = telling({}, closing('ldap', false));
  const directory = directoryOf({ localdb, ldap: away, pve: telling({}, closing('pve', true)) }, []);
  expect(await directory.closeSession({ username: 'alice@ldap', cookies: {} })).toEqual(['ldap']);
  expect(closed.toSorted()).toEqual(['ldap', 'pve']);
  expect(await directory.closeSession({ username: 'carl@pve', cookies: {} })).toEqual([]);
  expect(closed.toSorted()).toEqual(['ldap', 'pve', 'pve']);
});
