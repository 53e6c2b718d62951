import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { configJsonSchema, loadConfig, MissingConfigError, printConfig, pveSettings } from '../../src/config.ts';
import { FaultsError } from '../../src/schema.ts';
import { oldSections } from '../support/old-config.ts';

const directory = mkdtempSync(join(tmpdir(), 'config-'));
afterAll(() => rmSync(directory, { recursive: true }));

function fileOf(content: unknown): string {
  const file = join(directory, 'config.json');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

function faultsOf(content: unknown): string[] {
  try {
    loadConfig(fileOf(content));
    return [];
  } catch (error) {
    if (!(error instanceof FaultsError)) throw error;
    return error.faults.map(({ field, problem }) => (field === '' ? problem : `${field}: ${problem}`));
  }
}

const pve = {
  import: 'pve.js',
  config: {
    url: 'https://pve.mydomain.example/api2/json',
    fabric: 'http://localhost:8082',
    token: { user: 'proxmoxaas-api', realm: 'pam', id: 'token', uuid: 'token-secret-value' },
    root: { username: 'root@pam', password: 'rootpassword' },
  },
};
const localdb = { import: 'localdb.js', config: { dbfile: 'localdb.json' } };
const handlers = { instance: { pve: 'pve' }, users: { realm: { pve: ['localdb'] }, any: ['localdb'] } };

/** A file as ProxmoxAAS wrote it, but for the sections given. */
const old = (sections: object = {}) => ({
  backends: { pve, localdb },
  handlers,
  application: { hostname: 'paas.mydomain.example', domain: 'mydomain.example', listenPort: 8081 },
  useriso: { node: 'examplenode1', storage: 'cephfs' },
  backups: { storage: 'cephfs' },
  ...oldSections,
  ...sections,
});

describe('a file of an earlier server', () => {
  test('loads as it is, and gets the defaults of what it does not know', () => {
    const config = loadConfig(fileOf(old()));
    expect(pveSettings(config).token.uuid.reveal()).toBe('token-secret-value');
    expect(config.application).toMatchObject({ domain: 'mydomain.example', listenHost: '127.0.0.1', corsOrigins: [] });
    expect(config.defaultuser.cluster).toEqual({ vmid: { min: -1, max: -1 }, pools: {}, nodes: {} });
    expect(config.defaultuser.templates?.network?.lxc?.vlan).toBe(10);
    expect(config).toMatchObject({
      taskWait: 50,
      hold: 40,
      operatorPrivilege: 'VM.PowerMgmt',
      refresh: { sweep: 900 },
    });
    expect(config.resources.local).toMatchObject({ name: 'local', category: '' });
  });

  const form = (handlers: unknown, name = 'x') => {
    const other = { import: './backend.js', config: {} };
    writeFileSync(join(directory, 'backend.js'), '');
    return loadConfig(fileOf(old({ backends: { pve, localdb, [name]: other }, handlers }))).handlers;
  };

  test('is understood in each of the three forms of handlers', () => {
    expect(form({ pve: 'pve', db: 'localdb', auth: { ldap: 'x', pve: 'pve' } })).toEqual({
      instance: { pve: 'pve' },
      users: {
        realm: { ldap: ['localdb', 'x'], pve: ['localdb', 'pve'] },
        otherwise: ['localdb'],
        any: ['localdb', 'x', 'pve'],
      },
    });
    expect(form({ instance: { pve: 'pve' }, users: { pve: ['localdb'], ldap: ['localdb', 'x'] } })).toEqual({
      instance: { pve: 'pve' },
      users: { realm: { pve: ['localdb'], ldap: ['localdb', 'x'] }, otherwise: [], any: ['localdb', 'x'] },
    });
    expect(form({ instance: { pve: 'pve' }, users: { realm: { ldap: ['x'] }, any: ['localdb'] } })).toEqual({
      instance: { pve: 'pve' },
      users: { realm: { ldap: ['x'] }, otherwise: [], any: ['localdb'] },
    });
  });
});

describe('a fault says where it is, what is there and what is expected', () => {
  test.each<[string, object, string[]]>([
    ['a misspelt key', { taskwait: 5 }, ['taskwait: unknown key (did you mean "taskWait"?)']],
    [
      'a misspelt inner key',
      { application: { listenport: 1 } },
      ['application.listenport: unknown key (did you mean "listenPort"?)'],
    ],
    [
      'a number as text',
      { application: { listenPort: '80' } },
      ['application.listenPort: expected a number, got "80"'],
    ],
    [
      'a fractional port',
      { application: { listenPort: 80.5 } },
      ['application.listenPort: expected a whole number, got 80.5'],
    ],
    [
      'a port out of range',
      { application: { listenPort: 70000 } },
      ['application.listenPort: expected a number of at most 65535, got 70000'],
    ],
    [
      'a parameter that cannot be allowed',
      { tenants: { parameters: ['hostpci[n]'] } },
      [expect.stringMatching(/^tenants\.parameters/)],
    ],
    [
      'a volume without its storage',
      { tenants: { volumes: ['import/a.qcow2'] } },
      [expect.stringMatching(/^tenants\.volumes.*nfs:import\/debian\.qcow2/)],
    ],
    [
      'a host with a scheme',
      { application: { hostname: 'https://a' } },
      ['application.hostname: expected a host name without scheme, port or path, got "https://a"'],
    ],
    [
      'an origin with a path',
      { application: { corsOrigins: ['https://a/'] } },
      [
        'application.corsOrigins[0]: expected an exact origin such as https://paas.example.org (no path, no trailing slash), got "https://a/"',
      ],
    ],
    [
      'a network out of range',
      { application: { trustedProxies: ['10.0.0.0/33'] } },
      ['application.trustedProxies[0]: expected an IP address or a network such as 10.0.0.0/8, got "10.0.0.0/33"'],
    ],
    ['half of a section', { useriso: { node: 'n1' } }, ['useriso.storage: expected a text, got nothing']],
    [
      'an unknown type',
      { resources: { cores: { type: 'nummeric' } } },
      ['resources.cores.type: expected "numeric" or "storage" or "list", got "nummeric"'],
    ],
    [
      'a type that does not suit the name',
      { resources: { cpu: { type: 'numeric' } }, defaultuser: {} },
      ['resources.cpu.type: expected "list", got "numeric": "cpu" is what an instance itself uses'],
    ],
    [
      'a multiplier of zero',
      { resources: { cores: { type: 'numeric', multiplier: 0 } } },
      ['resources.cores.multiplier: expected a whole number above 0, got 0'],
    ],
    [
      'an unknown backend',
      { handlers: { instance: { pve: 'pve' }, users: { realm: { pve: ['localbd'] }, any: [] } } },
      ['handlers: realm "pve": there is no backend "localbd" (did you mean "localdb"?)'],
    ],
    [
      'instances of another kind',
      { handlers: { ...handlers, instance: { pve: 'localdb' } } },
      ['handlers: instances: expected the name of the backend that imports "pve", got "localdb"'],
    ],
    [
      'two PVE backends',
      { backends: { pve, localdb, other: pve } },
      ['backends: expected exactly one that imports "pve", got "pve", "other"'],
    ],
    [
      'an LDAP server without what is to be found there',
      { backends: { pve, localdb, l: { import: 'ldap.js', config: { url: 'ldap://x' } } } },
      [
        'backends.l.config.realm: expected a text, got nothing',
        'backends.l.config.users: expected an object, got nothing',
      ],
    ],
    [
      'a misspelt import',
      { backends: { pve, localdb: { import: 'lokaldb' } } },
      [
        'backends.localdb: expected import to be one of pve, pve.js, localdb, localdb.js, paasldap, paasldap.js, ldap, ldap.js, or the path of a module (./mine.js) (did you mean "localdb"?), got "lokaldb"',
      ],
    ],
    [
      'a database as dbfile',
      { backends: { pve, localdb: { import: 'localdb', config: { dbfile: 'a.db' } } } },
      [
        'backends.localdb.config.dbfile: expected the path of a localdb.json, which is imported once; the database itself is named by "database"',
      ],
    ],
    [
      'a module that is not there',
      { backends: { pve, localdb, m: { import: './nowhere.js' } } },
      [`backends.m.import: there is no file ${join(directory, 'nowhere.js')}`],
    ],
    [
      'limits of the wrong form',
      { defaultuser: { resources: { cores: { global: [] } } } },
      ['defaultuser.resources.cores: expected {"max": ...}: "cores" is configured as numeric'],
    ],
  ])('%s', (_, sections, faults) => {
    expect(faultsOf(old(sections))).toEqual(faults);
  });

  test('all faults of all sections appear together', () => {
    const faults = faultsOf(
      old({ hold: -1, taskWait: 'long', handlers: { ...handlers, instance: { pve: 'nope' } }, database: '', extra: 1 }),
    );
    expect(faults.map((fault) => fault.split(':')[0])).toEqual(['database', 'taskWait', 'hold', 'extra', 'handlers']);
  });

  test('a syntax error is told with line, column and the line', () => {
    expect(faultsOf('{\n  "hold": 1,\n  "taskWait": 5,,\n}')[0]).toBe(
      'line 3, column 17: expected a key in double quotes\n    "taskWait": 5,,\n                  ^',
    );
    expect(faultsOf('{"hold": 1, "hold": 2}')[0]).toContain('the key "hold" is given twice');
  });

  test('a file that is not there names the template and the demo', () => {
    expect(() => loadConfig(join(directory, 'absent.json'))).toThrow(MissingConfigError);
    expect(() => loadConfig(join(directory, 'absent.json'))).toThrow(/template\.config\.json[\s\S]*npm run demo/);
  });
});

test.each([
  ['/nowhere/ca.pem', 'the file /nowhere/ca.pem cannot be read (ENOENT)'],
  ['/etc/hostname', 'the file /etc/hostname does not hold a certificate in PEM form'],
])("PVE's authority in %s is a fault before anything starts", (ca, problem) => {
  const file = fileOf(old({ backends: { pve: { ...pve, config: { ...pve.config, ca } }, localdb } }));
  expect(() => loadConfig(file)).toThrow(`backends.pve.config.ca: ${problem}`);
});

test('files are looked at also where other settings of the same backend have faults, and those of LDAP too', () => {
  const ca = '/nowhere/ca.pem';
  const missing = `the file ${ca} cannot be read (ENOENT)`;
  const ldap = { import: 'ldap', config: { ca } };
  const faults = faultsOf(
    old({ backends: { pve: { ...pve, config: { ...pve.config, ca, tokn: 1 } }, localdb, ldap } }),
  );
  expect(faults).toContain('backends.pve.config.tokn: unknown key (did you mean "token"?)');
  expect(faults).toContain(`backends.pve.config.ca: ${missing}`);
  expect(faults).toContain(`backends.ldap.config.ca: ${missing}`);
});

describe('a secret', () => {
  const withSecret = (uuid: unknown) =>
    old({ backends: { pve: { ...pve, config: { ...pve.config, token: { ...pve.config.token, uuid } } }, localdb } });
  const read = (uuid: unknown) => pveSettings(loadConfig(fileOf(withSecret(uuid)))).token.uuid.reveal();

  test('comes from the file itself, the environment, another file or a systemd credential', () => {
    mkdirSync(join(directory, 'credentials'), { recursive: true });
    writeFileSync(join(directory, 'credentials', 'token'), 'from-a-file\n');
    process.env.CONFIG_TEST_SECRET = 'from-the-environment';
    process.env.CREDENTIALS_DIRECTORY = join(directory, 'credentials');
    try {
      expect(read('inline')).toBe('inline');
      expect(read({ env: 'CONFIG_TEST_SECRET' })).toBe('from-the-environment');
      expect(read({ file: join(directory, 'credentials', 'token') })).toBe('from-a-file');
      expect(read({ credential: 'token' })).toBe('from-a-file');
      expect(faultsOf(withSecret({ credential: 'root' }))).toEqual([
        expect.stringMatching(/credentials\/root cannot be read \(ENOENT\): the unit needs LoadCredential=root:/),
      ]);
    } finally {
      delete process.env.CONFIG_TEST_SECRET;
      delete process.env.CREDENTIALS_DIRECTORY;
    }
  });

  test.each<[unknown, string]>([
    [{ env: 'CONFIG_TEST_ABSENT' }, 'the environment variable CONFIG_TEST_ABSENT is not set'],
    [{ file: '/nowhere/secret' }, 'the file /nowhere/secret cannot be read (ENOENT)'],
    [{ credential: 'token' }, "the credential token needs systemd's LoadCredential=: CREDENTIALS_DIRECTORY is not set"],
    [{ environment: 'X' }, 'expected a text, {"env": "NAME"}, {"file": "/path"} or {"credential": "name"}'],
    [['hunter2'], 'expected a text, {"env": "NAME"}, {"file": "/path"} or {"credential": "name"}'],
  ])('%j is a fault that names its path and source', (uuid, problem) => {
    expect(faultsOf(withSecret(uuid))).toEqual([`backends.pve.config.token.uuid: ${problem}`]);
  });

  test('that only the service can read is no hindrance to commands that need none', () => {
    expect(() => loadConfig(fileOf(withSecret({ env: 'CONFIG_TEST_ABSENT' })), { secrets: 'unread' })).not.toThrow();
  });

  test('is never printed, neither by the configuration nor by its faults', () => {
    const module = { import: './backend.js', config: { bindPassword: 'hunter2', url: 'ldap://me:hunter2@host' } };
    writeFileSync(join(directory, 'backend.js'), '');
    const config = loadConfig(fileOf(old({ backends: { pve, localdb, module } })));
    const printed = `${printConfig(config)}${String(pveSettings(config).token.uuid)}`;
    for (const secret of ['hunter2', 'token-secret-value', 'rootpassword']) expect(printed).not.toContain(secret);
    expect(printed).toContain('"uuid": "[secret]"');

    const broken = old({
      backends: {
        pve: {
          ...pve,
          config: { ...pve.config, token: 'a@pve!b=hunter2', password: 'hunter2', url: 'https://a:hunter2@b/x' },
        },
        localdb,
      },
    });
    expect(faultsOf(broken).join()).not.toContain('hunter2');
    for (const text of [
      '{"password": hunter2"}',
      '{"token": {"uuid":\n"hunter2" x}}',
      '{"uuid":\n"hunter2" x}',
      '{"password" "hunter2"}',
    ]) {
      expect(faultsOf(text).join()).not.toContain('hunter2');
    }
  });
});

describe('the files in the repository', () => {
  const root = join(import.meta.dirname, '../..');

  test('the JSON schema is the one that the code gives', () => {
    const file = JSON.parse(readFileSync(join(root, 'config/config.schema.json'), 'utf8'));
    expect(file, 'renew it with: node . config schema > config/config.schema.json').toEqual(
      JSON.parse(JSON.stringify(configJsonSchema())),
    );
  });

  test('the template shows every key, has no secrets and only lacks its files', () => {
    const template = JSON.parse(readFileSync(join(root, 'template.config.json'), 'utf8'));
    const { properties } = configJsonSchema() as { properties: object };
    expect(Object.keys(template).toSorted()).toEqual(Object.keys(properties).toSorted());
    const lacking = /^backends\.pve\.config\.\S+: the (?:credential .*|file .* cannot be read \(ENOENT\))/;
    expect(faultsOf(template).filter((fault) => !lacking.test(fault))).toEqual([]);
    expect(() => loadConfig(join(root, 'template.config.json'), { secrets: 'unread' })).not.toThrow();
  });

  test('the demo configuration loads', () => {
    expect(pveSettings(loadConfig(join(root, 'config/demo.json'))).token.id).toBe('gate');
  });
});
