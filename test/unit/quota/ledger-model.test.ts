import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Absence, QuotaNeeded, type Sighting } from '../../../src/quota/ledger.ts';
import { absence, aim, Books, claim, type Limits, sighting } from './ledgers.ts';

/** Amounts by resource, as the ledger's lines name them. */
type Amounts = Readonly<Record<string, number>>;

const limits: Readonly<Record<string, Limits>> = {
  'alice@pve': { cores: 8, 'cores@n2': 4, ceph: 20, pci: 2 },
  'bob@pve': { cores: 5, ceph: 'unlimited', pci: 1 },
  'carol@pve': { cores: 3, ceph: 8, pci: 'unlimited' },
};
const users = Object.keys(limits);
const claims = [
  claim('alice@pve', 100, 102, 'shared'),
  claim('bob@pve', 102, 104, 'shared', 'own'),
  claim('carol@pve', 900, 999, 'shared'),
];
/** Each vmid has its place. */
const places: Readonly<Record<number, { readonly node: string; readonly pool: string | undefined }>> = {
  100: { node: 'n1', pool: undefined },
  101: { node: 'n2', pool: 'shared' },
  102: { node: 'n2', pool: 'shared' },
  103: { node: 'n1', pool: 'own' },
  110: { node: 'n1', pool: 'shared' },
};
const vmids = Object.keys(places).map(Number);

interface Guest {
  readonly present: boolean;
  /** null: never read. */
  readonly seen: Amounts | null;
}

const noGuest: Guest = { present: false, seen: null };

/** What a ledger has to know, kept as plainly as can be: no totals, no differences. */
interface Model {
  guests: Map<number, Guest>;
  /** What of `guests` a crash does not take. */
  written: Map<number, Guest>;
  owners: Map<number, readonly string[]>;
  open: {
    readonly id: number;
    readonly vmid: number;
    readonly after: Amounts;
    readonly creates: boolean;
    readonly by: string;
  }[];
  /** When something was last opened, closed or ended at a vmid. */
  touched: Map<number, number>;
}

const guestOf = (model: Model, vmid: number): Guest => model.guests.get(vmid) ?? noGuest;

function known(model: Model, vmid: number): boolean {
  const { present, seen } = guestOf(model, vmid);
  return present || Object.keys(seen ?? {}).length > 0 || model.open.some((one) => one.vmid === vmid);
}

function payers(model: Model, vmid: number): readonly string[] {
  if (!known(model, vmid)) return [];
  const recorded = model.owners.get(vmid) ?? [];
  if (recorded.length > 0) return recorded;
  const { pool } = places[vmid] ?? { pool: undefined };
  const inPool = claims.filter(({ pools }) => pool === undefined || pools.has(pool));
  const inRange = inPool.filter((one) => vmid >= one.vmid.min && vmid <= one.vmid.max);
  return (inRange.length > 0 || pool === undefined ? inRange : inPool).map(({ user }) => user);
}

/** `[used, booked]` of a user, by resource and node. */
function booked(model: Model, user: string): Record<string, [number, number]> {
  const totals: Record<string, [number, number]> = {};
  for (const vmid of vmids.filter((one) => payers(model, one).includes(user))) {
    const seen = guestOf(model, vmid).seen ?? {};
    const afters = model.open.filter((one) => one.vmid === vmid).map(({ after }) => after);
    for (const resource of new Set([seen, ...afters].flatMap(Object.keys))) {
      const used = seen[resource] ?? 0;
      const most = Math.max(used, ...afters.map((after) => after[resource] ?? 0));
      const key = `${resource} ${places[vmid]?.node}`;
      const [usedBefore, bookedBefore] = totals[key] ?? [0, 0];
      totals[key] = [usedBefore + used, bookedBefore + most];
    }
  }
  return totals;
}

/** What a user has booked against each of their limits. */
function charged(model: Model, user: string): Record<string, { readonly amount: number; readonly limit: number }> {
  const charges: Record<string, { amount: number; limit: number }> = {};
  for (const [key, [, amount]] of Object.entries(booked(model, user))) {
    const node = key.slice(key.lastIndexOf(' ') + 1);
    const resource = key.slice(0, key.lastIndexOf(' '));
    const name = resource.replace('storage:', '').replace(' T4', '');
    const own = limits[user]?.[`${name}@${node}`];
    const most = own ?? limits[user]?.[name] ?? 0;
    const scope = `${resource} ${own === undefined ? 'global' : node}`;
    const limit = most === 'unlimited' ? Infinity : most;
    charges[scope] = { amount: (charges[scope]?.amount ?? 0) + amount, limit };
  }
  return charges;
}

