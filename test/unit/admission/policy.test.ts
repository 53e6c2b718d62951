import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { policies, policyFor } from '../../../src/admission/policies/index.ts';
import { closedRows, ownRows } from '../../../src/admission/policies/rows.ts';
import { type ParameterTable, type Policy, parameterFaults } from '../../../src/admission/policy.ts';
import { braceName, partsOf, policyTable } from '../../../src/admission/policy-table.ts';
import type { Call, Method, Params } from '../../../src/pve/call.ts';

const call = (method: Method, segments: readonly string[], params: Params = {}): Call => ({ method, segments, params });
const split = (path: string) => path.split('/');

const examples: Readonly<Record<string, string>> = {
  node: 'n1',
  vmid: '100',
  upid: 'UPID:n1:00000001:00000001:00000001:qmcreate:100:alice@pve:',
  snapshot: 'before',
  storage: 'shared',
  backup: 'backup/vzdump-qemu-100-2026_01_01-00_00_00.vma.zst',
  file: 'shared:iso/debian-13.1.0-amd64-netinst.iso',
  image: 'shared:100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2',
  volume: 'shared:whatever/this.is',
  cidr: '10.0.0.0/8',
};

/** Calls that a row is there for; which of them also satisfies the row's condition, only its parameters tell. */
function callsOf({ method, path }: Policy): Call[] {
  const segments = partsOf(path).map((word) => {
    const brace = braceName(word);
    return brace === undefined ? word : (examples[brace] ?? 'anything');
  });
  const conditions: readonly Params[] = [
    {},
    { archive: `shared:${examples.backup}` },
    { restore: '1' },
    { archive: `shared:${examples.backup}`, force: '1' },
    { restore: '1', force: '1' },
    { 'target-vmid': '101' },
    { todisk: '1' },
    { 'to-disk': '1' },
  ];
  return conditions.map((params) => call(method, segments, params));
}

const rowsWithNames = policies.map((policy) => [`${policy.method} ${policy.path}`, policy] as const);

describe('the table', () => {
  test('finds each row by a call that it is there for', () => {
    const lost = rowsWithNames.filter(([, policy]) =>
      callsOf(policy).every((one) => policyFor(one)?.policy !== policy),
    );
    expect(lost.map(([name]) => name)).toEqual([]);
  });

  test('has one row for each method of a path, but for those that a parameter tells apart', () => {
    const always = rowsWithNames.filter(([, policy]) => !('when' in policy)).map(([name]) => name);
    expect(always.filter((name, index) => always.indexOf(name) !== index)).toEqual([]);
  });

  test('reads with GET alone, and changes nothing with it', () => {
    for (const { method, class: kind, path } of policies) {
      if (kind === 'read') expect(method, path).toBe('GET');
      else if (method === 'GET')
        expect([kind, path], path).toEqual([expect.any(String), expect.stringMatching(/websocket$/)]);
    }
  });

  test('gives the creator of a guest its status and configuration and no other answer', () => {
    const ofGuest = policies.filter((policy) => 'ofGuest' in policy && policy.ofGuest === true);
    expect(ofGuest.map(({ method, path }) => `${method} ${path}`)).toEqual(
      ['config', 'pending', 'status/current'].flatMap((what) =>
        ['qemu', 'lxc'].map((type) => `GET /nodes/{node}/${type}/{vmid}/${what}`),
      ),
    );
  });

  test("lets nobody but a task's user act on it as the privileged token", () => {
    const ofTask = policies.filter((policy) => 'ofTask' in policy && policy.ofTask === true);
    expect(ofTask.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'GET /nodes/{node}/tasks/{upid}/log',
      'GET /nodes/{node}/tasks/{upid}/status',
      'DELETE /nodes/{node}/tasks/{upid}',
    ]);
  });
});

