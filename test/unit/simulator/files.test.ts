import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { publish } from '../../../simulator/administrator.ts';
import { qcow2Head } from '../../../simulator/files.ts';
import { type Simulator, startSimulator } from '../../../simulator/index.ts';
import { GiB, MiB } from '../../../simulator/sizes.ts';
import { makeWorld, type World } from './world.ts';

const store = '/nodes/{node}/storage/{storage}';

describe('an upload', () => {
  let simulator: Simulator;
  let authorization = '';

  beforeAll(async () => {
    simulator = await startSimulator({ serviceSecret: 's' });
    authorization = 'PVEAPIToken=quota-proxy@pve!gate=s';
  });
  afterAll(() => simulator[Symbol.asyncDispose]());

  interface Form {
    readonly fields?: Readonly<Record<string, string>>;
    readonly filename?: string;
    readonly later?: string;
    readonly query?: string;
  }

  /** Sends the pieces as one file. */
  async function upload(pieces: readonly Buffer[], { fields = {}, filename = 'a.iso', later = '', query = '' }: Form) {
    const part = (headers: string) => `--b0undary\r\nContent-Disposition: form-data; ${headers}`;
    const before = Object.entries({ content: 'iso', ...fields }).map(
      ([name, value]) => `${part(`name="${name}"`)}\r\n\r\n${value}\r\n`,
    );
    const head = `${before.join('')}${part(`name="filename"; filename="${filename}"`)}\r\nContent-Type: x/y\r\n\r\n`;
    const all = [Buffer.from(head), ...pieces, Buffer.from(`${later}\r\n--b0undary--\r\n`)];
    const call = request(`${simulator.url}/api2/json/nodes/n1/storage/shared/upload${query}`, {
      method: 'POST',
      headers: {
        authorization,
        'content-type': 'multipart/form-data; boundary=b0undary',
        'content-length': all.reduce((sum, { length }) => sum + length, 0),
      },
    });
    const answered = once(call, 'response');
    await pipeline(Readable.from(all), call);
    const [response] = await answered;
    const body = JSON.parse(Buffer.concat(await response.toArray()).toString() || 'null');
    const task = simulator.cluster.tasks.get(body?.data ?? '');
    return { status: response.statusCode, reason: response.statusMessage, errors: body?.errors, task };
  }

  const volume = (name: string) => simulator.cluster.volumes.get('n1', `shared:${name}`);

  test('is counted as it passes, under the name that PVE makes of it', async () => {
    const pieces = Array.from({ length: 64 }, () => Buffer.alloc(MiB, '\r\n--b0undar'));
    const { task } = await upload(pieces, { filename: 'C:\\dir\\my disc ä.iso' });
    expect(task).toMatchObject({ type: 'imgcopy', id: '', exitstatus: 'OK', authid: 'quota-proxy@pve!gate' });
    expect(volume('iso/my_disc___.iso')).toMatchObject({ bytes: 64 * MiB, content: 'iso', vmid: undefined });
  });

  test('takes the place of a file of the same name', async () => {
    await upload([Buffer.alloc(10)], {});
    await upload([Buffer.alloc(3)], {});
    expect(volume('iso/a.iso')?.bytes).toBe(3);
  });

  test('of an image has the size of its disk, and another that of its file', async () => {
    const { task } = await upload([qcow2Head(40 * GiB)], { fields: { content: 'import' }, filename: 'd.qcow2' });
    expect(task?.exitstatus).toBe('OK');
    expect(volume('import/d.qcow2')).toMatchObject({ bytes: 40 * GiB, fileBytes: 104 });
    const broken = await upload([Buffer.alloc(200)], { fields: { content: 'import' }, filename: 'e.qcow2' });
    expect(broken.task?.exitstatus).toBe('Image is not in qcow2 format');
  });

  test('is verified by its checksum', async () => {
    const sum = createHash('sha256').update('abc').digest('hex').toUpperCase();
    const fields = { 'checksum-algorithm': 'sha256', checksum: sum };
    expect((await upload([Buffer.from('abc')], { fields, filename: 'c.iso' })).task?.exitstatus).toBe('OK');
    const other = await upload([Buffer.from('abd')], { fields, filename: 'c.iso' });
    expect(other.task?.exitstatus).toMatch(/^checksum mismatch: got /);
  });

  test('swallows what follows the file', async () => {
    const later = '\r\n--b0undary\r\nContent-Disposition: form-data; name="content"\r\n\r\nvztmpl';
    const { task } = await upload([Buffer.from('abc')], { filename: 'later.iso', later });
    expect(task?.exitstatus).toBe('OK');
    expect(volume('iso/later.iso')?.bytes).toBe(3 + later.length);
  });

  test.each<[string, Form, number, unknown]>([
    ['a wrong ending', { filename: 'a.exe' }, 400, { filename: 'wrong file extension' }],
    ['a template that is none', { fields: { content: 'vztmpl' } }, 400, { filename: 'wrong file extension' }],
    ['content of another sort', { fields: { content: 'backup' } }, 400, { content: expect.any(String) }],
    ['a place of its own for the file', { query: '?tmpfilename=/var/tmp/pveupload-1' }, 400, undefined],
    ['an unknown field', { fields: { node: 'n2' } }, 501, undefined],
  ])('with %s is refused', async (_, form, status, errors) => {
    expect(await upload([Buffer.alloc(1)], form)).toMatchObject({ status, errors });
  });
});

