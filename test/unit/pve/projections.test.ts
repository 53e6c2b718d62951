import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Config, Instance } from '../../../src/pve/instance.ts';
import {
  cloned,
  configured,
  created,
  destroyed,
  driveOf,
  importsOf,
  migrated,
  moved,
  nothingYet,
  parseList,
  resized,
  sizeAfter,
  stateStorages,
  storageMap,
  volumeIn,
  withImports,
  withoutVolume,
  withState,
} from '../../../src/pve/projections.ts';
import { usageOf } from '../../../src/quota/usage.ts';
import { GiB, lxc, MiB, qemu, volume } from '../quota/instances.ts';

const host = { node: 'n1', cpus: 16 };

/** So much of a resource, `unlimited` pieces apart. */
function held(instance: Instance, resource: string, item = ''): number {
  const line = usageOf(instance).lines.find((one) => one.resource === resource && one.item === item);
  return line?.amount ?? 0;
}

test.each([
  [undefined, []],
  ['', []],
  ['a', ['a']],
  ['a,b;c d\te\nf', ['a', 'b', 'c', 'd', 'e', 'f']],
  [',;a,,b ', ['a', 'b']],
])('%j is split as PVE splits a list', (text, parts) => {
  expect(parseList(text)).toEqual(parts);
});

describe('a new guest', () => {
  test('has what the call says, without what says how', () => {
    const params = { vmid: '100', pool: 'p', start: '1', digest: 'x', cores: '2', scsi0: 'lvm:8' };
    expect(created(nothingYet('qemu', 100, host, new Map()), params).next).toEqual({ cores: '2', scsi0: 'lvm:8' });
  });

  test('takes exactly what it says, however little', () => {
    const vm = created(nothingYet('qemu', 100, host, new Map()), { cores: '1', memory: '16' });
    expect([held(vm, 'cores'), held(vm, 'memory')]).toEqual([1, 16 * MiB]);
    const container = created(nothingYet('lxc', 100, host, new Map()), {
      cores: '1',
      memory: '16',
      swap: '0',
      rootfs: 'lvm:1',
    });
    expect(usageOf(container)).toEqual({
      lines: [
        { resource: 'cores', item: '', amount: 1 },
        { resource: 'memory', item: '', amount: 16 * MiB },
        { resource: 'storage:lvm', item: '', amount: GiB },
      ],
      unknown: [],
    });
  });

  test('of which nothing is said has the defaults of PVE', () => {
    const vm = created(nothingYet('qemu', 100, host, new Map()), {});
    expect([held(vm, 'cores'), held(vm, 'memory'), held(vm, 'swap')]).toEqual([1, 512 * MiB, 0]);
    const container = created(nothingYet('lxc', 100, host, new Map()), {});
    expect(container.next).toEqual({ memory: '512', swap: '512', rootfs: 'local:4' });
    expect(held(container, 'cores')).toBe(16);
    expect(created(nothingYet('lxc', 100, host, new Map()), { storage: 'lvm' }).next.rootfs).toBe('lvm:4');
  });

  test('has its bare numbers allocated on the storage of the call', () => {
    const { next } = created(nothingYet('qemu', 100, host, new Map()), {
      storage: 'lvm',
      scsi0: '8,ssd=1',
      scsi1: 'nfs:4',
      efidisk0: '1',
      cores: '2',
    });
    expect(next).toEqual({ scsi0: 'lvm:8,ssd=1', scsi1: 'nfs:4', efidisk0: 'lvm:1', cores: '2' });
    expect(created(nothingYet('lxc', 100, host, new Map()), { rootfs: '8' }).next.rootfs).toBe('local:8');
  });

  test('has the volumes that were left under its vmid', () => {
    const left = new Map([['lvm:vm-100-disk-0', volume('lvm:vm-100-disk-0', GiB)]]);
    expect(held(created(nothingYet('qemu', 100, host, left), { scsi0: 'lvm:2' }), 'storage:lvm')).toBe(3 * GiB);
  });
});

