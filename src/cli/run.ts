/** Reads the command line and does what it says; without a command it serves. */

import { parseArgs } from 'node:util';
import packageJson from '../../package.json' with { type: 'json' };
import { defaultConfigFile, loadConfig, MissingConfigError } from '../config.ts';
import { ApiError } from '../errors.ts';
import { didYouMean, FaultsError } from '../schema.ts';
import { DatabaseError } from '../store/database.ts';
import { type Command, UsageError } from './command.ts';

const options = {
  config: { type: 'string', short: 'c', default: defaultConfigFile },
  'dry-run': { type: 'boolean', default: false },
  schema: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
  version: { type: 'boolean', short: 'v', default: false },
} as const;

/** Runs one command line (without `node` and the script) and returns its exit code: 0, 1 for a failure, 2 for misuse. */
export async function run(args: readonly string[]): Promise<number> {
  try {
    return await dispatch(args);
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}\nSee: node . --help`);
      return 2;
    }
    const told = [FaultsError, MissingConfigError, DatabaseError, ApiError].some((kind) => error instanceof kind);
    if (told) {
      console.error((error as Error).message);
      return 1;
    }
    throw error;
  }
}

async function dispatch(words: readonly string[]): Promise<number> {
  const { values, positionals } = parse(words);
  if (values.version) {
    console.log(packageJson.version);
    return 0;
  }
  if (positionals.length === 0 && !values.help) {
    mustTake({ name: 'node .', usage: '' }, [], values);
    const config = loadConfig(values.config);
    const { runServer } = await import('../server.ts');
    await runServer(config, { configFile: values.config, version: packageJson.version });
    return 0;
  }
  const { commands } = await import('./commands.ts');
  if (values.help) {
    console.log(help(commands));
    return 0;
  }
  const command = find(commands, positionals);
  const args = positionals.slice(command.name.split(' ').length);
  mustTake(command, args, values);
  return command.run({
    args,
    configFile: values.config,
    dryRun: values['dry-run'],
    schema: values.schema,
    print: (line) => console.log(line),
  });
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    const unknown = /^Unknown option '(--?[^'=]+)/.exec((error as Error).message)?.[1];
    if (unknown === undefined) throw new UsageError((error as Error).message);
    throw new UsageError(
      `Unknown option ${unknown}${didYouMean(
        unknown,
        Object.keys(options).map((name) => `--${name}`),
      )}.`,
    );
  }
}

/** Nothing that was typed goes unnoticed: who asks for a rehearsal must not get the deed. */
function mustTake(
  { name, usage }: Pick<Command, 'name' | 'usage'>,
  args: readonly string[],
  options: Readonly<Record<string, unknown>>,
): void {
  const [first] = args;
  if (usage === '' && first !== undefined) throw new UsageError(`"${name}" takes nothing more, got "${first}".`);
  const other = ['dry-run', 'schema'].find((option) => options[option] && !usage.includes(`--${option}`));
  if (other !== undefined) throw new UsageError(`"${name}" does not know --${other}.`);
}

function find(commands: readonly Command[], words: readonly string[]): Command {
  const command = commands.find(({ name }) => name === words.slice(0, name.split(' ').length).join(' '));
  if (command !== undefined) return command;
  const said = words.slice(0, 2).join(' ');
  const group = commands
    .filter(({ name }) => name.startsWith(`${words[0]} `))
    .map(({ name }) => name.split(' ')[1] ?? '');
  if (group.length > 0) {
    const wanted = `expected ${group.join(', ')} after "${words[0]}"`;
    throw new UsageError(
      words[1] === undefined
        ? `Incomplete command: ${wanted}.`
        : `Unknown command "${said}": ${wanted}${didYouMean(words[1], group)}.`,
    );
  }
  const firsts = [...new Set([...commands.map(({ name }) => name.split(' ')[0] ?? ''), 'demo', 'test'])];
  throw new UsageError(`Unknown command "${words[0]}"${didYouMean(words[0] ?? '', firsts)}.`);
}

function help(commands: readonly Command[]): string {
  const own = commands.map(({ name, usage, summary }) => [`${name} ${usage}`.trim(), summary] as const);
  const rows = [
    ['', 'serve, as the configuration says'],
    ...own,
    ['demo', 'a simulated PVE cluster and a server for it, to try the program (see demo --help)'],
    ['test', 'type check, format check and all tests'],
  ] as const;
  const width = Math.max(...rows.map(([usage]) => usage.length));
  return [
    `pve-quota-proxy ${packageJson.version}: ${packageJson.description}`,
    '',
    'Usage:',
    ...rows.map(([usage, summary]) => `  node . ${usage.padEnd(width)}  ${summary}`),
    '',
    'Options:',
    `  -c, --config FILE  the configuration (default ${defaultConfigFile})`,
    '      --dry-run      with import: show only',
    '      --schema FILE  with policy: the apidoc.js of a PVE host',
    '  -h, --help         this text',
    '  -v, --version      the version',
  ].join('\n');
}
