import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificate } from '../../simulator/certificate.ts';
import { refusalIn } from '../support/decoder.ts';
import { administrator, groups, memoryLdap, people, person } from '../support/ldap.ts';
import { type LdapRelay, startLdapRelay } from '../support/ldap-relay.ts';
import { type Nginx, startNginx } from '../support/nginx.ts';
import { startPaasLdap } from '../support/paas-ldap.ts';
import { missingPrograms } from '../support/programs.ts';
import { type Body, Client, GiB, type Reply, type Site, startSite, until } from '../support/site.ts';
import { proxyAccount, type Slapd, startSlapd } from '../support/slapd.ts';

const skip = missingPrograms('nginx', 'slapd', 'ldapsearch');
const reason = skip === undefined ? '' : ` (${skip})`;

/** There is an alice in each realm: another person, with a password, limits, vmids and a pool of her own. */
const realms = {
  pve: { password: 'alice-secret', cores: 4, vmid: 100, pool: 'alice' },
  ldap: { password: 'alice-in-ldap', cores: 5, vmid: 200, pool: 'students' },
  paas: { password: 'alice-in-paas', cores: 6, vmid: 300, pool: 'paas' },
} as const;

type RealmName = keyof typeof realms;
const names = Object.keys(realms) as RealmName[];
const passwords = Object.values(realms).map(({ password }) => password);

/** Those of slapd beside alice, each with the password `<name>-secret`. */
const classmates = ['carl', 'dora', 'erik'] as const;

const alice = `uid=alice,${people}`;
const passwordOf = (name: RealmName) =>
  [{ operation: 'replace', attribute: 'userPassword', values: [realms[name].password] }] as const;

