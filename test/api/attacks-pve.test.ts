/** Attacks by a tenant who knows the sources: what PVE would let the privileged token do, and the tenant must not have. */

import { type ClientRequest, request as httpRequest } from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addBackup, addGuest, addVolume } from '../../simulator/administrator.ts';
import { qcow2Head } from '../../simulator/files.ts';
import { expectRefused, type Metered, metered, startOver } from '../support/metered.ts';
import { PveClient } from '../support/pve-client.ts';
import { range } from '../support/scale.ts';
import { GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 8 * GiB, ceph: 64 * GiB, local: GiB } as const;
const vm = '/nodes/n1/qemu/200';
const ct = '/nodes/n1/lxc/201';

let site: Site;
let bob: Metered;
/** The same user, whose calls do not wait for what they begin. */
let hasty: PveClient;

beforeAll(async () => {
  site = await startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, network: 10_000_000, vmid: [200, 299] } },
    config: { backups: { storage: 'shared' }, limits: { uploads: { total: 4 } } },
    hold: 0.2,
  });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { cores: 1, memory: 512 } });
  bob = await metered(site, 'bob');
  hasty = await PveClient.signIn(site, 'bob');
});

afterAll(() => site[Symbol.asyncDispose]());

beforeEach(() => startOver(site, 'bob', 200));

const backupsOf = (vmid: number) =>
  [...site.cluster.volumes.ofGuest(vmid)].filter(({ content }) => content === 'backup').length;

describe('what is stated of a volume', () => {
  test('is what its storage says, since a backup would bring back what is stated', async () => {
    for (const size of ['1K', '8G', '0']) {
      await expectRefused(site, () => bob.put(`${vm}/config`, { scsi0: `ceph:vm-200-disk-0,size=${size}` }), /size/);
      await expectRefused(site, () => bob.put(`${ct}/config`, { rootfs: `ceph:vm-201-disk-0,size=${size}` }), /size/);
    }
    const same = await bob.put(`${vm}/config`, { scsi0: 'ceph:vm-200-disk-0,size=4G,discard=on' });
    expect(same.status, same.text).toBe(200);
    // PVE would keep what is said, which is nothing, and a backup could not be brought back.
    for (const [path, slot, disk] of [
      [vm, 'scsi0', 'ceph:vm-200-disk-0,ssd=1'],
      [ct, 'rootfs', 'ceph:vm-201-disk-0,acl=1'],
    ] as const) {
      const bare = await bob.put(`${path}/config`, { [slot]: disk });
      expect(bare.status, bare.text).toBe(200);
      expect(site.cluster.guests.get(Number(path.slice(-3)))?.config.get(slot)).toMatch(/,size=4G\b/);
    }
  });

  test('is not another format than it has: whoever writes the image would say what else it shows', async () => {
    addVolume(site.cluster, { volid: 'local:200/vm-200-disk-1.raw', content: 'images', bytes: 4 * MiB });
    await site.refresh();
    await expectRefused(
      site,
      () => bob.put(`${vm}/config`, { scsi1: 'local:200/vm-200-disk-1.raw,format=qcow2' }),
      /format/,
    );
  });

  test('is not in a slot that nobody here has heard of', async () => {
    await expectRefused(site, () => bob.put(`${vm}/config`, { scsi31: 'ceph:500' }), /scsi31/);
    await expectRefused(site, () => bob.put(`${ct}/config`, { mp256: 'ceph:500,mp=/x' }), /mp256/);
  });
});

test('a container does not come back with a volume without limit', async () => {
  const { volid } = addBackup(site.cluster, {
    ...{ vmid: 201, type: 'lxc', at: Date.now() + 1000 },
    config: { cores: 1, memory: 512, swap: 0, unprivileged: 1, rootfs: 'ceph:vm-201-disk-0,size=512K' },
  });
  const values = { vmid: 210, pool: 'bob', restore: 1, ostemplate: volid, storage: 'ceph' };
  await expectRefused(site, () => bob.post('/nodes/n1/lxc', values), /ceph/, 403);
});

