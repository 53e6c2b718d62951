/** The `localdb` backend: limits, grants and templates of users and groups, kept in our own database. */

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Statement } from 'better-sqlite3';
import { z } from 'zod';
import type { Fault } from '../errors.ts';
import type { Resources } from '../quota/resources.ts';
import { type Checked, fits } from '../schema.ts';
import { type Database, writing } from '../store/database.ts';
import {
  type Backend,
  type BackendChange,
  type BackendData,
  type BackendResult,
  formatGroupName,
  formatUserName,
  type GroupName,
  type RecordKey,
  type UserName,
} from './backend.ts';
import { readLocalFile } from './local-file.ts';
import { normaliseRecord, type RecordPatch } from './normalise.ts';

/** The configuration of a `localdb` backend. */
export const localSettings = z.strictObject({
  dbfile: z
    .string()
    .regex(/\.json$/, {
      error: 'expected the path of a localdb.json, which is imported once; the database itself is named by "database"',
    })
    .exactOptional()
    .describe('A localdb.json of an earlier server: imported on first start, and left as it is.'),
});

export type LocalSettings = z.output<typeof localSettings>;

/** What became of a file that is imported once. */
export interface Imported {
  /** So many have come with it now. */
  readonly users?: number;
  readonly problem?: string;
}

/** Whose records there are. */
export type Kind = 'user' | 'group';
type Attributes = Readonly<Record<string, unknown>>;

const done: BackendResult = { ok: true, status: 200, message: '' };

/**
 * Records of users and groups in the database that the whole server shares. What is written has been checked, and is
 * in today's form; a change made by another process is seen at once. Who may ask is for the directory to decide.
 */
export class LocalBackend implements Backend {
  readonly keys: readonly RecordKey[] = ['resources', 'cluster', 'templates'];
  readonly #database: Database;
  readonly #resources: Resources;
  readonly #one: Statement<[Kind, string], string>;
  readonly #all: Statement<[Kind], { name: string; record: string }>;
  readonly #put: Statement<[Kind, string, string]>;
  readonly #delete: Statement<[Kind, string]>;
  readonly #dataVersionNow: Statement<[], number>;
  #version = 0;
  #dataVersion: unknown;

