import { expect, test } from 'vitest';
import type { Usage } from '../../../src/quota/usage.ts';
import { aim, Books, sighting } from './ledgers.ts';

/** So much on the guest's own node, and on another. */
const both = (own: number, node: string, away: number): Usage => ({
  lines: [
    { resource: 'storage:ceph', item: '', amount: own },
    { resource: 'storage:ceph', item: '', amount: away, node },
  ],
  unknown: [],
});

const limits = { alice: { ceph: 20, 'ceph@n2': 8, cores: 9 } };

test('what an instance holds on another node counts there, and after a restart as well', async () => {
  using books = new Books(limits);
  books.ledger.assign(100, ['alice']);
  books.see(sighting(100, {}, { usage: both(6, 'n2', 4) }));
  const { id } = await books.reserve('alice', aim(100, {}, { after: both(6, 'n2', 7) }));
  const held = { 'storage:ceph n1': [6, 6], 'storage:ceph n2': [4, 7] };
  expect(books.holds('alice')).toEqual(held);
  books.restart();
  expect(books.holds('alice')).toEqual(held);
  books.settle(id, sighting(100, {}, { usage: both(6, 'n2', 7) }));
  expect(books.holds('alice')).toEqual({ 'storage:ceph n1': [6, 6], 'storage:ceph n2': [7, 7] });
});

test('a limit of that node is broken by the name of the node, another by the names of all that hold some', async () => {
  using books = new Books(limits);
  books.ledger.assign(100, ['alice']);
  books.see(sighting(100, { 'storage:ceph': 6 }));
  const reserve = (node: string, amount: number) =>
    books.reserve('alice', aim(100, {}, { after: both(6, node, amount) }));
  await expect(reserve('n2', 9)).rejects.toThrow('storage ceph on node n2: 9 more requested, 8 left');
  await expect(reserve('n3', 15)).rejects.toThrow('storage ceph, replicas on n3 included: 15 more requested, 14 left');
  await expect(reserve('n2', 8)).resolves.toBeDefined();
});

test('a guest that is listed on the node of its replicas holds both until it is looked at', () => {
  using books = new Books(limits);
  books.ledger.assign(100, ['alice']);
  books.see(sighting(100, {}, { usage: both(6, 'n2', 6) }));
  books.ledger.list({ vmid: 100, type: 'qemu', node: 'n2', pool: undefined }, books.ledger.stamp());
  expect(books.holds('alice')).toEqual({ 'storage:ceph n2': [12, 12] });
});
