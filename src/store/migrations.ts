/** The shape of the database, as the steps that led to it. A step that was ever released is never edited. */

import { ledgerTables } from './ledger-tables.ts';
import { shelfTables } from './shelf-tables.ts';

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
];
