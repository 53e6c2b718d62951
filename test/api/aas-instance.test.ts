import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { GiB, MiB, startSite, until } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 4 * GiB, ceph: 64 * GiB, network: 'unlimited' } as const;
const vm = '/cluster/n1/qemu/100';
const container = '/cluster/n1/lxc/101';

test('a VM is created, sized and deleted, each answered with the task of PVE that did it', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');

  const created = await alice.createVm(100, { cores: 2, memory: 1024, hostname: 'ignored', pool: 'alice' });
  expect(created.status).toBe(200);
  expect(created.headers.get('content-type')).toMatch(/^application\/json/);
  expect(created.body).toMatchObject({
    node: 'n1',
    type: 'qmcreate',
    id: '100',
    status: 'stopped',
    exitstatus: 'OK',
    log: expect.any(Array),
  });
  expect(created.body.upid).toMatch(/^UPID:n1:/);
  const config = site.cluster.guests.get(100)?.config;
  expect([config?.get('name'), config?.get('cores'), config?.get('memory')]).toEqual(['vm100', '2', '1024']);
  expect(site.cluster.pools.get('alice')?.vms).toContain(100);

  const sized = await alice.post(`${vm}/resources`, { cores: 4, memory: 2048, proctype: 'host', boot: '' });
  expect([sized.status, sized.body.type]).toEqual([200, 'qmconfig']);
  expect([config?.get('cores'), config?.get('memory'), config?.get('cpu')]).toEqual(['4', '2048', 'host']);

  expect((await alice.delete(`${vm}/delete`)).body.type).toBe('qmdestroy');
  expect(site.cluster.guests.has(100)).toBe(false);
});

test('a container is created unprivileged with its root disk, and sized without a task', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');

  expect((await alice.createContainer(101, { swap: 256, rootfssize: 8 })).status).toBe(200);
  const config = Object.fromEntries(site.cluster.guests.get(101)?.config ?? []);
  expect(config).toMatchObject({
    hostname: 'ct101',
    cores: '1',
    memory: '512',
    swap: '256',
    unprivileged: '1',
    features: 'nesting=1',
    rootfs: 'ceph:vm-101-disk-0,size=8G',
  });

  const sized = await alice.post(`${container}/resources`, {
    cores: 2,
    memory: 1024,
    swap: 0,
    proctype: 'null',
    boot: '',
  });
  expect([sized.status, sized.body]).toEqual([200, { data: null }]);
  expect(site.cluster.guests.get(101)?.config.get('swap')).toBe('0');
});

test("a user's templates come first and the form wins", async () => {
  const entry = (value: string) => ({ value, resource: null });
  const templates = {
    instances: {
      qemu: { cpu: entry('host'), net0: entry('virtio,bridge=vmbr0,rate=100'), cores: entry('8') },
      lxc: {},
    },
    network: {},
  };
  await using site = await startSite({ users: { alice: { ...limits, templates } } });
  const alice = await site.signIn('alice');
  expect((await alice.createVm(100)).status).toBe(200);
  const config = site.cluster.guests.get(100)?.config;
  expect([config?.get('cpu'), config?.get('cores')]).toEqual(['host', '1']);
  expect(config?.get('net0')).toMatch(/^virtio=[0-9A-F:]+,bridge=vmbr0,rate=100$/);
});

test('sizes sent as they are pass, above the quota and where nothing was set before as well', async () => {
  await using site = await startSite({ users: { alice: { ...limits, cores: 2, memory: 512 * MiB } } });
  const grown = { cores: 4, sockets: 2, memory: 4096, cpu: 'qemu64', boot: 'order=net0', net0: 'virtio,bridge=vmbr0' };
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: grown });
  addGuest(site.cluster, { vmid: 101, type: 'lxc', pool: 'alice', config: { rootfs: 'ceph:vm-101-disk-0,size=1G' } });
  addGuest(site.cluster, { vmid: 102, pool: 'alice' });
  await site.refresh();
  const alice = await site.signIn('alice');
  const form = { cores: 4, memory: 4096, proctype: 'qemu64', boot: 'net0' };
  expect((await alice.post(`${vm}/resources`, form)).status).toBe(200);
  const { body: model } = await alice.get(container);
  const shown = { cores: model.cores, memory: model.memory / MiB, swap: model.swap / MiB };
  expect((await alice.post(`${container}/resources`, shown)).body).toEqual({ data: null });
  expect((await alice.post('/cluster/n1/qemu/102/resources', { cores: 1, memory: 512 })).status).toBe(200);
});

test('a refusal for the quota says what was requested in quota units and what breaks which limit', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');
  const { status, body } = await alice.createVm(100, { cores: 62, memory: 16_384 });
  expect(status).toBe(403);
  expect(body.error).toMatch(/^Quota exceeded: .*62/);
  expect(body.request).toEqual({ cores: 62, memory: 16 * GiB });
  expect(body.reason.cores).toEqual({ approved: false, reason: expect.stringContaining('62') });
  expect(body.overruns).toHaveLength(2);
  expect(body.overruns[0]).toMatchObject({ resource: 'cores', scope: 'global', requested: 62, limit: 8, available: 8 });
  expect(site.cluster.guests.has(100)).toBe(false);

  const type = await alice.post('/cluster/n1/qemu/100/create', { name: 'web', cores: 1, memory: 512 });
  expect(type.status).toBe(200);
  const other = await alice.post(`${vm}/resources`, { cores: 1, memory: 512, proctype: 'EPYC,hidden=1' });
  expect([other.status, other.body.request]).toEqual([403, { cpu: 'EPYC' }]);
});

