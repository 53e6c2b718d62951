import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Config, GuestType, Instance, Volume } from '../../../src/pve/instance.ts';
import { readResources } from '../../../src/pve/listing.ts';
import { configured, migrated, moved, resized, storageMap } from '../../../src/pve/projections.ts';
import { guestOfJob, readHasSnapshots, readJobs, replicatedTo, withSnapshot } from '../../../src/pve/replication.ts';
import { usageOf } from '../../../src/quota/usage.ts';
import { GiB, guest, qemu, volume } from '../quota/instances.ts';

test.each([
  ['100-0', 100],
  ['999999999-999999999', 999_999_999],
  ['99-0', Number.NaN],
  ['0100-0', Number.NaN],
  ['100', Number.NaN],
  ['100-', Number.NaN],
  ['100-0x', Number.NaN],
  ['100-1234567890', Number.NaN],
])('the job %s is for guest %d', (id, vmid) => {
  expect(guestOfJob(id)).toBe(vmid);
});

test('jobs are read as the targets of each guest, and nothing else for a list', () => {
  const row = (id: string, target: string, more = {}) => ({ id, target, type: 'local', ...more });
  expect(readJobs([row('100-1', 'n3'), row('100-0', 'n2', { guest: 100 }), row('7777-0', 'n1')])).toEqual(
    new Map([
      [100, ['n2', 'n3']],
      [7777, ['n1']],
    ]),
  );
  expect(() => readJobs(null)).toThrow('replication jobs');
});

test.each([
  ['zfspool', 0, true],
  ['anything-added', 0, true],
  ['zfspool', 1, false],
  ['lvmthin', 0, false],
  ['dir', 0, false],
  ['rbd', 1, false],
])('a storage of type %s, shared %d, may be replicated: %j', (plugintype, shared, expected) => {
  const { storages } = readResources([{ type: 'storage', storage: 'ab', node: 'n1', plugintype, shared }]);
  expect(storages.map(({ replicates }) => replicates)).toEqual([expected]);
});

test.each([
  [[{ name: 'current' }], false],
  [[{ name: 'one' }, { name: 'current' }], true],
  [[], false],
  [undefined, true],
  [[null], true],
])('%j says that there are snapshots: %j', (data, expected) => {
  expect(readHasSnapshots(data)).toBe(expected);
});

/** GiB by storage and node of a guest on n1, of whose storages only `zfs` can be replicated. */
function held(instance: Instance): Record<string, number> {
  return Object.fromEntries(
    usageOf(instance)
      .lines.filter(({ resource }) => resource.startsWith('storage:'))
      .map(({ resource, item, amount, node = instance.host.node }) => [
        `${resource.slice('storage:'.length)} ${node}${item}`,
        item === '' ? amount / GiB : amount,
      ]),
  );
}

const host = { node: 'n1', cpus: 16, replicates: new Set(['zfs']) };
const disk = (number: number, storage = 'zfs') => `${storage}:vm-100-disk-${number}`;
const one = { [disk(0)]: 2 * GiB };

function replicated(type: GuestType, current: Config, volumes: Record<string, number>, next = current): Instance {
  return replicatedTo(guest(type, { current, next, volumes, host }), 'n2', false);
}

