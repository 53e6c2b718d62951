import { expect, test } from 'vitest';
import { addGuest, setConfig } from '../../simulator/administrator.ts';
import { decoded, refusalIn, shapes } from '../support/decoder.ts';
import { GiB, type Site, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, pci: [{ match: 'Tesla', max: 1 }], vmid: [100, 299] } as const;
const vm = '/cluster/n1/qemu/100/pci';
/** There is a mapping for this device. */
const mapped = '0000:41:00';
/** There is none for this one. */
const raw = '0000:81:00';

async function siteWithVms(): Promise<Site> {
  const site = await startSite({ users: { alice: limits, bob: limits, carol: { ...limits, pci: [] } } });
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { cores: 1, memory: 512 } });
  addGuest(site.cluster, { vmid: 101, type: 'lxc', pool: 'alice', config: { cores: 1, memory: 512, swap: 0 } });
  addGuest(site.cluster, { vmid: 200, pool: 'bob', config: { cores: 1, memory: 512 } });
  addGuest(site.cluster, { vmid: 900, config: { cores: 1, memory: 512, hostpci0: raw } });
  await site.refresh();
  return site;
}

const slotOf = (site: Site, vmid: number, slot: string) => site.cluster.guests.get(vmid)?.config.get(slot);

test('a node shows the devices that are free and that the user may take, each as a whole', async () => {
  await using site = await siteWithVms();
  const [alice, carol] = [await site.signIn('alice'), await site.signIn('carol')];
  const devices = decoded(shapes.devices, await alice.get('/cluster/n1/pci'));
  expect(devices).toEqual([
    expect.objectContaining({
      id: mapped,
      device_bus: mapped,
      device_name: 'TU104GL [Tesla T4]',
      vendor_name: 'NVIDIA Corporation',
      reserved: false,
    }),
  ]);
  expect(Object.keys(devices[0]?.functions ?? {})).toEqual(['0', '1']);
  expect(decoded(shapes.devices, await alice.get('/cluster/n2/pci'))).toEqual([]);
  expect(decoded(shapes.devices, await carol.get('/cluster/n1/pci'))).toEqual([]);
  setConfig(site.cluster, 900, { hostpci0: null });
  await site.refresh();
  expect((await alice.get('/cluster/n1/pci')).body).toHaveLength(2);
});

test('of a node that is not theirs nobody sees devices', async () => {
  await using site = await siteWithVms();
  const alice = await site.signIn('alice');
  for (const node of ['n9', 'localhost', '__proto__'])
    expect(await alice.get(`/cluster/${node}/pci`)).toMatchObject({
      status: 401,
      body: { auth: false, path: node, error: expect.any(String) },
    });
});

test('a device is taken, shown, set otherwise and given back', async () => {
  await using site = await siteWithVms();
  const alice = await site.signIn('alice');
  const taken = await alice.post(`${vm}/create`, { device: `${mapped}.0`, pcie: 1 });
  expect([taken.status, taken.body.exitstatus]).toEqual([200, 'OK']);
  expect(slotOf(site, 100, 'hostpci0')).toBe('mapping=gpu-a,pcie=1');
  expect(site.booked('alice')).toMatchObject({ 'pci TU104GL [Tesla T4]': 1 });

  const shown = decoded(shapes.device, await alice.get(`${vm}/hostpci0`));
  expect(shown).toMatchObject({
    id: mapped,
    device_bus: mapped,
    device_id: 'hostpci0',
    device_name: 'TU104GL [Tesla T4]',
    reserved: true,
    Value: `${mapped},pcie=1`,
  });
  expect(decoded(shapes.device, await alice.get(`${vm}/0`))).toEqual(shown);
  const { devices } = decoded(shapes.instance, await alice.get('/cluster/n1/qemu/100'));
  expect(devices?.hostpci0).toMatchObject({ device_id: 'hostpci0', device_bus: mapped, Value: `${mapped},pcie=1` });
  expect(decoded(shapes.devices, await alice.get('/cluster/n1/pci'))).toEqual([]);

  expect((await alice.post(`${vm}/hostpci0/modify`, { device: mapped, pcie: 0 })).status).toBe(200);
  expect(slotOf(site, 100, 'hostpci0')).toBe('mapping=gpu-a,pcie=0');
  expect((await alice.post(`${vm}/hostpci0/modify`, { device: 'mapping=gpu-a', pcie: 1 })).status).toBe(200);
  expect(slotOf(site, 100, 'hostpci0')).toBe('mapping=gpu-a,pcie=1');
  expect((await alice.delete(`${vm}/hostpci0/delete`)).status).toBe(200);
  expect(slotOf(site, 100, 'hostpci0')).toBeUndefined();
  await site.settled();
  expect((await alice.get('/cluster/n1/pci')).body).toHaveLength(1);
});

