/** Ways past a quota through time, through side doors, and through the rights of the privileged token. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addBackup, addGuest } from '../../simulator/administrator.ts';
import { expectRefused, expectTruth, type Metered, metered, startOver } from '../support/metered.ts';
import { PveClient } from '../support/pve-client.ts';
import { range } from '../support/scale.ts';
import { GiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 8, memory: 8 * GiB, swap: 8 * GiB, ceph: 64 * GiB } as const;
const vm = '/nodes/n1/qemu/100';
const ct = '/nodes/n1/lxc/101';
const template = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

let site: Site;
let alice: Metered;
/** The same user, whose calls do not wait for what they begin. */
let hasty: PveClient;

beforeAll(async () => {
  site = await startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, vmid: [200, 299] } },
    config: { backups: { storage: 'shared' } },
    hold: 0.2,
  });
  addGuest(site.cluster, { vmid: 200, pool: 'bob', config: { cores: 1, memory: 512 } });
  alice = await metered(site, 'alice');
  hasty = await PveClient.signIn(site, 'alice');
});

afterAll(() => site[Symbol.asyncDispose]());

beforeEach(() => startOver(site, 'alice', 100));

const hers = () => [...site.cluster.guests.keys()].filter((vmid) => vmid < 200);

async function expectAllBooked(): Promise<void> {
  await site.settled();
  expectTruth(site, 'alice', hers());
}

describe('requests that fit alone', () => {
  test('do not fit together, whichever surface and call each of them takes', async () => {
    const dashboard = await site.signIn('alice');
    const replies = await Promise.all(
      range(24).map((n) => {
        const create = { vmid: 110 + n, cores: 1, memory: 512 };
        if (n % 4 === 0) return dashboard.createVm(110 + n);
        if (n % 4 === 1) return hasty.post('/nodes/n1/qemu', create, { format: 'extjs' });
        if (n % 4 === 2) return hasty.post('/nodes/n2/qemu', {}, { json: create });
        return hasty.post('/nodes/n1/lxc', { ...create, ostemplate: template, rootfs: 'ceph:1' });
      }),
    );
    await expectAllBooked();
    expect(site.booked('alice').cores).toBe(8);
    expect(hers()).toHaveLength(8);
    expect(replies.filter(({ status, body }) => status === 200 && body.success !== 0)).toHaveLength(6);
  });

  test('do not fit together on one guest either', async () => {
    const bodies = [{ cores: 7 }, { cores: 6 }, { sockets: 7 }, { scsi1: 'ceph:40' }, { scsi2: 'ceph:40' }];
    await Promise.all(bodies.map((body) => hasty.put(`${vm}/config`, body)));
    await expectAllBooked();
    expect(site.booked('alice').cores).toBeLessThanOrEqual(8);
    expect(site.booked('alice')['storage:ceph']).toBeLessThanOrEqual(64 * GiB);
  });
});

