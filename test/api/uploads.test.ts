import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addVolume, publish } from '../../simulator/administrator.ts';
import { PveClient, type PveReply, ticketOf } from '../support/pve-client.ts';
import { scale } from '../support/scale.ts';
import { GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const path = '/nodes/n1/storage/local/upload';

let site: Site;
let alice: Uploader;
let bob: Uploader;

beforeAll(async () => {
  site = await startSite({
    users: {
      alice: { cores: 4, memory: 8 * GiB, network: 'unlimited', ceph: 64 * GiB, local: 8 * MiB },
      bob: { cores: 4, memory: 8 * GiB, local: 8 * MiB },
      chief: { admin: true },
    },
    config: {
      useriso: { node: 'n1', storage: 'local' },
      limits: { uploads: { bytes: 64 * MiB, total: 3, idle: 1 } },
      tenants: { urls: ['https://images.example.org/*'] },
    },
  });
  alice = await Uploader.of(site, 'alice');
  bob = await Uploader.of(site, 'bob');
});

afterAll(() => site[Symbol.asyncDispose]());

/** A user of both surfaces, and what they send. */
class Uploader {
  readonly pve: PveClient;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(pve: PveClient, headers: Readonly<Record<string, string>>) {
    this.pve = pve;
    this.#headers = headers;
  }

  static async of(site: Site, name: string): Promise<Uploader> {
    const { ticket, csrf } = await ticketOf(site, name);
    return new Uploader(await PveClient.signIn(site, name), {
      cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}; CSRFPreventionToken=${encodeURIComponent(csrf)}`,
      csrfpreventiontoken: csrf,
    });
  }

  /** What dashboards read. */
  readonly dashboard = async (route: string): Promise<readonly { readonly name: string }[]> => {
    const response = await fetch(`${site.url}/api${route}`, { headers: this.#headers });
    return (await response.json()) as { name: string }[];
  };

  /** As a browser sends a form with a file. */
  async send(
    name: string,
    bytes: number,
    {
      fields = { content: 'iso' },
      to = `/api2/json${path}`,
    }: { fields?: Readonly<Record<string, string>>; to?: string } = {},
  ): Promise<PveReply> {
    const form = new FormData();
    for (const [field, value] of Object.entries(fields)) form.append(field, value);
    form.append('filename', new Blob([new Uint8Array(bytes)]), name);
    const response = await fetch(site.url + to, { method: 'POST', headers: this.#headers, body: form });
    const text = await response.text();
    const body = text === '' ? undefined : JSON.parse(text);
    return { status: response.status, reason: response.statusText, headers: response.headers, body };
  }

  /** Announces so many bytes and sends these texts; resolves with the answer, or with what cut it off. */
  raw(length: number, texts: readonly string[], { end = true, type = 'multipart/form-data; boundary=b' } = {}) {
    const { promise, resolve } = Promise.withResolvers<string>();
    const request = httpRequest(`${site.url}/api2/json${path}`, {
      method: 'POST',
      agent: false,
      headers: { ...this.#headers, 'content-type': type, 'content-length': String(length) },
    });
    request.on('error', (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    request.on('response', (response: IncomingMessage) => {
      response.resume();
      resolve(`${response.statusCode} ${response.statusMessage}`);
    });
    for (const text of texts) request.write(text);
    if (end) request.end();
    return { answer: promise, request };
  }
}

const volume = (name: string) => site.cluster.volumes.get('n1', `local:${name}`);

/** What the files of a user take of the quota. */
const held = (name: string) => site.booked(name)['storage:local'] ?? 0;

/** How often PVE was asked to take, or to fetch, a file. */
const heard = () => site.simulator.requests.filter(({ path }) => /\/(?:upload|download-url)$/.test(path)).length;

const field = (name: string, value: string) =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
const opening = (name: string) => `--b\r\nContent-Disposition: form-data; name="filename"; filename="${name}"\r\n\r\n`;
const head = (name: string) => field('content', 'iso') + opening(name);
const tail = '\r\n--b--\r\n';

/** A whole form as `raw` takes it. */
const form = (...texts: readonly string[]) => [texts.join('').length, texts] as const;

test('a tenant uploads a file within the quota, uses it, and has the room back when it is deleted', async () => {
  const reply = await alice.send('my image (1).iso', 3 * MiB);
  expect(reply).toMatchObject({ status: 200, body: { data: expect.stringMatching(/^UPID:.*:imgcopy:/) } });
  await site.settled();
  expect(volume('iso/my_image__1_.iso')).toMatchObject({ bytes: 3 * MiB });
  expect(held('alice')).toBe(3 * MiB);

  const created = await alice.pve.post('/nodes/n1/qemu', {
    ...{ vmid: 100, cores: 1, memory: 512, ide2: 'local:iso/my_image__1_.iso,media=cdrom' },
  });
  expect(created).toMatchObject({ status: 200 });
  const deleted = await alice.pve.delete('/nodes/n1/storage/local/content/local:iso/my_image__1_.iso');
  expect(deleted).toMatchObject({ status: 200 });
  await site.settled();
  expect(volume('iso/my_image__1_.iso')).toBeUndefined();
  expect(held('alice')).toBe(0);
});

test('an upload beyond the quota is refused before PVE hears of it, in the status line too', async () => {
  const before = heard();
  const reply = await alice.send('large.iso', 9 * MiB);
  expect(reply).toMatchObject({ status: 403, body: { data: null } });
  expect(reply.reason).toMatch(/^Quota exceeded: storage local: 9 MiB more requested, 8 MiB left/);
  const extjs = await alice.send('large.iso', 9 * MiB, { to: `/api2/extjs${path}` });
  expect(extjs).toMatchObject({ status: 200, body: { success: 0, status: 403 } });
  const dashboard = await alice.send('large.iso', 9 * MiB, { to: `/api/proxmox${path}` });
  expect(dashboard).toMatchObject({ status: 403, body: { error: expect.stringContaining('Quota exceeded') } });
  expect(heard()).toBe(before);
  expect(held('alice')).toBe(0);
});

test('of two uploads at once, each of which fits alone, one is refused; the other counts until it is broken off', async () => {
  const slow = alice.raw(6 * MiB, [head('slow.iso'), 'x'.repeat(MiB)], { end: false });
  await until('it is under way', () => held('alice') > 5 * MiB);
  expect(await alice.send('second.iso', 5 * MiB)).toMatchObject({ status: 403 });
  expect(await alice.send('slow.iso', MiB)).toMatchObject({ status: 409 });
  expect(await alice.send('small.iso', MiB, { to: `/api/proxmox${path}` })).toMatchObject({ status: 200 });
  slow.request.destroy();
  await site.settled();
  expect([volume('iso/slow.iso'), volume('iso/small.iso')?.bytes]).toEqual([undefined, MiB]);
  expect(held('alice')).toBe(MiB);
  // The name was never a file, so it is free again at once.
  expect(await bob.send('slow.iso', MiB)).toMatchObject({ status: 200 });
});

test('nobody overwrites, uses or deletes the file of another; an own one may be overwritten', async () => {
  expect(await alice.send('mine.iso', 2 * MiB)).toMatchObject({ status: 200 });
  await site.settled();
  const before = heard();
  const taken = await bob.send('mine.iso', MiB);
  expect(taken).toMatchObject({
    status: 400,
    body: { errors: { filename: expect.stringContaining('choose another name') } },
  });
  const used = await bob.pve.post('/nodes/n1/qemu', { vmid: 200, ide2: 'local:iso/mine.iso,media=cdrom' });
  expect(used).toMatchObject({ status: 400, body: { errors: { ide2: expect.stringContaining('not on offer') } } });
  expect(await bob.pve.delete('/nodes/n1/storage/local/content/iso/mine.iso')).toMatchObject({ status: 403 });
  expect(heard()).toBe(before);
  const offered = async ({ dashboard }: Uploader) => (await dashboard('/user/vm-isos')).map(({ name }) => name);
  expect(await offered(alice)).toContain('mine.iso');
  expect(await offered(bob)).not.toContain('mine.iso');

  const booked = held('alice');
  expect(await alice.send('mine.iso', 3 * MiB)).toMatchObject({ status: 200 });
  await site.settled();
  expect(volume('iso/mine.iso')).toMatchObject({ bytes: 3 * MiB });
  expect(held('alice')).toBe(booked + MiB);
});

test("what an administrator puts there is nobody's: on offer to all, and not to be overwritten by tenants", async () => {
  const chief = await Uploader.of(site, 'chief');
  expect(await chief.send('offered.iso', 20 * MiB)).toMatchObject({ status: 200 });
  addVolume(site.cluster, { volid: 'local:iso/by-hand.iso', content: 'iso', bytes: MiB });
  for (const name of ['offered.iso', 'by-hand.iso']) {
    expect(await bob.send(name, MiB)).toMatchObject({ status: 400 });
    expect(await bob.pve.delete(`/nodes/n1/storage/local/content/iso/${name}`)).toMatchObject({ status: 403 });
  }
  expect(volume('iso/offered.iso')).toMatchObject({ bytes: 20 * MiB });
  const created = await bob.pve.post('/nodes/n1/qemu', { vmid: 200, ide2: 'local:iso/offered.iso,media=cdrom' });
  expect(created).toMatchObject({ status: 200 });
  expect(site.booked('chief')).toEqual({});
});

test("files stay their owner's over a restart, and are theirs no longer when they are gone", async () => {
  expect(await bob.send('kept.iso', 2 * MiB)).toMatchObject({ status: 200 });
  await site.settled();
  const booked = held('bob');
  await site.stopServer();
  const node = site.cluster.nodes.get('n1');
  if (node === undefined) throw new Error('there is no n1');
  site.cluster.nodes.set('n1', { ...node, online: false });
  await site.startServer();
  // What cannot be listed now counts as it did.
  expect(held('bob')).toBe(booked);
  site.cluster.nodes.set('n1', node);
  [alice, bob] = [await Uploader.of(site, 'alice'), await Uploader.of(site, 'bob')];
  await site.refresh();
  expect(held('bob')).toBe(booked);
  expect(await alice.send('kept.iso', MiB)).toMatchObject({ status: 400 });
  const kept = volume('iso/kept.iso');
  if (kept !== undefined) site.cluster.volumes.remove(kept);
  await site.refresh();
  expect(held('bob')).toBe(booked - 2 * MiB);
  expect(await alice.send('kept.iso', MiB)).toMatchObject({ status: 200 });
  await site.settled();
});

test('an upload whose answer was lost counts until PVE shows what became of it', async () => {
  const booked = held('bob');
  site.simulator.faults.add({ method: 'POST', path: /\/upload$/, kind: 'resetAfter' });
  expect(await bob.send('lost.iso', MiB)).toMatchObject({ status: 502 });
  expect(held('bob')).toBeGreaterThanOrEqual(booked + MiB);
  await site.settled();
  expect(volume('iso/lost.iso')).toMatchObject({ bytes: MiB });
  expect(held('bob')).toBe(booked + MiB);

  site.simulator.faults.add({ method: 'POST', path: /\/upload$/, kind: 'taskFails', message: 'no space left' });
  expect(await bob.send('failed.iso', MiB)).toMatchObject({ status: 200 });
  await site.settled();
  expect(held('bob')).toBe(booked + MiB);
});

test('a checksum that does not fit leaves no file and no charge', async () => {
  const booked = held('bob');
  const fields = { content: 'iso', 'checksum-algorithm': 'md5', checksum: '0'.repeat(32) };
  expect(await bob.send('sum.iso', MiB, { fields })).toMatchObject({ status: 200 });
  await site.settled();
  expect(volume('iso/sum.iso')).toBeUndefined();
  expect(held('bob')).toBe(booked);
});

test.each([
  [
    'a field after the file',
    form(head('a.iso'), 'xx\r\n', field('content', 'iso').slice(0, -2), tail),
    400,
    'nothing may follow the file',
  ],
  ['a form that ends too early', form(head('a.iso'), 'xxxxxxxxxxxxx'), 400, 'it ends too early'],
  [
    "PVE's own temporary name",
    form(field('content', 'iso'), field('tmpfilename', '/var/tmp/pveupload-0'), opening('a.iso'), 'x', tail),
    400,
    'tmpfilename',
  ],
  [
    'a field given twice',
    form(field('content', 'iso'), field('content', 'vztmpl'), opening('a.iso'), 'x', tail),
    400,
    'give it once',
  ],
  [
    'a kind of content that is not taken',
    form(field('content', 'snippets'), opening('a.iso'), 'x', tail),
    400,
    'content: must be iso',
  ],
  ['no kind of content', form(opening('a.iso'), 'x', tail), 400, 'content: must be iso'],
  ['a name with another ending', form(head('a.qcow2'), 'x', tail), 400, 'no ending that PVE takes for iso'],
  [
    'a checksum without its algorithm',
    form(field('content', 'iso'), field('checksum', '0'.repeat(32)), opening('a.iso'), 'x', tail),
    400,
    'checksum-algorithm',
  ],
  [
    "another name for the file's field",
    form(field('content', 'iso'), opening('a.iso').replace('name="filename"', 'name="file"'), 'x', tail),
    400,
    'has to be called',
  ],
])('refused without a file in PVE: %s', async (_what, [length, texts], status, reason) => {
  const answer = await bob.raw(length, texts).answer;
  expect(answer.startsWith(`${status} `)).toBe(true);
  expect(answer).toContain(reason);
  await site.settled();
  expect(volume('iso/a.iso')).toBeUndefined();
});

test('an upload that is too long, too slow or not a form is refused in its own words', async () => {
  expect(await bob.raw(65 * MiB, ['x']).answer).toMatch(/^413 the file is longer than this server takes/);
  expect(await bob.raw(4096, [field('content', 'iso')], { end: false }).answer).toMatch(/^408 nothing came for 1 s/);
  const late = bob.raw(2 * MiB, [head('b.iso'), 'x'.repeat(MiB)], { end: false });
  expect(await late.answer).toMatch(/^408 nothing came for 1 s/);
  expect(await bob.raw(2, ['{}'], { type: 'application/json' }).answer).toMatch(/^400 .*multipart\/form-data/);
  expect(await bob.raw(2, ['a='], { type: 'multipart/form-data' }).answer).toMatch(/^400 .*multipart\/form-data/);
  await site.settled();
  expect(volume('iso/b.iso')).toBeUndefined();
});

test('more uploads than there are places for are told to come back', async () => {
  const slow = ['1.iso', '2.iso', '3.iso'].map((name) => bob.raw(4096, [head(name)], { end: false }));
  await until('all places are taken', () => site.server.ledger.reservations().length === 3);
  expect(await bob.send('4.iso', 1000)).toMatchObject({ status: 503 });
  for (const { request } of slow) request.destroy();
  await site.settled();
  await until('a place is free', async () => (await bob.send('4.iso', 1000)).status === 200);
});

test('a token that may only look cannot upload', async () => {
  site.cluster.access.addRole('Onlooker', ['VM.Audit', 'Datastore.Audit', 'Pool.Audit']);
  const token = PveClient.withToken(site, 'alice@pve', 'look', { privsep: true });
  site.cluster.access.setAcl('/pool/alice', { tokens: ['alice@pve!look'] }, 'Onlooker');
  const before = heard();
  const reply = await token.post(path, { content: 'iso', filename: 'c.iso' });
  expect(reply).toMatchObject({ status: 400 });
  const fetched = await token.post('/nodes/n1/storage/local/download-url', {
    ...{ content: 'iso', filename: 'c.iso', url: 'https://images.example.org/c.iso' },
  });
  expect(fetched).toMatchObject({ status: 403, reason: expect.stringContaining('VM.PowerMgmt') });
  expect(heard()).toBe(before);
});

test('a node fetches for a tenant what the configuration opens and the quota holds, and looks at nothing else', async () => {
  const url = 'https://images.example.org/debian.iso';
  site.cluster.outside.set(url, { bytes: 2 * MiB });
  site.cluster.outside.set('https://images.example.org/large.iso', { bytes: 20 * MiB });
  const fetchUrl = (from: string, more = {}) =>
    alice.pve.post('/nodes/n1/storage/local/download-url', {
      content: 'iso',
      filename: 'fetched.iso',
      url: from,
      ...more,
    });
  const asked = () => site.simulator.requests.filter(({ path }) => path.endsWith('/query-url-metadata')).length;
  for (const closed of ['http://10.0.0.1/', 'https://images.example.org/../x', 'https://images.example.org.evil.org/x'])
    expect(await fetchUrl(closed)).toMatchObject({ status: 400, body: { errors: { url: expect.any(String) } } });
  expect(asked()).toBe(0);
  expect(await fetchUrl(url, { compression: 'gz' })).toMatchObject({
    status: 400,
    body: { errors: { compression: expect.any(String) } },
  });
  expect(await fetchUrl('https://images.example.org/unknown.iso')).toMatchObject({
    status: 403,
    reason: expect.stringContaining('cannot be told'),
  });
  expect(await fetchUrl('https://images.example.org/large.iso')).toMatchObject({
    status: 403,
    reason: expect.stringContaining('Quota'),
  });

  const booked = held('alice');
  expect(await fetchUrl(url)).toMatchObject({ status: 200 });
  await site.settled();
  expect(held('alice')).toBe(booked + 2 * MiB);
  expect(await alice.pve.delete('/nodes/n1/storage/local/content/iso/fetched.iso')).toMatchObject({ status: 200 });
});

test('a container template of PVE is fetched as large as it is announced to be, and is then a file of the tenant', async () => {
  const appliance = (name: string) => ({ package: name, version: '1', section: 'system' });
  publish(site.cluster, 'small_1_amd64.tar.xz', { bytes: 3 * MiB, appliance: appliance('small') });
  publish(site.cluster, 'large_1_amd64.tar.zst', { bytes: 20 * MiB, appliance: appliance('large') });
  const fetchOne = (template: string, by = alice, storage = 'local') =>
    by.pve.post('/nodes/n1/aplinfo', { storage, template });
  const refused = (status: number, reason: string) => ({ status, reason: expect.stringContaining(reason) });

  expect(await fetchOne('large_1_amd64.tar.zst')).toMatchObject(refused(403, 'storage local: 20 MiB more requested'));
  expect(await fetchOne('other_1_amd64.tar.xz')).toMatchObject(refused(400, 'is not in the list of node n1'));
  for (const wrong of ['small_1_amd64.tar.xz,x', '../small_1_amd64.tar.xz', 'small.iso'])
    expect(await fetchOne(wrong)).toMatchObject(refused(400, 'the name of a template'));
  expect(await alice.pve.post('/nodes/n1/aplinfo', { storage: 'local' })).toMatchObject(refused(400, 'template'));
  const metadata = '/nodes/{node}/query-url-metadata';
  site.simulator.faults.add({ method: 'GET', path: metadata, kind: 'refuse', status: 500, reason: 'not found' });
  expect(await fetchOne('small_1_amd64.tar.xz')).toMatchObject(refused(403, 'cannot be told'));

  const booked = held('alice');
  expect(await fetchOne('small_1_amd64.tar.xz')).toMatchObject({ status: 200 });
  await site.settled();
  expect(held('alice')).toBe(booked + 3 * MiB);
  expect(await fetchOne('small_1_amd64.tar.xz', bob)).toMatchObject(refused(400, 'not yours'));
  expect(await fetchOne('small_1_amd64.tar.xz')).toMatchObject({ status: 200 });
  await site.settled();
  expect(held('alice')).toBe(booked + 3 * MiB);
  const gone = await alice.pve.delete('/nodes/n1/storage/local/content/vztmpl/small_1_amd64.tar.xz');
  expect(gone).toMatchObject({ status: 200 });
  await site.settled();
  expect(held('alice')).toBe(booked);
});

test('images of registries, whose size PVE tells in no call, are for administrators', async () => {
  const pull = { reference: 'docker.io/library/debian:13' };
  expect(await alice.pve.post('/nodes/n1/storage/local/oci-registry-pull', pull)).toMatchObject({
    status: 403,
    reason: expect.stringContaining('ask an administrator to pull it'),
  });
});

test('a large upload takes hardly any memory of the server', async () => {
  const bytes = scale(256, 2048) * MiB;
  // With the options that the launcher, the unit and the image give to Node.
  const execArgv = ['--max-semi-space-size=4'];
  await using site = await startSite({ as: 'process', execArgv, users: { alice: { local: 4 * GiB } } });
  const { ticket, csrf } = await ticketOf(site, 'alice');
  const headers = { cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}`, csrfpreventiontoken: csrf };
  const send = async (name: string, length: number) => {
    const piece = Buffer.alloc(256 * 1024);
    const [before, after] = [Buffer.from(head(name)), Buffer.from(tail)];
    const request = httpRequest(`${site.url}/api2/json${path}`, {
      method: 'POST',
      agent: false,
      headers: {
        ...headers,
        'content-type': 'multipart/form-data; boundary=b',
        'content-length': String(before.length + length + after.length),
      },
    });
    const answer = once(request, 'response');
    const form = function* () {
      yield before;
      for (let sent = 0; sent < length; sent += piece.length) yield piece;
      yield after;
    };
    await pipeline(Readable.from(form(), { objectMode: false }), request);
    const [response] = await answer;
    response.resume();
    return response.statusCode;
  };
  expect(await send('first.iso', 16 * MiB)).toBe(200);
  const before = memory(site, 'VmRSS');
  expect(await send('large.iso', bytes)).toBe(200);
  expect(site.cluster.volumes.get('n1', 'local:iso/large.iso')).toMatchObject({ bytes });
  expect(memory(site, 'VmHWM') - before).toBeLessThan(64 * MiB);
});

/** Bytes of memory of the server process: what it has now, or the most that it ever had. */
function memory(site: Site, what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${site.process.pid}/status`, 'utf8');
  return Number(new RegExp(`${what}:\\s+(\\d+)`).exec(status)?.[1]) * 1024;
}
