import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { PveClient, type PveReply, ticketOf } from '../support/pve-client.ts';
import { rawConnection } from '../support/raw.ts';
import { blamedBy } from '../support/refusals.ts';
import { GiB, MiB, type Site, secret, startSite, until } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 8 * GiB, ceph: 64 * GiB, local: 64 * GiB } as const;
const guest = '/nodes/n1/qemu/100';
const large = '/nodes/n1/qemu/102';
const ostemplate = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

let site: Site;
let alice: PveClient;

beforeAll(async () => {
  site = await startSite({
    users: { alice: limits, mallory: limits, carol: { ...limits, ceph: 32 * GiB }, root: { admin: true } },
  });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { name: 'web', cores: 1, memory: '512' } });
  const disk = { scsi0: 'ceph:vm-102-disk-0,size=30G' };
  addGuest(site.cluster, {
    vmid: 102,
    pool: 'carol',
    status: 'running',
    config: { cores: 6, memory: '1024', ...disk },
  });
  await site.refresh();
  alice = await PveClient.signIn(site, 'alice');
});
afterAll(() => site[Symbol.asyncDispose]());
beforeEach(() => site.settled());

/** What reached PVE and would change something, while this ran. */
async function changesAtPve(act: () => Promise<unknown>): Promise<readonly string[]> {
  const from = site.simulator.requests.length;
  await act();
  const changes = site.simulator.requests
    .slice(from)
    .filter(({ method, path }) => method !== 'GET' && path !== '/version');
  return changes.map(({ method, path }) => `${method} ${path}`);
}

async function ended(client: PveClient, upid: string): Promise<string> {
  let exitstatus = '';
  await until('the task ends', async () => {
    const { body } = await client.get(`/nodes/n1/tasks/${encodeURIComponent(upid)}/status`);
    exitstatus = body.data.exitstatus;
    return body.data.status === 'stopped';
  });
  return exitstatus;
}

