import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { openConsole } from '../support/console-socket.ts';
import { refusalIn } from '../support/decoder.ts';
import { keepLog } from '../support/kept-log.ts';
import { ticketOf } from '../support/pve-client.ts';
import { Client, GiB, MiB, type Site, type SiteOptions, startSite, until } from '../support/site.ts';
import { openSync } from '../support/sync-socket.ts';

const limits = { cores: 8, memory: 8 * GiB } as const;

function startPeople(options: SiteOptions = {}): Promise<Site> {
  const users = { alice: limits, bob: { ...limits, vmid: [1000, 1099] as const }, root: { admin: true } };
  const handlers = {
    instance: { pve: 'pve' },
    users: { realm: { pve: ['pve', 'localdb'] }, any: ['pve', 'localdb'], groups: ['everyone@pve', 'lab'] },
  };
  return startSite({ users, config: { handlers }, ...options });
}

const json = (value: unknown) => JSON.stringify(value);

test('an administrator adds, changes and removes a user, in PVE and in the local records at once', async () => {
  const { log, lines } = keepLog();
  await using site = await startPeople({ log });
  const root = await site.signIn('root');
  const path = '/access/users/carol@pve';
  const cluster = json({ pools: { lab: true }, vmid: { min: 2000, max: 2010 } });
  const form = { cn: 'Carol Cole', sn: 'Cole', mail: 'c@example.org', password: 'carol-secret', cluster };
  const added = await root.post(path, form);
  expect(added).toMatchObject({
    status: 200,
    body: {
      ok: true,
      allResponses: [
        { backend: 'pve', outcome: 'done' },
        { backend: 'localdb', outcome: 'done' },
      ],
    },
  });
  expect((await root.get(path)).body.user).toMatchObject({
    attributes: { cn: 'Carol Cole', sn: 'Cole', mail: 'c@example.org', uid: 'carol' },
    cluster: { pools: { lab: true }, vmid: { min: 2000, max: 2010 } },
  });
  expect(refusalIn(await root.post(path, form))).toMatchObject({ status: 409 });

  const carol = await site.signIn('carol');
  const resources = json({ cores: { global: { max: 3 } } });
  expect((await root.send('PUT', path, { mail: 'new@example.org', resources })).body).toMatchObject({ ok: true });
  expect((await carol.get(path)).body.user).toMatchObject({
    attributes: { cn: 'Carol Cole', mail: 'new@example.org' },
    resources: { cores: { global: { max: 3 } } },
    cluster: { pools: { lab: true } },
  });

  const password = await root.send('PUT', path, { password: 'another-secret', oldpassword: 'root-secret' });
  expect(password.body).toMatchObject({ ok: true, allResponses: [{ backend: 'pve' }] });
  await site.signIn('carol', 'another-secret');
  expect(refusalIn(await root.send('PUT', path, { cn: 'A', password: 'third-secret' })).status).toBe(501);

  expect((await root.delete(path)).body).toMatchObject({
    ok: true,
    allResponses: [{ backend: 'localdb' }, { backend: 'pve' }],
    instances: { vmids: [], became: 'left' },
  });
  expect((await root.get(path)).body).toEqual({ user: {} });
  await expect(site.signIn('carol', 'another-secret')).rejects.toThrow('401');
  expect(refusalIn(await root.delete(path))).toMatchObject({ status: 404 });

  const changes = lines.map((line) => JSON.parse(line)).filter(({ change }) => change !== undefined);
  expect(changes.filter(({ msg }) => msg === 'a change of users or groups failed')).toMatchObject([{ status: 501 }]);
  const told = changes.filter(({ msg }) => msg === 'a user or group was changed');
  expect(told.map(({ change }) => change.method)).toEqual(['addUser', 'setUser', 'setUser', 'delUser']);
  expect(told[1]).toMatchObject({ by: 'root@pve', address: expect.any(String), status: 200 });
  expect(told[1].change).toMatchObject({
    user: { id: 'carol' },
    attributes: { resources: { cores: { global: { max: 3 } } } },
  });
  expect(lines.join('')).not.toMatch(/(?:carol|another|third|root)-secret/);
});