/** How a reservation must end; 'fits' or the name of the error. */
function verdict(model: Model, by: string, vmid: number, after: Amounts, creates: boolean): string {
  const { present } = guestOf(model, vmid);
  if (creates && known(model, vmid)) {
    if (present || model.open.some((one) => one.vmid === vmid)) return 'ConflictError';
    if (!payers(model, vmid).includes(by)) return 'ForbiddenError';
  }
  const then: Model = {
    ...model,
    owners: creates ? new Map(model.owners).set(vmid, [by]) : model.owners,
    open: [...model.open, { id: -1, vmid, after, creates, by }],
  };
  const verdicts = payers(then, vmid).map((user): string => {
    const before = charged(model, user);
    const grown = Object.entries(charged(then, user)).filter(
      ([scope, { amount }]) => amount > (before[scope]?.amount ?? 0),
    );
    if (grown.length === 0) return 'fits';
    const unread = vmids.some(
      (one) =>
        payers(model, one).includes(user) &&
        guestOf(model, one).present &&
        guestOf(model, one).seen === null &&
        !model.open.some((open) => open.vmid === one && open.creates),
    );
    if (unread) return 'NotReadyError';
    return grown.some(([, { amount, limit }]) => amount > limit) ? 'QuotaExceededError' : 'fits';
  });
  return ['NotReadyError', 'QuotaExceededError'].find((one) => verdicts.includes(one)) ?? 'fits';
}

const amounts = fc
  .record({
    cores: fc.integer({ min: 0, max: 5 }),
    'storage:ceph': fc.integer({ min: 0, max: 10 }),
    'pci T4': fc.integer({ min: 0, max: 1 }),
  })
  .map((all): Amounts => Object.fromEntries(Object.entries(all).filter(([, amount]) => amount > 0)));
const vmid = fc.constantFrom(...vmids);
const user = fc.constantFrom(...users);
/** Which of the open reservations; how old the read is that a step brings: 0 starts now. */
const which = fc.nat(9);
const age = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 4 }) },
);