describe.skipIf(skip !== undefined)(`through nginx, users of all realms at once${reason}`, () => {
  const opened = new AsyncDisposableStack();
  let slapd: Slapd;
  /** The way to slapd. */
  let wire: LdapRelay;
  let site: Site;
  let nginx: Nginx;

  beforeAll(async () => {
    const { certificate, key } = await makeCertificate('127.0.0.1');
    slapd = opened.use(await startSlapd({ tls: { key, cert: certificate } }));
    await slapd.root.modify(alice, passwordOf('ldap'));
    await slapd.addAll([
      ...classmates.map((id) => person(id, id, id, `${id}-secret`)),
      {
        dn: `cn=students,${groups}`,
        attributes: {
          objectClass: ['groupOfNames'],
          cn: ['students'],
          member: [alice, ...classmates.map((id) => `uid=${id},${people}`)],
        },
      },
    ]);
    wire = opened.use(await startLdapRelay({ socket: slapd.socket }));
    const memory = memoryLdap();
    await (await memory.bind(administrator, 'admin-secret')).modify(alice, passwordOf('paas'));
    const service = opened.use(await startPaasLdap({ ldap: memory }));

    const { cores, vmid } = realms.pve;
    const tenant = { cores, memory: 8 * GiB, vmid: [vmid, vmid + 99] } as const;
    site = opened.use(await startSite({ users: { alice: tenant, root: { admin: true } } }));
    await site.stopServer();
    writeFileSync(join(site.directory, 'ca.pem'), certificate);
    reconfigure(site, { ldap: wire.url, paas: service.url });
    await site.startServer();
    nginx = opened.use(await startNginx({ server: site.url, hostname: 'localhost', pages: 'test/support/dashboard' }));
    const trusted = getCACertificates('default');
    setDefaultCACertificates([...trusted, nginx.certificate]);
    opened.defer(() => setDefaultCACertificates(trusted));
    site.url = nginx.url;

    const root = await site.signIn('root');
    const limits = Object.entries(recordIn(site, 'ldap')).map(([key, value]) => [key, JSON.stringify(value)]);
    const given = await root.send('PUT', '/access/groups/students@ldap', Object.fromEntries(limits));
    expect(given).toMatchObject({ status: 200, body: { ok: true } });
  });

  afterAll(() => opened.disposeAsync());

  const attempt = (client: Client, username: string, password: string): Promise<Reply> =>
    client.post('/access/ticket', { username, password });

  async function signedIn(username: string, password: string): Promise<Client> {
    const client = new Client(site);
    expect(await attempt(client, username, password)).toMatchObject({ status: 200, body: { auth: true } });
    return client;
  }

  const standing = (client: Client): Promise<Reply> => client.get('/user/dynamic/resources');

  test.each(names)('alice of the realm %s signs in, has the limits of hers alone, and signs out', async (name) => {
    const { password, cores, vmid } = realms[name];
    const client = await signedIn(`alice@${name}`, password);
    const total = { max: cores, used: 0, avail: cores };
    expect(await standing(client)).toMatchObject({ status: 200, body: { cores: { total } } });

    expect(await client.createVm(vmid, { cores })).toMatchObject({ status: 200 });
    expect((await standing(client)).body.cores.total).toMatchObject({ max: cores, used: cores, avail: 0 });
    expect(refusalIn(await client.createVm(vmid + 1))).toMatchObject({
      status: 403,
      error: expect.stringMatching(/quota.*cores/i),
    });
    expect(await client.delete(`/cluster/n1/qemu/${vmid}/delete`)).toMatchObject({ status: 200 });

    const before = new Map(client.cookies);
    expect(await client.delete('/access/ticket')).toMatchObject({ status: 200, body: { auth: false } });
    expect([before.has('PVEAuthCookie'), [...client.cookies.keys()]]).toEqual([true, []]);
    expect(refusalIn(await standing(client)).status).toBe(401);
  });

  test.each(names)('a password that is wrong, empty or of another realm signs nobody in at %s', async (name) => {
    const client = new Client(site);
    for (const password of ['wrong', ...passwords.filter((one) => one !== realms[name].password)])
      expect(refusalIn(await attempt(client, `alice@${name}`, password)).status).toBe(401);
    expect(refusalIn(await attempt(client, `alice@${name}`, ''))).toMatchObject({ status: 400 });
    expect([...client.cookies.keys()]).toEqual([]);
  });

  test("PVE's own users sign in at PVE's own address, and nobody with a wrong or empty password", async () => {
    const ask = (path: string, init?: RequestInit) => fetch(`${nginx.url}/api2/json${path}`, init);
    const signIn = (password: string) =>
      ask('/access/ticket', {
        method: 'POST',
        body: new URLSearchParams({ username: 'alice', realm: 'pve', password }),
      });
    for (const password of ['wrong', '']) expect((await signIn(password)).status).toBe(401);
    const { data } = (await (await signIn(realms.pve.password)).json()) as Body;
    expect(data.username).toBe('alice@pve');
    const headers = { cookie: `PVEAuthCookie=${data.ticket}` };
    expect((await ask('/cluster/resources', { headers })).status).toBe(200);
  });

  test('who is disabled or deleted in LDAP is cut off within seconds, and others are not', async () => {
    const [carl, dora] = await Promise.all([
      signedIn('carl@ldap', 'carl-secret'),
      signedIn('dora@ldap', 'dora-secret'),
    ]);
    for (const client of [carl, dora]) expect((await standing(client)).status).toBe(200);
    const disabling = { operation: 'replace', attribute: 'employeeType', values: ['disabled'] } as const;
    await slapd.root.modify(`uid=carl,${people}`, [disabling]);
    await slapd.root.remove(`uid=dora,${people}`);
    const isOut = async (client: Client) => (await standing(client)).status === 401;
    await until('both are cut off', async () => (await isOut(carl)) && (await isOut(dora)), 20_000);
    for (const client of [carl, dora]) {
      expect(refusalIn(await client.createVm(290)).status).toBe(401);
      expect(refusalIn(await client.get('/access')).status).toBe(401);
    }
    const headers = {
      cookie: `PVEAuthCookie=${carl.cookies.get('PVEAuthCookie')}`,
      csrfpreventiontoken: decodeURIComponent(carl.cookies.get('CSRFPreventionToken') ?? ''),
    };
    for (const path of ['/nodes/n1/qemu', '/nodes/n1/qemu/290/status/start', '/nodes/n1/qemu/290/vncproxy'])
      expect((await fetch(`${nginx.url}/api2/json${path}`, { method: 'POST', headers })).status, path).toBe(401);
    // Also what PVE alone would answer, past nginx, where the way is shortest.
    for (const base of [nginx.url, site.url])
      for (const path of ['/version', '/cluster/resources', '/access/permissions'])
        expect((await fetch(`${base}/api2/json${path}`, { headers })).status, path).toBe(401);
    for (const name of ['carl', 'dora'])
      expect(refusalIn(await attempt(new Client(site), `${name}@ldap`, `${name}-secret`)).status).toBe(401);
    expect((await standing(await signedIn('alice@ldap', realms.ldap.password))).status).toBe(200);
  });

  test('while LDAP is away its users are told so, and those of other realms work on', async () => {
    const erik = await signedIn('erik@ldap', 'erik-secret');
    const away = { error: expect.stringContaining('Backend "ldap"') };
    wire.trouble = 'never';
    expect(refusalIn(await standing(erik))).toMatchObject({ status: 504, ...away });
    wire.trouble = undefined;
    await wire.stop();
    expect(refusalIn(await standing(erik))).toMatchObject({ status: 503, ...away });
    expect(refusalIn(await erik.createVm(280))).toMatchObject({ status: 503, ...away });
    expect(refusalIn(await attempt(new Client(site), 'alice@ldap', realms.ldap.password))).toMatchObject({
      status: 503,
      ...away,
    });

    for (const name of ['pve', 'paas'] as const) {
      const { password, vmid } = realms[name];
      const client = await signedIn(`alice@${name}`, password);
      expect(await client.createVm(vmid + 2)).toMatchObject({ status: 200 });
      expect((await standing(client)).body.cores.total.used).toBe(1);
    }
    expect(site.cluster.guests.has(280)).toBe(false);

    await wire.start();
    await until('LDAP is heard again', async () => (await standing(erik)).status === 200);
  });
});

