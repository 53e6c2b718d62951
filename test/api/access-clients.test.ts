/** Administrators manage PVE's users, rights and pools through this server, with the clients that they have for it. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { fogClient, perlClient } from '../support/access-clients.ts';
import { PveClient, type PveReply, ticketOf } from '../support/pve-client.ts';
import { type Body, GiB, type Site, startSite, until } from '../support/site.ts';

let site: Site;

beforeAll(async () => {
  site = await startSite({
    users: { chief: { admin: true }, alice: { cores: 8, memory: 8 * GiB, ceph: 8 * GiB, vmid: [100, 199] } },
  });
  for (const vmid of [100, 101])
    addGuest(site.cluster, { vmid, pool: 'alice', config: { name: `web${vmid}`, cores: 1, memory: 512 } });
  await site.refresh();
});

afterAll(() => site[Symbol.asyncDispose]());

/** Every call of the stories is the administrator's own at PVE: the server lends no rights to it. */
async function expectOwn(caller: string, act: () => Promise<void>): Promise<void> {
  const from = site.simulator.requests.length;
  await act();
  const writes = site.simulator.requests.slice(from).filter(({ method }) => method !== 'GET');
  const strange = writes.filter((request) => request.caller.startsWith('quota-proxy') || request.caller === 'root@pam');
  expect(writes.map((request) => request.caller)).toContain(caller);
  expect(strange.map(({ method, path, caller: by }) => `${method} ${path} as ${by}`)).toEqual([]);
}

async function ok(reply: Promise<PveReply>): Promise<Body> {
  const { status, reason, body } = await reply;
  expect([status, reason]).toEqual([200, 'OK']);
  return body.data;
}

async function refused(reply: Promise<PveReply>, status: number, why: RegExp): Promise<void> {
  const { status: told, reason, body } = await reply;
  expect([told, `${reason} ${JSON.stringify(body)}`]).toEqual([status, expect.stringMatching(why)]);
}

/** Whether a user signs in with a password through the server. */
async function signsIn(username: string, password: string): Promise<boolean> {
  return (await new PveClient(site).post('/access/ticket', { username, password })).status === 200;
}

const idsOf = (rows: readonly Body[], key: string) => rows.map((row) => row[key]);

/** What an administrator shows, and what PVE knows them by. */
const credentials = {
  ticket: async () => {
    const { ticket, csrf } = await ticketOf(site, 'chief');
    return { caller: 'chief@pve', headers: { cookie: `PVEAuthCookie=${ticket}`, csrfpreventiontoken: csrf } };
  },
  token: async () => {
    const value = site.cluster.access.addToken('chief@pve', 'ops', { privsep: false });
    return { caller: 'chief@pve!ops', headers: { authorization: `PVEAPIToken=chief@pve!ops=${value}` } };
  },
} as const;