describe('a configuration write', () => {
  const before = qemu({
    current: { cores: '4', ide0: 'lvm:vm-100-disk-0', unused0: 'lvm:vm-100-disk-1' },
    next: { cores: '2', ide0: 'lvm:vm-100-disk-0', unused0: 'lvm:vm-100-disk-1', net0: 'virtio,bridge=b' },
    volumes: { 'lvm:vm-100-disk-0': 8 * GiB, 'lvm:vm-100-disk-1': 2 * GiB },
  });

  test.each<[string, Config, Config]>([
    ['sets', { cores: '8' }, { cores: '8' }],
    ['replaces what was pending', { net0: 'e1000' }, { net0: 'e1000' }],
    ['reverts to what the guest runs with', { revert: 'cores' }, { cores: '4' }],
    ['reverts before it sets', { revert: 'cores', cores: '3' }, { cores: '3' }],
    ['leaves its directives out', { digest: 'x', force: '1', background_delay: '5', name: 'n' }, { name: 'n' }],
  ])('%s', (_, params, changed) => {
    expect(configured(before, params).next).toEqual({ ...before.next, ...changed });
  });

  test.each<[string, Config, string[]]>([
    ['deletes', { delete: 'net0' }, ['net0']],
    ['deletes several', { delete: 'net0 cores' }, ['net0', 'cores']],
    ['reverts what is only pending to nothing', { revert: 'net0' }, ['net0']],
    ['deletes what was reverted', { revert: 'cores', delete: 'cores' }, ['cores']],
  ])('%s', (_, params, missing) => {
    const kept = Object.entries(before.next).filter(([key]) => !missing.includes(key));
    expect(configured(before, params).next).toEqual(Object.fromEntries(kept));
  });

  test('changes nothing of what the guest runs with', () => {
    const after = configured(before, { cores: '1', delete: 'ide0', net0: 'virtio' });
    expect(after.current).toBe(before.current);
    expect(held(after, 'cores')).toBe(4);
  });

  test.each<[string, Config]>([
    ['a detached drive', { delete: 'ide0' }],
    ['a drive that is to be freed', { delete: 'ide0', force: '1' }],
    ['an unused volume that is to be freed', { delete: 'unused0' }],
    ['a replaced drive', { ide0: 'none' }],
  ])('gives no room for %s before PVE shows that it is gone', (_, params) => {
    expect(held(configured(before, params), 'storage:lvm')).toBe(10 * GiB);
    expect(held(configured(before, { ...params, scsi1: 'lvm:8' }), 'storage:lvm')).toBe(18 * GiB);
  });

  test('without cores gives a container all CPUs of its node', () => {
    const after = configured(lxc({ current: { cores: '1' } }), { delete: 'cores' });
    expect(held(after, 'cores')).toBe(16);
  });

  test('takes as much as PVE then holds, or more', () => {
    fc.assert(
      fc.property(pveGuest, fc.array(write, { maxLength: 4 }), (start, writes) => {
        let guest = start;
        for (const { params, hot } of writes) {
          const projected = configured(shownBy(guest), params);
          guest = applied(guest, params, hot);
          for (const [resource, amount] of Object.entries(truthOf(guest)))
            expect(held(projected, resource), `${resource} after ${JSON.stringify(params)}`).toBeGreaterThanOrEqual(
              amount,
            );
        }
      }),
      { numRuns: process.env.CI ? 5000 : 500 },
    );
  });
});

/** A VM as PVE keeps it: what it runs with, what is pending (null: to be deleted), and its volumes in GiB. */
interface PveGuest {
  readonly config: Readonly<Record<string, string>>;
  readonly pending: Readonly<Record<string, string | null>>;
  readonly volumes: Readonly<Record<string, number>>;
}

const isDrive = (key: string): boolean => /^(?:scsi|ide|unused)\d$/.test(key);

function shownBy({ config, pending, volumes }: PveGuest): Instance {
  const next = Object.entries({ ...config, ...pending }).filter((row): row is [string, string] => row[1] !== null);
  return qemu({
    current: config,
    next: Object.fromEntries(next),
    volumes: Object.fromEntries(Object.entries(volumes).map(([volid, gibibytes]) => [volid, gibibytes * GiB])),
  });
}

/** What a running guest takes over at once; a stopped one takes all, also what was pending. */
type Hot = ReadonlySet<string> | 'stopped';

