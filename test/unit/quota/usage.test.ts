import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { GuestType, Host } from '../../../src/pve/instance.ts';
import { larger, networkRate, sum, type Usage, usageOf } from '../../../src/quota/usage.ts';
import { GiB, type Given, guest, lxc, MiB, qemu } from './instances.ts';

/** Amounts by resource, or by resource and item. */
function amounts({ lines }: Usage): Record<string, number> {
  return Object.fromEntries(
    lines.map(({ resource, item, amount }) => [item === '' ? resource : `${resource} ${item}`, amount]),
  );
}

/** What is used of one resource, items included, or why that is unknown. */
function measure(resource: string, type: GuestType, given: Given): Record<string, number> | string {
  const usage = usageOf(guest(type, given));
  const reason = usage.unknown.find((one) => one.resource === resource)?.reason;
  return (
    reason ?? Object.fromEntries(Object.entries(amounts(usage)).filter(([name]) => name.split(' ')[0] === resource))
  );
}

describe('cores', () => {
  test.each<[GuestType, Given, number]>([
    ['qemu', {}, 1],
    ['qemu', { current: { cores: '4' } }, 4],
    ['qemu', { current: { sockets: '2' } }, 2],
    ['qemu', { current: { cores: '4', sockets: '2' } }, 8],
    ['qemu', { current: { cores: '+4' } }, 4],
    ['qemu', { current: { cores: '004' } }, 4],
    ['qemu', { current: { smp: '4' } }, 4],
    ['qemu', { current: { smp: '4', cores: '2' } }, 8],
    ['qemu', { current: { smp: '4', cores: '2', sockets: '1' } }, 2],
    ['qemu', { current: { cores: '4', vcpus: '1' } }, 4],
    ['qemu', { current: { cores: '4', cpulimit: '1' } }, 4],
    ['qemu', { current: { cores: '8' }, next: { cores: '2' } }, 8],
    ['qemu', { current: { cores: '2' }, next: { cores: '8' } }, 8],
    ['qemu', { current: { cores: '2' }, next: {} }, 2],
    ['lxc', { current: { cores: '2' } }, 2],
    ['lxc', { current: { cores: '2', sockets: '4' } }, 2],
    ['lxc', {}, 16],
    ['lxc', { current: { cores: '2' }, next: {} }, 16],
  ])('a %s guest with %j takes %d', (type, given, cores) => {
    expect(measure('cores', type, given)).toEqual({ cores });
  });

  test.each<[GuestType, Given, RegExp]>([
    ['lxc', { host: { node: 'n1' } }, /CPUs of node n1/],
    ['qemu', { current: { cores: '1e3' } }, /whole number/],
    ['qemu', { current: { cores: '-1' } }, /whole number/],
    ['qemu', { current: { cores: '0x10' } }, /whole number/],
    ['qemu', { current: { cores: '1.5' } }, /whole number/],
    ['qemu', { current: { cores: '1', sockets: 'two' } }, /whole number/],
    ['qemu', { current: { cores: '1' }, next: { cores: 'x' } }, /whole number/],
    ['qemu', { current: { cores: '999999999999999', sockets: '999999999999999' } }, /too large/],
  ])('a %s guest with %j takes nobody knows how many', (type, given, reason) => {
    expect(measure('cores', type, given)).toMatch(reason);
  });
});

describe('memory and swap', () => {
  test.each<[GuestType, Given, number]>([
    ['qemu', {}, 512],
    ['qemu', { current: { memory: '2048' } }, 2048],
    ['qemu', { current: { memory: 'current=2048' } }, 2048],
    ['qemu', { current: { memory: ',2048' } }, 2048],
    ['qemu', { current: { memory: '2048,,' } }, 2048],
    ['qemu', { current: { memory: '2048', balloon: '16' } }, 2048],
    ['qemu', { current: { memory: '4096' }, next: { memory: '1024' } }, 4096],
    ['lxc', { current: { memory: '1024' } }, 1024],
    ['lxc', {}, 512],
  ])('a %s guest with %j takes %d MiB of memory', (type, given, mebibytes) => {
    expect(measure('memory', type, given)).toEqual({ memory: mebibytes * MiB });
  });

  test.each<[GuestType, string]>([
    ['qemu', 'current=0,4096'],
    ['qemu', 'max=4096'],
    ['qemu', ''],
    ['qemu', '4G'],
    ['lxc', 'current=512'],
    ['lxc', '-512'],
  ])('memory of a %s guest written as %j is unknown, not zero', (type, memory) => {
    expect(measure('memory', type, { current: { memory } })).toMatch(/is not understood/);
  });

  test.each<[GuestType, Given, Record<string, number> | string]>([
    ['lxc', { current: { swap: '256' } }, { swap: 256 * MiB }],
    ['lxc', {}, {}],
    ['lxc', { current: { swap: '256' }, next: { swap: '0' } }, { swap: 256 * MiB }],
    ['qemu', { current: { swap: '256' } }, {}],
    ['lxc', { current: { swap: 'much' } }, 'swap "much" is not understood'],
  ])('a %s guest with %j takes %j', (type, given, swap) => {
    expect(measure('swap', type, given)).toEqual(swap);
  });
});

