import { expect, test } from 'vitest';
import { faultOfName, fileVolid, normalisedName, withFile } from '../../../src/pve/files.ts';
import { usageOf } from '../../../src/quota/usage.ts';
import { qemu } from '../quota/instances.ts';

test.each([
  ['debian.iso', 'debian.iso'],
  ['my image (1).ISO', 'my_image__1_.ISO'],
  ['../../etc/passwd.iso', 'passwd.iso'],
  ['C:\\images\\a.iso', 'a.iso'],
  ['/', ''],
  ['über.iso', '_ber.iso'],
])('PVE keeps %s as %s', (name, kept) => {
  expect(normalisedName(name)).toBe(kept);
  expect(normalisedName(kept)).toBe(kept);
  expect(fileVolid('local', 'iso', name)).toBe(`local:iso/${kept}`);
});

test.each([
  ['iso', 'a.iso', true],
  ['iso', 'a.IMG', true],
  ['iso', '.iso', false],
  ['iso', 'folder/.iso', false],
  ['iso', 'a.iso.qcow2', false],
  ['vztmpl', 'a.tar.zst', true],
  ['vztmpl', 'a.tgz', false],
  ['import', 'a.ova', true],
  ['import', 'a.qcow2', true],
  ['import', 'a.QCOW2', false],
  ['iso', `${'a'.repeat(252)}.iso`, false],
] as const)('as %s, %s is taken: %s', (kind, name, taken) => {
  expect(faultOfName(kind, name) === null).toBe(taken);
});

test('a file takes the place of the one that it overwrites', () => {
  const before = { ...qemu({ volumes: { 'nfs:iso/a.iso': 4, 'nfs:iso/b.iso': 2 } }), absent: true } as const;
  expect(usageOf(withFile(before, 'nfs:iso/a.iso', 3)).lines).toEqual([
    { resource: 'storage:nfs', item: '', amount: 5 },
  ]);
});
