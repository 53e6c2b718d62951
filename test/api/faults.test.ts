import { expect, test } from 'vitest';
import { addGuest, destroyGuest } from '../../simulator/administrator.ts';
import { keepLog } from '../support/kept-log.ts';
import { range, scale } from '../support/scale.ts';
import { type Client, GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 16, memory: 64 * GiB, swap: 16 * GiB, network: 'unlimited', ceph: 100 * GiB } as const;
const vmids = range(20).map((n) => 100 + n);

function start(more: Parameters<typeof startSite>[0] = {}): Promise<Site> {
  return startSite({ users: { alice: { ...limits, vmid: [100, 199] } }, ...more });
}

/** What is booked is never less than what is there. */
function expectCovered(site: Site): void {
  const booked = site.booked('alice');
  for (const [resource, amount] of Object.entries(site.truth(vmids)))
    expect([resource, (booked[resource] ?? 0) >= amount]).toEqual([resource, true]);
}

async function expectExact(site: Site): Promise<void> {
  await site.settled();
  expect(site.booked('alice')).toEqual(site.truth(vmids));
}

const larger = { cores: 8, memory: 8192, proctype: 'host', boot: '' };

for (const status of [400, 500]) {
  test(`a change that fails with ${status} after applying some keys is counted as what it left behind`, async () => {
    await using site = await start();
    const alice = await site.signIn('alice');
    await alice.createVm(100, { cores: 2, memory: 1024 });
    site.simulator.faults.add({
      method: 'POST',
      path: '/nodes/{node}/qemu/{vmid}/config',
      kind: 'partial',
      keys: 1,
      status,
      reason: 'half of it failed',
    });

    const reply = await alice.post('/cluster/n1/qemu/100/resources', larger);

    expect(reply.status).not.toBe(200);
    expect(reply.body.error).toContain('half of it failed');
    expectCovered(site);
    await expectExact(site);
  });
}

test('a create whose answer is lost stays charged until the cluster shows what became of it', async () => {
  await using site = await start({ simulator: { taskPace: 100 } });
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'resetAfter' });

  const reply = await alice.createVm(100, { cores: 4, memory: 2048 });

  expect(reply.status).toBe(502);
  expect(site.booked('alice').cores).toBe(4);
  expect(site.cluster.guests.has(100)).toBe(true);
  await expectExact(site);
  expect(site.booked('alice').cores).toBe(4);
});

test('a list of tasks or volumes that is none for a moment ends no wait for a lost answer', async () => {
  await using site = await start({ simulator: { taskPace: 100 } });
  const alice = await site.signIn('alice');
  const { faults } = site.simulator;
  faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'resetAfter' });
  faults.add({ path: '/nodes/{node}/tasks', kind: 'otherData', data: () => [null] });
  faults.add({ path: '/nodes/{node}/storage/{storage}/content', kind: 'otherData', data: () => [null] });

  expect((await alice.createVm(100, { cores: 4 })).status).toBe(502);

  await expectExact(site);
  expect(site.booked('alice').cores).toBe(4);
});

test('a create that was lost before PVE acted is given back once PVE cannot act on it any more', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  const { faults, requests } = site.simulator;
  faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'resetBefore' });
  // Others keep the daemon busy that would act on it.
  const busy = { method: 'GET', path: '/nodes/{node}/replication' } as const;
  faults.add({ ...busy, kind: 'refuse', status: 596, reason: 'Connection timed out', times: 2 });

  expect((await alice.createVm(100, { cores: 4 })).status).toBe(502);

  expect(site.booked('alice').cores).toBe(4);
  await expectExact(site);
  expect(site.booked('alice')).toEqual({});
  expect(requests.filter(({ path }) => path === '/nodes/n1/replication').length).toBe(3);
  expect((await alice.createVm(100, { cores: 4 })).status).toBe(200);
});

