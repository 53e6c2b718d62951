import Sqlite from 'better-sqlite3';
import { expect, test } from 'vitest';
import { addGuest, addVolume } from '../../simulator/administrator.ts';
import { admit } from '../../src/admission/admit.ts';
import type { Caller } from '../../src/admission/gate.ts';
import { completeRecord } from '../../src/backends/normalise.ts';
import { call, type Params } from '../../src/pve/call.ts';
import { range } from '../support/scale.ts';
import { type Client, GiB, MiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 16, memory: 64 * GiB, swap: 16 * GiB, network: 1e8, ceph: 100 * GiB, fast: 100 * GiB } as const;

function start(more: Parameters<typeof startSite>[0] = {}): Promise<Site> {
  return startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, vmid: [200, 299] } },
    ...more,
  });
}

/** A tenant who speaks to the gate in PVE's own words; what comes back is PVE's status, or the error that refuses. */
class Tenant {
  readonly #gate: Site['server']['gate'];
  readonly #caller: Caller;

  constructor({ server }: Site, name: string, { cookies }: Client) {
    this.#gate = server.gate;
    const amounts = Object.entries(limits).map(([resource, max]) => [resource, { global: { max }, nodes: {} }]);
    this.#caller = {
      user: `${name}@pve`,
      credential: { kind: 'ticket', ticket: decodeURIComponent(cookies.get('PVEAuthCookie') ?? '') },
      record: completeRecord({
        resources: Object.fromEntries(amounts),
        cluster: { nodes: { n1: true }, pools: { [name]: true }, vmid: { min: 100, max: 199 } },
      }),
      address: '192.0.2.1',
    };
  }

  async send(method: 'POST' | 'PUT', path: string, params: Params): Promise<unknown> {
    try {
      const { answer, settled } = await admit(this.#gate, call(method, path, [], params), this.#caller);
      await settled;
      return answer.status;
    } catch (error) {
      return error;
    }
  }
}

const ostemplate = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

test('of two changes of one configuration that were judged alone, a digest of 0 lets no second one through', async () => {
  await using site = await start({ simulator: { taskPace: 200 } });
  const client = await site.signIn('alice');
  await client.createVm(100);
  const alice = new Tenant(site, 'alice', client);

  const grow = (slot: string, digest: string) =>
    alice.send('POST', '/nodes/n1/qemu/100/config', { [slot]: 'ceph:60', digest });
  const outcomes = await Promise.all([grow('scsi1', '0'), grow('scsi2', '0')]);

  expect(outcomes).toEqual([
    expect.objectContaining({ code: 'conflict' }),
    expect.objectContaining({ code: 'conflict' }),
  ]);
  expect(site.truth([100])['storage:ceph']).toBeUndefined();
});

test('a refusal about a vmid that is none is written down like any other', async () => {
  await using site = await start();
  const alice = new Tenant(site, 'alice', await site.signIn('alice'));

  for (const vmid of ['100.5', '1e30', '-1', 'x'])
    expect(await alice.send('POST', '/nodes/n1/qemu', { vmid })).toMatchObject({ code: 'bad_request' });

  site.server.ledger.save();
  const database = new Sqlite(`${site.directory}/site.db`, { readonly: true });
  const { decisions } = database.prepare('SELECT count(*) AS decisions FROM decision').get() as { decisions: number };
  database.close();
  expect(decisions).toBe(4);
});

test('a container is unprivileged also where the call does not say so', async () => {
  await using site = await start();
  const alice = new Tenant(site, 'alice', await site.signIn('alice'));

  await alice.send('POST', '/nodes/n1/lxc', { vmid: '100', ostemplate, rootfs: 'ceph:4', cores: '1' });

  const sent = site.simulator.requests.find(({ method, path }) => method === 'POST' && path === '/nodes/n1/lxc');
  expect(sent?.params.unprivileged).toBe('1');
});

test('a rate so small that PVE cuts it to none needs an unlimited quota', async () => {
  await using site = await start();
  const alice = new Tenant(site, 'alice', await site.signIn('alice'));

  const outcome = await alice.send('POST', '/nodes/n1/qemu', {
    vmid: '100',
    net0: 'virtio,bridge=vmbr0,rate=0.0000009',
  });

  expect(outcome).toMatchObject({ code: 'quota_exceeded', message: expect.stringContaining('network') });
});