describe('network', () => {
  const of = (...cards: string[]): Given => ({
    current: Object.fromEntries(cards.map((text, index) => [`net${index}`, text])),
  });

  test.each<[string, Given, Record<string, number>]>([
    ['no card takes nothing', {}, {}],
    ['one card takes its rate', of('virtio=AA:BB,bridge=vmbr0,rate=10'), { network: 10e6 }],
    ['rates add up', of('virtio,bridge=vmbr0,rate=10', 'bridge=vmbr0,e1000,rate=5'), { network: 15e6 }],
    ['a fraction counts', of('virtio,bridge=vmbr0,rate=0.5'), { network: 500_000 }],
    ['a fraction of a byte is rounded up', of('virtio,bridge=vmbr0,rate=0.0000011'), { network: 2 }],
    [
      'a rate below a byte, which PVE cuts to 0, is unlimited',
      of('bridge=vmbr0,rate=0.0000009'),
      { 'network unlimited': 1 },
    ],
    ['no rate is unlimited', of('virtio,bridge=vmbr0'), { 'network unlimited': 1 }],
    ['rate 0 is unlimited', of('virtio,bridge=vmbr0,rate=0'), { 'network unlimited': 1 }],
    ['a negative rate is unlimited', of('name=eth0,bridge=vmbr0,rate=-5'), { 'network unlimited': 1 }],
    ['no bridge is unlimited, whatever the rate', of('virtio,rate=1'), { 'network unlimited': 1 }],
    [
      'limited and unlimited cards are counted apart',
      of('virtio,bridge=vmbr0', 'virtio', 'virtio,bridge=vmbr0,rate=1'),
      { network: 1e6, 'network unlimited': 2 },
    ],
    [
      'a card that is pending to go still counts',
      { current: { net0: 'virtio,bridge=vmbr0,rate=3' }, next: {} },
      { network: 3e6 },
    ],
    ['other keys that begin alike are no cards', { current: { nets: 'x', net: 'y' } }, {}],
  ])('%s', (_, given, expected) => {
    expect(measure('network', 'qemu', given)).toEqual(expected);
  });

  test.each(['virtio,bridge=vmbr0,rate=1e3', 'virtio,bridge=vmbr0,rate=fast', 'virtio,e1000,bridge=vmbr0'])(
    '%j is unknown',
    (text) => {
      expect(networkRate(text)).toBeNull();
      expect(measure('network', 'qemu', of(text))).toMatch(/net0 .* is not understood/);
    },
  );

  test('a rate is never counted as less than it is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), fc.integer({ min: 0, max: 9 }), (digits, places) => {
        const bytes = networkRate(`virtio,bridge=vmbr0,rate=${(digits / 10 ** places).toFixed(places)}`) ?? 0;
        expect(bytes).toBeGreaterThanOrEqual(Math.floor((digits / 10 ** places) * 1e6));
        expect(Number.isSafeInteger(bytes) || bytes === Infinity).toBe(true);
      }),
    );
  });
});

