import { describe, expect, test } from 'vitest';
import { completeRecord } from '../../../src/backends/normalise.ts';
import { type Growth, lineResource, overruns, quotaOf, type Standing, scopeOf } from '../../../src/quota/limits.ts';
import type { UserRecord } from '../../../src/quota/record.ts';
import { resourcesSchema } from '../../../src/quota/resources.ts';
import { GiB, MiB } from './instances.ts';

const resources = resourcesSchema.parse({
  cores: { type: 'numeric', unit: 'Cores' },
  memory: { type: 'numeric', multiplier: MiB, compact: true, unit: 'B' },
  network: { type: 'numeric', multiplier: 1_000_000, base: 1000, compact: true, unit: 'B/s' },
  ceph: { type: 'storage', compact: true, unit: 'B' },
  cpu: { type: 'list' },
  pci: { type: 'list' },
});
const blacklists = resourcesSchema.parse({
  cpu: { type: 'list', whitelist: false },
  pci: { type: 'list', whitelist: false },
});

function quota(limits: UserRecord['resources'], declared = resources, record: Partial<UserRecord> = {}) {
  return quotaOf('alice@pve', { ...completeRecord({}), ...record, resources: limits }, declared);
}

const max = (global: number | 'unlimited', nodes: Record<string, number | 'unlimited'> = {}) => ({
  global: { max: global },
  nodes: Object.fromEntries(Object.entries(nodes).map(([node, own]) => [node, { max: own }])),
});
const entry = (match: string, most: number | 'unlimited') => ({ match, name: match, max: most });
const listed = (...global: ReturnType<typeof entry>[]) => ({ global, nodes: {} });

const more = (resource: string, amount: number, item = '', scope = 'global'): Growth => ({
  resource,
  item,
  scope,
  amount,
});

/** What is held, by resource, scope and item; `booked` is `used` unless given. */
function holding(...held: (Growth & { booked?: number })[]) {
  return (resource: string, scope: string, counts: (item: string) => boolean): Standing => {
    const of = held.filter((one) => one.resource === resource && one.scope === scope && counts(one.item));
    return {
      used: of.reduce((total, { amount }) => total + amount, 0),
      booked: of.reduce((total, { amount, booked }) => total + (booked ?? amount), 0),
    };
  };
}

