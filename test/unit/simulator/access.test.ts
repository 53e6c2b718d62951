import { describe, expect, test } from 'vitest';
import { Access, normalisePath } from '../../../simulator/access.ts';
import type { Caller } from '../../../simulator/call.ts';
import { Cluster } from '../../../simulator/cluster.ts';
import { builtInRoles, privileges } from '../../../simulator/roles.ts';
import { Tasks } from '../../../simulator/tasks.ts';

const alice: Caller = { user: 'alice@pve' };
const root: Caller = { user: 'root@pam' };

function newCluster(now = () => 0) {
  const cluster = new Cluster(new Access(now), new Tasks(now), now);
  cluster.access.addUser('alice@pve');
  cluster.access.addGroup('staff', ['alice@pve']);
  return cluster;
}

const newAccess = (now?: () => number) => newCluster(now).access;
const held = (access: Access, caller: Caller, path: string) => Object.fromEntries(access.privileges(caller, path));

describe('roles', () => {
  test('PVE 9 knows 47 privileges and gives them to the Administrator', () => {
    expect(builtInRoles.get('Administrator')).toEqual(privileges);
    expect(privileges.size).toBe(47);
  });

  test.each<[string, readonly string[]]>([
    ['NoAccess', []],
    ['PVEDatastoreUser', ['Datastore.AllocateSpace', 'Datastore.Audit']],
    ['PVETemplateUser', ['VM.Audit', 'VM.Clone']],
    ['PVEPoolUser', ['Pool.Audit']],
    [
      'PVEVMUser',
      [
        ...['VM.Audit', 'VM.Backup', 'VM.Config.CDROM', 'VM.Config.Cloudinit', 'VM.Console', 'VM.GuestAgent.Audit'],
        ...['VM.GuestAgent.FileRead', 'VM.GuestAgent.FileSystemMgmt', 'VM.GuestAgent.FileWrite', 'VM.PowerMgmt'],
      ],
    ],
  ])('%s holds its privileges', (role, expected) => {
    expect([...(builtInRoles.get(role) ?? [])].sort()).toEqual(expected);
  });

  test.each([
    'Sys.PowerMgmt',
    'Sys.Modify',
    'Sys.Incoming',
    'Sys.AccessNetwork',
    'Realm.Allocate',
    'Mapping.Modify',
    'Permissions.Modify',
  ])('PVEAdmin has no %s', (privilege) => {
    expect(builtInRoles.get('PVEAdmin')?.has(privilege)).toBe(false);
  });
});

describe('entries', () => {
  test('propagate downwards, unless told not to', () => {
    const access = newAccess();
    access.setAcl('/vms', { users: ['alice@pve'] }, 'PVETemplateUser');
    access.setAcl('/storage', { users: ['alice@pve'] }, 'PVEDatastoreUser', false);

    expect(held(access, alice, '/vms/100')).toEqual({ 'VM.Audit': 1, 'VM.Clone': 1 });
    expect(held(access, alice, '/storage')).toEqual({ 'Datastore.AllocateSpace': 0, 'Datastore.Audit': 0 });
    expect(held(access, alice, '/storage/local')).toEqual({});
  });

  test('on a deeper path replace those above', () => {
    const access = newAccess();
    access.setAcl('/', { users: ['alice@pve'] }, 'PVEAuditor');
    access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVETemplateUser');

    expect(Object.keys(held(access, alice, '/vms/100'))).toEqual(['VM.Audit', 'VM.Clone']);
    expect(access.check(alice, '/vms/101', ['VM.GuestAgent.Audit'])).toBe(true);
  });

  test('of a user beat those of its groups; several groups add up', () => {
    const access = newAccess();
    access.addGroup('more', ['alice@pve']);
    access.setAcl('/vms', { groups: ['staff'] }, 'PVETemplateUser');
    access.setAcl('/vms', { groups: ['more'] }, 'PVEPoolUser');
    expect(Object.keys(held(access, alice, '/vms')).sort()).toEqual(['Pool.Audit', 'VM.Audit', 'VM.Clone']);

    access.setAcl('/vms', { users: ['alice@pve'] }, 'PVEPoolUser');
    expect(Object.keys(held(access, alice, '/vms'))).toEqual(['Pool.Audit']);
  });

  test('of a group on a deeper path beat those of the user above', () => {
    const access = newAccess();
    access.setAcl('/', { users: ['alice@pve'] }, 'Administrator');
    access.setAcl('/vms', { groups: ['staff'] }, 'PVETemplateUser');
    expect(Object.keys(held(access, alice, '/vms/1'))).toEqual(['VM.Audit', 'VM.Clone']);
  });

  test('with NoAccess leave nothing', () => {
    const access = newAccess();
    access.setAcl('/vms', { users: ['alice@pve'] }, 'Administrator');
    access.setAcl('/vms', { users: ['alice@pve'] }, 'NoAccess');
    expect(held(access, alice, '/vms/100')).toEqual({});
  });

  test('take effect at once when they, groups or roles change', () => {
    const access = newAccess();
    access.addRole('Own', ['VM.Audit']);
    access.setAcl('/vms', { groups: ['staff'] }, 'Own');
    expect(access.check(alice, '/vms/1', ['VM.Audit'])).toBe(true);

    access.addRole('Own', ['VM.Console']);
    expect(held(access, alice, '/vms/1')).toEqual({ 'VM.Console': 1 });
    access.removeFromGroup('staff', 'alice@pve');
    expect(held(access, alice, '/vms/1')).toEqual({});
    access.setAcl('/vms/1', { users: ['alice@pve'] }, 'Own');
    access.dropAcl('/vms/1');
    expect(held(access, alice, '/vms/1')).toEqual({});
  });
});

