import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BadRequestError } from '../../../src/errors.ts';
import { readPath, writePath } from '../../../src/pve/path.ts';

test.each([
  ['', []],
  ['/', []],
  ['/nodes', ['nodes']],
  ['//nodes///n1/', ['nodes', 'n1']],
  ['/nodes/n1/tasks/UPID%3An1%3A0%3A/log', ['nodes', 'n1', 'tasks', 'UPID:n1:0:', 'log']],
  ['/access/users/j%C3%B6rg@ad', ['access', 'users', 'jörg@ad']],
  ['/%6eodes', ['nodes']],
  ['/nodes/%252F', ['nodes', '%2F']],
  ['/a+b', ['a+b']],
])('the path %j has the segments %j', (text, segments) => {
  expect(readPath(text)).toEqual(segments);
});

describe('what PVE takes for one value keeps its slashes', () => {
  test.each([
    ['/nodes/n1/storage/s/content/s:iso/d.iso', 's:iso/d.iso', 5],
    ['/nodes/n1/storage/s/content/s%3Aiso%2Fd.iso', 's:iso/d.iso', 5],
    ['/nodes/n1/storage/s/content/s:100/vm-100-disk-0.qcow2/', 's:100/vm-100-disk-0.qcow2', 5],
    ['/nodes/n1/storage/s/content/content/content', 'content/content', 5],
    ['/cluster/firewall/ipset/mine/10.0.0.0/8', '10.0.0.0/8', 4],
    ['/nodes/n1/qemu/100/firewall/ipset/mine/10.0.0.0%2F8', '10.0.0.0/8', 7],
    ['/nodes/n1/lxc/100/firewall/ipset/mine/10.0.0.0/8', '10.0.0.0/8', 7],
  ])('%s ends with %s', (text, last, index) => {
    const segments = readPath(text);
    expect([segments.at(-1), segments.length]).toEqual([last, index + 1]);
    expect(readPath(writePath(segments))).toEqual(segments);
  });
});

test.each([
  '/nodes%2Fn1',
  '/nodes/n1/qemu/100%2Fconfig',
  '/nodes/n1/storage/s/content%2Fs:iso/d.iso',
  '/nodes/n1/storage%2Fs/content/x',
  '/nodes/n1/storage/s/content/s:iso%2F%2Fd.iso',
  '/nodes/n1/storage/s/content/s:iso/../../x',
  '/nodes/./n1',
  '/nodes/..',
  '/nodes/%2e%2E/access',
  '/nodes/n1/qemu/100%0A/config',
  '/nodes/n1%00',
  '/nodes/n1%20',
  '/nodes/%C2%A0',
  '/nodes/%zz',
  '/nodes/%C3',
  '/nodes/%',
])('the path %s can be read in two ways and is refused', (text) => {
  expect(() => readPath(text)).toThrow(BadRequestError);
});

test.each(['', '.', '..', 'a/b', '100\n', 'a\0', '\ud800'])('the part %j is never written', (part) => {
  expect(() => writePath(['nodes', part])).toThrow(TypeError);
});

test('every path that can be written is read back as it was', () => {
  const segment = fc.string({ unit: fc.constantFrom(...'ab:/.%+ \n\0é😀\ud800'), minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(fc.oneof(segment, fc.constantFrom('nodes', 'storage', 'content', 'a'))), (segments) => {
      let text: string;
      try {
        text = writePath(segments);
      } catch {
        return;
      }
      if (segments.some((part) => /\s/u.test(part))) expect(() => readPath(text)).toThrow(BadRequestError);
      else expect(readPath(text)).toEqual(segments);
    }),
  );
});
