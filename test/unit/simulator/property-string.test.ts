import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { driveFormats, lxcNet, mountFormats, qemuNet } from '../../../simulator/formats.ts';
import { type PropertyFormat, parseProperties, printProperties } from '../../../simulator/property-string.ts';
import { formatSize, parseSize, resizedBytes } from '../../../simulator/sizes.ts';

const scsi = driveFormats.scsi as PropertyFormat;
const memory: PropertyFormat = { properties: { current: { type: 'integer', minimum: 16, defaultKey: true } } };

describe('a property string', () => {
  test.each([
    [memory, ',4096', { current: '4096' }],
    [memory, '4096,,', { current: '4096' }],
    [memory, 'current=4096', { current: '4096' }],
    [memory, '+4096', { current: '+4096' }],
    [scsi, 'size=1G,local:32', { size: '1G', file: 'local:32' }],
    [qemuNet, 'bridge=vmbr0,e1000', { bridge: 'vmbr0', model: 'e1000' }],
    [qemuNet, 'virtio=BC:24:11:00:00:01', { model: 'virtio', macaddr: 'BC:24:11:00:00:01' }],
    [scsi, 'file=0,local:500', { file: 'local:500' }],
    [scsi, 'volume=local:1,ssd=yes,backup=off', { file: 'local:1', ssd: '1', backup: '0' }],
    [scsi, 'local:1,cyls=3,trans=lba', { file: 'local:1' }],
    [scsi, 'local:1,bps_rd_length=2', { file: 'local:1', bps_rd_max_length: '2' }],
    [lxcNet, 'name=eth0,rate=-5', { name: 'eth0', rate: '-5' }],
  ])('is read as PVE reads it: %# %s', (format, text, expected) => {
    expect(parseProperties(format, text)).toEqual(expected);
  });

  test.each([
    [memory, '15'],
    [memory, 'four'],
    [memory, '1,2'],
    [scsi, 'local:1,nonsense=1'],
    [scsi, 'local:1,ssd=2'],
    [scsi, 'local:1,size=1g'],
    [scsi, 'local:1,size=-1G'],
    [scsi, 'local:1,cache=fast'],
    [scsi, 'local:1,constructor=1'],
    [qemuNet, 'bridge=vmbr0'],
    [qemuNet, 'virtio,rate=-1'],
    [lxcNet, 'bridge=vmbr0'],
    [mountFormats.mp, 'local:1'],
  ])('is refused when PVE refuses it: %# %s', (format, text) => {
    expect(() => parseProperties(format, text)).toThrow();
  });

  test.each([
    [scsi, 'size=32768M,ssd=1,file=ceph:vm-100-disk-0,aio=native', 'ceph:vm-100-disk-0,aio=native,size=32G,ssd=1'],
    [
      qemuNet,
      'tag=3,bridge=vmbr0,macaddr=BC:24:11:00:00:01,model=virtio',
      'virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=3',
    ],
    [lxcNet, 'bridge=vmbr0,type=veth,name=eth0', 'name=eth0,bridge=vmbr0,type=veth'],
    [
      mountFormats.mp,
      'size=8G,backup=1,mp=/data,volume=ceph:vm-1-disk-1',
      'ceph:vm-1-disk-1,mp=/data,backup=1,size=8G',
    ],
  ])('is printed in canonical order: %# %s', (format, text, expected) => {
    expect(printProperties(format, parseProperties(format, text))).toBe(expected);
  });

  test('reads back what it prints', () => {
    const drive = fc.record(
      {
        file: fc.constantFrom('local:32', 'ceph:vm-100-disk-0', 'none'),
        size: fc.nat().map(formatSize),
        ssd: fc.constantFrom('0', '1'),
        cache: fc.constantFrom('none', 'writeback'),
        iops: fc.nat().map(String),
      },
      { requiredKeys: ['file'] },
    );
    fc.assert(
      fc.property(drive, (properties) => {
        expect(parseProperties(scsi, printProperties(scsi, properties))).toEqual(properties);
      }),
    );
  });
});

describe('a size', () => {
  test.each([
    ['32G', 32 * 2 ** 30],
    ['1.5T', 1.5 * 2 ** 40],
    ['528K', 540672],
    ['4MiB', 4 * 2 ** 20],
    ['1000', 1000],
    ['0.3K', 307],
  ])('%s is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(['1g', '1TB', '-1G', '1e3', '', 'G', '1 G'])('%j is none', (text) => {
    expect(parseSize(text)).toBeUndefined();
  });

  test.each([
    [32 * 2 ** 30, '32G'],
    [540672, '528K'],
    [2 ** 40, '1T'],
    [1025, '1025'],
    [0, '0T'],
  ])('of %i bytes is printed as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  test('survives printing', () => {
    fc.assert(fc.property(fc.nat(2 ** 50), (bytes) => parseSize(formatSize(bytes)) === bytes));
  });

  test('with a plus counts from what is there', () => {
    expect(resizedBytes('+1G', 2 ** 30)).toBe(2 ** 31);
    expect(resizedBytes('1G', 2 ** 30)).toBe(2 ** 30);
    expect(resizedBytes('+512', 100)).toBe(612);
  });
});
