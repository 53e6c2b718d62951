/**
 * Who holds what, and what is on its way. An instance's booking is, line by line, the larger of what PVE last showed
 * and of what every open reservation says it may become; a payer's total is the sum over the instances they pay for.
 * All totals live in memory and are rebuilt from SQLite at start; a decision is memory plus one durable insert.
 */

import type { Database } from 'better-sqlite3';
import {
  ConflictError,
  ForbiddenError,
  NotReadyError,
  type Overrun,
  QuotaExceededError,
  UsageUnknownError,
} from '../errors.ts';
import type { GuestType } from '../pve/instance.ts';
import { type Decision, LedgerStore, type Owner, type StoredInstance, type StoredReservation } from './ledger-store.ts';
import { type Growth, overruns, type Quota, type Standing, scopeOf } from './limits.ts';
import { device, type Line, nothing, type Usage } from './usage.ts';

/** A logical time: reads are stamped with it when they start, reservations when they open and settle. */
export type Stamp = number;

export type ReservationId = number;

/** Which vmids and pools a user's limits cover: who pays where no payer is recorded. */
export interface Claim {
  readonly user: string;
  readonly vmid: { readonly min: number; readonly max: number };
  readonly pools: ReadonlySet<string>;
}

/** What a list of PVE says of an instance. */
export interface Listing {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | undefined;
}

/** An instance as a read found it. */
export interface Sighting extends Listing {
  readonly birth: string | undefined;
  readonly usage: Usage;
}

/** There is no such guest (any more); `usage` is what volumes under its vmid still take, on `node`. */
export interface Absence {
  readonly vmid: number;
  readonly gone: true;
  readonly node: string;
  readonly usage: Usage;
}

/** What a change would make of an instance. */
export interface Aim {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | undefined;
  readonly after: Usage;
  /** The vmid must be free. */
  readonly creates: boolean;
}

export interface ReservationRequest {
  readonly by: string;
  readonly address: string;
  readonly call: string;
  /** The digest that the change was computed on, when PVE takes one. */
  readonly digest: string | undefined;
  readonly aims: readonly Aim[];
  /** The quotas of all payers, by user. */
  readonly quotas: ReadonlyMap<string, Quota>;
  /** Administrators: booked, never refused, and not recorded as payers of what they create. */
  readonly waived: boolean;
}

/** A change that is on its way. */
export type Reservation = StoredReservation;

/** So much of one resource on one node, held by a payer. */
export interface Holding extends Standing {
  readonly node: string;
  readonly resource: string;
  readonly item: string;
}

/** A payer's quota is needed and was not given: read it and ask again. */
export class QuotaNeeded extends Error {
  override readonly name = 'QuotaNeeded';
  readonly users: readonly string[];

  constructor(users: readonly string[]) {
    super(`quotas needed: ${users.join(', ')}`);
    this.users = users;
  }
}

interface Opening {
  readonly node: string;
  readonly lines: readonly Line[];
  readonly creates: boolean;
}

/** One instance as the ledger keeps it. */
interface Account extends StoredInstance {
  readonly vmid: number;
  type: GuestType;
  node: string;
  pool: string | undefined;
  birth: string | undefined;
  present: boolean;
  /** null until it was read for the first time. */
  seen: Usage | null;
  owners: readonly Owner[];
  payers: readonly string[];
  readonly open: Map<ReservationId, Opening>;
  touched: Stamp;
  booking: readonly Holding[];
}

export class Ledger {
  readonly #store: LedgerStore;
  readonly #wall: () => number;
  readonly #accounts = new Map<number, Account>();
  readonly #reservations = new Map<ReservationId, Reservation>();
  readonly #totals = new Map<string, Map<string, Holding>>();
  /** By payer: the vmids whose usage is not, or not wholly, known. */
  readonly #clouded = new Map<string, Set<number>>();
  /** By node and bus id: the vmids that have, or are about to have, a PCI device. */
  readonly #devices = new Map<string, Set<number>>();
  readonly #unsaved = new Set<number>();
  /** When vmids ended, so that a read from before cannot bring one back. */
  readonly #ended = new Map<number, { readonly stamp: Stamp; readonly at: number }>();
  readonly #refusals: (Decision & { readonly at: number })[] = [];
  #claims: readonly Claim[] = [];
  #clock: Stamp = 0;

  /** Rebuilds all totals from what the database holds. `wall` gives the time of day in ms. */
  constructor(db: Database, wall: () => number = Date.now) {
    this.#store = new LedgerStore(db);
    this.#wall = wall;
    this.#load();
  }

