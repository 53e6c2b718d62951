import { describe, expect, test } from 'vitest';
import { type Changes, changesBetween, type View, Watch } from '../../../src/admission/watch.ts';
import type { ClusterNode, Guest } from '../../../src/pve/listing.ts';
import { until } from '../../support/site.ts';

const node = (name: string, status = 'online'): ClusterNode => ({ node: name, status, cpus: 8 });
const web: Guest = {
  vmid: 100,
  type: 'qemu',
  node: 'n1',
  pool: 'alice',
  name: 'web',
  status: 'running',
  template: false,
};
const view = (guests: readonly Guest[], nodes: readonly ClusterNode[] = [node('n1'), node('n2')]): View => ({
  nodes,
  guests: new Map(guests.map((guest) => [guest.vmid, guest])),
});

describe('between two looks', () => {
  const none: Changes = { nodes: false, pools: new Set() };
  const inPools = (...pools: string[]): Changes => ({ nodes: false, pools: new Set(pools) });
  const ofNodes: Changes = { nodes: true, pools: new Set() };

  test.each<[string, View, View, Changes]>([
    ['nothing', view([web]), view([{ ...web }]), none],
    ['an instance that appeared', view([]), view([web]), inPools('alice')],
    ['an instance that went', view([web]), view([]), inPools('alice')],
    ['another name', view([web]), view([{ ...web, name: 'www' }]), inPools('alice')],
    ['another status', view([web]), view([{ ...web, status: 'stopped' }]), inPools('alice')],
    ['another node', view([web]), view([{ ...web, node: 'n2' }]), inPools('alice')],
    ['another type', view([web]), view([{ ...web, type: 'lxc' }]), inPools('alice')],
    ['another pool', view([web]), view([{ ...web, pool: 'bob' }]), inPools('alice', 'bob')],
    ['a pool that was left', view([web]), view([{ ...web, pool: undefined }]), inPools('alice')],
    ['an instance in no pool', view([]), view([{ ...web, pool: undefined }]), none],
    ['what no dashboard shows', view([web]), view([{ ...web, template: true }]), none],
    ['a node that failed', view([web]), view([web], [node('n1'), node('n2', 'offline')]), ofNodes],
    ['a new node', view([]), view([], [node('n1'), node('n2'), node('n3')]), ofNodes],
    ['nodes in another order', view([]), view([], [node('n2'), node('n1')]), none],
  ])('there is %s', (_, before, after, changes) => {
    expect(changesBetween(before, after)).toEqual(changes);
  });
});

test('a look that fails or takes long is followed by the next one, never joined by a second', async () => {
  let [began, under, most] = [0, 0, 0];
  const inventory = {
    nodes: [],
    guests: new Map(),
    async list() {
      began += 1;
      under += 1;
      most = Math.max(most, under);
      await new Promise((resolve) => setTimeout(resolve, 20));
      under -= 1;
      throw new Error('away');
    },
  };
  const warnings: unknown[] = [];
  const watch = new Watch({ inventory, log: { warn: (...said: unknown[]) => void warnings.push(said) } });
  const [one, other] = [watch.listen(() => {}), watch.listen(() => {})];
  one.every(0.005);
  other.every(0.005);
  await until('it has looked some times', () => began >= 3);
  one.every(0.001);
  await until('it has looked some more', () => began >= 6);
  one.end();
  other.end();
  other.every(0.001);
  await until('the last look is over', () => under === 0);
  const sofar = began;
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect([began, most]).toEqual([sofar, 1]);
  expect(warnings.length).toBeGreaterThan(2);
});
