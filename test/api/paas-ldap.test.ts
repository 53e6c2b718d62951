import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { decoded, refusalIn, shapes } from '../support/decoder.ts';
import { oldSections } from '../support/old-config.ts';
import { type PaasLdapOptions, type PaasLdapService, startPaasLdap } from '../support/paas-ldap.ts';
import { Client, type Reply, type Site, type SiteOptions, startSite } from '../support/site.ts';
import { hasSlapd, startSlapd } from '../support/slapd.ts';

interface DirectorySite extends AsyncDisposable {
  readonly site: Site;
  readonly service: PaasLdapService;
}

/** A site whose realm `ldap` has its users in a directory: alice is a tenant, admin an administrator. */
async function siteWithDirectory({
  maxAge,
  cookie,
  ldap,
  ...options
}: SiteOptions & PaasLdapOptions = {}): Promise<DirectorySite> {
  const service = await startPaasLdap({
    ...(maxAge === undefined ? {} : { maxAge }),
    ...(cookie === undefined ? {} : { cookie }),
    ...(ldap === undefined ? {} : { ldap }),
  });
  const site = await startSite({ users: { bob: { cores: 2 } }, ...options });
  await site.stopServer();
  for (const name of ['alice', 'admin']) site.cluster.access.addUser(`${name}@ldap`, { password: `${name}-secret` });
  const folder = dirname(site.configFile);
  const config = JSON.parse(readFileSync(site.configFile, 'utf8'));
  const directory = { import: 'paasldap', config: { url: service.url, realm: 'ldap', deadline: 1 } };
  const any = ['localdb', 'directory'];
  const changed = {
    ...config,
    backends: { ...config.backends, directory },
    handlers: { ...config.handlers, users: { realm: { pve: ['pve', 'localdb'], ldap: any }, any } },
    // A new one, since records are imported only once.
    database: join(folder, 'with-directory.db'),
  };
  const records = {
    'alice@ldap': { cluster: { pools: { lab: true } } },
    'admin@ldap': { cluster: { admin: true } },
    'bob@pve': {},
  };
  writeFileSync(site.configFile, JSON.stringify(changed));
  writeFileSync(join(folder, 'localdb.json'), JSON.stringify({ users: records }));
  await site.startServer();
  return {
    site,
    service,
    async [Symbol.asyncDispose]() {
      await site[Symbol.asyncDispose]();
      await service[Symbol.asyncDispose]();
    },
  };
}

function signIn(client: Client, name: string, password = `${name.split('@')[0]}-secret`): Promise<Reply> {
  return client.post('/access/ticket', { username: name, password });
}

async function signedIn(site: Site, name: string): Promise<Client> {
  const client = new Client(site);
  expect(await signIn(client, name)).toMatchObject({ status: 200, body: { auth: true } });
  return client;
}

/** The lines that set cookies, by name. */
const cookiesOf = ({ headers }: Reply): Readonly<Record<string, string>> =>
  Object.fromEntries(headers.getSetCookie().map((line) => [line.split('=', 1)[0], line]));

const signInsAtPve = ({ simulator }: Site): number =>
  simulator.requests.filter(({ method, path }) => method === 'POST' && path.endsWith('/access/ticket')).length;

test('a sign-in opens a session with the directory and with PVE, and their cookies share one end', async () => {
  await using scene = await siteWithDirectory({ maxAge: 600 });
  const cookies = cookiesOf(await signIn(new Client(scene.site), 'alice@ldap'));
  expect(Object.keys(cookies).toSorted()).toEqual([
    'CSRFPreventionToken',
    'PAASLDAPAuthTicket',
    'PVEAuthCookie',
    'auth',
    'username',
  ]);
  for (const line of Object.values(cookies)) expect(line).toMatch(/; Max-Age=600;.*; Secure/);
  expect(cookies.PAASLDAPAuthTicket).toContain('; HttpOnly');
  expect(scene.service.sessions).toBe(1);
});

test("users of another realm have nothing to do with the realm's directory", async () => {
  await using scene = await siteWithDirectory();
  await scene.service.stop();
  await signedIn(scene.site, 'bob@pve');
});