const step = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('list' as const), vmid, age }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('see' as const), vmid, amounts, age }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('gone' as const), vmid, left: fc.boolean(), age }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('change' as const), vmid, user, amounts }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('create' as const), vmid, user, amounts }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('settle' as const),
      which,
      amounts,
      gone: fc.boolean(),
      age,
      twice: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), which, twice: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('assign' as const), vmid, users: fc.subarray(users) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('restart' as const, 'crash' as const, 'save' as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** The ledger and the model, side by side. */
class Pair {
  readonly #site: Books;
  readonly #model: Model = { guests: new Map(), written: new Map(), owners: new Map(), open: [], touched: new Map() };
  #stamps: number[] = [];

  constructor(site: Books) {
    this.#site = site;
  }

  async play(step: Step): Promise<void> {
    this.#stamps.push(this.#site.ledger.stamp());
    await this.#do(step);
    for (const name of users)
      expect(this.#holdings(name), `${name} after ${JSON.stringify(step)}`).toEqual(booked(this.#model, name));
    for (const one of vmids) expect(this.#site.ledger.payersOf(one)).toEqual(payers(this.#model, one));
  }

  /** All changes end and all guests go: nothing may be left. */
  end(): void {
    for (const { id } of this.#model.open) this.#site.ledger.release(id, 'refused');
    for (const one of vmids) {
      this.#site.see(sighting(one, { cores: 1 }));
      this.#site.see(absence(one));
    }
    this.#site.ledger.save();
    expect([...this.#site.ledger.vmids()]).toEqual([]);
    for (const name of users) expect(this.#holdings(name)).toEqual({});
    for (const table of ['instance', 'owner', 'reservation']) expect(this.#site.rows(table), table).toEqual([]);
  }

  async #do(step: Step): Promise<void> {
    const { ledger } = this.#site;
    const model = this.#model;
    switch (step.kind) {
      case 'list': {
        const { vmid, age } = step;
        const stamp = this.#stamp(age);
        const fresh = this.#isCurrent(vmid, stamp);
        const appears = fresh && !guestOf(model, vmid).present;
        expect(ledger.list({ vmid, type: 'qemu', ...this.#place(vmid) }, stamp)).toBe(appears);
        if (appears) model.guests.set(vmid, { ...guestOf(model, vmid), present: true });
        return;
      }
      case 'see': {
        const { vmid, amounts, age } = step;
        this.#read(sighting(vmid, amounts, this.#place(vmid)), { present: true, seen: amounts }, age);
        return;
      }
      case 'gone': {
        // Volumes of a guest that was never heard of lie in no pool.
        const seen: Amounts = step.left && known(model, step.vmid) ? { 'storage:ceph': 3 } : {};
        this.#read(this.#absence(step.vmid, seen), { present: false, seen }, step.age);
        return;
      }
      case 'change':
      case 'create': {
        const { vmid, user, amounts } = step;
        const creates = step.kind === 'create';
        if (!creates && !guestOf(model, vmid).present) return;
        const expected = verdict(model, user, vmid, amounts, creates);
        const outcome = await this.#site
          .reserve(user, aim(vmid, amounts, { ...this.#place(vmid), creates }))
          .catch((error: unknown) => error as Error);
        if (outcome instanceof Error) {
          expect(outcome).not.toBeInstanceOf(QuotaNeeded);
          expect(outcome.name).toBe(expected);
          return;
        }
        expect(expected).toBe('fits');
        model.open.push({ id: outcome.id, vmid, after: amounts, creates, by: user });
        if (creates) model.owners.set(vmid, [user]);
        this.#touch(vmid);
        return;
      }
      case 'settle': {
        const open = model.open[step.which % Math.max(1, model.open.length)];
        if (open === undefined) return;
        const { vmid } = open;
        const stamp = this.#stamp(step.age);
        const fresh = this.#isCurrent(vmid, stamp);
        const found = step.gone ? this.#absence(vmid, {}) : sighting(vmid, step.amounts, this.#place(vmid));
        expect(ledger.settle(open.id, [found], stamp, 'OK')).toBe(fresh);
        if (!fresh) return;
        this.#close(open.id, vmid, { present: !step.gone, seen: step.gone ? {} : step.amounts });
        if (step.twice) expect(ledger.settle(open.id, [sighting(vmid, { cores: 99 })], stamp, 'OK')).toBe(true);
        return;
      }
      case 'release': {
        const open = model.open[step.which % Math.max(1, model.open.length)];
        if (open === undefined) return;
        ledger.release(open.id, 'refused');
        this.#close(open.id, open.vmid, guestOf(model, open.vmid));
        if (step.twice) ledger.release(open.id, 'refused');
        return;
      }
      case 'assign':
        if (!known(model, step.vmid)) return;
        ledger.assign(step.vmid, step.users);
        model.owners.set(step.vmid, step.users.toSorted());
        return;
      case 'save':
        ledger.save();
        model.written = new Map(model.guests);
        return;
      case 'restart':
        this.#site.restart();
        this.#forget(model.guests);
        return;
      case 'crash':
        this.#site.crash();
        this.#forget(model.written);
        return;
    }
  }

  #read(found: Sighting | Absence, guest: Guest, age: number): void {
    const stamp = this.#stamp(age);
    const fresh = this.#isCurrent(found.vmid, stamp);
    expect(this.#site.ledger.see(found, stamp)).toBe(fresh);
    if (!fresh) return;
    this.#model.guests.set(found.vmid, guest);
    this.#dropUnknown(found.vmid);
  }

  #close(id: number, vmid: number, guest: Guest): void {
    const model = this.#model;
    model.open = model.open.filter((one) => one.id !== id);
    model.guests.set(vmid, guest);
    model.written.set(vmid, guest);
    this.#touch(vmid);
    this.#dropUnknown(vmid);
  }

  /** Of what is not known any more nothing is kept, and no read from before counts. */
  #dropUnknown(vmid: number): void {
    const model = this.#model;
    if (known(model, vmid)) return;
    model.guests.delete(vmid);
    model.written.delete(vmid);
    model.owners.delete(vmid);
    this.#touch(vmid);
  }

  /** Memory starts anew: with it, the logical clock. */
  #forget(guests: ReadonlyMap<number, Guest>): void {
    this.#model.guests = new Map(guests);
    this.#model.written = new Map(guests);
    this.#model.touched.clear();
    this.#stamps = [];
  }

  #touch(vmid: number): void {
    this.#model.touched.set(vmid, this.#site.ledger.stamp());
  }

  #isCurrent(vmid: number, stamp: number): boolean {
    return stamp > (this.#model.touched.get(vmid) ?? 0);
  }

  #stamp(age: number): number {
    return this.#stamps.at(-1 - age) ?? this.#site.ledger.stamp();
  }

  #place(vmid: number): { readonly node: string; readonly pool: string | undefined } {
    return places[vmid] ?? { node: 'n1', pool: undefined };
  }

  #absence(vmid: number, left: Amounts): Absence {
    return { ...absence(vmid, left), node: this.#place(vmid).node };
  }

  #holdings(name: string): Record<string, [number, number]> {
    return this.#site.holds(name);
  }
}

test('however calls, reads and restarts are mixed, what is booked is the sum of the larger of seen and expected, and a refusal means that there is no room', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (steps) => {
      using site = new Books(limits, claims);
      const pair = new Pair(site);
      for (const one of steps) await pair.play(one);
      pair.end();
    }),
    { numRuns: process.env.CI ? 1000 : 100, endOnFailure: false },
  );
}, 300_000);