describe('a session as with PVE itself', () => {
  test('lists, creates, configures, resizes, starts, and deletes', async () => {
    for (const root of ['', '/']) expect((await alice.get(root)).body.data).toContainEqual({ subdir: 'nodes' });
    expect((await alice.get('/version')).body.data.version).toMatch(/^\d/);
    expect((await alice.get('/nodes')).body.data.map(({ node }: { node: string }) => node)).toEqual(['n1', 'n2', 'n3']);
    const disk = { scsi0: 'ceph:8', boot: 'order=scsi0' };
    const created = await alice.post('/nodes/n1/qemu', { vmid: 200, name: 'db', cores: 2, memory: 1024, ...disk });
    expect([created.status, created.reason, created.body]).toEqual([
      200,
      'OK',
      { data: expect.stringMatching(/^UPID:n1:/) },
    ]);
    expect(await ended(alice, created.body.data)).toBe('OK');
    await site.settled();
    const { body } = await alice.get('/nodes/n1/qemu/200/config');
    expect(body.data).toMatchObject({ name: 'db', cores: 2, boot: 'order=scsi0' });

    const config = '/nodes/n1/qemu/200/config';
    expect((await alice.put(config, { cores: 4, description: 'a=1; b=2 & ü\nmore' })).body).toEqual({ data: null });
    expect((await alice.get(config)).body.data).toMatchObject({ cores: 4, description: 'a=1; b=2 & ü\nmore' });
    expect((await alice.put('/nodes/n1/qemu/200/resize', { disk: 'scsi0', size: '+4G' })).status).toBe(200);
    await site.settled();
    expect(site.booked('alice')).toMatchObject({ cores: 5, 'storage:ceph': 12 * GiB });

    expect(await ended(alice, (await alice.post('/nodes/n1/qemu/200/status/start')).body.data)).toBe('OK');
    expect(await ended(alice, (await alice.post('/nodes/n1/qemu/200/status/stop')).body.data)).toBe('OK');
    expect(await ended(alice, (await alice.delete('/nodes/n1/qemu/200?purge=1')).body.data)).toBe('OK');
    await site.settled();
    expect(site.booked('alice')).toEqual({ cores: 1, memory: 512 * MiB });
  });

  test('makes a container, and gives its resources back', async () => {
    const size = { cores: 1, memory: 512, swap: 256, rootfs: 'ceph:4' };
    const created = await alice.post('/nodes/n1/lxc', { vmid: 220, hostname: 'ct', ostemplate, ...size });
    expect(await ended(alice, created.body.data)).toBe('OK');
    await site.settled();
    expect(site.booked('alice')).toMatchObject({ cores: 2, swap: 256 * MiB, 'storage:ceph': 4 * GiB });
    expect((await alice.get('/nodes/n1/lxc/220/config')).body.data).toMatchObject({ hostname: 'ct', unprivileged: 1 });
    expect(await ended(alice, (await alice.delete('/nodes/n1/lxc/220')).body.data)).toBe('OK');
    await site.settled();
    expect(site.booked('alice')).toMatchObject({ cores: 1 });
  });

  test('takes JSON, a ticket in Authorization, and parameters in the query', async () => {
    const { ticket, csrf } = await ticketOf(site, 'alice');
    const client = new PveClient(site, { authorization: `PVEAuthCookie=${ticket}`, csrfpreventiontoken: csrf });
    const changed = await client.put(`${guest}/config?_dc=17`, {}, { json: { cores: 2, onboot: true, name: null } });
    expect([changed.status, changed.body]).toEqual([200, { data: null }]);
    expect((await client.get(`${guest}/config`)).body.data).toMatchObject({ cores: 2, onboot: 1, name: 'web' });
    expect((await client.put(`${guest}/config?cores=1`, { onboot: 0 })).status).toBe(200);
    expect((await client.get(`${guest}/config`)).body.data).toMatchObject({ cores: 1, onboot: 0 });
  });

  test('may repeat in its parameters what stands in the path, and nothing else', async () => {
    expect((await alice.put(`${guest}/config`, { node: 'n1', vmid: 100, cores: 1 })).status).toBe(200);
    const twice = await alice.put(`${guest}/config`, { vmid: 101, cores: 1 });
    expect([twice.status, twice.body.errors]).toEqual([400, { vmid: expect.stringContaining('duplicate parameter') }]);
  });

  test('shows each user what PVE shows them', async () => {
    const mallory = await PveClient.signIn(site, 'mallory');
    expect((await mallory.get('/cluster/resources?type=vm')).body).toEqual({ data: [] });
    const { status, reason, body } = await mallory.get(`${guest}/config`);
    expect([status, body.data]).toEqual([403, null]);
    expect(reason).toBe('Permission check failed (/vms/100, VM.Audit)');
    expect(body.message).toBe(`${reason}\n`);
    expect((await mallory.put(`${guest}/config`, { cores: 1 })).status).toBe(403);
    expect((await mallory.delete(guest)).status).toBe(403);
  });
});

