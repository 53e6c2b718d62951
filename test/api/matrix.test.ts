import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LoggedRequest } from '../../simulator/request-log.ts';
import { policies, policyFor } from '../../src/admission/policies/index.ts';
import { readPath } from '../../src/pve/path.ts';
import { type Belongings, type ForeignCall, foreignCalls, sendForeign, templateOf } from '../support/foreign-calls.ts';
import { keepLog } from '../support/kept-log.ts';
import { PveClient } from '../support/pve-client.ts';
import { blamedBy, type Said } from '../support/refusals.ts';
import { type Site, secret } from '../support/site.ts';
import { isHis, mark, startTwoTenants } from '../support/two-tenants.ts';

interface Played extends ForeignCall, Said {
  readonly text: string;
}

const { log, lines } = keepLog();

let site: Site;
let hers: Belongings;
let his: Belongings;
let worldBefore: unknown;
let heard: readonly LoggedRequest[];
let played: readonly Played[];

beforeAll(async () => {
  ({ site, hers, his } = await startTwoTenants({ log }));
  // From here on PVE is asked only what somebody's call makes the server ask.
  site.server.rounds.close();
  worldBefore = worldOf(site);
  const bob = await PveClient.signIn(site, 'bob');
  const from = site.simulator.requests.length;
  played = await play(bob, foreignCalls(hers, his));
  heard = site.simulator.requests.slice(from);
}, 120_000);

/** Makes the calls, a few at a time. */
async function play(client: PveClient, calls: readonly ForeignCall[]): Promise<readonly Played[]> {
  const waiting = calls.values();
  const answered: Played[] = [];
  const work = async () => {
    for (const call of waiting) answered.push({ ...call, ...(await sendForeign(site, client, call)) });
  };
  await Promise.all(Array.from({ length: 8 }, work));
  await site.settled();
  return answered;
}

afterAll(() => site[Symbol.asyncDispose]());

/** All that is not bob's, as the cluster has it. */
function worldOf({ cluster: { guests, pools, access, volumes, storages, nodes } }: Site): unknown {
  const onNode = (node: string) => [...storages.values()].flatMap((storage) => volumes.onStorage(storage, node));
  return structuredClone({
    guests: [...guests.values()].filter(({ vmid }) => !isHis(vmid)),
    volumes: [...nodes.keys()].flatMap(onNode).filter(({ vmid }) => vmid === undefined || !isHis(vmid)),
    pools,
    users: access.users,
    groups: access.groups,
    roles: access.roles,
    realms: access.realms,
    acl: access.acl(),
    storages,
  });
}

const inWords = ({ method, path, params, status, text }: Played) =>
  `${method} ${path} ${JSON.stringify(params)} -> ${status} ${text}`;

const changes = ({ row }: ForeignCall) => 'project' in row || row.class === 'closed';