describe('amounts', () => {
  const limited = quota({ cores: max(8), memory: max(1024), ceph: max(10 * GiB), network: max(12.5) });

  test('growth exactly to the limit passes, one more does not', () => {
    const held = holding(more('cores', 6));
    expect(overruns(limited, [more('cores', 2)], held)).toEqual([]);
    expect(overruns(limited, [more('cores', 3)], held)).toMatchObject([
      { resource: 'cores', scope: 'global', requested: 3, used: 6, reserved: 0, limit: 8, available: 2 },
    ]);
  });

  test('what is reserved counts like what is used', () => {
    expect(overruns(limited, [more('cores', 2)], holding({ ...more('cores', 3), booked: 7 }))).toMatchObject([
      { requested: 2, used: 3, reserved: 4, limit: 8, available: 1, payer: 'alice@pve' },
    ]);
  });

  test('nothing more passes, also above the limit', () => {
    const above = holding(more('cores', 20));
    expect(overruns(limited, [more('cores', 0), more('memory', -5)], above)).toEqual([]);
    expect(overruns(limited, [more('cores', 1)], above)).toMatchObject([{ available: 0 }]);
  });

  test('a quota number times the multiplier is the real amount', () => {
    expect(overruns(limited, [more('memory', 1024 * MiB)], holding())).toEqual([]);
    expect(overruns(limited, [more('memory', 1024 * MiB + 1)], holding())).toMatchObject([{ limit: 1024 * MiB }]);
    expect(overruns(limited, [more('network', 12_500_000)], holding())).toEqual([]);
    expect(overruns(limited, [more('network', 12_500_001)], holding())).toMatchObject([{ limit: 12_500_000 }]);
  });

  test("a part of a base unit is nobody's", () => {
    expect(overruns(quota({ cores: max(1.9) }), [more('cores', 2)], holding())).toMatchObject([{ limit: 1 }]);
  });

  test('no limit means limit zero, in the record as in the configuration', () => {
    expect(overruns(quota({}), [more('cores', 1)], holding())).toMatchObject([{ limit: 0, available: 0 }]);
    expect(overruns(quota({}), [more('storage:other', 1)], holding())).toMatchObject([
      { limit: 0, sentence: expect.stringContaining('no such resource configured') },
    ]);
    expect(overruns(quota({}), [more('cpu', 1, 'host'), more('pci', 1, 'T4')], holding())).toHaveLength(2);
  });

  test('unlimited is unlimited', () => {
    const free = quota({ cores: max('unlimited'), network: max('unlimited') });
    expect(overruns(free, [more('cores', 1e12)], holding(more('cores', 1e12)))).toEqual([]);
    expect(overruns(free, [more('network', 1, 'unlimited')], holding())).toEqual([]);
  });

  test.each([
    ['network', 12.5, '12.5 MB/s'],
    ['storage:ceph', 12.5, '12 B'],
  ])('what has no limit of its own in %s needs an unlimited quota', (resource, most, shown) => {
    const name = resource.replace('storage:', '');
    expect(overruns(quota({ [name]: max(most) }), [more(resource, 1, 'unlimited')], holding())).toMatchObject([
      { resource, item: 'unlimited', sentence: expect.stringMatching(new RegExp(`unlimited quota.*${shown}$`)) },
    ]);
  });

  test('unlimited cards do not count as bytes', () => {
    const held = holding(more('network', 40, 'unlimited'), more('network', 12_499_999));
    expect(overruns(limited, [more('network', 1)], held)).toEqual([]);
  });

  test('a node with a limit of its own is charged to that alone', () => {
    const own = quota({ cores: max(8, { n1: 2, n2: 'unlimited' }) });
    expect(['n1', 'n2', 'n3'].map((node) => scopeOf(own, 'cores', node))).toEqual(['n1', 'n2', 'global']);
    expect(scopeOf(own, 'memory', 'n1')).toBe('global');
    const held = holding(more('cores', 8), more('cores', 1, '', 'n1'));
    expect(overruns(own, [more('cores', 1, '', 'n1'), more('cores', 99, '', 'n2')], held)).toEqual([]);
    expect(overruns(own, [more('cores', 2, '', 'n1')], held)).toMatchObject([
      { scope: 'n1', limit: 2, available: 1, sentence: expect.stringContaining('cores on node n1') },
    ]);
    expect(overruns(own, [more('cores', 1)], held)).toMatchObject([{ scope: 'global', limit: 8 }]);
  });

  test('every limit that breaks is told at once', () => {
    const growths = [more('cores', 9), more('memory', GiB), more('storage:ceph', 11 * GiB), more('cpu', 1, 'host')];
    expect(overruns(limited, growths, holding()).map(({ resource }) => resource)).toEqual([
      'cores',
      'storage:ceph',
      'cpu',
    ]);
  });

  test('the sentence gives the numbers as people read them', () => {
    const held = holding({ ...more('storage:ceph', 4 * GiB), booked: 6.5 * GiB });
    expect(overruns(limited, [more('storage:ceph', 8 * GiB)], held)[0]?.sentence).toBe(
      'storage ceph: 8 GiB more requested, 3.5 GiB left (4 GiB used, 2.5 GiB reserved by changes under way, limit 10 GiB)',
    );
    expect(overruns(limited, [more('cores', 3)], holding(more('cores', 6)))[0]?.sentence).toBe(
      'cores: 3 more requested, 2 left (6 used, limit 8)',
    );
  });
});

test('backups are limited for each instance by itself', () => {
  const { limits } = quota({});
  const two = { user: 'alice@pve', limits: new Map([...limits, ['backups', { kind: 'each' as const, max: 2 }]]) };
  const one = (vmid: string): Growth => ({ resource: 'backups', item: vmid, scope: 'global', amount: 1 });
  const held = holding({ ...one('100'), amount: 2 }, { ...one('101'), amount: 1 });
  expect(overruns(two, [one('101')], held)).toEqual([]);
  expect(overruns(two, [one('100')], held)[0]?.sentence).toBe(
    'backups of instance 100: 2 of 2 taken; delete one first',
  );
});