test("what PVE refuses keeps PVE's status and reason, with markup made harmless", async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');
  await alice.createVm(100);
  const form = { cores: 2, memory: 512 };

  const reason = 'VM is <locked> (backup)';
  site.simulator.faults.add({
    path: '/nodes/{node}/qemu/{vmid}/config',
    method: 'POST',
    kind: 'refuse',
    status: 500,
    reason,
  });
  const locked = await alice.post(`${vm}/resources`, form);
  expect([locked.status, locked.body]).toEqual([500, { error: 'VM is &lt;locked> (backup)' }]);

  site.simulator.faults.add({
    path: '/nodes/{node}/qemu/{vmid}/config',
    method: 'POST',
    kind: 'refuse',
    status: 400,
    reason: 'Parameter verification failed.',
    errors: { cores: 'too many' },
  });
  const faulty = await alice.post(`${vm}/resources`, form);
  expect([faulty.status, faulty.body.error]).toEqual([400, 'Parameter verification failed. cores: too many']);

  const missing = await alice.post(`${vm}/resources`, { ...form, boot: 'scsi7' });
  expect([missing.status, missing.body.error]).toEqual([400, 'boot: instance 100 has no scsi7']);
});

test('a task that fails is a 500 with the task, and nothing stays booked', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');
  site.simulator.faults.add({
    path: '/nodes/{node}/qemu',
    method: 'POST',
    kind: 'taskFails',
    message: 'no <space> left',
  });
  const { status, body } = await alice.createVm(100);
  expect(status).toBe(500);
  expect(body).toMatchObject({ status: 'stopped', exitstatus: 'no <space> left', error: 'no &lt;space> left' });
  expect(body.upid).toMatch(/^UPID:/);
  await site.settled();
  expect(site.booked('alice')).toEqual({});
});

test('a task that takes longer than a request waits is answered as running and goes on', async () => {
  await using site = await startSite({ users: { alice: limits }, taskWait: 0.2, simulator: { taskPace: 600 } });
  const alice = await site.signIn('alice');
  const { status, body } = await alice.createVm(100);
  expect(status).toBe(200);
  expect(body).toMatchObject({ status: 'running', node: 'n1', type: 'qmcreate', id: '100' });
  expect(body.exitstatus).toBeUndefined();
  await site.settled();
  expect(site.booked('alice').cores).toBe(1);
});

test('when the server ends, requests that wait for a task are answered first', async () => {
  await using site = await startSite({ users: { alice: limits }, simulator: { taskPace: 'by hand' } });
  const alice = await site.signIn('alice');
  const waiting = alice.createVm(100);
  await until('the task runs', () => site.server.ledger.reservations().some(({ upid }) => upid !== undefined));
  const ended = site.stopServer();
  const { body } = await waiting;
  expect(body.status).toBe('running');
  site.cluster.tasks.finish(body.upid);
  await ended;
});

test('an instance is shown with real sizes, whole numbers and every map', async () => {
  await using site = await startSite({ users: { alice: limits, mallory: limits } });
  addGuest(site.cluster, {
    vmid: 100,
    pool: 'alice',
    config: {
      name: 'web',
      cores: 2,
      memory: 2048,
      cpu: 'host',
      boot: 'order=scsi0;net0',
      scsi0: 'ceph:vm-100-disk-0,size=32G',
      unused0: 'ceph:vm-100-disk-1',
      ide2: 'shared:iso/debian-13.iso,media=cdrom',
      net0: 'virtio=BC:24:11:AA:BB:CC,bridge=vmbr0,rate=100,tag=10',
      net1: 'virtio=BC:24:11:AA:BB:CD,bridge=vmbr0',
      hostpci0: '0000:41:00,pcie=1',
    },
  });
  await site.refresh();
  const alice = await site.signIn('alice');
  const { status, body } = await alice.get(vm);
  expect(status).toBe(200);
  const scsi0 = {
    volume_id: 'scsi0',
    type: 'scsi',
    storage: 'ceph',
    format: 'raw',
    size: 32 * GiB,
    file: 'ceph:vm-100-disk-0',
    mp: '',
  };
  expect(body).toMatchObject({ type: 'VM', name: 'web', cpu: 'host', cores: 2, memory: 2 * GiB, swap: 0 });
  expect(body.volumes.scsi0).toEqual(scsi0);
  expect(body.volumes.ide2).toMatchObject({ size: 784 * MiB, storage: 'shared', file: 'shared:iso/debian-13.iso' });
  expect(Object.keys(body.volumes).toSorted()).toEqual(['ide2', 'scsi0', 'unused0']);
  expect(body.nets.net0).toMatchObject({ net_id: 'net0', rate: 100, vlan: 10 });
  expect(body.nets.net1).toMatchObject({ rate: 0, vlan: 0 });
  expect(body.devices.hostpci0).toMatchObject({
    device_bus: '0000:41:00',
    device_name: 'TU104GL [Tesla T4]',
    Value: '0000:41:00,pcie=1',
  });
  expect(body.boot.enabled).toEqual([scsi0, body.nets.net0]);
  expect(body.boot.disabled).toEqual([body.volumes.ide2, body.nets.net1]);

  const mallory = await site.signIn('mallory');
  expect((await mallory.get(vm)).status).toBe(403);
  expect((await alice.get('/cluster/n1/qemu/555')).body.error).toMatch(/./);
  expect((await alice.get('/cluster/n1/docker/100')).status).toBe(404);
});
