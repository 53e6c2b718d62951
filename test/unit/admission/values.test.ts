import { describe, expect, test } from 'vitest';
import * as values from '../../../src/admission/policies/values.ts';
import type { ParameterTable, ValueCheck } from '../../../src/admission/policy.ts';

/** Texts that are no plain whole number, in all the ways in which numbers are written elsewhere. */
const oddNumbers = [
  '',
  ' ',
  '+4',
  '-4',
  '04',
  '1e3',
  '1E3',
  '0x10',
  '0b1',
  '4.0',
  '4.',
  '.5',
  '1,5',
  '1_000',
  ' 4',
  '4 ',
  '4\n',
  '4\0',
  '٤',
  '４',
  'NaN',
  'Infinity',
  'null',
  'true',
  '4M',
  '4MiB',
  '99999999999999999999',
];

interface Case {
  readonly check: ValueCheck;
  readonly good: readonly string[];
  readonly bad: readonly string[];
}

const cases: Readonly<Record<string, Case>> = {
  'a whole number': {
    check: values.wholeNumber(0, 8192),
    good: ['0', '1', '8192'],
    bad: [...oddNumbers, '8193'],
  },
  'a whole number from 16': {
    check: values.wholeNumber(16, 2 ** 40),
    good: ['16', '1099511627776'],
    bad: ['15', '0', '1099511627777'],
  },
  'a decimal number': {
    check: values.decimalNumber(0, 128),
    good: ['0', '0.5', '1.25', '128', '127.999999'],
    bad: [...oddNumbers.filter((text) => text !== '4.0'), '128.1', '1.1234567', '00.5'],
  },
  'a flag': { check: values.flag, good: ['0', '1'], bad: ['', '2', 'true', 'on', 'yes', '01', '1\n', ' 1'] },
  'one of some words': {
    check: values.oneOf('raw', 'qcow2'),
    good: ['raw', 'qcow2'],
    bad: ['', 'RAW', 'raw ', 'raw,qcow2'],
  },
  'one line': {
    check: values.line(5),
    good: ['', 'abcde', 'äöü€ß'],
    bad: ['abcdef', 'a\nb', 'a\rb', 'a\0b', 'a\u0085b'],
  },
  'text of lines': { check: values.lines, good: ['', 'a\nb', 'x'.repeat(8192)], bad: ['x'.repeat(8193), 'a\0b'] },
  'a vmid': {
    check: values.vmid,
    good: ['100', '999999999'],
    bad: [...oddNumbers, '99', '0100', '1000000000', '100\n'],
  },
  'a storage': {
    check: values.storageId,
    good: ['ceph', 'a-b.c_1'],
    bad: ['', 'x', '1a', 'a/b', 'a:b', '-a', 'a-', 'ceph\n', '..'],
  },
  'a pool': { check: values.poolId, good: ['dev', 'a/b', 'a.b-c_d'], bad: ['', 'a b', 'a,b', 'dev\n', 'ä'] },
  'a digest': { check: values.digest, good: ['0a'.repeat(20)], bad: ['', 'G', 'AB', 'a'.repeat(65), 'ab\n'] },
  'a volume id': {
    check: values.volumeId,
    good: ['nfs:vztmpl/debian-12.tar.zst', 'lvm:vm-100-disk-0'],
    bad: ['', 'nfs', 'nfs:', ':x', '/var/lib/x', 'nfs:a b', 'nfs:a,size=1G', 'nfs:a\n'],
  },
  'a size': {
    check: values.sizeText,
    good: ['8G', '+8G', '+0.5T', '1024', '+1'],
    bad: ['', '-8G', '++8G', '8g', '8GB', '8GiB', '1e3', '0x10', '8 G', '8G\n', '.5G', '5.G', '+', 'G', '8G,9G'],
  },
  'a drive of a VM': {
    check: values.drive('qemu', 'scsi[n]'),
    good: ['lvm:8', 'lvm:vm-100-disk-0,ssd=1', 'none', 'nfs:iso/a.iso,media=cdrom'],
    bad: [
      '',
      'size=8G',
      'file=lvm:1,lvm:2',
      'lvm:1,size=1G,size=2G',
      'lvm:vm-100-disk-0,size=x',
      'lvm:8\n',
      `lvm:${'9'.repeat(30)}`,
    ],
  },
  'a mount point': {
    check: values.drive('lxc', 'mp'),
    good: ['lvm:8,mp=/a'],
    bad: ['mp=/a', 'lvm:8,volume=lvm:9', ''],
  },
  'a network card': {
    check: values.networkCard,
    good: [
      'virtio',
      'virtio,bridge=vmbr0',
      'virtio,bridge=vmbr0,rate=10',
      'virtio=AA:BB,bridge=vmbr0,rate=0.5',
      'bridge=b,rate=0',
    ],
    bad: [
      'virtio,bridge=b,rate=-1',
      'virtio,rate=-1',
      'virtio,bridge=b,rate=1e3',
      'virtio,bridge=b,rate=x',
      'virtio,e1000',
      'a=1,a=1',
      'virtio,bridge=',
    ],
  },
  'a property string': {
    check: values.propertyString,
    good: ['1', 'a=1,b=2', 'x,a=1', ''],
    bad: ['a=1,a=2', 'x,y', 'a=', '=1', 'a=1\n'],
  },
};

describe.each(Object.entries(cases))('%s', (_, { check, good, bad }) => {
  test.each(good.map((value) => [value]))('may be %j', (value) => {
    expect(check(value)).toBeNull();
  });

  test.each(bad.map((value) => [value]))('may not be %j, and the reason says so', (value) => {
    expect(check(value)).toEqual(expect.stringMatching(/./));
  });
});

test('a reason shows what was given, cut short', () => {
  expect(values.wholeNumber(1, 9)('12')).toBe('must be a whole number from 1 to 9, not "12"');
  expect(values.flag('x'.repeat(500))?.length).toBeLessThan(100);
});

describe('a list of keys', () => {
  const table: ParameterTable = { cores: values.flag, 'net[n]': values.flag };
  test.each(['cores', 'cores,net0', 'cores;net1 net2', ''])('may be %j', (value) => {
    expect(values.keys(table)(value)).toBeNull();
  });
  test.each(['args', 'cores,args', 'net', 'cores\0args', 'constructor', 'hostpci0', 'cores=1'])(
    'may not be %j',
    (value) => {
      expect(values.keys(table)(value)).toMatch(/is not a key that may be changed here/);
    },
  );
  test('may have what the configuration allows by name', () => {
    expect(values.keys(table)('cores,args,usb3', ['args', 'usb[n]'])).toBeNull();
    expect(values.keys(table)('cores,args,usb3', ['args'])).toMatch(/"usb3" is not a key/);
  });
});
