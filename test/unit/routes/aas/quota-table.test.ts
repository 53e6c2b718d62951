import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { UserRecord } from '../../../../src/quota/record.ts';
import { resourcesSchema } from '../../../../src/quota/resources.ts';
import { quotaTable, usageTable } from '../../../../src/routes/aas/quota-table.ts';

const MiB = 1024 * 1024;
const endless = Number.MAX_SAFE_INTEGER;

const resources = resourcesSchema.parse({
  cpu: { type: 'list' },
  cores: { type: 'numeric' },
  memory: { type: 'numeric', multiplier: MiB },
  ceph: { type: 'storage' },
  pci: { type: 'list' },
});

const recordWith = (limits: UserRecord['resources']): UserRecord => ({
  attributes: { memberOf: [] },
  resources: limits,
  cluster: { admin: false, nodes: {}, pools: {}, vmid: { min: -1, max: -1 }, backups: { max: 0 } },
  templates: { instances: { qemu: {}, lxc: {} }, network: {} },
});

const held = (resource: string, booked: number, { node = 'n1', item = '' } = {}) => ({
  node,
  resource,
  item,
  used: 0,
  booked,
});

test('used is rounded up and what is left down, and both may be beyond the limit', () => {
  fc.assert(
    fc.property(fc.nat(1000), fc.nat(2000 * MiB), (max, booked) => {
      const { memory } = usageTable(recordWith({ memory: { global: { max }, nodes: {} } }), resources, [
        held('memory', booked),
      ]);
      const used = Math.ceil(booked / MiB);
      expect(memory?.global).toEqual({ max, used, avail: max - used });
    }),
  );
});

test('a node with a limit of its own is charged for what lies there, global for all else, total for both', () => {
  const limits = { cores: { global: { max: 8 }, nodes: { n2: { max: 16 } } } };
  const holdings = [
    held('cores', 3),
    held('cores', 5, { node: 'n2' }),
    held('cores', 1, { node: 'n3' }),
    held('ceph', 9),
  ];
  expect(usageTable(recordWith(limits), resources, holdings).cores).toEqual({
    global: { max: 8, used: 4, avail: 4 },
    nodes: { n2: { max: 16, used: 5, avail: 11 } },
    total: { max: 24, used: 9, avail: 15 },
  });
});

test('a storage is looked up under its own name, and cards or volumes without a limit are no amount', () => {
  const holdings = [held('storage:ceph', 7), held('storage:ceph', 1, { item: 'unlimited' }), held('ceph', 100)];
  const limits = { ceph: { global: { max: 10 }, nodes: {} } };
  expect(usageTable(recordWith(limits), resources, holdings).ceph?.global).toEqual({ max: 10, used: 7, avail: 3 });
});

test('unlimited is the largest number that all clients read, in one scope and in total', () => {
  const limits = { cores: { global: { max: 'unlimited' }, nodes: { n2: { max: 4 } } } } as const;
  expect(usageTable(recordWith(limits), resources, [held('cores', 3)]).cores).toEqual({
    global: { max: endless, unlimited: true, used: 3, avail: endless },
    nodes: { n2: { max: 4, used: 0, avail: 4 } },
    total: { max: endless, unlimited: true, used: 3, avail: endless },
  });
});

test('a device counts for the first entry that its name contains, and equal entries are one in total', () => {
  const entry = (match: string, max: number) => ({ match, name: match, max });
  const limits = { pci: { global: [entry('Tesla T4', 2), entry('Tesla', 3)], nodes: { n2: [entry('Tesla', 1)] } } };
  const holdings = [
    held('pci', 1, { item: 'TU104GL [Tesla T4]' }),
    held('pci', 2, { item: 'GP100 [Tesla P100]' }),
    held('pci', 1, { item: 'TU104GL [Tesla T4]', node: 'n2' }),
    held('pci', 1, { item: 'Ethernet' }),
  ];
  const { pci } = usageTable(recordWith(limits), resources, holdings);
  expect(pci?.global).toEqual([
    { match: 'Tesla T4', name: 'Tesla T4', max: 2, used: 1, avail: 1 },
    { match: 'Tesla', name: 'Tesla', max: 3, used: 2, avail: 1 },
  ]);
  expect(pci?.total).toEqual([
    { match: 'Tesla T4', name: 'Tesla T4', max: 2, used: 1, avail: 1 },
    { match: 'Tesla', name: 'Tesla', max: 4, used: 3, avail: 1 },
  ]);
});

test('CPU types are never counted', () => {
  const limits = { cpu: { global: [{ match: 'host', name: 'host', max: 1 }], nodes: {} } };
  expect(usageTable(recordWith(limits), resources, [held('cpu', 5, { item: 'host' })]).cpu?.global).toEqual([
    { match: 'host', name: 'host', max: 1, used: 0, avail: 1 },
  ]);
});

test('every configured resource is there though the record has none, and cpu though nothing is configured', () => {
  const nothing = recordWith({});
  expect(Object.keys(usageTable(nothing, resources, []))).toEqual(['cpu', 'cores', 'memory', 'ceph', 'pci']);
  expect(usageTable(nothing, resources, []).cores?.total).toEqual({ max: 0, used: 0, avail: 0 });
  expect(quotaTable(nothing, {})).toEqual({ cpu: { global: [], nodes: {} } });
  expect(quotaTable(nothing, resources).pci).toEqual({ global: [], nodes: {} });
});