describe('what exceeds the quota', () => {
  const sentence = /^Quota exceeded: cores: 63 more requested, 7 left/;

  test('is refused in the status line, in message and by parameter, and PVE never hears of it', async () => {
    let refused: PveReply | undefined;
    const changes = await changesAtPve(async () => {
      refused = await alice.put(`${guest}/config`, { cores: 64 });
    });
    expect(changes).toEqual([]);
    expect(refused).toMatchObject({
      status: 403,
      reason: expect.stringMatching(sentence),
      body: {
        data: null,
        message: expect.stringMatching(sentence),
        errors: { cores: expect.stringMatching(/63 more/) },
      },
    });
    expect(refused?.body.message).toMatch(/\n$/);
  });

  test.each<[string, string, Readonly<Record<string, string | number>>, readonly string[]]>([
    ['PUT', `${large}/config`, { cores: 8, sockets: 2, memory: 512 }, ['cores', 'sockets']],
    ['PUT', `${large}/config`, { net3: 'virtio,bridge=vmbr0', scsi5: 'fast:1', name: 'x' }, ['net3', 'scsi5']],
    ['POST', '/nodes/n1/qemu', { vmid: 201, memory: 99_999, hostpci0: '0000:41:00' }, ['memory', 'hostpci0']],
    ['POST', '/nodes/n1/qemu', { vmid: 201, memory: 512, cdrom: 'ceph:99,media=disk' }, ['cdrom']],
    [
      'POST',
      '/nodes/n1/lxc',
      { vmid: 201, ostemplate, rootfs: '65', storage: 'ceph', cores: 1 },
      ['rootfs', 'storage'],
    ],
    ['POST', `${large}/clone`, { newid: 201, name: 'copy' }, ['newid']],
    ['POST', `${large}/clone`, { newid: 201, full: 1, storage: 'fast' }, ['newid', 'storage']],
    ['PUT', `${large}/resize`, { disk: 'scsi0', size: '+40G' }, ['size']],
    ['POST', `${large}/move_disk`, { disk: 'scsi0', storage: 'fast' }, ['storage']],
    ['POST', `${large}/snapshot`, { snapname: 'later', vmstate: 1 }, ['vmstate']],
  ])('is said by the parameters of the call: %s %s %j by %j', async (method, path, params, fields) => {
    const carol = await PveClient.signIn(site, 'carol');
    const answer = await carol.send(method, path, params);
    expect(answer.reason).toMatch(/^Quota exceeded/);
    expect(blamedBy(answer, path, params)).toEqual(expect.arrayContaining([...fields]));
    expect(blamedBy(answer, path, params)).toHaveLength(fields.length);
  });

  test('is a 200 without success in extjs', async () => {
    const { status, body } = await alice.put(`${guest}/config`, { cores: 64 }, { format: 'extjs' });
    expect(status).toBe(200);
    expect(body).toMatchObject({ success: 0, status: 403, data: null, message: expect.stringMatching(sentence) });
    expect(body.errors).toEqual({ cores: expect.stringMatching(/63 more/) });
    const read = await alice.get(`${guest}/config`, { format: 'extjs' });
    expect(read.body).toMatchObject({ success: 1, data: { name: 'web' } });
  });

  test('is refused whichever way the request says it', async () => {
    for (const send of [
      () => alice.put(`${guest}/config?cores=64`),
      () => alice.put(`${guest}/config`, {}, { json: { cores: 64 } }),
      () => alice.post(`${guest}/config`, { cores: '+64' }),
      () => alice.post('/nodes/n1/qemu', { vmid: 201, cores: 64, memory: 512 }),
    ])
      expect((await send()).status).toBeGreaterThanOrEqual(400);
    expect(site.booked('alice')).toMatchObject({ cores: 1 });
  });
});

describe('an API token', () => {
  test('has the rights of the token and the quota of its user', async () => {
    const bare = PveClient.withToken(site, 'alice@pve', 'bare');
    expect((await bare.get(`${guest}/config`)).status).toBe(403);
    expect((await bare.post('/nodes/n1/qemu', { vmid: 210, cores: 1, memory: 512 })).status).toBe(403);

    const ci = PveClient.withToken(site, 'alice@pve', 'ci');
    site.cluster.access.setAcl('/pool/alice', { tokens: ['alice@pve!ci'] }, 'QuotaTenant');
    const over = await ci.post('/nodes/n1/qemu', { vmid: 210, cores: 8, memory: 512 });
    expect([over.status, over.reason]).toEqual([403, expect.stringContaining('cores: 8 more requested, 7 left')]);
    const created = await ci.post('/nodes/n1/qemu', { vmid: 210, cores: 7, memory: 512 });
    expect(created.status).toBe(200);
    await site.settled();
    expect(site.booked('alice')).toMatchObject({ cores: 8 });
    await ci.delete('/nodes/n1/qemu/210');
    await site.settled();
    site.cluster.access.removeToken('alice@pve', 'ci');
    expect((await ci.put(`${guest}/config`, { cores: 1 })).status).toBe(401);
  });

  test('without privilege separation has the rights of its user and needs no CSRF token', async () => {
    const full = PveClient.withToken(site, 'alice@pve', 'full', { privsep: false });
    expect((await full.put(`${guest}/config`, { cores: 1 })).status).toBe(200);
  });

  test('that PVE does not know is told so in a status line', async () => {
    const made = new PveClient(site, {
      authorization: 'PVEAPIToken=alice@pve!ci=11111111-2222-4333-8444-555555555555',
    });
    const { status, reason, body } = await made.get('/version');
    expect([status, reason, body]).toEqual([401, 'Authentication failed!', undefined]);
  });
});

