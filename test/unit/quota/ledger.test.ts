import { describe, expect, test } from 'vitest';
import {
  ConflictError,
  ForbiddenError,
  NotReadyError,
  QuotaExceededError,
  UsageUnknownError,
} from '../../../src/errors.ts';
import { QuotaNeeded } from '../../../src/quota/ledger.ts';
import { absence, aim, Books, claim, sighting, usage } from './ledgers.ts';

const alice = 'alice@pve';
const bob = 'bob@pve';
const admin = 'root@pam';

/** alice may take 8 cores and 100 bytes on ceph, bob 4 cores; alice has vmids 100 to 199, bob 200 to 299, both pool `shared`. */
const books = () =>
  new Books({ [alice]: { cores: 8, ceph: 100, pci: 1 }, [bob]: { cores: 4, ceph: 100 }, [admin]: {} }, [
    claim(alice, 100, 199, 'shared', 'own'),
    claim(bob, 200, 299, 'shared'),
  ]);

async function refusal(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('what is booked', () => {
  test('is, line by line, the larger of what was seen and of every open change', async () => {
    using site = books();
    site.see(sighting(100, { cores: 2, memory: 9, 'storage:ceph': 50 }));
    await site.reserve(alice, aim(100, { cores: 4, 'storage:ceph': 40 }));
    await site.reserve(alice, aim(100, { cores: 3, 'storage:ceph': 60 }));
    expect(site.holds(alice)).toEqual({ 'cores n1': [2, 4], 'memory n1': [9, 9], 'storage:ceph n1': [50, 60] });
  });

  test('does not grow when PVE shows what was reserved before the change is settled', async () => {
    using site = books();
    const { id } = await site.create(alice, 100, { cores: 8 });
    expect(site.holds(alice)).toEqual({ 'cores n1': [0, 8] });
    site.see(sighting(100, { cores: 8 }));
    expect(site.holds(alice)).toEqual({ 'cores n1': [8, 8] });
    site.settle(id, sighting(100, { cores: 8 }));
    expect(site.holds(alice)).toEqual({ 'cores n1': [8, 8] });
  });

  test('shrinks only when the change is settled', async () => {
    using site = books();
    site.see(sighting(100, { cores: 8 }));
    const { id } = await site.reserve(alice, aim(100, { cores: 1 }));
    expect(site.holds(alice)).toEqual({ 'cores n1': [8, 8] });
    expect(await refusal(site.create(alice, 101, { cores: 1 }))).toBeInstanceOf(QuotaExceededError);
    site.settle(id, sighting(100, { cores: 1 }));
    expect(site.holds(alice)).toEqual({ 'cores n1': [1, 1] });
    await site.create(alice, 101, { cores: 7 });
  });

  test('goes back to what was seen when a change is released, and a second time changes nothing', async () => {
    using site = books();
    site.see(sighting(100, { cores: 2 }));
    const first = await site.reserve(alice, aim(100, { cores: 5 }));
    const second = await site.reserve(alice, aim(100, { cores: 7 }));
    site.ledger.release(second.id, 'refused');
    site.ledger.release(second.id, 'refused');
    expect(site.holds(alice)).toEqual({ 'cores n1': [2, 5] });
    expect(site.settle(first.id, sighting(100, { cores: 5 }))).toBe(true);
    expect(site.settle(first.id, sighting(100, { cores: 1 }))).toBe(true);
    expect(site.holds(alice)).toEqual({ 'cores n1': [5, 5] });
    expect(site.ledger.reservations()).toEqual([]);
  });

  test('follows an instance to another node and another pool', () => {
    using site = books();
    site.see(sighting(300, { cores: 2 }, { pool: 'own' }));
    expect(site.ledger.payersOf(300)).toEqual([alice]);
    expect(site.ledger.list({ vmid: 300, type: 'qemu', node: 'n2', pool: 'own' }, site.ledger.stamp())).toBe(false);
    expect(site.holds(alice)).toEqual({ 'cores n2': [2, 2] });
    site.ledger.list({ vmid: 300, type: 'qemu', node: 'n2', pool: 'other' }, site.ledger.stamp());
    expect([site.ledger.payersOf(300), site.holds(alice)]).toEqual([[], {}]);
  });
});

describe('a read', () => {
  test('that began before a change was opened, settled or released says nothing', async () => {
    using site = books();
    const { ledger } = site;
    const before = ledger.stamp();
    const { id } = await site.create(alice, 100, { cores: 4 });
    expect(ledger.see(absence(100), before)).toBe(false);
    expect(ledger.list({ vmid: 100, type: 'qemu', node: 'n9', pool: undefined }, before)).toBe(false);
    expect(ledger.settle(id, [absence(100)], before, 'OK')).toBe(false);
    expect(site.holds(alice)).toEqual({ 'cores n1': [0, 4] });

    const during = ledger.stamp();
    expect(ledger.settle(id, [sighting(100, { cores: 4 })], ledger.stamp(), 'OK')).toBe(true);
    expect(ledger.see(sighting(100, { cores: 1 }), during)).toBe(false);

    const next = await site.reserve(alice, aim(100, { cores: 5 }));
    const late = ledger.stamp();
    ledger.release(next.id, 'refused');
    expect(ledger.see(sighting(100, { cores: 1 }), late)).toBe(false);
    expect(site.holds(alice)).toEqual({ 'cores n1': [4, 4] });
  });

  test('of another instance is not touched by that', async () => {
    using site = books();
    const stamp = site.ledger.stamp();
    await site.create(alice, 100, { cores: 1 });
    expect(site.ledger.see(sighting(101, { cores: 2 }), stamp)).toBe(true);
  });

  test('from before a guest was found gone does not bring it back', () => {
    using site = books();
    site.see(sighting(100, { cores: 4 }));
    const early = site.ledger.stamp();
    site.see(absence(100));
    expect(site.ledger.see(sighting(100, { cores: 4 }), early)).toBe(false);
    expect(site.ledger.list({ vmid: 100, type: 'qemu', node: 'n1', pool: undefined }, early)).toBe(false);
    expect(site.holds(alice)).toEqual({});
    expect(site.see(sighting(100, { cores: 1 }))).toBe(true);
  });

  test('of a list tells whether an instance is new', () => {
    using site = books();
    const listing = { vmid: 100, type: 'lxc', node: 'n1', pool: 'own' } as const;
    expect(site.ledger.list(listing, site.ledger.stamp())).toBe(true);
    expect(site.ledger.list(listing, site.ledger.stamp())).toBe(false);
    expect(site.ledger.account(100)).toMatchObject({ type: 'lxc', pool: 'own', present: true, seen: null });
  });
});

describe('a reservation', () => {
  test('takes the last of a limit, and nobody can take it twice', async () => {
    using site = books();
    const asked = Array.from({ length: 20 }, (_, index) => site.create(alice, 100 + index, { cores: 1 }));
    const outcomes = await Promise.allSettled(asked);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(8);
    expect(Object.values(site.holds(alice))).toEqual([[0, 8]]);
  });

  test('that is refused holds nothing, and tells every limit at once', async () => {
    using site = books();
    site.see(sighting(100, { cores: 6 }));
    const error = await refusal(
      site.reserve(alice, aim(100, { cores: 9, 'storage:ceph': 101, memory: 1, 'pci T4': 2 })),
    );
    expect(error).toBeInstanceOf(QuotaExceededError);
    expect((error as QuotaExceededError).overruns).toMatchObject([
      { payer: alice, resource: 'cores', requested: 3, used: 6, reserved: 0, limit: 8, available: 2 },
      { resource: 'storage:ceph', requested: 101, limit: 100 },
      { resource: 'memory', limit: 0 },
      { resource: 'pci', item: 'T4', limit: 1 },
    ]);
    expect(site.holds(alice)).toEqual({ 'cores n1': [6, 6] });
    expect(site.rows('reservation')).toEqual([]);
  });

  test('of no more than before passes, also above the limit', async () => {
    using site = books();
    site.see(sighting(100, { cores: 20, 'storage:ceph': 500 }));
    await site.reserve(alice, aim(100, { cores: 20, 'storage:ceph': 500 }));
    await site.reserve(alice, aim(100, { cores: 10 }));
    expect(await refusal(site.reserve(alice, aim(100, { cores: 21 })))).toBeInstanceOf(QuotaExceededError);
  });

  test('on a node with a limit of its own is charged there', async () => {
    using site = new Books({ [alice]: { cores: 2, 'cores@n2': 4 } }, [claim(alice, 100, 199)]);
    await site.create(alice, 100, { cores: 4 }, { node: 'n2' });
    await site.create(alice, 101, { cores: 2 });
    for (const node of ['n1', 'n2', 'n3'])
      expect(await refusal(site.create(alice, 102, { cores: 1 }, { node }))).toBeInstanceOf(QuotaExceededError);
  });

  test('asks for the quotas that it needs', async () => {
    using site = books();
    site.see(sighting(300, { cores: 1 }, { pool: 'shared' }));
    const request = {
      by: alice,
      address: '',
      call: '',
      digest: undefined,
      aims: [aim(300, { cores: 2 })],
      waived: false,
    };
    const error = await refusal(site.ledger.reserve({ ...request, quotas: new Map() }));
    expect(error).toBeInstanceOf(QuotaNeeded);
    expect((error as QuotaNeeded).users).toEqual([alice, bob]);
    expect(site.rows('reservation')).toEqual([]);
    await site.ledger.reserve({ ...request, quotas: site.quotas() });
  });

  test('of an administrator is booked and never refused', async () => {
    using site = books();
    site.see(sighting(100, { cores: 8 }));
    await site.reserve(admin, aim(100, { cores: 99 }), true);
    expect(site.holds(alice)).toEqual({ 'cores n1': [8, 99] });
    await site.reserve(admin, aim(201, { cores: 50 }, { creates: true }), true);
    expect([site.ledger.payersOf(201), site.rows('owner')]).toEqual([[bob], []]);
    expect(site.holds(bob)).toEqual({ 'cores n1': [0, 50] });
  });

  test('within two instances of one payer is charged by the difference', async () => {
    using site = books();
    site.see(sighting(100, { 'storage:ceph': 60 }));
    site.see(sighting(101, { 'storage:ceph': 40 }));
    const { id } = await site.reserve(alice, [aim(100, { 'storage:ceph': 10 }), aim(101, { 'storage:ceph': 90 })]);
    expect(site.holds(alice)).toEqual({ 'storage:ceph n1': [100, 150] });
    site.settle(id, sighting(100, { 'storage:ceph': 10 }), sighting(101, { 'storage:ceph': 90 }));
    expect(site.holds(alice)).toEqual({ 'storage:ceph n1': [100, 100] });
  });
});

describe('several payers', () => {
  test('are all checked, and the numbers of others stay theirs', async () => {
    using site = books();
    site.see(sighting(200, { cores: 3 }));
    site.see(sighting(300, { cores: 1 }, { pool: 'shared' }));
    expect(site.ledger.payersOf(300)).toEqual([alice, bob]);
    const error = await refusal(site.reserve(alice, aim(300, { cores: 2 })));
    expect(error).toBeInstanceOf(QuotaExceededError);
    expect((error as QuotaExceededError).overruns).toEqual([
      {
        payer: '',
        resource: 'cores',
        item: '',
        scope: 'global',
        requested: 0,
        used: 0,
        reserved: 0,
        limit: 0,
        available: 0,
        sentence: 'another user who pays for this instance has no room for more cores',
      },
    ]);
    expect((error as QuotaExceededError).message).not.toMatch(/\d|bob/);
    expect((await refusal(site.reserve(bob, aim(300, { cores: 2 })))) as QuotaExceededError).toMatchObject({
      overruns: [{ payer: bob, used: 4, limit: 4 }],
    });
    await site.reserve(alice, aim(300, { cores: 1 }));
  });

  test('are those recorded, else those of range and pool, else those of the pool', () => {
    using site = books();
    const payers = (vmid: number, pool?: string) => {
      site.see(sighting(vmid, { cores: 1 }, { pool }));
      return site.ledger.payersOf(vmid);
    };
    expect(payers(100)).toEqual([alice]);
    expect(payers(101, 'shared')).toEqual([alice]);
    expect(payers(200, 'own')).toEqual([alice]);
    expect(payers(300, 'shared')).toEqual([alice, bob]);
    expect(payers(301)).toEqual([]);
    expect(payers(102, 'foreign')).toEqual([]);
    site.ledger.assign(100, [bob]);
    expect(site.ledger.payersOf(100)).toEqual([bob]);
    site.ledger.assign(100, [bob, alice]);
    expect(site.ledger.payersOf(100)).toEqual([alice, bob]);
    site.ledger.assign(100, []);
    expect(site.ledger.payersOf(100)).toEqual([alice]);
  });

  test('change with the claims', () => {
    using site = books();
    site.see(sighting(100, { cores: 2 }));
    site.ledger.setClaims([claim(bob, 100, 199)]);
    expect([site.holds(alice), site.holds(bob)]).toEqual([{}, { 'cores n1': [2, 2] }]);
  });

  test('recorded before the guest was first seen pay from the first sight', () => {
    using site = books();
    site.ledger.assign(100, [bob]);
    site.see(sighting(100, { cores: 2 }));
    expect(site.holds(bob)).toEqual({ 'cores n1': [2, 2] });
  });
});

describe('a new vmid', () => {
  test('that is taken or awaited is refused', async () => {
    using site = books();
    site.see(sighting(100, {}));
    expect(await refusal(site.create(alice, 100, { cores: 1 }))).toBeInstanceOf(ConflictError);
    await site.create(alice, 101, { cores: 1 });
    expect(await refusal(site.create(alice, 101, { cores: 1 }))).toBeInstanceOf(ConflictError);
    expect(await refusal(site.reserve(admin, aim(101, {}, { creates: true }), true))).toBeInstanceOf(ConflictError);
  });

  test('with volumes of a former guest is for those who pay for them, and for administrators', async () => {
    using site = books();
    site.see(sighting(300, { cores: 1, 'storage:ceph': 60 }, { pool: 'own' }));
    site.see(absence(300, { 'storage:ceph': 60 }));
    expect(site.holds(alice)).toEqual({ 'storage:ceph n1': [60, 60] });
    expect(await refusal(site.create(bob, 300, {}, { pool: 'shared' }))).toBeInstanceOf(ForbiddenError);
    const { id } = await site.reserve(admin, aim(300, {}, { creates: true, pool: 'own' }), true);
    site.ledger.release(id, 'refused');
    expect(await refusal(site.create(alice, 300, { 'storage:ceph': 101 }))).toBeInstanceOf(QuotaExceededError);
    await site.create(alice, 300, { 'storage:ceph': 100 });
    expect(site.holds(alice)).toEqual({ 'storage:ceph n1': [60, 100] });
  });

  test('is paid by its creator alone, also after a restart', async () => {
    using site = books();
    site.see(sighting(100, { 'storage:ceph': 5 }));
    site.ledger.assign(100, [alice, bob]);
    site.see(absence(100, { 'storage:ceph': 5 }));
    await site.create(alice, 100, { 'storage:ceph': 9 });
    const held = [site.holds(alice), site.holds(bob)];
    expect(held).toEqual([{ 'storage:ceph n1': [5, 9] }, {}]);
    site.restart();
    expect([site.holds(alice), site.holds(bob)]).toEqual(held);
  });

  test("stays its creator's when the first sight of it is what settles the create", async () => {
    using site = books();
    const { id } = await site.create(alice, 300, { cores: 2 }, { pool: 'shared' });
    expect(site.ledger.isCreating(300, alice)).toBe(true);
    expect(site.ledger.isCreating(300, bob)).toBe(false);
    site.settle(id, sighting(300, { cores: 2 }, { pool: 'shared', birth: 'ctime=1' }));
    expect(site.ledger.isCreating(300, alice)).toBe(false);
    expect(site.ledger.payersOf(300)).toEqual([alice]);
    expect(site.rows('owner')).toMatchObject([{ vmid: 300, user: alice, birth: 'ctime=1', how: 'created' }]);
    site.restart();
    expect(site.ledger.payersOf(300)).toEqual([alice]);
  });

  test('keeps its pool while PVE has not put it there yet', async () => {
    using site = books();
    const { id } = await site.reserve(admin, aim(300, { cores: 1 }, { creates: true, pool: 'own' }), true);
    site.see(sighting(300, { cores: 1 }));
    expect(site.ledger.payersOf(300)).toEqual([alice]);
    site.settle(id, sighting(300, { cores: 1 }));
    expect(site.ledger.payersOf(300)).toEqual([]);
  });

  test('is remembered by type, node and pool when the server is killed before PVE shows it', async () => {
    using site = books();
    const create = aim(300, { cores: 3 }, { creates: true, type: 'lxc', node: 'n2', pool: 'own' });
    const { id } = await site.reserve(admin, create, true);
    site.crash();
    expect(site.ledger.account(300)).toMatchObject({ type: 'lxc', node: 'n2', pool: 'own', present: false });
    expect(site.holds(alice)).toEqual({ 'cores n2': [0, 3] });
    expect(site.ledger.reservations()).toMatchObject([{ id, by: admin, digest: 'd1', aims: [{ vmid: 300 }] }]);
  });
});

describe('a birth mark', () => {
  test('voids the payer of a former guest with the same vmid', async () => {
    using site = books();
    const { id } = await site.create(bob, 100, { cores: 1 });
    site.settle(id, sighting(100, { cores: 1 }, { birth: 'ctime=1' }));
    expect(site.ledger.payersOf(100)).toEqual([bob]);
    site.see(sighting(100, { cores: 2 }, { birth: 'ctime=2' }));
    expect([site.ledger.payersOf(100), site.holds(bob)]).toEqual([[alice], {}]);
    site.restart();
    expect(site.holds(alice)).toEqual({ 'cores n1': [2, 2] });
  });

  test('of the guest that is there now is what a payer is assigned to', () => {
    using site = books();
    site.see(sighting(100, { cores: 1 }, { birth: 'ctime=1' }));
    site.ledger.assign(100, [bob]);
    site.see(sighting(100, { cores: 1 }, { birth: 'ctime=2' }));
    expect(site.ledger.payersOf(100)).toEqual([alice]);
    site.ledger.assign(100, [bob]);
    expect(site.ledger.payersOf(100)).toEqual([bob]);
  });

  test('never seen yet binds a payer to the first guest that shows one', () => {
    using site = books();
    site.see(sighting(100, { cores: 1 }));
    site.ledger.assign(100, [bob]);
    site.see(sighting(100, { cores: 1 }, { birth: 'ctime=1' }));
    expect(site.ledger.recordedPayers(100)).toEqual([bob]);
    site.restart();
    expect(site.rows('owner')).toMatchObject([{ user: bob, birth: 'ctime=1' }]);
  });

  test('gone with its guest still names who pays for the volumes that are left', async () => {
    using site = books();
    const { id } = await site.create(bob, 100, { 'storage:ceph': 5 });
    site.settle(id, sighting(100, { 'storage:ceph': 5 }, { birth: 'ctime=1' }));
    site.see(absence(100, { 'storage:ceph': 5 }));
    expect(site.holds(bob)).toEqual({ 'storage:ceph n1': [5, 5] });
  });
});

describe('what is not known', () => {
  const unknown = [{ resource: 'memory', reason: 'memory "x" is not understood' }];

  test('of an instance lets its payers take no more of that, and nobody else is bothered', async () => {
    using site = books();
    site.see({ ...sighting(200, {}), usage: usage({ cores: 1 }, unknown) });
    const error = await refusal(site.create(bob, 201, { memory: 1 }));
    expect(error).toBeInstanceOf(UsageUnknownError);
    expect(String(error)).toMatch(/instance 200 takes of memory .*memory "x"/);
    await site.create(bob, 202, { cores: 1 });
    await site.create(alice, 101, { cores: 1 });
    expect(await refusal(site.create(alice, 102, { memory: 1 }))).toBeInstanceOf(QuotaExceededError);
    site.see(sighting(200, { cores: 1, memory: 5 }));
    expect(await refusal(site.create(bob, 201, { memory: 1 }))).toBeInstanceOf(QuotaExceededError);
  });

  test('of any storage lets no storage grow', async () => {
    using site = books();
    site.see({ ...sighting(100, {}), usage: usage({}, [{ resource: 'storage:*', reason: 'scsi0 "x"' }]) });
    expect(await refusal(site.create(alice, 101, { 'storage:ceph': 1 }))).toBeInstanceOf(UsageUnknownError);
    await site.create(alice, 101, { cores: 1 });
  });

  test('is not told of the guests of others', async () => {
    using site = books();
    site.see(sighting(300, { cores: 1 }, { pool: 'shared' }));
    site.see({ ...sighting(200, {}), usage: usage({}, [{ resource: 'cores', reason: 'secret text' }]) });
    const error = await refusal(site.reserve(alice, aim(300, { cores: 2 })));
    expect(error).toBeInstanceOf(UsageUnknownError);
    expect(String(error)).not.toMatch(/200|secret|bob/);
  });

  test('before the first read holds growth back for a moment, of that payer alone', async () => {
    using site = books();
    site.ledger.list({ vmid: 100, type: 'qemu', node: 'n1', pool: undefined }, site.ledger.stamp());
    const error = await refusal(site.create(alice, 101, { cores: 1 }));
    expect(error).toBeInstanceOf(NotReadyError);
    expect((error as NotReadyError).retryAfter).toBeGreaterThan(0);
    await site.create(bob, 200, { cores: 1 });
    site.see(sighting(100, { cores: 1 }));
    await site.create(alice, 101, { cores: 1 });
  });

  test('of a guest that is being created is told by its reservation', async () => {
    using site = books();
    await site.create(alice, 100, { cores: 1 });
    site.ledger.list({ vmid: 100, type: 'qemu', node: 'n1', pool: undefined }, site.ledger.stamp());
    await site.create(alice, 101, { cores: 1 });
  });

  test('may stay, and may not become more', async () => {
    using site = books();
    site.see({ ...sighting(100, {}), usage: usage({ cores: 1 }, unknown) });
    const after = (more: typeof unknown) => aim(100, {}, { after: usage({ cores: 2 }, more) });
    await site.reserve(alice, after(unknown));
    await site.reserve(alice, after([]));
    for (const more of [
      [{ resource: 'cpu', reason: 'cpu "x" is not understood' }],
      [...unknown, { resource: 'memory', reason: 'memory "y" is not understood' }],
    ])
      expect(await refusal(site.reserve(alice, after(more)))).toBeInstanceOf(UsageUnknownError);
  });

  test('survives a restart', async () => {
    using site = books();
    site.see({ ...sighting(100, {}), usage: usage({}, unknown) });
    site.ledger.list({ vmid: 200, type: 'qemu', node: 'n1', pool: undefined }, site.ledger.stamp());
    site.restart();
    expect(await refusal(site.create(alice, 101, { memory: 1 }))).toBeInstanceOf(UsageUnknownError);
    expect(await refusal(site.create(bob, 201, { cores: 1 }))).toBeInstanceOf(NotReadyError);
  });
});

describe('the record', () => {
  const upid = 'UPID:n1:00000001:00000002:00000003:qmcreate:100:gate@pve!t:';

  test('of decisions has who, from where, what, the verdict with its numbers, the task and the outcome', async () => {
    using site = books();
    const { id } = await site.create(alice, 100, { cores: 2 });
    site.ledger.setUpid(id, upid);
    site.settle(id, sighting(100, { cores: 2 }));
    site.ledger.refused({
      user: bob,
      address: '192.0.2.8',
      call: 'POST /nodes/n1/qemu',
      vmid: undefined,
      verdict: 'quota_exceeded',
      detail: [{ resource: 'cores' }],
    });
    site.ledger.save();
    const rows = site.rows('decision').map(({ detail, ...row }) => ({ ...row, detail: JSON.parse(String(detail)) }));
    expect(rows).toMatchObject([
      {
        at: site.now,
        user: alice,
        address: '192.0.2.7',
        call: 'PUT /nodes/n1/qemu/100/config',
        vmid: 100,
        verdict: 'allowed',
        detail: [{ vmid: 100, after: [{ resource: 'cores', item: '', amount: 2 }] }],
        reservation: id,
        upid,
        outcome: 'OK',
      },
      { user: bob, vmid: null, verdict: 'quota_exceeded', detail: [{ resource: 'cores' }], reservation: null },
    ]);
    site.ledger.save();
    expect(site.rows('decision')).toHaveLength(2);
  });

  test('of tasks knows for whom they run, also after a restart, for 30 days', async () => {
    using site = books();
    const { id } = await site.create(alice, 100, { cores: 2 });
    site.ledger.setUpid(id, upid);
    site.ledger.setUpid(id, upid);
    site.crash();
    expect(site.ledger.taskUser(upid)).toBe(alice);
    expect(site.ledger.reservations()).toMatchObject([{ id, upid }]);
    expect(site.ledger.taskUser(`${upid}x`)).toBeUndefined();
    site.now += 30 * 24 * 3600 * 1000;
    site.ledger.save();
    expect(site.ledger.taskUser(upid)).toBe(alice);
    site.now += 1;
    site.ledger.save();
    expect([site.ledger.taskUser(upid), site.rows('decision')]).toEqual([undefined, []]);
  });

  test('of a task that belongs to no open change is not written', () => {
    using site = books();
    site.ledger.setUpid(7, upid);
    expect(site.rows('task')).toEqual([]);
  });
});

describe('an instance that is gone', () => {
  const empty = ['instance', 'owner', 'reservation'];
  const left = (site: Books) => [[...site.ledger.vmids()], ...empty.map((table) => site.rows(table))];

  test('leaves no trace but the record of decisions', async () => {
    using site = books();
    const { id } = await site.create(alice, 100, { cores: 2, 'storage:ceph': 5 });
    site.settle(id, {
      ...sighting(100, {}, { birth: 'ctime=1' }),
      usage: usage({ cores: 2 }, [{ resource: 'memory', reason: 'x' }]),
    });
    const destroy = await site.reserve(alice, aim(100, {}));
    site.settle(destroy.id, absence(100));
    expect(left(site)).toEqual([[], [], [], []]);
    site.ledger.save();
    expect(left(site)).toEqual([[], [], [], []]);
    expect(site.rows('decision')).toHaveLength(2);
    expect(site.holds(alice)).toEqual({});
  });

  test('leaves none either when its create never happened', async () => {
    using site = books();
    const { id } = await site.create(alice, 100, { cores: 2 });
    site.ledger.release(id, 'refused');
    expect(left(site)).toEqual([[], [], [], []]);
  });

  test('leaves none either when only a sweep misses it, however many come and go', () => {
    using site = books();
    for (let round = 0; round < 5; round += 1) {
      for (let vmid = 100; vmid < 150; vmid += 1) site.see(sighting(vmid, { cores: 1 }));
      site.ledger.save();
      for (let vmid = 100; vmid < 150; vmid += 1) site.see(absence(vmid));
      site.ledger.save();
      expect(left(site)).toEqual([[], [], [], []]);
    }
  });

  test('stays as long as a volume of its is left', () => {
    using site = books();
    site.see(sighting(100, { cores: 2, 'storage:ceph': 5 }));
    site.see(absence(100, { 'storage:ceph': 5 }));
    site.restart();
    expect([site.holds(alice), [...site.ledger.vmids()]]).toEqual([{ 'storage:ceph n1': [5, 5] }, [100]]);
    site.see(absence(100));
    expect(left(site)).toEqual([[], [], [], []]);
  });
});
