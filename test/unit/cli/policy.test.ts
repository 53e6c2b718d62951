import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { policies } from '../../../src/admission/policies/index.ts';
import { UsageError } from '../../../src/cli/command.ts';
import { policyCommand } from '../../../src/cli/policy.ts';

const directory = mkdtempSync(join(tmpdir(), 'policy-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** What the command prints about a schema of this text, and its exit code. */
async function policy(text?: string) {
  const lines: string[] = [];
  const file = join(directory, 'apidoc.js');
  if (text !== undefined) writeFileSync(file, text);
  const invocation = { args: [], configFile: '', dryRun: false, print: (line: string) => lines.push(line) };
  const code = await policyCommand.run({ ...invocation, schema: text === undefined ? undefined : file });
  return { code, printed: lines.join('\n') };
}

/** A node of the tree that PVE publishes, as far as it matters. */
const method = (...names: string[]) => ({
  description: 'with "quotes", \\ and ] } in it',
  parameters: { additionalProperties: 0, properties: Object.fromEntries(names.map((name) => [name, {}])) },
});
const tree = [
  {
    path: '/nodes',
    text: 'nodes',
    leaf: 0,
    info: { GET: { method: 'GET', parameters: { additionalProperties: 0 } } },
    children: [
      {
        path: '/nodes/{node}/qemu/{vmid}',
        info: { DELETE: method('node', 'vmid', 'purge', 'shred') },
        children: [
          {
            path: '/nodes/{node}/qemu/{vmid}/config',
            leaf: 1,
            info: { PUT: method('cores', 'net[n]', 'args', 'warp[n]') },
          },
          { path: '/nodes/{node}/qemu/{vmid}/beam', leaf: 1, info: { POST: method('target') } },
        ],
      },
    ],
  },
];

const expected = [
  ['read', 'GET', '/nodes', ''],
  ['releasing', 'DELETE', '/nodes/{node}/qemu/{vmid}', 'refused: shred'],
  ['consuming', 'PUT', '/nodes/{node}/qemu/{vmid}/config', 'refused: args, warp[n]'],
];

test.each([
  [
    'the script that PVE publishes',
    `const apiSchema = ${JSON.stringify(tree, null, 3)}\n;\nlet show = [{ a: "]" }];\n`,
  ],
  ['the script of older versions', `var pveapi = ${JSON.stringify(tree)};function x() { return "[" }`],
  ['the tree alone', JSON.stringify(tree)],
  [
    'a list of methods',
    JSON.stringify([
      { method: 'GET', path: '/nodes' },
      { method: 'DELETE', path: '/nodes/{node}/qemu/{vmid}', parameters: { vmid: {}, shred: {} } },
      { method: 'PUT', path: '/nodes/{node}/qemu/{vmid}/config', parameters: ['args', 'warp[n]', 'cores'] },
      { method: 'POST', path: '/nodes/{node}/qemu/{vmid}/beam', parameters: [] },
    ]),
  ],
])(
  '%s: each method with its class, what of it tenants cannot give, and what is refused altogether',
  async (_, text) => {
    const { code, printed } = await policy(text);
    const [table = '', refused, summary] = printed.split('\n\n');
    expect(table.split('\n').map((line) => line.split(/ {2,}/))).toEqual(
      expected.map((cells) => cells.filter((cell) => cell !== '')),
    );
    expect(refused).toBe('Without a row, so refused to everybody:\n  POST /nodes/{node}/qemu/{vmid}/beam');
    expect(summary).toBe('4 methods: 1 read, 1 releasing, 1 consuming, 1 without a row');
    expect(code).toBe(1);
  },
);

test('a schema of which every method has a row is right', async () => {
  const { code, printed } = await policy(JSON.stringify([{ method: 'GET', path: '/nodes' }]));
  expect([code, printed]).toEqual([0, 'read  GET  /nodes\n\n1 methods: 1 read']);
});

test('without a schema the table itself is printed, each row with its class', async () => {
  const { code, printed } = await policy();
  expect([code, printed.split('\n').length]).toEqual([0, policies.length]);
  expect(printed).toMatch(/^closed +POST +\/nodes\/\{node\}\/execute$/m);
});

test.each([
  ['nothing', ''],
  ['no JSON', 'const apiSchema = [nonsense];'],
  ['a schema that is cut off', `const apiSchema = ${JSON.stringify(tree).slice(0, -5)}`],
  ['another thing', '{"users": []}'],
  ['a list of other things', '[1, null, {"path": 1}]'],
])('%s is no schema', async (_, text) => {
  await expect(policy(text)).rejects.toThrow(UsageError);
});
