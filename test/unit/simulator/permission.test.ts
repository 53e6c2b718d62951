import { describe, expect, test } from 'vitest';
import { Access } from '../../../simulator/access.ts';
import type { Caller } from '../../../simulator/call.ts';
import type { Check, Permissions } from '../../../simulator/method.ts';
import { demandPermission } from '../../../simulator/permission.ts';

const alice: Caller = { user: 'alice@pve' };

function newAccess() {
  const access = new Access(() => 0);
  for (const user of ['alice@pve', 'bob@pve', 'eve@pve']) access.addUser(user);
  access.addGroup('staff', ['bob@pve']);
  access.addToken('alice@pve', 't', { privsep: false });
  access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMUser');
  access.setAcl('/storage/ceph', { users: ['alice@pve'] }, 'PVEDatastoreAdmin');
  access.setAcl('/access/groups/staff', { users: ['alice@pve'] }, 'PVEUserAdmin');
  access.setAcl('/access/realm/pve', { users: ['alice@pve'] }, 'PVEUserAdmin');
  return access;
}

function verdict(permissions: Permissions, parameters: Record<string, unknown> = {}, caller?: Caller) {
  try {
    demandPermission(permissions, newAccess(), caller, new Map(Object.entries(parameters)));
    return 'passed';
  } catch (error) {
    return (error as Error).message;
  }
}

const checked = (check: Check, parameters: Record<string, unknown> = {}) => verdict({ check }, parameters, alice);
const failed = (what?: string) => `Permission check failed${what === undefined ? '' : ` (${what})`}`;

describe('who may call', () => {
  test.each<[Permissions, Caller | undefined, string]>([
    [{ user: 'world' }, undefined, 'passed'],
    [{ user: 'all' }, undefined, failed('user != null')],
    [{ user: 'all' }, alice, 'passed'],
    ['root@pam', alice, failed('user != root@pam')],
    ['root@pam', { user: 'root@pam' }, 'passed'],
    ['root@pam', { user: 'root@pam', token: 'root@pam!t' }, failed('user != root@pam')],
    [{ check: ['perm', '/', ['Sys.Modify']] }, { user: 'root@pam' }, 'passed'],
  ])('%j for %j: %s', (permissions, caller, expected) => {
    expect(verdict(permissions, {}, caller)).toBe(expected);
  });
});

describe('perm', () => {
  test.each<[Check, Record<string, unknown>, string]>([
    [['perm', '/vms/{vmid}', ['VM.Audit']], { vmid: '100' }, 'passed'],
    [['perm', '/vms/{vmid}', ['VM.Audit']], { vmid: '101' }, failed('/vms/101, VM.Audit')],
    [['perm', '/vms/{vmid}', ['VM.Audit']], {}, failed('/vms/-, VM.Audit')],
    [['perm', '/vms/{vmid}', ['VM.Audit', 'VM.Allocate']], { vmid: '100' }, failed('/vms/100, VM.Allocate')],
    [['perm', '/vms/{vmid}', ['VM.Audit', 'VM.Allocate'], 'any', 1], { vmid: '100' }, 'passed'],
    [
      ['perm', '/vms/{vmid}', ['VM.Clone', 'VM.Allocate'], 'any', 1],
      { vmid: '100' },
      failed('/vms/100, VM.Clone|VM.Allocate'),
    ],
    [['perm', '/vms/{vmid}', ['VM.Audit'], 'require_param', 'pool'], { vmid: '100' }, failed()],
    [['perm', '/vms/{vmid}', ['VM.Audit'], 'require_param', 'pool'], { vmid: '100', pool: 'x' }, 'passed'],
  ])('%j with %j: %s', (check, parameters, expected) => {
    expect(checked(check, parameters)).toBe(expected);
  });
});

describe('or, and', () => {
  const yes: Check = ['perm', '/vms/100', ['VM.Audit']];
  const no: Check = ['perm', '/vms/100', ['VM.Allocate']];
  test.each<[Check, string]>([
    [['or', no, yes], 'passed'],
    [['or', no, no], failed()],
    [['and', yes, yes], 'passed'],
    [['and', yes, no], failed('/vms/100, VM.Allocate')],
    [['and', ['or', no, yes], yes], 'passed'],
  ])('%j: %s', (check, expected) => {
    expect(checked(check)).toBe(expected);
  });
});

describe('perm-modify', () => {
  test.each<[string, string]>([
    ['/storage/ceph', 'passed'],
    ['/storage/other', failed('/storage/other, Permissions.Modify|Datastore.Allocate')],
    ['/vms/100', failed('/vms/100, Permissions.Modify|VM.Allocate')],
    ['/', failed('/, Permissions.Modify')],
  ])('%s: %s', (path, expected) => {
    expect(checked(['perm-modify', '{path}'], { path })).toBe(expected);
  });
});

describe('checks about users', () => {
  const group: Check = ['userid-group', ['User.Modify']];
  const create: Check = ['userid-group', ['User.Modify'], 'groups_param', 'create'];
  test.each<[Check, Record<string, unknown>, string]>([
    [['userid-param', 'self'], { userid: 'alice@pve' }, 'passed'],
    [['userid-param', 'self'], { userid: 'bob@pve' }, failed()],
    [['userid-param', 'Realm.AllocateUser'], { userid: 'new@pve' }, 'passed'],
    [['userid-param', 'Realm.AllocateUser'], { userid: 'new@pam' }, failed('/access/realm/pam, Realm.AllocateUser')],
    [group, { userid: 'bob@pve' }, 'passed'],
    [group, { userid: 'eve@pve' }, failed()],
    [group, { userid: 'nobody@pve' }, failed()],
    [create, { userid: 'new@pve', groups: 'staff' }, 'passed'],
    [create, { userid: 'new@pve', groups: 'staff,other' }, failed('/access/groups/other, User.Modify')],
    [create, { userid: 'new@pve' }, failed('/access/groups, User.Modify')],
  ])('%j with %j: %s', (check, parameters, expected) => {
    expect(checked(check, parameters)).toBe(expected);
  });

  test('a token is not itself its user', () => {
    const token = { user: 'alice@pve', token: 'alice@pve!t' };
    expect(verdict({ check: ['userid-param', 'self'] }, { userid: 'alice@pve' }, token)).toBe(failed());
  });
});