describe('a file from outside', () => {
  let world: World;
  const url = 'https://example.org/images/noble.qcow2';
  const download = (param: Record<string, unknown>) =>
    world.task('POST', `${store}/download-url`, { storage: 'shared', content: 'import', url, ...param });

  beforeEach(() => {
    world = makeWorld();
    publish(world.cluster, url, { bytes: 600 * MiB, virtualBytes: 4 * GiB });
    publish(world.cluster, 'docker.io/library/nginx:1.29', { bytes: 60 * MiB });
  });

  test('is as big as was published, can be asked about, and never takes the place of another', () => {
    expect(download({ filename: 'noble.qcow2' })).toBe('OK');
    expect(world.cluster.volumes.get('n1', 'shared:import/noble.qcow2')).toMatchObject({
      ...{ bytes: 4 * GiB, fileBytes: 600 * MiB },
    });
    expect(download({ filename: 'noble.qcow2' })).toMatch(/^refusing to override existing file/);
    expect(download({ filename: 'b.qcow2', url: 'https://example.org/no' })).toMatch(/404/);
    expect(world.call('GET', '/nodes/{node}/query-url-metadata', { url })).toMatchObject({ size: 600 * MiB });
  });

  test('a list shows the size of the file, the volume that of the disk', () => {
    download({ filename: 'noble.qcow2' });
    const rows = world.call<{ volid: string; size: number }[]>('GET', `${store}/content`, { storage: 'shared' });
    expect(rows.find(({ volid }) => volid.endsWith('noble.qcow2'))?.size).toBe(600 * MiB);
    const shown = world.call('GET', `${store}/content/{volume}`, { storage: 'shared', volume: 'import/noble.qcow2' });
    expect(shown).toMatchObject({ size: 4 * GiB, used: 600 * MiB });
  });

  test('is pulled from a registry', () => {
    const pull = (param: Record<string, unknown>) =>
      world.task('POST', `${store}/oci-registry-pull`, { storage: 'local', ...param });
    expect(pull({ reference: 'docker.io/library/nginx:1.29' })).toBe('OK');
    const volid = 'local:vztmpl/nginx_1.29.tar';
    expect(world.cluster.volumes.get('n1', volid)?.bytes).toBe(60 * MiB);
    expect(() => pull({ reference: 'docker.io/library/nginx:1.29' })).toThrow(/refusing to override/);
    const reference = 'docker.io/library/nginx';
    expect(world.call('GET', '/nodes/{node}/query-oci-repo-tags', { reference })).toEqual(['1.29']);
  });

  test("is one of PVE's own templates", () => {
    const [listed] = world.call<{ template: string }[]>('GET', '/nodes/{node}/aplinfo');
    const template = listed?.template ?? '';
    const fetch = (name: string) => world.task('POST', '/nodes/{node}/aplinfo', { storage: 'local', template: name });
    expect([fetch(template), fetch(template)]).toEqual(['OK', 'OK']);
    expect(world.cluster.volumes.get('n1', `local:vztmpl/${template}`)?.bytes).toBe(3 * MiB);
    expect(() => fetch('nothing.tar.xz')).toThrow('Parameter verification failed.');
  });

  test('goes only where such content is kept', () => {
    const to = (storage: string) => () => download({ storage, content: 'iso', filename: 'a.iso' });
    expect(to('ceph')).toThrow("can't upload to storage type 'rbd'");
    const shared = world.cluster.storages.get('shared');
    if (shared) world.cluster.storages.set('shared', { ...shared, content: ['images'] });
    expect(to('shared')).toThrow("does not support 'iso' content");
  });
});
