import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

// Processes start slowly on a busy machine.

const root = join(import.meta.dirname, '../../..');
const temporary = mkdtempSync(join(tmpdir(), 'launch-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** The Node of the system when it is too old to run TypeScript itself. */
const oldNode = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .map((folder) => join(folder, 'node'))
  .find(
    (path) => existsSync(path) && /^v(18|20|21)\./.test(spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout),
  );

const bundled = `node-${process.platform}-${process.arch}`;

const mainScript = `
  process.on('SIGTERM', () => process.exit(7));
  const [what, value] = process.argv.slice(2);
  if (what === 'exit') process.exit(Number(value));
  else if (what === 'wait') { console.log('ready'); setInterval(() => {}, 1000); }
  else if (what === 'die') process.kill(process.pid, 'SIGKILL');
  else console.log(JSON.stringify({ args: process.argv.slice(2), version: process.versions.node as string }));
`;

/** A project with the launcher and almost nothing else; `npm` is a script that writes down that it was called. */
function project({ installed }: { installed: boolean }) {
  const folder = mkdtempSync(join(temporary, 'project-'));
  cpSync(join(root, 'launch.js'), join(folder, 'launch.js'));
  writeFileSync(join(folder, 'package.json'), '{"type": "module", "main": "launch.js"}');
  const lock = {
    packages: {
      '': {},
      'node_modules/a': { version: '1.0.0' },
      'node_modules/tool': { version: '2.0.0', dev: true },
      'node_modules/other': { version: '3.0.0', optional: true },
    },
  };
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(lock));
  const install = [
    `mkdir -p node_modules/a node_modules/tool node_modules/${bundled}/bin`,
    'echo "{}" > node_modules/a/package.json; echo "{}" > node_modules/tool/package.json',
    `ln -sf ${process.execPath} node_modules/${bundled}/bin/node`,
    'cp package-lock.json node_modules/.package-lock.json',
  ].join('\n');
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin', 'npm'), `#!/bin/sh\necho "npm $*" >> npm.log\n${install}\n`);
  chmodSync(join(folder, 'bin', 'npm'), 0o755);
  for (const script of ['src/main.ts', 'scripts/demo.ts', 'scripts/test.ts']) {
    mkdirSync(dirname(join(folder, script)), { recursive: true });
    writeFileSync(join(folder, script), mainScript.replace('args:', `script: '${script}', args:`));
  }
  if (installed) spawnSync('sh', ['-c', install], { cwd: folder });
  const environment = { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}` };
  const run = (node: string, ...args: string[]) =>
    spawnSync(node, [folder, ...args], { encoding: 'utf8', env: environment });
  return { folder, run, environment };
}

const nodes: [string, string | undefined][] = [
  ['the current Node', process.execPath],
  ['an older Node, by way of the one brought along', oldNode],
];

describe.each(nodes)('started with %s', (_, node = '') => {
  test.skipIf(node === '')('it runs the server with all its words, and the scripts by their names', () => {
    const { run } = project({ installed: true });
    const said = (...args: string[]) => JSON.parse(run(node, ...args).stdout);
    expect(said('a', '--b')).toEqual({ script: 'src/main.ts', args: ['a', '--b'], version: process.versions.node });
    expect(said('demo', '--check')).toMatchObject({ script: 'scripts/demo.ts', args: ['--check'] });
    expect(said('test')).toMatchObject({ script: 'scripts/test.ts', args: [] });
  });

  test.skipIf(node === '')('it keeps the exit code', () => {
    const { run } = project({ installed: true });
    expect(run(node, 'exit', '3')).toMatchObject({ status: 3, stderr: '' });
  });

  test.skipIf(node === '')('it passes a signal on and ends as the server does', async () => {
    const { folder } = project({ installed: true });
    const child = spawn(node, [folder, 'wait'], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([7, null]);
  });
});

test.skipIf(oldNode === undefined)('a server that a signal ended gives 128 and its number', () => {
  const { run } = project({ installed: true });
  expect(run(oldNode ?? '', 'die').status).toBe(128 + 9);
});

describe('dependencies', () => {
  test('that are missing are installed once, with one line that says so, and nothing on the standard output', () => {
    const { run, folder } = project({ installed: false });
    const first = run(process.execPath, 'x');
    expect(first.stderr).toBe(`Installing dependencies into ${join(folder, 'node_modules')} (npm ci), once.\n`);
    expect(JSON.parse(first.stdout)).toMatchObject({ args: ['x'] });
    expect(run(process.execPath, 'x').stderr).toBe('');
  });

  test.each<[string, (folder: string) => void]>([
    ['an installation that was cut short', (folder) => rmSync(join(folder, 'node_modules/.package-lock.json'))],
    ['a package that was removed', (folder) => rmSync(join(folder, 'node_modules/a'), { recursive: true })],
    [
      'a package of another version',
      (folder) =>
        writeFileSync(
          join(folder, 'node_modules/.package-lock.json'),
          '{"packages": {"node_modules/a": {"version": "0.9.0"}}}',
        ),
    ],
  ])('are completed after %s', (_, damage) => {
    const { run, folder } = project({ installed: true });
    damage(folder);
    expect(run(process.execPath, 'x').stderr).toContain('Installing dependencies');
    expect(run(process.execPath, 'x').stderr).toBe('');
  });

  test('for development are needed by the tests and the demo only', () => {
    const { run, folder } = project({ installed: true });
    rmSync(join(folder, 'node_modules/tool'), { recursive: true });
    expect(run(process.execPath, 'x').stderr).toBe('');
    expect(run(process.execPath, 'demo').stderr).toContain('Installing dependencies');
  });

  test('need no compiler: npm runs no script of theirs, as none of them has one that it needs', () => {
    expect(readFileSync(join(root, '.npmrc'), 'utf8')).toMatch(/^ignore-scripts=true$/m);
    expect(readFileSync(join(root, 'package-lock.json'), 'utf8')).not.toContain('hasInstallScript');
  });

  test('that cannot be installed end it with a message', () => {
    const { run, folder } = project({ installed: false });
    writeFileSync(join(folder, 'bin', 'npm'), '#!/bin/sh\nexit 4\n');
    expect(run(process.execPath, 'x')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining(`"npm ci" failed in ${folder}`),
    });
  });
});

test('start.sh serves from its own directory', () => {
  const { folder } = project({ installed: true });
  cpSync(join(root, 'start.sh'), join(folder, 'start.sh'));
  symlinkSync(process.execPath, join(folder, 'bin', 'node'));
  const { stdout } = spawnSync(join(folder, 'start.sh'), ['--config', 'x'], {
    encoding: 'utf8',
    cwd: '/',
    env: { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}` },
  });
  expect(JSON.parse(stdout)).toMatchObject({ args: ['--config', 'x'] });
});