describe('lists', () => {
  const devices = new Map([
    ['0000:41:00.0', 'Tesla T4'],
    ['0000:41:00.1', 'Tesla T4 Audio'],
    ['0000:42:00.0', 'ConnectX-6'],
  ]);
  const host: Host = { node: 'n1', cpus: 16, devices };

  test.each<[Record<string, string>, Record<string, number>]>([
    [{}, {}],
    [{ hostpci0: '0000:41:00.0' }, { 'pci Tesla T4': 1 }],
    [{ hostpci0: '41:00.0,pcie=1' }, { 'pci Tesla T4': 1 }],
    [{ hostpci0: '41:00' }, { 'pci Tesla T4': 1 }],
    [{ hostpci0: 'host=41:00.1' }, { 'pci Tesla T4 Audio': 1 }],
    [{ hostpci0: '41:00.0;42:00.0' }, { 'pci Tesla T4': 1, 'pci ConnectX-6': 1 }],
    [{ hostpci0: '41:00.0', hostpci1: '41:00.0' }, { 'pci Tesla T4': 2 }],
    [{ hostpci3: 'mapping=gpu,pcie=1' }, { 'pci gpu': 1 }],
  ])('the devices of %j are %j', (current, expected) => {
    expect(measure('pci', 'qemu', { current, host })).toEqual(expected);
  });

  test.each([
    [{ hostpci0: '43:00.0' }, host],
    [{ hostpci0: '41:00.0;43:00.0' }, host],
    [{ hostpci0: 'pcie=1' }, host],
    [{ hostpci0: '41:00.0' }, { node: 'n1' }],
  ])('%j names a device that nobody knows', (current, on) => {
    expect(measure('pci', 'qemu', { current, host: on })).toMatch(/hostpci0 .* node n1 does not list/);
  });

  test('a device that is pending to be exchanged counts as both', () => {
    const given = { current: { hostpci0: '41:00.0' }, next: { hostpci0: '42:00.0' }, host };
    expect(measure('pci', 'qemu', given)).toEqual({ 'pci Tesla T4': 1, 'pci ConnectX-6': 1 });
  });

  test.each<[string | undefined, Record<string, number> | string]>([
    [undefined, {}],
    ['host', { 'cpu host': 1 }],
    ['cputype=host', { 'cpu host': 1 }],
    ['flags=+aes,cputype=EPYC', { 'cpu EPYC': 1 }],
    ['EPYC,hv-vendor-id=kvm64', { 'cpu EPYC': 1 }],
    ['flags=+aes', 'cpu "flags=+aes" is not understood'],
    ['cputype=host,kvm64', 'cpu "cputype=host,kvm64" is not understood'],
  ])('the CPU type of %j is %j', (cpu, expected) => {
    expect(measure('cpu', 'qemu', { current: cpu === undefined ? {} : { cpu } })).toEqual(expected);
  });
});