/** The guest after a write. */
function applied(before: PveGuest, params: Config, hot: Hot): PveGuest {
  const written = stored(before, params, hot === 'stopped' ? new Set() : hot);
  if (hot !== 'stopped') return written;
  const due = Object.entries(written.pending);
  const gone = due.flatMap(([key, text]) => (text === null ? [key] : [])).join();
  const set = Object.fromEntries(due.filter((row): row is [string, string] => row[1] !== null));
  const force: Config = params.force === undefined ? {} : { force: params.force };
  return stored({ ...written, pending: {} }, { ...set, delete: gone, ...force }, new Set(Object.keys(written.pending)));
}

/** The guest after a write of which the keys in `hot` are applied at once; all others stay pending. */
function stored(before: PveGuest, params: Config, hot: ReadonlySet<string>): PveGuest {
  const config = { ...before.config };
  const pending = { ...before.pending };
  const volumes = { ...before.volumes };
  const setAside = (volid: string | undefined): void => {
    const inUse = [...Object.values(config), ...Object.values(pending)].includes(volid ?? null);
    if (volid === undefined || volumes[volid] === undefined || inUse) return;
    config[`unused${[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].find((n) => config[`unused${n}`] === undefined)}`] = volid;
  };
  for (const key of parseList(params.revert)) {
    const dropped = pending[key];
    delete pending[key];
    setAside(dropped ?? undefined);
  }
  for (const key of parseList(params.delete)) {
    const volid = config[key];
    if (!hot.has(key) && !key.startsWith('unused')) pending[key] = null;
    else {
      delete config[key];
      delete pending[key];
      if (volid !== undefined && (key.startsWith('unused') || (isDrive(key) && params.force === '1')))
        delete volumes[volid];
      else if (isDrive(key)) setAside(volid);
    }
  }
  for (const [key, text] of Object.entries(params)) {
    if (['delete', 'revert', 'force'].includes(key)) continue;
    let value = text;
    const [, gibibytes] = /^lvm:(\d+)$/.exec(text) ?? [];
    if (gibibytes !== undefined) {
      value = `lvm:vm-100-disk-${Object.keys(volumes).length}${key}`;
      volumes[value] = Number(gibibytes);
    }
    const replaced = hot.has(key) ? config[key] : (pending[key] ?? undefined);
    if (hot.has(key)) {
      config[key] = value;
      delete pending[key];
    } else pending[key] = value;
    if (isDrive(key)) setAside(replaced);
  }
  return { config, pending, volumes };
}

/** What the guest takes: of numbers the larger of now and later, and all volumes. */
function truthOf({ config, pending, volumes }: PveGuest): Record<string, number> {
  const later = { ...config, ...pending };
  const most = (key: string, absent: number): number =>
    Math.max(Number(config[key] ?? absent), Number(later[key] ?? absent));
  return {
    cores: Math.max(
      Number(config.cores ?? 1) * Number(config.sockets ?? 1),
      Number(later.cores ?? 1) * Number(later.sockets ?? 1),
    ),
    memory: most('memory', 512) * MiB,
    'storage:lvm': Object.values(volumes).reduce((total, gibibytes) => total + gibibytes * GiB, 0),
  };
}

const amount = fc.integer({ min: 1, max: 4096 }).map(String);
const slot = fc.constantFrom('scsi0', 'scsi1', 'ide0');
const pveGuest: fc.Arbitrary<PveGuest> = fc.record({
  config: fc.record({ cores: amount, memory: amount, scsi0: fc.constant('lvm:vm-100-disk-0') }, { requiredKeys: [] }),
  pending: fc.constant({}),
  volumes: fc.constant({ 'lvm:vm-100-disk-0': 8 }),
});
const write = fc.record({
  params: fc
    .tuple(
      fc.dictionary(fc.constantFrom('cores', 'sockets', 'memory'), amount, { maxKeys: 2 }),
      fc.dictionary(
        slot,
        fc.integer({ min: 1, max: 64 }).map((gibibytes) => `lvm:${gibibytes}`),
        { maxKeys: 2 },
      ),
      fc.record(
        {
          delete: fc.constantFrom('scsi0', 'ide0', 'unused0', 'unused0,scsi1', 'cores', 'memory sockets'),
          revert: fc.constantFrom('scsi0', 'scsi1,ide0', 'cores', 'memory'),
          force: fc.constant('1'),
        },
        { requiredKeys: [] },
      ),
    )
    .map(([numbers, drives, how]): Config => {
      const named = new Set([...parseList(how.delete), ...parseList(how.revert)]);
      // PVE refuses a call that sets what it deletes, or reverts what it sets.
      const set = Object.entries({ ...numbers, ...drives }).filter(([key]) => !named.has(key));
      return { ...Object.fromEntries(set), ...how };
    }),
  hot: fc.oneof(
    fc.constant<Hot>('stopped'),
    fc.uniqueArray(fc.constantFrom('scsi0', 'scsi1', 'ide0', 'memory')).map((keys): Hot => new Set(keys)),
  ),
});