test('a change that one backend refuses is nowhere, and the answer says what each of them did', async () => {
  await using site = await startPeople();
  const root = await site.signIn('root');
  const path = '/access/users/alice@pve';
  const before = (await root.get(path)).body;
  site.simulator.faults.add({
    method: 'DELETE',
    path: '/access/users/{userid}',
    kind: 'refuse',
    status: 500,
    reason: 'no quorum',
  });
  const refused = await root.delete(path);
  expect(refusalIn(refused)).toEqual({ status: 500, error: 'no quorum; nothing is changed' });
  expect(refused.body.allResponses).toMatchObject([
    { backend: 'localdb', outcome: 'undone' },
    { backend: 'pve', outcome: 'refused', message: 'no quorum' },
  ]);
  expect((await root.get(path)).body).toEqual(before);
});

test('what cannot be stored is refused before anything is changed', async () => {
  await using site = await startPeople();
  const root = await site.signIn('root');
  site.cluster.access.addUser('dora@ldap');
  const put = (form: Readonly<Record<string, string>>, user = 'alice@pve') =>
    root.send('PUT', `/access/users/${user}`, form);
  const before = (await root.get('/access/users/alice@pve')).body;
  for (const [form, problem] of [
    [{ admin: '1' }, /^admin: unknown here/],
    [{}, /nothing is to be changed/],
    [{ cluster: '{"admin":"yes"}', cn: 'A' }, /^cluster.admin: expected true or false/],
    [{ cluster: '{"amin":true}' }, /^cluster.amin: unknown key/],
    [{ cluster: 'admin' }, /^cluster: expected an object as JSON/],
    [{ resources: '{"coers":{"global":{"max":1}}}' }, /no such resource \(did you mean "cores"/],
    [{ mail: 'nobody' }, /^mail: expected a mail address/],
    [{ cn: 'a\nb' }, /^cn: expected/],
  ] as const)
    expect(refusalIn(await put(form))).toMatchObject({ status: 400, error: expect.stringMatching(problem) });
  const half = await put({ cn: 'A', password: 'another-secret' });
  expect(refusalIn(half)).toMatchObject({ status: 501, error: expect.stringContaining('current password') });
  expect(half.body.allResponses).toMatchObject([{ outcome: 'untouched' }, { outcome: 'refused' }]);
  expect(refusalIn(await put({ cn: 'D' }, 'dora@ldap')).status).toBe(404);
  expect(refusalIn(await put({ cn: 'D' }, 'nobody@pve')).status).toBe(404);
  const unlisted = await root.post('/access/groups/web', { cluster: '{"pools":{"web":true}}' });
  expect(unlisted.body).toMatchObject({ ok: true, warning: expect.stringContaining('does not name web') });
  expect((await root.get('/access/users/alice@pve')).body).toEqual(before);
});

test('others change nobody, nor do foreign pages, narrow API tokens and those who have not signed in', async () => {
  await using site = await startPeople();
  const [alice, root] = [await site.signIn('alice'), await site.signIn('root')];
  site.cluster.access.addToken('root@pve', 'narrow', {
    secret: '11111111-2222-4333-8444-555555555555',
    expire: 0,
    privsep: true,
  });
  const authorization = 'PVEAPIToken=root@pve!narrow=11111111-2222-4333-8444-555555555555';
  const calls = [
    ['POST', '/access/users/eve@pve'],
    ['PUT', '/access/users/alice@pve'],
    ['DELETE', '/access/users/bob@pve'],
    ['POST', '/access/groups/lab'],
    ['PUT', '/access/groups/lab'],
    ['DELETE', '/access/groups/lab'],
    ['POST', '/access/groups/lab/members/alice@pve'],
    ['DELETE', '/access/groups/lab/members/alice@pve'],
  ] as const;
  for (const [method, path] of calls) {
    const form = method === 'DELETE' ? {} : { cluster: '{"admin":true}' };
    expect(refusalIn(await alice.send(method, path, form)).status, path).toBe(403);
    expect(refusalIn(await new Client(site).send(method, path, form)).status, path).toBe(401);
    expect(refusalIn(await new Client(site).send(method, path, form, { authorization })).status, path).toBe(403);
    expect(refusalIn(await root.send(method, path, form, { csrfpreventiontoken: '' })).status, path).toBe(401);
    expect(refusalIn(await root.send(method, path, form, { origin: 'https://evil.example' })).status, path).toBe(403);
  }
  expect((await root.get('/access/users/alice@pve')).body.user.cluster.admin).toBe(false);
});

test("an API token sees and changes users as far as PVE lets it, and nobody's password", async () => {
  await using site = await startPeople();
  const secret = '11111111-2222-4333-8444-555555555555';
  const { access } = site.cluster;
  for (const [id, privsep] of [
    ['whole', false],
    ['people', true],
    ['auditor', true],
    ['narrow', true],
  ] as const)
    access.addToken('root@pve', id, { secret, privsep });
  access.setAcl('/access', { tokens: ['root@pve!people'] }, 'PVEUserAdmin');
  access.setAcl('/', { tokens: ['root@pve!auditor'] }, 'PVEAuditor');
  access.addGroup('lab', ['alice@pve']);
  const ask = (id: string, method: string, path: string, form?: Readonly<Record<string, string>>) =>
    new Client(site).send(method, path, form, { authorization: `PVEAPIToken=root@pve!${id}=${secret}` });

  const form = { cn: 'Dora', password: 'dora-secret', cluster: json({ pools: { lab: true } }) };
  for (const id of ['whole', 'people']) {
    expect((await ask(id, 'POST', '/access/users/dora@pve', form)).body).toMatchObject({
      allResponses: [
        { backend: 'pve', outcome: 'done' },
        { backend: 'localdb', outcome: 'done' },
      ],
    });
    await site.signIn('dora', 'dora-secret');
    expect((await ask(id, 'PUT', '/access/users/dora@pve', { mail: 'd@example.org' })).status).toBe(200);
    const password = { password: 'another-secret', oldpassword: 'root-secret' };
    expect(refusalIn(await ask(id, 'PUT', '/access/users/dora@pve', password)).status).toBe(403);
    expect(refusalIn(await ask(id, 'POST', '/access/password', password)).status).toBe(403);
    expect((await ask(id, 'DELETE', '/access/users/dora@pve')).status).toBe(200);
    expect(access.users.has('dora@pve')).toBe(false);
  }
  const seen = async (id: string) => {
    const answers = await Promise.all(
      ['users', 'groups/lab', 'users/alice@pve'].map((path) => ask(id, 'GET', `/access/${path}`)),
    );
    const [users, group, alice] = answers.map(({ body }) => body);
    return [Object.keys(users.users).length > 1, group.group.dn !== undefined, alice.user.cluster !== undefined];
  };
  for (const id of ['whole', 'people', 'auditor']) expect(await seen(id), id).toEqual([true, true, true]);
  expect(await seen('narrow')).toEqual([false, false, false]);
  expect(refusalIn(await ask('auditor', 'POST', '/access/users/dora@pve', form))).toMatchObject({
    status: 403,
    error: expect.stringContaining('User.Modify'),
  });
  await site.signIn('root');
});

test("a group's record counts for its members from the next request on, and says so", async () => {
  await using site = await startPeople();
  const [root, alice] = [await site.signIn('root'), await site.signIn('alice')];
  const limit = async () => (await alice.get('/user/config/resources')).body.swap.global.max;
  const group = (method: string, form?: Readonly<Record<string, string>>, rest = '') =>
    root.send(method, `/access/groups/lab${rest}`, form);
  const cores = (max: number) => ({ resources: json({ ceph: { nodes: { n1: { max } } } }) });
  expect(await limit()).toBe(0);
  expect((await group('POST', cores(4))).body).toMatchObject({
    ok: true,
    allResponses: [
      { backend: 'pve', outcome: 'done' },
      { backend: 'localdb', outcome: 'done' },
    ],
  });
  expect((await group('POST', {}, '/members/alice@pve')).body).toMatchObject({ ok: true });
  expect((await root.get('/access/groups/lab@pve')).body.group).toMatchObject({
    attributes: { cn: 'lab', member: ['uid=alice@pve'] },
    resources: { ceph: { nodes: { n1: { max: 4 } } } },
  });
  const explained = async () => (await alice.get('/access/users/alice@pve?explain=1')).body.explain;
  // Who is in which group is believed for five seconds; a record counts at once.
  await group('PUT', cores(5));
  expect(await explained()).toEqual(
    expect.arrayContaining([
      { key: 'resources.ceph.nodes.n1.max', value: 5, source: { from: 'group', group: 'lab', backend: 'localdb' } },
      { key: 'resources.ceph.global.max', value: 0, source: { from: 'user', backend: 'localdb' } },
      { key: 'attributes.uid', value: 'alice', source: { from: 'user', backend: 'pve' } },
    ]),
  );
  expect((await alice.get('/user/config/resources')).body.ceph.nodes).toEqual({ n1: { max: 5 } });
  // What a change of hers would replace has nothing of the group's.
  expect((await alice.get('/access/users/alice@pve?explain=1')).body.own).toMatchObject({
    resources: { ceph: { nodes: {} } },
    cluster: { pools: { alice: true } },
  });
  expect((await group('DELETE', {}, '/members/alice@pve')).body).toMatchObject({ ok: true });
  expect(refusalIn(await group('DELETE', {}, '/members/alice@pve')).status).toBe(404);
  expect((await group('DELETE')).body).toMatchObject({ ok: true });
  expect((await root.get('/access/groups/lab')).body).toEqual({ group: {} });
  expect(refusalIn(await group('PUT', cores(1))).status).toBe(404);
  expect(refusalIn(await alice.get('/access/users/alice@pve?explain=yes')).status).toBe(400);
  expect((await alice.get('/access/users/bob@pve?explain=1')).body).toEqual({
    ...{ user: {}, explain: [], own: {} },
  });
});

test('who owns instances is deleted only once it is said what becomes of them', async () => {
  await using site = await startPeople();
  const root = await site.signIn('root');
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { cores: 1 } });
  addGuest(site.cluster, { vmid: 1000, pool: 'bob', config: { cores: 1 } });
  await site.refresh();
  const { ledger } = site.server;
  ledger.assign(100, ['alice@pve', 'bob@pve']);
  const remove = (name: string, form?: Readonly<Record<string, string>>) =>
    root.delete(`/access/users/${name}@pve`, form);

  const refused = await remove('alice');
  expect(refusalIn(refused)).toMatchObject({ status: 409, error: expect.stringContaining('the instances 100;') });
  expect(refused.body).toMatchObject({ vmids: [100], files: [] });
  for (const form of [
    { reassign: 'nobody@pve' },
    { reassign: 'alice@pve' },
    { reassign: 'bob@pve', leave: '1' },
    { keep: '1' },
  ])
    expect(refusalIn(await remove('alice', form)).status).toBe(400);
  expect(ledger.payersOf(100)).toEqual(['alice@pve', 'bob@pve']);

  expect((await remove('alice', { reassign: 'root@pve' })).body.instances).toEqual({
    vmids: [100],
    files: [],
    became: 'reassigned',
    to: 'root@pve',
  });
  expect(ledger.payersOf(100)).toEqual(['bob@pve', 'root@pve']);
  expect((await remove('bob', { leave: '1' })).body.instances).toEqual({
    vmids: [100, 1000],
    files: [],
    became: 'left',
  });
  await site.server.payers.refresh();
  expect([ledger.payersOf(100), ledger.payersOf(1000)]).toEqual([['root@pve'], []]);
});

