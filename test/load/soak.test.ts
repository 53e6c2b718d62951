import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import type { Fault, FaultMatch } from '../../simulator/faults.ts';
import { Debugged } from '../support/debugged.ts';
import { unusedUrl } from '../support/listening.ts';
import { postHead, rawConnection } from '../support/raw.ts';
import { range, scale } from '../support/scale.ts';
import { type Client, GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 60, memory: 200 * GiB, swap: 50 * GiB, network: 'unlimited', ceph: 400 * GiB } as const;
const vmids = range(20).map((n) => 100 + n);

/** Connections to PVE that the server keeps at most. */
const kept = 32;

const warmUp = scale(6000, 90_000);
const duration = scale(14_000, 510_000);

const faults: readonly (FaultMatch & Fault)[] = [
  { kind: 'refuse', status: 500, reason: 'got timeout', times: 3 },
  { kind: 'refuseAfter', status: 500, reason: 'lock lost', method: 'POST', times: 2 },
  { kind: 'refuse', status: 596, reason: 'Broken pipe', path: /qemu/, times: 2 },
  { kind: 'delay', ms: 700, times: 4 },
  { kind: 'hang', times: 2 },
  { kind: 'resetBefore', times: 2 },
  { kind: 'resetAfter', method: 'POST', times: 2 },
  { kind: 'wrongJson', times: 2 },
  { kind: 'hugeAnswer', bytes: 8 * MiB, times: 1 },
  { kind: 'endlessAnswer', times: 1 },
  { kind: 'taskFails', message: 'no space left on device', halfWay: true, times: 2 },
  { kind: 'partial', keys: 1, status: 500, reason: 'half of it failed', path: '/nodes/{node}/qemu/{vmid}/config' },
];

test('under a mixed load with faults every second nothing crashes, leaks or stays open', {
  timeout: warmUp + duration + 180_000,
}, async () => {
  const debugging = new URL(await unusedUrl()).host;
  await using site = await startSite({
    as: 'process',
    execArgv: [`--inspect=${debugging}`, '--inspect-publish-uid=http'],
    hold: 0.5,
    refresh: { resources: 0.5, storage: 1, sweep: 5 },
    deadlines: { read: 1, write: 1.5 },
    users: { alice: { ...limits, vmid: [100, 199] } },
    simulator: { taskPace: 20 },
  });
  const errors = ownErrors(site);
  const [target] = (await (await fetch(`http://${debugging}/json/list`)).json()) as { webSocketDebuggerUrl: string }[];
  const inside = await Debugged.at(target?.webSocketDebuggerUrl ?? '');

  await loadFor(site, warmUp);
  const before = await measure(site, inside);
  await loadFor(site, duration);
  const after = await measure(site, inside);
  inside.close();

  expect(errors).toEqual([]);
  expect(site.process.exitCode).toBeNull();
  // The connections that are kept to PVE are all there is.
  expect(after.sockets).toBeLessThanOrEqual(kept);
  expect(after.files).toBeLessThanOrEqual(before.files + kept);
  expect(after.live).toBeLessThan(1.2 * before.live);
  // What the allocator keeps for the next answer of 64 MiB goes up and down; it has a ceiling.
  expect(after.resident).toBeLessThan(512 * MiB);
});

/** The errors in the server's log, as they come, that are not PVE's own: what it cannot explain is a fault of the server. */
function ownErrors(site: Site): readonly string[] {
  const errors: string[] = [];
  if (site.process.stdout === null) throw new Error('the log of the server is not read');
  createInterface(site.process.stdout).on('line', (line) => {
    const { level, err } = JSON.parse(line) as { level: number; err?: { type: string } };
    if (level >= 50 && err?.type !== 'PveRefusal' && err?.type !== 'TaskFailure') errors.push(line);
  });
  return errors;
}

/** Does everything at once for so many ms, with a fault every second; ends when all of it has ended. */
async function loadFor(site: Site, ms: number): Promise<void> {
  const ended = AbortSignal.timeout(ms);
  await Promise.all([
    ...range(5).map((lane) => change(site, lane, ended)),
    ...range(2).map(() => look(site, ended)),
    ...range(3).map(() => follow(site, ended)),
    beRude(site, ended),
    breakThings(site, ended),
  ]);
  site.simulator.faults.clear();
}

/** A client who signs in again when the server was told that nobody is. */
async function signedIn(site: Site): Promise<Client | undefined> {
  return site.signIn('alice').catch(() => undefined);
}

