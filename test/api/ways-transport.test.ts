/** Ways past a quota through how a request is written: each says more to PVE than it seems to say. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { expectTruth } from '../support/metered.ts';
import { PveClient, ticketOf } from '../support/pve-client.ts';
import { rawConnection } from '../support/raw.ts';
import { GiB, type Site, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 8 * GiB, network: 2e7, ceph: 64 * GiB } as const;
const config = '/api2/json/nodes/n1/qemu/100/config';

let site: Site;
let alice: PveClient;
let signed: Readonly<Record<string, string>>;

beforeAll(async () => {
  site = await startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, vmid: [200, 299] }, root: { admin: true } },
  });
  for (const [vmid, pool] of [
    [100, 'alice'],
    [200, 'bob'],
  ] as const)
    addGuest(site.cluster, { vmid, pool, config: { cores: 1, memory: 512, scsi0: `ceph:vm-${vmid}-disk-0,size=4G` } });
  await site.refresh();
  alice = await PveClient.signIn(site, 'alice');
  signed = alice.headers;
});

afterAll(() => site[Symbol.asyncDispose]());

afterEach(async () => {
  await site.settled();
  expectTruth(site, 'alice', guestsOf(100));
  expectTruth(site, 'bob', guestsOf(200));
  const {
    cores = 0,
    memory = 0,
    network = 0,
    'storage:ceph': ceph = 0,
    ...others
  } = site.truth(site.cluster.guests.keys());
  expect([cores <= 16, memory <= 16 * GiB, network <= 4e7, ceph <= 128 * GiB, Object.keys(others)]).toEqual([
    ...[true, true, true, true],
    [],
  ]);
});

const guestsOf = (first: number) =>
  [...site.cluster.guests.keys()].filter((vmid) => vmid >= first && vmid < first + 100);

/** What reached PVE and was no read, while this ran; a CSRF token is tried on a method that PVE does not have. */
async function writesWhile(act: () => Promise<unknown>): Promise<readonly string[]> {
  const from = site.simulator.requests.length;
  await act();
  await site.settled();
  const heard = site.simulator.requests
    .slice(from)
    .filter(({ method, path }) => method !== 'GET' && path !== '/access/ticket' && path !== '/version');
  return heard.map(({ method, path, caller }) => `${method} ${path} as ${caller}`);
}