describe('a task', () => {
  const copy = { newid: 120, full: 1 };

  test('that runs long after the answer counts all the while', async () => {
    site.cluster.tasks.pace = 'by hand';
    expect((await hasty.post(`${vm}/clone`, copy)).status).toBe(200);
    expect((await hasty.put(`${ct}/config`, { cores: 7 })).status).toBe(403);
    expect((await hasty.post('/nodes/n1/qemu', { vmid: 121, scsi0: 'ceph:57', memory: 512 })).status).toBe(403);
    site.cluster.tasks.finishAll();
    await expectAllBooked();
    expect(site.booked('alice')).toMatchObject({ cores: 3, 'storage:ceph': 12 * GiB });
  });

  test('that is deleted on its way counts until it has ended, and then as what it left', async () => {
    site.cluster.tasks.pace = 'by hand';
    for (const begin of [
      () => hasty.post(`${vm}/clone`, copy),
      () => hasty.post('/nodes/n1/qemu', { vmid: 122, cores: 2, memory: 1024, scsi0: 'ceph:8' }),
      () => hasty.post('/nodes/n1/lxc', { vmid: 123, cores: 2, memory: 512, ostemplate: template, rootfs: 'ceph:8' }),
      () => hasty.put(`${vm}/resize`, { disk: 'scsi0', size: '20G' }),
    ]) {
      const { status, reason, body } = await begin();
      expect(status, reason).toBe(200);
      expect((await hasty.put(`${ct}/config`, { cores: 8 })).status).toBe(403);
      const upid = encodeURIComponent(body.data);
      expect((await hasty.delete(`/nodes/n1/tasks/${upid}`)).status).toBe(200);
      await expectAllBooked();
    }
  });

  test.each([
    ['a disk', () => hasty.put(`${vm}/config`, { scsi1: 'ceph:8' }), '/nodes/{node}/qemu/{vmid}/config'],
    ['a copy', () => hasty.post(`${vm}/clone`, copy), '/nodes/{node}/qemu/{vmid}/clone'],
    [
      'a move',
      () => hasty.post(`${vm}/move_disk`, { disk: 'scsi0', storage: 'ceph' }),
      '/nodes/{node}/qemu/{vmid}/move_disk',
    ],
    ['a create', () => hasty.post('/nodes/n1/qemu', { vmid: 124, memory: 512, scsi0: 'ceph:8' }), '/nodes/{node}/qemu'],
  ])('that fails with its work done leaves what it leaves, and that is counted: %s', async (_, begin, path) => {
    site.simulator.faults.add({ kind: 'taskFails', message: 'no space left on device', halfWay: true, path });
    await begin();
    await expectAllBooked();
  });

  test('that fails to restore leaves the configuration, and that is counted', async () => {
    const { volid } = addBackup(site.cluster, {
      vmid: 100,
      config: { cores: 4, memory: 1024, scsi0: 'ceph:vm-100-disk-0,size=4G' },
    });
    await site.refresh();
    for (const halfWay of [true, false]) {
      const vmid = halfWay ? 130 : 131;
      site.simulator.faults.add({ kind: 'taskFails', message: 'broken archive', halfWay, path: '/nodes/{node}/qemu' });
      expect((await hasty.post('/nodes/n1/qemu', { vmid, archive: volid, storage: 'ceph', cores: 2 })).status).toBe(
        200,
      );
      await expectAllBooked();
    }
  });

  test('of which PVE tells no UPID is awaited all the same: a container becomes a template', async () => {
    expect(await alice.post(`${ct}/template`)).toMatchObject({ status: 200 });
    await expectAllBooked();
  });
});

describe('an answer that says nothing about the outcome', () => {
  test.each([
    ['with all done', 'refuseAfter', 5],
    ['with nothing done', 'refuse', 1],
  ] as const)('of a change %s leads to what PVE shows', async (_, kind, cores) => {
    for (const status of [595, 596, 599]) {
      site.simulator.faults.add({
        kind,
        status,
        reason: 'Connection timed out',
        path: '/nodes/{node}/qemu/{vmid}/config',
        method: 'PUT',
      });
      const reply = await hasty.put(`${vm}/config`, { cores: 5 });
      expect([reply.status, reply.reason]).toEqual([status, 'Connection timed out']);
      expect((await hasty.put(`${ct}/config`, { cores: 8 })).status).toBe(403);
      await expectAllBooked();
      expect(site.cluster.guests.get(100)?.config.get('cores')).toBe(String(cores));
      await alice.put(`${vm}/config`, { cores: 1 });
    }
  });

  test('of a create counts as long as PVE can still be at it', async () => {
    site.simulator.faults.add({
      kind: 'refuseAfter',
      status: 596,
      reason: 'Broken pipe',
      path: '/nodes/{node}/qemu',
      method: 'POST',
    });
    expect((await hasty.post('/nodes/n1/qemu', { vmid: 140, cores: 6, memory: 512 })).status).toBe(596);
    expect((await hasty.put(`${ct}/config`, { cores: 2 })).status).toBe(403);
    await expectAllBooked();
    expect(site.booked('alice').cores).toBe(8);
  });
});