async function change(site: Site, lane: number, ended: AbortSignal): Promise<void> {
  let client: Client | undefined;
  for (let n = lane; !ended.aborted; n += 1) {
    client ??= await signedIn(site);
    if (client === undefined) continue;
    const vmid = vmids[(n * 7 + lane) % vmids.length] ?? 100;
    const vm = `/cluster/n1/qemu/${vmid}`;
    const acts = [
      (alice: Client) => alice.createVm(vmid, { cores: 1 + (n % 4) }),
      (alice: Client) => alice.post(`${vm}/disk/scsi0/create`, { storage: 'ceph', size: 1 + (n % 5) }),
      (alice: Client) =>
        alice.post(`${vm}/resources`, { cores: 1 + (n % 6), memory: 512 + 128 * (n % 4), proctype: 'host', boot: '' }),
      (alice: Client) => alice.post(`${vm}/disk/scsi0/resize`, { size: 1 }),
      (alice: Client) => alice.post(`/proxmox/nodes/n1/qemu/${vmid}/status/start`),
      (alice: Client) => alice.post(`/proxmox/nodes/n1/qemu/${vmid}/status/stop`),
      (alice: Client) => alice.delete(`${vm}/delete`),
    ];
    const reply = await acts[n % acts.length]?.(client);
    if (reply?.status === 401) client = undefined;
  }
}

async function look(site: Site, ended: AbortSignal): Promise<void> {
  const paths = ['/user/dynamic/resources', '/proxmox/cluster/resources', '/cluster/n1/qemu/100', '/sync/hash'];
  let client: Client | undefined;
  for (let n = 0; !ended.aborted; n += 1) {
    client ??= await signedIn(site);
    const reply = await client?.get(paths[n % paths.length] ?? '');
    if (reply?.status === 401) client = undefined;
    await pause(20);
  }
}

/** Follows changes for a while, and again. */
async function follow(site: Site, ended: AbortSignal): Promise<void> {
  while (!ended.aborted) {
    const client = await signedIn(site);
    const cookie = [...(client?.cookies ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
    // Node's own client takes headers, which the standard's type does not know.
    const options = { headers: { cookie } } as unknown as string[];
    const socket = new WebSocket(`${site.url.replace('http', 'ws')}/api/sync/interrupt`, options);
    const over = new Promise((resolve) => socket.addEventListener('close', resolve));
    socket.addEventListener('open', () => socket.send('rate 1'));
    await pause(2000);
    socket.close();
    await over;
  }
}

/** Sends half, hangs up, and sends nonsense. */
async function beRude(site: Site, ended: AbortSignal): Promise<void> {
  for (let n = 0; !ended.aborted; n += 1) {
    const texts = [
      'GET /api/version HTTP/1.1\r\nHost: ',
      `${postHead('/api/access/ticket', 100_000)}username=alice`,
      '\x16\x03\x01\x02\x00\x01\x00',
      'GET /api/proxmox/cluster/resources HTTP/1.1\r\nHost: localhost\r\n\r\n',
    ];
    using connection = await rawConnection(site.url, texts[n % texts.length]);
    await pause(50);
    connection.socket.destroy();
  }
}

async function breakThings(site: Site, ended: AbortSignal): Promise<void> {
  for (let n = 0; !ended.aborted; n += 1) {
    const fault = faults[n % (faults.length + 1)];
    if (fault === undefined) {
      await site.simulator.stop();
      await pause(300);
      await site.simulator.start();
    } else {
      site.simulator.faults.add(fault);
    }
    await pause(1000);
  }
}

interface Measured {
  /** Bytes in use after all garbage is gone. */
  readonly live: number;
  readonly resident: number;
  /** Connections in either direction. */
  readonly sockets: number;
  readonly files: number;
}

/** What the server holds when all is quiet: nothing is open, and what is booked is what is there. */
async function measure(site: Site, inside: Debugged): Promise<Measured> {
  const alice = await site.signIn('alice');
  await until('nothing is open', () => site.storedReservations() === 0, 60_000);
  await until(
    'what is booked is what is there',
    async () => {
      const { body } = await alice.get('/user/dynamic/resources');
      const truth = site.truth(vmids);
      return body.cores?.total.used === (truth.cores ?? 0) && body.ceph?.total.used === (truth['storage:ceph'] ?? 0);
    },
    30_000,
  );
  // Idle connections to PVE and of fetch end by themselves within 5 s.
  await pause(6000);
  await inside.ask('HeapProfiler.collectGarbage');
  return inside.evaluate<Measured>(`(() => {
    const { heapUsed, external, rss } = process.memoryUsage();
    const { libuv } = process.report.getReport();
    return {
      live: heapUsed + external,
      resident: rss,
      sockets: libuv.filter(({ type, remoteEndpoint }) => type === 'tcp' && remoteEndpoint).length,
      files: process.getBuiltinModule('fs').readdirSync('/proc/self/fd').length,
    };
  })()`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