test("every row of the policy table is asked for something of another tenant's", () => {
  const rows = played.map(
    ({ method, path, params }) => policyFor({ method, segments: readPath(path), params })?.policy,
  );
  const missing = policies.filter((row) => !rows.includes(row));
  expect(missing.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
});

/** Those that passed, or were refused for what is missing or unknown and not for whose it is. */
const strange = (answers: readonly Played[]) =>
  answers.filter(({ status, text }) => status < 400 || status >= 500 || /is required/.test(text)).map(inWords);

test('what could change it, or take room, is refused, and for no lesser reason than whose it is', () => {
  expect(strange(played.filter(changes))).toEqual([]);
});

test('each refusal of ours says it in status line, message and errors, by a parameter of the call', () => {
  const ours = played.filter(({ row, status }) => 'project' in row && status >= 400);
  expect(ours.length).toBeGreaterThan(100);
  expect(ours.filter((said) => blamedBy(said, said.path, said.params).length === 0).map(inWords)).toEqual([]);
});

test('so does a refusal of a parameter that no tenant may say, in every row', async () => {
  const bob = await PveClient.signIn(site, 'bob');
  const isUpload = ({ row }: ForeignCall) => row.path.endsWith('/upload');
  const own = foreignCalls(his, his).filter((call) => 'project' in call.row && !isUpload(call));
  const calls = [...new Map(own.map((call) => [call.row, call])).values()];
  expect(calls.length).toBeGreaterThan(40);
  const args = { lock: 'backup', skiplock: '1' };
  const said = await play(
    bob,
    calls.map((call) => ({ ...call, params: { ...call.params, ...args } })),
  );
  for (const answer of said)
    expect(blamedBy(answer, answer.path, answer.params), inWords(answer)).toEqual(
      expect.arrayContaining(Object.keys(args)),
    );
});

/** What PVE was sent from that request on and would change something; a CSRF token is tried on a method that it does not have. */
const writesSince = (from: number) =>
  site.simulator.requests.slice(from).filter(({ method, path }) => method !== 'GET' && path !== '/version');

test.each([
  ['a tenant whom PVE makes an operator of everything', 'carol'],
  ["a tenant whose record has the other's pool and vmids", 'dave'],
])('it is refused as well to %s: neither is enough without the other', async (_, name) => {
  const client = await PveClient.signIn(site, name);
  const from = site.simulator.requests.length;
  expect(strange(await play(client, foreignCalls(hers, his).filter(changes)))).toEqual([]);
  expect(writesSince(from)).toEqual([]);
});

test('an API token that may only look changes nothing of its own user either', async () => {
  const looking = PveClient.withToken(site, his.user, 'looking');
  site.cluster.access.setAcl('/', { tokens: [`${his.user}!looking`] }, 'PVEAuditor');
  const from = site.simulator.requests.length;
  expect(strange(await play(looking, foreignCalls(his, his).filter(changes)))).toEqual([]);
  expect(writesSince(from)).toEqual([]);
  site.cluster.access.removeToken(his.user, 'looking');
});

test('all else goes to PVE as the caller, whose rights decide; the privileged token changes nothing and reads nothing of hers', () => {
  expect(new Set(heard.map(({ caller }) => caller))).toEqual(new Set(['', 'bob@pve', 'quota-proxy@pve!gate']));
  const named = Object.values(hers).map(String);
  const byToken = heard
    .filter(({ viaToken }) => viaToken)
    // Of the token's tasks those that run for the caller are shown, whichever the filter lets through.
    .filter(({ path }) => path !== '/nodes/n1/tasks')
    .map(({ method, path, params }) => ({ method, words: [...path.split('/'), ...Object.values(params).map(String)] }))
    .filter(({ method, words }) => method !== 'GET' || words.some((word) => named.includes(word)));
  expect(byToken).toEqual([]);
});

test('what is hers stays as it was, and nobody pays more or less', () => {
  expect(worldOf(site)).toEqual(worldBefore);
  for (const { user, pool, qemu, iso } of [hers, his]) {
    const truth = site.truth([qemu, qemu + 1, qemu + 2]);
    const files = [iso, `local:vztmpl/${templateOf({ iso })}`].map((volid) => site.cluster.volumes.get('n1', volid));
    const local = files.reduce((sum, file) => sum + (file?.bytes ?? 0), 0);
    const held = { ...truth, 'storage:local': local, [`backups ${qemu}`]: 1, [`backups ${qemu + 1}`]: 1 };
    expect(site.booked(pool), user).toEqual(held);
  }
});

test('no answer shows anything of hers, of which she is shown plenty', async () => {
  expect(played.filter(({ text }) => text.includes(mark)).map(inWords)).toEqual([]);
  const alice = await PveClient.signIn(site, 'alice');
  const reads = played.filter(({ method, status }) => method === 'GET' && status === 403);
  const shown = new Set<string>();
  for (const { path, params, row } of reads) {
    const { body } = await alice.get(`${path}?${new URLSearchParams(params)}`);
    if (JSON.stringify(body ?? '').includes(mark)) shown.add(row.path);
  }
  expect(shown.size).toBeGreaterThan(8);
});

test("the privileged token's secret is in no answer and in no line of the log", () => {
  const [first, last] = [secret.slice(0, 13), secret.slice(-13)];
  const told = [...played.map(inWords), ...lines].filter((text) => text.includes(first) || text.includes(last));
  expect(told).toEqual([]);
});
