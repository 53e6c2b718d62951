import { describe, expect, test } from 'vitest';
import { policies, policyFor } from '../../../src/admission/policies/index.ts';
import { type ParameterTable, type Policy, parameterFaults, policyTable } from '../../../src/admission/policy.ts';
import type { Call, Method, Params } from '../../../src/pve/call.ts';

const call = (method: Method, ...segments: string[]): Call => ({ method, segments, params: {} });
const backup = 'backup/vzdump-qemu-100-2026_01_01-00_00_00.vma.zst';
const upid = 'UPID:n1:00000001:00000001:00000001:qmcreate:100:alice@pve:';
const examples: Readonly<Record<string, string>> = {
  '{node}': 'n1',
  '{vmid}': '100',
  '{upid}': upid,
  '{snapshot}': 'before',
  '{storage}': 'shared',
  '{backup}': backup,
  '{*}': 'anything',
};

/** A call that a row is there for. */
function exampleOf(policy: Policy): Call {
  const parts = policy.path.split('/').filter((part) => part !== '');
  const params = [{}, { archive: `shared:${backup}` }, { restore: '1' }].find(
    (some) => !('when' in policy) || policy.when?.(some) !== false,
  );
  return { ...call(policy.method, ...parts.map((part) => examples[part] ?? part)), params: params ?? {} };
}

const named = policies.map((policy) => [`${policy.method} ${policy.path}`, policy] as const);