describe.each(['ticket', 'token'] as const)('an administrator with a %s', (kind) => {
  /** A name of this run's own, as both run on one cluster. */
  const own = (name: string) => `${name}${kind}`;

  test("finds every function of Perl's Net::Proxmox::VE::Access and Pools at work", async () => {
    const { caller, headers } = await credentials[kind]();
    const { client: pve, unused } = perlClient(site, headers);
    await expectOwn(caller, async () => {
      expect((await ok(pve.api_version())).version).toBe('9.2.3');
      expect(idsOf(await ok(pve.access()), 'subdir')).toEqual(expect.arrayContaining(['acl', 'domains', 'users']));

      const realm = own('corp');
      const directory = { type: 'ldap', server1: 'ldap.corp.example', base_dn: 'ou=People,dc=corp', user_attr: 'uid' };
      await refused(pve.create_access_domains({ realm, ...directory }), 400, /base_dn/);
      // Unencoded, PVE would read the name up to the second equals sign.
      await ok(pve.create_access_domains({ realm, ...directory, base_dn: 'ou%3DPeople,dc%3Dcorp' }));
      await ok(pve.update_access_domains(realm, { comment: 'two words', port: 636, secure: 1 }));
      expect(await ok(pve.get_access_domains(realm))).toMatchObject({
        ...directory,
        ...{ comment: 'two words', port: 636, secure: 1 },
      });
      const upid = await ok(pve.sync_access_domains(realm, { scope: 'both', 'remove-vanished': 'none' }));
      const follower = new PveClient(site, headers);
      await until('the realm is synchronised', async () => {
        const { body } = await follower.get(`/nodes/n1/tasks/${encodeURIComponent(upid)}/status`);
        return body.data.exitstatus === 'OK';
      });
      expect(idsOf(await ok(pve.access_domains()), 'realm')).toContain(realm);
      await ok(pve.delete_access_domains(realm));
      await refused(pve.get_access_domains(realm), 500, /does not exist/);

      const group = own('crew');
      await ok(pve.create_access_groups({ groupid: group, comment: 'first' }));
      await ok(pve.update_access_groups(group, { comment: 'second' }));
      expect(await ok(pve.get_access_groups(group))).toEqual({ comment: 'second', members: [] });
      expect(idsOf(await ok(pve.access_groups()), 'groupid')).toContain(group);

      const role = own('Looker');
      await ok(pve.create_access_roles({ roleid: role, privs: 'VM.Audit' }));
      await ok(pve.update_access_roles(role, { privs: 'VM.Console', append: 1 }));
      expect(await ok(pve.get_access_roles(role))).toEqual({ 'VM.Audit': 1, 'VM.Console': 1 });
      expect(idsOf(await ok(pve.access_roles()), 'roleid')).toEqual(expect.arrayContaining([role, 'PVEAdmin']));

      const user = `eve${kind}@pve`;
      await ok(
        pve.create_access_users({ userid: user, password: 'first-password', groups: group, email: 'eve@corp.example' }),
      );
      expect(await ok(pve.get_access_users(user))).toMatchObject({
        enable: 1,
        groups: [group],
        email: 'eve@corp.example',
      });
      expect(await signsIn(user, 'first-password')).toBe(true);
      await ok(pve.update_access_users(user, { enable: 0 }));
      expect(await signsIn(user, 'first-password')).toBe(false);
      await ok(pve.update_access_users(user, { enable: 1, expire: 1 }));
      expect(await signsIn(user, 'first-password')).toBe(false);
      await ok(pve.update_access_users(user, { expire: 0 }));
      expect(idsOf(await ok(pve.access_users()), 'userid')).toContain(user);

      const change = { userid: user, password: 'second-password' };
      if (kind === 'ticket') {
        await refused(pve.update_access_password(change), 400, /confirmation/);
        await ok(pve.update_access_password({ ...change, 'confirmation-password': 'chief-secret' }));
      } else await refused(pve.update_access_password(change), 403, /needs a proper ticket/);
      expect(await signsIn(user, 'second-password')).toBe(kind === 'ticket');

      const acl = { path: '/vms/100', roles: role, groups: group };
      await ok(pve.update_access_acl(acl));
      expect(await ok(pve.get_access_acl())).toContainEqual({
        ...{ path: '/vms/100', type: 'group', ugid: group, roleid: role, propagate: 1 },
      });
      await ok(pve.update_access_acl({ ...acl, delete: 1 }));
      expect(idsOf(await ok(pve.get_access_acl()), 'ugid')).not.toContain(group);

      await ok(pve.delete_access_users(user));
      await ok(pve.delete_access_roles(role));
      await ok(pve.delete_access_groups(group));

      const pool = own('farm');
      await ok(pve.create_pool({ poolid: pool, comment: 'empty' }));
      await ok(pve.update_pool(pool, { comment: 'two words', storage: 'fast' }));
      await refused(pve.update_pool(pool, { vms: '100,101' }), 500, /allow-move/);
      await ok(pve.update_pool(pool, { vms: '100,101', 'allow-move': 1 }));
      const { comment, members } = await ok(pve.get_pool(pool));
      expect(comment).toBe('two words');
      expect(new Set(idsOf(members, 'id'))).toEqual(
        new Set(['qemu/100', 'qemu/101', ...['n1', 'n2', 'n3'].map((node) => `storage/${node}/fast`)]),
      );
      expect(idsOf(await ok(pve.pools()), 'poolid')).toContain(pool);
      await refused(pve.delete_pool(pool), 500, /not empty/);
      await ok(pve.update_pool(pool, { vms: '100,101', storage: 'fast', delete: 1 }));
      await ok(pve.delete_pool(pool));
      await ok(pve.update_pool('alice', { vms: '100,101' }));
    });
    expect(unused()).toEqual([]);
  });

  test("finds every request of the identity service of Ruby's fog-proxmox at work", async () => {
    const { caller, headers } = await credentials[kind]();
    const { client: fog, unused } = fogClient(site, headers);
    await expectOwn(caller, async () => {
      expect((await ok(fog.read_version())).release).toBe('9.2');

      const [ldap, ad] = [own('LDAP'), own('AD')];
      const server = { server1: 'localhost', port: 389, default: 0, secure: 0 };
      await ok(
        fog.create_domain({ realm: ldap, type: 'ldap', base_dn: 'ou=People,dc=test', user_attr: 'uid', ...server }),
      );
      await ok(fog.create_domain({ realm: ad, type: 'ad', domain: 'proxmox.com', ...server }));
      await refused(
        fog.create_domain({ realm: ad, type: 'ad', domain: 'proxmox.com', ...server }),
        500,
        /already exists/,
      );
      const { digest, type: _, ...known } = await ok(fog.get_domain(ldap));
      await ok(
        fog.update_domain(ldap, { ...known, comment: 'Test domain LDAP', tfa: 'type=oath,step=30,digits=8', digest }),
      );
      expect(await ok(fog.list_domains())).toContainEqual({
        ...{ realm: ldap, type: 'ldap', comment: 'Test domain LDAP', tfa: 'oath' },
      });
      for (const realm of [ldap, ad]) {
        await ok(fog.delete_domain(realm));
        await refused(fog.get_domain(realm), 500, /does not exist/);
      }

      const [group, other] = [own('group1'), own('group2')];
      for (const groupid of [group, other]) await ok(fog.create_group({ groupid }));
      await refused(fog.create_group({ groupid: group }), 500, /already exists/);
      await ok(fog.update_group(group, { comment: 'Group 1' }));
      expect(await ok(fog.list_groups())).toContainEqual({ groupid: group, comment: 'Group 1', users: '' });

      const role = own('PVETestAuditor');
      await ok(fog.create_role({ roleid: role }));
      await refused(fog.create_role({ roleid: role }), 500, /already exists/);
      await ok(fog.update_role(role, { privs: 'Datastore.Audit Sys.Audit VM.Audit' }));
      expect(Object.keys(await ok(fog.get_role(role)))).toEqual(['Datastore.Audit', 'Sys.Audit', 'VM.Audit']);
      expect(idsOf(await ok(fog.list_roles()), 'roleid')).toContain(role);

      const userid = `bobsinclar${kind}@pve`;
      const person = { userid, firstname: 'Bob', lastname: 'Sinclar', email: 'bobsinclar@proxmox.com' };
      await ok(fog.create_user({ ...person, password: 'bob-sinclar1', groups: group }));
      await refused(fog.create_user(person), 500, /already exists/);
      await ok(fog.update_user(userid, { groups: other, append: 1, comment: 'novelist & more' }));
      expect((await ok(fog.get_user(userid))).groups).toEqual([group, other]);
      await ok(fog.update_user(userid, { groups: other }));
      expect(await ok(fog.get_user(userid))).toMatchObject({ groups: [other], comment: 'novelist & more' });
      await ok(fog.update_user(userid, { enable: 0 }));
      expect(idsOf(await ok(fog.list_users({ enabled: 0 })), 'userid')).toContain(userid);
      expect(idsOf(await ok(fog.list_users({ enabled: 1 })), 'userid')).not.toContain(userid);
      await ok(fog.update_user(userid, { enable: 1, expire: 0 }));

      const rights = { roles: role, propagate: 0 };
      await ok(fog.update_permissions({ path: '/vms', users: userid, ...rights }));
      await ok(fog.update_permissions({ path: '/vms/101', groups: other, ...rights }));
      const audit = { 'VM.Audit': 0, 'Datastore.Audit': 0, 'Sys.Audit': 0 };
      expect(await ok(fog.list_user_permissions(userid, '/vms'))).toEqual({ '/vms': audit });
      expect(await ok(fog.list_user_permissions(userid, '/vms/100'))).toEqual({ '/vms/100': {} });
      expect(await ok(fog.list_user_permissions(userid))).toEqual({ '/vms': audit, '/vms/101': audit });
      expect(idsOf(await ok(fog.list_permissions()), 'ugid')).toEqual(expect.arrayContaining([userid, other]));
      const password = 'bob-sinclar1';
      const verdict = { path: '/vms/101', privs: 'VM.Audit' };
      if (kind === 'ticket') {
        expect(await ok(fog.check_permissions({ username: userid, password, ...verdict }))).toMatchObject({
          username: userid,
        });
        await refused(fog.check_permissions({ username: userid, password, ...verdict, path: '/vms/100' }), 401, /./);
        await refused(fog.change_password(userid, 'bob-sinclar2'), 400, /confirmation/);
        await ok(fog.change_password(userid, 'bob-sinclar2', { 'confirmation-password': 'chief-secret' }));
        expect(await signsIn(userid, 'bob-sinclar2')).toBe(true);
      } else {
        await refused(fog.check_permissions({ username: userid, password, ...verdict }), 403, /ticket/);
        await refused(fog.change_password(userid, 'bob-sinclar2'), 403, /needs a proper ticket/);
      }

      await followToken(fog, userid, role);

      await ok(fog.update_permissions({ path: '/vms', users: userid, ...rights, delete: 1 }));
      await ok(fog.update_permissions({ path: '/vms/101', groups: other, ...rights, delete: 1 }));
      await ok(fog.delete_user(userid));
      expect(idsOf(await ok(fog.list_users()), 'userid')).not.toContain(userid);
      for (const groupid of [group, other]) await ok(fog.delete_group(groupid));
      await refused(fog.get_group(group), 500, /does not exist/);
      await ok(fog.delete_role(role));

      const pool = own('pool1');
      await ok(fog.create_pool({ poolid: pool }));
      await ok(fog.update_pool(pool, { comment: 'pool 1', storage: 'ceph,tank', vms: '100', 'allow-move': 1 }));
      expect(idsOf(await ok(fog.list_pools()), 'poolid')).toContain(pool);
      const [{ members, comment }] = await ok(fog.get_pool(pool));
      expect([comment, new Set(idsOf(members, 'type'))]).toEqual(['pool 1', new Set(['qemu', 'storage'])]);
      await ok(fog.update_pool(pool, { storage: 'ceph,tank', vms: '100', delete: 1 }));
      await ok(fog.delete_pool(pool));
      await refused(fog.get_pool(pool), 500, /does not exist/);
      await ok(fog.update_pool('alice', { vms: '100' }));
    });
    expect(unused()).toEqual([]);
  });
});