describe('growing a volume', () => {
  const small = volume('lvm:vm-100-disk-0', 8 * GiB);

  test.each([
    ['+8G', 16 * GiB],
    ['40G', 40 * GiB],
    ['1G', GiB],
    ['+0', 8 * GiB],
    ['+1', 8 * GiB + 1],
    ['+0.5G', 8.5 * GiB],
    ['', null],
    ['+', null],
    ['-1G', null],
    ['1e3', null],
    ['++1G', null],
    ['8192T', null],
    ['+8191.999T', null],
    ['99999999999T', null],
  ])('by %j makes it %s bytes', (size, bytes) => {
    expect(sizeAfter(small, size)).toBe(bytes);
  });

  test('takes the difference, and shrinks nothing', () => {
    const before = qemu({ current: { scsi0: 'lvm:vm-100-disk-0' }, volumes: { 'lvm:vm-100-disk-0': 8 * GiB } });
    expect(held(resized(before, small, 40 * GiB), 'storage:lvm')).toBe(40 * GiB);
    expect(held(resized(before, small, GiB), 'storage:lvm')).toBe(8 * GiB);
    expect(held(resized(before, small, 8 * GiB + 1), 'storage:lvm')).toBe(8 * GiB + 4 * MiB);
    expect(held(before, 'storage:lvm')).toBe(8 * GiB);
  });

  test('is about what the slot holds now, whatever is pending there', () => {
    const guest = qemu({
      current: { ide0: 'lvm:vm-100-disk-0', ide1: 'lvm:vm-100-disk-2', ide2: 'none' },
      next: { ide0: 'lvm:vm-100-disk-1', ide3: 'lvm:vm-100-disk-1' },
      volumes: { 'lvm:vm-100-disk-0': GiB, 'lvm:vm-100-disk-1': 50 * GiB },
    });
    expect(volumeIn(guest, 'ide0')?.volid).toBe('lvm:vm-100-disk-0');
    expect(driveOf(guest, 'ide1')).toMatchObject({ kind: 'volume' });
    expect(['ide1', 'ide2', 'ide3', 'scsi0', 'constructor'].map((one) => volumeIn(guest, one))).toEqual([
      null,
      null,
      null,
      null,
      null,
    ]);
  });
});

describe('moving a volume', () => {
  const source = volume('lvm:vm-100-disk-0', 8 * GiB);
  const before = qemu({
    current: { scsi0: 'lvm:vm-100-disk-0' },
    volumes: { 'lvm:vm-100-disk-0': 8 * GiB, 'ceph:vm-100-disk-0': GiB },
  });

  test.each([
    ['to another storage', 'ceph', { lvm: 8 * GiB, ceph: 9 * GiB }],
    ['within its storage', 'lvm', { lvm: 16 * GiB, ceph: GiB }],
  ])('%s counts both, as long as PVE shows both', (_, storage, expected) => {
    const after = moved(before, source, storage);
    expect({ lvm: held(after, 'storage:lvm'), ceph: held(after, 'storage:ceph') }).toEqual(expected);
  });

  test('takes the steps of the target storage', () => {
    expect(held(moved(before, volume('nfs:100/efi.raw', 540_672), 'zfs'), 'storage:zfs')).toBe(4 * MiB);
  });
});

