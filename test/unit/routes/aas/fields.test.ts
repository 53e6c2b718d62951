import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BadRequestError } from '../../../../src/errors.ts';
import {
  containerTemplate,
  type Field,
  flag,
  guestName,
  isoImage,
  memory,
  mountPath,
  newPassword,
  optional,
  poolId,
  readForm,
  storageId,
  wholeNumber,
} from '../../../../src/routes/aas/fields.ts';

const faultsOf = (read: () => unknown): string => {
  try {
    read();
  } catch (error) {
    if (error instanceof BadRequestError) return error.message;
    throw error;
  }
  return '';
};

test('a whole number is exactly its decimal digits, within its range', () => {
  const field = wholeNumber('MiB', 16, 4096);
  fc.assert(fc.property(fc.integer({ min: 16, max: 4096 }), (number) => field.read(String(number)) === number));
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const value = field.read(text);
      if (value !== undefined) expect(text).toMatch(/^\d+$/);
    }),
  );
});

test.each<[string, Field<unknown>, readonly string[], readonly string[]]>([
  ['storage', storageId, ['ceph', 'local-lvm', 'a1'], ['a', '1a', 'fast-', 'a:b', 'a,b', 'a/b', '', 'a\n']],
  ['pool', poolId, ['lab', 'lab/one', '1'], ['', '/lab', 'lab/', 'a/b/c/d', 'a b', 'a,b']],
  ['guest', guestName, ['a', 'web-1', 'a.b.c', 'x'.repeat(63)], ['', '-a', 'a-', 'a..b', 'a_b', 'x'.repeat(64), 'a\n']],
  [
    'iso',
    isoImage,
    ['shared:iso/a.iso'],
    ['shared:iso/', 'shared:iso/a,b', 'shared:vztmpl/a', 'shared:iso/a/b', 'iso/a'],
  ],
  ['template', containerTemplate, ['local:vztmpl/a.tar.zst'], ['local:iso/a', 'local:vztmpl/a;b', 'local:vztmpl/a b']],
  ['flag', flag, ['0', '1'], ['', '2', 'true', '01', '1\n']],
  [
    'mount',
    mountPath,
    ['/', '/srv', '/a b/c', '/..a'],
    ['', 'srv', '/a,b', '/..', '/a/./b', '/a/../b', '/a\n', `/${'x'.repeat(300)}`],
  ],
  ['password', newPassword, ['12345', 'a b,c="d"'], ['', '1234', 'abc\ndef', 'x'.repeat(256)]],
])('a field for a %s takes what may be one and nothing else', (_name, field, right, wrong) => {
  expect(right.filter((text) => field.read(text) === undefined)).toEqual([]);
  expect(wrong.filter((text) => field.read(text) !== undefined)).toEqual([]);
});

test('all faults of a form are told at once, each with value, unit and range', () => {
  const fields = { memory, storage: storageId };
  expect(faultsOf(() => readForm({ memory: '1e3', storage: ['a', 'b'], 'memory[]': '4', extra: '1' }, fields))).toBe(
    [
      'memory[]: unknown here; the fields are memory, storage',
      'extra: unknown here; the fields are memory, storage',
      'memory: expected a whole number of MiB from 16 to 16777216, got "1e3"',
      'storage: expected the name of a storage, got ["a","b"]',
    ].join('; '),
  );
});

test('a missing body is an empty form', () => {
  expect(readForm(undefined, {})).toEqual({});
  expect(readForm(null, { pool: optional(poolId) })).toEqual({ pool: null });
});

test.each([undefined, '', 'null'])(
  'a field that may say nothing says nothing with %j, and one that may not is missing',
  (given) => {
    const form = given === undefined ? {} : { pool: given };
    expect(readForm(form, { pool: optional(poolId) })).toEqual({ pool: null });
    expect(faultsOf(() => readForm(form, { pool: poolId }))).toMatch(/^pool: expected the name of a pool, got/);
  },
);

test('an empty text that means something is not nothing', () => {
  const list: Field<readonly string[]> = { expected: 'a list', read: (text) => text.split(',').filter(Boolean) };
  expect(readForm({ boot: '' }, { boot: optional(list) })).toEqual({ boot: [] });
  expect(readForm({ boot: 'null' }, { boot: optional(list) })).toEqual({ boot: null });
});

test('ignored fields and unknown ones that say nothing are no fault, whatever they are called', () => {
  expect(readForm({ hostname: 'x', name: 'null', mp: '' }, {}, ['hostname'])).toEqual({});
  expect(faultsOf(() => readForm(JSON.parse('{"__proto__": "1", "constructor": "2"}'), {}))).toMatch(
    /__proto__: unknown here.*constructor: unknown here/,
  );
});

test('a password is never repeated', () => {
  for (const given of ['1234', ['secret-1', 'secret-2'], 'line\nbreak'])
    expect(faultsOf(() => readForm({ password: given }, { password: newPassword }))).toBe(
      'password: expected a password of 5 to 255 characters on one line, got something else',
    );
});