  /** The stamp for a read that starts now. */
  stamp(): Stamp {
    this.#clock += 1;
    return this.#clock;
  }

  /** Whether a read with this stamp may still speak for the instance: nothing was opened, settled or ended there since it began. */
  isCurrent(vmid: number, stamp: Stamp): boolean {
    return stamp > (this.#accounts.get(vmid)?.touched ?? this.#ended.get(vmid)?.stamp ?? 0);
  }

  /** The vmids that the ledger knows, gone ones with leftovers and awaited ones included. */
  vmids(): IterableIterator<number> {
    return this.#accounts.keys();
  }

  /** What the ledger knows of one vmid. */
  account(vmid: number): Readonly<Omit<Account, 'open' | 'touched' | 'owners'>> | undefined {
    return this.#accounts.get(vmid);
  }

  /** Whether `user` is awaiting, by an open reservation, the guest that they create there. */
  isCreating(vmid: number, user: string): boolean {
    for (const [id, { creates }] of this.#accounts.get(vmid)?.open ?? []) {
      if (creates && this.#reservations.get(id)?.by === user) return true;
    }
    return false;
  }

  /** Whether anything that was asked of this vmid has not been settled yet. */
  hasOpen(vmid: number): boolean {
    return (this.#accounts.get(vmid)?.open.size ?? 0) > 0;
  }

  /** Takes in what a list of PVE says; true when the instance was not known to be there before. A stale list is ignored. */
  list(row: Listing, stamp: Stamp): boolean {
    if (!this.isCurrent(row.vmid, stamp)) return false;
    const known = this.#accounts.get(row.vmid);
    if (known?.present === true && known.node === row.node && known.type === row.type && known.pool === row.pool)
      return false;
    const appeared = known?.present !== true;
    this.#change(row.vmid, row, (account) => {
      account.present = true;
      account.node = row.node;
      account.type = row.type;
      // PVE puts a new guest into its pool last of all.
      if (row.pool !== undefined || account.open.size === 0) account.pool = row.pool;
    });
    return appeared;
  }

  /** Takes in a read of one instance; false when it began too early to speak for it and was thrown away. */
  see(found: Sighting | Absence, stamp: Stamp): boolean {
    if (!this.isCurrent(found.vmid, stamp)) return false;
    this.#change(found.vmid, listingOf(found), (account) => this.#take(account, found));
    return true;
  }

  /** Who pays for which instance where nobody is recorded. */
  setClaims(claims: readonly Claim[]): void {
    this.#claims = claims;
    for (const account of this.#accounts.values()) {
      const payers = this.#payersOf(account);
      if (payers.join(' ') !== account.payers.join(' ')) this.#change(account.vmid, account, () => {});
    }
  }

  /** Reads the recorded payers again, which the command line may have changed. */
  reloadOwners(): void {
    const owners = this.#store.owners();
    for (const account of this.#accounts.values()) {
      const now = owners.get(account.vmid) ?? [];
      if (sameOwners(now, account.owners)) continue;
      this.#change(account.vmid, account, () => {
        account.owners = now;
      });
    }
  }

  /** Who pays for an instance: those recorded for it, else those whose range and pools cover it, else those of its pool. */
  payersOf(vmid: number): readonly string[] {
    return this.#accounts.get(vmid)?.payers ?? [];
  }

  /** Who is recorded as the payer of an instance, if anybody is and it is still the guest that it was recorded for. */
  recordedPayers(vmid: number): readonly string[] {
    const account = this.#accounts.get(vmid);
    return account === undefined ? [] : recordedOf(account);
  }

  /** Who will pay for an instance that `by` creates: `by` alone, or for an administrator whoever claims it. */
  payersOfNew(aim: Pick<Aim, 'vmid' | 'pool'>, by: string, waived: boolean): readonly string[] {
    return waived ? this.#claimants(aim.vmid, aim.pool) : [by];
  }

  /**
   * Holds what the aims take beyond what is booked already, for every payer, or throws and holds nothing:
   * QuotaExceededError with every limit that would break, UsageUnknownError or NotReadyError when that cannot be told,
   * ConflictError or ForbiddenError when a new vmid is not free, QuotaNeeded when a payer's quota is missing. Check and insert are one step, so two calls can never
   * both take the last of a limit.
   */
  async reserve(request: ReservationRequest): Promise<Reservation> {
    for (const aim of request.aims) {
      if (aim.creates) this.#mustBeFree(aim, request);
      this.#mustGetDevices(aim);
    }
    if (!request.waived) this.#mustFit(request);
    return this.#open(request);
  }

  /** Notes the task that carries a change out; written before the caller hears of it. */
  setUpid(id: ReservationId, upid: string): void {
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    this.#reservations.set(id, { ...reservation, upid });
    this.#store.setUpid(id, { upid, user: reservation.by, vmid: reservation.aims[0]?.vmid ?? null, at: this.#wall() });
  }

  /** Every change that is on its way, the oldest first. */
  reservations(): readonly Reservation[] {
    return [...this.#reservations.values()];
  }

  /** Drops a reservation of a change that cannot have happened. Doing it twice changes nothing. */
  release(id: ReservationId, outcome: string): void {
    this.#close(id, [], outcome);
  }

  /**
   * Closes a reservation with what PVE shows now; false, closing nothing, when one of the reads began too early.
   * Settling twice changes nothing.
   */
  settle(id: ReservationId, found: readonly (Sighting | Absence)[], stamp: Stamp, outcome: string): boolean {
    if (!this.#reservations.has(id)) return true;
    if (!found.every(({ vmid }) => this.isCurrent(vmid, stamp))) return false;
    this.#close(id, found, outcome);
    return true;
  }

  /** The vmid that has, or is about to have, a PCI device of a node, by bus id. */
  deviceHolder(node: string, bus: string): number | undefined {
    const [holder] = this.#devices.get(`${node} ${bus}`) ?? [];
    return holder;
  }

  /** What a payer holds, on each node of each resource. */
  holdings(user: string): readonly Holding[] {
    return [...(this.#totals.get(user)?.values() ?? [])];
  }

  /** Writes a refusal down; durable with the next `save`. While nothing can be saved, the oldest ones are dropped. */
  refused(decision: Decision): void {
    this.#refusals.push({ ...decision, at: this.#wall() });
    if (this.#refusals.length > mostRefusals) this.#refusals.shift();
  }

  /** For whom we started a task; kept for 30 days. */
  taskUser(upid: string): string | undefined {
    return this.#store.taskUser(upid);
  }

  /** Makes these users the payers of an instance; with none it falls back to those who claim it. */
  assign(vmid: number, users: readonly string[]): void {
    this.#store.assign(vmid, users, this.#accounts.get(vmid)?.birth ?? null, this.#wall());
    this.reloadOwners();
  }

  /** Strikes out who was recorded as the creator of what is there, since it is another's; whoever claims it pays. */
  disown(vmid: number): void {
    this.#store.disown(vmid);
    this.reloadOwners();
  }

  /** Writes down what was seen since the last time, and refusals; forgets decisions and tasks after 30 days. */
  save(): void {
    const seen = new Map([...this.#unsaved].map((vmid) => [vmid, this.#accounts.get(vmid)]));
    this.#store.save(seen, this.#refusals, this.#wall() - keptFor);
    this.#unsaved.clear();
    this.#refusals.length = 0;
    for (const [vmid, { at }] of this.#ended) if (at < this.#wall() - readsEndWithin) this.#ended.delete(vmid);
  }

  #load(): void {
    const owners = this.#store.owners();
    for (const stored of this.#store.instances()) {
      this.#accounts.set(stored.vmid, { ...blank(stored), ...stored, owners: owners.get(stored.vmid) ?? [] });
    }
    for (const reservation of this.#store.reservations()) {
      this.#reservations.set(reservation.id, reservation);
      for (const aim of reservation.aims) {
        const account = this.#accounts.get(aim.vmid) ?? { ...blank(aim), owners: owners.get(aim.vmid) ?? [] };
        account.open.set(reservation.id, aim);
        this.#accounts.set(aim.vmid, account);
      }
    }
    for (const account of this.#accounts.values()) this.#book(account);
  }

  /** Changes an account, made blank when there is none, and carries the difference into the totals. */
  #change(vmid: number, known: Listing, change: (account: Account) => void): void {
    const account = this.#accounts.get(vmid) ?? {
      ...blank(known),
      owners: this.#store.ownersOf(vmid),
      touched: this.#ended.get(vmid)?.stamp ?? 0,
    };
    if (this.#accounts.has(vmid)) this.#unbook(account);
    else this.#accounts.set(vmid, account);
    this.#unsaved.add(vmid);
    change(account);
    if (
      !account.present &&
      account.open.size === 0 &&
      (account.seen?.lines.length ?? 0) === 0 &&
      (account.seen?.unknown.length ?? 0) === 0
    ) {
      this.#accounts.delete(vmid);
      this.#ended.set(vmid, { stamp: this.stamp(), at: this.#wall() });
      this.#store.erase(vmid);
    } else {
      this.#book(account);
    }
  }

  #book(account: Account): void {
    account.payers = this.#payersOf(account);
    account.booking = bookingOf(account);
    this.#total(account, 1);
    for (const key of devicesOf(account))
      this.#devices.set(key, (this.#devices.get(key) ?? new Set()).add(account.vmid));
    if (!isClouded(account)) return;
    for (const payer of account.payers) {
      const vmids = this.#clouded.get(payer) ?? new Set();
      this.#clouded.set(payer, vmids.add(account.vmid));
    }
  }

  #unbook(account: Account): void {
    this.#total(account, -1);
    for (const key of devicesOf(account)) this.#devices.get(key)?.delete(account.vmid);
    for (const payer of account.payers) this.#clouded.get(payer)?.delete(account.vmid);
  }

  #total(account: Account, sign: 1 | -1): void {
    for (const payer of account.payers) {
      const totals = this.#totals.get(payer) ?? new Map<string, Holding>();
      this.#totals.set(payer, totals);
      for (const holding of account.booking) {
        const key = keyOf(holding.node, holding);
        const old = totals.get(key);
        const next = {
          ...holding,
          used: (old?.used ?? 0) + sign * holding.used,
          booked: (old?.booked ?? 0) + sign * holding.booked,
        };
        if (next.booked === 0) totals.delete(key);
        else totals.set(key, next);
      }
    }
  }

  #payersOf(account: Account): readonly string[] {
    const recorded = recordedOf(account);
    return recorded.length > 0 ? recorded : this.#claimants(account.vmid, account.pool);
  }

  #claimants(vmid: number, pool: string | undefined): readonly string[] {
    const inPool = this.#claims.filter(({ pools }) => pool === undefined || pools.has(pool));
    const inRange = inPool.filter((claim) => vmid >= claim.vmid.min && vmid <= claim.vmid.max);
    return (inRange.length > 0 || pool === undefined ? inRange : inPool).map(({ user }) => user);
  }

  #take(account: Account, found: Sighting | Absence): void {
    account.seen = found.usage;
    account.present = !('gone' in found);
    if ('gone' in found) return;
    account.node = found.node;
    account.type = found.type;
    account.birth = found.birth;
    if (found.pool !== undefined || account.open.size === 0) account.pool = found.pool;
    this.#markOwners(account);
  }

  /** The first sight of a guest that was created through us tells its birth mark; from then on its payer is bound to it. */
  #markOwners(account: Account): void {
    const { birth } = account;
    if (birth === undefined || !account.owners.some((owner) => owner.birth === null)) return;
    account.owners = account.owners.map((owner) => ({ ...owner, birth: owner.birth ?? birth }));
  }

  /** For each payer, what the aims take beyond what is booked, by resource, item and scope. */
  #growths(request: ReservationRequest): Map<string, Growth[]> {
    const growths = new Map<string, Map<string, Growth>>();
    for (const aim of request.aims) {
      const account = this.#accounts.get(aim.vmid);
      const payers = aim.creates ? this.payersOfNew(aim, request.by, request.waived) : this.payersOf(aim.vmid);
      for (const payer of payers) {
        const own = growths.get(payer) ?? new Map<string, Growth>();
        growths.set(payer, own);
        const quota = request.quotas.get(payer);
        if (quota === undefined) continue;
        const add = (node: string, { resource, item }: Pick<Line, 'resource' | 'item'>, amount: number) => {
          const scope = scopeOf(quota, resource, node);
          const key = `${resource} ${item} ${scope}`;
          own.set(key, { resource, item, scope, amount: (own.get(key)?.amount ?? 0) + amount });
        };
        for (const line of aim.after.lines) add(aim.node, line, line.amount);
        for (const held of account?.booking ?? []) add(held.node, held, -held.booked);
      }
    }
    return new Map([...growths].map(([payer, own]) => [payer, [...own.values()].filter(({ amount }) => amount > 0)]));
  }

  #mustBeFree({ vmid }: Aim, { by, waived }: ReservationRequest): void {
    const account = this.#accounts.get(vmid);
    if (account === undefined) return;
    if (account.present) throw new ConflictError(`vmid ${vmid} is already taken; choose another one`);
    if (account.open.size > 0)
      throw new ConflictError(
        `vmid ${vmid} is being created or deleted by another call; wait for it or choose another one`,
      );
    if (!waived && !account.payers.includes(by)) {
      throw new ForbiddenError(
        `the storages still hold volumes of a former guest ${vmid} that are not yours; choose another vmid or ask an administrator to remove them`,
      );
    }
  }

  /** A device belongs to one guest at a time, whoever pays and whoever asks. */
  #mustGetDevices({ vmid, node, after }: Aim): void {
    for (const { resource, item } of after.lines) {
      const holder = resource === device ? this.#devices.get(`${node} ${item}`) : undefined;
      const other = holder?.values().find((one) => one !== vmid);
      if (other !== undefined)
        throw new ConflictError(`device ${item} of node ${node} is in use by another instance; choose another device`);
    }
  }

  #mustFit(request: ReservationRequest): void {
    const growths = this.#growths(request);
    const needed = [...growths.keys()].filter((user) => !request.quotas.has(user));
    if (needed.length > 0) throw new QuotaNeeded(needed);
    const found: Overrun[] = [];
    for (const { vmid, after } of request.aims) {
      const before = this.#accounts.get(vmid)?.seen ?? nothing;
      const fresh = after.unknown.find(
        ({ resource, reason }) => !before.unknown.some((old) => old.resource === resource && old.reason === reason),
      );
      if (fresh !== undefined)
        throw new UsageUnknownError(
          `what instance ${vmid} would take of ${fresh.resource} cannot be told (${fresh.reason}), so it is refused`,
        );
    }
    for (const [payer, own] of growths) {
      if (own.length === 0) continue;
      this.#mustBeKnown(payer, own, request.by);
      const quota = request.quotas.get(payer);
      if (quota === undefined) throw new QuotaNeeded([payer]);
      const standing = (resource: string, scope: string, counts: (item: string) => boolean) =>
        this.#standing(payer, quota, resource, scope, counts);
      found.push(
        ...overruns(quota, own, standing).map((overrun) => (payer === request.by ? overrun : withoutNumbers(overrun))),
      );
    }
    if (found.length > 0) throw new QuotaExceededError(found);
  }

  #mustBeKnown(payer: string, growths: readonly Growth[], by: string): void {
    for (const vmid of this.#clouded.get(payer) ?? []) {
      // What guests hold that the caller does not pay for is not theirs to read.
      const own = this.payersOf(vmid).includes(by);
      const instance = own ? `instance ${vmid}` : 'an instance of another user who pays here';
      const seen = this.#accounts.get(vmid)?.seen;
      if (seen == null)
        throw new NotReadyError(
          `${instance} has not been read yet, so what is left cannot be told; try again in a moment`,
          5,
        );
      for (const { resource, reason } of seen.unknown) {
        const grows = growths.some(
          (growth) =>
            growth.resource === resource || (resource === 'storage:*' && growth.resource.startsWith('storage:')),
        );
        if (grows)
          throw new UsageUnknownError(
            `what ${instance} takes of ${resource} cannot be told${own ? ` (${reason})` : ''}, so no more of it is given; an administrator can mend its configuration`,
          );
      }
    }
  }

  #standing(payer: string, quota: Quota, resource: string, scope: string, counts: (item: string) => boolean): Standing {
    let used = 0;
    let booked = 0;
    for (const holding of this.#totals.get(payer)?.values() ?? []) {
      if (holding.resource !== resource || !counts(holding.item) || scopeOf(quota, resource, holding.node) !== scope)
        continue;
      used += holding.used;
      booked += holding.booked;
    }
    return { used, booked };
  }

  #open(request: ReservationRequest): Reservation {
    const { by, address, call, digest, waived } = request;
    const aims = request.aims.map(({ after, ...aim }) => ({ ...aim, lines: after.lines }));
    const detail = request.aims.map(({ vmid, after }) => ({ vmid, after: after.lines }));
    const opened = { by, call, digest, upid: undefined, madeAt: this.#wall(), aims };
    const id = this.#store.open(
      opened,
      { user: by, address, call, vmid: aims[0]?.vmid, verdict: 'allowed', detail },
      waived ? undefined : by,
    );
    const reservation = { ...opened, id };
    this.#reservations.set(id, reservation);
    for (const aim of request.aims) {
      this.#change(aim.vmid, aim, (account) => {
        account.open.set(id, { node: aim.node, lines: aim.after.lines, creates: aim.creates });
        account.touched = this.stamp();
        if (!aim.creates) return;
        account.node = aim.node;
        account.type = aim.type;
        account.pool = aim.pool;
        account.birth = undefined;
        if (!waived) account.owners = [{ user: by, birth: null, how: 'created' }];
      });
    }
    return reservation;
  }

  #close(id: ReservationId, found: readonly (Sighting | Absence)[], outcome: string): void {
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    this.#reservations.delete(id);
    const shown = new Map(found.map((one) => [one.vmid, one]));
    const listings = new Map([...reservation.aims, ...found.map(listingOf)].map((one) => [one.vmid, one]));
    for (const [vmid, listing] of listings) {
      this.#change(vmid, listing, (account) => {
        account.open.delete(id);
        account.touched = this.stamp();
        const sighting = shown.get(vmid);
        if (sighting !== undefined) this.#take(account, sighting);
      });
    }
    const vmids = [...listings.keys()];
    this.#store.close(id, outcome, new Map([...vmids].map((vmid) => [vmid, this.#accounts.get(vmid)])));
    for (const vmid of vmids) this.#unsaved.delete(vmid);
  }
}