describe('a side door', () => {
  test.each<[string, string, Record<string, string | number>]>([
    ['all guests of a node to suspend', '/nodes/n1/suspendall', {}],
    ['all guests of a node to move', '/nodes/n1/migrateall', { target: 'n2' }],
    ['all guests of the cluster to suspend', '/cluster/bulk-action/guest/suspend', { 'to-disk': 1 }],
    ['all guests of the cluster to move', '/cluster/bulk-action/guest/migrate', { target: 'n2' }],
    ['no guest, in an empty list', '/nodes/n1/suspendall', { vms: '' }],
    ['all guests to back up', '/nodes/n1/vzdump', { all: 1, storage: 'shared', remove: 0 }],
    ['a pool to back up', '/nodes/n1/vzdump', { pool: 'alice', storage: 'shared', remove: 0 }],
    [
      'many calls in one',
      '/nodes/n1/execute',
      { commands: `[{"method":"PUT","path":"${vm}/config","args":{"cores":64}}]` },
    ],
    ['the monitor', `${vm}/monitor`, { command: 'device_add virtio-balloon' }],
    [
      'a migration to elsewhere',
      `${vm}/remote_migrate`,
      { 'target-endpoint': 'host=x', 'target-bridge': '1', 'target-storage': '1' },
    ],
    ['a migration from elsewhere', `${vm}/mtunnel`, {}],
  ])('is not open to tenants: %s', async (_, path, params) => {
    await expectRefused(site, () => alice.post(path, params), /./);
  });

  test.each<[string, 'post' | 'put' | 'delete', string, Record<string, string | number>]>([
    ['HA groups', 'post', '/cluster/ha/groups', { group: 'all', nodes: 'n1,n2' }],
    ['HA resources', 'post', '/cluster/ha/resources', { sid: 'vm:100' }],
    ['moves by HA', 'post', '/cluster/ha/resources/vm:100/migrate', { node: 'n3' }],
    ['starting all guests', 'post', '/nodes/n1/startall', {}],
    ['backup jobs', 'post', '/cluster/backup', { all: 1, schedule: 'daily', storage: 'shared' }],
    ['jobs at a time', 'post', '/cluster/jobs/realm-sync/x', { schedule: 'daily' }],
    ['a storage of their own', 'post', '/storage', { storage: 'mine', type: 'dir', path: '/mnt' }],
    ['a mapped directory', 'post', '/cluster/mapping/dir', { id: 'etc', map: 'node=n1,path=/etc' }],
    ['a CPU model', 'post', '/cluster/qemu/custom-cpu-models', { cputype: 'custom-x' }],
    ['rights for themselves', 'put', '/access/acl', { path: '/', roles: 'Administrator', users: 'alice@pve' }],
    ['rights for everybody', 'put', '/access/acl', { path: '/pool/alice', roles: 'PVEAdmin', users: 'bob@pve' }],
    ['a role with more in it', 'put', '/access/roles/QuotaTenant', { privs: 'VM.Allocate', append: 1 }],
    ['a group of administrators', 'post', '/access/groups', { groupid: 'admins' }],
    ['a user without limits', 'post', '/access/users', { userid: 'eve@pve', password: 'eve-secret' }],
    ['a pool of their own', 'post', '/pools', { poolid: 'more' }],
  ])(
    'is opened by rights in PVE alone, which the privileged token does not lend: %s',
    async (_, method, path, params) => {
      const from = site.simulator.requests.length;
      const acl = site.cluster.access.acl();
      const { status, text } = await alice[method](path, params);
      expect([403, 501], text).toContain(status);
      const heard = site.simulator.requests.slice(from).filter(({ path: heardPath }) => heardPath === path);
      expect(heard.map(({ caller }) => caller)).toEqual(['alice@pve']);
      expect(site.cluster.access.acl()).toEqual(acl);
    },
  );
});

