/** The simulated cluster as a process of its own. */

import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Simulator, startSimulator } from './index.ts';
import { runReplication } from './replication.ts';

const usage =
  'usage: node simulator/main.ts [--port N] [--host NAME] [--guests N] [--tls] [--task-ms N] [--ready-fd N]';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '8006' },
      host: { type: 'string', default: '127.0.0.1' },
      guests: { type: 'string', default: '0' },
      tls: { type: 'boolean', default: false },
      'task-ms': { type: 'string', default: '300' },
      'ready-fd': { type: 'string' },
    },
  });
  const { host, tls } = values;
  const simulator = await startSimulator({
    ...{ host, tls, seed: 'demo', unauthorizedDelay: 3000 },
    port: integer('--port', values.port, 65535),
    guests: integer('--guests', values.guests),
    taskPace: integer('--task-ms', values['task-ms']),
  });
  setInterval(() => runReplication(simulator.cluster), 60_000).unref();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void simulator[Symbol.asyncDispose]());
  console.log(describe(simulator, host));
  if (values['ready-fd'] !== undefined) writeSync(integer('--ready-fd', values['ready-fd']), `${simulator.url}\n`);
}

function describe({ url, cluster, fingerprint }: Simulator, host: string): string {
  // Browsers and curl send secure cookies to localhost, not to its address.
  const shown = host === '127.0.0.1' ? url.replace(host, 'localhost') : url;
  const counts = `${cluster.nodes.size} nodes, ${cluster.guests.size} guests`;
  return `simulated PVE cluster: ${shown} (${counts})${fingerprint ? `, fingerprint ${fingerprint}` : ''}`;
}

function integer(option: string, text: string, maximum = Number.MAX_SAFE_INTEGER): number {
  if (/^\d+$/.test(text) && Number(text) <= maximum) return Number(text);
  throw new TypeError(
    `${option} takes a whole number${Number.isSafeInteger(maximum + 1) ? ` up to ${maximum}` : ''}, not '${text}'`,
  );
}

function explain(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return `cannot start: ${message.replace(/^listen EADDRINUSE: /, '')}`;
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return `cannot start: ${message}`;
  return error instanceof TypeError ? `${message}\n${usage}` : String((error as Error).stack);
}

main().catch((error: unknown) => {
  console.error(explain(error));
  process.exitCode = 1;
});
