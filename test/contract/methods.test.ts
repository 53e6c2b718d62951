import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { coverageOf } from '../../src/admission/coverage.ts';
import { policies } from '../../src/admission/policies/index.ts';
import { readPublishedSchema } from '../../src/pve/published-schema.ts';

const publishedBy = (version: string) =>
  readPublishedSchema(readFileSync(`test/contract/pve-api/${version}.json`, 'utf8'));

describe.each([
  ['9.2', 675],
  ['8.4', 605],
  ['7.4', 540],
])('PVE %s', (version, methods) => {
  const coverage = coverageOf(publishedBy(version), policies);

  test(`has ${methods} methods, and every one has its row`, () => {
    expect(coverage).toHaveLength(methods);
    const lacking = coverage.filter(({ classes }) => classes.length === 0);
    expect(lacking.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
  });

  test('has no call that changes something and only reads here', () => {
    const wrong = coverage.filter(({ method, classes }) => method !== 'GET' && classes.includes('read'));
    expect(wrong).toEqual([]);
  });
});

test('every row is there for a method of some version of PVE', () => {
  const shape = ({ method, path }: { readonly method: string; readonly path: string }) =>
    `${method} ${path.replace(/\{[^}]+\}/g, '{}')}`;
  // What PVE publishes begins below its root, which lists what there is.
  const known = new Set(['GET /', ...['9.2', '8.4', '7.4'].flatMap(publishedBy).map(shape)]);
  expect(policies.map(shape).filter((row) => !known.has(row))).toEqual([]);
});
