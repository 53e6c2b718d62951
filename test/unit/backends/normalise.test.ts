import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { completeRecord, mergeRecords, normaliseRecord, type RecordPatch } from '../../../src/backends/normalise.ts';
import type { Resources } from '../../../src/quota/resources.ts';
import { fits } from '../../../src/schema.ts';

const presented = { display: true, category: '' };
const numeric = {
  ...presented,
  type: 'numeric',
  name: '',
  multiplier: 1,
  base: 1024,
  compact: false,
  unit: '',
} as const;
const resources: Resources = { cores: numeric, memory: numeric, cpu: { ...presented, type: 'list', whitelist: true } };

function normalised(input: unknown): RecordPatch {
  const checked = normaliseRecord(input, resources);
  if (!fits(checked)) throw new Error(JSON.stringify(checked.faults));
  return checked.value;
}

describe('records of every age come out in one form', () => {
  test.each<[string, unknown, RecordPatch]>([
    ['nothing stays nothing', {}, {}],
    ['a top-level list of nodes', { nodes: ['n1', 'n2'] }, { cluster: { nodes: { n1: true, n2: true } } }],
    ['one pool as text', { cluster: { pool: 'lab' } }, { cluster: { pools: { lab: true } } }],
    ['no pool as empty text', { cluster: { pool: '' } }, { cluster: { pools: {} } }],
    ['a list of pools', { cluster: { pools: ['a', 'b'] } }, { cluster: { pools: { a: true, b: true } } }],
    [
      'pools and nodes of today',
      { cluster: { pools: { a: true }, nodes: { n: false } } },
      { cluster: { pools: { a: true }, nodes: { n: false } } },
    ],
    [
      'a range that allows nothing',
      { cluster: { vmid: { min: -1, max: -1 } } },
      { cluster: { vmid: { min: -1, max: -1 } } },
    ],
    [
      'limits without scopes',
      { resources: { cores: { max: 4 }, cpu: [{ match: 'host', max: 1 }] } },
      {
        resources: {
          cores: { global: { max: 4 }, nodes: {} },
          cpu: { global: [{ match: 'host', name: 'host', max: 1 }], nodes: {} },
        },
      },
    ],
    [
      'computed leftovers',
      { resources: { cores: { global: { max: 4, used: 1, avail: 3 }, nodes: {}, total: { max: 4 } } } },
      { resources: { cores: { global: { max: 4 }, nodes: {} } } },
    ],
    [
      'unlimited',
      { resources: { cores: { global: { max: 'unlimited' } } } },
      { resources: { cores: { global: { max: 'unlimited' }, nodes: {} } } },
    ],
    [
      'a network beside the templates',
      { templates: { instances: { lxc: {}, qemu: {} } }, network: { qemu: { type: 'virtio', bridge: 'vmbr0' } } },
      { templates: { instances: { lxc: {}, qemu: {} }, network: { qemu: { type: 'virtio', bridge: 'vmbr0' } } } },
    ],
  ])('%s', (_, input, patch) => {
    expect(normalised(input)).toEqual(patch);
  });

  test('normalising twice changes nothing', () => {
    const old = {
      nodes: ['n1'],
      cluster: { pool: 'lab', vmid: { min: 100, max: 199 } },
      resources: { cores: { max: 4 } },
    };
    expect(normalised(normalised(old))).toEqual(normalised(old));
  });
});

