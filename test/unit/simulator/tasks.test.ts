import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type TaskRequest, Tasks } from '../../../simulator/tasks.ts';
import { startWire } from './wire.ts';

const caller = { user: 'alice@pve', token: 'alice@pve!t' };
const request = { node: 'n1', type: 'qmcreate', id: '100', caller, run: () => undefined };
const fails = () => {
  throw new Error('no space left\nat all');
};

describe('a task', () => {
  test('has a UPID of its own that says where, when, what and who', () => {
    const tasks = new Tasks(() => 1_700_000_000_000);
    const upids = [tasks.start(request), tasks.start(request)];
    for (const upid of upids) {
      expect(upid).toMatch(/^UPID:n1:[0-9A-F]{8}:[0-9A-F]{8}:6553F100:qmcreate:100:alice@pve!t:$/);
    }
    expect(upids[0]).not.toBe(upids[1]);
  });

  test.each<[string, TaskRequest['run'], string, string]>([
    ['that returns', () => undefined, 'OK', 'TASK OK'],
    ['with warnings', () => 'WARNINGS: 1', 'WARNINGS: 1', 'TASK WARNINGS: 1'],
    ['that throws', fails, 'no space left', 'TASK ERROR: no space left'],
  ])('%s ends so and says so in its log', (_, run, exitstatus, line) => {
    const tasks = new Tasks();
    expect(tasks.get(tasks.start({ ...request, run }))).toMatchObject({ exitstatus, log: [line] });
  });

  test('does its work when it ends: at once, after a time, or when told', async () => {
    const tasks = new Tasks();
    tasks.paces.set('slow', 20).set('manual', 'by hand');
    const done: string[] = [];
    const start = (type: string) => tasks.start({ ...request, type, run: () => void done.push(type) });
    start('quick');
    start('slow');
    const manual = start('manual');
    expect(done).toEqual(['quick']);
    expect(tasks.running(100).map(({ type }) => type)).toEqual(['slow', 'manual']);
    await sleep(60);
    expect(done).toEqual(['quick', 'slow']);
    tasks.finish(manual);
    tasks.finish(manual);
    expect(done).toEqual(['quick', 'slow', 'manual']);
    expect(tasks.running()).toEqual([]);
  });

  test.each<[boolean, string[]]>([
    [true, ['run']],
    [false, ['abandon']],
  ])('that is made to fail (half-way: %s) does: %s', (halfWay, expected) => {
    const tasks = new Tasks();
    const done: string[] = [];
    const start = () =>
      tasks.start({ ...request, run: () => void done.push('run'), abandon: () => void done.push('abandon') });
    const upid = tasks.failing({ message: 'broken pipe', halfWay }, start);
    expect(done).toEqual(expected);
    expect(tasks.get(upid)?.exitstatus).toBe('broken pipe');
    expect(tasks.get(start())?.exitstatus).toBe('OK');
  });

  test('that is stopped has not done its work', () => {
    const tasks = new Tasks(Date.now, 'by hand');
    const upid = tasks.start({ ...request, run: fails });
    tasks.stop(upid);
    expect(tasks.get(upid)?.exitstatus).toBe('received interrupt');
  });
});