describe('nothing is set and nothing stays open when', () => {
  const without = async (scene: DirectorySite, password: string, status: number): Promise<void> => {
    const reply = await signIn(new Client(scene.site), 'alice@ldap', password);
    expect(refusalIn(reply).status).toBe(status);
    expect(reply.headers.getSetCookie()).toEqual([]);
    expect(scene.service.sessions).toBe(0);
  };

  test('the directory refuses, and PVE is not asked then', async () => {
    await using scene = await siteWithDirectory();
    await without(scene, 'wrong', 401);
    expect(signInsAtPve(scene.site)).toBe(0);
  });

  test('PVE refuses', async () => {
    await using scene = await siteWithDirectory();
    scene.site.cluster.access.addUser('alice@ldap', { password: 'another' });
    await without(scene, 'alice-secret', 401);
    expect(scene.service.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /ticket',
      'GET /users/alice',
      'DELETE /ticket',
    ]);
  });

  test('the directory is away', async () => {
    await using scene = await siteWithDirectory();
    await scene.service.stop();
    await without(scene, 'alice-secret', 503);
    expect(signInsAtPve(scene.site)).toBe(0);
    await scene.service.start();
    await signedIn(scene.site, 'alice@ldap');
  });

  test('the directory is silent', async () => {
    await using scene = await siteWithDirectory();
    scene.service.intervene = () => true;
    await without(scene, 'alice-secret', 504);
  });

  test('PVE is away', async () => {
    await using scene = await siteWithDirectory();
    await scene.site.simulator.stop();
    await without(scene, 'alice-secret', 503);
  });
});

test('signing out ends the session with the directory, and takes its cookie away', async () => {
  await using scene = await siteWithDirectory({ cookie: 'SID' });
  const alice = await signedIn(scene.site, 'alice@ldap');
  expect(alice.cookies.has('SID')).toBe(true);
  expect(await alice.delete('/access/ticket')).toMatchObject({ status: 200, body: { auth: false } });
  expect(scene.service.sessions).toBe(0);
  expect([...alice.cookies.keys()]).toEqual([]);
});

test('signing out succeeds while the directory is away, and says that it was', async () => {
  await using scene = await siteWithDirectory();
  const alice = await signedIn(scene.site, 'alice@ldap');
  await scene.service.stop();
  const reply = await alice.delete('/access/ticket');
  expect(reply).toMatchObject({ status: 200, body: { auth: false, away: ['directory'] } });
});

test('nothing that a user may do depends on the directory: it can be away, and the cookie gone', async () => {
  await using scene = await siteWithDirectory();
  const alice = await signedIn(scene.site, 'alice@ldap');
  const { body: before } = await alice.get('/access/users/alice@ldap');
  expect(before.user).toMatchObject({ attributes: { cn: 'Alice Ames' }, cluster: { pools: { lab: true } } });
  await scene.service.stop();
  alice.cookies.delete('PAASLDAPAuthTicket');
  const asked = scene.service.requests.length;
  expect(await alice.get('/user/config/cluster')).toMatchObject({ status: 200, body: { pools: { lab: true } } });
  expect((await alice.get('/user/dynamic/resources')).status).toBe(200);
  expect((await alice.get('/access/users/alice@ldap')).body).toEqual(before);
  expect(scene.service.requests).toHaveLength(asked);
});

test('no attribute of the directory makes an administrator', async () => {
  await using scene = await siteWithDirectory();
  scene.service.intervene = ({ method, path }, response) => {
    if (`${method} ${path}` !== 'GET /users/alice') return false;
    const user = { dn: 'uid=alice', attributes: { uid: 'alice', cluster: { admin: true } }, cluster: { admin: true } };
    response.end(JSON.stringify({ ok: true, user }));
    return true;
  };
  const alice = await signedIn(scene.site, 'alice@ldap');
  expect((await alice.get('/user/config/cluster')).body.admin).toBe(false);
  expect((await alice.get('/access/users/alice@ldap')).body.user.cluster.admin).toBe(false);
});

test('administrators see the users and groups of the directory beside the local records, as far as they are signed in there', async () => {
  await using scene = await siteWithDirectory();
  const admin = await signedIn(scene.site, 'admin@ldap');
  const { users } = decoded(shapes.users, await admin.get('/access/users'));
  expect(Object.keys(users).toSorted()).toEqual(['admin@ldap', 'alice@ldap', 'bob@ldap', 'bob@pve']);
  expect(users['alice@ldap']).toMatchObject({
    dn: 'uid=alice,ou=people,dc=example,dc=org',
    attributes: { cn: 'Alice Ames', memberOf: ['cn=lab,ou=groups,dc=example,dc=org'] },
    cluster: { pools: { lab: true } },
  });
  const { groups } = decoded(shapes.groups, await admin.get('/access/groups'));
  expect(groups['lab@ldap']).toMatchObject({ attributes: { member: ['', 'uid=alice,ou=people,dc=example,dc=org'] } });
  expect(decoded(shapes.group, await admin.get('/access/groups/lab@ldap')).group).toEqual(groups['lab@ldap']);

  admin.cookies.delete('PAASLDAPAuthTicket');
  expect(Object.keys((await admin.get('/access/users')).body.users).toSorted()).toEqual([
    'admin@ldap',
    'alice@ldap',
    'bob@pve',
  ]);
});