describe('destroying a guest', () => {
  test('frees what its configurations name and leaves the rest under its vmid', () => {
    const after = destroyed(
      lxc({
        current: { cores: '1', memory: '64', rootfs: 'lvm:vm-100-disk-0,size=1G', unused0: 'lvm:vm-100-disk-1' },
        next: { cores: '1', memory: '64', rootfs: 'lvm:vm-100-disk-0,size=1G', mp0: 'lvm:vm-100-disk-2' },
        volumes: {
          'lvm:vm-100-disk-0': GiB,
          'lvm:vm-100-disk-1': GiB,
          'lvm:vm-100-disk-2': GiB,
          'lvm:vm-100-state-snap': 3 * GiB,
        },
      }),
    );
    expect(usageOf(after)).toEqual({
      lines: [{ resource: 'storage:lvm', item: '', amount: 3 * GiB }],
      unknown: [],
    });
  });

  test('takes nothing, so that it is never refused', () => {
    expect(usageOf(destroyed(lxc({ current: { cores: '1' }, host: { node: 'n1' } })))).toEqual({
      lines: [],
      unknown: [],
    });
  });
});

describe('a copy of a guest', () => {
  const source = qemu({
    current: {
      ...{ cores: '4', memory: '2048', template: '1', lock: 'backup', parent: 'before', unused0: 'lvm:vm-100-disk-9' },
      ...{ scsi0: 'lvm:base-100-disk-0,size=1G,ssd=1', ide2: 'nfs:iso/a.iso,media=cdrom' },
      ide3: 'lvm:vm-100-cloudinit,media=cdrom,size=4M',
    },
    volumes: { 'lvm:base-100-disk-0': 8 * GiB, 'lvm:vm-100-disk-9': GiB, 'lvm:vm-100-cloudinit': 4 * MiB },
  });
  const place = nothingYet('qemu', 110, host, new Map());
  const copy = (how: { full: boolean; storage?: string }) =>
    cloned(place, source, source.current, { storage: undefined, ...how });

  test('has its amounts and its disks as their storages have them, and a cloud-init drive of its own', () => {
    expect([held(copy({ full: true }), 'cores'), held(copy({ full: true }), 'memory')]).toEqual([4, 2 * GiB]);
    expect(held(copy({ full: true }), 'storage:lvm')).toBe(8 * GiB + 4 * MiB);
    expect(usageOf(copy({ full: true })).unknown).toEqual([]);
  });

  test('lies where the call says when it is full, and with its template when it is linked', () => {
    expect(held(copy({ full: true, storage: 'ceph' }), 'storage:ceph')).toBe(8 * GiB + 4 * MiB);
    expect(held(copy({ full: false, storage: 'ceph' }), 'storage:lvm')).toBe(8 * GiB);
  });

  test('keeps media as they are and nothing that belongs to the source alone', () => {
    expect(copy({ full: true }).next).toEqual({ cores: '4', memory: '2048', ide2: 'nfs:iso/a.iso,media=cdrom' });
  });

  test('of a disk that no storage lists, whatever its configuration states, is unknown', () => {
    const lying = qemu({ current: { scsi0: 'lvm:vm-100-disk-0,size=1G' } });
    expect(usageOf(cloned(place, lying, lying.current, { full: true, storage: undefined })).unknown).toHaveLength(1);
  });

  test('of a container without a limit of cores has all of its new node', () => {
    const container = lxc({ current: { rootfs: 'lvm:vm-100-disk-0' }, volumes: { 'lvm:vm-100-disk-0': 0 } });
    const after = cloned(nothingYet('lxc', 110, { node: 'n2', cpus: 64 }, new Map()), container, container.current, {
      full: true,
      storage: undefined,
    });
    expect([held(after, 'cores'), held(after, 'storage:lvm', 'unlimited')]).toEqual([64, 1]);
  });
});

describe('a guest that changes its node', () => {
  const before = qemu({
    current: { scsi0: 'lvm:vm-100-disk-0', scsi1: 'ceph:vm-100-disk-0' },
    volumes: { 'lvm:vm-100-disk-0': 8 * GiB, 'ceph:vm-100-disk-0': 2 * GiB },
  });

  test.each<[string | undefined, Record<string, number>]>([
    [undefined, { lvm: 8, ceph: 2 }],
    ['1', { lvm: 8, ceph: 2 }],
    ['lvm:nfs', { lvm: 8, ceph: 2, nfs: 8 }],
    ['nfs', { lvm: 8, ceph: 2, nfs: 10 }],
    ['lvm:nfs,zfs', { lvm: 8, ceph: 2, nfs: 8, zfs: 2 }],
    ['ceph:lvm;lvm:ceph', { lvm: 10, ceph: 10 }],
  ])('with the storages mapped by %j takes %j GiB until PVE shows what has left', (text, expected) => {
    const after = migrated(before, { node: 'n2', cpus: 8 }, storageMap(text));
    expect(after.host.node).toBe('n2');
    for (const [storage, gibibytes] of Object.entries(expected))
      expect(held(after, `storage:${storage}`), storage).toBe(gibibytes * GiB);
  });
});