test("the host's own CD-ROM drive is not the tenant's to use", async () => {
  await using site = await start();
  const client = await site.signIn('alice');
  await client.createVm(100);
  const alice = new Tenant(site, 'alice', client);

  const outcome = await alice.send('PUT', '/nodes/n1/qemu/100/config', { ide2: 'cdrom,media=cdrom' });

  expect(outcome).toMatchObject({ code: 'bad_request', message: expect.stringContaining('ide2') });
});

test('nobody stops paying for a guest by giving it another uuid', async () => {
  await using site = await start();
  const client = await site.signIn('alice');
  const uuid = (digit: number) => `uuid=${digit}1111111-1111-4111-8111-111111111111`;
  addGuest(site.cluster, { vmid: 300, pool: 'alice', config: { cores: 2, memory: 512, smbios1: uuid(1) } });
  await site.refresh();
  site.server.ledger.assign(300, ['bob@pve']);
  const alice = new Tenant(site, 'alice', client);
  const write = (params: Params) => alice.send('PUT', '/nodes/n1/qemu/300/config', params);

  expect(await write({ smbios1: uuid(2) })).toMatchObject({ code: 'bad_request' });
  expect(await write({ delete: 'smbios1' })).toMatchObject({ code: 'bad_request' });
  expect(await write({ smbios1: `${uuid(1)},family=web` })).toBe(200);

  await site.refresh();
  expect(site.server.ledger.payersOf(300)).toEqual(['bob@pve']);
});

test('asking for a vmid that an unseen guest has neither shows that guest nor takes it over', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  addGuest(site.cluster, { vmid: 150, pool: 'bob', config: { cores: 8, memory: 512, description: 'secret' } });
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'delay', ms: 300 });

  const creating = alice.createVm(150);
  const seen = await Promise.all(range(10).map(() => alice.get('/proxmox/nodes/n1/qemu/150/config')));
  const reply = await creating;

  expect(seen.map(({ status }) => status)).toEqual(range(10).map(() => 403));
  expect([reply.status, reply.body.error]).toEqual([409, expect.stringContaining('already taken')]);
  await site.refresh();
  expect(site.server.ledger.recordedPayers(150)).toEqual([]);
  expect(site.booked('bob').cores).toBe(8);
});

test('a guest that gets the vmid first stays with those who claim it', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'delay', ms: 300 });
  const creating = alice.createVm(150);
  await until('the change is charged', () => site.server.ledger.reservations().length > 0);
  addGuest(site.cluster, { vmid: 150, pool: 'bob', config: { cores: 8, memory: 512 } });

  expect((await creating).status).toBe(500);

  await site.refresh();
  expect(site.server.ledger.payersOf(150)).toEqual(['bob@pve']);
  expect(site.booked('alice')).toEqual({});
});

test('a volume whose size makes no sense blocks growth of its storage, and nothing else', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  await alice.createVm(100);
  for (const [n, bytes] of [1.5, -1, 1e300].entries())
    addVolume(site.cluster, { volid: `ceph:vm-100-disk-${n}`, content: 'images', bytes });
  await site.refresh();

  site.server.ledger.save();
  expect((await alice.createVm(101)).status).toBe(200);
  const refused = await alice.createContainer(102);
  expect([refused.status, refused.body.error]).toEqual([403, expect.stringContaining('the size of')]);
});

test('volumes of one name on the storages of two nodes both count', async () => {
  await using site = await start();
  addVolume(site.cluster, { volid: 'fast:vm-100-disk-0', node: 'n1', content: 'images', bytes: 50 * GiB });
  addGuest(site.cluster, {
    vmid: 100,
    node: 'n2',
    pool: 'alice',
    config: { cores: 1, memory: 512, scsi0: 'fast:vm-100-disk-0,size=20G' },
  });

  await site.refresh();

  expect(site.booked('alice')['storage:fast']).toBe(70 * GiB);
});