describe('the files of a user who is deleted', () => {
  const secret = '11111111-2222-4333-8444-555555555555';
  const uploaders = {
    alice: { ...limits, local: 8 * MiB },
    bob: { ...limits, local: 2 * MiB },
    root: { admin: true },
  };

  async function upload(site: Site, name: string, node: string, file: string, bytes: number): Promise<number> {
    const { ticket, csrf } = await ticketOf(site, name);
    const form = new FormData();
    form.append('content', 'iso');
    form.append('filename', new Blob([new Uint8Array(bytes)]), file);
    const headers = { cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}`, csrfpreventiontoken: csrf };
    const path = `/api2/json/nodes/${node}/storage/local/upload`;
    return (await fetch(site.url + path, { method: 'POST', headers, body: form })).status;
  }

  const held = (site: Site, name: string) => site.booked(name)['storage:local'] ?? 0;

  test("are told, and become another user's at once, who is then told to be above a limit", async () => {
    await using site = await startPeople({ users: uploaders });
    const root = await site.signIn('root');
    expect(await upload(site, 'alice', 'n1', 'a.iso', MiB)).toBe(200);
    expect(await upload(site, 'alice', 'n2', 'b.iso', MiB)).toBe(200);
    expect(await upload(site, 'bob', 'n1', 'c.iso', MiB)).toBe(200);
    await site.settled();
    const files = ['local:iso/a.iso', 'local:iso/b.iso'];
    const refused = await root.delete('/access/users/alice@pve');
    expect(refusalIn(refused)).toMatchObject({
      status: 409,
      error: expect.stringContaining('alice@pve owns the files local:iso/a.iso, local:iso/b.iso; say who'),
    });
    expect(refused.body).toMatchObject({ vmids: [], files });

    const before = held(site, 'alice') + held(site, 'bob');
    const { body } = await root.delete('/access/users/alice@pve', { reassign: 'bob@pve' });
    const above = [{ resource: 'storage:local', item: '', scope: 'global', held: before, limit: 2 * MiB }];
    expect(body.instances).toEqual({ vmids: [], files, became: 'reassigned', to: 'bob@pve', above });
    expect(body.warning).toMatch(/^bob@pve is above the limit of storage:local now/);
    expect([held(site, 'alice'), held(site, 'bob')]).toEqual([0, before]);
    await site.refresh();
    expect([held(site, 'alice'), held(site, 'bob')]).toEqual([0, before]);
    expect(await upload(site, 'bob', 'n1', 'd.iso', 1)).toBe(403);
    await site.stopServer();
    await site.startServer();
    await site.refresh();
    expect([held(site, 'alice'), held(site, 'bob')]).toEqual([0, before]);
    expect((await root.delete('/access/users/bob@pve', { reassign: 'root@pve' })).body.instances).toEqual({
      ...{ vmids: [], files: [...files, 'local:iso/c.iso'], became: 'reassigned', to: 'root@pve' },
    });
  });

  test("become nobody's, and not those of the next user of that name", async () => {
    await using site = await startPeople({ users: uploaders });
    const root = await site.signIn('root');
    expect(await upload(site, 'alice', 'n1', 'a.iso', MiB)).toBe(200);
    await site.settled();
    expect((await root.delete('/access/users/alice@pve', { leave: '1' })).body.instances).toEqual({
      ...{ vmids: [], files: ['local:iso/a.iso'], became: 'left' },
    });
    expect((await root.post('/access/users/alice@pve', { password: 'alice-secret' })).body).toMatchObject({ ok: true });
    await site.refresh();
    expect([held(site, 'alice'), site.server.ledger.filesOf('alice@pve')]).toEqual([0, []]);
    expect((await root.delete('/access/users/alice@pve')).body).toMatchObject({ ok: true });
  });

  test('are given away also when the user is gone already, as after an answer that was lost', async () => {
    await using site = await startPeople({ users: uploaders });
    const root = await site.signIn('root');
    expect(await upload(site, 'alice', 'n1', 'a.iso', MiB)).toBe(200);
    await site.settled();
    site.simulator.faults.add({ method: 'DELETE', path: '/access/users/{userid}', kind: 'resetAfter' });
    const lost = await root.delete('/access/users/alice@pve', { leave: '1' });
    expect(refusalIn(lost)).toMatchObject({
      status: 502,
      error: expect.stringContaining('backend "pve" is changed all the same'),
    });
    expect(site.server.ledger.filesOf('alice@pve')).toHaveLength(1);
    for (let round = 0; round < 2; round += 1) {
      const again = await root.delete('/access/users/alice@pve', { leave: '1' });
      if (round === 1) expect(refusalIn(again).status).toBe(404);
      else expect(again.body).toMatchObject({ ok: true, instances: { files: ['local:iso/a.iso'], became: 'left' } });
    }
  });

  test('outlive their sessions, tokens, sockets and consoles, which end', async () => {
    await using site = await startPeople({ users: uploaders });
    addGuest(site.cluster, { vmid: 101, pool: 'alice', status: 'running', config: { cores: 1, memory: 512 } });
    await site.refresh();
    const [root, alice] = [await site.signIn('root'), await site.signIn('alice')];
    site.cluster.access.addToken('alice@pve', 'mine', { secret, expire: 0, privsep: false });
    const authorization = `PVEAPIToken=alice@pve!mine=${secret}`;
    await using sync = await openSync(site, alice);
    const offer = (await alice.post('/proxmox/nodes/n1/qemu/101/vncproxy', { websocket: 1 })).body.data;
    const cookie = [...alice.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    await using viewer = await openConsole(site, '/nodes/n1/qemu/101', offer, { headers: { cookie } });
    const asked = () =>
      Promise.all([
        alice.get('/user/config/resources'),
        new Client(site).send('GET', '/user/config/resources', undefined, { authorization }),
        alice.createVm(100),
      ]);
    expect((await asked()).map(({ status }) => status)).toEqual([200, 200, 200]);
    await site.settled();
    expect(site.server.ledger.tasksOf('alice@pve')).not.toEqual([]);
    expect((await root.delete('/access/users/alice@pve', { leave: '1' })).body).toMatchObject({ ok: true });
    expect(site.server.ledger.tasksOf('alice@pve')).toEqual([]);
    expect((await asked()).map(({ status }) => status)).toEqual([401, 401, 401]);
    await until('both sockets are closed', () => sync.code === 1008 && viewer.closed?.code === 1008);
    expect(site.cluster.access.users.has('alice@pve')).toBe(false);
  });
});

test('what has no effect, or may undo the effect of limits, is said at start', async () => {
  const { lines, log } = keepLog();
  await using site = await startPeople({ log });
  await site.signIn('alice');
  await until('the groups were asked for', () => lines.some((line) => line.includes('no such group')));
  const warnings = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 40);
  expect(warnings.map(({ msg }) => msg)).toEqual([
    expect.stringMatching(/^hold: 1 is less than the 30 seconds .*: give 30 or more$/),
    expect.stringMatching(/^handlers.users.groups names "everyone", and there is no such group/),
    expect.stringMatching(/^handlers.users.groups names "lab", and there is no such group/),
  ]);
});

test("a realm of one's own backend is administered like any other, and its groups carry limits", async () => {
  const directory = mkdtempSync(join(tmpdir(), 'people-'));
  const file = join(directory, 'people.json');
  writeFileSync(file, '{"users":{},"groups":{}}');
  await using site = await startPeople();
  try {
    const config = JSON.parse(readFileSync(site.configFile, 'utf8'));
    config.backends.people = { import: resolve('examples/backend.ts'), config: { file, realm: 'ldap', cost: 16 } };
    config.handlers.users.realm.ldap = ['people', 'localdb'];
    config.handlers.users.groups = ['students@ldap'];
    writeFileSync(site.configFile, JSON.stringify(config));
    await site.stopServer();
    await site.startServer();
    const root = await site.signIn('root');
    const send = async (method: string, path: string, form?: Readonly<Record<string, string>>) =>
      (await root.send(method, `/access/${path}`, form)).body;

    expect(await send('POST', 'users/dora@ldap', { cn: 'Dora' })).toMatchObject({
      error: 'A new user needs userpassword',
    });
    expect(await send('POST', 'users/dora@ldap', { cn: 'Dora', password: 'dora-secret' })).toMatchObject({ ok: true });
    const cluster = json({ pools: { exam: true }, vmid: { min: 3000, max: 3009 } });
    expect(await send('POST', 'groups/students@ldap', { cluster })).toMatchObject({ ok: true });
    expect(await send('POST', 'groups/students@ldap/members/dora@ldap')).toMatchObject({ ok: true });
    expect((await send('GET', 'users/dora@ldap?explain=1')).explain).toEqual(
      expect.arrayContaining([
        {
          key: 'cluster.pools.exam',
          value: true,
          source: { from: 'group', group: 'students@ldap', backend: 'localdb' },
        },
        { key: 'attributes.cn', value: 'Dora', source: { from: 'user', backend: 'people' } },
      ]),
    );
    // Who has no record of their own pays by the group's.
    site.cluster.pools.set('exam', { poolid: 'exam', comment: '', vms: new Set(), storages: new Set() });
    addGuest(site.cluster, { vmid: 3000, pool: 'exam', config: { cores: 1 } });
    await site.refresh();
    expect(site.server.ledger.payersOf(3000)).toEqual(['dora@ldap']);

    rmSync(file);
    expect(await send('GET', 'users/dora@ldap')).toMatchObject({ error: expect.stringContaining('"people"') });
    expect(await send('DELETE', 'users/dora@ldap', { leave: '1' })).toMatchObject({
      error: expect.stringContaining('"people"'),
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