describe('memory that is saved', () => {
  test.each<[Config, string[]]>([
    [{ vmstatestorage: 'nfs', scsi0: 'lvm:vm-100-disk-0' }, ['nfs']],
    [{ scsi0: 'lvm:vm-100-disk-0', sata1: 'ceph:vm-100-disk-1', unused0: 'zfs:vm-100-disk-2' }, ['lvm', 'ceph']],
    [{ ide2: 'nfs:iso/a.iso,media=cdrom', ide3: 'zfs:vm-100-cloudinit,media=cdrom' }, ['local']],
    [{}, ['local']],
  ])('of a VM with %j may go to %j', (current, storages) => {
    expect(stateStorages(qemu({ current }))).toEqual(storages);
  });

  test.each<[Config, Config, number]>([
    [{ memory: '2048' }, { memory: '2048' }, 4596],
    [{ memory: 'current=2048' }, { memory: '512' }, 4596],
    [{}, { memory: '4096' }, 8692],
    [{}, {}, 1524],
  ])('of a VM with %j and then %j takes %d MiB on each of them', (current, next, mebibytes) => {
    const after = withState(qemu({ current, next }), ['lvm', 'ceph']);
    expect([held(after, 'storage:lvm'), held(after, 'storage:ceph')]).toEqual([mebibytes * MiB, mebibytes * MiB]);
  });

  test('of a size that is not understood is unknown', () => {
    expect(usageOf(withState(qemu({ current: { memory: 'much' } }), ['lvm'])).unknown).toContainEqual(
      expect.objectContaining({ resource: 'storage:lvm' }),
    );
  });
});

describe('an image that is imported', () => {
  const params = {
    scsi0: 'lvm:0,import-from=nfs:import/a.qcow2',
    scsi1: 'lvm:8',
    scsi2: 'ceph:0,import-from=lvm:vm-9-disk-0',
  };

  test('is one of those that a call names, in their order', () => {
    expect(importsOf('qemu', params).map(({ slot, storage, source }) => [slot, storage, source])).toEqual([
      ['scsi0', 'lvm', 'nfs:import/a.qcow2'],
      ['scsi2', 'ceph', 'lvm:vm-9-disk-0'],
    ]);
  });

  test('counts as large as PVE tells, and at least that', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 45 }), (size) => {
        const vm = created(nothingYet('qemu', 100, host, new Map()), withImports('qemu', params, [{ size }, { size }]));
        expect(usageOf(vm).unknown).toEqual([]);
        expect(held(vm, 'storage:ceph')).toBeGreaterThanOrEqual(size);
        expect(held(vm, 'storage:ceph')).toBeLessThan(size + 8 * MiB);
      }),
    );
  });

  test.each([undefined, null, {}, { size: 'much' }, { size: 1.5 }, { size: Number.MAX_VALUE }])(
    'of which PVE tells %j is unknown',
    (told) => {
      const vm = created(nothingYet('qemu', 100, host, new Map()), withImports('qemu', params, [told, { size: GiB }]));
      expect(usageOf(vm).unknown.map(({ resource }) => resource)).toEqual(['storage:lvm']);
    },
  );
});

test('a disk that is handed over leaves its slots, also where a change of them waits', () => {
  const before = qemu({
    current: { scsi0: 'lvm:vm-100-disk-0,size=8G', cores: '2' },
    next: { scsi3: 'lvm:vm-100-disk-0,size=8G', cores: '2' },
    volumes: { 'lvm:vm-100-disk-0': 8 * GiB },
  });
  const after = withoutVolume(before, volume('lvm:vm-100-disk-0', 8 * GiB));
  expect([after.current, after.next, after.volumes.size]).toEqual([{ cores: '2' }, { cores: '2' }, 0]);
});
