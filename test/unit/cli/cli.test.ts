import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { run } from '../../../src/cli/run.ts';

const root = join(import.meta.dirname, '../../..');
const directory = mkdtempSync(join(tmpdir(), 'cli-'));
afterAll(() => rmSync(directory, { recursive: true }));

const configFile = join(directory, 'config.json');
const usersFile = join(directory, 'users.json');
let count = 0;

beforeEach(() => {
  const config = {
    backends: {
      pve: {
        import: 'pve',
        config: {
          url: 'http://127.0.0.1:1',
          token: { user: 'u', realm: 'pve', id: 't', uuid: { env: 'CLI_TEST_SECRET' } },
        },
      },
      localdb: { import: 'localdb' },
    },
    handlers: {
      instance: { pve: 'pve' },
      users: { realm: { pve: ['localdb'] }, any: ['localdb'], groups: ['lab@pve'] },
    },
    resources: { cores: { type: 'numeric' }, memory: { type: 'numeric' } },
    database: join(directory, `${count++}.db`),
  };
  writeFileSync(configFile, JSON.stringify(config));
  writeFileSync(
    usersFile,
    JSON.stringify({
      users: {
        'alice@pve': {
          nodes: ['n1'],
          cluster: { pool: 'lab', vmid: { min: 100, max: 199 } },
          resources: { cores: { max: 4 }, gone: { max: 1 } },
        },
        'bob@pve': { cluster: { admin: true } },
      },
    }),
  );
});

/** What a command line does: in this process, which is spared the start of another. */
async function node(...args: string[]) {
  const out = vi.spyOn(console, 'log').mockReturnValue();
  const err = vi.spyOn(console, 'error').mockReturnValue();
  const said = ({ mock }: typeof out) => mock.calls.map(([line]) => `${line}\n`).join('');
  try {
    const status = await run(['--config', configFile, ...args]);
    return { status, stdout: said(out), stderr: said(err) };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}

function nodeProcess(...args: string[]) {
  return spawnSync(process.execPath, [root, '--config', configFile, ...args], { encoding: 'utf8', cwd: directory });
}

describe('import', () => {
  test('shows what it would do, does it, and then has nothing left to do', async () => {
    const shown = await node('import', usersFile, '--dry-run');
    expect(shown).toMatchObject({ status: 0, stderr: '' });
    expect(shown.stdout).toContain('alice@pve: new\n  note: resources.gone has no effect');
    expect(shown.stdout).toContain('Would import 2 of 2 users; 0 unchanged.');
    expect((await node('user', 'list')).stdout).toBe('user  admin  vmids  pools  nodes\n');

    expect((await node('import', usersFile)).stdout).toContain('Imported 2 of 2 users; 0 unchanged.');
    const before = (await node('user', 'get', 'alice@pve')).stdout;
    expect((await node('import', usersFile)).stdout).toContain('Imported 0 of 2 users; 2 unchanged.');
    expect((await node('user', 'get', 'alice@pve')).stdout).toBe(before);
    expect((await node('user', 'list')).stdout).toBe(
      'user       admin  vmids    pools  nodes\nalice@pve  no     100-199  lab    n1\nbob@pve    yes    -        -      -\n',
    );
  });

  test('tells what changes in a record that is there', async () => {
    await node('user', 'set', 'bob@pve', 'cluster.admin=false');
    expect((await node('import', usersFile)).stdout).toContain('bob@pve: changed\n  cluster.admin: false -> true\n');
  });

  test('lists all faults of a file and imports nothing of it', async () => {
    writeFileSync(
      usersFile,
      JSON.stringify({ users: { 'alice@pve': { cluster: { admin: 1 } }, bob: {}, 'eve@pve': {} } }),
    );
    const { status, stderr } = await node('import', usersFile);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /2 faults:\n.*alice@pve.*cluster\.admin: expected true or false, got 1\n {2}bob: expected a user name/,
    );
    expect((await node('user', 'list')).stdout).not.toContain('eve');
  });
});

test('a group is given limits like a user, and a group of PVE has one name', async () => {
  expect((await node('group', 'set', 'Domain Users@ldap', 'cluster.pools.lab=true')).stdout).toBe(
    'Domain Users@ldap: cluster.pools.lab: nothing -> true\n  note: the record has no effect: handlers.users.groups does not name the group\n',
  );
  expect((await node('group', 'set', 'lab@pve', 'cluster.pools.lab=true')).stdout).not.toContain('note');
  expect((await node('group', 'list')).stdout).toMatch(/^group +admin .*\nDomain Users@ldap .*\nlab +no .*lab/);
  expect(JSON.parse((await node('group', 'get', 'lab')).stdout)).toMatchObject({ cluster: { pools: { lab: true } } });
  expect((await node('group', 'delete', 'lab')).stdout).toBe('lab: forgotten\n');
  expect(await node('group', 'set', 'a/b', 'cluster.admin=true')).toMatchObject({ status: 2 });
  expect((await node('user', 'list')).stdout).not.toContain('lab');
});

