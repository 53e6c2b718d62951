/**
 * What a quota decision costs: a user with 1,000 instances in a cluster of 10,000 changes one of them after the other.
 * Counted is the time that the gate takes for itself, up to and with the reservation on the disk; while PVE is asked, the
 * clock stands still. Prints percentiles in ms.
 *
 * node bench/decision.ts [changes]
 */

import { join } from 'node:path';
import { addGuest } from '../simulator/administrator.ts';
import { admit } from '../src/admission/admit.ts';
import { call, type Upstream } from '../src/pve/call.ts';
import type { Ledger } from '../src/quota/ledger.ts';
import { openDatabase } from '../src/store/database.ts';
import { range } from '../test/support/scale.ts';
import { startSite } from '../test/support/site.ts';

const [changes = 1000] = process.argv.slice(2).map(Number);
const plenty = { cores: 1_000_000, memory: 2 ** 50, ceph: 2 ** 50 };
const first = 100_000;

await using site = await startSite({
  users: { carol: { ...plenty, vmid: [first, first + 99_999] } },
  simulator: { seed: 'demo', guests: 9000 },
});
for (const n of range(1000)) {
  const config = { cores: 2, memory: 1024, scsi0: `ceph:vm-${first + n}-disk-0,size=8G` };
  addGuest(site.cluster, { vmid: first + n, pool: 'carol', config });
}
await site.refresh();
const { cookies } = await site.signIn('carol');
const ticket = decodeURIComponent(cookies.get('PVEAuthCookie') ?? '');
const csrf = decodeURIComponent(cookies.get('CSRFPreventionToken') ?? '');
const { gate, directory } = site.server;
const caller = {
  user: 'carol@pve',
  credential: { kind: 'ticket', ticket, csrf },
  record: await directory.record({ id: 'carol', realm: 'pve' }),
  address: '127.0.0.1',
} as const;

const waiting = stopwatch(gate.upstream);
const writes = timesOf(gate.ledger);
const own: number[] = [];
const written: number[] = [];
for (const n of range(changes + 50)) {
  const asked = call('PUT', '/nodes/n1/qemu/{}/config', [first + (n % 1000)], {
    cores: String(3 + Math.floor(n / 1000)),
  });
  const begun = performance.now();
  const waitedBefore = waiting.ms;
  const { answer, settled } = await admit(gate, asked, caller);
  const spent = performance.now() - begun - (waiting.ms - waitedBefore);
  if (answer.status !== 200) throw new Error(`PVE refused: ${answer.status} ${answer.reason}`);
  await settled;
  // The first ones are run by the interpreter.
  const [write = 0] = writes.splice(0);
  if (n < 50) continue;
  own.push(spent);
  written.push(write);
}
say(`${changes} changes among 10,000 guests`, own);
say('of these, to judge and write the reservation', written);
say(
  'of these, all else',
  own.map((spent, index) => spent - (written[index] ?? 0)),
);

// No decision can be quicker than the disk.
const bare = openDatabase(join(site.directory, 'bare.db'));
bare.exec('CREATE TABLE bare (value INTEGER)');
const insert = bare.prepare('INSERT INTO bare VALUES (?)');
const disk = range(changes).map((n) => {
  const begun = performance.now();
  insert.run(n);
  return performance.now() - begun;
});
bare.close();
say('one durable insert on this disk', disk);

function say(what: string, times: readonly number[]): void {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? Number.NaN).toFixed(2);
  console.log(`${what}: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms`);
}

/** Collects how long each reservation takes in the ledger, with its write. */
function timesOf(ledger: Pick<Ledger, 'reserve'>): number[] {
  const reserve = ledger.reserve.bind(ledger);
  const times: number[] = [];
  ledger.reserve = (request) => {
    const begun = performance.now();
    try {
      return reserve(request);
    } finally {
      times.push(performance.now() - begun);
    }
  };
  return times;
}

/** Counts the time in which anything is asked of PVE. */
function stopwatch(upstream: Upstream): { readonly ms: number } {
  const send = upstream.send.bind(upstream);
  const watch = { ms: 0 };
  let asking = 0;
  let since = 0;
  upstream.send = async (...question) => {
    if (asking === 0) since = performance.now();
    asking += 1;
    try {
      return await send(...question);
    } finally {
      asking -= 1;
      if (asking === 0) watch.ms += performance.now() - since;
    }
  };
  return watch;
}