describe('what makes no sense is told with its path', () => {
  test.each<[unknown, string, RegExp]>([
    [[], '', /expected an object, got \[\]/],
    [{ clustr: {} }, 'clustr', /did you mean "cluster"/],
    [{ nodes: ['n1'], cluster: { nodes: {} } }, '', /"nodes" and "cluster.nodes" say the same/],
    [{ cluster: { admin: 'yes' } }, 'cluster.admin', /expected true or false, got "yes"/],
    [{ cluster: { vmid: { min: 200, max: 100 } } }, 'cluster.vmid', /100 <= min <= max/],
    [{ cluster: { vmid: { min: 1, max: 100 } } }, 'cluster.vmid', /100 <= min <= max/],
    [{ cluster: { vmid: { min: 100 } } }, 'cluster.vmid.max', /expected a number, got nothing/],
    [{ cluster: { pools: { a: 1 } } }, 'cluster.pools.a', /expected true or false, got 1/],
    [
      { resources: { cores: { global: { max: -1 } } } },
      'resources.cores.global.max',
      /at least 0 or "unlimited", got -1/,
    ],
    [{ resources: { cores: { global: { max: '8' } } } }, 'resources.cores.global.max', /got "8"/],
    [
      { resources: { cores: { global: { max: 1 }, nodes: { n1: { mx: 2 } } } } },
      'resources.cores.nodes.n1.max',
      /got nothing/,
    ],
    [{ resources: { cpu: { global: [{ max: 1 }] } } }, 'resources.cpu.global[0].match', /expected a text/],
    [{ resources: { cpu: { global: { max: 1 } } } }, 'resources.cpu', /configured as list/],
    [{ resources: { cores: [] } }, 'resources.cores', /configured as numeric/],
    [{ templates: { network: { qemu: { type: 'virtio' } } } }, 'templates.network.qemu.bridge', /expected a text/],
  ])('%j', (input, field, problem) => {
    const { faults } = normaliseRecord(input, resources);
    expect(faults).toContainEqual({ field, problem: expect.stringMatching(problem) });
  });
});

const names = fc.constantFrom('a', 'b', 'constructor', '__proto__');
const lists = fc.array(fc.record({ match: names, name: names, max: fc.nat() }), { maxLength: 2 });
const limitOf = <T>(limit: fc.Arbitrary<T>) =>
  fc.record({ global: limit, nodes: fc.dictionary(names, limit) }, { requiredKeys: ['nodes'] });