describe("what the token's rights would allow and the tenant's do not", () => {
  test.each<[string, string, Record<string, string | number>, RegExp]>([
    ['a guest under HA', 'qemu', { 'ha-managed': 1 }, /ha-managed/],
    ['an order of starting', 'qemu', { startup: 'order=1' }, /startup/],
    ['a privileged container', 'lxc', { ostemplate: template, rootfs: 'ceph:1', unprivileged: 0 }, /unprivileged/],
    [
      'a container with mounts of the host',
      'lxc',
      { ostemplate: template, rootfs: 'ceph:1', features: 'mount=nfs' },
      /features/,
    ],
    [
      'a container that may make devices',
      'lxc',
      { ostemplate: template, rootfs: 'ceph:1', features: 'mknod=1' },
      /features/,
    ],
    ['a device in a container', 'lxc', { ostemplate: template, rootfs: 'ceph:1', dev0: '/dev/kvm' }, /dev0/],
    ['a hook on the host', 'qemu', { hookscript: 'local:snippets/x.pl' }, /hookscript/],
    ['arguments for QEMU', 'qemu', { args: '-drive file=/etc/shadow' }, /args/],
    ['a limit for the bandwidth of others', 'qemu', { bwlimit: 0 }, /bwlimit/],
  ])('is refused: %s', async (_, type, params, why) => {
    const guest = { vmid: 150, cores: 1, memory: 512, ...params };
    await expectRefused(site, () => alice.post(`/nodes/n1/${type}`, guest), why);
    if (type === 'qemu') await expectRefused(site, () => alice.put(`${vm}/config`, params), why);
  });

  test('a guest that starts at once is counted like one that does not', async () => {
    expect(await alice.post('/nodes/n1/qemu', { vmid: 151, cores: 7, memory: 512, start: 1 })).toMatchObject({
      status: 403,
    });
    expect(await alice.post('/nodes/n1/qemu', { vmid: 151, cores: 6, memory: 512, start: 1 })).toMatchObject({
      status: 200,
    });
    await expectAllBooked();
  });
});

describe('a read', () => {
  test.each([
    '/nodes/n1/storage/ceph/content',
    '/nodes/n1/storage/shared/content?vmid=200',
    '/cluster/resources',
    '/cluster/log',
    '/pools',
    '/nodes/n1/qemu/200/config',
    '/nodes/n1/vzdump/extractconfig?volume=shared:backup/vzdump-qemu-200-2026_01_01-00_00_00.vma.zst',
    '/nodes/n1/query-url-metadata?url=http%3A%2F%2F169.254.169.254%2Flatest',
    '/nodes/n1/query-oci-repo-tags?reference=registry.internal%2Fx',
    '/nodes/n1/scan/nfs?server=10.0.0.1',
    '/nodes/n1/scan/pbs?server=10.0.0.1&username=x&password=y',
    '/cluster/acme/tos?directory=https%3A%2F%2Finternal%2F',
    '/cluster/acme/meta?directory=https%3A%2F%2Finternal%2F',
    '/nodes/n1/storage/shared/import-metadata?volume=shared:import/x.ova',
    '/nodes/n1/journal',
    '/nodes/n1/report',
  ])('shows and fetches what PVE lets the caller, not what it lets the token: %s', async (path) => {
    const from = site.simulator.requests.length;
    const said = await alice.get(path);
    const heard = site.simulator.requests.slice(from).filter((request) => request.path === path.split('?')[0]);
    expect(heard.map(({ caller, viaToken }) => [caller, viaToken])).toEqual([['alice@pve', false]]);
    expect(JSON.stringify(said)).not.toMatch(/vm-200|"vmid":200/);
  });

  test('of a guest that is being made for the caller shows no other that has got its vmid', async () => {
    site.simulator.faults.add({ kind: 'delay', ms: 400, method: 'POST', path: '/nodes/{node}/qemu' });
    const creating = hasty.post('/nodes/n1/qemu', { vmid: 160, cores: 1, memory: 512 });
    await until('the create is charged', () => site.server.ledger.reservations().length > 0);
    addGuest(site.cluster, { vmid: 160, pool: 'bob', config: { name: 'his', memory: 512 } });
    for (const path of ['config', 'pending', 'status/current'])
      expect((await hasty.get(`/nodes/n1/qemu/160/${path}`)).status).toBe(403);
    expect((await creating).status).toBe(500);
    await site.settled();
  });

  test('of the lists of tasks, for which the token is asked, is cut down to what runs for the caller', async () => {
    const bob = await metered(site, 'bob');
    expect(await bob.put('/nodes/n1/qemu/200/config', { cores: 2 })).toMatchObject({ status: 200 });
    expect(await bob.post('/nodes/n1/qemu/200/clone', { newid: 210 })).toMatchObject({ status: 200 });
    for (const path of ['/cluster/tasks', '/nodes/n1/tasks', '/nodes/n1/tasks?userfilter=quota-proxy']) {
      const { data } = await alice.get(path);
      expect(data.filter(({ id }: { id: string }) => id.startsWith('2'))).toEqual([]);
    }
  });
});
