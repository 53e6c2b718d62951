import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { GiB, MiB, startSite } from '../support/site.ts';

const endless = 9007199254740991;
const limits = { cores: 8, memory: 8 * GiB, swap: 4 * GiB, ceph: 64 * GiB, network: 'unlimited' } as const;

test('usage is shown for every configured resource, by scope, in whole numbers of quota units', async () => {
  await using site = await startSite({
    users: { alice: { ...limits, nodes: { n2: { cores: 4 } } } },
  });
  addGuest(site.cluster, {
    vmid: 100,
    pool: 'alice',
    config: { cores: 3, memory: 1024, scsi0: 'ceph:vm-100-disk-0,size=8G', net0: 'virtio,bridge=vmbr0,rate=100' },
  });
  addGuest(site.cluster, { vmid: 101, node: 'n2', pool: 'alice', config: { cores: 2, memory: 512 } });
  addGuest(site.cluster, { vmid: 5000, node: 'n3', config: { cores: 16, memory: 512 } });
  await site.refresh();
  const alice = await site.signIn('alice');
  const { status, body } = await alice.get('/user/dynamic/resources');
  expect(status).toBe(200);
  expect(Object.keys(body)).toEqual(['cpu', 'cores', 'memory', 'swap', 'network', 'pci', 'local', 'fast', 'ceph']);
  expect(body.cores).toEqual({
    global: { max: 8, used: 3, avail: 5 },
    nodes: { n2: { max: 4, used: 2, avail: 2 } },
    total: { max: 12, used: 5, avail: 7 },
  });
  expect(body.memory.total).toEqual({ max: 8 * GiB, used: 1536 * MiB, avail: 8 * GiB - 1536 * MiB });
  expect(body.fast).toEqual({ global: { max: 0, used: 0, avail: 0 }, nodes: {}, total: { max: 0, used: 0, avail: 0 } });
  expect(body.network.global).toEqual({ max: endless, unlimited: true, used: 100_000_000, avail: endless });
  expect(body.cpu.global).toEqual([{ match: 'host', name: 'host', max: 1, used: 0, avail: 1 }]);
  expect(body.pci).toEqual({ global: [], nodes: {}, total: [] });
});

test('what is reserved counts as used', async () => {
  await using site = await startSite({ users: { alice: limits }, simulator: { taskPace: 'by hand' }, taskWait: 0.05 });
  const alice = await site.signIn('alice');
  const { body } = await alice.createVm(100, { cores: 3 });
  expect((await alice.get('/user/dynamic/resources')).body.cores.global).toEqual({ max: 8, used: 3, avail: 5 });
  site.cluster.tasks.finish(body.upid);
  await site.settled();
});

test("a user's grants and limits are shown without usage, and nothing else of them", async () => {
  await using site = await startSite({ users: { alice: { ...limits, vmid: [100, 199], pools: ['lab'] } } });
  const alice = await site.signIn('alice');
  expect((await alice.get('/user/config/cluster')).body).toEqual({
    admin: false,
    nodes: { n1: true, n2: true, n3: true },
    pools: { alice: true, lab: true },
    vmid: { min: 100, max: 199 },
    backups: { max: 2 },
  });
  const { body } = await alice.get('/user/config/resources');
  expect(body.cores).toEqual({ global: { max: 8 }, nodes: {} });
  expect(body.network.global).toEqual({ max: endless, unlimited: true });
  expect(body.cpu).toEqual({ global: [{ match: 'host', name: 'host', max: 1 }], nodes: {} });
  for (const key of ['templates', 'attributes', '__proto__', 'constructor']) {
    const refused = await alice.get(`/user/config/${key}`);
    expect([refused.status, refused.body]).toEqual([401, { auth: false, error: expect.any(String) }]);
  }
});

test('the kinds of resources are described for everybody, each with a category', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');
  const { body } = await alice.get('/global/config/resources');
  expect(body.resources.memory).toEqual({
    type: 'numeric',
    name: 'RAM',
    multiplier: 1,
    base: 1024,
    compact: true,
    unit: 'B',
    display: true,
    category: '',
  });
  expect(body.resources.cpu).toMatchObject({ type: 'list', name: 'cpu', whitelist: true, category: '' });
  expect((await alice.get('/global/config/backends')).status).toBe(401);
});

test('images and templates on offer are listed by name', async () => {
  await using site = await startSite({ users: { alice: limits } });
  const alice = await site.signIn('alice');
  const isos = await alice.get('/user/vm-isos');
  expect([isos.status, isos.body]).toEqual([
    200,
    [expect.objectContaining({ volid: 'shared:iso/debian-13.iso', name: 'debian-13.iso', content: 'iso' })],
  ]);
  const [template] = (await alice.get('/user/ct-templates')).body;
  expect(template.name).toBe('debian-13-standard_13.1-1_amd64.tar.zst');

  site.simulator.faults.add({ path: /\/storage\/shared\/content$/, kind: 'refuse', status: 500, reason: 'no storage' });
  const broken = await alice.get('/user/vm-isos');
  expect([broken.status, broken.body]).toEqual([500, { error: 'no storage' }]);
});

test('administrators see all pools, others their own; everybody the nodes', async () => {
  await using site = await startSite({ users: { alice: limits, bob: limits, root: { admin: true } } });
  const [alice, root] = [await site.signIn('alice'), await site.signIn('root')];
  expect((await alice.get('/cluster/pools')).body).toEqual({ pools: ['alice'] });
  expect((await root.get('/cluster/pools')).body.pools.toSorted()).toEqual(['alice', 'bob', 'root']);
  expect((await alice.get('/cluster/nodes')).body.nodes.toSorted()).toEqual(['n1', 'n2', 'n3']);
});
