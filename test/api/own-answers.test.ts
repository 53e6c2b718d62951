import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addGuest, addVolume } from '../../simulator/administrator.ts';
import { type Client, GiB, type Site, startSite } from '../support/site.ts';

const limits = { cores: 64, memory: 64 * GiB, network: 'unlimited' } as const;

describe('the next free vmid', () => {
  let site: Site;
  beforeAll(async () => {
    site = await startSite({
      users: {
        alice: { ...limits, vmid: [100, 199] },
        bob: { ...limits, vmid: [200, 201] },
        carol: { ...limits, vmid: [-1, -1] },
        root: { admin: true, vmid: [700, 799] },
      },
      simulator: { taskPace: 'by hand' },
      taskWait: 0.1,
    });
  });
  afterAll(() => site[Symbol.asyncDispose]());
  const nextId = async (client: Client, query = '') => {
    const { status, body } = await client.get(`/proxmox/cluster/nextid${query}`);
    return [status, body.data ?? body.error];
  };

  test("is the lowest in a tenant's range that nobody has, awaits, or has left anything under", async () => {
    const alice = await site.signIn('alice');
    expect(await nextId(alice)).toEqual([200, '100']);

    addGuest(site.cluster, { vmid: 100, config: { memory: 512 } });
    expect(await nextId(alice), 'which no list has shown yet').toEqual([200, '101']);

    addVolume(site.cluster, { volid: 'ceph:vm-101-disk-0', content: 'images', bytes: GiB });
    await site.refresh();
    expect(await nextId(alice), 'which somebody has left a disk under').toEqual([200, '102']);

    expect((await alice.createVm(102)).body.status).toBe('running');
    expect(await nextId(alice), 'which is being made').toEqual([200, '103']);
  });

  test('is none where there is no range, or none is left in it', async () => {
    const [bob, carol] = [await site.signIn('bob'), await site.signIn('carol')];
    expect(await nextId(carol)).toEqual([403, 'you have no range of vmids; ask an administrator for one']);
    addGuest(site.cluster, { vmid: 200, config: { memory: 512 } });
    expect(await nextId(bob)).toEqual([200, '201']);
    addGuest(site.cluster, { vmid: 201, config: { memory: 512 } });
    expect(await nextId(bob)).toEqual([409, expect.stringContaining('every vmid of your range 200 to 201 is taken')]);
  });

  test("is PVE's own for administrators, and for whoever asks about one", async () => {
    const [alice, root] = [await site.signIn('alice'), await site.signIn('root')];
    expect((await nextId(root))[1]).not.toMatch(/^7/);
    expect(await nextId(alice, '?vmid=900')).toEqual([200, '900']);
    expect((await alice.get('/proxmox/cluster/nextid?vmid=200')).body.errors).toEqual({
      vmid: expect.stringContaining('already exists'),
    });
  });
});