describe('who nobody is', () => {
  test.each([
    [{}, 'No ticket'],
    [{ cookie: 'PVEAuthCookie=PVE:alice@pve:00000000::x' }, 'Authentication failed!'],
    [{ authorization: 'Bearer x' }, 'No ticket'],
  ])('with %j is told "%s" and nothing else', async (headers, reason) => {
    for (const format of ['json', 'extjs']) {
      const reply = await new PveClient(site, headers).get('/nodes', { format });
      expect([reply.status, reply.reason, reply.body]).toEqual([401, reason, undefined]);
    }
  });

  test('still sees the realms', async () => {
    const { status, body } = await new PveClient(site, { cookie: 'PVEAuthCookie=old' }).get('/access/domains');
    expect([status, body.data.map(({ realm }: { realm: string }) => realm)]).toEqual([
      200,
      expect.arrayContaining(['pve']),
    ]);
  });

  test.each([
    [{ csrfpreventiontoken: '' }, 401],
    [{ csrfpreventiontoken: '66501A2B:YWJj' }, 401],
    [{ origin: 'https://evil.example' }, 403],
    [{ 'sec-fetch-site': 'cross-site' }, 403],
  ])('changes nothing with %j', async (headers, status) => {
    const { ticket } = await ticketOf(site, 'alice');
    for (const shown of [{}, { cookie: '', authorization: `PVEAuthCookie=${ticket}` }]) {
      const changes = await changesAtPve(async () => {
        const reply = await alice.put(`${guest}/config`, { cores: 1 }, { headers: { ...shown, ...headers } });
        expect(reply.status).toBe(status);
      });
      expect(changes).toEqual([]);
    }
  });
});

describe('an answer', () => {
  test('has the headers of PVE and none of the client', async () => {
    const { headers } = await alice.get('/nodes', { headers: { 'x-canary': 'tweet', pragma: 'x' } });
    expect(Object.fromEntries(headers)).toMatchObject({
      'cache-control': 'max-age=0',
      'content-type': 'application/json;charset=UTF-8',
      pragma: 'no-cache',
      server: 'pve-quota-proxy',
    });
    expect(headers.get('x-canary')).toBeNull();
    expect(headers.getSetCookie()).toEqual([]);
  });

  test('keeps what PVE puts beside the data', async () => {
    const upid = (await alice.post(`${guest}/status/start`)).body.data;
    const log = await alice.get(`/nodes/n1/tasks/${upid}/log`);
    expect(log.body).toMatchObject({ total: expect.any(Number), data: expect.any(Array) });
    await alice.post(`${guest}/status/stop`);
  });

  test.each([
    [500, 'unable to find configuration file'],
    [403, 'Permission check failed'],
    [599, 'Too many redirections'],
  ])('of PVE with %i comes back with it', async (status, reason) => {
    const refuse = { kind: 'refuse', status, reason, path: '/nodes/{node}/qemu' } as const;
    site.simulator.faults.add(refuse);
    const reply = await alice.get('/nodes/n1/qemu');
    expect([reply.status, reply.reason, reply.body]).toEqual([status, reason, { data: null, message: `${reason}\n` }]);
    site.simulator.faults.add(refuse);
    const extjs = await alice.get('/nodes/n1/qemu', { format: 'extjs' });
    expect([extjs.status, extjs.body]).toMatchObject([200, { success: 0, status, message: `${reason}\n` }]);
  });

  test('from between the nodes is a status of its own, in whatever format', async () => {
    for (const format of ['json', 'extjs']) {
      site.simulator.faults.add({ kind: 'nodeGone', node: 'n1' });
      const { status, reason, body } = await alice.get('/nodes/n1/qemu', { format });
      expect([status, reason, body.data]).toEqual([595, 'No route to host', null]);
    }
  });

  test('of PVE about parameters comes back by parameter', async () => {
    const errors = { type: "value 'x' does not have a value in the enumeration\n" };
    const reason = 'Parameter verification failed.';
    site.simulator.faults.add({ kind: 'refuse', status: 400, reason, errors, path: '/cluster/resources' });
    const reply = await alice.get('/cluster/resources?type=x');
    expect([reply.status, reply.reason, reply.body]).toEqual([
      400,
      reason,
      { data: null, errors, message: `${reason}\n` },
    ]);
  });

  test('of ours about parameters names each of them', async () => {
    const { status, reason, body } = await alice.put(`${guest}/config`, { args: '-x', lock: 'backup' });
    expect([status, Object.keys(body.errors)]).toEqual([400, ['args', 'lock']]);
    expect(reason).toMatch(/^Parameter verification failed\. args: not allowed/);
  });

  test('that is lost is a gateway error with a sentence', async () => {
    site.simulator.faults.add({ kind: 'resetBefore', path: '/nodes/{node}/qemu', times: 2 });
    const { status, body } = await alice.get('/nodes/n1/qemu');
    expect([status, typeof body.message]).toEqual([502, 'string']);
  });
});

