import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect, test } from 'vitest';
import { Ledger } from '../../../src/quota/ledger.ts';
import type { Usage } from '../../../src/quota/usage.ts';
import { openDatabase } from '../../../src/store/database.ts';
import { migrations } from '../../../src/store/migrations.ts';
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

test('a ledger from before lines had nodes is read as it was', () => {
  const folder = mkdtempSync(join(tmpdir(), 'old-ledger-'));
  const file = join(folder, 'ledger.db');
  const current = openDatabase(join(folder, 'new.db'));
  const owner = current.pragma('application_id', { simple: true });
  current.close();
  const before = migrations.findIndex(({ name }) => name === 'lines by node');
  const old = new Sqlite(file);
  for (const { sql } of migrations.slice(0, before)) old.exec(sql);
  old.exec(`INSERT INTO instance VALUES (100, 'qemu', 'n1', NULL, NULL, 1, 1);
    INSERT INTO seen_line VALUES (100, 'cores', '', 2), (100, 'pci', 'T4', 1);
    INSERT INTO reservation VALUES (1, 0, 'alice', 'PUT', NULL, NULL);
    INSERT INTO reservation_instance VALUES (1, 100, 'qemu', 'n2', NULL, 0);
    INSERT INTO reservation_line VALUES (1, 100, 'cores', '', 4)`);
  old.pragma(`application_id = ${owner}`);
  old.pragma(`user_version = ${before}`);
  old.close();
  const database = openDatabase(file);
  const { booking } = new Ledger(database).account(100) ?? {};
  expect(booking).toEqual([
    { node: 'n1', resource: 'cores', item: '', used: 2, booked: 2 },
    { node: 'n1', resource: 'pci', item: 'T4', used: 1, booked: 1 },
    { node: 'n2', resource: 'cores', item: '', used: 0, booked: 4 },
  ]);
  database.close();
  rmSync(folder, { recursive: true });
});