describe('tasks', () => {
  let site: Site;
  let alice: Client;
  let bob: Client;
  beforeAll(async () => {
    site = await startSite({
      users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, vmid: [200, 299] }, root: { admin: true } },
      taskWait: 0.1,
    });
    [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
    for (const vmid of [100, 101, 102]) await alice.createVm(vmid);
    await bob.createVm(200);
    await site.settled();
    await alice.post('/proxmox/nodes/n1/qemu/100/status/start');
  });
  afterAll(() => site[Symbol.asyncDispose]());

  const list = async (client: Client, path: string) => {
    const { status, body } = await client.get(`/proxmox${path}`);
    expect(status).toBe(200);
    const tasks = body.data.map(({ type, id }: { type: string; id: string }) => `${type} ${id}`);
    return { tasks, total: body.total };
  };
  const hers = ['qmstart 100', 'qmcreate 102', 'qmcreate 101', 'qmcreate 100'];

  test("that we started for a user are in their lists, with their own, and in nobody else's", async () => {
    expect((await list(alice, '/cluster/tasks')).tasks.toSorted()).toEqual(hers.toSorted());
    expect((await list(bob, '/cluster/tasks')).tasks).toEqual(['qmcreate 200']);
    const onNode = await list(alice, '/nodes/n1/tasks');
    expect([onNode.tasks.toSorted(), onNode.total]).toEqual([hers.toSorted(), 4]);
    expect(await list(bob, '/nodes/n1/tasks')).toEqual({ tasks: ['qmcreate 200'], total: 1 });
    expect(await list(bob, '/nodes/n2/tasks')).toEqual({ tasks: [], total: 0 });
    const root = await site.signIn('root');
    expect((await list(root, '/nodes/n1/tasks')).total).toBe(5);
  });

  test('are listed as PVE lists them, unchanged', async () => {
    const { data } = (await alice.get('/proxmox/nodes/n1/tasks?typefilter=qmcreate&vmid=101')).body;
    expect(data).toEqual([
      expect.objectContaining({
        upid: expect.stringMatching(/^UPID:n1:.*:qmcreate:101:quota-proxy@pve!gate:$/),
        user: 'quota-proxy@pve',
        status: 'OK',
      }),
    ]);
  });

  test('are filtered and paged like any others', async () => {
    const tasks = async (query: string) => list(alice, `/nodes/n1/tasks?${query}`);
    expect(await tasks('typefilter=qmstart')).toEqual({ tasks: ['qmstart 100'], total: 1 });
    expect(await tasks('typefilter=qmcreate&vmid=102')).toEqual({ tasks: ['qmcreate 102'], total: 1 });
    expect(await tasks('errors=1')).toEqual({ tasks: [], total: 0 });
    expect(await tasks('userfilter=alice')).toEqual({ tasks: ['qmstart 100'], total: 1 });
    expect(await tasks('since=9999999999')).toEqual({ tasks: [], total: 0 });
    const whole = (await tasks('limit=100')).tasks;
    expect(whole).toHaveLength(4);
    for (const [start, limit] of [
      [0, 0],
      [0, 1],
      [1, 2],
      [3, 5],
      [4, 5],
    ] as const)
      expect(await tasks(`start=${start}&limit=${limit}`)).toEqual({
        tasks: whole.slice(start, start + limit),
        total: 4,
      });
    for (const query of ['start=x', 'limit=-1', 'since=x'])
      expect((await alice.get(`/proxmox/nodes/n1/tasks?${query}`)).status, query).toBe(400);
  });

  test('are found behind hundreds that we started for others', async () => {
    const { tasks } = site.cluster;
    const caller = { user: 'quota-proxy@pve', token: 'gate' };
    for (let count = 0; count < 600; count += 1)
      tasks.start({ node: 'n1', type: 'qmcreate', id: '200', caller, run: () => {} });
    expect(await list(alice, '/nodes/n1/tasks?typefilter=qmcreate&limit=2')).toEqual({
      tasks: ['qmcreate 102', 'qmcreate 101'],
      total: 3,
    });
  });

  test('show their log in lines, and say so to whoever wants a file', async () => {
    const [{ upid }] = (await alice.get('/proxmox/nodes/n1/tasks?typefilter=qmcreate&vmid=101')).body.data;
    const lines = (await alice.get(`/proxmox/nodes/n1/tasks/${upid}/log`)).body.data;
    expect(lines.length).toBeGreaterThan(0);
    const { status, body } = await alice.get(`/proxmox/nodes/n1/tasks/${upid}/log?download=1`);
    expect([status, body.error]).toEqual([400, expect.stringContaining('download: leave it out')]);
  });

  test('can be stopped by the user for whom they run, and by no other tenant', async () => {
    site.cluster.tasks.pace = 'by hand';
    const { upid } = (await alice.createVm(103)).body;
    expect((await bob.delete(`/proxmox/nodes/n1/tasks/${upid}`)).status).toBe(403);
    expect(site.cluster.tasks.running().map((task) => task.upid)).toEqual([upid]);
    expect((await list(alice, '/nodes/n1/tasks?source=active')).tasks).toEqual(['qmcreate 103']);
    expect((await alice.delete(`/proxmox/nodes/n1/tasks/${upid}`)).status).toBe(200);
    expect(site.cluster.tasks.running()).toEqual([]);
    await site.settled();
    expect(site.booked('alice').cores).toBe(site.truth([100, 101, 102, 103]).cores);
  });

  test('of administrators are their own, to look at and to stop', async () => {
    const root = await site.signIn('root');
    const { upid } = (await root.createVm(300)).body;
    expect(upid).toMatch(/:root@pve:$/);
    expect((await alice.delete(`/proxmox/nodes/n1/tasks/${upid}`)).status).toBe(403);
    expect((await root.delete(`/proxmox/nodes/n1/tasks/${upid}`)).status).toBe(200);
    expect(site.cluster.tasks.running()).toEqual([]);
  });
});

