import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { GiB, startSite, type UserSketch } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 4 * GiB, ceph: 64 * GiB, network: 300_000_000 } as const;
const vm = '/cluster/n1/qemu/100/net';
const container = '/cluster/n1/lxc/101/net';

async function siteWithGuests(sketch: UserSketch = limits) {
  const site = await startSite({ users: { alice: sketch } });
  addGuest(site.cluster, {
    vmid: 100,
    pool: 'alice',
    config: { cores: 1, memory: 512, net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr1,firewall=1,rate=100,tag=20' },
  });
  addGuest(site.cluster, {
    vmid: 101,
    type: 'lxc',
    pool: 'alice',
    config: {
      cores: 1,
      memory: 512,
      swap: 512,
      net0: 'name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:02,rate=50,type=veth',
    },
  });
  await site.refresh();
  const alice = await site.signIn('alice');
  const partsOf = (vmid: number, net: string) => site.cluster.guests.get(vmid)?.config.get(net)?.split(',').toSorted();
  return { site, alice, partsOf, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() };
}

test("a VM's card is added as the user's template says, slowed down and taken away, and counted all the way", async () => {
  await using all = await siteWithGuests();
  const { site, alice, partsOf } = all;
  const added = await alice.post(`${vm}/net1/create`, { rate: 150, name: 'null' });
  expect([added.status, added.body.exitstatus]).toEqual([200, 'OK']);
  expect(partsOf(100, 'net1')).toEqual(['bridge=vmbr0', 'rate=150', 'tag=10', expect.stringMatching(/^virtio=/)]);
  expect(site.booked('alice').network).toBe(300_000_000);

  const address = partsOf(100, 'net1')?.at(-1);
  expect((await alice.post(`${vm}/net1/modify`, { rate: '2.5' })).status).toBe(200);
  expect(partsOf(100, 'net1')).toEqual(['bridge=vmbr0', 'rate=2.5', 'tag=10', address]);
  expect((await alice.delete(`${vm}/net1/delete`)).status).toBe(200);
  expect(partsOf(100, 'net1')).toBeUndefined();
  await site.settled();
  expect(site.booked('alice')).toEqual(site.truth([100, 101]));
});

test("another rate keeps a card's address and all that an administrator has set", async () => {
  await using all = await siteWithGuests();
  const { alice, partsOf } = all;
  expect((await alice.post(`${vm}/net0/modify`, { rate: 120 })).status).toBe(200);
  expect(partsOf(100, 'net0')).toEqual(
    ['virtio=BC:24:11:00:00:01', 'bridge=vmbr1', 'firewall=1', 'rate=120', 'tag=20'].toSorted(),
  );
  expect((await alice.post(`${container}/net0/modify`, { rate: 60, name: 'null' })).body).toEqual({ data: null });
  expect(partsOf(101, 'net0')).toEqual([
    ...['bridge=vmbr0', 'hwaddr=BC:24:11:00:00:02', 'name=eth0', 'rate=60', 'type=veth'],
  ]);
});

test("a container's card gets the name in the form, or the first free one when the form has none", async () => {
  await using all = await siteWithGuests();
  const { alice, partsOf } = all;
  expect((await alice.post(`${container}/net3/create`, { rate: 10, name: 'wan' })).status).toBe(200);
  expect(partsOf(101, 'net3')).toEqual(
    expect.arrayContaining(['name=wan', 'bridge=vmbr0', 'ip=dhcp', 'ip6=dhcp', 'rate=10', 'tag=10', 'type=veth']),
  );
  expect((await alice.post(`${container}/net2/create`, { rate: 10, name: 'eth1' })).status).toBe(200);
  expect((await alice.post(`${container}/net1/create`, { rate: 10, name: 'null' })).status).toBe(200);
  expect(partsOf(101, 'net1')).toContain('name=eth2');
});

test('a card may be named by its bare number', async () => {
  await using all = await siteWithGuests();
  const { alice, partsOf } = all;
  expect((await alice.post(`${vm}/1/create`, { rate: 10 })).status).toBe(200);
  expect((await alice.post(`${vm}/1/modify`, { rate: 20 })).status).toBe(200);
  expect(partsOf(100, 'net1')).toContain('rate=20');
  expect((await alice.delete(`${vm}/1/delete`)).status).toBe(200);
});

test('rates are limited, and a card without a limit needs an unlimited quota', async () => {
  await using all = await siteWithGuests();
  const { alice } = all;
  const tooFast = await alice.post(`${vm}/net1/create`, { rate: 151 });
  expect([tooFast.status, tooFast.body.request]).toEqual([403, { network: 151_000_000 }]);
  expect((await alice.post(`${vm}/net0/modify`, { rate: 251 })).status).toBe(403);
  expect((await alice.post(`${vm}/net1/create`, { rate: 0 })).status).toBe(403);

  await using free = await siteWithGuests({ ...limits, network: 'unlimited' });
  expect((await free.alice.post(`${vm}/net1/create`, { rate: 0 })).status).toBe(200);
});

test('who has no network template gets no card', async () => {
  await using all = await siteWithGuests({ ...limits, templates: { instances: { lxc: {}, qemu: {} }, network: {} } });
  const reply = await all.alice.post(`${vm}/net1/create`, { rate: 10 });
  expect([reply.status, reply.body.error]).toEqual([403, expect.stringContaining('no network is set up')]);
});

test.each<[string, string, Record<string, string>, number, RegExp]>([
  ['POST', `${vm}/net0/create`, { rate: '1' }, 409, /has a network card net0 already/],
  ['POST', `${container}/net1/create`, { rate: '1', name: 'eth0' }, 409, /has a network card named eth0 already/],
  ['POST', `${vm}/net9/modify`, { rate: '1' }, 404, /no network card net9/],
  ['DELETE', `${vm}/net9/delete`, {}, 404, /no network card net9/],
  ['POST', `${vm}/net32/create`, { rate: '1' }, 400, /netid: expected net0 to net31/],
  ['POST', `${vm}/net00/create`, { rate: '1' }, 400, /netid: expected net0 to net31/],
  ['POST', `${vm}/scsi0/modify`, { rate: '1' }, 400, /netid: expected net0 to net31/],
  ['DELETE', `${vm}/net0,net1/delete`, {}, 400, /netid: expected net0 to net31/],
  ['DELETE', `${vm}/net0/delete`, { force: '1' }, 400, /force: unknown here/],
  ['POST', `${vm}/net1/create`, { rate: '1', bridge: 'vmbr9' }, 400, /bridge: unknown here/],
  ['POST', `${container}/net1/create`, { rate: '1', name: 'a,bridge=vmbr9' }, 400, /name: expected/],
  ['POST', `${container}/net1/create`, { rate: '1', name: 'x'.repeat(16) }, 400, /name: expected/],
  ...['', 'null', '-1', '1e3', '0x10', '+5', ' 5', '1,tag=3', '0.0001', 'NaN', '1000001'].map(
    (rate): [string, string, Record<string, string>, number, RegExp] => [
      'POST',
      `${vm}/net0/modify`,
      { rate },
      400,
      /rate: expected a number of MB\/s from 0.001 to 1000000/,
    ],
  ),
])('%s %s with %j is refused with %i and says why', async (method, path, form, status, why) => {
  await using all = await siteWithGuests();
  const { site, alice } = all;
  const reply = await alice.send(method, path, form);
  expect([reply.status, reply.body.error]).toEqual([status, expect.stringMatching(why)]);
  expect(site.simulator.requests.filter(({ method, path }) => method !== 'GET' && /^\/nodes/.test(path))).toEqual([]);
});