describe('backups', () => {
  test('of a guest that is named twice are asked for once', async () => {
    const values = { storage: 'shared', mode: 'snapshot', compress: 'zstd' };
    const one = await bob.post('/nodes/n1/vzdump', { ...values, vmid: 200 });
    expect(one.status, one.text).toBe(200);
    await bob.post('/nodes/n1/vzdump', { ...values, vmid: '200,200,200' });
    // PVE would make one for each time.
    expect(site.simulator.requests.findLast(({ path }) => path.endsWith('/vzdump'))?.params.vmid).toBe('200');
  });

  test('count on when the guest becomes another by a restore', async () => {
    const values = { storage: 'shared', mode: 'snapshot', compress: 'zstd' };
    const made = await bob.post('/nodes/n1/qemu', { vmid: 220, pool: 'bob', cores: 1, memory: 512 });
    expect(made.status, made.text).toBe(200);
    for (const _ of range(2)) {
      const said = await bob.post('/nodes/n1/vzdump', { ...values, vmid: 220 });
      expect(said.status, said.text).toBe(200);
    }
    addGuest(site.cluster, {
      ...{ vmid: 221, pool: 'bob' },
      config: { cores: 1, memory: 512, meta: `ctime=${Math.floor(Date.now() / 1000) + 30}` },
    });
    await site.refresh();
    const newer = addBackup(site.cluster, {
      ...{ vmid: 221, at: Date.now() + 60_000 },
      config: { cores: 1, memory: 512, meta: `ctime=${Math.floor(Date.now() / 1000) + 30}` },
    });
    await bob.post('/nodes/n1/qemu', { vmid: 220, archive: newer.volid, force: 1 });
    const said = await bob.post('/nodes/n1/vzdump', { ...values, vmid: 220 });
    expect([said.status, backupsOf(220)], said.text).toEqual([403, 2]);
  });

  test('count on when the guest is destroyed and made anew', async () => {
    const values = { storage: 'shared', mode: 'snapshot', compress: 'zstd' };
    for (const _ of range(2)) {
      const made = await bob.post('/nodes/n1/qemu', { vmid: 230, pool: 'bob', cores: 1, memory: 512 });
      expect(made.status, made.text).toBe(200);
      for (const _ of range(2)) await bob.post('/nodes/n1/vzdump', { ...values, vmid: 230 });
      await bob.delete('/nodes/n1/qemu/230');
      // PVE's clock goes by seconds.
      await new Promise((resolve) => setTimeout(resolve, 1100));
    }
    expect(backupsOf(230)).toBe(2);
    expect(site.booked('bob')['backups 230']).toBe(2);
    const [{ volid = '' } = {}] = [...site.cluster.volumes.ofGuest(230)];
    const content = `/nodes/n1/storage/shared/content/${encodeURIComponent(volid)}`;
    expect((await bob.delete(content)).status).toBe(200);
    expect([backupsOf(230), site.booked('bob')['backups 230']]).toEqual([1, 1]);
  });
});

test('a guest that is restored over stays whose it was', async () => {
  addGuest(site.cluster, { vmid: 950, pool: 'bob', config: { cores: 1, memory: 512, meta: 'ctime=1700000000' } });
  await site.refresh();
  site.server.ledger.assign(950, ['bob@pve']);
  addGuest(site.cluster, { vmid: 222, pool: 'bob', config: { cores: 1, memory: 512, meta: 'ctime=1700000001' } });
  const other = addBackup(site.cluster, { vmid: 222, config: { cores: 1, memory: 512, meta: 'ctime=1700000001' } });
  await site.refresh();
  await bob.post('/nodes/n1/qemu', { vmid: 950, archive: other.volid, force: 1 });
  expect(site.server.ledger.recordedPayers(950)).toEqual(['bob@pve']);
  site.cluster.guests.delete(950);
  site.cluster.leave(950);
});

test('a container is not frozen onto the disk of its node, nor thawed from what another left there', async () => {
  const running = site.cluster.guests.get(201);
  if (running !== undefined) running.status = 'running';
  for (const action of ['suspend', 'resume'])
    await expectRefused(site, () => bob.post(`${ct}/status/${action}`), /not metered|unmetered|node/, 403);
});

test('nobody waits for a stranger who asks for their guests', async () => {
  const alice = await metered(site, 'alice');
  site.simulator.faults.add({ kind: 'delay', ms: 3000, path: '/access/permissions' });
  const from = site.simulator.requests.length;
  let refused = false;
  const stranger = hasty.post('/nodes/n1/suspendall', { vms: '100' }).finally(() => {
    refused = true;
  });
  await until('PVE is asked about the stranger', () =>
    site.simulator.requests.slice(from).some(({ path }) => path === '/access/permissions'),
  );
  const said = await alice.put('/nodes/n1/qemu/100/config', { description: 'mine' });
  expect(said.status, said.text).toBe(200);
  expect(refused).toBe(false);
  expect((await stranger).status).toBe(403);
});

async function sendDisk({ url }: Site, { headers }: PveClient): Promise<Response> {
  const form = new FormData();
  form.append('content', 'import');
  form.append('filename', new Blob([new Uint8Array(qcow2Head(GiB))]), 'disk.qcow2');
  return fetch(`${url}/api2/json/nodes/n1/storage/local/upload`, { method: 'POST', headers, body: form });
}

test('what is being imported stays as it was judged until it has been read', async () => {
  const { server } = site;
  const sent = () => sendDisk(site, hasty);
  const first = await sent();
  expect(first.status, first.statusText).toBe(200);
  await site.settled();
  expect(server.ledger.fileOwner({ place: 'n1/local', volid: 'local:import/disk.qcow2' })).toBe('bob@pve');

  site.cluster.tasks.pace = 'by hand';
  const scsi0 = 'ceph:0,import-from=local:import/disk.qcow2';
  const created = await hasty.post('/nodes/n1/qemu', { vmid: 240, pool: 'bob', cores: 1, memory: 512, scsi0 });
  expect(created.status, created.reason).toBe(200);
  const second = await sent();
  expect([second.status, second.statusText]).toEqual([409, expect.stringMatching(/is being imported/)]);
  site.cluster.tasks.pace = 'at once';
  site.cluster.tasks.finishAll();
  await site.settled();
  expect((await sent()).status).toBe(200);
});

