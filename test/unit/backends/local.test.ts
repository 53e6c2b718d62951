import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { LocalBackend } from '../../../src/backends/local.ts';
import { readLocalFile } from '../../../src/backends/local-file.ts';
import { openDatabase } from '../../../src/store/database.ts';

const directory = mkdtempSync(join(tmpdir(), 'local-'));
afterAll(() => rmSync(directory, { recursive: true }));

let count = 0;

function open(file = join(directory, `${count++}.db`)) {
  const database = openDatabase(file);
  return { file, local: new LocalBackend(database, {}), [Symbol.dispose]: () => void database.close() };
}

function jsonFile(content: unknown): string {
  const file = join(directory, `${count++}.json`);
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

const alice = { id: 'alice', realm: 'pve' };
const record = { cluster: { admin: true, pools: { lab: true } } };

describe('local records', () => {
  test('are kept as they were written, for users and groups apart', () => {
    using opened = open();
    const { local } = opened;
    expect(local.getUser(alice)).toBeNull();
    expect(local.addUser(alice, record)).toMatchObject({ ok: true });
    expect(local.addUser(alice, record)).toMatchObject({ ok: false, status: 409 });
    expect(local.addGroup({ id: 'alice', realm: 'pve' }, { cluster: {} })).toMatchObject({ ok: true });
    expect(local.getUser(alice)).toEqual(record);
    expect(local.getAllUsers()).toEqual({ 'alice@pve': record });
    expect(local.getAllGroups()).toEqual({ 'alice@pve': { cluster: {} } });
    expect(local.delUser(alice)).toMatchObject({ ok: true });
    expect(local.delUser(alice)).toMatchObject({ ok: false, status: 404 });
    expect(local.getGroup({ id: 'alice', realm: 'pve' })).toEqual({ cluster: {} });
  });

  test('are checked before they are stored, and a password is none of their business', () => {
    using opened = open();
    const { local } = opened;
    local.addUser(alice, record);
    expect(local.setUser(alice, { cluster: { admin: 'yes' } })).toMatchObject({
      ok: false,
      status: 400,
      message: 'cluster.admin: expected true or false, got "yes"',
    });
    expect(local.setUser(alice, { userpassword: 'x' })).toMatchObject({ ok: true });
    expect(local.getUser(alice)).toEqual(record);
    expect(local.setUser(alice, { cluster: { pool: 'web' }, attributes: { cn: 'A' } })).toMatchObject({ ok: true });
    expect(local.getUser(alice)).toEqual({ cluster: { pools: { web: true } } });
  });

  test('survive, and a change by this or another connection moves the version', () => {
    using server = open();
    using command = open(server.file);
    const versions = [server.local.version()];
    const moved = () => {
      versions.push(server.local.version());
      return (versions.at(-1) ?? 0) > (versions.at(-2) ?? 0);
    };
    expect(moved()).toBe(false);
    server.local.addUser(alice, record);
    expect(moved()).toBe(true);
    expect(moved()).toBe(false);
    command.local.setUser(alice, { cluster: {} });
    expect(moved()).toBe(true);
    expect(server.local.getUser(alice)).toEqual({ cluster: {} });
  });
});

test('no write of others comes between what a change reads and what it writes', () => {
  using server = open();
  const database = openDatabase(server.file, 0);
  const command = new LocalBackend(database, {});
  try {
    server.local.addUser(alice, record);
    server.local.edit('user', 'alice@pve', (before) => {
      expect(() => command.setUser(alice, { cluster: {} })).toThrow('another program holds it');
      return { ...before, resources: {} };
    });
    expect(command.getUser(alice)).toEqual({ ...record, resources: {} });
  } finally {
    database.close();
  }
});

describe('a localdb.json', () => {
  const users = {
    'alice@pve': { nodes: ['n1'], cluster: { pool: 'lab' }, resources: { cores: { max: 4 } }, attributes: { cn: 'A' } },
  };

  test('is imported once, in the form of today, and left as it is', () => {
    using opened = open();
    const { local } = opened;
    const file = jsonFile({ users, global: { application: {} } });
    const before = readFileSync(file, 'utf8');
    const at = new Date(Date.now() + 1000);
    expect(local.importOnce(file, at)).toEqual({ users: 1 });
    const imported = {
      cluster: { nodes: { n1: true }, pools: { lab: true } },
      resources: { cores: { global: { max: 4 }, nodes: {} } },
    };
    expect(local.getUser(alice)).toEqual(imported);
    expect(readFileSync(file, 'utf8')).toBe(before);
    local.delUser(alice);
    expect(local.importOnce(file, at)).toEqual({});
    expect(local.getAllUsers()).toEqual({});
    utimesSync(file, at, new Date(at.getTime() + 1000));
    expect(local.importOnce(file, at).problem).toMatch(/has changed since it was imported, and is not read again/);
  });

  test('is not imported over users that are there', () => {
    using opened = open();
    opened.local.addUser({ id: 'bob', realm: 'pve' }, { cluster: {} });
    expect(opened.local.importOnce(jsonFile({ users }), new Date(0))).toEqual({});
    expect(opened.local.importOnce(join(directory, 'absent.json'), new Date(0))).toEqual({});
  });

  test('with faults is refused as a whole, every fault with its path', () => {
    using opened = open();
    const file = jsonFile({
      users: { ...users, nobody: {}, 'bob@pve': { cluster: { admin: 1, vmid: {} } } },
      extra: 1,
    });
    expect(() => opened.local.importOnce(file, new Date(0))).toThrow('extra: unknown key');
    const inner = jsonFile({ users: { ...users, nobody: {}, 'bob@pve': { cluster: { admin: 1, pools: 'x' } } } });
    expect(() => opened.local.importOnce(inner, new Date(0))).toThrow(
      /3 faults:\n {2}nobody: expected a user name such as alice@pve\n {2}users\.bob@pve\.cluster\.admin: .*got 1\n {2}users\.bob@pve\.cluster\.pools: .*got "x"$/,
    );
    expect(opened.local.getAllUsers()).toEqual({});
  });

  test('that is missing or no JSON is told', () => {
    using opened = open();
    const problem = expect.stringMatching(/^there is no file \/.*absent\.json, so no users are imported/);
    expect(opened.local.importOnce(join(directory, 'absent.json'), new Date(0))).toEqual({ problem });
    expect(() => readLocalFile(join(directory, 'absent.json'), {})).toThrow('there is no such file');
    expect(() => readLocalFile(jsonFile('{"users": {'), {})).toThrow('line 1, column 12');
  });
});
