import { expect, test } from 'vitest';
import { readContent, readResources } from '../../../src/pve/listing.ts';

test('numbers that come as texts are numbers', () => {
  const { guests, hints, nodes, storages } = readResources([
    { type: 'qemu', vmid: '100', node: 'n1', template: '1' },
    { type: 'node', node: 'n1', maxcpu: '16' },
    { type: 'storage', storage: 'ceph', node: 'n1', shared: '1' },
  ]);
  expect(guests).toMatchObject([{ vmid: 100, template: true }]);
  expect([...hints.keys()]).toEqual([100]);
  expect(nodes).toMatchObject([{ cpus: 16 }]);
  expect(storages).toMatchObject([{ shared: true }]);
});

test('a guest without a vmid that PVE could give is none', () => {
  const rows = [undefined, null, '', 'x', 1.5, '99', [], {}].map((vmid) => ({ type: 'qemu', vmid, node: 'n1' }));
  expect(readResources(rows).guests).toEqual([]);
});

test('the volumes of a guest are found by its vmid, written either way, or by their names', () => {
  const rows = ['100', 100, undefined, null].map((vmid, n) => {
    return { volid: `ceph:vm-100-disk-${n}`, content: 'images', size: '8', vmid };
  });
  expect(
    readContent(rows, 'ceph')
      .guests.get(100)
      ?.volumes.map(({ bytes }) => bytes),
  ).toEqual([8, 8, 8, 8]);
});

test('files that belong to no guest are told apart from what does', () => {
  const rows = [
    { volid: 'nfs:iso/a.iso', content: 'iso', size: '8', format: 'iso' },
    { volid: 'nfs:snippets/a.yaml', content: 'snippets', size: 0, format: 'snippet' },
    { volid: 'nfs:100/vm-100-disk-0.raw', content: 'images', size: 8, vmid: 100 },
  ];
  const { guests, files } = readContent(rows, 'nfs');
  expect([...guests.keys()]).toEqual([100]);
  // An empty file is a file all the same.
  expect(files.map(({ volid, storage, bytes }) => [volid, storage, bytes])).toEqual([
    ['nfs:iso/a.iso', 'nfs', 8],
    ['nfs:snippets/a.yaml', 'nfs', 1],
  ]);
});

test.each([['text'], [[null]], [[{ content: 'iso' }]], [[{ volid: 'nfs' }]], [[{ volid: 'ceph:vm-100-disk-0' }]]])(
  '%j is no list of the volumes on a storage',
  (data) => {
    expect(() => readContent(data, 'nfs')).toThrow(/the list of volumes on nfs/);
  },
);
