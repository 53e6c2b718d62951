import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAmount, formatSize, parseSize } from '../../../src/pve/size.ts';

test.each([
  ['0', 0],
  ['512', 512],
  ['4M', 4 * 1024 ** 2],
  ['528K', 528 * 1024],
  ['32G', 32 * 1024 ** 3],
  ['32GiB', 32 * 1024 ** 3],
  ['1.5K', 1536],
  ['0.3K', 307],
  ['1T', 1024 ** 4],
])('the size %s is %d bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(['', '1g', '1TB', '-1G', '+1G', '1e3', '1P', ' 1G', '1G\n', '1.', '.5', '0x10', '٣G', '99999999T'])(
  '%j is no size',
  (text) => {
    expect(parseSize(text)).toBeNull();
  },
);

test('a size printed as PVE prints it reads back as the same number of bytes', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (bytes) => {
      expect(parseSize(formatSize(bytes))).toBe(bytes);
    }),
  );
});

test.each([
  [32 * 1024 ** 3, '32G'],
  [1536, '1536'],
  [1536 * 1024, '1536K'],
  [0, '0'],
  [1024 ** 5, '1024T'],
])('%d bytes are printed as %s', (bytes, text) => {
  expect(formatSize(bytes)).toBe(text);
});

test.each([
  [12.5 * 1024 ** 3, { base: 1024, compact: true, unit: 'B' }, '12.5 GiB'],
  [100_000_000, { base: 1000, compact: true, unit: 'B/s' }, '100 MB/s'],
  [8, { base: 1024, compact: false, unit: 'Cores' }, '8 Cores'],
  [4096, { base: 1024, compact: false, unit: '' }, '4096'],
  [0, { base: 1024, compact: true, unit: 'B' }, '0 B'],
  [-2048, { base: 1024, compact: true, unit: 'B' }, '-2 KiB'],
] as const)('%d as %j reads %s', (amount, presentation, text) => {
  expect(formatAmount(amount, presentation)).toBe(text);
});
