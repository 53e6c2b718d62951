/** The privileged token is a canary: whatever goes well or wrong, nobody but PVE is shown it. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Fault } from '../../simulator/faults.ts';
import { type ConsoleOffer, NotUpgraded, openConsole } from '../support/console-socket.ts';
import type { Belongings } from '../support/foreign-calls.ts';
import { keepLog } from '../support/kept-log.ts';
import { ticketOf } from '../support/pve-client.ts';
import { type Client, type Site, secret } from '../support/site.ts';
import { startTwoTenants } from '../support/two-tenants.ts';

const { log, lines } = keepLog();
const shown: string[] = [];

let site: Site;
let his: Belongings;
let headers: Readonly<Record<string, string>>;

beforeAll(async () => {
  ({ site, his } = await startTwoTenants({
    ...{ log, hold: 0.1, taskWait: 1, deadlines: { read: 1, write: 1 } },
    config: { limits: { uploads: { bytes: 4096, idle: 1 } } },
  }));
  const { ticket, csrf } = await ticketOf(site, 'bob');
  const cookies = { PVEAuthCookie: ticket, CSRFPreventionToken: csrf, username: his.user, auth: '1' };
  const cookie = Object.entries(cookies).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  headers = { cookie: cookie.join('; '), csrfpreventiontoken: csrf };
});

afterAll(() => site[Symbol.asyncDispose]());

beforeEach(() => {
  shown.length = 0;
});

afterEach(async () => {
  site.simulator.faults.clear();
  await site.settled();
  expect(shown.length).toBeGreaterThan(0);
  // A part of it would be enough to tell: a text may be cut.
  const parts = [secret.slice(0, 13), secret.slice(-13), Buffer.from(secret).toString('base64').slice(4, 24)];
  const told = [...shown, ...lines].filter((text) => parts.some((part) => text.includes(part)));
  expect(told).toEqual([]);
});

/** Sends a request and writes down all that comes back. */
async function ask(
  method: string,
  path: string,
  body?: Readonly<Record<string, string | number>> | FormData,
  more: Readonly<Record<string, string>> = headers,
): Promise<number> {
  const form =
    body instanceof FormData ? body : new URLSearchParams(Object.entries(body ?? {}).map(([k, v]) => [k, `${v}`]));
  try {
    const response = await fetch(site.url + path, {
      method,
      headers: more,
      ...(method === 'GET' || method === 'DELETE' ? {} : { body: form }),
    });
    shown.push([response.statusText, ...[...response.headers].flat(), await response.text()].join('\n'));
    return response.status;
  } catch (error) {
    shown.push(String(error));
    return 0;
  }
}

const prefixes = ['/api2/json', '/api2/extjs', '/api/proxmox'];

/** Calls for which the server shows PVE its token. */
async function askForLifts(vmid: number): Promise<readonly number[]> {
  const vm = `/nodes/n1/qemu/${his.qemu}`;
  const calls: readonly [string, string, Readonly<Record<string, string | number>>?][] = [
    ['PUT', `${vm}/config`, { cores: 2, description: 'canary' }],
    ['POST', '/nodes/n1/qemu', { vmid, cores: 1, memory: 512 }],
    ['POST', `${vm}/snapshot`, { snapname: `at${vmid}` }],
    ['POST', `/nodes/n1/lxc/${his.lxc}/clone`, { newid: vmid + 1 }],
    ['DELETE', `/nodes/n1/qemu/${vmid}`],
    ['GET', '/cluster/nextid'],
    ['GET', '/nodes/n1/tasks'],
    ['GET', '/access/permissions'],
    ['GET', `/nodes/n1/tasks/${encodeURIComponent(his.upid)}/log`],
  ];
  const statuses: number[] = [];
  for (const [index, [method, path, body]] of calls.entries())
    statuses.push(await ask(method, `${prefixes[index % prefixes.length]}${path}`, body));
  await site.settled();
  return statuses;
}

test('when all goes well', async () => {
  const statuses = await askForLifts(240);
  expect(statuses.filter((status) => status !== 200)).toEqual([]);
  expect(site.simulator.requests.some(({ viaToken, method }) => viaToken && method === 'POST')).toBe(true);
});

