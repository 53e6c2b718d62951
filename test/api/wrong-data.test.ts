import { afterAll, beforeAll, expect, test } from 'vitest';
import type { FaultMatch } from '../../simulator/faults.ts';
import { type Belongings, foreignCalls, sendForeign } from '../support/foreign-calls.ts';
import { keepLog } from '../support/kept-log.ts';
import { PveClient } from '../support/pve-client.ts';
import { range, scale } from '../support/scale.ts';
import type { Client, Site } from '../support/site.ts';
import { isHis, startTwoTenants } from '../support/two-tenants.ts';

/** Something that makes the server ask PVE; it ends when the server has answered. */
interface Act {
  readonly name: string;
  readonly play: () => Promise<unknown>;
}

type Change = (data: unknown) => unknown;

const { log, lines } = keepLog();

let site: Site;
let his: Belongings;
let bob: Client;
let client: PveClient;

beforeAll(async () => {
  ({ site, his } = await startTwoTenants({ log, hold: 0.1, taskWait: 1 }));
  bob = await site.signIn('bob');
  client = await PveClient.signIn(site, 'bob');
}, 120_000);

afterAll(() => site[Symbol.asyncDispose]());

const shapes: readonly unknown[] = [null, undefined, '', 'text', 7, true, {}, [], [null], [7], ['text'], [[]], [{}]];
const values: readonly unknown[] = [null, '', 'text', -1, 1.5, 1e21, true, {}, [], [null], 'NaN', '-5G'];

/** What could be wrong with such data: their shape, and every field of them. */
function changesOf(data: unknown): readonly Change[] {
  const rows = [data].flat();
  const fields = [...new Set(rows.flatMap((row) => Object.keys(Object(row))))];
  const inRow = (row: unknown, field: string, value: unknown) =>
    row instanceof Object && field in row ? { ...row, [field]: value } : row;
  return [
    ...shapes.map((shape) => () => shape),
    ...fields.flatMap((field) =>
      values.map(
        (value): Change =>
          (told) =>
            Array.isArray(told) ? told.map((row) => inRow(row, field, value)) : inRow(told, field, value),
      ),
    ),
  ];
}

function actsOfDashboards(): Act[] {
  const vm = `/cluster/n1/qemu/${his.qemu}`;
  const gets = [
    ...['/access', '/user/dynamic/resources', '/user/config/resources', '/user/vm-isos', '/user/ct-templates'],
    ...['/sync/hash', '/cluster/pools', '/cluster/nodes', '/cluster/n1/pci', vm, `${vm}/backup`],
    ...['/proxmox/cluster/tasks', `/cluster/n1/lxc/${his.lxc}`],
  ];
  const posts: readonly (readonly [string, Readonly<Record<string, string | number>>])[] = [
    [`${vm}/resources`, { cores: 2, memory: 1024, proctype: 'host', boot: '' }],
    [`${vm}/disk/scsi5/create`, { storage: 'ceph', size: 1 }],
    [`${vm}/disk/scsi0/resize`, { size: 1 }],
    [`${vm}/net/net1/create`, { rate: 10 }],
    [`${vm}/pci/create`, { device: '0000:41:00', pcie: 1 }],
    [`${vm}/backup/notes`, { volid: his.qemuBackup, notes: 'x' }],
    ['/access/ticket', { username: 'bob@pve', password: 'bob-secret' }],
  ];
  return [
    ...gets.map((path) => ({ name: `GET /api${path}`, play: () => bob.get(path) })),
    ...posts.map(([path, form]) => ({ name: `POST /api${path}`, play: () => bob.post(path, form) })),
  ];
}

function actsOfClients(): Act[] {
  const calls = new Map(foreignCalls(his, his).map((call) => [call.row, call]));
  return [...calls.values()].map((call) => ({
    name: `${call.method} ${call.path}`,
    play: () => sendForeign(site, client, call),
  }));
}

/** The calls of PVE that the server made meanwhile, each as a fault would match it. */
async function callsDuring({ play }: Act): Promise<readonly Required<Pick<FaultMatch, 'method' | 'path'>>[]> {
  const from = site.simulator.requests.length;
  await play();
  const asked = site.simulator.requests.slice(from).map(({ method, path }) => `${method} ${path}`);
  return [...new Set(asked)].map((one) => {
    const [method, path = ''] = one.split(' ');
    return { method: method as 'GET', path: new RegExp(`^${RegExp.escape(path)}$`) };
  });
}

/** What the log has besides PVE's own refusals: what the server cannot explain is a fault of the server. */
function unexplained(written: readonly string[]): readonly string[] {
  const known = ['PveRefusal', 'TaskFailure', 'UpstreamBrokenError'];
  return written.filter((line) => {
    const { level, err, reason } = JSON.parse(line) as {
      readonly level: number;
      readonly err?: { readonly type: string };
      /** Why nothing may grow, which is the right thing to say of a token without rights. */
      readonly reason?: string;
    };
    return (level >= 50 || err !== undefined) && !known.includes(err?.type ?? '') && reason === undefined;
  });
}

test('whatever PVE answers with, each call is answered with a reason, and all is counted again afterwards', {
  timeout: 1_200_000,
}, async () => {
  const { faults } = site.simulator;
  const rounds = { name: 'the rounds', play: () => site.refresh().catch((err) => log.warn({ err }, 'a round failed')) };
  const acts = [...actsOfDashboards(), ...actsOfClients()].filter((_, n) => n % scale(3, 1) === 0).concat(rounds);
  const found: unknown[] = [];
  let played = 0;
  for (const act of acts) {
    for (const call of await callsDuring(act)) {
      for (const _ of range(scale(1, 6))) {
        played += 1;
        // The next change of all that there are, by turns; the call may be made more than once.
        let plan: readonly Change[] = [];
        faults.add({
          ...call,
          kind: 'otherData',
          times: 3,
          data: (data) => {
            plan = changesOf(data);
            return plan[(played * 7) % plan.length]?.(data);
          },
        });
        const from = lines.length;
        await act.play();
        faults.clear();
        await site.settled();
        for (const line of unexplained(lines.slice(from))) found.push({ act: act.name, call, line });
      }
    }
  }
  expect(found).toEqual([]);
  await site.refresh();
  await site.settled();
  const booked = site.booked('bob');
  const truth = site.truth([...site.cluster.guests.keys()].filter(isHis));
  for (const [resource, amount] of Object.entries(truth))
    expect([resource, booked[resource]]).toEqual([resource, amount]);
});