describe('pools', () => {
  function newPool() {
    const cluster = newCluster();
    cluster.pools.set('alice', { poolid: 'alice', comment: '', vms: new Set(), storages: new Set(['ceph']) });
    cluster.join('alice', 100);
    cluster.access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'PVETemplateUser');
    return cluster;
  }

  test('lend their roles to exactly their members', () => {
    const { access } = newPool();
    expect(held(access, alice, '/vms/100')).toEqual({ 'VM.Audit': 0, 'VM.Clone': 0 });
    expect(held(access, alice, '/storage/ceph')).toEqual({ 'VM.Audit': 0, 'VM.Clone': 0 });
    expect(held(access, alice, '/vms/101')).toEqual({});
    expect(held(access, alice, '/vms/100/')).toEqual({});
  });

  test('lend nothing once a member has left', () => {
    const cluster = newPool();
    expect(cluster.access.check(alice, '/vms/100', ['VM.Audit'])).toBe(true);
    cluster.leave(100);
    expect(cluster.access.check(alice, '/vms/100', ['VM.Audit'])).toBe(false);
  });

  test('add to what the guest itself gives, but NoAccess on either side wins', () => {
    const { access } = newPool();
    access.setAcl('/vms', { users: ['alice@pve'] }, 'PVEPoolUser');
    expect(Object.keys(held(access, alice, '/vms/100')).sort()).toEqual(['Pool.Audit', 'VM.Audit', 'VM.Clone']);
    access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'NoAccess');
    expect(held(access, alice, '/vms/100')).toEqual({});
    access.removeAcl('/pool/alice', { users: ['alice@pve'] }, 'NoAccess');
    access.setAcl('/vms/100', { users: ['alice@pve'] }, 'NoAccess');
    expect(held(access, alice, '/vms/100')).toEqual({});
  });
});

describe('tokens', () => {
  const token: Caller = { user: 'alice@pve', token: 'alice@pve!t' };

  test('without privilege separation are their user', () => {
    const access = newAccess();
    access.addToken('alice@pve', 't', { privsep: false });
    access.setAcl('/vms', { groups: ['staff'] }, 'PVETemplateUser');
    expect(held(access, token, '/vms/1')).toEqual(held(access, alice, '/vms/1'));
  });

  test('with it hold what both they and their user were given, and groups do not count for them', () => {
    const access = newAccess();
    access.addToken('alice@pve', 't');
    access.setAcl('/vms', { groups: ['staff'] }, 'PVEVMUser');
    expect(held(access, token, '/vms/1')).toEqual({});
    access.setAcl('/vms', { tokens: ['alice@pve!t'] }, 'PVETemplateUser', false);
    expect(held(access, token, '/vms')).toEqual({ 'VM.Audit': 0 });
  });

  test('of root@pam with privilege separation hold what they were given', () => {
    const access = newAccess();
    access.addToken('root@pam', 't');
    access.setAcl('/vms', { tokens: ['root@pam!t'] }, 'PVETemplateUser');
    expect(Object.keys(held(access, { user: 'root@pam', token: 'root@pam!t' }, '/vms/1'))).toEqual([
      'VM.Audit',
      'VM.Clone',
    ]);
  });

  test('are refused with a wrong secret, when they or their users are over or off', () => {
    let now = 0;
    const access = newAccess(() => now);
    const secret = access.addToken('alice@pve', 't', { expire: 100 });
    expect(access.callerOfToken('alice@pve!t', secret)).toEqual(token);
    expect(access.callerOfToken('alice@pve!t', 'wrong')).toBeUndefined();
    expect(access.callerOfToken('alice@pve!u', secret)).toBeUndefined();
    access.disable('alice@pve');
    expect(access.callerOfToken('alice@pve!t', secret)).toBeUndefined();
    access.enable('alice@pve');
    now = 101_000;
    expect(access.callerOfToken('alice@pve!t', secret)).toBeUndefined();
  });
});

test('root@pam holds everything everywhere', () => {
  expect(newAccess().privileges(root, '/vms/100').size).toBe(privileges.size);
});

test('a check says which privilege is missing where', () => {
  const access = newAccess();
  const refusal = (any: boolean) => () => access.demand(alice, '/vms/100', ['VM.Audit', 'VM.Console'], any);
  expect(refusal(false)).toThrow('Permission check failed (/vms/100, VM.Audit)');
  expect(refusal(true)).toThrow('Permission check failed (/vms/100, VM.Audit|VM.Console)');
  expect(() => access.check(alice, '/', ['VM.Monitor'])).toThrow("no such privilege 'VM.Monitor'");
});

test('ten thousand guests are asked about in well under a second', () => {
  const cluster = newCluster();
  for (let pool = 0; pool < 50; pool++) {
    cluster.pools.set(`p${pool}`, { poolid: `p${pool}`, comment: '', vms: new Set(), storages: new Set() });
    cluster.access.setAcl(`/pool/p${pool}`, { users: ['alice@pve'] }, 'PVETemplateUser');
  }
  for (let vmid = 1000; vmid < 11_000; vmid++) cluster.join(`p${vmid % 50}`, vmid);

  const start = performance.now();
  for (let vmid = 1000; vmid < 11_000; vmid++) cluster.access.check(alice, `/vms/${vmid}`, ['VM.Audit']);
  expect(performance.now() - start).toBeLessThan(10_000);
});

test.each([
  ['/vms/100', '/vms/100'],
  ['//vms//100/', '/vms/100'],
  ['/', '/'],
  ['vms', '/vms'],
  ['/vms/1 0', undefined],
])('the ACL path %j is %j', (path, expected) => {
  expect(normalisePath(path)).toBe(expected);
});