describe('over the API', () => {
  const path = (upid: string, what: string) => `/api2/json/nodes/n1/tasks/${encodeURIComponent(upid)}${what}`;

  test('a task shows status and log, page by page', async () => {
    await using wire = await startWire();
    wire.cluster.tasks.pace = 'by hand';
    const upid = wire.cluster.tasks.start({
      ...request,
      run: (log) => {
        for (const line of ['one', 'two']) log(line);
      },
    });
    expect((await wire.ask(`GET ${path(upid, '/status')}`)).json).toMatchObject({
      data: { upid, node: 'n1', type: 'qmcreate', id: '100', user: 'alice@pve', tokenid: 't', status: 'running' },
    });
    wire.cluster.tasks.finish(upid);
    expect((await wire.ask(`GET ${path(upid, '/status')}`)).json).toMatchObject({
      data: { status: 'stopped', exitstatus: 'OK' },
    });
    expect((await wire.ask(`GET ${path(upid, '/log?start=1&limit=1')}`)).json).toEqual({
      data: [{ n: 2, t: 'two' }],
      total: 3,
    });
    expect((await wire.ask(`GET ${path(upid, '/log?download=1')}`)).body).toBe('one\ntwo\nTASK OK\n');
    expect((await wire.ask(`GET ${path(upid, '/log?download=1&start=1')}`)).status).toBe(400);
  });

  test('a token sees its own alone, a user those of its tokens, an auditor all', async () => {
    await using wire = await startWire();
    const { access, cluster } = wire;
    access.addUser('bob@pve');
    const cookie = (user: string) =>
      `Cookie: PVEAuthCookie=${encodeURIComponent(access.tickets.issue(user, access.seconds))}`;
    const status = async (upid: string, header: string) =>
      (await wire.askPlainly(`GET ${path(upid, '/status')}`, [header, 'Connection: close'])).status;
    const ofToken = cluster.tasks.start(request);
    const ofUser = cluster.tasks.start({ ...request, caller: { user: 'alice@pve' } });
    const token = `Authorization: ${wire.token}`;

    expect([await status(ofToken, token), await status(ofUser, token)]).toEqual([200, 403]);
    expect([await status(ofToken, cookie('alice@pve')), await status(ofUser, cookie('alice@pve'))]).toEqual([200, 200]);
    expect(await status(ofToken, cookie('bob@pve'))).toBe(403);
    access.setAcl('/nodes', { users: ['bob@pve'] }, 'PVEAuditor');
    expect(await status(ofToken, cookie('bob@pve'))).toBe(200);
  });

  test('lists hold what one may see and what was asked for', async () => {
    await using wire = await startWire();
    const { tasks } = wire.cluster;
    tasks.start(request);
    tasks.start({ ...request, id: '101', run: fails });
    tasks.start({ ...request, caller: { user: 'root@pam' } });
    tasks.pace = 'by hand';
    tasks.start({ ...request, type: 'qmstart' });
    const list = async (query: string) => {
      const { data } = (await wire.ask(`GET /api2/json/nodes/n1/tasks${query}`)).json as {
        data: { id: string; status: string }[];
      };
      return data.map(({ id, status }) => `${id} ${status}`);
    };
    expect(await list('')).toEqual(['101 no space left', '100 OK']);
    expect(await list('?source=active')).toEqual(['100 RUNNING']);
    expect(await list('?source=all&vmid=100')).toEqual(['100 RUNNING', '100 OK']);
    expect(await list('?statusfilter=error')).toEqual(['101 no space left']);
    expect(await list('?errors=1')).toEqual(['101 no space left']);
    expect(await list('?limit=1&start=1')).toEqual(['100 OK']);
    expect(await list('?source=all&errors=1')).toEqual(['100 RUNNING', '101 no space left']);
    expect(await list('?source=all&statusfilter=OK,unknown')).toEqual(['100 RUNNING', '100 OK']);
    expect([await list('?userfilter=ALICE'), await list('?userfilter=!t')]).toEqual([await list(''), []]);
    const none = (await wire.ask('GET /api2/json/nodes/n1/tasks?limit=0')).json;
    expect(none).toEqual({ data: [], total: 2 });
    expect(await list('?typefilter=qmstart')).toEqual([]);
    expect((await wire.ask('GET /api2/json/cluster/tasks')).json).toEqual({ data: [] });
    wire.access.setAcl('/', { users: ['alice@pve'] }, 'PVEAuditor');
    const { data } = (await wire.ask('GET /api2/json/cluster/tasks')).json as { data: unknown[] };
    expect(data.length).toBe(4);
  });

  test.each([
    ['UPID:n1:x', 'unable to parse worker upid'],
    ['UPID:n1:00000001:00000001:00000001:qmstart:100:root@pam:', 'no such task'],
  ])('%s is told apart', async (upid, fault) => {
    await using wire = await startWire();
    expect((await wire.ask(`GET ${path(upid, '/status')}`)).json).toMatchObject({ errors: { upid: fault } });
  });

  test('one who may can stop a task', async () => {
    await using wire = await startWire();
    wire.cluster.tasks.pace = 'by hand';
    const upid = wire.cluster.tasks.start(request);
    expect((await wire.ask(`DELETE ${path(upid, '')}`)).status).toBe(200);
    expect(wire.cluster.tasks.running()).toEqual([]);
  });
});