/** A token's rights, its end and its renewal, each seen by using it. */
async function followToken(fog: ReturnType<typeof fogClient>['client'], userid: string, role: string): Promise<void> {
  const {
    'full-tokenid': id,
    value,
    info,
  } = await ok(fog.create_token(userid, 'root1', { privsep: 1, comment: 'ci' }));
  expect([id, info]).toEqual([`${userid}!root1`, { privsep: 1, expire: 0, comment: 'ci' }]);
  const using = (secret: string) =>
    new PveClient(site, { authorization: `PVEAPIToken=${id}=${secret}` }).get('/nodes/n1/qemu/101/status/current');
  await refused(using(value), 403, /VM.Audit/);
  await ok(fog.update_permissions({ path: '/vms/101', tokens: id, roles: role }));
  await ok(using(value));
  await ok(fog.update_permissions({ path: '/vms/101', tokens: id, roles: role, delete: 1 }));
  await refused(using(value), 403, /VM.Audit/);
  await ok(fog.update_token(userid, 'root1', { privsep: 0 }));
  await ok(using(value));
  await ok(fog.update_token(userid, 'root1', { expire: 1 }));
  await refused(using(value), 401, /./);
  const renewed = await ok(fog.update_token(userid, 'root1', { expire: 0, regenerate: 1 }));
  await refused(using(value), 401, /./);
  await ok(using(renewed.value));
  expect(await ok(fog.get_token_info(userid, 'root1'))).toEqual({ privsep: 0, expire: 0, comment: 'ci' });
  expect(idsOf(await ok(fog.list_tokens(userid)), 'tokenid')).toEqual(['root1']);
  await ok(fog.delete_token(userid, 'root1'));
  await refused(using(renewed.value), 401, /./);
  await refused(fog.get_token_info(userid, 'root1'), 500, /no such token/);
}