test('so it does when the server starts anew in the middle', async () => {
  await using own = await startSite({ users: { bob: { ...limits, vmid: [200, 299] } }, hold: 0.2 });
  const early = await PveClient.signIn(own, 'bob');
  expect((await sendDisk(own, early)).status).toBe(200);
  await own.settled();
  own.cluster.tasks.pace = 'by hand';
  const scsi0 = 'ceph:0,import-from=local:import/disk.qcow2';
  const created = await early.post('/nodes/n1/qemu', { vmid: 240, pool: 'bob', cores: 1, memory: 512, scsi0 });
  expect(created.status, created.reason).toBe(200);

  await own.server.close(0);
  await own.startServer();
  const late = await PveClient.signIn(own, 'bob');
  const overwriting = await sendDisk(own, late);
  expect([overwriting.status, overwriting.statusText]).toEqual([409, expect.stringMatching(/is being imported/)]);
  own.cluster.tasks.pace = 'at once';
  own.cluster.tasks.finishAll();
  await own.settled();
  expect((await sendDisk(own, late)).status).toBe(200);
});

test('nobody takes all places for uploads', async () => {
  const requests: ClientRequest[] = [];
  const begin = (who: PveClient, bytes: number): Promise<number | undefined> => {
    const to = `${site.url}/api2/json/nodes/n1/storage/local/upload`;
    const type = 'multipart/form-data; boundary=b';
    const headers = { ...who.headers, 'content-type': type, 'content-length': '2000' };
    const request = httpRequest(to, { method: 'POST', agent: false, headers }).on('error', () => {});
    request.write('-'.repeat(bytes));
    requests.push(request);
    return new Promise((resolve) => request.on('response', ({ statusCode }) => resolve(statusCode)));
  };
  const answers: (number | undefined)[] = [];
  const slow = range(4).map(() => begin(hasty, 1).then((status) => answers.push(status)));
  await Promise.race(slow);
  expect(await begin(await PveClient.signIn(site, 'alice'), 10)).toBe(400);
  expect(answers).toEqual([503]);
  for (const request of requests) request.destroy();
});

test('a token that may only look does not end what its user has begun', async () => {
  site.cluster.tasks.pace = 'by hand';
  const { body } = await hasty.post('/nodes/n1/vzdump', { vmid: 200, storage: 'shared' });
  const task = `/nodes/n1/tasks/${body.data}`;
  const onlooker = PveClient.withToken(site, 'bob@pve', 'onlooker', { privsep: true });
  expect((await onlooker.delete(task)).status).toBe(403);
  expect((await hasty.get(`${task}/status`)).body.data.status).toBe('running');
  const operator = PveClient.withToken(site, 'bob@pve', 'operator', { privsep: false });
  expect((await operator.delete(task)).status).toBe(200);
});

describe('a card is joined', () => {
  const card = (rest: string) => ({ net0: `virtio=BC:24:11:00:02:00,rate=1,${rest}` });
  const put = (rest: string) => bob.put(`${vm}/config`, card(rest));

  test.each([
    'bridge=vmbr1',
    'bridge=vmbr1,tag=20',
    'bridge=vmbr01',
    'bridge=vmbr1,trunks=1-4094',
    'bridge=vmbr1,tag=20,trunks=30',
    'bridge=../../access',
  ])('to no network that PVE gives the caller no right to: %s', async (rest) => {
    await expectRefused(site, () => put(rest), /no network of yours|not understood/);
    await expectRefused(
      site,
      () => bob.post('/nodes/n1/qemu', { vmid: 240, pool: 'bob', cores: 1, memory: 512, ...card(rest) }),
      /no network of yours|not understood/,
    );
  });

  test('to what the guest has, to what is open to all, and where PVE gives the caller SDN.Use', async () => {
    site.cluster.guests.get(200)?.config.set('net0', 'virtio=BC:24:11:00:02:00,bridge=vmbr9,tag=90,rate=1');
    await site.refresh();
    expect((await put('bridge=vmbr9,tag=90,firewall=1')).status).toBe(200);
    expect((await put('bridge=vmbr0,tag=77')).status).toBe(200);
    site.cluster.access.setAcl('/sdn/zones/localnetwork/vmbr1', { users: ['bob@pve'] }, 'PVESDNUser');
    for (const rest of ['bridge=vmbr1', 'bridge=vmbr1,tag=20']) expect((await put(rest)).status, rest).toBe(200);
    site.cluster.access.removeAcl('/sdn/zones/localnetwork/vmbr1', { users: ['bob@pve'] }, 'PVESDNUser');
    await expectRefused(site, () => put('bridge=vmbr1,tag=21'), /vmbr1\/21 is no network of yours/);
  });
});
