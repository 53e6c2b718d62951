import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterAll, describe, expect, test } from 'vitest';
import { DatabaseError, lockDatabase, openDatabase } from '../../../src/store/database.ts';
import { migrations } from '../../../src/store/migrations.ts';

// Processes start slowly on a busy machine.

const directory = mkdtempSync(join(tmpdir(), 'database-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('a database', () => {
  test('is created with its directory, durable and in the current shape', () => {
    const file = join(directory, 'new', 'deep', 'a.db');
    const database = openDatabase(file);
    expect(database.pragma('user_version', { simple: true })).toBe(migrations.length);
    expect(database.pragma('journal_mode', { simple: true })).toBe('wal');
    expect(database.pragma('synchronous', { simple: true })).toBe(2);
    expect(database.pragma('foreign_keys', { simple: true })).toBe(1);
    database.close();
    openDatabase(file).close();
  });

  test('of a newer version is refused and left as it is', () => {
    const file = join(directory, 'newer.db');
    const database = openDatabase(file);
    database.pragma(`user_version = ${migrations.length + 1}`);
    database.close();
    expect(() => openDatabase(file)).toThrow(/newer version of this program/);
  });

  test('of another program is refused', () => {
    const file = join(directory, 'other.db');
    const other = new Sqlite(file);
    other.exec('CREATE TABLE theirs (a)');
    other.close();
    expect(() => openDatabase(file)).toThrow(/a database of another program/);
  });

  test('that is no database is refused, and not written to', () => {
    const file = join(directory, 'text.db');
    writeFileSync(file, 'a text that is long enough not to be taken for an empty database'.repeat(20));
    expect(() => openDatabase(file)).toThrow(/is not an SQLite database/);
    expect(readFileSync(file, 'utf8')).toMatch(/^a text/);
  });

  test('whose path is no path is refused with the reason', () => {
    writeFileSync(join(directory, 'file'), '');
    expect(() => openDatabase(join(directory, 'file', 'a.db'))).toThrow(/a part of its path is no directory/);
  });

  test('whose file cannot be opened is refused with the reason', () => {
    expect(() => openDatabase(directory)).toThrow(/cannot be opened: check the owner and the mode/);
  });
});

describe('the lock', () => {
  const holding = `
    import { lockDatabase } from ${JSON.stringify(join(import.meta.dirname, '../../../src/store/database.ts'))};
    try { lockDatabase(process.argv[1]); console.log('held'); setInterval(() => {}, 1000); }
    catch (error) { console.log(error.message); }`;

  async function holder(file: string) {
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', holding, file]);
    const [said] = await once(child.stdout, 'data');
    return {
      child,
      said: String(said).trim(),
      kill: (signal: NodeJS.Signals) => {
        child.kill(signal);
        return once(child, 'exit');
      },
    };
  }

  test('keeps a second process out and names the first, until it is killed outright', async () => {
    const file = join(directory, 'locked.db');
    const first = await holder(file);
    expect(first.said).toBe('held');
    const second = await holder(file);
    expect(second.said).toContain(`in use by another server (process ${first.child.pid})`);
    expect(() => lockDatabase(file)).toThrow(DatabaseError);

    await first.kill('SIGKILL');
    expect(existsSync(`${file}.lock`)).toBe(true);
    const third = await holder(file);
    expect(third.said).toBe('held');
    await third.kill('SIGTERM');
    lockDatabase(file).release();
  });

  test('does not care for the process id that an earlier holder left, even when such a process runs', () => {
    const file = join(directory, 'stale.db');
    writeFileSync(`${file}.lock`, `${process.ppid}\n`);
    lockDatabase(file).release();
  });

  test('is given back', () => {
    const file = join(directory, 'released.db');
    const lock = lockDatabase(file);
    expect(() => lockDatabase(file)).toThrow(`process ${process.pid}`);
    lock.release();
    lockDatabase(file).release();
  });

  test('lets commands write while a server holds it', () => {
    const file = join(directory, 'shared.db');
    const lock = lockDatabase(file);
    openDatabase(file).close();
    lock.release();
  });
});
