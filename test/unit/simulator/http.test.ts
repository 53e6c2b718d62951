import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { MethodRow } from '../../../simulator/method.ts';
import { PveError } from '../../../simulator/pve-error.ts';
import { startWire, talk } from './wire.ts';

const config = '/api2/json/nodes/n1/qemu/100/config';

describe('the path', () => {
  test.each([
    '/api2/json/nodes/n1/qemu/100/config',
    '/api2/json/nodes%2Fn1%2Fqemu%2F100%2Fconfig',
    '/api2/json//nodes///n1/qemu/100/config/',
    '/api2/json/nodes/n1/qemu/100%0A/config',
    '/api2/json/nodes/localhost/qemu/100/config',
    '/api2/json/%6eodes/n1/qemu/100/config?_dc=1',
    '/api2//json/nodes/n1/qemu/100/config',
  ])('%s is the configuration of 100 on n1', async (path) => {
    await using wire = await startWire();
    expect((await wire.ask(`GET ${path}`)).json).toEqual({ data: { node: 'n1', vmid: 100 } });
  });

  test.each([
    '/nodes/n1/qemu/100%252Fconfig',
    '/nodes/n1/qemu/100/config%0A',
    '/nodes/n1/./qemu/100/config',
    '/nodes/n1/x/../qemu/100/config',
    '/nodes/n1/qemu/1%2000/config',
    '/nothing',
  ])('%s is no method', async (path) => {
    await using wire = await startWire();
    const answer = await wire.ask(`GET /api2/json${path}`);
    expect(answer.status).toBe(501);
    expect(answer.reason).toMatch(/^Method 'GET \//);
    expect(answer.json).toMatchObject({ data: null });
  });

  test('what follows content/ is one volume, slashes and all', async () => {
    await using wire = await startWire();
    const answer = await wire.ask('GET /api2/json/nodes/n1/storage/local/content/local:iso/sub%2Fa.iso');
    expect(answer.json).toMatchObject({ data: { volume: 'local:iso/sub/a.iso' } });
  });

  test('a call for another node runs there, one for an unknown node nowhere', async () => {
    await using wire = await startWire();
    const content = (node: string) => wire.ask(`GET /api2/json/nodes/${node}/storage/local/content/x`);
    expect((await content('n2')).json).toMatchObject({ data: { runsOn: 'n2' } });
    expect(await content('n9')).toMatchObject({ status: 500, reason: expect.stringContaining("'n9'") });
  });

  test('a parameter of the path may be repeated in the same words only', async () => {
    await using wire = await startWire();
    expect((await wire.ask(`GET ${config}?vmid=100`)).status).toBe(200);
    expect(await wire.ask(`GET ${config}?vmid=101`)).toMatchObject({
      ...{ status: 400, reason: 'Parameter verification failed.' },
      json: { data: null, errors: { vmid: expect.any(String) } },
    });
  });

  test('with a host in it works for reads alone', async () => {
    await using wire = await startWire();
    expect((await wire.ask('GET http://pve/api2/json/version')).status).toBe(200);
    expect((await wire.ask(`PUT http://pve${config}`, 'cores=1')).status).toBe(400);
  });
});

describe('parameters', () => {
  test('of the query beat those of the body', async () => {
    await using wire = await startWire();
    const answer = await wire.ask(`PUT ${config}?cores=64`, 'cores=1;onboot=1');
    expect(answer.json).toEqual({ data: { node: 'n1', vmid: 100, cores: 64, onboot: 1 } });
  });

  test('end at their second equals sign', async () => {
    await using wire = await startWire();
    const answer = await wire.ask(`POST ${config}`, 'scsi0=local:10,size=5');
    expect(answer.json).toMatchObject({ data: { scsi0: 'local:10,size' } });
  });

  test('that are unknown or wrong are named with the reason', async () => {
    await using wire = await startWire();
    const answer = await wire.ask(`PUT ${config}`, '{"cores":"x","other":1}', ['Content-Type: application/json']);
    expect(answer).toMatchObject({ status: 400, reason: 'Parameter verification failed.' });
    expect(answer.json).toEqual({
      data: null,
      errors: {
        cores: "type check ('integer') failed - got 'x'",
        other: 'property is not defined in schema and the schema does not allow additional properties',
      },
      message: 'Parameter verification failed.\n',
    });
  });

  test('come after permission: who may not call learns nothing of them', async () => {
    const guarded = { method: 'GET', path: '/guarded', permissions: 'root@pam', parameters: {}, run: () => 1 } as const;
    await using wire = await startWire({ rows: [guarded] });
    expect(await wire.ask('GET /api2/json/guarded?x=1')).toMatchObject({
      ...{ status: 403, reason: 'Permission check failed (user != root@pam)' },
    });
  });
});

describe('the body', () => {
  test.each<[string, string, string[], number]>([
    ['of an unknown type', `PUT ${config}`, ['Content-Type: text/plain'], 506],
    ['of a type in other case', `PUT ${config}`, ['Content-Type: Application/JSON'], 506],
    ['in parts', `POST ${config}`, ['Content-Type: multipart/form-data; boundary=x'], 506],
    [
      'with a type that has a suffix',
      `PUT ${config}`,
      ['Content-Type: application/x-www-form-urlencoded;charset=x'],
      200,
    ],
    ['of a GET', `GET ${config}`, [], 501],
    ['of a DELETE', `DELETE ${config}`, [], 501],
  ])('%s: %s %j is answered with %i', async (_, line, headers, status) => {
    await using wire = await startWire();
    expect((await wire.ask(line, 'cores=1', headers)).status).toBe(status);
  });

  test('of nothing is no JSON', async () => {
    await using wire = await startWire();
    expect((await wire.ask(`PUT ${config}`, '', ['Content-Type: application/json'])).status).toBe(500);
  });

  test('may have 512 KiB and no more', async () => {
    await using wire = await startWire();
    const body = (bytes: number) => `scsi0=${'x'.repeat(bytes - 6)}`;
    expect((await wire.ask(`PUT ${config}`, body(512 * 1024))).status).toBe(200);
    expect((await wire.ask(`PUT ${config}`, body(512 * 1024 + 1))).status).toBe(501);
  });

  test('in chunks is refused', async () => {
    await using wire = await startWire();
    const headers = [`Authorization: ${wire.token}`, 'Transfer-Encoding: chunked'];
    expect((await wire.askPlainly(`PUT ${config}`, headers, '3\r\na=1\r\n0\r\n\r\n')).status).toBe(501);
  });
});

describe('headers', () => {
  test('beyond 63 lines or 8 KiB are refused', async () => {
    await using wire = await startWire();
    const lines = (count: number) => Array.from({ length: count }, (_, index) => `X-${index}: 1`);
    expect((await wire.ask('GET /api2/json/version', '', lines(50))).status).toBe(200);
    expect((await wire.ask('GET /api2/json/version', '', lines(64))).status).toBe(400);
    expect((await wire.ask('GET /api2/json/version', '', [`X: ${'x'.repeat(8192)}`])).status).toBe(400);
  });

  test('of an answer are those of the daemon', async () => {
    await using wire = await startWire();
    const { headers } = await wire.ask('GET /api2/json/version');
    expect(Object.fromEntries(headers)).toMatchObject({
      ...{ server: 'pve-api-daemon/3.0', 'cache-control': 'max-age=0', pragma: 'no-cache' },
      'content-type': 'application/json;charset=UTF-8',
    });
  });
});

test.each(['HEAD', 'OPTIONS', 'PATCH'])('%s does not exist', async (method) => {
  await using wire = await startWire();
  expect((await wire.ask(`${method} /api2/json/version`)).status).toBe(501);
});

describe('formats', () => {
  const runs: string[] = [];
  const counted: MethodRow = {
    ...{ method: 'PUT', path: '/counted', permissions: { user: 'all' }, parameters: {} },
    run: () => {
      runs.push('run');
      throw new PveError(500, 'no space');
    },
  };

  test.each([
    ['json', 500],
    ['extjs', 200],
    ['htmljs', 200],
    ['html', 500],
    ['spiceconfig', 500],
    ['png', 500],
  ])('%s runs the method and answers %i for an error', async (format, status) => {
    await using wire = await startWire({ rows: [counted] });
    const before = runs.length;
    expect((await wire.ask(`PUT /api2/${format}/counted`)).status).toBe(status);
    expect(runs.length).toBe(before + 1);
  });

  test('extjs tells success in the body', async () => {
    await using wire = await startWire({ rows: [counted] });
    expect((await wire.ask('PUT /api2/extjs/counted')).json).toEqual({
      ...{ data: null, message: 'no space\n', status: 500, success: 0 },
    });
    expect((await wire.ask('GET /api2/extjs/version')).json).toMatchObject({ success: 1 });
  });

  test('that nobody knows are 501', async () => {
    await using wire = await startWire();
    expect((await wire.ask('GET /api2/xml/version')).status).toBe(501);
  });
});

test('a reason is one line, raw in Latin-1 and otherwise in UTF-8', async () => {
  const failing = (path: string, reason: string): MethodRow => ({
    method: 'GET',
    path,
    permissions: { user: 'all' },
    parameters: {},
    run: () => Promise.reject(new PveError(500, reason)),
  });
  await using wire = await startWire({ rows: [failing('/a', 'kein Gerät\nmehr'), failing('/b', 'voll → Ende')] });
  expect((await wire.ask('GET /api2/json/a')).reason).toBe('kein Gerät');
  expect(Buffer.from((await wire.ask('GET /api2/json/b')).reason, 'latin1').toString()).toBe('voll → Ende');
});

test('long answers are compressed for those who take it', async () => {
  const long = {
    method: 'GET',
    path: '/long',
    permissions: { user: 'all' },
    parameters: {},
    run: () => 'x'.repeat(2000),
  } as const;
  await using wire = await startWire({ rows: [long] });
  expect((await wire.ask('GET /api2/json/long')).headers.get('content-encoding')).toBeUndefined();
  const { socket, heard } = talk(wire.daemon.port);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(
    `GET /api2/json/long HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\nAuthorization: ${wire.token}\r\n\r\n`,
  );
  await heard;
  const all = Buffer.concat(chunks);
  expect(gunzipSync(all.subarray(all.indexOf('\r\n\r\n') + 4)).toString()).toBe(`{"data":"${'x'.repeat(2000)}"}`);
});

describe('a connection', () => {
  const version = (token: string) => `GET /api2/json/version HTTP/1.1\r\nHost: x\r\nAuthorization: ${token}\r\n\r\n`;

  test('ends after a hundred requests', async () => {
    await using wire = await startWire();
    const answers = await wire.send(version(wire.token).repeat(120));
    expect(answers.length).toBe(100);
    expect(answers.at(-1)?.headers.get('connection')).toBe('close');
  });

  test('ends after an error', async () => {
    await using wire = await startWire();
    const answers = await wire.send(version('PVEAPIToken=x') + version(wire.token));
    expect(answers.map(({ status }) => status)).toEqual([401]);
  });
});

describe('signing in', () => {
  const signIn = (body: string) =>
    ['POST /api2/json/access/ticket', [`Content-Length: ${body.length}`, 'Connection: close'], body] as const;
  interface Session {
    readonly ticket: string;
    readonly CSRFPreventionToken: string;
    readonly username: string;
    readonly NeedTFA?: number;
  }

  async function session(wire: Awaited<ReturnType<typeof startWire>>, body: string): Promise<Session> {
    const answer = await wire.askPlainly(...signIn(body));
    expect(answer.status).toBe(200);
    return (answer.json as { data: Session }).data;
  }

  const alice = 'username=alice@pve&password=wonderland';
  const close = 'Connection: close';

  test.each([
    alice,
    'username=alice&realm=pve&password=wonderland',
    'username=alice@pve&password=wonderland&new-format=1',
  ])('%s works', async (body) => {
    await using wire = await startWire();
    expect(await session(wire, body)).toMatchObject({ username: 'alice@pve', cap: { vms: {} } });
  });

  test.each([
    'username=alice@pve&password=wrong',
    'username=nobody@pve&password=wonderland',
    'username=off@pve&password=wonderland',
    'username=old@pve&password=wonderland',
    'username=empty@pve&password=',
  ])('%s fails, and the answer is always the same', async (body) => {
    await using wire = await startWire();
    wire.access.addUser('off@pve', { password: 'wonderland', enable: false });
    wire.access.addUser('old@pve', { password: 'wonderland', expire: 1 });
    wire.access.addUser('empty@pve');
    expect(await wire.askPlainly(...signIn(body))).toMatchObject({ status: 401, reason: 'authentication failure' });
  });

  test('a ticket renews itself, and that of root@pam is good for every name', async () => {
    await using wire = await startWire();
    const { ticket } = await session(wire, alice);
    const again = encodeURIComponent(ticket);
    expect((await session(wire, `username=alice@pve&password=${again}`)).username).toBe('alice@pve');
    expect((await wire.askPlainly(...signIn(`username=root@pam&password=${again}`))).status).toBe(401);
    const root = encodeURIComponent(wire.access.tickets.issue('root@pam', wire.access.seconds));
    expect((await session(wire, `username=alice@pve&password=${root}`)).username).toBe('alice@pve');
  });

  test('a second factor is asked for, and only then there is a ticket', async () => {
    await using wire = await startWire();
    wire.access.setTotp('alice@pve', '123456');
    const half = await session(wire, alice);
    expect(half).toMatchObject({ NeedTFA: 1, ticket: expect.stringMatching(/^PVE:!tfa!/) });
    const cookie = (ticket: string) => [`Cookie: PVEAuthCookie=${encodeURIComponent(ticket)}`, close];
    expect((await wire.askPlainly('GET /api2/json/version', cookie(half.ticket))).status).toBe(401);

    const answerWith = (code: string) =>
      `username=alice@pve&password=${code}&tfa-challenge=${encodeURIComponent(half.ticket)}`;
    expect((await wire.askPlainly(...signIn(answerWith('totp:000000')))).status).toBe(401);
    const whole = await session(wire, answerWith('totp:123456'));
    expect(whole.NeedTFA).toBeUndefined();
    expect((await wire.askPlainly('GET /api2/json/version', cookie(whole.ticket))).status).toBe(200);
  });

  test('with a path only verifies, and gives no ticket', async () => {
    await using wire = await startWire();
    wire.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVETemplateUser');
    const verified = await session(wire, `${alice}&path=/vms/100&privs=VM.Audit`);
    expect(verified).toMatchObject({ username: 'alice@pve' });
    expect(verified.ticket).toBeUndefined();
    expect((await wire.askPlainly(...signIn(`${alice}&path=/vms/100&privs=VM.Allocate`))).status).toBe(401);
    expect((await wire.askPlainly(...signIn(`${alice}&path=/vms/100`))).status).toBe(400);
  });

  test('is refused with an API token', async () => {
    await using wire = await startWire();
    expect((await wire.ask('POST /api2/json/access/ticket', alice)).status).toBe(403);
  });

  test('in realms that ignore case gives the stored name', async () => {
    await using wire = await startWire();
    wire.access.addRealm({ realm: 'corp', type: 'ldap', caseSensitive: false });
    wire.access.addUser('Carol@corp', { password: 'wonderland' });
    expect((await session(wire, 'username=cAROL@corp&password=wonderland')).username).toBe('Carol@corp');
  });

  test.each([
    ['none', [], 401, 'No ticket'],
    ['a bad one', ['Cookie: PVEAuthCookie=PVE:alice@pve:00000000::x'], 401, 'Authentication failed!'],
    ['a bad token', ['Authorization: PVEAPIToken=alice@pve!t=x'], 401, 'Authentication failed!'],
  ])('credential: %s', async (_, headers, status, reason) => {
    await using wire = await startWire();
    const answer = await wire.askPlainly('GET /api2/json/version', [...headers, close]);
    expect(answer).toMatchObject({ status, reason, body: '' });
  });

  test('the cookie beats the ticket in Authorization, which beats a token', async () => {
    await using wire = await startWire();
    wire.access.addUser('bob@pve');
    const now = wire.access.seconds;
    const [alices, bobs] = ['alice@pve', 'bob@pve'].map((user) =>
      encodeURIComponent(wire.access.tickets.issue(user, now)),
    );
    const whoIs = async (...headers: string[]) => {
      await wire.askPlainly('GET /api2/json/version', [...headers, close]);
      return wire.log.entries.at(-1)?.caller;
    };
    expect(await whoIs(`Cookie: PVEAuthCookie=${bobs}`, `Authorization: PVEAuthCookie=${alices}`)).toBe('bob@pve');
    expect(await whoIs(`Cookie: PVEAuthCookie=${bobs}`, `Authorization: ${wire.token}`)).toBe('bob@pve');
    expect(await whoIs(`Cookie: a=1; PVEAuthCookie=${bobs}`)).toBe('bob@pve');
    expect(await whoIs(`Cookie: a=1;PVEAuthCookie=${bobs}`, `Authorization: PVEAuthCookie=${alices}`)).toBe(
      'alice@pve',
    );
    expect(await whoIs(`Authorization: ${wire.token}`)).toBe('alice@pve!t');
    expect(await whoIs(`Authorization: ${wire.token.replace('=', ' ')}`)).toBe('alice@pve!t');
  });

  test('CSRF is looked at before the method: it can be verified without doing anything', async () => {
    await using wire = await startWire();
    const { ticket, CSRFPreventionToken } = await session(wire, alice);
    const cookie = `Cookie: PVEAuthCookie=${encodeURIComponent(ticket)}`;
    const put = (...headers: string[]) => wire.askPlainly('PUT /api2/json/version', [cookie, close, ...headers]);
    expect(await put()).toMatchObject({ status: 401, reason: 'Permission denied - invalid csrf token', body: '' });
    expect((await put('CSRFPreventionToken: 00000000:x')).status).toBe(401);
    expect((await put(`CSRFPreventionToken: ${CSRFPreventionToken}`)).status).toBe(501);
    expect((await wire.ask('PUT /api2/json/version')).status).toBe(501);
  });

  test('a user that is switched off is out at once', async () => {
    await using wire = await startWire();
    wire.access.disable('alice@pve');
    expect((await wire.ask('GET /api2/json/version')).status).toBe(401);
  });
});

describe('permissions', () => {
  test('are shown path by path; 0 only says that they do not propagate', async () => {
    await using wire = await startWire();
    wire.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVETemplateUser', false);
    const ask = (query: string) => wire.ask(`GET /api2/json/access/permissions${query}`);
    expect((await ask('?path=/vms/100')).json).toEqual({ data: { '/vms/100': { 'VM.Audit': 0, 'VM.Clone': 0 } } });
    expect((await ask('?path=/vms/101')).json).toEqual({ data: { '/vms/101': {} } });
    expect((await ask('')).json).toEqual({ data: { '/vms/100': { 'VM.Audit': 0, 'VM.Clone': 0 } } });
  });

  test('of others are shown to auditors; a token is an other to its user', async () => {
    await using wire = await startWire();
    expect((await wire.ask('GET /api2/json/access/permissions?userid=alice@pve')).status).toBe(403);
    wire.access.setAcl('/access', { users: ['alice@pve'] }, 'PVEAuditor');
    expect((await wire.ask('GET /api2/json/access/permissions?userid=root@pam&path=/')).status).toBe(200);
  });

  test('can be given by those who have them', async () => {
    await using wire = await startWire();
    wire.access.addUser('bob@pve');
    const give = (path: string, roles: string) =>
      wire.ask('PUT /api2/json/access/acl', `path=${path}&users=bob@pve&roles=${roles}`);
    expect((await give('/vms/100', 'PVETemplateUser')).status).toBe(403);
    wire.access.setAcl('/vms/100', { users: ['alice@pve'] }, 'PVEVMAdmin');
    expect((await give('/vms/100', 'PVETemplateUser')).status).toBe(200);
    expect((await give('/vms/100', 'NoAccess')).status).toBe(403);
    expect((await give('/vms/100', 'Administrator')).status).toBe(403);
    expect(wire.access.check({ user: 'bob@pve' }, '/vms/100', ['VM.Clone'])).toBe(true);
  });
});

test('requests are written down with caller, parameters and status, and can be waited for', async () => {
  await using wire = await startWire();
  const awaited = wire.log.waitFor(({ path, status }) => path.endsWith('/config') && status > 0);
  await wire.ask(`PUT ${config}?cores=2`, 'onboot=1');
  expect(await awaited).toMatchObject({
    ...{ method: 'PUT', path: '/nodes/n1/qemu/100/config', params: { cores: '2', onboot: '1' } },
    ...{ caller: 'alice@pve!t', viaToken: true, status: 200 },
  });
});

describe('the daemon', () => {
  test('can be stopped and started again on the same port, with all it knew', async () => {
    await using wire = await startWire();
    const { port } = wire.daemon;
    await wire.daemon.stop();
    await expect(wire.ask('GET /api2/json/version')).rejects.toThrow('ECONNREFUSED');
    await wire.daemon.start();
    expect(wire.daemon.port).toBe(port);
    expect((await wire.ask('GET /api2/json/version')).status).toBe(200);
  });

  test('that is paused answers nothing until it goes on', async () => {
    await using wire = await startWire();
    wire.daemon.pause();
    const answer = wire.ask('GET /api2/json/version');
    expect(await Promise.race([answer, sleep(50).then(() => 'silence')])).toBe('silence');
    wire.daemon.resume();
    expect((await answer).status).toBe(200);
  });
});
