import { describe, expect, test } from 'vitest';
import type { Caller } from '../../../simulator/call.ts';
import { totpCode } from '../../../simulator/second-factors.ts';
import { alice, makeWorld, root, type World } from './world.ts';

type Rows = readonly Readonly<Record<string, unknown>>[];
type Row = Readonly<Record<string, unknown>>;

const now = 1_763_784_000;
const bob: Caller = { user: 'bob@pve' };

function makeOffice(): World {
  const world = makeWorld();
  world.cluster.access.addUser('bob@pve', { password: 'bob-password' });
  world.cluster.access.setPassword('alice@pve', 'alice-password');
  return world;
}

describe('tokens', () => {
  const one = '/access/users/{userid}/token/{tokenid}';
  const ci = { userid: 'alice@pve', tokenid: 'ci' };

  test('are changed without their secret, until a new one is asked for', () => {
    const { call, cluster } = makeOffice();
    const { value } = call<Row>('POST', one, { ...ci, comment: 'mine', privsep: 0 }, { caller: alice });
    const works = (secret: unknown) => cluster.access.callerOfToken('alice@pve!ci', String(secret)) !== undefined;
    expect(call('PUT', one, { ...ci, expire: now + 60 }, { caller: alice })).toEqual({
      ...{ expire: now + 60, privsep: 0, comment: 'mine' },
    });
    expect(works(value)).toBe(true);
    expect(call('PUT', one, { ...ci, delete: 'comment,privsep,expire' })).toEqual({ expire: 0, privsep: 1 });

    const renewed = call<Row>('PUT', one, { ...ci, regenerate: 1 });
    expect(renewed).toMatchObject({ 'full-tokenid': 'alice@pve!ci' });
    expect(works(value)).toBe(false);
    expect(works(renewed.value)).toBe(true);
  });

  test('are of their user alone, and of those who may modify the user', () => {
    const { call } = makeOffice();
    call('POST', one, ci, { caller: alice });
    expect(() => call('PUT', one, { ...ci, comment: 'x' }, { caller: bob })).toThrow('Permission check failed');
    const token = { user: 'alice@pve', token: 'alice@pve!ci' };
    expect(() => call('PUT', one, { ...ci, comment: 'x' }, { caller: token })).toThrow('Permission check failed');
    expect(() => call('PUT', one, { ...ci, delete: 'tokenid' }, { caller: alice })).toThrow('verification failed');
    expect(() => call('PUT', one, { ...ci, tokenid: 'other' }, { caller: alice })).toThrow("no such token 'other'");
  });
});

describe('second factors', () => {
  const one = '/access/tfa/{userid}';
  const entry = `${one}/{id}`;
  const secret = 'JBSWY3DPEHPK3PXP';
  const totp = `otpauth://totp/pve:alice?secret=${secret}&issuer=pve`;
  const password = 'alice-password';

  function signIn({ call }: World, param: object) {
    return call<Row>('POST', '/access/ticket', { username: 'alice@pve', ...param });
  }

  test('of codes are asked for from the moment they are set up', () => {
    const world = makeOffice();
    const add = (param: object) =>
      world.call<Row>('POST', one, { userid: 'alice@pve', type: 'totp', totp, password, ...param }, { caller: alice });
    expect(() => add({ value: '000000' })).toThrow('failed to verify');
    expect(() => add({ value: totpCode(secret, now), password: undefined })).toThrow('Parameter verification failed.');
    expect(() => add({ value: totpCode(secret, now), password: 'wrong' })).toThrow('authentication failure');
    const { id } = add({ value: totpCode(secret, now), description: 'phone' });
    expect(world.call('GET', '/access/tfa', {}, { caller: alice })).toEqual([
      { userid: 'alice@pve', entries: [{ id, type: 'totp', created: now, description: 'phone' }] },
    ]);
    expect(world.call('GET', '/access/tfa', {}, { caller: bob })).toEqual([]);
    expect(world.call('GET', '/access/users/{userid}/tfa', { userid: 'alice@pve', multiple: 1 })).toEqual({
      types: ['totp'],
    });

    const first = signIn(world, { password });
    expect(first).toMatchObject({ NeedTFA: 1 });
    const answer = { password: `totp:${totpCode(secret, now + 20)}`, 'tfa-challenge': first.ticket };
    expect(signIn(world, answer).ticket).toMatch(/^PVE:alice@pve:/);
    expect(() => signIn(world, { ...answer, password: 'totp:000000' })).toThrow('authentication failure');

    world.call('PUT', entry, { userid: 'alice@pve', id, enable: 0, description: 'old phone' });
    expect(signIn(world, { password })).not.toHaveProperty('NeedTFA');
    world.call('DELETE', entry, { userid: 'alice@pve', id, password }, { caller: alice });
    expect(() => world.call('GET', entry, { userid: 'alice@pve', id })).toThrow('no such tfa entry');
  });

  test('of keys work once each', () => {
    const world = makeOffice();
    const add = { userid: 'alice@pve', type: 'recovery', password };
    const { recovery } = world.call<{ recovery: readonly string[] }>('POST', one, add, { caller: alice });
    expect(recovery).toHaveLength(10);
    const { ticket } = signIn(world, { password });
    const answer = { password: `recovery:${recovery[3]}`, 'tfa-challenge': ticket };
    expect(signIn(world, answer).ticket).toMatch(/^PVE:alice@pve:/);
    expect(() => signIn(world, answer)).toThrow('authentication failure');
  });

  test('of root@pam are its own', () => {
    const { call, cluster } = makeOffice();
    cluster.access.setAcl('/', { users: ['bob@pve'] }, 'Administrator');
    const add = { userid: 'root@pam', type: 'recovery', password: 'bob-password' };
    expect(() => call('POST', one, add, { caller: bob })).toThrow('Permission check failed');
    expect(call('POST', one, add, { caller: root })).toHaveProperty('recovery');
  });
});