test.each<Fault>([
  { kind: 'refuse', status: 500, reason: 'got no worker upid - start worker failed' },
  { kind: 'refuse', status: 401, reason: 'no such token' },
  { kind: 'refuseAfter', status: 596, reason: 'Broken pipe' },
  { kind: 'resetBefore' },
  { kind: 'resetAfter' },
  { kind: 'wrongJson' },
  { kind: 'hugeAnswer', bytes: 2_000_000 },
  { kind: 'hang' },
  { kind: 'nodeGone', node: 'n1' },
  { kind: 'taskFails', message: 'no space left', halfWay: true },
])('when PVE fails: %j', async (fault) => {
  for (const after of [0, 2]) {
    const times = fault.kind === 'hang' ? 1 : 2;
    site.simulator.faults.add({ ...fault, times, after, path: /^\/(?!access\/permissions)/ });
    await askForLifts(242);
    site.simulator.faults.clear();
  }
});

test('when somebody signs in, well or not', async () => {
  const credentials = { username: 'bob@pve', password: 'bob-secret' };
  for (const prefix of ['/api2/json', '/api2/extjs', '/api'])
    for (const body of [
      credentials,
      { ...credentials, password: 'wrong' },
      { username: 'quota-proxy@pve', password: secret.slice(0, 8) },
      { username: 'quota-proxy@pve!gate', password: 'x' },
      { ...credentials, path: '/', privs: 'VM.Audit' },
    ])
      await ask('POST', `${prefix}/access/ticket`, body, {});
  await ask('GET', '/api2/json/version', undefined, { authorization: 'PVEAPIToken=quota-proxy@pve!gate=x' });
  await ask('GET', '/api2/json/access/users/quota-proxy%40pve/token/gate');
  await ask('PUT', '/api2/json/access/users/quota-proxy%40pve/token/gate', { regenerate: 1 });
});

test('when files are sent, well or not', async () => {
  const upload = '/nodes/n1/storage/local/upload';
  const faults: readonly (Fault | null)[] = [
    null,
    { kind: 'resetBefore' },
    { kind: 'resetAfter' },
    { kind: 'refuse', status: 500, reason: 'no space' },
  ];
  for (const prefix of prefixes)
    for (const fault of faults)
      for (const [name, bytes] of [
        ['canary.iso', 100],
        ['canary.exe', 100],
        ['large.iso', 5000],
      ] as const) {
        if (fault !== null) site.simulator.faults.add({ ...fault, path: /\/upload$/ });
        const form = new FormData();
        form.append('content', 'iso');
        form.append('filename', new Blob([new Uint8Array(bytes)]), name);
        await ask('POST', prefix + upload, form);
        site.simulator.faults.clear();
      }
  await site.settled();
  expect(site.booked('bob')['storage:local']).toBe(1024 + 100);
});

test('when a console is opened, well or not', async () => {
  const vm = `/nodes/n1/qemu/${his.qemu}`;
  const offered = await fetch(`${site.url}/api2/json${vm}/vncproxy`, { method: 'POST', headers });
  const { data } = (await offered.json()) as { readonly data: ConsoleOffer };
  shown.push(JSON.stringify(data));
  {
    await using viewer = await openConsole(site, vm, data, { headers });
    viewer.socket.send('canary');
    viewer.socket.close();
    shown.push(viewer.heard.toString('latin1'));
  }
  for (const wrong of [
    { ...data, ticket: 'PVEVNC:x' },
    { ...data, port: '5999' },
  ]) {
    const refusal = await openConsole(site, vm, wrong, { headers }).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(NotUpgraded);
    shown.push(String(refusal));
  }
});

test('when a dashboard is used, and its pages fail', async () => {
  const bob: Client = await site.signIn('bob');
  for (const path of ['/user/dynamic-resources', '/cluster/nodes', '/global/config/resources', '/sync/hash', '/x']) {
    const { status, body } = await bob.get(path);
    shown.push(`${status} ${JSON.stringify(body)}`);
    site.simulator.faults.add({ kind: 'wrongJson', times: 3 });
  }
});

test('when PVE takes the token no longer, and when PVE is away', async () => {
  const { access } = site.cluster;
  access.removeToken('quota-proxy@pve', 'gate');
  expect((await askForLifts(246))[0]).toBeGreaterThanOrEqual(400);
  await site.server.rounds.all().catch(() => {});
  access.addToken('quota-proxy@pve', 'gate', { privsep: false, secret });
  await site.simulator.stop();
  expect((await askForLifts(248))[0]).toBeGreaterThanOrEqual(500);
  await site.server.rounds.all().catch(() => {});
  await site.simulator.start();
  expect(lines.length).toBeGreaterThan(10);
});

test('when somebody looks into the database', async () => {
  for (const file of ['site.db', 'site.db-wal']) shown.push(await readFile(join(site.directory, file), 'latin1'));
});
