import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:https';
import { createInterface } from 'node:readline';
import type { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { startSimulator } from '../../../simulator/index.ts';

test('a cluster with demo users lets them sign in and see their guests', async () => {
  await using simulator = await startSimulator({ seed: 'demo' });
  const form = (fields: Record<string, string>) => ({ method: 'POST', body: new URLSearchParams(fields) });
  const signedIn = await fetch(
    `${simulator.url}/api2/json/access/ticket`,
    form({ username: 'alice@pve', password: 'alice-demo' }),
  );
  const { data } = (await signedIn.json()) as { data: { ticket: string } };
  const answer = await fetch(`${simulator.url}/api2/json/cluster/resources?type=vm`, {
    headers: { cookie: `PVEAuthCookie=${encodeURIComponent(data.ticket)}` },
  });
  const resources = (await answer.json()) as { data: { vmid: number; pool: string }[] };
  expect(resources.data.length).toBeGreaterThan(0);
  expect(new Set(resources.data.map(({ pool }) => pool))).toEqual(new Set(['alice']));
});

test('TLS comes with a certificate that can be trusted or pinned', async () => {
  await using simulator = await startSimulator({ tls: true });
  const { ca, fingerprint, url } = simulator;
  const call = request(`${url}/api2/json/access/domains`, { agent: false, ...(ca && { ca }) });
  call.end();
  const [response] = await once(call, 'response');
  expect(response.statusCode).toBe(200);
  expect((response.socket as TLSSocket).getPeerCertificate().fingerprint256).toBe(fingerprint);
  response.resume();

  simulator.faults.add({ kind: 'resetBefore' });
  const lost = request(`${url}/api2/json/access/domains`, { agent: false, ...(ca && { ca }) });
  lost.end();
  await expect(once(lost, 'response')).rejects.toThrow('socket hang up');
});

test('its state outlives a stop', async () => {
  await using simulator = await startSimulator();
  const { size } = simulator.cluster.nodes;
  await simulator.stop();
  await simulator.start();
  expect((await fetch(`${simulator.url}/api2/json/access/domains`)).status).toBe(200);
  expect(simulator.cluster.nodes.size).toBe(size);
  expect((await simulator.waitForRequest(({ status }) => status === 200)).path).toBe('/access/domains');
});

describe('as a process', () => {
  const program = new URL('../../../simulator/main.ts', import.meta.url).pathname;
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  function run(...options: string[]) {
    const child = spawn(process.execPath, [program, ...options], { stdio: 'pipe' });
    children.push(child);
    return child;
  }

  async function firstLine(stream: NodeJS.ReadableStream | null): Promise<string> {
    if (stream === null) throw new Error('no such stream');
    const [line] = await once(createInterface(stream), 'line');
    return line;
  }
  async function exitOf(child: ChildProcess): Promise<number | null> {
    if (child.exitCode === null) await once(child, 'exit');
    return child.exitCode;
  }

  test('it says where it listens, says so when the port is taken, and ends on SIGTERM', async () => {
    const first = run('--port', '0', '--guests', '10');
    const line = await firstLine(first.stdout);
    expect(line).toMatch(/^simulated PVE cluster: http:\/\/localhost:\d+ \(3 nodes, 10 guests\)$/);
    const second = run('--port', /:(\d+) /.exec(line)?.[1] ?? '');
    expect(await firstLine(second.stderr)).toMatch(/^cannot start: address already in use 127\.0\.0\.1:\d+$/);
    expect(await exitOf(second)).toBe(1);
    first.kill('SIGTERM');
    expect(await exitOf(first)).toBe(0);
  });
});
