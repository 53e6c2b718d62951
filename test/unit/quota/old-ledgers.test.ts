import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect, test } from 'vitest';
import { Ledger } from '../../../src/quota/ledger.ts';
import { openDatabase } from '../../../src/store/database.ts';
import { migrations } from '../../../src/store/migrations.ts';

/** A ledger in a database as it was before the migration of this name, filled by `sql`. */
function ledgerFrom(name: string, sql: string): Ledger & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'old-ledger-'));
  const file = join(folder, 'ledger.db');
  const current = openDatabase(join(folder, 'new.db'));
  const owner = current.pragma('application_id', { simple: true });
  current.close();
  const before = migrations.findIndex((one) => one.name === name);
  const old = new Sqlite(file);
  for (const migration of migrations.slice(0, before)) old.exec(migration.sql);
  old.exec(sql);
  old.pragma(`application_id = ${owner}`);
  old.pragma(`user_version = ${before}`);
  old.close();
  const database = openDatabase(file);
  return Object.assign(new Ledger(database), {
    [Symbol.dispose]() {
      database.close();
      rmSync(folder, { recursive: true });
    },
  });
}

test('a ledger from before lines had nodes is read as it was', () => {
  using ledger = ledgerFrom(
    'lines by node',
    `INSERT INTO instance VALUES (100, 'qemu', 'n1', NULL, NULL, 1, 1);
    INSERT INTO seen_line VALUES (100, 'cores', '', 2), (100, 'pci', 'T4', 1);
    INSERT INTO reservation VALUES (1, 0, 'alice', 'PUT', NULL, NULL);
    INSERT INTO reservation_instance VALUES (1, 100, 'qemu', 'n2', NULL, 0);
    INSERT INTO reservation_line VALUES (1, 100, 'cores', '', 4)`,
  );
  expect(ledger.account(100)?.booking).toEqual([
    { node: 'n1', resource: 'cores', item: '', used: 2, booked: 2 },
    { node: 'n1', resource: 'pci', item: 'T4', used: 1, booked: 1 },
    { node: 'n2', resource: 'cores', item: '', used: 0, booked: 4 },
  ]);
});

test('a ledger from when each line was a row is read as it was, with what is under way', () => {
  using ledger = ledgerFrom(
    'usage as texts',
    `INSERT INTO instance VALUES (100, 'qemu', 'n1', 'lab', 'ctime=7', 1, 1), (101, 'lxc', 'n1', NULL, NULL, 1, 0);
    INSERT INTO seen_line VALUES (100, '', 'cores', '', 2), (100, 'n2', 'storage:zfs', '', 9007199254740991);
    INSERT INTO seen_unknown VALUES (100, 'memory', 'it says "much"');
    INSERT INTO reservation VALUES (6, 8, 'alice@pve', 'PUT', 'd1', 'UPID:1'), (7, 9, 'bob@pve', 'POST', NULL, NULL);
    INSERT INTO reservation_instance VALUES (6, 100, 'qemu', 'n1', NULL, 0), (6, 102, 'lxc', 'n2', 'lab', 1);
    INSERT INTO reservation_line VALUES (6, 102, '', 'cores', '', 4), (6, 102, 'n3', 'storage:zfs', 'unlimited', 1);
    INSERT INTO reservation_file VALUES (6, 'ceph', 'ceph:iso/a.iso');
    INSERT INTO reservation_source VALUES (6, 103);
    DELETE FROM reservation WHERE id = 7`,
  );
  expect(ledger.account(100)).toMatchObject({
    ...{ node: 'n1', pool: 'lab', birth: 'ctime=7', present: true },
    seen: {
      lines: [
        { resource: 'cores', item: '', amount: 2 },
        { resource: 'storage:zfs', item: '', amount: 9007199254740991, node: 'n2' },
      ],
      unknown: [{ resource: 'memory', reason: 'it says "much"' }],
    },
  });
  expect(ledger.account(101)).toMatchObject({ type: 'lxc', seen: null });
  const lines = [
    { resource: 'cores', item: '', amount: 4 },
    { resource: 'storage:zfs', item: 'unlimited', amount: 1, node: 'n3' },
  ];
  expect(ledger.reservations()).toEqual([
    {
      ...{ id: 6, by: 'alice@pve', call: 'PUT', madeAt: 8, digest: 'd1', upid: 'UPID:1' },
      aims: [
        { vmid: 100, type: 'qemu', node: 'n1', creates: false, lines: [] },
        { vmid: 102, type: 'lxc', node: 'n2', pool: 'lab', creates: true, lines },
      ],
      ...{ copies: [{ place: 'ceph', volid: 'ceph:iso/a.iso' }], sources: [103] },
    },
  ]);
});

test('no reservation gets the number of an earlier one after its ledger was brought up to date', async () => {
  using ledger = ledgerFrom(
    'usage as texts',
    `INSERT INTO reservation VALUES (41, 0, 'alice', 'PUT', NULL, NULL); DELETE FROM reservation`,
  );
  const aims = [
    { vmid: 100, type: 'qemu', node: 'n1', pool: undefined, creates: false, after: { lines: [], unknown: [] } },
  ] as const;
  const request = { by: 'alice', address: '', call: 'PUT', digest: undefined, aims, waived: true, quotas: new Map() };
  expect(await ledger.reserve(request)).toMatchObject({ id: 42 });
});
