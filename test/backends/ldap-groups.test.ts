import { expect, test } from 'vitest';
import { type Backend, formatGroupName, formatUserName, type RecordKey } from '../../src/backends/backend.ts';
import { Directory } from '../../src/backends/directory.ts';
import { hasSlapd, startSlapd } from '../support/slapd.ts';
import { ldapSubject } from './subjects.ts';

const skip = !hasSlapd && process.env.CI !== 'true';

/** A directory over LDAP and records, in which the group `lab` gives its members a pool of that name. */
function directoryOver(ldap: Backend, more: Partial<Backend> = {}, now = () => 0): Directory {
  const records: Backend = {
    keys: ['cluster'],
    getUser: () => null,
    getAllUsers: () => ({}),
    getGroup: (group) => (formatGroupName(group) === 'lab@ldap' ? { cluster: { pools: { lab: true } } } : null),
    ...more,
  };
  const loaded = (name: string, backend: Backend) =>
    [name, { name, backend, keys: new Set<RecordKey>(backend.keys) }] as const;
  return new Directory({
    backends: new Map([loaded('ldap', ldap), loaded('records', records)]),
    users: { realm: { ldap: ['ldap', 'records'] }, otherwise: [], any: ['ldap', 'records'], groups: ['lab@ldap'] },
    pve: 'pve',
    defaultuser: {},
    resources: {},
    log: { warn: () => {} },
    now,
  });
}

test.skipIf(skip)('whatever a name is like, its limits and those of its groups are its own alone', async () => {
  await using slapd = await startSlapd();
  await using subject = await ldapSubject(slapd);
  const { backend, newUser = {} } = subject;
  const admin = { username: 'root@pam', cookies: {}, admin: true };
  const group = { id: 'lab', realm: 'ldap' };
  const ids = ['x@y', 'a,b', 'd+sn=e', 'h\\i', 'o*p', '(q)', '#r', 'j\u00e9', 'n'.repeat(59)];
  for (const id of ids) {
    const user = { id, realm: 'ldap' };
    expect(await backend.addUser?.(user, newUser, admin), id).toMatchObject({ ok: true });
    expect(await backend.addUserToGroup?.(user, group, admin), id).toMatchObject({ ok: true });
  }
  const own = new Map(ids.map((id, index) => [`${id}@ldap`, { cluster: { backups: { max: index + 1 } } }]));
  const directory = directoryOver(backend, {
    getUser: (user) => own.get(formatUserName(user)) ?? null,
    getAllUsers: () => Object.fromEntries(own),
  });
  const members = new Set((await backend.membersOf?.(group))?.map(({ id }) => id));
  expect(members).toEqual(new Set(['alice', ...ids]));
  const records = await directory.records();
  expect(new Set(records.keys())).toEqual(new Set(['alice@ldap', ...own.keys()]));
  for (const [index, id] of ids.entries()) {
    const record = await directory.record({ id, realm: 'ldap' });
    expect(record.cluster, id).toMatchObject({ pools: { lab: true }, backups: { max: index + 1 } });
    expect(records.get(`${id}@ldap`), id).toEqual(record);
  }
  // As PVE may write others, whom LDAP takes for the same.
  const others = ['ALICE', 'Alice', 'X@y', 'A,B', 'je\u0301', 'J\u00c9', '\u24d0lice', 'N'.repeat(59), 'ali\u00adce'];
  for (const id of others) {
    const user = { id, realm: 'ldap' };
    expect((await directory.record(user)).cluster, id).toMatchObject({ pools: {}, backups: { max: 0 } });
    const requester = { username: formatUserName(user), cookies: {} };
    expect(await directory.getUser(user, requester), id).toEqual(await directory.record(user));
  }
  for (const id of ['\0', 'a\0', '', 'n'.repeat(300), '\ud800']) {
    const user = { id, realm: 'ldap' };
    expect(await backend.admits?.(user), JSON.stringify(id)).toBe(false);
    expect(await backend.addUser?.(user, newUser, admin), JSON.stringify(id)).toMatchObject({ ok: false, status: 400 });
  }
});

test.skipIf(skip)(
  "a group of an LDAP directory gives its members limits, and while it is away nobody's record is there",
  async () => {
    await using slapd = await startSlapd();
    await using subject = await ldapSubject(slapd, { deadline: 1 });
    let now = 0;
    const directory = directoryOver(subject.backend, {}, () => now);
    const pools = async (id: string) => (await directory.record({ id, realm: 'ldap' })).cluster.pools;
    expect(directory.faults()).toEqual([]);
    expect([await pools('alice'), await pools('bob')]).toEqual([{ lab: true }, {}]);
    expect([...(await directory.records()).keys()]).toEqual(['alice@ldap']);

    await subject.trouble?.('away');
    now = 5000;
    const questions = [
      () => pools('alice'),
      () => pools('bob'),
      () => directory.records(),
      () => directory.admit({ id: 'bob', realm: 'ldap' }),
    ];
    for (const ask of questions) await expect(ask()).rejects.toThrow('Backend "ldap"');
    await subject.recover?.();
    expect(await pools('alice')).toEqual({ lab: true });
  },
);
