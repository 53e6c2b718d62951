/**
 * How long the server takes from its start until it is ready, with a ledger from the time before, and how much memory it
 * holds when it has nothing to do, by the number of guests. A process of its own in front of a simulated cluster; Linux.
 *
 * node bench/start.ts [--guests 1000,10000] [--idle 30] [--starts 3]
 */

import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startSite, until } from '../test/support/site.ts';
import { median, nodeOptions, residentOf } from './process.ts';

// As the unit file says where compiled code is kept.
process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'node-compile-cache');

const { values } = parseArgs({
  options: {
    guests: { type: 'string', default: '1000,10000' },
    idle: { type: 'string', default: '30' },
    starts: { type: 'string', default: '3' },
  },
});

console.log('| guests | start to ready, s | resident when ready, MiB | resident when idle, MiB |');
console.log('|---|---|---|---|');
for (const guests of values.guests.split(',').map(Number)) await measure(guests);

async function measure(guests: number): Promise<void> {
  await using site = await startSite({
    as: 'process',
    execArgv: nodeOptions,
    users: { alice: { cores: 8 } },
    simulator: { seed: 'demo', guests },
    refresh: { resources: 15, storage: 60 },
  });
  // The first start has looked at every guest, which fills the ledger and the compile cache.
  await until(
    'all guests were looked at',
    async () => {
      const from = site.simulator.requests.length;
      await delay(2000);
      return site.simulator.requests.slice(from).filter(({ path }) => path.endsWith('/pending')).length < 10;
    },
    600_000,
  );
  const times: number[] = [];
  for (let start = 0; start < Number(values.starts); start += 1) {
    const ended = once(site.process, 'exit');
    site.process.kill('SIGTERM');
    await ended;
    const begun = performance.now();
    await site.startServer();
    times.push((performance.now() - begun) / 1000);
  }
  const pid = site.process.pid ?? 0;
  const ready = residentOf(pid);
  await delay(Number(values.idle) * 1000);
  const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);
  console.log(`| ${guests} | ${median(times).toFixed(2)} | ${mebibytes(ready)} | ${mebibytes(residentOf(pid))} |`);
}