test('a create that was lost on a node which then leaves the cluster is given back', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'resetBefore' });
  expect((await alice.createVm(100, { cores: 4 })).status).toBe(502);

  site.cluster.nodes.delete('n1');
  await site.server.inventory.list();

  await until('PVE cannot act on it', () => site.booked('alice').cores === undefined);
});

test('a change that was lost with its node is settled where high availability has moved the guest', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  await alice.createVm(100, { cores: 2 });
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu/{vmid}/config', kind: 'resetBefore' });
  expect((await alice.post('/cluster/n1/qemu/100/resources', larger)).status).toBe(502);

  const [node, guest] = [site.cluster.nodes.get('n1'), site.cluster.guests.get(100)];
  if (node === undefined || guest === undefined) throw new Error('there is no n1, or no guest');
  site.cluster.nodes.set('n1', { ...node, online: false });
  guest.node = 'n2';
  await site.server.inventory.list();

  await expectExact(site);
});

test('a change whose answer is lost is settled when the configuration shows it', async () => {
  await using site = await start({ hold: 30 });
  const alice = await site.signIn('alice');
  await alice.createVm(100, { cores: 2 });
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu/{vmid}/config', kind: 'resetAfter' });

  expect((await alice.post('/cluster/n1/qemu/100/resources', larger)).status).toBe(502);

  expectCovered(site);
  await expectExact(site);
  expect(site.booked('alice').cores).toBe(8);
});

test('a task that fails half-way is counted as what it left behind', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  await alice.createVm(100, { cores: 2 });
  await alice.post('/cluster/n1/qemu/100/disk/scsi0/create', { storage: 'ceph', size: 8 });
  site.simulator.faults.add({
    method: 'PUT',
    path: '/nodes/{node}/qemu/{vmid}/resize',
    kind: 'taskFails',
    message: 'no space left',
    halfWay: true,
  });

  const reply = await alice.post('/cluster/n1/qemu/100/disk/scsi0/resize', { size: 8 });

  expect([reply.status, reply.body.error]).toEqual([500, expect.stringContaining('no space left')]);
  await expectExact(site);
  expect(site.booked('alice')['storage:ceph']).toBe(16 * GiB);
});

test('a refusal with umlauts in its reason reaches the user, and the server goes on', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  site.simulator.faults.add({
    method: 'POST',
    path: '/nodes/{node}/qemu',
    kind: 'refuse',
    status: 500,
    reason: 'Gerät überlastet: später erneut – 日本',
  });

  const reply = await alice.createVm(100);

  expect([reply.status, reply.body.error]).toEqual([500, expect.stringContaining('Gerät überlastet')]);
  expect((await alice.createVm(100)).status).toBe(200);
});

test('when the token loses VM.Audit nothing may grow, and nothing is forgotten', async () => {
  await using site = await start({ refresh: { resources: 0.1 } });
  const alice = await site.signIn('alice');
  await alice.createVm(100, { cores: 4 });
  await site.settled();

  site.cluster.access.addRole('QuotaProxy', ['VM.Allocate', 'Datastore.Audit', 'Pool.Audit', 'Sys.Audit']);
  await until('the loss is noticed', () => site.server.inventory.frozen !== undefined);
  const refused = await alice.createVm(101);

  expect([refused.status, refused.body.error]).toEqual([503, expect.stringContaining('VM.Audit')]);
  expect(refused.headers.get('retry-after')).toMatch(/^\d+$/);
  expect(site.booked('alice').cores).toBe(4);
});

test('a guest deleted and made anew between two looks is charged as the new one', async () => {
  await using site = await start({ refresh: { resources: 0.2 } });
  const alice = await site.signIn('alice');
  await alice.createVm(100, { cores: 2, memory: 1024 });
  await site.settled();

  destroyGuest(site.cluster, 100);
  addGuest(site.cluster, {
    vmid: 100,
    pool: 'alice',
    config: { cores: 6, memory: 4096, scsi0: 'ceph:vm-100-disk-0,size=8G' },
  });

  await until(
    'the new guest is counted',
    () => site.booked('alice').cores === 6 && site.booked('alice')['storage:ceph'] === 8 * GiB,
  );
  expect(site.booked('alice').memory).toBe(4096 * MiB);
});

