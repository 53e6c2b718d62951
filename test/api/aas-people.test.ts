import { expect, test } from 'vitest';
import { decoded, refusalIn, shapes } from '../support/decoder.ts';
import { Client, GiB, type SiteOptions, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, network: 'unlimited' } as const;

async function siteWithPeople(options: SiteOptions = {}) {
  const site = await startSite({ users: { alice: limits, bob: limits, root: { admin: true } }, ...options });
  site.cluster.access.addGroup('lab', ['alice@pve', 'bob@pve']);
  site.cluster.access.addGroup('empty', []);
  return site;
}

test('administrators see all users, with groups, limits and grants', async () => {
  await using site = await siteWithPeople();
  const root = await site.signIn('root');
  const { users } = decoded(shapes.users, await root.get('/access/users'));
  expect(Object.keys(users)).toEqual(expect.arrayContaining(['alice@pve', 'bob@pve', 'root@pve']));
  expect(users['alice@pve']).toMatchObject({
    attributes: { uid: 'alice', memberOf: ['cn=lab'] },
    resources: { cores: { global: { max: 8 } }, network: { global: { max: 9007199254740991, unlimited: true } } },
    cluster: { admin: false, pools: { alice: true }, vmid: { min: 100, max: 999 }, backups: { max: 2 } },
  });
  expect(users['root@pve']?.cluster.admin).toBe(true);
  const { user } = decoded(shapes.user, await root.get('/access/users/alice@pve'));
  expect(user).toEqual(users['alice@pve']);
});

test('others see themselves, and not so much as whether anybody else is there', async () => {
  await using site = await siteWithPeople();
  const alice = await site.signIn('alice');
  const { users } = decoded(shapes.users, await alice.get('/access/users'));
  expect(Object.keys(users)).toEqual(['alice@pve']);
  expect(decoded(shapes.user, await alice.get('/access/users/alice@pve')).user).toEqual(users['alice@pve']);
  for (const other of ['bob@pve', 'nobody@pve', 'root@pve', 'bob@elsewhere'])
    expect(await alice.get(`/access/users/${other}`)).toMatchObject({ status: 200, body: { user: {} } });
  expect((await (await site.signIn('root')).get('/access/users/nobody@pve')).body).toEqual({ user: {} });
});

test('a name that nobody can have is refused', async () => {
  await using site = await siteWithPeople();
  const root = await site.signIn('root');
  for (const name of ['alice', 'alice@', '@pve', 'a%20b@pve', 'a%2Fb@pve', '__proto__'])
    expect(refusalIn(await root.get(`/access/users/${name}`))).toMatchObject({ status: 400 });
});

test('administrators see all groups with their members, others none', async () => {
  await using site = await siteWithPeople();
  const [root, alice] = [await site.signIn('root'), await site.signIn('alice')];
  const { groups } = decoded(shapes.groups, await root.get('/access/groups'));
  expect(groups).toEqual({
    lab: { dn: 'cn=lab', attributes: { cn: 'lab', member: ['uid=alice@pve', 'uid=bob@pve'] } },
    empty: { dn: 'cn=empty', attributes: { cn: 'empty', member: [] } },
  });
  expect(decoded(shapes.group, await root.get('/access/groups/lab')).group).toEqual(groups.lab);
  expect((await root.get('/access/groups/lab@ldap')).body).toEqual({ group: {} });
  expect((await root.get('/access/groups/constructor')).body).toEqual({ group: {} });
  expect((await alice.get('/access/groups')).body).toEqual({ groups: {} });
  expect((await alice.get('/access/groups/lab')).body).toEqual({ group: {} });
});

test('nobody is told anything who has not signed in', async () => {
  await using site = await siteWithPeople();
  const nobody = new Client(site);
  for (const path of ['/access/users', '/access/users/alice@pve', '/access/groups', '/access/groups/lab'])
    expect(refusalIn(await nobody.get(path)).status).toBe(401);
  expect(refusalIn(await nobody.post('/access/password', { password: 'new-password' })).status).toBe(401);
});

test('a record that a backend cannot read is an error that names the backend, not half a record', async () => {
  await using site = await siteWithPeople();
  const root = await site.signIn('root');
  site.simulator.faults.add({ path: '/access/users', kind: 'refuse', status: 500, reason: 'no quorum' });
  const refused = refusalIn(await root.get('/access/users'));
  expect(refused).toMatchObject({ status: 502, error: expect.stringMatching(/"pve".*no quorum/) });
});

test('a password of PVE is changed with the old one, and signs in from then on', async () => {
  await using site = await siteWithPeople();
  const alice = await site.signIn('alice');
  const changed = await alice.post('/access/password', { password: 'new-password', oldpassword: 'alice-secret' });
  const done = { ok: true, status: 200, message: '' };
  expect(decoded(shapes.password, changed)).toEqual({
    ...done,
    allResponses: [{ ...done, backend: 'pve', outcome: 'done' }],
  });
  await expect(site.signIn('alice')).rejects.toThrow('401');
  await site.signIn('alice', 'new-password');
});

test('a password of PVE is not changed without the old one, nor with a wrong one, nor to one that PVE does not take', async () => {
  await using site = await siteWithPeople();
  const alice = await site.signIn('alice');
  const change = (form: Readonly<Record<string, string>>) => alice.post('/access/password', form);
  const without = await change({ password: 'new-password' });
  expect(refusalIn(without)).toMatchObject({ status: 501, error: expect.stringContaining('current password') });
  expect(without.body).toMatchObject({ ok: false, status: 501, message: expect.any(String) });
  const wrong = await change({ password: 'new-password', oldpassword: 'made-up-password' });
  expect(refusalIn(wrong)).toMatchObject({ status: 400, error: expect.stringContaining('confirmation') });
  expect(refusalIn(await change({ password: 'short', oldpassword: 'alice-secret' })).status).toBe(400);
  expect(refusalIn(await change({ password: '' }))).toEqual({
    status: 400,
    error: 'password: expected a password, got something else',
  });
  expect(refusalIn(await change({ password: 'new-password', username: 'bob@pve' })).status).toBe(400);
  await site.signIn('alice');
});

test('where PVE keeps no password either, that is said', async () => {
  await using site = await siteWithPeople();
  const alice = await site.signIn('alice');
  const reason = "can't set password on auth type 'ldap'";
  site.simulator.faults.add({ method: 'PUT', path: '/access/password', kind: 'refuse', status: 500, reason });
  const form = { password: 'new-password', oldpassword: 'alice-secret' };
  expect(refusalIn(await alice.post('/access/password', form))).toEqual({ status: 501, error: reason });
});

test("a session does not help to find the user's password by trying", async () => {
  await using site = await siteWithPeople();
  const alice = await site.signIn('alice');
  const statuses: number[] = [];
  for (let attempt = 0; attempt < 12; attempt += 1)
    statuses.push(
      (await alice.post('/access/password', { password: 'new-password', oldpassword: `${attempt}xxxxx` })).status,
    );
  expect(statuses).toEqual([...Array(10).fill(400), 429, 429]);
});