describe('realms', () => {
  const list = '/access/domains';
  const one = `${list}/{realm}`;
  const office = { realm: 'office', type: 'ldap', server1: 'ldap.example', base_dn: 'dc=example', user_attr: 'uid' };

  test('are made, changed and taken away by those who may; secrets are not shown', () => {
    const { call, cluster } = makeOffice();
    expect(() => call('POST', list, office, { caller: alice })).toThrow('/access/realm, Realm.Allocate');
    call('POST', list, { ...office, password: 'hidden', comment: 'ours', default: 1, 'case-sensitive': 0 });
    const shown = call<Row>('GET', one, { realm: 'office' });
    expect(shown).toMatchObject({
      type: 'ldap',
      server1: 'ldap.example',
      comment: 'ours',
      default: 1,
      'case-sensitive': 0,
    });
    expect(JSON.stringify(shown)).not.toContain('hidden');
    cluster.access.addUser('Carol@office');
    expect(cluster.access.canonicalUser('carol@office')).toBe('Carol@office');

    call('PUT', one, { realm: 'pve', default: 1 });
    expect(call<Rows>('GET', list).filter((realm) => realm.default)).toMatchObject([{ realm: 'pve' }]);
    call('PUT', one, { realm: 'office', server2: 'backup.example', delete: 'comment' });
    expect(call('GET', one, { realm: 'office' })).not.toHaveProperty('comment');
    call('DELETE', one, { realm: 'office' });
    expect(() => call('GET', one, { realm: 'office' })).toThrow('does not exist');
  });

  test.each<[object, string]>([
    [{ ...office, realm: 'pve' }, "domain 'pve' already exists"],
    [{ realm: 'more', type: 'pam' }, "unable to create builtin type 'pam'"],
    [{ ...office, server1: undefined }, 'Parameter verification failed.'],
    [{ ...office, 'issuer-url': 'https://x' }, 'Parameter verification failed.'],
    [{ realm: 'ad', type: 'ad', server1: 'x' }, 'Parameter verification failed.'],
  ])('are not made of %o', (param, reason) => {
    const { call } = makeOffice();
    expect(() => call('POST', list, { ...param })).toThrow(reason);
  });

  test('of PVE itself stay, and lose nothing that they need', () => {
    const { call } = makeOffice();
    expect(() => call('DELETE', one, { realm: 'pam' })).toThrow("unable to delete builtin type 'pam'");
    call('POST', list, office);
    expect(() => call('PUT', one, { realm: 'office', delete: 'base_dn' })).toThrow('Parameter verification failed.');
  });

  test('that ask another server keep no passwords', () => {
    const { call } = makeOffice();
    const user = { userid: 'dora@ldap' };
    expect(() => call('POST', '/access/users', { ...user, password: 'a-password' })).toThrow("auth type 'ldap'");
    call('POST', '/access/users', user);
    expect(() => call('PUT', '/access/password', { ...user, password: 'a-password' })).toThrow("auth type 'ldap'");
  });
});

describe('pools', () => {
  test('lie in one another, and go from the inside', () => {
    const { call, cluster } = makeOffice();
    expect(() => call('POST', '/pools', { poolid: 'a/b' })).toThrow("parent 'a' of pool 'a/b' does not exist");
    for (const poolid of ['a', 'a/b']) call('POST', '/pools', { poolid });
    cluster.access.setAcl('/pool/a', { users: ['alice@pve'] }, 'PVEPoolAdmin');
    call('PUT', '/pools', { poolid: 'a/b', comment: 'inner' }, { caller: alice });
    expect(call('GET', '/pools', { poolid: 'a/b' })).toEqual([{ poolid: 'a/b', comment: 'inner', members: [] }]);
    expect(() => call('DELETE', '/pools', { poolid: 'a' })).toThrow("contains pool 'a/b'");
    for (const poolid of ['a/b', 'a']) call('DELETE', '/pools', { poolid });
    expect(cluster.access.acl().filter(({ path }) => path === '/pool/a')).toEqual([]);
  });

  test('change as a whole or not at all', () => {
    const world = makeOffice();
    for (const vmid of [100, 101]) world.vm(vmid, vmid === 101 ? { pool: 'alice' } : {});
    world.call('POST', '/pools', { poolid: 'lab' });
    expect(() => world.call('PUT', '/pools', { poolid: 'lab', vms: '100,101', storage: 'ceph' })).toThrow(
      'belongs already',
    );
    expect(world.cluster.poolOf(100)).toBeUndefined();
    world.call('PUT', '/pools', { poolid: 'lab', vms: '100', storage: 'ceph' });
    expect(() => world.call('PUT', '/pools', { poolid: 'lab', storage: 'ceph' })).toThrow('already a pool member');
    expect(() => world.call('PUT', '/pools', { poolid: 'lab', vms: '101', delete: 1 })).toThrow('is not a pool member');
    world.call('PUT', '/pools', { poolid: 'lab', vms: '100', storage: 'ceph', delete: 1 });
    world.call('DELETE', '/pools', { poolid: 'lab' });
  });

  test('take only members that the caller is master of', () => {
    const world = makeOffice();
    world.vm(100);
    world.cluster.access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'PVEPoolAdmin');
    const put = { poolid: 'alice', vms: '100' };
    expect(() => world.call('PUT', '/pools', put, { caller: alice })).toThrow('/vms/100, Permissions.Modify');
    world.cluster.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMAdmin');
    world.call('PUT', '/pools/{poolid}', put, { caller: alice });
    expect(world.cluster.poolOf(100)).toBe('alice');
  });
});