describe('a guest with a job takes on the target', () => {
  test.each<[string, GuestType, Config, Record<string, number>, number | undefined]>([
    ['each local volume once more', 'qemu', { scsi0: disk(0), scsi1: disk(1) }, { ...one, [disk(1)]: GiB }, 3],
    [
      'none on storages that cannot be replicated',
      'qemu',
      { scsi0: disk(0, 'lvm') },
      { [disk(0, 'lvm')]: GiB },
      undefined,
    ],
    ['what only a snapshot, or nothing, names', 'qemu', {}, one, 2],
    ['unused ones', 'qemu', { unused0: disk(0) }, one, 2],
    ['none that are kept out', 'qemu', { scsi0: `${disk(0)},replicate=0` }, one, undefined],
    ['none that are kept out in other words', 'lxc', { mp0: `${disk(0)},mp=/a,replicate=off` }, one, undefined],
    ['those with the word for it', 'lxc', { mp0: `${disk(0)},mp=/a,replicate=1` }, one, 2],
    [
      'none in CD-ROM drives',
      'qemu',
      { ide2: 'zfs:vm-100-cloudinit,media=cdrom' },
      { 'zfs:vm-100-cloudinit': GiB },
      undefined,
    ],
    [
      'what is named twice, once without the word',
      'qemu',
      { scsi0: `${disk(0)},replicate=0`, unused0: disk(0) },
      one,
      2,
    ],
    ['what is about to be allocated', 'qemu', { scsi0: 'zfs:4' }, {}, 4],
    [
      'nothing that is allocated to be kept out',
      'qemu',
      { scsi0: 'zfs:4,replicate=no', ide2: 'zfs:cloudinit' },
      {},
      undefined,
    ],
    ['what only the configuration knows', 'qemu', { scsi0: `${disk(0)},size=5G` }, {}, 5],
  ])('%s', (_, type, config, volumes, expected) => {
    expect(held(replicated(type, config, volumes))['zfs n2']).toBe(expected);
  });

  test('what will be unused since it is not to be named any more', () => {
    const kept = { scsi0: `${disk(0)},replicate=0` };
    expect(held(replicated('qemu', kept, one, {}))['zfs n2']).toBe(2);
    const cloudInit = { ide2: 'zfs:vm-100-cloudinit,media=cdrom' };
    expect(held(replicated('qemu', cloudInit, { 'zfs:vm-100-cloudinit': GiB }, {}))['zfs n2']).toBeUndefined();
  });

  test('also what is kept out while there are snapshots', () => {
    const kept = replicated('qemu', { scsi0: `${disk(0)},replicate=0` }, one);
    expect(held(withSnapshot(kept))['zfs n2']).toBe(2);
    expect(held(withSnapshot(configured(kept, { scsi1: 'zfs:4,replicate=0' })))['zfs n2']).toBe(6);
    expect(withSnapshot(qemu({}))).not.toHaveProperty('replication');
  });

  test('no less than what is there, and no room without limit twice', () => {
    const there = (bytes: number, of = 2 * GiB): Instance => {
      const before = replicated('qemu', { scsi0: disk(0) }, { [disk(0)]: of });
      const replica: Volume = { ...volume(disk(0), bytes), node: 'n2' };
      return { ...before, volumes: new Map(before.volumes).set(`${disk(0)} at n2/zfs`, replica) };
    };
    expect(held(there(GiB))).toEqual({ 'zfs n1': 2, 'zfs n2': 2 });
    expect(held(there(3 * GiB))).toEqual({ 'zfs n1': 2, 'zfs n2': 3 });
    expect(held(there(0))).toEqual({ 'zfs n1': 2, 'zfs n2unlimited': 1 });
    expect(held(there(GiB, 0))).toEqual({ 'zfs n1unlimited': 1, 'zfs n2unlimited': 1 });
  });

  test('on each target, and none on its own node', () => {
    const both = replicatedTo(replicatedTo(replicated('qemu', { scsi0: disk(0) }, one), 'n3', false), 'n1', false);
    expect(held(both)).toEqual({ 'zfs n1': 2, 'zfs n2': 2, 'zfs n3': 2 });
    expect(held({ ...both, absent: true })).toEqual({ 'zfs n1': 2 });
  });

  test('what it grows by', () => {
    const before = replicated('qemu', { scsi0: disk(0), scsi1: disk(0, 'lvm') }, { ...one, [disk(0, 'lvm')]: GiB });
    expect(held(resized(before, volume(disk(0), 2 * GiB), 8 * GiB))['zfs n2']).toBe(8);
    expect(held(moved(before, volume(disk(0, 'lvm'), GiB), 'zfs'))['zfs n2']).toBe(3);
  });
});

/** Guests on n1 with volumes of all kinds of places, jobs to some of n2 and n3, and what those have copied so far. */
const guests = fc
  .record({
    sizes: fc.array(fc.tuple(fc.nat(8), fc.constantFrom('zfs', 'lvm'), fc.boolean()), { maxLength: 4 }),
    targets: fc.uniqueArray(fc.constantFrom('n2', 'n3'), { minLength: 1 }),
    copied: fc.boolean(),
  })
  .map(({ sizes, targets, copied }): Instance => {
    const slots = sizes.map(([gibibytes, storage, isOut], n) => ({
      volid: disk(n, storage),
      bytes: (gibibytes + 1) * GiB,
      text: `${disk(n, storage)}${isOut || storage === 'lvm' ? ',replicate=0' : ''}`,
    }));
    const before = guest('qemu', {
      host,
      current: Object.fromEntries(slots.map(({ text }, n) => [`scsi${n}`, text])),
      volumes: Object.fromEntries(slots.map(({ volid, bytes }) => [volid, bytes])),
    });
    const replicas = targets.flatMap((node) =>
      slots
        .filter(({ text }) => copied && !text.includes('replicate'))
        .map(({ volid, bytes }) => [`${volid} at ${node}/zfs`, { ...volume(volid, bytes), node }] as const),
    );
    return {
      ...before,
      volumes: new Map<string, Volume>([...before.volumes, ...replicas]),
      replication: { targets, hasSnapshots: false },
    };
  });

test('what a job will copy counts exactly as what it has copied', () => {
  fc.assert(
    fc.property(guests, (instance) => {
      const own = new Map([...instance.volumes].filter(([, { node }]) => node === undefined));
      expect(held(instance)).toEqual(held({ ...instance, volumes: own }));
    }),
  );
});

test('to its replicas and back a guest takes the same, on each node and in all', () => {
  fc.assert(
    fc.property(guests, (before) => {
      const there = migrated(before, { ...host, node: before.replication?.targets[0] ?? '' }, storageMap(undefined));
      const replicas = ({ volumes, replication }: Instance) => [volumes.size, replication?.targets.length];
      expect(replicas(there)[1]).toBe(replicas(before)[1]);
      const total = (instance: Instance) => Object.values(held(instance)).reduce((sum, amount) => sum + amount, 0);
      expect(total(there)).toBe(total(before));
      expect(held(migrated(there, host, storageMap(undefined)))).toEqual(held(before));
    }),
  );
});
