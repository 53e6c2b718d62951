import { expect, test } from 'vitest';
import { type Sample, strainOf } from '../../../src/routes/load.ts';

const GiB = 1024 ** 3;

const well: Sample = {
  late: 3,
  heap: GiB,
  heapLimit: 4 * GiB,
  resident: 2 * GiB,
  memoryLimit: Number.POSITIVE_INFINITY,
};

test.each([
  ['a process at ease', {}, undefined],
  ['one that stumbles for a moment', { late: 900 }, undefined],
  ['one that does not keep up', { late: 2500 }, 'it cannot keep up'],
  ['a heap that is nearly full', { heap: 3.6 * GiB }, 'memory is short'],
  ['a container that is nearly full', { memoryLimit: 2.2 * GiB }, 'memory is short'],
  ['a container with room', { memoryLimit: 4 * GiB }, undefined],
] as const)('%s takes on what it can', (_, sample, strain) => {
  expect(strainOf({ ...well, ...sample })).toBe(strain);
});
