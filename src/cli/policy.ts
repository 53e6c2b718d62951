/** `policy`: which calls of PVE are admitted, and how a schema that a PVE host publishes would be treated. */

import { readFileSync } from 'node:fs';
import { type Coverage, coverageOf } from '../admission/coverage.ts';
import { policies } from '../admission/policies/index.ts';
import { type PublishedMethod, readPublishedSchema } from '../pve/published-schema.ts';
import { type Command, UsageError } from './command.ts';
import { table } from './table.ts';

export const policyCommand: Command = {
  name: 'policy',
  usage: '[--schema FILE]',
  summary:
    "the table of PVE's methods; with the schema of another version (apidoc.js): how each of its methods is treated",
  run: ({ args, schema, print }) => {
    if (args.length > 0) throw new UsageError('Expected: policy [--schema FILE]');
    if (schema === undefined) {
      for (const line of table(policies.map((row) => [row.class, row.method, row.path]))) print(line);
      return 0;
    }
    const found = coverageOf(publishedIn(schema), policies);
    for (const line of table(found.filter(({ classes }) => classes.length > 0).map(describe))) print(line);
    const lacking = found.filter(({ classes }) => classes.length === 0);
    if (lacking.length > 0) print('\nWithout a row, so refused to everybody:');
    for (const { method, path } of lacking) print(`  ${method} ${path}`);
    print(`\n${summaryOf(found)}`);
    return lacking.length === 0 ? 0 : 1;
  },
};

function publishedIn(file: string): PublishedMethod[] {
  try {
    return readPublishedSchema(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UsageError(
      `${file} is no schema of PVE's API: ${(error as Error).message}\nExpected the apidoc.js of a PVE host (/usr/share/pve-docs/api-viewer/apidoc.js).`,
    );
  }
}

function describe({ method, path, classes, refused }: Coverage): string[] {
  return [classes.join(', '), method, path, refused.length === 0 ? '' : `refused: ${refused.join(', ')}`];
}

function summaryOf(found: readonly Coverage[]): string {
  const counts = Map.groupBy(found, ({ classes: [first = 'without a row'] }) => first);
  const parts = [...counts]
    .sort(([, one], [, other]) => other.length - one.length)
    .map(([name, methods]) => `${methods.length} ${name}`);
  return `${found.length} methods: ${parts.join(', ')}`;
}