describe('a method that PVE does not have', () => {
  test.each([
    ['GET', '/nodes/n1/nonsense'],
    ['PUT', '/version'],
    ['GET', '/NODES'],
    ['DELETE', ''],
  ])('%s %s is not implemented', async (method, path) => {
    const { status, reason, body } = await alice.send(method, path, undefined);
    expect([status, reason, body.data]).toEqual([
      501,
      `Method '${method} ${path === '' ? '/' : path}' not implemented`,
      null,
    ]);
  });

  test.each(['HEAD', 'OPTIONS', 'PATCH', 'PROPFIND'])('%s is none of its methods', async (method) => {
    const { status, reason } = await alice.send(method, '/nodes', undefined);
    expect([status, reason]).toEqual([501, `method '${method}' not available`]);
  });
});

describe('a request that could be read in two ways', () => {
  /** The status line and body of exactly this request, with alice's ticket. */
  async function exchange(lines: readonly string[], body = ''): Promise<string> {
    const { ticket, csrf } = await ticketOf(site, 'alice');
    const head = [
      ...lines,
      'Host: localhost',
      `Cookie: PVEAuthCookie=${ticket}`,
      `CSRFPreventionToken: ${csrf}`,
      'Connection: close',
    ];
    using connection = await rawConnection(site.url, `${head.join('\r\n')}\r\n\r\n${body}`);
    await connection.closed;
    return connection.received;
  }

  const config = `/api2/json${guest}/config`;
  const put = `PUT ${config} HTTP/1.1`;
  const form = 'Content-Type: application/x-www-form-urlencoded';
  const json = 'Content-Type: application/json';

  test.each<[what: string, lines: readonly string[], body: string, status: number, says: RegExp]>([
    ['a semicolon', [put, form], 'cores=1;cores=64', 400, /%3B/],
    ['a second "="', [put, form], 'description=a=b', 400, /%3D/],
    ['a bare name', [put, form], 'cores=1&cores', 400, /no "="/],
    ['a repeated name', [put, form], 'cores=1&cores=64', 400, /cores: give it once/],
    ['query and body', [`PUT ${config}?cores=64 HTTP/1.1`, form], 'cores=1', 400, /query and in the body/],
    ['JSON keys twice', [put, json], '{"cores":1,"cores":64}', 400, /given twice/],
    ['nested JSON', [put, json], '{"cores":{"a":64}}', 400, /cores: expected a text/],
    ['another content type', [put, 'Content-Type: text/plain'], 'cores=64', 400, /content-type/],
    ['a broken content type', [put, 'Content-Type: ;;'], 'cores=64', 415, /./],
    ['broken UTF-8', [put, form], 'name=%FF', 400, /UTF-8/],
    ['an encoded slash', ['GET /api2/json/nodes%2Fn1%2Fqemu HTTP/1.1'], '', 400, /encoded slash/],
    ['a line feed', [`GET /api2/json/nodes/n1/qemu/100%0A/config HTTP/1.1`], '', 400, /control characters/],
    ['dot segments', ['GET /api2/json/nodes/n1/../../access HTTP/1.1'], '', 400, /dot segments/],
    ['encoded dots', ['GET /api2/json/nodes/%2e%2e/access HTTP/1.1'], '', 400, /dot segments/],
    ['broken encoding', ['GET /api2/json/nodes/%zz HTTP/1.1'], '', 400, /./],
    ['another format', ['GET /api2/html/nodes HTTP/1.1'], '', 400, /json\/ or \/api2\/extjs/],
    ['an unknown format', ['GET /api2/png/nodes HTTP/1.1'], '', 400, /json\/ or \/api2\/extjs/],
    ['a format in capitals', ['GET /API2/JSON/nodes HTTP/1.1'], '', 400, /spelt like this/],
    ['an encoded prefix', ['GET /api2/%6ason/nodes HTTP/1.1'], '', 400, /spelt like this/],
    ['a whole URL', ['GET http://localhost/api2/json/nodes HTTP/1.1'], '', 400, /spelt like this/],
    ['a body on GET', ['GET /api2/json/nodes HTTP/1.1', form], 'a=1', 501, /Unexpected content/],
    ['a body on DELETE', [`DELETE /api2/json${guest} HTTP/1.1`, form], 'purge=1', 501, /Unexpected content/],
    [
      'a chunked body',
      [put, form, 'Transfer-Encoding: chunked'],
      '8\r\ncores=64\r\n0\r\n\r\n',
      501,
      /Transfer-Encoding/,
    ],
    ['a long body', [put, form], `description=${'x'.repeat(3_000_000)}`, 413, /./],
  ])('because of %s is refused, and PVE never hears of it', async (_what, lines, body, status, says) => {
    const length =
      lines.some((line) => line.startsWith('Transfer')) || body === '' ? [] : [`Content-Length: ${body.length}`];
    let received = '';
    const changes = await changesAtPve(async () => {
      received = await exchange([...lines, ...length], body);
    });
    expect(changes.filter((change) => change !== 'POST /access/ticket')).toEqual([]);
    expect(received).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(received).toMatch(says);
    expect(received).not.toContain(secret);
  });

  test('is none with a type of content and no content', async () => {
    for (const action of ['start', 'stop'])
      expect(await exchange([`POST /api2/json${guest}/status/${action} HTTP/1.1`, form])).toMatch(/^HTTP\/1.1 200 OK/);
    expect(await exchange([`DELETE /api2/json${guest}/nonsense HTTP/1.1`, json])).toMatch(/^HTTP\/1.1 501 Method/);
  });

  test('is one with doubled slashes only to others: they mean the same here as in PVE', async () => {
    expect(await exchange(['GET /api2//json//nodes///n1/qemu/100/config/ HTTP/1.1'])).toMatch(/^HTTP\/1.1 200 OK/);
    expect(await exchange([put, form, 'Content-Length: 7'], 'cores=1')).toMatch(/^HTTP\/1.1 200 OK/);
  });
});