describe('user set', () => {
  test('begins and changes a record, value by value', async () => {
    const begun = await node(
      'user',
      'set',
      'alice@pve',
      'resources.cores.global.max=16',
      'cluster.admin=true',
      'cluster.pools.a\\.b=true',
      'resources.memory.nodes.n1.max=unlimited',
    );
    expect(begun).toMatchObject({ status: 0, stderr: '' });
    expect(begun.stdout).toContain('alice@pve: cluster.admin: nothing -> true\n');
    expect(begun.stdout).not.toContain('note');
    expect((await node('user', 'set', 'alice@ldap', 'cluster.admin=true')).stdout).toContain(
      'note: the record has no effect: handlers.users asks no localdb about the realm ldap',
    );
    expect(JSON.parse((await node('user', 'get', 'alice@pve')).stdout)).toEqual({
      resources: { cores: { global: { max: 16 }, nodes: {} }, memory: { nodes: { n1: { max: 'unlimited' } } } },
      cluster: { admin: true, pools: { 'a.b': true } },
    });
    expect((await node('user', 'set', 'alice@pve', 'cluster.admin=null')).stdout).toBe(
      'alice@pve: cluster.admin: true -> nothing\n',
    );
    expect((await node('user', 'set', 'alice@pve', 'cluster.pools.a\\.b=true')).stdout).toBe('alice@pve: unchanged\n');
  });

  test.each([
    [['alice@pve', 'cluster.amdin=true'], 1, 'cluster.amdin: unknown key (did you mean "admin"?)'],
    [['alice@pve', 'cluster.admin=yes'], 1, 'cluster.admin: expected true or false, got "yes"'],
    [
      ['alice@pve', 'resources.coers.global.max=1'],
      1,
      'resources.coers: the configuration declares no such resource (did you mean "cores"?)',
    ],
    [['alice@pve', 'resources.cores.global.max=-1'], 1, 'expected a number of at least 0 or "unlimited", got -1'],
    [['alice@pve', 'clustr.admin=true'], 2, 'not "clustr" (did you mean "cluster"?)'],
    [['alice@pve', 'cluster.admin'], 2, 'Expected KEY=VALUE, got cluster.admin.'],
    [['alice', 'cluster.admin=true'], 2, 'Expected a user name such as alice@pve, got alice.'],
    [['alice@pve'], 2, 'Expected: user set USER KEY=VALUE...'],
  ])('%j changes nothing and says why', async (args, code, problem) => {
    const { status, stderr } = await node('user', 'set', ...args);
    expect({ status, stderr }).toEqual({ status: code, stderr: expect.stringContaining(problem) });
    expect((await node('user', 'list')).stdout).not.toContain('alice');
  });
});

describe('the command line', () => {
  test('checks, prints and describes the configuration', async () => {
    expect(await node('config', 'check')).toMatchObject({
      status: 1,
      stderr: `${configFile} has 1 fault:\n  backends.pve.config.token.uuid: the environment variable CLI_TEST_SECRET is not set\n`,
    });
    expect(JSON.parse((await node('config', 'print')).stdout)).toMatchObject({
      hold: 40,
      backends: { pve: { config: { token: { uuid: '[secret]' } } } },
    });
    expect(JSON.parse((await node('config', 'schema')).stdout)).toHaveProperty('properties.backends');
  });

  test.each([
    [['cofnig'], 'Unknown command "cofnig" (did you mean "config"?).'],
    [
      ['user', 'gte'],
      'Unknown command "user gte": expected list, get, set, delete after "user" (did you mean "get"?).',
    ],
    [['user'], 'Incomplete command: expected list, get, set, delete after "user".'],
    [['--confg', 'x'], 'Unknown option --confg (did you mean "--config"?).'],
    [['group', 'delete', 'nobody'], 'There is no local group nobody.'],
    [['user', 'get', 'nobody@pve'], 'There is no local user nobody@pve.'],
    [['config', 'check', 'other.json'], '"config check" takes nothing more, got "other.json".'],
    [['owner', 'set', '105', 'alice@pve', '--dry-run'], '"owner set" does not know --dry-run.'],
  ])('%j is misuse: code 2, and a hint', async (args, message) => {
    expect(await node(...args)).toMatchObject({ status: 2, stderr: `${message}\nSee: node . --help\n`, stdout: '' });
  });

  test('gives help and version without a configuration', async () => {
    rmSync(configFile);
    expect((await node('--help')).stdout).toMatch(/node \. user set USER KEY=VALUE/);
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(nodeProcess('--version').stdout).toBe(`${version}\n`);
  });

  test('says without a stack trace that PVE is away, and leaves no backend open that would keep it from ending', async () => {
    const config = JSON.parse(readFileSync(configFile, 'utf8'));
    config.backends.pve.config.token.uuid = '11111111-2222-4333-8444-555555555555';
    config.backends.mine = { import: './mine.mjs', config: {} };
    writeFileSync(configFile, JSON.stringify(config));
    const module = "export default () => ({ keys: [], close: () => console.log('closed') });";
    writeFileSync(join(directory, 'mine.mjs'), module);
    expect(await node('owner', 'list')).toEqual({
      status: 1,
      stdout: 'closed\n',
      stderr: expect.stringMatching(/^a PVE host failed\nGET \/cluster\/resources at 127\.0\.0\.1:1 was not sent.*\n$/),
    });
  });

  test('does not start without a configuration, and says what to do without a stack trace', () => {
    rmSync(configFile);
    const { status, stderr } = nodeProcess();
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^There is no configuration .*config\.json\.\nCopy template\.config\.json .*\n.*npm run demo\n$/,
    );
  });
});