describe('the table', () => {
  test.each(named)('%s has a path of words and of braces that are known', (_, { path }) => {
    expect(path).toMatch(/^(?:\/(?:[a-z_]+|\{(?:node|vmid|upid|storage|backup|snapshot)\}))+(?:\/\{\*\})?$/);
  });

  test.each(named)('%s finds its own row', (_, policy) => {
    const braces = ['node', 'vmid', 'upid', 'storage', 'backup', 'snapshot'].filter((brace) =>
      policy.path.includes(`{${brace}}`),
    );
    const named = Object.fromEntries(braces.map((brace) => [brace, examples[`{${brace}}`]]));
    expect(policyFor(exampleOf(policy))).toEqual({ policy, named });
  });

  test('has no two rows for one call, but for reads with a row of their own within a wider one, and a restore within a create', () => {
    const overlaps = policies.flatMap((policy) =>
      policies
        .filter((other) => other !== policy && policyTable([other])(exampleOf(policy)) !== undefined)
        .map((other) => [policy, other] as const),
    );
    for (const [policy, other] of overlaps) {
      // Told apart by a parameter; the row that needs it comes first.
      if ('when' in policy) {
        expect(policies.indexOf(policy)).toBeLessThan(policies.indexOf(other));
        continue;
      }
      expect([policy.class, other.class], `${policy.path} and ${other.path}`).toEqual(['read', 'read']);
      expect([policy.path.endsWith('{*}'), other.path.endsWith('{*}')]).toEqual([false, true]);
    }
  });

  test('reads with GET and nothing else', () => {
    for (const { method, class: kind, path } of policies) expect(method === 'GET', path).toBe(kind === 'read');
  });

  test('gives the creator of a guest its status and configuration and no other answer', () => {
    const ofGuest = policies.filter((policy) => 'ofGuest' in policy && policy.ofGuest === true).map(({ path }) => path);
    expect(ofGuest.map((path) => path.replace(/^\/nodes\/\{node\}\/(?:qemu|lxc)\/\{vmid\}\//, ''))).toEqual([
      'config',
      'pending',
      'status/current',
      'config',
      'pending',
      'status/current',
    ]);
  });
});

describe('no row admits', () => {
  test.each([
    ['localhost', 'localhost'],
    ['localhost in other letters', 'LocalHost'],
    ['a dot segment', '..'],
    ['a single dot', '.'],
    ['nothing', ''],
    ['an encoded slash', 'n1%2Fqemu'],
    ['a slash', 'n1/qemu'],
    ['a final newline', 'n1\n'],
    ['a blank', 'n 1'],
    ['a name with a dot', 'n1.example'],
    ['a name that begins with a dash', '-n1'],
    ['a percent sign', '%6e1'],
    ['a NUL', 'n1\0'],
    ['letters beyond ASCII', 'nö1'],
  ])('%s as a node', (_, node) => {
    for (const asked of [
      call('POST', 'nodes', node, 'qemu'),
      call('PUT', 'nodes', node, 'qemu', '100', 'config'),
      call('DELETE', 'nodes', node, 'lxc', '100'),
      call('GET', 'nodes', node, 'status'),
    ])
      expect(policyFor(asked)).toBeUndefined();
  });

  test.each([
    '99',
    '0100',
    '+100',
    '-100',
    '100\n',
    ' 100',
    '1e3',
    '0x64',
    '100.0',
    '',
    '..',
    '1000000000',
    '١٠٠',
    '100/x',
  ])('%j as a vmid', (vmid) => {
    for (const asked of [
      call('PUT', 'nodes', 'n1', 'qemu', vmid, 'config'),
      call('DELETE', 'nodes', 'n1', 'qemu', vmid),
      call('POST', 'nodes', 'n1', 'lxc', vmid, 'status', 'start'),
    ])
      expect(policyFor(asked)).toBeUndefined();
  });

  test.each<[Method, string]>([
    ['GET', ''],
    ['GET', 'nodes/n1/qemux'],
    ['GET', 'nodes/n1/execute'],
    ['POST', 'nodes/n1/execute'],
    ['POST', 'nodes/n1/qemu/100'],
    ['POST', 'nodes/n1/qemu/100/'],
    ['PUT', 'nodes/n1/QEMU/100/config'],
    ['PUT', 'nodes/n1/qemu/100/config/x'],
    ['PUT', 'nodes/n1/lxc/100/unlink'],
    ['PUT', 'nodes/n1/qemu/100/unlink'],
    ['POST', 'nodes/n1/lxc/100/config'],
    ['POST', 'nodes/n1/qemu/100/clone'],
    ['POST', 'nodes/n1/qemu/100/snapshot'],
    ['POST', 'nodes/n1/qemu/100/snapshot/a/rollback'],
    ['POST', 'nodes/n1/qemu/100/template'],
    ['POST', 'nodes/n1/qemu/100/migrate'],
    ['POST', 'nodes/n1/qemu/100/monitor'],
    ['POST', 'nodes/n1/qemu/100/move_volume'],
    ['POST', 'nodes/n1/storage/ceph/content'],
    ['DELETE', 'nodes/n1/storage/ceph/content/ceph:vm-100-disk-0'],
    ['POST', 'nodes/n1/startall'],
    ['POST', 'cluster/bulk-action/guest/start'],
    ['POST', 'cluster/replication'],
    ['PUT', 'access/acl'],
    ['PUT', 'pools/a'],
    ['POST', 'access/ticket'],
  ])('%s /%s', (method, path) => {
    expect(policyFor(call(method, ...path.split('/')))).toBeUndefined();
  });
});

describe('parameters of a lifted call', () => {
  const table: ParameterTable = {
    cores: (value) => (value === '1' ? null : 'must be 1'),
    'net[n]': () => null,
    efidisk0: () => null,
  };
  const refused = (reason: string) => `not allowed: ${reason}`;
  const unknown = 'this call does not take it here';

  test.each<[Params, Record<string, string>]>([
    [{}, {}],
    [{ cores: '1', net0: 'x', net31: 'x', efidisk0: 'x' }, {}],
    [{ cores: '2' }, { cores: 'must be 1' }],
    [{ cores: ['1'] }, { cores: 'give it once' }],
    [{ net0: ['a', 'b'] }, { net0: 'give it once' }],
    [{ efidisk1: 'x' }, { efidisk1: unknown }],
    [
      { net: 'x', xnet0: 'x', net0x: 'x' },
      { net: unknown, xnet0: unknown, net0x: unknown },
    ],
    [
      { nonsense: '1', cores: '3' },
      { nonsense: unknown, cores: 'must be 1' },
    ],
    [{ args: '-S' }, { args: refused('raw QEMU arguments are for root alone') }],
    [{ hostpci0: '01:00' }, { hostpci0: refused('only VMs take devices') }],
    [{ virtiofs9: 'x' }, { virtiofs9: refused('a shared host directory has no limit') }],
    [{ dev0: '/dev/kvm' }, { dev0: refused('devices of the host are for root alone') }],
    [{ skiplock: '1' }, { skiplock: refused('locks belong to PVE') }],
    [
      { cdrom: 'lvm:500,media=disk', smp: '64' },
      { cdrom: unknown, smp: unknown },
    ],
    [
      { constructor: '1', toString: '1', hasOwnProperty: '1' },
      { constructor: unknown, toString: unknown, hasOwnProperty: unknown },
    ],
    [JSON.parse('{"__proto__": "1"}'), JSON.parse(`{"__proto__": "${unknown}"}`)],
  ])('%j has the faults %j', (params, faults) => {
    expect(parameterFaults(table, params).map(({ field, problem }) => [field, problem])).toEqual(
      Object.entries(faults),
    );
  });

  test('that PVE keeps for root, or that reach beyond the tenant, are in no row', () => {
    // A restore names its archive, and a VM takes devices in a form of its own; both have rows or checks for that.
    const exceptions = ['archive', 'restore', 'unique', 'hostpci0'];
    const everything = [
      ...['affinity', 'args', 'cicustom', 'ha-managed', 'hookscript', 'hugepages', 'ivshmem', 'keephugepages', 'lock'],
      ...['skiplock', 'startup', 'amd-sev', 'intel-tdx', 'template', 'archive', 'restore', 'unique', 'live-restore'],
      ...['hostpci0', 'usb0', 'parallel0', 'virtiofs0', 'dev0', 'unused0', 'import-working-storage', 'bwlimit'],
      ...['cdrom', 'smp', 'target-vmid', 'target-disk', 'vmstatestorage', 'spice_enhancements', 'background_delay'],
    ];
    for (const policy of policies) {
      if (!('params' in policy)) continue;
      const isRestore = policy.when !== undefined;
      const beyond = everything.filter((name) => !exceptions.includes(name) || (!isRestore && name !== 'hostpci0'));
      const faults = parameterFaults(policy.params, Object.fromEntries(beyond.map((name) => [name, '1'])));
      expect(
        faults.map(({ field }) => field),
        policy.path,
      ).toEqual(beyond);
    }
  });

  test('take a VM whole devices and mappings and nothing more of the host', () => {
    const config = policies.find(
      ({ method, path }) => method === 'POST' && path === '/nodes/{node}/qemu/{vmid}/config',
    );
    if (config === undefined || !('params' in config)) throw new Error('there is no such row');
    expect(parameterFaults(config.params, { hostpci0: '0000:01:00,pcie=1', hostpci1: 'mapping=gpu,pcie=0' })).toEqual(
      [],
    );
    for (const hostpci0 of ['0000:01:00.0', '0000:01:00,romfile=x', '0000:01:00;0000:02:00', 'mapping=gpu,mdev=x'])
      expect(parameterFaults(config.params, { hostpci0 }), hostpci0).toHaveLength(1);
  });

  test('make no privileged container', () => {
    const create = policies.find(
      (row) => row.method === 'POST' && row.path === '/nodes/{node}/lxc' && !('when' in row),
    );
    if (create === undefined || !('params' in create)) throw new Error('there is no such row');
    expect(parameterFaults(create.params, { unprivileged: '1', features: 'nesting=1' })).toEqual([]);
    expect(parameterFaults(create.params, { unprivileged: '0', features: 'mount=nfs' })).toHaveLength(2);
  });
});