test('administrators act with their own rights, and what they do is not refused for a quota', async () => {
  const root = await PveClient.signIn(site, 'root');
  expect((await root.put(`${guest}/config`, { cores: 64 })).status).toBe(200);
  await site.settled();
  expect(site.booked('alice')).toMatchObject({ cores: 64 });
  expect((await alice.put(`${guest}/config`, { cores: 1 })).status).toBe(200);
});

test('a client that hangs up changes nothing about what it began', async () => {
  const { ticket, csrf } = await ticketOf(site, 'alice');
  site.simulator.faults.add({ kind: 'delay', ms: 200, path: '/nodes/{node}/qemu/{vmid}/config', method: 'PUT' });
  const head = `PUT /api2/json${guest}/config HTTP/1.1\r\nHost: x\r\nCookie: PVEAuthCookie=${ticket}\r\nCSRFPreventionToken: ${csrf}`;
  const asked = site.simulator.waitForRequest(({ method, params }) => method === 'PUT' && params.cores === '3');
  const connection = await rawConnection(site.url, `${head}\r\nContent-Length: 7\r\n\r\ncores=3`);
  await asked;
  connection.socket.destroy();
  await site.settled();
  expect(site.booked('alice')).toMatchObject({ cores: 3 });
  expect((await alice.put(`${guest}/config`, { cores: 1 })).status).toBe(200);
});
