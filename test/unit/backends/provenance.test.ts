import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { completeRecord, mergeRecords, type RecordPatch } from '../../../src/backends/normalise.ts';
import { explain, type Layer, recordOf, type Source } from '../../../src/backends/provenance.ts';
import type { Resources } from '../../../src/quota/resources.ts';
import { resourcesSchema } from '../../../src/quota/resources.ts';
import { scale } from '../../support/scale.ts';

const resources: Resources = resourcesSchema.parse({
  cores: { type: 'numeric', name: 'vCPU', unit: 'Cores' },
  pci: { type: 'list', whitelist: true },
});

const name = fc.constantFrom('a', 'b.c', 'n1');
const some = <T>(value: fc.Arbitrary<T>) => fc.dictionary(name, value, { maxKeys: 2, noNullPrototype: true });
const max = fc.record({ max: fc.oneof(fc.nat(9), fc.constant('unlimited' as const)) });
const entry = fc.record({ match: name, name, max: fc.nat(3) });
const limitOf = <T>(limit: fc.Arbitrary<T>) =>
  fc.record({ global: limit, nodes: some(limit) }, { requiredKeys: ['nodes'] });
const optional = { requiredKeys: [] };

/** Parts of records as `normaliseRecord` leaves them: each resource in the form that its type has. */
const patches = fc.record(
  {
    dn: name,
    attributes: fc.record({ cn: name, memberOf: fc.array(name, { maxLength: 2 }) }, optional),
    resources: fc.record({ cores: limitOf(max), pci: limitOf(fc.array(entry, { maxLength: 2 })) }, optional),
    cluster: fc.record(
      {
        admin: fc.boolean(),
        nodes: some(fc.boolean()),
        pools: some(fc.boolean()),
        vmid: fc.constantFrom({ min: 100, max: 199 }, { min: 300, max: 400 }),
        backups: max,
      },
      optional,
    ),
    templates: fc.record(
      { instances: fc.record({ qemu: some(fc.constant({ value: 1, resource: null })) }, optional) },
      optional,
    ),
  },
  optional,
) as fc.Arbitrary<RecordPatch>;

const layersOf = (list: readonly RecordPatch[]): Layer[] =>
  list.map((patch, index) => ({ patch, source: { from: 'user', backend: `b${index}` } }));

/** What a tree holds at a path that was written as text; undefined when it holds nothing there. */
function at(tree: unknown, key: string): unknown {
  const path = [...key.matchAll(/\["([^"]+)"\]|([^.[\]]+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
  return path.reduce<unknown>(
    (part, step) => (Object.hasOwn(Object(part), step) ? Object(part)[step] : undefined),
    tree,
  );
}

function leaves(value: unknown): number {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 1;
  return Object.values(value).reduce((sum: number, part) => sum + leaves(part), 0);
}

const lists = fc.array(patches, { maxLength: 4 });
const runs = { numRuns: scale(150, 2000) };

describe('merging', () => {
  test('gives the same in whatever way neighbours are merged first', () => {
    fc.assert(
      fc.property(patches, patches, patches, (a, b, c) => {
        expect(mergeRecords(mergeRecords(a, b), c)).toEqual(mergeRecords(a, mergeRecords(b, c)));
      }),
      runs,
    );
  });

  test('changes nothing when nothing is laid over it, or the same once more', () => {
    fc.assert(
      fc.property(patches, (a) => {
        expect(mergeRecords(a, {})).toEqual(a);
        expect(mergeRecords({}, a)).toEqual(a);
        expect(mergeRecords(a, a)).toEqual(a);
      }),
      runs,
    );
  });
});

describe('an explanation', () => {
  test('has every value of the record once, and each is what its source says and nobody after it', () => {
    fc.assert(
      fc.property(lists, (list) => {
        const layers = layersOf(list);
        const record = recordOf(layers);
        const rows = explain(layers, resources);
        expect(new Set(rows.map(({ key }) => key)).size).toBe(rows.length);
        for (const { key, value, source } of rows) {
          const index = layers.findIndex((layer) => layer.source === source);
          const saying = layers.map(({ patch }) => at(patch, key));
          if (index === -1) expect([source, saying]).toEqual([{ from: 'default' }, saying.map(() => undefined)]);
          else {
            expect(saying[index], key).toEqual(value);
            expect(
              saying.slice(index + 1).every((later) => later === undefined),
              key,
            ).toBe(true);
          }
          const said = at(record, key);
          if (said !== undefined || index !== -1) expect(said, key).toEqual(value);
        }
        expect(leaves(completeRecord(list.reduce(mergeRecords, {})))).toBeLessThanOrEqual(
          rows.reduce((sum, { value }) => sum + leaves(value), 0),
        );
      }),
      runs,
    );
  });

  test('names the default, the group and the backend, also for resources of which nobody speaks', () => {
    const group: Source = { from: 'group', group: 'students@ldap', backend: 'localdb' };
    const user: Source = { from: 'user', backend: 'localdb' };
    const rows = explain(
      [
        { source: { from: 'default' }, patch: { cluster: { backups: { max: 1 } } } },
        { source: group, patch: { resources: { cores: { global: { max: 4 }, nodes: { n1: { max: 2 } } } } } },
        {
          source: user,
          patch: { resources: { cores: { global: { max: 8 }, nodes: {} } }, cluster: { pools: { 'b.c': true } } },
        },
      ],
      resources,
    );
    const found = Object.fromEntries(rows.map(({ key, value, source }) => [key, [value, source]]));
    expect(found).toMatchObject({
      'resources.cores.global.max': [8, user],
      'resources.cores.nodes.n1.max': [2, group],
      'resources.pci.global': [[], { from: 'default' }],
      'cluster.pools["b.c"]': [true, user],
      'cluster.backups.max': [1, { from: 'default' }],
      'cluster.admin': [false, { from: 'default' }],
      'cluster.vmid': [{ min: -1, max: -1 }, { from: 'default' }],
    });
  });
});