  constructor(database: Database, resources: Resources) {
    this.#database = database;
    this.#resources = resources;
    this.#one = database
      .prepare<[Kind, string], string>('SELECT record FROM local_records WHERE kind = ? AND name = ?')
      .pluck();
    this.#all = database.prepare('SELECT name, record FROM local_records WHERE kind = ? ORDER BY name');
    this.#put = database.prepare(
      'INSERT INTO local_records (kind, name, record) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record',
    );
    this.#delete = database.prepare('DELETE FROM local_records WHERE kind = ? AND name = ?');
    this.#dataVersionNow = database.prepare<[], number>('PRAGMA data_version').pluck();
  }

  /** SQLite tells of commits by other connections only, so our own are counted beside it. */
  version(): number {
    const now = this.#dataVersionNow.get();
    if (now !== this.#dataVersion) this.#version += 1;
    this.#dataVersion = now;
    return this.#version;
  }

  /** A record must be in order before it is stored, and is the same to whoever stores it. */
  check(change: BackendChange): BackendResult | null {
    return 'attributes' in change ? refusalOf(this.#checked(change.attributes).faults) : null;
  }

  getUser(user: UserName): BackendData | null {
    return this.#read('user', formatUserName(user));
  }

  getAllUsers(): Readonly<Record<string, BackendData>> {
    return Object.fromEntries(this.#readAll('user'));
  }

  addUser(user: UserName, attributes: Attributes): BackendResult {
    return this.#add('user', formatUserName(user), attributes);
  }

  setUser(user: UserName, attributes: Attributes): BackendResult {
    return this.#set('user', formatUserName(user), attributes);
  }

  delUser(user: UserName): BackendResult {
    return this.remove('user', formatUserName(user));
  }

  getGroup(group: GroupName): BackendData | null {
    return this.#read('group', formatGroupName(group));
  }

  getAllGroups(): Readonly<Record<string, BackendData>> {
    return Object.fromEntries(this.#readAll('group'));
  }

  addGroup(group: GroupName, attributes: Attributes): BackendResult {
    return this.#add('group', formatGroupName(group), attributes);
  }

  setGroup(group: GroupName, attributes: Attributes): BackendResult {
    return this.#set('group', formatGroupName(group), attributes);
  }

  delGroup(group: GroupName): BackendResult {
    return this.remove('group', formatGroupName(group));
  }

  /** All users, or groups, as they are stored, by name. */
  records(kind: Kind): ReadonlyMap<string, RecordPatch> {
    return new Map(this.#readAll(kind));
  }

  /** Replaces the record of one name by what `change` makes of it, with no write of others in between; when that throws, nothing is stored. */
  edit(kind: Kind, name: string, change: (before: RecordPatch) => RecordPatch) {
    return this.#writing(() => {
      const before = this.#read(kind, name) ?? {};
      const after = change(before);
      this.#put.run(kind, name, JSON.stringify(after));
      return { before, after };
    });
  }

  /** Forgets the record of this name. */
  remove(kind: Kind, name: string): BackendResult {
    const { changes } = this.#writing(() => this.#delete.run(kind, name));
    return changes > 0 ? done : { ok: false, status: 404, message: `${kind} ${name} does not exist` };
  }

  /** Stores these users of a file, replacing what was there under their names: all of them or, on an error, none. */
  takeOver(file: string, users: ReadonlyMap<string, RecordPatch>, at: Date): void {
    this.#writing(() => {
      for (const [name, record] of users) this.#put.run('user', name, JSON.stringify(record));
      this.#database
        .prepare('INSERT INTO local_imports (file, users, at) VALUES (?, ?, ?)')
        .run(resolve(file), users.size, at.getTime());
    });
  }

  /**
   * Takes over the file of the configuration when nothing was ever stored or imported here, and says what an
   * administrator should know of it. Throws FaultsError, storing nothing, when the file has faults.
   */
  importOnce(file: string, at: Date): Imported {
    const path = resolve(file);
    const changed = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    const [filled, last] = this.#database
      .prepare<[string], [number, number | null]>(
        `SELECT EXISTS (SELECT 1 FROM local_records) OR EXISTS (SELECT 1 FROM local_imports),
          (SELECT max(at) FROM local_imports WHERE file = ?)`,
      )
      .raw()
      .get(path) ?? [0, null];
    if (filled === 1)
      return changed !== undefined && last !== null && changed > last
        ? { problem: `${path} has changed since it was imported, and is not read again; node . import takes it over` }
        : {};
    if (changed === undefined) return { problem: `there is no file ${path}, so no users are imported from it` };
    const users = readLocalFile(path, this.#resources);
    this.takeOver(path, users, at);
    return { users: users.size };
  }

  #read(kind: Kind, name: string): RecordPatch | null {
    const record = this.#one.get(kind, name);
    return record === undefined ? null : JSON.parse(record);
  }

  #readAll(kind: Kind): (readonly [string, RecordPatch])[] {
    return this.#all.all(kind).map(({ name, record }) => [name, JSON.parse(record)]);
  }

  #add(kind: Kind, name: string, attributes: Attributes): BackendResult {
    return this.#writing(() =>
      this.#read(kind, name) === null
        ? this.#write(kind, name, attributes)
        : { ok: false, status: 409, message: `${kind} ${name} is there already` },
    );
  }

  /** The keys that are given are replaced as a whole, or with null taken away; attributes that belong to other backends (a password) change nothing here. */
  #set(kind: Kind, name: string, attributes: Attributes): BackendResult {
    if (!this.keys.some((key) => Object.hasOwn(attributes, key))) return done;
    return this.#writing(() => this.#write(kind, name, { ...this.#read(kind, name), ...attributes }));
  }

  #write(kind: Kind, name: string, attributes: Attributes): BackendResult {
    const checked = this.#checked(attributes);
    if (!fits(checked)) return refusalOf(checked.faults) ?? done;
    this.#put.run(kind, name, JSON.stringify(checked.value));
    return done;
  }

  #checked(attributes: Attributes): Checked<RecordPatch> {
    const own = Object.entries(attributes).filter(
      ([key, value]) => value !== null && (this.keys as readonly string[]).includes(key),
    );
    return normaliseRecord(Object.fromEntries(own), this.#resources);
  }

  /** Between what `work` reads and what it writes nobody else writes, no command either. Throws NotReadyError while the database takes no writes. */
  #writing<T>(work: () => T): T {
    const result = writing(() => this.#database.transaction(work).immediate());
    this.#version += 1;
    return result;
  }
}

function refusalOf(faults: readonly Fault[]): BackendResult | null {
  if (faults.length === 0) return null;
  return { ok: false, status: 400, message: faults.map(({ field, problem }) => `${field}: ${problem}`).join('; ') };
}