describe('lists', () => {
  const devices = quota({ pci: listed(entry('Tesla', 2), entry('ConnectX', 'unlimited'), entry('Quadro', 0)) });

  test.each<[string, Growth[], Growth[], string[]]>([
    ['a listed device passes by a part of its name', [more('pci', 1, 'NVIDIA Tesla T4')], [], []],
    ['as many as listed pass', [more('pci', 2, 'Tesla T4')], [], []],
    ['one more than listed does not', [more('pci', 3, 'Tesla T4')], [], ['Tesla T4']],
    ['what is held counts', [more('pci', 2, 'Tesla T4')], [more('pci', 1, 'Tesla T4')], ['Tesla T4']],
    [
      'all that match one entry count together',
      [more('pci', 1, 'Tesla P40')],
      [more('pci', 2, 'Tesla T4')],
      ['Tesla P40'],
    ],
    [
      'several of one call count together',
      [more('pci', 1, 'Tesla T4'), more('pci', 2, 'Tesla P40')],
      [],
      ['Tesla T4', 'Tesla P40'],
    ],
    ['what matches another entry does not count', [more('pci', 2, 'Tesla T4')], [more('pci', 5, 'ConnectX-6')], []],
    ['an unlimited entry has no end', [more('pci', 50, 'ConnectX-6')], [more('pci', 50, 'ConnectX-6')], []],
    ['an entry of zero allows nothing', [more('pci', 1, 'Quadro P4000')], [], ['Quadro P4000']],
    ['what is not listed is refused', [more('pci', 1, 'Radeon')], [], ['Radeon']],
    ['letter case matters', [more('pci', 1, 'tesla t4')], [], ['tesla t4']],
    [
      'a shrinking growth lends nothing',
      [more('pci', 2, 'Tesla T4'), more('pci', -1, 'Tesla P40')],
      [more('pci', 1, 'Tesla P40')],
      ['Tesla T4'],
    ],
  ])('%s', (_, growths, held, refused) => {
    expect(overruns(devices, growths, holding(...held)).map(({ item }) => item)).toEqual(refused);
  });

  test('a record that says nothing of the list lists nothing', () => {
    const empty = quota(completeRecord({ resources: { pci: { nodes: {} } } }).resources);
    expect(overruns(empty, [more('pci', 1, 'Tesla T4')], holding())).toHaveLength(1);
  });

  test('the sentence tells what is allowed, or how many are taken', () => {
    expect(overruns(devices, [more('pci', 1, 'Radeon')], holding())[0]?.sentence).toBe(
      'pci: "Radeon" is not in your quota (allowed: Tesla, ConnectX)',
    );
    expect(overruns(quota({}), [more('pci', 1, 'Radeon')], holding())[0]?.sentence).toContain('nothing is');
    expect(overruns(devices, [more('pci', 1, 'Tesla T4')], holding(more('pci', 2, 'Tesla T4')))[0]?.sentence).toBe(
      'pci: "Tesla T4": 2 of 2 already taken',
    );
  });

  test('the first entry that matches decides', () => {
    const first = quota({ pci: listed(entry('T4', 0), entry('Tesla', 2)) });
    expect(overruns(first, [more('pci', 1, 'Tesla T4')], holding())).toHaveLength(1);
    expect(overruns(first, [more('pci', 1, 'Tesla P40')], holding())).toEqual([]);
  });

  test('a node with a list of its own knows no other', () => {
    const own = quota({ pci: { global: [entry('Tesla', 1)], nodes: { n1: [entry('Radeon', 1)] } } });
    expect(overruns(own, [more('pci', 1, 'Tesla', 'n1')], holding())).toHaveLength(1);
    expect(overruns(own, [more('pci', 1, 'Radeon', 'n1')], holding())).toEqual([]);
    expect(overruns(own, [more('pci', 1, 'Radeon')], holding())).toHaveLength(1);
  });

  test.each([
    ['kvm64', true],
    ['EPYC', false],
    ['kvm6', false],
    ['EPYC,hv-vendor-id=kvm64', false],
    ['x-kvm64', false],
  ])('the CPU type %s is compared by its whole name', (type, allowed) => {
    const types = quota({ cpu: listed(entry('kvm64', 1), entry('EPYC', 0)) });
    expect(overruns(types, [more('cpu', 1, type)], holding(more('cpu', 5, 'kvm64'))).length === 0).toBe(allowed);
  });

  test("the CPU type that the administrator's template gives is granted", () => {
    const templates: UserRecord['templates'] = {
      instances: { qemu: { cpu: { value: 'host,flags=+aes', resource: null } }, lxc: {} },
      network: {},
    };
    const types = quota({ cpu: listed() }, resources, { templates });
    expect(overruns(types, [more('cpu', 1, 'host')], holding())).toEqual([]);
    expect(overruns(types, [more('cpu', 1, 'max')], holding())).toHaveLength(1);
  });

  test.each([
    ['cpu', 'host', ['host']],
    ['cpu', 'max', []],
    ['pci', 'Tesla T4', ['Tesla T4']],
    ['pci', 'Radeon', []],
    ['pci', 'Quadro', []],
  ])('a list of what is excluded lets %s %s pass unless it is on it', (resource, item, refused) => {
    const excluded = quota(
      { cpu: listed(entry('host', 1)), pci: listed(entry('Tesla', 1), entry('Quadro', 0)) },
      blacklists,
    );
    const found = overruns(excluded, [more(resource, 1, item)], holding());
    expect(found.map((overrun) => overrun.item)).toEqual(refused);
    for (const { sentence } of found) expect(sentence).toContain('is excluded from your quota');
  });
});

test('a storage is told from a key of the same name', () => {
  expect(lineResource('ceph', resources)).toBe('storage:ceph');
  expect(lineResource('cores', resources)).toBe('cores');
});
