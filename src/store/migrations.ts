/** The shape of the database, as the steps that led to it. A step that was ever released is never edited. */

import { ledgerTables } from './ledger-tables.ts';
import { lineNodes } from './line-nodes.ts';
import { shelfTables } from './shelf-tables.ts';
import { usageTexts } from './usage-texts.ts';

export interface Migration {
  readonly name: string;
  readonly sql: string;
}

/** In order; the database counts in its `user_version` how many of them it has. */
export const migrations: readonly Migration[] = [
  {
    name: 'local users and groups',
    sql: `
      CREATE TABLE local_records (
        kind TEXT NOT NULL CHECK (kind IN ('user', 'group')),
        name TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (kind, name)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE local_imports (
        file TEXT NOT NULL,
        users INTEGER NOT NULL,
        at INTEGER NOT NULL
      ) STRICT;
    `,
  },
  { name: 'ledger', sql: ledgerTables },
  { name: 'files without a guest', sql: shelfTables },
  { name: 'tasks by user', sql: 'CREATE INDEX task_user ON task (user, at)' },
  { name: 'lines by node', sql: lineNodes },
  {
    name: 'what open changes copy',
    sql: `
      CREATE TABLE reservation_file (
        reservation INTEGER NOT NULL REFERENCES reservation ON DELETE CASCADE,
        place TEXT NOT NULL,
        volid TEXT NOT NULL,
        PRIMARY KEY (reservation, place, volid)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE reservation_source (
        reservation INTEGER NOT NULL REFERENCES reservation ON DELETE CASCADE,
        vmid INTEGER NOT NULL,
        PRIMARY KEY (reservation, vmid)
      ) STRICT, WITHOUT ROWID;
    `,
  },
  { name: 'usage as texts', sql: usageTexts },
];
