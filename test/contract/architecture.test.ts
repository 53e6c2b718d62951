import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };

/** The floors of `src`, from the top; a file imports from its own room and from lower floors. */
const floors: readonly (readonly string[])[] = [
  ['main'],
  ['cli'],
  ['server'],
  ['app'],
  ['config'],
  ['routes'],
  ['admission'],
  ['backends'],
  ['quota'],
  ['pve', 'store'],
  ['errors', 'log', 'schema', 'secret', 'json'],
];

/** Where alone each of these packages may be imported. */
const packagesIn: Readonly<Record<string, RegExp>> = {
  fastify: /^src\/(?:routes\/|app\.ts$)/,
  'better-sqlite3': /^src\/(?:store\/|backends\/|quota\/ledger[a-z-]*\.ts$)/,
  ldapts: /^src\/backends\/ldap[a-z-]*\.ts$/,
  ws: /^src\/routes\//,
  undici: /^src\/(?:pve\/(?:hosts|in-turn|upstream|upload)|backends\/paasldap)\.ts$/,
};

interface Import {
  readonly file: string;
  /** A file of the repository, or the name of a package. */
  readonly target: string;
  readonly local: boolean;
}

/** The imports, re-exports and dynamic imports in a text. */
function importsIn(file: string, text: string): Import[] {
  const found: Import[] = [];
  const add = (specifier = '') => {
    if (specifier.startsWith('node:')) return;
    const local = specifier.startsWith('.');
    const packageName = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
    found.push({ file, target: local ? normalize(join(dirname(file), specifier)) : packageName, local });
  };
  for (const [, specifier] of text.matchAll(/^(?:import|export)\s[^'";]*?\sfrom\s+'([^']+)'/gm)) add(specifier);
  for (const [, specifier] of text.matchAll(/^import\s+'([^']+)'/gm)) add(specifier);
  for (const [, specifier] of text.matchAll(/\bimport\(\s*'([^']+)'/g)) add(specifier);
  return found;
}

const importsOf = (folder: string): Import[] =>
  globSync(`${folder}/**/*.ts`).flatMap((file) => importsIn(file, readFileSync(file, 'utf8')));

/** One way from a file back to itself; undefined where there is none. */
function circleIn(found: readonly Import[]): string | undefined {
  const needs = Map.groupBy(
    found.filter(({ local }) => local),
    ({ file }) => file,
  );
  const done = new Set<string>();
  const visit = (file: string, way: readonly string[]): string | undefined => {
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file].join(' -> ');
    if (done.has(file)) return undefined;
    done.add(file);
    for (const { target } of needs.get(file) ?? []) {
      const circle = visit(target, [...way, file]);
      if (circle !== undefined) return circle;
    }
    return undefined;
  };
  for (const file of needs.keys()) {
    const circle = visit(file, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

const imports = importsOf('src');
const arrow = ({ file, target }: Import): string => `${file} -> ${target}`;

/** `routes` for `src/routes/aas/net.ts`, `config` for `src/config.ts`. */
const roomOf = (file: string): string => file.split('/')[1]?.replace(/\.ts$/, '') ?? '';
const floorOf = (file: string): number => floors.findIndex((rooms) => rooms.includes(roomOf(file)));
const isBottom = (file: string): boolean => floorOf(file) === floors.length - 1;

test('the imports of a file are found in whatever form they are written', () => {
  const text = [
    "import { a, type B } from './a.ts';",
    "import type { C } from '../c.ts';",
    "import {\n  type D,\n  type E,\n} from '../quota/d.ts';",
    "export * from './e.ts';",
    "import fastify from 'fastify';",
    "import x from '@fastify/cookie/plugin';",
    "import './f.ts';",
    "const g = await import('../g.ts');",
    "import { readFileSync } from 'node:fs';",
  ].join('\n');
  expect(importsIn('src/pve/x.ts', text).map((one) => [one.target, one.local])).toEqual([
    ['src/pve/a.ts', true],
    ['src/c.ts', true],
    ['src/quota/d.ts', true],
    ['src/pve/e.ts', true],
    ['fastify', false],
    ['@fastify/cookie', false],
    ['src/pve/f.ts', true],
    ['src/g.ts', true],
  ]);
});

describe('the floors', () => {
  test('hold every file', () => {
    const files = globSync('src/**/*.ts');
    expect(files.length).toBeGreaterThan(50);
    expect(files.filter((file) => floorOf(file) === -1)).toEqual([]);
  });

  test('are entered from above only', () => {
    const upward = imports.filter(
      ({ file, target, local }) =>
        local &&
        target.startsWith('src/') &&
        roomOf(file) !== roomOf(target) &&
        !(isBottom(file) && isBottom(target)) &&
        floorOf(target) <= floorOf(file),
    );
    expect(upward.map(arrow)).toEqual([]);
  });
});

test.each(['src', 'simulator'])(
  'no file of %s needs itself, by whatever way of imports, those of types included',
  (folder) => {
    const found = importsOf(folder);
    expect(found.length).toBeGreaterThan(0);
    expect(circleIn(found)).toBeUndefined();
  },
);

test('a circle of imports is found, and no file that is needed twice is taken for one', () => {
  const edges = (...pairs: readonly (readonly [string, string])[]): Import[] =>
    pairs.map(([file, target]) => ({ file, target, local: true }));
  expect(circleIn(edges(['a', 'b'], ['a', 'c'], ['b', 'd'], ['c', 'd']))).toBeUndefined();
  expect(circleIn(edges(['a', 'b'], ['b', 'c'], ['c', 'd'], ['d', 'b']))).toBe('b -> c -> d -> b');
  expect(circleIn(edges(['a', 'a']))).toBe('a -> a');
});

test('the two surfaces know nothing of each other', () => {
  const between = imports.filter(
    ({ file, target }) =>
      (file.startsWith('src/routes/aas/') && target.startsWith('src/routes/pve/')) ||
      (file.startsWith('src/routes/pve/') && target.startsWith('src/routes/aas/')),
  );
  expect(between.map(arrow)).toEqual([]);
});

test.each(Object.entries(packagesIn))('%s is imported where it belongs and nowhere else', (name, allowed) => {
  const users = imports.filter(({ target }) => target === name || target.startsWith(`@${name}/`));
  expect(users.filter(({ file }) => !allowed.test(file)).map(arrow)).toEqual([]);
  expect(users.length).toBeGreaterThan(0);
});

test('the server needs no package but its declared dependencies, and nothing of the simulator or the tests', () => {
  const packages = new Set(imports.filter(({ local }) => !local).map(({ target }) => target));
  expect([...packages].filter((name) => !Object.hasOwn(manifest.dependencies, name))).toEqual([]);
  expect(imports.filter(({ target }) => /^(?:simulator|test|bench)\//.test(target)).map(arrow)).toEqual([]);
});

test('the simulator imports nothing of the server, so that no fault of the one can hide in the other', () => {
  const simulator = importsOf('simulator');
  expect(simulator.length).toBeGreaterThan(0);
  expect(simulator.filter(({ local, target }) => local && !target.startsWith('simulator/')).map(arrow)).toEqual([]);
});