test('while PVE is away every request gets a clear error in time, and service returns by itself', async () => {
  const awayMs = scale(2000, 30_000);
  const { log, lines } = keepLog();
  await using site = await start({ refresh: { resources: 0.2, storage: 0.5 }, log });
  const alice = await site.signIn('alice');
  await alice.createVm(100, { cores: 2 });

  const inFlight = range(10).map((n) => alice.createVm(101 + n));
  await new Promise((resolve) => setTimeout(resolve, 5));
  await site.simulator.stop();
  const cut = await Promise.all(inFlight);
  for (const { status, body } of cut)
    if (status !== 200) expect([status, typeof body.error]).toEqual([expect.toBeOneOf([403, 502, 503, 504]), 'string']);

  const end = performance.now() + awayMs;
  while (performance.now() < end) {
    for (const act of requests(alice)) {
      const from = performance.now();
      const { status, body } = await act();
      expect(performance.now() - from).toBeLessThan(15_000);
      if (status !== 200) expect([status, typeof body.error]).toEqual([expect.toBeOneOf([502, 503, 504]), 'string']);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }

  await site.simulator.start();
  await until('the server serves again', async () => (await alice.createVm(150)).status === 200);
  await site.settled();
  await site.refresh();
  expect(site.booked('alice')).toEqual(site.truth([...vmids, 150]));
  await until('the log says so', () => lines.some((line) => line.includes('PVE can be looked at again')));
});

function requests(alice: Client) {
  return [
    () => alice.get('/user/dynamic/resources'),
    () => alice.get('/proxmox/cluster/resources'),
    () => alice.createVm(151),
    () => alice.post('/cluster/n1/qemu/100/resources', larger),
  ];
}

test('a PVE that takes requests and never answers leads to 504 within the deadline', async () => {
  await using site = await start({ deadlines: { read: 0.5, write: 0.5 } });
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'hang' });

  const reply = await alice.createVm(100);

  expect([reply.status, typeof reply.body.error]).toEqual([504, 'string']);
  await expectExact(site);
});

for (const kind of ['wrongJson', 'endlessAnswer'] as const) {
  test(`an answer that is ${kind === 'wrongJson' ? 'no JSON' : 'endless'} is a clear error, and what PVE did is counted`, async () => {
    await using site = await start({ deadlines: { read: 1, write: 1 } });
    const alice = await site.signIn('alice');
    site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind });

    const reply = await alice.createVm(100, { cores: 2 });

    expect([reply.status, typeof reply.body.error]).toEqual([expect.toBeOneOf([502, 504]), 'string']);
    expectCovered(site);
    await expectExact(site);
    expect(site.booked('alice').cores).toBe(2);
  });
}

test('a client that hangs up changes nothing about what was begun', async () => {
  await using site = await start({ simulator: { taskPace: 200 } });
  const alice = await site.signIn('alice');
  const controller = new AbortController();
  const cookie = [...alice.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const csrf = decodeURIComponent(alice.cookies.get('CSRFPreventionToken') ?? '');
  const request = fetch(`${site.url}/api/cluster/n1/qemu/100/create`, {
    method: 'POST',
    headers: { cookie, csrfpreventiontoken: csrf },
    body: new URLSearchParams({ name: 'web', cores: '2', memory: '512' }),
    signal: controller.signal,
  });
  await site.simulator.waitForRequest(({ method, path }) => method === 'POST' && path === '/nodes/n1/qemu');
  controller.abort();
  await expect(request).rejects.toThrow();

  await until('the guest is there', () => site.cluster.poolOf(100) === 'alice');
  await expectExact(site);
  expect(site.booked('alice').cores).toBe(2);
});
