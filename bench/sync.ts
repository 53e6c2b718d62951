/**
 * What sync sockets cost: a server process in front of a simulated cluster of 1,000 guests, first with one socket at rate
 * 1, then with 1,000, and again with something changing each second. Prints CPU of one core and resident memory of the
 * server, read from /proc, so it runs on Linux.
 *
 * node bench/sync.ts [sockets] [seconds for each state]
 */

import { setTimeout as delay } from 'node:timers/promises';
import { addGuest, setConfig } from '../simulator/administrator.ts';
import { range } from '../test/support/scale.ts';
import { startSite } from '../test/support/site.ts';
import { openSync } from '../test/support/sync-socket.ts';
import { cpuOf, nodeOptions, residentOf } from './process.ts';

const [sockets = 1000, seconds = 15] = process.argv.slice(2).map(Number);

await using site = await startSite({
  as: 'process',
  execArgv: nodeOptions,
  users: { alice: { vmid: [100, 4999] } },
  refresh: { resources: 15, storage: 60 },
});
for (const n of range(1000))
  addGuest(site.cluster, { vmid: 1000 + n, pool: 'alice', config: { cores: 1, memory: 128 } });
const alice = await site.signIn('alice');
const pid = site.process.pid ?? 0;
await delay(20_000);

async function measure(state: string, meanwhile: () => void = () => {}): Promise<void> {
  const timer = setInterval(meanwhile, 1000);
  const before = cpuOf(pid);
  await delay(seconds * 1000);
  clearInterval(timer);
  const cpu = (((cpuOf(pid) - before) / seconds) * 100).toFixed(1);
  const resident = Math.round(residentOf(pid) / 2 ** 20);
  console.log(`${state.padEnd(40)} ${cpu.padStart(5)} % of a core   ${resident} MiB resident`);
}

const opened: Awaited<ReturnType<typeof openSync>>[] = [];
const open = async (count: number) => {
  for (const _ of range(count)) {
    const one = await openSync(site, alice);
    one.socket.send('rate 1');
    opened.push(one);
  }
};

await measure('no socket');
await open(1);
await delay(2000);
await measure('1 socket');
await open(sockets - 1);
await delay(2000);
await measure(`${sockets} sockets, nothing changes`);
let change = 0;
await measure(`${sockets} sockets, one change a second`, () => {
  change += 1;
  setConfig(site.cluster, 1000 + (change % 1000), { name: `changed-${change}` });
});
for (const one of opened) one.socket.terminate();
