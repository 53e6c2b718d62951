import { expect, test } from 'vitest';
import { type Backend, formatGroupName, type RecordKey } from '../../src/backends/backend.ts';
import { Directory } from '../../src/backends/directory.ts';
import { hasSlapd, startSlapd } from '../support/slapd.ts';
import { ldapSubject } from './subjects.ts';

const skip = !hasSlapd && process.env.CI !== 'true';

test.skipIf(skip)(
  "a group of an LDAP directory gives its members limits, and while it is away nobody's record is there",
  async () => {
    await using slapd = await startSlapd();
    await using subject = await ldapSubject(slapd, { deadline: 1 });
    const records: Backend = {
      keys: ['cluster'],
      getUser: () => null,
      getAllUsers: () => ({}),
      getGroup: (group) => (formatGroupName(group) === 'lab@ldap' ? { cluster: { pools: { lab: true } } } : null),
    };
    const loaded = (name: string, backend: Backend) =>
      [name, { name, backend, keys: new Set<RecordKey>(backend.keys) }] as const;
    let now = 0;
    const directory = new Directory({
      backends: new Map([loaded('ldap', subject.backend), loaded('records', records)]),
      users: { realm: { ldap: ['ldap', 'records'] }, otherwise: [], any: ['ldap', 'records'], groups: ['lab@ldap'] },
      pve: 'pve',
      defaultuser: {},
      resources: {},
      log: { warn: () => {} },
      now: () => now,
    });
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