describe('volumes', () => {
  const storage = (type: GuestType, given: Given): Record<string, number> | string[] => {
    const usage = usageOf(guest(type, given));
    const unknown = usage.unknown.filter(({ resource }) => resource.startsWith('storage:'));
    if (unknown.length > 0) return unknown.map(({ resource }) => resource);
    return Object.fromEntries(Object.entries(amounts(usage)).filter(([name]) => name.startsWith('storage:')));
  };

  test.each<[string, GuestType, Given, Record<string, number>]>([
    [
      'a listed volume counts by its real size',
      'qemu',
      { current: { scsi0: 'lvm:vm-100-disk-0,size=1G' }, volumes: { 'lvm:vm-100-disk-0': 8 * GiB } },
      { 'storage:lvm': 8 * GiB },
    ],
    [
      'a listed volume in no configuration counts',
      'qemu',
      { volumes: { 'lvm:vm-100-disk-7': GiB } },
      { 'storage:lvm': GiB },
    ],
    [
      'storages are counted apart',
      'qemu',
      { volumes: { 'a1:vm-100-disk-0': GiB, 'b1:vm-100-disk-0': 2 * GiB, 'b1:vm-100-disk-1': GiB } },
      { 'storage:a1': GiB, 'storage:b1': 3 * GiB },
    ],
    [
      'an unlisted volume counts by the size that the configuration states',
      'qemu',
      { current: { scsi0: 'lvm:vm-100-disk-0,size=32G' } },
      { 'storage:lvm': 32 * GiB },
    ],
    [
      'a volume in two slots counts once',
      'qemu',
      {
        current: { scsi0: 'lvm:vm-100-disk-0,size=32G' },
        next: { scsi0: 'lvm:vm-100-disk-0,size=32G', scsi1: 'lvm:vm-100-disk-0,size=32G' },
      },
      { 'storage:lvm': 32 * GiB },
    ],
    [
      'a volume that only the pending configuration knows counts',
      'qemu',
      { current: {}, next: { ide0: 'lvm:vm-100-disk-1,size=2G' } },
      { 'storage:lvm': 2 * GiB },
    ],
    [
      'an unused volume counts',
      'qemu',
      { current: { unused0: 'lvm:vm-100-disk-0' }, volumes: { 'lvm:vm-100-disk-0': GiB } },
      { 'storage:lvm': GiB },
    ],
    ['a volume of another guest is counted there', 'qemu', { current: { scsi0: 'lvm:vm-999-disk-0,size=32G' } }, {}],
    [
      'a linked clone is owned by the last name',
      'qemu',
      { current: { scsi0: 'lvm:base-9-disk-0/vm-100-disk-0,size=4G' } },
      { 'storage:lvm': 4 * GiB },
    ],
    [
      "a volume of a name without an owner is taken for the guest's own",
      'qemu',
      { current: { scsi0: 'nfs:odd.raw,size=4G' } },
      { 'storage:nfs': 4 * GiB },
    ],
    [
      'text that is to be allocated counts in full',
      'lxc',
      { current: { mp0: 'lvm:8,mp=/data' } },
      { 'storage:lvm': 8 * GiB },
    ],
    [
      'the same text in current and pending is one allocation',
      'lxc',
      { current: { mp0: 'lvm:8,mp=/a' }, next: { mp0: 'lvm:8,mp=/a' } },
      { 'storage:lvm': 8 * GiB },
    ],
    [
      'the same text in two slots is two allocations',
      'qemu',
      { current: {}, next: { scsi0: 'lvm:8', scsi1: 'lvm:8' } },
      { 'storage:lvm': 16 * GiB },
    ],
    [
      'other text pending in the same slot is another allocation',
      'lxc',
      { current: { mp0: 'lvm:8' }, next: { mp0: 'lvm:4' } },
      { 'storage:lvm': 12 * GiB },
    ],
    [
      'a listed volume of size 0 has no limit',
      'lxc',
      { volumes: { 'dir:subvol-100-disk-0': 0 } },
      { 'storage:dir unlimited': 1 },
    ],
    [
      "a container's volume below 1 MiB has no limit",
      'lxc',
      { current: {}, next: { mp0: 'dir:0.0005' } },
      { 'storage:dir unlimited': 1 },
    ],
    [
      "a container's volume of size 0 has no limit",
      'lxc',
      { current: {}, next: { rootfs: 'dir:0' } },
      { 'storage:dir unlimited': 1 },
    ],
    ['a medium takes nothing', 'qemu', { current: { ide2: 'nfs:iso/a.iso,media=cdrom,size=4G' } }, {}],
    ['an empty drive takes nothing', 'qemu', { current: { ide2: 'none,media=cdrom', ide3: 'cdrom' } }, {}],
    [
      'an image in the clothes of a medium counts',
      'qemu',
      { current: { ide2: 'lvm:vm-100-disk-3,media=cdrom,size=4G' } },
      { 'storage:lvm': 4 * GiB },
    ],
    ['a path of the host takes nothing', 'qemu', { current: { scsi0: '/dev/sdb,size=4G' } }, {}],
    ['a bind mount takes nothing', 'lxc', { current: { mp0: '/srv/data,mp=/data' } }, {}],
    [
      'cloud-init takes the 4 MiB that PVE gives it',
      'qemu',
      { current: {}, next: { ide2: 'lvm:cloudinit' } },
      { 'storage:lvm': 4 * MiB },
    ],
    [
      'the number beside a TPM or EFI drive means nothing',
      'qemu',
      { current: {}, next: { efidisk0: 'lvm:1', tpmstate0: 'lvm:99' } },
      { 'storage:lvm': 8 * MiB },
    ],
    [
      "`volume=` names the file of a VM's drive",
      'qemu',
      { current: { scsi0: 'size=2G,volume=lvm:vm-100-disk-0' } },
      { 'storage:lvm': 2 * GiB },
    ],
    ["slots beyond PVE's own are none", 'qemu', { current: { scsi31: 'lvm:8', ide4: 'lvm:8', mp0: 'lvm:8' } }, {}],
  ])('%s', (_, type, given, expected) => {
    expect(storage(type, given)).toEqual(expected);
  });

  test.each<[string, GuestType, Given, string[]]>([
    [
      'a volume that no storage lists and no size is stated for',
      'qemu',
      { current: { scsi0: 'lvm:vm-100-disk-0' } },
      ['storage:lvm'],
    ],
    [
      'the same, said once for both configurations',
      'qemu',
      { current: { unused0: 'lvm:vm-100-disk-0' }, next: { unused1: 'lvm:vm-100-disk-0' } },
      ['storage:lvm'],
    ],
    ['a stated size of 0', 'qemu', { current: { scsi0: 'lvm:vm-100-disk-0,size=0' } }, ['storage:lvm']],
    ['an import', 'qemu', { current: {}, next: { scsi0: 'lvm:0,import-from=nfs:import/a.qcow2' } }, ['storage:lvm']],
    [
      'an import that names its storage late',
      'qemu',
      { current: {}, next: { scsi0: 'serial=nfs:1,file=lvm:0,import-from=nfs:9/vm-9-disk-0.raw' } },
      ['storage:*'],
    ],
    ['two files in one slot', 'qemu', { current: { scsi0: 'file=lvm:1,lvm:2' } }, ['storage:lvm']],
    ['a size of no known form', 'qemu', { current: { scsi0: 'lvm:vm-100-disk-0,size=1TB' } }, ['storage:lvm']],
    [
      'an allocation beyond counting',
      'qemu',
      { current: {}, next: { scsi0: `lvm:${'9'.repeat(20)}` } },
      ['storage:lvm'],
    ],
    [
      'an allocation that overflows numbers',
      'lxc',
      { current: {}, next: { mp0: `lvm:${'9'.repeat(400)}` } },
      ['storage:lvm'],
    ],
    ['text without a storage', 'qemu', { current: { scsi0: 'whatever' } }, ['storage:*']],
  ])('%s leaves the storage unknown', (_, type, given, resources) => {
    expect(storage(type, given)).toEqual(resources);
  });

  test('an allocation is never counted as less than PVE makes of it, nor as much more', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 * 1024 }), (mebibytes) => {
        const [line] = usageOf(qemu({ current: {}, next: { scsi0: `lvm:${mebibytes / 1024}` } })).lines.filter(
          ({ resource }) => resource === 'storage:lvm',
        );
        expect(line?.amount).toBeGreaterThanOrEqual(mebibytes * MiB);
        expect(line?.amount).toBeLessThan((mebibytes + 4) * MiB);
      }),
    );
  });
});