/** The recorded payers; a record that was made for an earlier guest of that vmid does not count. */
function recordedOf({ birth, owners }: Account): readonly string[] {
  return owners
    .filter((owner) => owner.birth === null || birth === undefined || owner.birth === birth)
    .map(({ user }) => user);
}

/** Refusals that wait to be written at most. */
const mostRefusals = 10_000;

/** How long decisions and tasks are kept, in ms. */
const keptFor = 30 * 24 * 3600 * 1000;

/** No read of PVE takes longer, in ms. */
const readsEndWithin = 10 * 60 * 1000;

/** Where an instance was found; of one that is gone the type is not known any more. */
function listingOf(found: Sighting | Absence): Listing {
  return 'gone' in found ? { vmid: found.vmid, node: found.node, type: 'qemu', pool: undefined } : found;
}

/** Whether the same users pay, for the same guest. */
function sameOwners(a: readonly Owner[], b: readonly Owner[]): boolean {
  return (
    a.length === b.length && a.every(({ user, birth }, index) => user === b[index]?.user && birth === b[index]?.birth)
  );
}

function blank({ vmid, type, node, pool }: Listing): Account {
  return {
    vmid,
    type,
    node,
    pool,
    birth: undefined,
    present: false,
    seen: null,
    owners: [],
    payers: [],
    open: new Map(),
    touched: 0,
    booking: [],
  };
}