test('the slot may be chosen, by its name or its bare number', async () => {
  await using site = await siteWithVms();
  const alice = await site.signIn('alice');
  expect((await alice.post(`${vm}/hostpci3/create`, { device: mapped, pcie: 0 })).status).toBe(200);
  expect(slotOf(site, 100, 'hostpci3')).toBe('mapping=gpu-a,pcie=0');
  expect((await alice.delete(`${vm}/3/delete`)).status).toBe(200);
  expect((await alice.post(`${vm}/7/create`, { device: mapped, pcie: 0 })).status).toBe(200);
  expect(slotOf(site, 100, 'hostpci7')).toBe('mapping=gpu-a,pcie=0');
});

test('of two users who take one device at once, one gets it', async () => {
  await using site = await siteWithVms();
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
  const form = { device: mapped, pcie: 1 };
  const replies = await Promise.all([
    alice.post(`${vm}/create`, form),
    bob.post('/cluster/n1/qemu/200/pci/hostpci0/create', form),
  ]);
  expect(replies.map(({ status }) => status).toSorted()).toEqual([200, 409]);
  const holders = [100, 200].filter((vmid) => slotOf(site, vmid, 'hostpci0') !== undefined);
  expect(holders).toHaveLength(1);
});

test('devices are limited by name, and without a root account only mapped ones can be had', async () => {
  await using site = await siteWithVms();
  setConfig(site.cluster, 900, { hostpci0: null });
  await site.refresh();
  const [alice, carol] = [await site.signIn('alice'), await site.signIn('carol')];
  expect(refusalIn(await carol.post(`${vm}/create`, { device: mapped, pcie: 1 })).status).toBe(403);
  expect(refusalIn(await alice.post(`${vm}/create`, { device: raw, pcie: 1 }))).toMatchObject({
    status: 501,
    error: expect.stringContaining('root'),
  });
});

test.each<[string, string, Record<string, string>, number, RegExp]>([
  ['GET', `${vm}/hostpci0`, {}, 404, /no device hostpci0/],
  ['GET', `${vm}/hostpci16`, {}, 400, /hostpci: expected hostpci0 to hostpci15/],
  ['GET', '/cluster/n1/lxc/101/pci/hostpci0', {}, 400, /only VMs/],
  ['GET', '/cluster/n1/qemu/200/pci/hostpci0', {}, 403, /Permission/],
  ['POST', '/cluster/n1/lxc/101/pci/create', { device: mapped, pcie: '1' }, 400, /only VMs/],
  ['POST', `${vm}/hostpci0/modify`, { device: mapped, pcie: '1' }, 404, /no device hostpci0/],
  ['DELETE', `${vm}/hostpci0/delete`, {}, 404, /no device hostpci0/],
  ['POST', `${vm}/hostpci/create`, { device: mapped, pcie: '1' }, 400, /hostpci: expected/],
  ['POST', `${vm}/create`, { device: mapped }, 400, /pcie: expected 1 or 0/],
  ['POST', `${vm}/create`, { device: `${mapped},romfile=x`, pcie: '1' }, 400, /device: expected the bus id/],
  ['POST', `${vm}/create`, { device: '0000:41', pcie: '1' }, 400, /device: expected the bus id/],
  ['POST', `${vm}/create`, { device: `${mapped};0000:81:00`, pcie: '1' }, 400, /device: expected the bus id/],
])('%s %s with %j is refused with %i and says why', async (method, path, form, status, why) => {
  await using site = await siteWithVms();
  const alice = await site.signIn('alice');
  const reply = await (method === 'GET' ? alice.get(path) : alice.send(method, path, form));
  expect(refusalIn(reply)).toEqual({ status, error: expect.stringMatching(why) });
  expect(site.simulator.requests.filter(({ method, path }) => method !== 'GET' && /^\/nodes/.test(path))).toEqual([]);
});

test('a slot that is taken is not taken again', async () => {
  await using site = await siteWithVms();
  setConfig(site.cluster, 100, { hostpci0: 'mapping=gpu-a' });
  const alice = await site.signIn('alice');
  const refused = refusalIn(await alice.post(`${vm}/hostpci0/create`, { device: mapped, pcie: 1 }));
  expect(refused).toMatchObject({ status: 409, error: expect.stringContaining('has a device hostpci0 already') });
});