const networkTemplate = fc.record(
  { type: names, bridge: names, vlan: fc.integer({ min: 1, max: 4094 }), ip: fc.constantFrom('dhcp', 'manual') },
  { requiredKeys: ['type', 'bridge'] },
);
const amounts = fc.record({ max: fc.oneof(fc.nat(), fc.constant('unlimited' as const)) });
const patch: fc.Arbitrary<RecordPatch> = fc.record(
  {
    dn: fc.string(),
    attributes: fc.record({ cn: fc.string(), mail: fc.string(), memberOf: fc.array(names) }, { requiredKeys: [] }),
    resources: fc.record({ cores: limitOf(amounts), cpu: limitOf(lists) }, { requiredKeys: [] }),
    cluster: fc.record(
      {
        admin: fc.boolean(),
        nodes: fc.dictionary(names, fc.boolean()),
        pools: fc.dictionary(names, fc.boolean()),
        vmid: fc.constantFrom({ min: 100, max: 199 }, { min: -1, max: -1 }),
      },
      { requiredKeys: [] },
    ),
    templates: fc.record(
      {
        instances: fc.record({
          qemu: fc.dictionary(
            names,
            fc.record({ value: fc.string(), resource: fc.constantFrom(null, { name: 'network', amount: 1 }) }),
          ),
        }),
        network: fc.record({ qemu: networkTemplate, lxc: networkTemplate }, { requiredKeys: [] }),
      },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: [] },
);

/** Everything that a patch says, by where it says it: what is given as a whole is one thing, and an empty object nothing. */
function sayings(value: unknown, path: readonly string[] = []): readonly (readonly [string, unknown])[] {
  const [section, part] = path;
  const isWhole = (section === 'cluster' && part === 'vmid') || (part === 'instances' && path.length === 4);
  if (typeof value !== 'object' || value === null || Array.isArray(value) || isWhole)
    return [[JSON.stringify(path), value]];
  return Object.entries(value).flatMap(([key, inner]) => sayings(inner, [...path, key]));
}

describe('merging', () => {
  test('says all that either says, and where both speak what the last one says', () => {
    fc.assert(
      fc.property(fc.array(patch, { maxLength: 4 }), (patches) => {
        const said = new Map(patches.flatMap((one) => sayings(one)));
        expect(new Map(sayings(patches.reduce(mergeRecords, {})))).toEqual(said);
      }),
    );
  });

  test('replaces a limit whole whose form is another', () => {
    const [amount, list] = [{ max: 4 }, [{ match: 'a', name: 'a', max: 1 }]];
    const limit = (global: typeof amount | typeof list) =>
      ({ resources: { odd: { global, nodes: {} } } }) as RecordPatch;
    expect(mergeRecords(limit(amount), limit(list))).toEqual(limit(list));
    expect(mergeRecords(limit(list), limit(amount))).toEqual(limit(amount));
  });

  test('does not depend on how the patches are grouped', () => {
    fc.assert(
      fc.property(patch, patch, patch, (a, b, c) => {
        expect(mergeRecords(mergeRecords(a, b), c)).toEqual(mergeRecords(a, mergeRecords(b, c)));
      }),
    );
  });

  test('the last one wins wherever it says something, and the first one stays elsewhere', () => {
    fc.assert(
      fc.property(patch, patch, (first, last) => {
        const merged = mergeRecords(first, last);
        expect(mergeRecords(merged, last)).toEqual(merged);
        expect(mergeRecords(first, {})).toEqual(first);
        expect(mergeRecords({}, last)).toEqual(last);
        if (last.cluster?.vmid !== undefined) expect(merged.cluster?.vmid).toEqual(last.cluster.vmid);
        else expect(merged.cluster?.vmid).toEqual(first.cluster?.vmid);
      }),
    );
  });

  test('lists, vmid ranges and template entries are replaced whole, objects are not', () => {
    const base = normalised({
      resources: {
        cpu: { global: [{ match: 'host', max: 1 }] },
        cores: { global: { max: 4 }, nodes: { n1: { max: 1 } } },
      },
      cluster: { nodes: { n1: true }, vmid: { min: 100, max: 199 } },
      templates: { instances: { qemu: { net0: { value: 'virtio', resource: { name: 'network', amount: 1 } } } } },
    });
    const over = normalised({
      resources: { cpu: { global: [] }, cores: { nodes: { n2: { max: 2 } } } },
      cluster: { nodes: { n2: true } },
      templates: { instances: { qemu: { net0: { value: 'e1000' } } } },
    });
    const { resources, cluster, templates } = completeRecord(mergeRecords(base, over));
    expect(resources).toEqual({
      cpu: { global: [], nodes: {} },
      cores: { global: { max: 4 }, nodes: { n1: { max: 1 }, n2: { max: 2 } } },
    });
    expect(cluster).toMatchObject({ nodes: { n1: true, n2: true }, vmid: { min: 100, max: 199 } });
    expect(templates.instances.qemu).toEqual({ net0: { value: 'e1000', resource: null } });
  });

  test.each(['pools', 'nodes'] as const)('false takes one of the %s away that an earlier backend gave', (key) => {
    const given = { cluster: { [key]: { lab: true, web: true } } };
    const taken = { cluster: { [key]: { lab: false } } };
    expect(completeRecord(mergeRecords(given, taken)).cluster[key]).toEqual({ web: true });
    expect(completeRecord(mergeRecords(taken, given)).cluster[key]).toEqual({ lab: true, web: true });
  });

  test('what nobody says is nothing allowed', () => {
    expect(completeRecord({})).toEqual({
      attributes: { memberOf: [] },
      resources: {},
      cluster: { admin: false, nodes: {}, pools: {}, vmid: { min: -1, max: -1 }, backups: { max: 0 } },
      templates: { instances: { qemu: {}, lxc: {} }, network: {} },
    });
    expect(completeRecord(normalised({ resources: { cores: { nodes: { n1: { max: 2 } } } } })).resources.cores).toEqual(
      {
        global: { max: 0 },
        nodes: { n1: { max: 2 } },
      },
    );
  });
});