test('further numeric keys are counted by their names, absent ones as nothing', () => {
  const instance = lxc({ current: { cores: '1', tty: '2' }, next: { cores: '1', tty: '1' } });
  expect(amounts(usageOf(instance, ['tty', 'cpuunits']))).toMatchObject({ tty: 2 });
  expect(amounts(usageOf(instance, ['tty', 'cpuunits']))).not.toHaveProperty('cpuunits');
  expect(usageOf(lxc({ current: { tty: 'many' } }), ['tty']).unknown).toEqual([
    { resource: 'tty', reason: 'tty "many" is not a whole number' },
  ]);
});

test('what is known of the one configuration counts although the other is not understood', () => {
  const usage = usageOf(qemu({ current: { memory: '2048' }, next: { memory: 'x' } }));
  expect(amounts(usage)).toMatchObject({ memory: 2048 * MiB });
  expect(usage.unknown.map(({ resource }) => resource)).toEqual(['memory']);
});

test('of a guest that is not there, only volumes count', () => {
  const gone = { ...lxc({ volumes: { 'lvm:vm-100-disk-0': GiB }, host: { node: 'n1' } }), absent: true as const };
  expect(usageOf(gone, ['tty'])).toEqual({
    lines: [{ resource: 'storage:lvm', item: '', amount: GiB }],
    unknown: [],
  });
});

describe('arithmetic', () => {
  const line = fc.record({
    resource: fc.constantFrom('cores', 'memory', 'pci'),
    item: fc.constantFrom('', 'T4', 'cores'),
    amount: fc.integer({ min: 0, max: 1000 }),
  });
  const lines = fc.array(line, { maxLength: 8 });
  const at = (of: readonly { resource: string; item: string; amount: number }[], resource: string, item: string) =>
    of.filter((one) => one.resource === resource && one.item === item).reduce((total, { amount }) => total + amount, 0);

  test('a sum holds each line once, with the total', () => {
    fc.assert(
      fc.property(lines, (all) => {
        const total = sum(all);
        expect(new Set(total.map(({ resource, item }) => `${resource}/${item}`)).size).toBe(total.length);
        for (const { resource, item } of all) expect(at(total, resource, item)).toBe(at(all, resource, item));
      }),
    );
  });

  test('the larger of two usages is the larger line by line', () => {
    fc.assert(
      fc.property(lines, lines, (left, right) => {
        const [a, b] = [sum(left), sum(right)];
        const both = larger(a, b);
        for (const { resource, item } of [...a, ...b])
          expect(at(both, resource, item)).toBe(Math.max(at(a, resource, item), at(b, resource, item)));
        expect(both.length).toBe(new Set([...a, ...b].map(({ resource, item }) => `${resource}/${item}`)).size);
      }),
    );
  });
});
