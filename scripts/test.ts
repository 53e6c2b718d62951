/** `npm test`: types, lint and format, and all tests; ends with the plain line `N passed, N failed`. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What vitest's JSON report says, as far as it is read here. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

/** Runs a program of a dependency, whatever Node is on the path, with this one. */
function runProgram(packageName: string, program: string, args: readonly string[]): boolean {
  const manifest = require.resolve(`${packageName}/package.json`);
  const { bin }: { bin: string | Readonly<Record<string, string>> } = JSON.parse(readFileSync(manifest, 'utf8'));
  const script = join(dirname(manifest), typeof bin === 'string' ? bin : (bin[program] ?? program));
  return spawnSync(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit' }).status === 0;
}

function check(title: string, packageName: string, program: string, args: readonly string[]): Outcome {
  console.log(`\n${title}`);
  const ok = runProgram(packageName, program, args);
  console.log(ok ? 'ok' : `${title}: failed`);
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 };
}

/** A test file that could not even be loaded, or an error outside of any test, is one failure too. */
function tests(args: readonly string[]): Outcome {
  console.log('\nTests');
  const directory = mkdtempSync(join(tmpdir(), 'pve-quota-proxy-test-'));
  try {
    const file = join(directory, 'report.json');
    const ok = runProgram('vitest', 'vitest', [
      'run',
      // Tests wait for servers almost as long as they compute.
      `--maxWorkers=${availableParallelism() + 1}`,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${file}`,
      ...args,
    ]);
    const report: Report = JSON.parse(readFileSync(file, 'utf8'));
    const unloaded = report.testResults.filter(
      ({ status, assertionResults }) =>
        status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
    );
    for (const { name, message } of unloaded) console.log(`${relative(root, name)}: ${message}`);
    const failed = report.numFailedTests + unloaded.length;
    return {
      passed: report.numPassedTests,
      failed: ok ? failed : Math.max(1, failed),
      skipped: listSkipped(report) + report.numTodoTests,
    };
  } catch (error) {
    console.log(`No report of the tests: ${(error as Error).message}`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function listSkipped(report: Report): number {
  for (const { name, assertionResults } of report.testResults) {
    for (const { status, fullName } of assertionResults) {
      if (status === 'skipped' || status === 'pending') console.log(`skipped: ${relative(root, name)}: ${fullName}`);
    }
  }
  return report.numPendingTests;
}

const chosen = process.argv.slice(2);
const outcomes = [
  check('Types', 'typescript', 'tsc', ['--noEmit']),
  check('Lint and format', '@biomejs/biome', 'biome', ['check', '.']),
  tests(chosen),
];
const sum = (key: keyof Outcome) => outcomes.reduce((total, outcome) => total + outcome[key], 0);
const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 ? 1 : 0;