interface Written {
  readonly body?: string;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const asForm = 'application/x-www-form-urlencoded';

/** Sends exactly this request line; the status of the answer, and all of it. */
async function exchange(
  line: string,
  { body = '', type = asForm, headers = signed }: Written = {},
): Promise<{ readonly status: number; readonly text: string }> {
  const more = { host: 'localhost', connection: 'close', ...headers };
  const head = [
    `${line} HTTP/1.1`,
    ...Object.entries(more).map(([name, value]) => `${name}: ${value}`),
    ...(body === '' ? [] : [`content-type: ${type}`, `content-length: ${Buffer.byteLength(body)}`]),
  ];
  using connection = await rawConnection(site.url, `${head.join('\r\n')}\r\n\r\n${body}`);
  await connection.closed;
  return { status: Number(/^HTTP\/1.1 (\d+)/.exec(connection.received)?.[1]), text: connection.received };
}

/** Expects that exactly this is refused, and that PVE does not hear of it. */
async function expectStopped(line: string, written?: Written): Promise<string> {
  let answer = { status: 0, text: '' };
  const writes = await writesWhile(async () => {
    answer = await exchange(line, written);
  });
  expect(answer.status, answer.text).toBeGreaterThanOrEqual(400);
  expect(answer.status, answer.text).toBeLessThan(502);
  expect(writes).toEqual([]);
  return answer.text;
}

describe('a query that overrides the body', () => {
  test.each([
    ['PUT', `${config}?cores=64`, 'cores=1'],
    ['PUT', `${config}?cores=3`, 'cores=2'],
    ['PUT', `${config}?cores=64`, 'name=harmless'],
    ['PUT', `${config}?cores=64`, ''],
    ['POST', `${config}?scsi1=ceph:500`, 'scsi1=ceph:1'],
    ['PUT', '/api2/json/nodes/n1/qemu/100/resize?size=500G', 'disk=scsi0&size=5G'],
    ['POST', '/api2/json/nodes/n1/qemu?memory=65536', 'vmid=150&memory=512'],
    ['POST', '/api2/json/nodes/n1/qemu?vmid=200', 'vmid=150&memory=512'],
    ['PUT', `${config}?vmid=200`, 'cores=2'],
    ['PUT', `${config}?cores=64`, '{"cores":1}', 'application/json'],
  ])('does not get past: %s %s with %j', async (method, path, body, type = asForm) => {
    await expectStopped(`${method} ${path}`, { body, type });
  });
});

describe('a form that others split elsewhere than PVE', () => {
  test.each([
    ['a semicolon', 'cores=1;cores=64'],
    ['a semicolon in a value', 'name=a;cores=64'],
    ['a second equals sign in a harmless value', 'description=a=b'],
    ['a second equals sign', 'scsi1=ceph:500,size=1G'],
    ['a second equals sign at the end', 'cores=64=1'],
    ['a repeated name', 'cores=1&cores=64'],
    ['a bare name that takes the value away', 'cores=1&cores'],
    ['a bare name before the value', 'cores&cores=64'],
    ['an encoded name', 'c%6fres=64'],
    ['a name with a line feed', 'cores%0A=64'],
    ['a name with a NUL', 'cores%00=64'],
    ['a list with a NUL, within which nothing else separates', 'delete=name%00cores%2Cname'],
    ['an empty name', '=64&cores=64'],
    ['brackets as other frameworks take them', 'cores[]=64'],
  ])('does not get past: %s', async (_, body) => {
    await expectStopped(`PUT ${config}`, { body });
    await expectStopped(`PUT ${config}?${body}`);
  });
});

describe('another format of the answer', () => {
  test('that says 200 whatever happens hides no refusal and changes nothing', async () => {
    const writes = await writesWhile(async () => {
      const { status, text } = await exchange(`PUT ${config.replace('json', 'extjs')}`, { body: 'cores=64' });
      expect([status, text]).toEqual([200, expect.stringContaining('"success":0')]);
      expect(text).toContain('cores: 63 more requested');
    });
    expect(writes).toEqual([]);
  });

  test.each(['htmljs', 'html', 'png', 'spiceconfig', 'JSON', 'json.', 'jso%6e', 'json;a'])(
    'that nobody needs does not get past: %s',
    async (format) => {
      await expectStopped(`PUT ${config.replace('json', format)}`, { body: 'cores=64' });
      await expectStopped(`PUT ${config.replace('json', format)}`, { body: 'cores=2' });
    },
  );
});

describe('a path that is cut elsewhere', () => {
  test.each([
    ['encoded slashes', '/api2/json/nodes/n1/qemu%2F100%2Fconfig'],
    ['one encoded slash', '/api2/json/nodes%2Fn1/qemu/100/config'],
    ['slashes encoded twice', '/api2/json/nodes/n1/qemu%252F100/config'],
    ['a line feed behind the vmid', '/api2/json/nodes/n1/qemu/100%0A/config'],
    ['a line feed behind the node', '/api2/json/nodes/n1%0a/qemu/100/config'],
    ['a line feed at the end', `${config}%0A`],
    ['a blank', '/api2/json/nodes/n1/qemu/100%20/config'],
    ['dot segments', '/api2/json/nodes/n1/lxc/../qemu/100/config'],
    ['encoded dot segments', '/api2/json/nodes/n1/lxc/%2e%2E/qemu/100/config'],
    ['a dot', '/api2/json/nodes/n1/./qemu/100/config'],
    ['dots above the API', '/api2/json/../json/nodes/n1/qemu/100/config'],
    ['backslashes', '/api2/json/nodes\\n1\\qemu\\100\\config'],
    ['a vmid with a sign', '/api2/json/nodes/n1/qemu/+100/config'],
    ['a vmid with a zero in front', '/api2/json/nodes/n1/qemu/0100/config'],
    ['digits of another script', '/api2/json/nodes/n1/qemu/%D9%A1%D9%A0%D9%A0/config'],
    ['a whole URL', 'http://localhost/api2/json/nodes/n1/qemu/100/config'],
    ['a path parameter', '/api2/json/nodes/n1/qemu/100;x=1/config'],
  ])('does not get past: %s', async (_, path) => {
    await expectStopped(`PUT ${path}`, { body: 'cores=2' });
    await expectStopped(`PUT ${path}`, { body: 'cores=64' });
  });

  test.each(['//api2//json', '/api2/json/'])(
    'with slashes that PVE skips is the same call, and judged: %s',
    async (prefix) => {
      const path = `${prefix.replace(/^\/\//, '/')}//nodes///n1/qemu//100/config/`;
      await expectStopped(`PUT ${path}`, { body: 'cores=64' });
      expect((await exchange(`PUT ${path}`, { body: 'cores=2' })).status).toBe(200);
    },
  );
});

describe('the node that answers, instead of one by name', () => {
  test.each([
    ['PUT', '/api2/json/nodes/localhost/qemu/100/config', 'cores=2'],
    ['POST', '/api2/json/nodes/localhost/qemu', 'vmid=150&memory=512'],
    ['POST', '/api2/json/nodes/localhost/lxc', 'vmid=150&memory=512'],
    ['DELETE', '/api2/json/nodes/localhost/qemu/100', ''],
    ['PUT', '/api2/json/nodes/LOCALHOST/qemu/100/config', 'cores=2'],
    ['PUT', '/api2/json/nodes/127.0.0.1/qemu/100/config', 'cores=2'],
    ['PUT', '/api2/json/nodes/n2/qemu/100/config', 'cores=2'],
    ['POST', '/api2/json/nodes/n1/qemu/100/clone', 'newid=150&target=localhost'],
    ['POST', '/api2/json/nodes/n1/qemu/100/migrate', 'target=localhost'],
    ['POST', '/api2/json/nodes/n1/migrateall', 'target=localhost&vms=100'],
    ['POST', '/api2/json/nodes/localhost/vzdump', 'vmid=100&storage=shared&remove=0'],
    ['POST', '/api2/json/nodes/localhost/storage/ceph/content', 'vmid=100&filename=vm-100-disk-5&size=1G'],
  ])('is no way around the list of nodes: %s %s %s', async (method, path, body) => {
    await expectStopped(`${method} ${path}`, { body });
  });
});

describe('two credentials in one request', () => {
  const createAt = 'POST /api2/json/nodes/n1/qemu';

  test('are one user, the one whom PVE would take: that one pays, and no credential of the client goes along with the token', async () => {
    const token = `PVEAPIToken=alice@pve!two=${site.cluster.access.addToken('alice@pve', 'two', { privsep: false })}`;
    const bob = await PveClient.signIn(site, 'bob');
    const headers = { ...bob.headers, authorization: token };
    await expectStopped(`PUT ${config}`, { body: 'cores=2', headers });
    const writes = await writesWhile(async () => {
      expect((await exchange(createAt, { body: 'vmid=250&cores=1&memory=512', headers })).status).toBe(200);
    });
    expect(writes).toEqual(['POST /nodes/n1/qemu as quota-proxy@pve!gate']);
    expect(site.booked('bob')).toMatchObject({ cores: 2 });
    await expectStopped(createAt, { body: 'vmid=150&cores=1&memory=512', headers });
  });

  test.each([
    [
      'in Authorization beside the cookie',
      async () => ({ authorization: `PVEAuthCookie=${(await ticketOf(site, 'root')).ticket}` }),
    ],
    [
      'of an API token beside the cookie',
      async () => ({
        authorization: `PVEAPIToken=root@pve!x=${site.cluster.access.addToken('root@pve', 'x', { privsep: false })}`,
      }),
    ],
    [
      'made up',
      async () => ({ authorization: 'PVEAPIToken=quota-proxy@pve!gate=00000000-0000-0000-0000-000000000000' }),
    ],
  ])("an administrator's %s lifts nothing", async (_, more) => {
    await expectStopped(`PUT ${config}`, { body: 'cores=64', headers: { ...signed, ...(await more()) } });
  });

  test.each([
    ['forwarded-for', { 'x-forwarded-for': '127.0.0.1', 'x-remote-user': 'root@pam', 'x-forwarded-user': 'root@pam' }],
    ['a method override', { 'x-http-method-override': 'GET' }],
    ['another path', { 'x-original-url': '/api2/json/version', 'x-rewrite-url': '/api2/json/version' }],
  ])('headers of other proxies say nothing: %s', async (_, more) => {
    await expectStopped(`PUT ${config}`, { body: 'cores=64', headers: { ...signed, ...more } });
  });

  test('of one name are the first, with its own CSRF token', async () => {
    const root = (await PveClient.signIn(site, 'root')).headers.cookie;
    for (const cookie of [`${signed.cookie}; ${root}`, `${root}; ${signed.cookie}`])
      await expectStopped(`PUT ${config}`, { body: 'cores=64', headers: { ...signed, cookie } });
  });
});

describe('a value that PVE reads as more', () => {
  const qemu = (body: string, type = asForm) => [body, type] as const;
  test.each([
    qemu('cores=%2B64'),
    qemu('cores=064'),
    qemu('cores=64%0A'),
    qemu('cores=%2064'),
    qemu('sockets=64'),
    qemu('memory=%2C65536'),
    qemu('memory=65536%2C%2C'),
    qemu('memory=current%3D0%2C65536'),
    qemu('memory=65536%2Ccurrent%3D0'),
    qemu('memory=1e5'),
    qemu('memory=0x10000'),
    qemu('scsi1=size%3D1G%2Cceph%3A500'),
    qemu('scsi1=file%3D0%2Cceph%3A500'),
    qemu('scsi1=ceph%3A500%2Csize%3D1G'),
    qemu('scsi1=ceph%3A5e2'),
    qemu('scsi1=ceph%3A1e3'),
    qemu('scsi1=%2C%2Cceph%3A500'),
    qemu('net1=bridge%3Dvmbr0%2Ce1000'),
    qemu('net1=bridge%3Dvmbr0%2Crate%3D0%2Cvirtio'),
    qemu('net1=rate%3D1e3%2Cvirtio%2Cbridge%3Dvmbr0'),
    qemu('net1=rate%3D0%2Crate%3D500%2Cvirtio%2Cbridge%3Dvmbr0'),
    qemu('{"cores":64}', 'application/json'),
    qemu('{"cores":"64"}', 'application/json'),
    qemu('{"cores":[1,64]}', 'application/json'),
    qemu('{"cores":["64"]}', 'application/json'),
    qemu('{"cores":6.4e1}', 'application/json'),
    qemu('{"cores":{"64":1}}', 'application/json'),
    qemu('{"cores":1,"cores":64}', 'application/json'),
    qemu('{"cores":1,"c\\u006fres":64}', 'application/json'),
    qemu('{"memory":65536}', 'application/json'),
    qemu('[{"cores":64}]', 'application/json'),
    qemu('cores=64', 'application/json'),
    qemu('{"cores":64}', asForm),
    qemu('{"cores":64}', 'Application/JSON'),
    qemu('{"cores":64}', 'text/json'),
    qemu('cores=64', 'multipart/form-data; boundary=x'),
    qemu('{"cores":64}', 'application/json; charset=utf-16'),
    qemu('cores=64', `${asForm}, application/json`),
  ])('does not get past: %s as %s', async (body, type) => {
    await expectStopped(`PUT ${config}`, { body, type });
    await expectStopped(`POST ${config}`, { body, type });
  });

  test.each([
    [
      'sizes',
      '/api2/json/nodes/n1/qemu/100/resize',
      'PUT',
      ['disk=scsi0&size=%2B500G', 'disk=scsi0&size=999999999999', 'disk=scsi0&size=0.5T', 'disk=scsi0&size=500GiB'],
    ],
    [
      "a container's disk",
      '/api2/json/nodes/n1/lxc',
      'POST',
      [
        'vmid=150&ostemplate=shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst&memory=512&cores=1&rootfs=size%3D1G%2Cceph%3A500',
      ],
    ],
  ] as const)('does not get past: %s', async (_, path, method, bodies) => {
    for (const body of bodies) await expectStopped(`${method} ${path}`, { body });
  });

  test.each([
    ['vms=100%2C200', asForm],
    ['vms=100&vms=200', asForm],
    ['vms=100%3B200', asForm],
    ['vms=100%20200', asForm],
    ['vms=100%00200', asForm],
    ['{"vms":[100,200]}', 'application/json'],
    ['{"vms":["100 200"]}', 'application/json'],
    ['{"vms":"100,200"}', 'application/json'],
  ])("a list holds nobody else's guest, however it is written: %s as %s", async (list, type) => {
    const more =
      { true: ['{"to-disk":1,', '"target":"n2",'], false: ['to-disk=1&', 'target=n2&'] }[`${type !== asForm}`] ?? [];
    const with_ = (index: number) => (type === asForm ? `${more[index]}${list}` : list.replace('{', more[index] ?? ''));
    await expectStopped('POST /api2/json/cluster/bulk-action/guest/suspend', { body: with_(0), type });
    await expectStopped('POST /api2/json/cluster/bulk-action/guest/migrate', { body: with_(1), type });
    await expectStopped('POST /api2/json/nodes/n1/migrateall', { body: with_(1), type });
  });

  test('is booked as PVE reads it where it fits', async () => {
    for (const [body, type] of [
      ['{"cores":2,"onboot":true,"memory":"1024","name":null}', 'application/json'],
      ['{"cores":"3"}', 'application/json'],
      ['memory=current%3D2048', asForm],
      ['scsi1=ssd%3D1%2Cceph%3A4', asForm],
      ['net1=rate%3D5%2Cbridge%3Dvmbr0%2Cvirtio', asForm],
    ] as const) {
      const { status, text } = await exchange(`PUT ${config}`, { body, type });
      expect(status, text).toBe(200);
      await site.settled();
      expectTruth(site, 'alice', guestsOf(100));
    }
    expect(site.booked('alice')).toMatchObject({ cores: 3, memory: 2 * GiB, network: 5e6, 'storage:ceph': 8 * GiB });
  });
});