describe('a new password', () => {
  const story = async (scene: DirectorySite): Promise<void> => {
    const alice = await signedIn(scene.site, 'alice@ldap');
    expect(await alice.post('/access/password', { password: 'a-new-one' })).toMatchObject({
      status: 200,
      body: { ok: true },
    });
    expect((await signIn(new Client(scene.site), 'alice@ldap')).status).toBe(401);
    scene.site.cluster.access.addUser('alice@ldap', { password: 'a-new-one' });
    expect((await signIn(new Client(scene.site), 'alice@ldap', 'a-new-one')).status).toBe(200);
  };

  test('is stored in the directory, which asks for no old one', async () => {
    await using scene = await siteWithDirectory();
    await story(scene);
  });

  const slapd = hasSlapd || process.env.CI === 'true';
  test.skipIf(!slapd)('is stored in OpenLDAP (skipped where slapd is not installed)', async () => {
    await using scene = await siteWithDirectory({ ldap: await startSlapd() });
    await story(scene);
  });

  test('needs a new sign-in when the directory has forgotten the session', async () => {
    await using scene = await siteWithDirectory();
    const alice = await signedIn(scene.site, 'alice@ldap');
    scene.service.restart();
    const refused = refusalIn(await alice.post('/access/password', { password: 'a-new-one' }));
    expect(refused).toMatchObject({ status: 401, error: expect.stringContaining('Sign in again') });
  });

  test('is refused in the words of the directory', async () => {
    await using scene = await siteWithDirectory();
    const alice = await signedIn(scene.site, 'alice@ldap');
    scene.service.intervene = ({ method }, response) => {
      if (method !== 'POST') return false;
      const error = { code: 19, result: 'Constraint Violation', message: 'Password is too young to change' };
      response.writeHead(400).end(JSON.stringify({ ok: false, error }));
      return true;
    };
    expect(refusalIn(await alice.post('/access/password', { password: 'a-new-one' }))).toMatchObject({
      status: 400,
      error: 'The directory refused: Constraint Violation: Password is too young to change',
    });
  });
});

describe('a configuration of an earlier server', () => {
  const handlers = {
    'of early 2024': { pve: 'pve', db: 'localdb', auth: { ldap: 'paasldap' } },
    'of June 2024': { instance: { pve: 'pve' }, users: { pve: ['localdb'], ldap: ['localdb', 'paasldap'] } },
    'since July 2024': {
      instance: { pve: 'pve' },
      users: { realm: { pve: ['localdb'], ldap: ['localdb', 'paasldap'] }, any: ['localdb', 'paasldap'] },
    },
  };

  /** A whole file as they were, with everything that such files had. */
  const oldFile = (pve: string, directory: string, which: keyof typeof handlers) => ({
    backends: {
      pve: {
        import: 'pve.js',
        config: {
          url: `${pve}/api2/json`,
          token: { user: 'quota-proxy', realm: 'pve', id: 'gate', uuid: 'secret-of-the-token' },
          root: { username: 'root@pam', password: 'rootpass' },
        },
      },
      localdb: { import: 'localdb.js', config: { dbfile: 'localdb.json' } },
      paasldap: { import: 'paasldap.js', config: { url: directory, realm: 'ldap' } },
    },
    handlers: handlers[which],
    application: { hostname: 'paas.example.org', domain: 'example.org', listenPort: 8081 },
    useriso: { node: 'n1', storage: 'shared' },
    ...oldSections,
  });

  test.each(Object.keys(handlers) as (keyof typeof handlers)[])(
    'loads as it is, and its users sign in (%s)',
    async (which) => {
      await using scene = await siteWithDirectory();
      await scene.site.stopServer();
      const written = JSON.parse(readFileSync(scene.site.configFile, 'utf8'));
      const old = oldFile(scene.site.simulator.url, scene.service.url, which);
      writeFileSync(scene.site.configFile, JSON.stringify(old));
      const { users } = loadConfig(scene.site.configFile).handlers;
      expect(users.realm.ldap).toEqual(['localdb', 'paasldap']);
      expect(users.any).toEqual(['localdb', 'paasldap']);

      // The file as it is would listen on a fixed port, and keep its records where the tests run.
      old.backends.pve.config.token.uuid = written.backends.pve.config.token.uuid;
      old.backends.localdb.config.dbfile = written.backends.localdb.config.dbfile;
      const { database } = written;
      writeFileSync(scene.site.configFile, JSON.stringify({ ...old, database, application: { listenPort: 0 } }));
      await scene.site.startServer();
      const alice = await signedIn(scene.site, 'alice@ldap');
      expect((await alice.get('/user/config/cluster')).body).toMatchObject({ pools: { lab: true } });
      const admin = await signedIn(scene.site, 'admin@ldap');
      expect((await admin.get('/access/users')).body.users).toHaveProperty(['bob@ldap']);
    },
  );
});