test('a tenant finds all of it closed by PVE, and their own token open', async () => {
  const { ticket, csrf } = await ticketOf(site, 'alice');
  const headers = { cookie: `PVEAuthCookie=${ticket}`, csrfpreventiontoken: csrf };
  const { client: fog } = fogClient(site, headers);
  const before = site.cluster.access.acl();
  for (const attempt of [
    fog.create_domain({ realm: 'mine', type: 'ad', domain: 'x.example', server1: 'x' }),
    fog.create_group({ groupid: 'mine' }),
    fog.create_role({ roleid: 'Mine', privs: 'VM.Allocate' }),
    fog.create_user({ userid: 'mine@pve' }),
    fog.update_user('alice@pve', { groups: 'mine' }),
    fog.update_permissions({ path: '/', users: 'alice@pve', roles: 'Administrator' }),
    fog.change_password('chief@pve', 'taken-over', { 'confirmation-password': 'alice-secret' }),
    fog.create_token('chief@pve', 'mine'),
    fog.create_pool({ poolid: 'mine' }),
    fog.delete_pool('alice'),
    fog.update_pool('alice', { vms: '100', delete: 1 }),
  ])
    expect((await attempt).status).toBeGreaterThanOrEqual(400);
  expect(site.cluster.access.acl()).toEqual(before);
  expect(await ok(fog.create_token('alice@pve', 'mine', { privsep: 0 }))).toMatchObject({
    'full-tokenid': 'alice@pve!mine',
  });
  await ok(fog.delete_token('alice@pve', 'mine'));
  await ok(fog.change_password('alice@pve', 'alice-secret-2', { 'confirmation-password': 'alice-secret' }));
  expect(await signsIn('alice@pve', 'alice-secret-2')).toBe(true);
});