describe('permissions', () => {
  let site: Site;
  beforeAll(async () => {
    site = await startSite({
      users: {
        alice: { ...limits, ceph: GiB, vmid: [100, 199] },
        bob: { ...limits, vmid: [200, 299], pools: ['lab'] },
        root: { admin: true },
      },
    });
    const { cluster } = site;
    addGuest(cluster, { vmid: 100, pool: 'alice', config: { memory: 512 } });
    addGuest(cluster, { vmid: 101, pool: 'lab', config: { memory: 512 } });
    addGuest(cluster, { vmid: 102, config: { memory: 512 } });
    addGuest(cluster, { vmid: 200, pool: 'bob', config: { memory: 512 } });
    cluster.access.addRole('Onlooker', ['VM.Audit', 'Pool.Audit']);
    cluster.access.setAcl('/pool/lab', { users: ['alice@pve'] }, 'Onlooker');
    cluster.access.setAcl('/storage/ceph', { users: ['alice@pve'] }, 'PVEAuditor');
    await site.refresh();
  });
  afterAll(() => site[Symbol.asyncDispose]());
  const permissions = async (client: Client, query = '') => {
    const { status, body } = await client.get(`/proxmox/access/permissions${query}`);
    return [status, body.data] as const;
  };
  const onGuests = ['VM.Allocate', 'VM.Config.CPU', 'VM.Config.Disk', 'VM.Config.Network'];

  test('hold what is lifted on guests, pools and storages that are theirs, and only there', async () => {
    const [, data] = await permissions(await site.signIn('alice'));
    for (const path of ['/vms/100', '/pool/alice']) {
      expect(Object.keys(data[path]), path).toEqual(expect.arrayContaining([...onGuests, 'VM.Audit', 'VM.PowerMgmt']));
      expect(data[path]['VM.Allocate']).toBe(1);
    }
    expect(data['/storage/ceph']).toMatchObject({ 'Datastore.AllocateSpace': 1, 'Datastore.Audit': expect.anything() });
    for (const path of ['/vms/101', '/pool/lab', '/vms/102', '/vms/200', '/pool/bob', '/storage/fast', '/vms', '/'])
      expect(
        Object.keys(data[path] ?? {}).filter((name) => /Alloc|Config/.test(name)),
        path,
      ).toEqual([]);
  });

  test('of one path say the same of it', async () => {
    const alice = await site.signIn('alice');
    const [, whole] = await permissions(alice);
    for (const path of ['/vms/100', '/vms/101', '/pool/alice', '/pool/lab', '/storage/ceph'])
      expect(await permissions(alice, `?path=${path}&userid=alice@pve`), path).toEqual([200, { [path]: whole[path] }]);
    for (const path of ['/vms/102', '/vms/200', '/vms/999', '/storage/fast', '/pool/bob'])
      expect(await permissions(alice, `?path=${path}`), path).toEqual([200, { [path]: {} }]);
  });

  test('show no privilege that the privileged token lacks, as it does where a version of PVE does not know it', async () => {
    const { access } = site.cluster;
    const alice = await site.signIn('alice');
    const held = access.roles.get('QuotaProxy') ?? new Set();
    access.addRole(
      'QuotaProxy',
      [...held].filter((name) => name !== 'VM.Clone' && name !== 'VM.Config.CPU'),
    );
    const [, data] = await permissions(alice, '?path=/vms/100');
    access.addRole('QuotaProxy', [...held]);
    expect(Object.keys(data['/vms/100'])).toContain('VM.Config.Disk');
    expect(Object.keys(data['/vms/100'])).not.toContain('VM.Config.CPU');
  });

  test("are PVE's own of other users, and for administrators", async () => {
    const [alice, root] = [await site.signIn('alice'), await site.signIn('root')];
    expect((await permissions(alice, '?userid=bob@pve'))[0]).toBe(403);
    const [, data] = await permissions(root, '?userid=alice@pve&path=/vms/100');
    expect(Object.keys(data['/vms/100'])).not.toContain('VM.Allocate');
  });

  test("let a pool's members be seen by parameter where they let them be seen by path", async () => {
    const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];
    expect((await alice.get('/proxmox/pools?poolid=bob')).status).toBe(403);
    const { status, body } = await bob.get('/proxmox/pools?poolid=bob');
    expect([status, body.data[0].members]).toEqual([200, [expect.objectContaining({ vmid: 200 })]]);
    const pools = (await alice.get('/proxmox/pools')).body.data.map(({ poolid }: { poolid: string }) => poolid);
    expect(pools.toSorted()).toEqual(['alice', 'lab']);
  });
});