describe('the row of a call', () => {
  const table = policyTable([
    ...ownRows('read', 'GET /a/{name}/c'),
    ...ownRows('read', 'GET /a/{vmid}/d', { ofGuest: true }),
    ...ownRows('read', 'GET /a/b/{name}'),
    ...ownRows('power', 'POST /a/{storage}/{volume}'),
    ...ownRows('console', 'POST /a/{storage}/{image}'),
    ...ownRows('identity', 'POST /a/{storage}/{file}'),
    ...closedRows('why', 'POST DELETE /a/x|y|{storage}/z'.replace('|{storage}', '')),
  ]);
  const found = (method: Method, ...segments: string[]) => {
    const { policy, named } = table(call(method, segments)) ?? {};
    return policy && [policy.path, named];
  };

  test('has fixed words before braces, and goes back where they lead nowhere', () => {
    expect(found('GET', 'a', 'b', 'c')).toEqual(['/a/b/{name}', { name: 'c' }]);
    expect(found('GET', 'a', 'x', 'c')).toEqual(['/a/{name}/c', { name: 'x' }]);
    expect(found('GET', 'a', '100', 'c')).toEqual(['/a/{name}/c', { name: '100' }]);
    expect(found('GET', 'a', '100', 'd')).toEqual(['/a/{vmid}/d', { vmid: '100' }]);
    expect(found('POST', 'a', 'x', 'z')).toEqual(['/a/x/z', {}]);
    expect(found('DELETE', 'a', 'y', 'z')).toEqual(['/a/y/z', {}]);
  });

  test('has braces of a strict form before others, whatever their order', () => {
    const volume = (text: string) => found('POST', 'a', 'ab', text)?.[0];
    expect(volume('ab:iso/x.iso')).toBe('/a/{storage}/{file}');
    expect(volume('iso/x.iso')).toBe('/a/{storage}/{file}');
    expect(volume('import/x.ova/disk.vmdk')).toBe('/a/{storage}/{file}');
    for (const image of ['ab:vm-100-disk-0', '100/vm-100-disk-1.raw', 'ab:subvol-100-disk-0', 'vm-100-cloudinit'])
      expect(volume(image), image).toBe('/a/{storage}/{image}');
    expect(volume('ab:base-100-disk-0/vm-101-disk-0')).toBe('/a/{storage}/{image}');
    for (const other of ['ab:other', 'ab:iso/a (1).iso'.replace(' ', '_'), 'vm-99-disk-0', 'vm-100', 'import/x/'])
      expect(volume(other), other).toBe(other.endsWith('/') ? undefined : '/a/{storage}/{volume}');
  });

  test.each(['', '.', '..', 'a b', 'a\n', 'a\0', '/', 'a/b', 'a\u2028'])('takes %j for no part of a path', (text) => {
    expect(found('GET', 'a', text, 'c')).toBeUndefined();
  });

  test.each(['', '.', 'a/../b', '../a', 'a/.', 'a//b', '/a', 'a/', 'a b', 'a/\n'])('takes %j for no volume', (text) => {
    expect(found('POST', 'a', 'ab', text)).toBeUndefined();
  });

  const single = policies.map((policy) => ({ policy, find: policyTable([policy]) }));
  const words = [...new Set(policies.flatMap(({ path }) => partsOf(path).filter((word) => !braceName(word))))];
  const segment = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...words) },
    { weight: 4, arbitrary: fc.constantFrom(...Object.values(examples), 'localhost', 'x') },
    { weight: 1, arbitrary: fc.string() },
  );
  /** Paths of rows with some parts changed, so that many of them nearly fit. */
  const path = fc
    .tuple(fc.constantFrom(...policies), fc.array(fc.option(segment, { nil: undefined, freq: 3 }), { maxLength: 10 }))
    .map(([policy, changes]) => {
      const segments = callsOf(policy)[0]?.segments ?? [];
      return { policy, segments: segments.map((old, index) => changes[index] ?? old) };
    });

  test('is one that fits by itself, and there is none only where none does', () => {
    fc.assert(
      fc.property(
        path,
        fc.constantFrom<Params>({}, { restore: '1' }, { todisk: '1' }),
        ({ policy, segments }, params) => {
          const asked = call(policy.method, segments, params);
          const fitting = single.flatMap(({ find }) => find(asked) ?? []);
          const resolved = policyFor(asked);
          if (resolved === undefined) expect(fitting).toEqual([]);
          else expect(fitting).toContainEqual(resolved);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('is found at once, also when a name is made to look like many things', () => {
    const start = performance.now();
    for (const tail of ['base-100-a/', '100/', 'backup/a/', 'iso/a/'])
      policyFor(call('DELETE', ['nodes', 'n1', 'storage', 'shared', 'content', `${tail.repeat(2000)}!`]));
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  test('is written in one way only', () => {
    for (const line of ['GET a', 'get /a', 'GET /A', 'GET /a/', '/a', 'GET  /a', 'PATCH /a', 'GET /{*}'])
      expect(() => ownRows('read', line), line).toThrow(TypeError);
  });
});

describe('no row admits', () => {
  test.each([
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
      call('POST', ['nodes', node, 'qemu']),
      call('PUT', ['nodes', node, 'qemu', '100', 'config']),
      call('DELETE', ['nodes', node, 'lxc', '100']),
      call('GET', ['nodes', node, 'status']),
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
      call('PUT', ['nodes', 'n1', 'qemu', vmid, 'config']),
      call('DELETE', ['nodes', 'n1', 'qemu', vmid]),
      call('POST', ['nodes', 'n1', 'lxc', vmid, 'status', 'start']),
    ])
      expect(policyFor(asked)).toBeUndefined();
  });

  test.each<[Method, string]>([
    ['GET', ''],
    ['GET', 'nodes/n1/qemux'],
    ['GET', 'nodes/n1/execute'],
    ['POST', 'nodes/n1/qemu/100'],
    ['POST', 'nodes/n1/qemu/100/'],
    ['PUT', 'nodes/n1/QEMU/100/config'],
    ['PUT', 'nodes/n1/qemu/100/config/x'],
    ['PUT', 'nodes/n1/lxc/100/unlink'],
    ['POST', 'nodes/n1/lxc/100/config'],
    ['POST', 'nodes/n1/qemu/100/move_volume'],
    ['DELETE', 'cluster/tasks'],
    ['PUT', 'version'],
  ])('%s /%s', (method, path) => {
    expect(policyFor(call(method, split(path)))).toBeUndefined();
  });
});

describe('tenants are refused, whatever rights PVE gives them,', () => {
  test.each<[Method, string]>([
    ['POST', 'nodes/n1/execute'],
    ['POST', 'nodes/n1/qemu/100/monitor'],
    ['POST', 'nodes/n1/qemu/100/remote_migrate'],
    ['POST', 'nodes/n1/lxc/100/mtunnel'],
    ['GET', 'nodes/n1/lxc/100/mtunnelwebsocket'],
    ['POST', 'nodes/n1/storage/ab/oci-registry-pull'],
    ['POST', 'nodes/n1/storage/ab/content/ab:vm-100-disk-0'],
    ['DELETE', 'nodes/n1/storage/ab/content/ab:nobodys'],
  ])('%s /%s', (method, path) => {
    expect(policyFor(call(method, split(path)))?.policy.class).toBe('closed');
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
      { cdrom: 'lvm:500,media=disk', other: '64' },
      { cdrom: unknown, other: unknown },
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
    const everything = [
      ...['affinity', 'amd-sev', 'args', 'dev0', 'ha-managed', 'hookscript', 'hugepages', 'import-working-storage'],
      ...['intel-tdx', 'ivshmem', 'keephugepages', 'live-restore', 'lock', 'parallel0', 'skiplock'],
      ...['spice_enhancements', 'startup', 'tmpfilename', 'usb0', 'virtiofs0'],
    ];
    const taken = policies.flatMap((policy) => {
      if (!('params' in policy)) return [];
      const faults = parameterFaults(policy.params, Object.fromEntries(everything.map((name) => [name, '1'])));
      const refused = new Set(faults.map(({ field }) => field));
      return everything.filter((name) => !refused.has(name)).map((name) => `${policy.method} ${policy.path}: ${name}`);
    });
    expect(taken).toEqual([]);
  });

  test('take a VM whole devices and mappings and nothing more of the host', () => {
    const config = policies.find(
      ({ method, path }) => method === 'POST' && path === '/nodes/{node}/qemu/{vmid}/config',
    );
    if (config === undefined || !('params' in config)) throw new Error('there is no such row');
    for (const hostpci0 of ['0000:01:00,pcie=1', 'mapping=gpu,pcie=0', 'host=0000:01:00,rombar=1,x-vga=0'])
      expect(parameterFaults(config.params, { hostpci0 }), hostpci0).toEqual([]);
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