/** Whether some of what the instance takes is not known; of one that we are creating, its reservation tells. */
function isClouded({ present, seen, open }: Account): boolean {
  if (seen !== null) return seen.unknown.length > 0;
  return present && !open.values().some(({ creates }) => creates);
}

function keyOf(node: string, { resource, item }: Pick<Line, 'resource' | 'item'>): string {
  return `${node} ${resource} ${item}`;
}

/** Line by line the larger of what was seen and of every open reservation. */
function bookingOf({ node, seen, open }: Pick<Account, 'node' | 'seen' | 'open'>): Holding[] {
  const booking = new Map<string, Holding>();
  for (const line of seen?.lines ?? []) {
    booking.set(keyOf(node, line), {
      node,
      resource: line.resource,
      item: line.item,
      used: line.amount,
      booked: line.amount,
    });
  }
  for (const opening of open.values()) {
    for (const line of opening.lines) {
      const key = keyOf(opening.node, line);
      const held = booking.get(key) ?? {
        node: opening.node,
        resource: line.resource,
        item: line.item,
        used: 0,
        booked: 0,
      };
      if (line.amount > held.booked) booking.set(key, { ...held, booked: line.amount });
    }
  }
  return [...booking.values()];
}

function devicesOf({ booking }: Pick<Account, 'booking'>): string[] {
  return booking.flatMap(({ resource, node, item }) => (resource === device ? [`${node} ${item}`] : []));
}

/** Another payer's overrun, without their numbers. */
function withoutNumbers({ resource, item, scope }: Overrun): Overrun {
  const sentence = `another user who pays for this instance has no room for more ${resource}`;
  return { payer: '', resource, item, scope, requested: 0, used: 0, reserved: 0, limit: 0, available: 0, sentence };
}
