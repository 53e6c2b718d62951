/** The one database file: opened durable, brought to the current shape, and served by one server at a time. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import Sqlite from 'better-sqlite3';
import { NotReadyError } from '../errors.ts';
import { migrations } from './migrations.ts';

export type Database = Sqlite.Database;

/** The database cannot be used; the message says why and what to do, for the administrator. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
}

/** Marks the file as ours ("PQPx" read as a number), so that another program's database is not written to. */
const applicationId = 0x50515078;

/** How long a command waits for the writes of others, in ms. */
const patience = 5000;

/**
 * Opens the file, creating it and its directory when missing, with every migration applied.
 * What a transaction wrote is on the disk when it returns (WAL, `synchronous=FULL`). While another program writes, ours
 * wait so many ms, and everything else in this process with them.
 */
export function openDatabase(file: string, busyFor = patience): Database {
  try {
    mkdirSync(dirname(file), { recursive: true });
    const database = new Sqlite(file, { timeout: patience });
    try {
      prepare(database, file);
      database.pragma(`busy_timeout = ${busyFor}`);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  } catch (error) {
    throw explained(error, file);
  }
}

function prepare(database: Database, file: string): void {
  const owner = database.pragma('application_id', { simple: true });
  const tables = database.prepare('SELECT count(*) FROM sqlite_schema').pluck().get();
  if (owner !== applicationId && tables !== 0) throw new DatabaseError(`${file} is a database of another program`);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('foreign_keys = ON');
  database.transaction(migrate).exclusive(database, file);
}

/** Within one transaction, so that of two processes that start together only one does it. */
function migrate(database: Database, file: string): void {
  const done = Number(database.pragma('user_version', { simple: true }));
  if (done > migrations.length) {
    throw new DatabaseError(
      `${file} was written by a newer version of this program (its version ${done}, ours ${migrations.length}): use that version, or another file`,
    );
  }
  if (done === 0) database.pragma(`application_id = ${applicationId}`);
  for (const { sql } of migrations.slice(done)) database.exec(sql);
  if (done < migrations.length) database.pragma(`user_version = ${migrations.length}`);
}

const reasons: Readonly<Record<string, string>> = {
  SQLITE_NOTADB: 'it is not an SQLite database',
  SQLITE_CORRUPT: 'it is damaged',
  SQLITE_READONLY: 'it cannot be written: check the owner and the mode of the file and its directory',
  SQLITE_CANTOPEN: 'it cannot be opened: check the owner and the mode of the file and its directory',
  SQLITE_BUSY: 'another process holds it',
  SQLITE_FULL: 'the disk is full',
  EACCES: 'its directory cannot be created: permission denied',
  EROFS: 'its directory cannot be created: the file system is read-only',
  ENOTDIR: 'a part of its path is no directory',
  EEXIST: 'a part of its path is no directory',
};

function explained(error: unknown, file: string): unknown {
  const code = (error as { code?: unknown }).code;
  if (error instanceof DatabaseError || typeof code !== 'string') return error;
  const reason = Object.keys(reasons).find((known) => code === known || code.startsWith(`${known}_`));
  const message = reason === undefined ? (error as Error).message : reasons[reason];
  return new DatabaseError(`the database ${file} cannot be used: ${message}`, { cause: error });
}

/** Why SQLite does not take a write at the moment; any other failure is an error of ours. */
const hindrances: Readonly<Record<string, string>> = {
  SQLITE_FULL: 'the disk is full',
  SQLITE_READONLY: 'it is read-only',
  SQLITE_IOERR: 'the disk fails',
  SQLITE_CANTOPEN: 'its files cannot be opened',
  SQLITE_BUSY: 'another program holds it',
};

/** Does a write; when the database does not take it for the moment, throws NotReadyError with the reason. */
export function writing<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    const code = String((error as { code?: unknown }).code);
    const hindrance = Object.keys(hindrances).find((known) => code === known || code.startsWith(`${known}_`));
    if (hindrance === undefined) throw error;
    const message = `the server's database cannot be written (${hindrances[hindrance]}); try again later`;
    throw Object.assign(new NotReadyError(message, 10), { cause: error });
  }
}

/** The right to serve a database; it ends with `release`, or with the process however that ends. */
export interface DatabaseLock {
  release(): void;
}

/** A lock that nothing refers to would be collected, and end with that. */
const held = new Set<Database>();

/**
 * Takes the database for this process alone, or throws DatabaseError with the other's process id.
 * The lock is one of the operating system's, on a file beside the database: it dies with its holder, so nothing is left
 * behind by a crash. The process id is for the message only and decides nothing.
 */
export function lockDatabase(file: string): DatabaseLock {
  const note = `${file}.lock`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    const lock = new Sqlite(`${note}.db`, { timeout: 0 });
    try {
      lock.exec('BEGIN EXCLUSIVE');
      writeFileSync(note, `${process.pid}\n`);
      held.add(lock);
      return {
        release() {
          lock.close();
          held.delete(lock);
        },
      };
    } catch (error) {
      lock.close();
      if ((error as { code?: unknown }).code !== 'SQLITE_BUSY') throw error;
      throw new DatabaseError(
        `the database ${file} is in use by another server (process ${holder(note)}): stop that one, or name another file in "database"`,
      );
    }
  } catch (error) {
    throw explained(error, file);
  }
}

function holder(note: string): string {
  try {
    return readFileSync(note, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}