/** What localdb says of a realm's alice, or of a group that she is in. */
function recordIn(site: Site, name: RealmName): Readonly<Record<string, object>> {
  const { users } = JSON.parse(readFileSync(join(site.directory, 'localdb.json'), 'utf8'));
  const { resources, cluster, templates } = users['alice@pve'];
  const { cores, vmid, pool } = realms[name];
  return {
    resources: { ...resources, cores: { global: { max: cores }, nodes: {} } },
    cluster: { ...cluster, pools: { [pool]: true }, vmid: { min: vmid, max: vmid + 99 } },
    templates,
  };
}

/** Makes all realms known to the server, and their users to PVE, which takes the same passwords. */
function reconfigure(site: Site, urls: Readonly<Record<'ldap' | 'paas', string>>): void {
  const { access, pools } = site.cluster;
  access.addRealm({ realm: 'paas', type: 'ldap' });
  for (const name of classmates) access.addUser(`${name}@ldap`, { password: `${name}-secret` });
  for (const name of ['ldap', 'paas'] as const) {
    const { password, pool } = realms[name];
    access.addUser(`alice@${name}`, { password });
    pools.set(pool, { poolid: pool, comment: '', vms: new Set(), storages: new Set() });
    access.setAcl(`/pool/${pool}`, { users: [`alice@${name}`] }, 'QuotaTenant');
  }

  const config = JSON.parse(readFileSync(site.configFile, 'utf8'));
  const ldap = {
    url: urls.ldap,
    realm: 'ldap',
    ca: join(site.directory, 'ca.pem'),
    bind: proxyAccount,
    users: { base: people, disabled: '(employeeType=disabled)' },
    groups: { base: groups },
    deadline: 1,
  };
  const backends = {
    ...config.backends,
    ldap: { import: 'ldap', config: ldap },
    paasldap: { import: 'paasldap', config: { url: urls.paas, realm: 'paas', deadline: 1 } },
  };
  const realm = { pve: ['pve', 'localdb'], ldap: ['ldap', 'localdb'], paas: ['localdb', 'paasldap'] };
  const users = { realm, any: ['pve', 'localdb', 'ldap', 'paasldap'], groups: ['students@ldap'] };
  // A new database, since records are imported only once.
  const database = join(site.directory, 'realms.db');
  const handlers = { ...config.handlers, users };
  writeFileSync(site.configFile, JSON.stringify({ ...config, backends, handlers, database }));
  const file = join(site.directory, 'localdb.json');
  const local = JSON.parse(readFileSync(file, 'utf8'));
  local.users['alice@paas'] = recordIn(site, 'paas');
  writeFileSync(file, JSON.stringify(local));
}
