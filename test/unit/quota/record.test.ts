import { expect, test } from 'vitest';
import { grantedNames, grants } from '../../../src/quota/record.ts';

test('a list grants only what it says itself', () => {
  expect([grants({ a: true }, 'a'), grants({ a: false }, 'a'), grants({}, 'toString')]).toEqual([true, false, false]);
  expect(grantedNames({ a: true, b: false, c: true })).toEqual(['a', 'c']);
});
