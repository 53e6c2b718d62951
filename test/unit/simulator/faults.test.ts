import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Fault } from '../../../simulator/faults.ts';
import type { MethodRow } from '../../../simulator/method.ts';
import { startWire } from './wire.ts';

const put = 'PUT /api2/json/act/7';

/** A daemon with one method that counts how often it acted. */
async function startActing() {
  const acted: unknown[] = [];
  const act: MethodRow = {
    ...{ method: 'PUT', path: '/act/{id}', permissions: { user: 'all' }, parameters: {} },
    run({ fault }) {
      acted.push(fault?.kind);
      return 'done';
    },
  };
  const wire = await startWire({ rows: [act] });
  return Object.assign(wire, { acted });
}

describe('a call', () => {
  test('can be refused without acting, so many times', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'refuse', status: 500, reason: 'got no worker', times: 2 });
    const answers = [await wire.ask(put), await wire.ask(put), await wire.ask(put)];
    expect(answers.map(({ status }) => status)).toEqual([500, 500, 200]);
    expect(answers[0]?.reason).toBe('got no worker');
    expect(wire.acted.length).toBe(1);
  });

  test('can act and be refused all the same', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'refuseAfter', status: 596, reason: 'Connection timed out' });
    expect((await wire.ask(put)).status).toBe(596);
    expect(wire.acted.length).toBe(1);
  });

  test.each<[Fault['kind'], number]>([
    ['resetBefore', 0],
    ['resetAfter', 1],
  ])('can lose its answer by %s', async (kind, times) => {
    await using wire = await startActing();
    wire.faults.add({ kind } as Fault);
    await expect(wire.ask(put)).rejects.toThrow('ECONNRESET');
    expect(wire.acted.length).toBe(times);
  });

  test('can hang without acting', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'hang' });
    const answer = wire.ask(put).catch(() => 'cut');
    expect(await Promise.race([answer, sleep(50).then(() => 'silence')])).toBe('silence');
    await wire.daemon.stop();
    expect(await answer).toBe('cut');
    expect(wire.acted.length).toBe(0);
  });

  test('can act late, though nobody waits any more', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'delay', ms: 60 });
    const answer = wire.ask(put);
    await sleep(20);
    expect(wire.acted.length).toBe(0);
    expect((await answer).status).toBe(200);
  });

  test('that waits never acts once the daemon has been stopped', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'delay', ms: 60 });
    const answer = wire.ask(put).catch(() => 'cut');
    await wire.log.waitFor(({ caller }) => caller !== '');
    await wire.daemon.stop();
    await wire.daemon.start();
    expect(await answer).toBe('cut');
    await sleep(80);
    expect(wire.acted.length).toBe(0);
  });

  test('can be answered with half a JSON text, or a very long one', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'wrongJson' });
    wire.faults.add({ kind: 'hugeAnswer', bytes: 300_000 });
    const broken = await wire.ask(put);
    expect(broken).toMatchObject({ status: 200, json: undefined });
    expect((await wire.ask(put)).body.length).toBe(300_011);
  });

  test('can be told what should go wrong inside', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'partial', keys: 1, status: 400, reason: 'no' });
    await wire.ask(put);
    expect(wire.acted).toEqual(['partial']);
  });
});

test('an answer without end goes on until the client leaves', async () => {
  await using wire = await startActing();
  wire.faults.add({ kind: 'endlessAnswer' });
  const url = `http://127.0.0.1:${wire.daemon.port}/api2/json/act/7`;
  const response = await fetch(url, { method: 'PUT', headers: { authorization: wire.token } });
  const reader = response.body?.getReader();
  let bytes = 0;
  while (bytes < 5_000_000) bytes += (await reader?.read())?.value?.length ?? 0;
  await reader?.cancel();
});

describe('faults', () => {
  test('are chosen by method, template or path, and by count', async () => {
    await using wire = await startActing();
    const refuse = { kind: 'refuse', status: 500, reason: 'x' } as const;
    wire.faults.add({ ...refuse, method: 'GET' });
    wire.faults.add({ ...refuse, path: '/other' });
    wire.faults.add({ ...refuse, path: '/act/{id}', after: 1 });
    wire.faults.add({ ...refuse, path: /\/9$/ });
    const statuses = [];
    for (const line of [put, put, put, put.replace('7', '9'), put]) statuses.push((await wire.ask(line)).status);
    expect(statuses).toEqual([200, 500, 200, 500, 200]);
  });

  test('can be taken back', async () => {
    await using wire = await startActing();
    wire.faults.add({ kind: 'refuse', status: 500, reason: 'x', times: Number.POSITIVE_INFINITY });
    expect((await wire.ask(put)).status).toBe(500);
    wire.faults.clear();
    expect((await wire.ask(put)).status).toBe(200);
  });

  test('can take a node away, or it can be switched off', async () => {
    await using wire = await startWire();
    const config = (node: string) => wire.ask(`GET /api2/json/nodes/${node}/qemu/100/config`);
    wire.faults.add({ kind: 'nodeGone', node: 'n2', times: 2 });
    expect((await config('n1')).status).toBe(200);
    expect(await config('n2')).toMatchObject({ status: 595, reason: 'No route to host' });
    expect((await config('n2')).status).toBe(595);
    expect((await config('n2')).status).toBe(200);
    const node = wire.cluster.nodes.get('n2');
    if (node) node.online = false;
    expect((await config('n2')).status).toBe(595);
  });
});