test('a volume that has moved to another node with its guest counts once as soon as the guest is looked at', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  await alice.createVm(100);
  await alice.post('/cluster/n1/qemu/100/disk/scsi0/create', { storage: 'fast', size: 10 });
  const { guests, volumes } = site.cluster;

  for (const volume of volumes.ofGuest(100)) {
    volumes.remove(volume);
    volumes.add({ ...volume, node: 'n2' });
  }
  Object.assign(guests.get(100) ?? {}, { node: 'n2' });
  const reply = await alice.post('/cluster/n2/qemu/100/disk/scsi1/create', { storage: 'fast', size: 1 });

  expect(reply.status).toBe(200);
  expect(site.booked('alice')['storage:fast']).toBe(11 * GiB);
});

test('while the database takes no payers nothing that is held is forgotten', async () => {
  await using site = await start();
  const alice = await site.signIn('alice');
  site.simulator.faults.add({ method: 'POST', path: '/nodes/{node}/qemu', kind: 'delay', ms: 300 });
  const creating = alice.createVm(100, { cores: 8 });
  await until('the change is charged', () => site.server.ledger.reservations().length > 0);
  const administrator = new Sqlite(`${site.directory}/site.db`);
  administrator.exec("CREATE TRIGGER full BEFORE UPDATE ON owner BEGIN SELECT RAISE(FAIL, 'no room'); END");

  await creating;
  for (const _ of range(3)) await site.refresh();
  expect(site.booked('alice')).toEqual({ cores: 8, memory: 512 * MiB });

  administrator.exec('DROP TRIGGER full');
  administrator.close();
  await site.refresh();
  expect(site.booked('alice')).toEqual({ cores: 8, memory: 512 * MiB });
});

test('a create on a storage that its node does not have ends with the refusal, and nothing stays reserved', async () => {
  const resources = Object.fromEntries(
    ['cores', 'memory', 'swap', 'network'].map((name) => [name, { type: 'numeric' }]),
  );
  const defaultuser = { resources: { tank: { global: { max: 100 * GiB }, nodes: {} } } };
  await using site = await start({
    taskWait: 2,
    config: { resources: { ...resources, cpu: { type: 'list' }, tank: { type: 'storage' } }, defaultuser },
  });
  const alice = await site.signIn('alice');

  const reply = await alice.createContainer(100, { node: 'n3', rootfslocation: 'tank' });

  expect([reply.status, reply.body.error]).toEqual([500, expect.stringContaining("'tank' is not available")]);
  expect(site.server.ledger.reservations()).toEqual([]);
});

test('a storage may have a name that every object knows', async () => {
  const storage = { type: 'storage', disks: ['scsi'] };
  await using site = await start({
    config: { resources: { constructor: storage, cores: { type: 'numeric' }, memory: { type: 'numeric' } } },
  });
  const alice = await site.signIn('alice');

  expect((await alice.createVm(100)).status).toBe(200);
});

test('a CSRF header that could not be passed on is a refusal like a wrong one', async () => {
  await using site = await start();
  addGuest(site.cluster, { vmid: 100, pool: 'alice' });
  const alice = await site.signIn('alice');
  const ticket = `PVEAuthCookie=${alice.cookies.get('PVEAuthCookie')}`;
  alice.cookies.clear();

  const { status } = await alice.send('POST', '/proxmox/nodes/n1/qemu/100/status/start', '', {
    authorization: ticket,
    csrfpreventiontoken: '\u00ff',
  });

  expect(status).toBe(401);
});

test('made-up tickets do not keep out who signs in meanwhile', async () => {
  await using site = await start({ simulator: { unauthorizedDelay: 300 } });
  const time = Math.floor(Date.now() / 1000)
    .toString(16)
    .toUpperCase();
  const flood = range(100).map((n) =>
    fetch(`${site.url}/api/access`, {
      headers: { cookie: `PVEAuthCookie=${encodeURIComponent(`PVE:alice@pve:${time}::${btoa(String(n))}`)}` },
    }).then((response) => response.text()),
  );
  await until('strangers are asked about', () => site.simulator.requests.length > 8);

  let over = false;
  const answered = Promise.all(flood).then(() => {
    over = true;
  });
  const alice = await site.signIn('alice');
  const reply = await alice.get('/user/config/cluster');

  expect(reply.status).toBe(200);
  expect(over).toBe(false);
  await answered;
});
