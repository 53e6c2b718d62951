/**
 * Who holds what, and what is on its way. An instance's booking is, line by line, the larger of what PVE last showed
 * and of what every open reservation says it may become; a payer's total is the sum over the instances they pay for.
 * All totals live in memory and are rebuilt from SQLite at start; a decision is memory plus one durable insert.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Database } from 'better-sqlite3';
import { ConflictError, ForbiddenError } from '../errors.ts';
import type { GuestType } from '../pve/instance.ts';
import {
  type Account,
  aheadIn,
  blankAccount,
  bookingOf,
  type Holding,
  isVoid,
  type ReservationId,
  recordedOf,
  recordsOf,
  type Stamp,
} from './account.ts';
import { type Books, mustFit } from './fitting.ts';
import {
  type Decision,
  type ExpectedFile,
  type FileName,
  LedgerStore,
  type Owner,
  type StoredReservation,
} from './ledger-store.ts';
import { Refusals } from './refusals.ts';
import type { Aim, ReservationRequest } from './request.ts';
import { isShelf, Shelves } from './shelves.ts';
import { Totals } from './totals.ts';
import { both, device, nothing, type Usage } from './usage.ts';

export { type Aim, QuotaNeeded, type ReservationRequest } from './request.ts';
export type { ExpectedFile, FileName, Holding, ReservationId, Stamp };

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

/** There is no such guest (any more), or it is a shelf; `usage` is what volumes under its id take, on `node`. */
export interface Absence {
  readonly vmid: number;
  readonly gone: true;
  readonly node: string;
  readonly usage: Usage;
  /** Of a shelf: the recorded files that are not there. */
  readonly missing?: readonly FileName[];
}

/** A file that is recorded as a user's. */
export interface OwnedFile extends FileName {
  /** Its length in bytes once the change under way has ended; undefined when there is none. */
  readonly awaited: number | undefined;
}

/** A change that is on its way. */
export type Reservation = StoredReservation;

export class Ledger {
  readonly #store: LedgerStore;
  readonly #wall: () => number;
  readonly #accounts = new Map<number, Account>();
  readonly #reservations = new Map<ReservationId, Reservation>();
  readonly #totals = new Totals();
  readonly #shelves: Shelves;
  readonly #books: Books;
  readonly #unsaved = new Set<number>();
  /** When vmids ended, so that a read from before cannot bring one back. */
  readonly #ended = new Map<number, { readonly stamp: Stamp; readonly at: number }>();
  readonly #refusals = new Refusals();
  #claims: readonly Claim[] = [];
  #clock: Stamp = 0;

  /** Rebuilds all totals from what the database holds. `wall` gives the time of day in ms. */
  constructor(db: Database, wall: () => number = Date.now) {
    this.#store = new LedgerStore(db);
    this.#shelves = new Shelves(this.#store);
    this.#wall = wall;
    this.#books = {
      totals: this.#totals,
      seen: (vmid) => this.#accounts.get(vmid)?.seen,
      booking: (vmid) => this.#accounts.get(vmid)?.booking ?? [],
      payersOf: (vmid) => this.payersOf(vmid),
      payersOfNew: (...about) => this.payersOfNew(...about),
    };
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
    return this.#accounts.keys().filter((vmid) => !isShelf(vmid));
  }

  /**
   * The shelf for a user's files on a node: an account with a negative id, which the user alone pays for. A file that is
   * recorded already stays on its shelf, whichever node it is reached from. Throws NotReadyError when it cannot be written.
   */
  shelfOf(user: string, node: string, file?: FileName): number {
    const shelf = file === undefined ? undefined : this.#shelves.file(file)?.shelf;
    return shelf !== undefined && this.#shelves.get(shelf)?.user === user ? shelf : this.#shelves.of(user, node);
  }

  /** Where a shelf is, and whose. */
  shelf(id: number): { readonly user: string; readonly node: string } | undefined {
    return this.#shelves.get(id);
  }

  /** Whose a file is; undefined when it is nobody's, such as what an administrator has put there. */
  fileOwner(name: FileName): string | undefined {
    const file = this.#shelves.file(name);
    return file === undefined ? undefined : this.#shelves.get(file.shelf)?.user;
  }

  /** Whether a file is being written by a call that has not been settled yet. */
  isAwaited(name: FileName): boolean {
    const file = this.#shelves.file(name);
    return file !== undefined && this.#reservations.has(file.reservation);
  }

  /** The files that are recorded to lie on a shelf. */
  filesOn(shelf: number): readonly OwnedFile[] {
    return this.#shelves.filesOn(shelf).map(({ place, volid, bytes, reservation }) => ({
      place,
      volid,
      awaited: this.#reservations.has(reservation) ? bytes : undefined,
    }));
  }

  /** The files that are recorded as a user's. */
  filesOf(user: string): readonly OwnedFile[] {
    return this.#shelves.allOf(user).flatMap(({ id }) => this.filesOn(id));
  }

  /**
   * Makes all files of a user another's, for whom they count at once, or nobody's; gives the shelves on which they lie
   * then. Throws NotReadyError when the database cannot be written.
   */
  handOver(user: string, to: string | undefined): readonly number[] {
    return this.#shelves.allOf(user).flatMap(({ id, node }) => {
      const files = this.#shelves.filesOn(id);
      if (files.length === 0) return [];
      const target = to === undefined ? undefined : this.#shelves.of(to, node);
      if (target === undefined) this.#shelves.drop(files);
      else this.#shelves.move(id, target);
      const moved = this.#accounts.get(id)?.seen ?? nothing;
      const show = (vmid: number, seenNow: (before: Usage) => Usage) =>
        this.#change(vmid, { vmid, type: 'qemu', node, pool: undefined }, (account) => {
          account.seen = seenNow(account.seen ?? nothing);
          account.touched = this.stamp();
        });
      show(id, () => nothing);
      if (target === undefined) return [];
      show(target, (seen) => both(seen, moved));
      return [target];
    });
  }

  /** The shelves of which files are recorded at a place. */
  shelvesAt(place: string): ReadonlySet<number> {
    const files = this.#shelves.files().filter((file) => file.place === place);
    return new Set(files.map(({ shelf }) => shelf));
  }

  /** The shelf on which a file is recorded. */
  shelfWith(name: FileName): number | undefined {
    return this.#shelves.file(name)?.shelf;
  }

  /** What the ledger knows of one vmid. */
  account(vmid: number): Readonly<Omit<Account, 'open' | 'touched' | 'owners'>> | undefined {
    return this.#accounts.get(vmid);
  }

  /** When the guest of a vmid was created through us, in ms since 1970; undefined where nobody is recorded to have done that. */
  createdAt(vmid: number): number | undefined {
    const account = this.#accounts.get(vmid);
    return account && recordsOf(account).find(({ how }) => how === 'created')?.since;
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

  /** The changes of an instance that are under way, but for those that take nothing but such resources. */
  changing(vmid: number, isApart: (resource: string) => boolean): readonly ReservationId[] {
    return [...(this.#accounts.get(vmid)?.open ?? [])].flatMap(([id, { lines }]) =>
      lines.length > 0 && lines.every(({ resource }) => isApart(resource)) ? [] : [id],
    );
  }

  /** The changes under way that may still bring an instance more of one of these resources than was last seen of it. */
  growing(vmid: number, counts: (resource: string) => boolean): readonly ReservationId[] {
    const account = this.#accounts.get(vmid);
    if (account === undefined) return [];
    return [...account.open].flatMap(([id, opening]) => (aheadIn(account, opening).some(counts) ? [id] : []));
  }

  /** The changes under way that copy what an instance holds. */
  copying(vmid: number): readonly ReservationId[] {
    return this.reservations().flatMap(({ id, sources }) => (sources.includes(vmid) ? [id] : []));
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
    if (!isKnown(this.#accounts.get(found.vmid), found))
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
    return this.#accounts.get(vmid)?.payers ?? this.#ownerOf(vmid);
  }

  /** Who is recorded as the payer of an instance, if anybody is and it is still the guest that it was recorded for. */
  recordedPayers(vmid: number): readonly string[] {
    const account = this.#accounts.get(vmid);
    return account === undefined ? [] : recordedOf(account);
  }

  /** Whether a pool is one of a user's. */
  isIn(user: string, pool: string): boolean {
    return this.#claims.some((claim) => claim.user === user && claim.pools.has(pool));
  }

  /** Who will pay for an instance that `by` creates: `by` alone, or for an administrator whoever claims it. */
  payersOfNew(aim: Pick<Aim, 'vmid' | 'pool'>, by: string, waived: boolean): readonly string[] {
    return waived ? this.#claimants(aim.vmid, aim.pool) : [by];
  }

  /**
   * Holds what the aims take beyond what is booked already, for every payer, or throws and holds nothing:
   * QuotaExceededError with every limit that would break, UsageUnknownError or NotReadyError when that cannot be told,
   * ConflictError or ForbiddenError when a new vmid or a file's name is not free, QuotaNeeded when a payer's quota is
   * missing. Check and insert are one step, so two calls can never both take the last of a limit.
   */
  async reserve(request: ReservationRequest): Promise<Reservation> {
    for (const aim of request.aims) {
      if (aim.creates) this.#mustBeFree(aim, request);
      this.#mustBeOwnFile(aim);
      this.#mustGetDevices(aim);
    }
    if (!request.waived) mustFit(request, this.#books);
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
    const [holder] = this.#totals.holdersOf(node, bus);
    return holder;
  }

  /** What a payer holds, on each node of each resource. */
  holdings(user: string): readonly Holding[] {
    return this.#totals.holdings(user);
  }

  /** Writes a refusal down, unless the user has had too many in this hour; durable with the next `save`. */
  refused(decision: Decision): void {
    this.#refusals.add({ ...decision, at: this.#wall() });
  }

  /** For whom we started a task; kept for 30 days. */
  taskUser(upid: string): string | undefined {
    return this.#store.taskUser(upid);
  }

  /** The tasks that we started for a user in the last 30 days, the latest first; at most 1000. */
  tasksOf(user: string): readonly string[] {
    return this.#store.tasksOf(user);
  }

  /** Has nobody see the tasks of a user who is gone, such as the next one of that name. */
  forgetTasksOf(user: string): void {
    this.#store.dropTasksOf(user);
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
    this.#store.save(seen, this.#refusals.waiting, this.#wall() - keptFor);
    this.#unsaved.clear();
    this.#refusals.written();
    for (const [vmid, { at }] of this.#ended) if (at < this.#wall() - readsEndWithin) this.#ended.delete(vmid);
  }

  #load(): void {
    const owners = this.#store.owners();
    for (const stored of this.#store.instances()) {
      this.#accounts.set(stored.vmid, { ...blankAccount(stored), ...stored, owners: owners.get(stored.vmid) ?? [] });
    }
    for (const reservation of this.#store.reservations()) {
      this.#reservations.set(reservation.id, reservation);
      for (const aim of reservation.aims) {
        const account = this.#accounts.get(aim.vmid) ?? { ...blankAccount(aim), owners: owners.get(aim.vmid) ?? [] };
        account.open.set(reservation.id, aim);
        this.#accounts.set(aim.vmid, account);
      }
    }
    for (const account of this.#accounts.values()) this.#book(account);
  }

  /** Changes an account, made blank when there is none, and carries the difference into the totals. */
  #change(vmid: number, known: Listing, change: (account: Account) => void): void {
    const account = this.#accounts.get(vmid) ?? {
      ...blankAccount(known),
      owners: this.#store.ownersOf(vmid),
      touched: this.#ended.get(vmid)?.stamp ?? 0,
    };
    if (this.#accounts.has(vmid)) this.#totals.unbook(account);
    else this.#accounts.set(vmid, account);
    this.#unsaved.add(vmid);
    change(account);
    if (isVoid(account)) {
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
    this.#totals.book(account);
  }

  #payersOf(account: Account): readonly string[] {
    if (isShelf(account.vmid)) return this.#ownerOf(account.vmid);
    const recorded = recordedOf(account);
    return recorded.length > 0 ? recorded : this.#claimants(account.vmid, account.pool);
  }

  /** Who alone pays for a shelf; nobody for a guest. */
  #ownerOf(shelf: number): readonly string[] {
    const user = this.#shelves.get(shelf)?.user;
    return user === undefined ? [] : [user];
  }

  #claimants(vmid: number, pool: string | undefined): readonly string[] {
    const inPool = this.#claims.filter(({ pools }) => pool === undefined || pools.has(pool));
    const inRange = inPool.filter((claim) => vmid >= claim.vmid.min && vmid <= claim.vmid.max);
    return (inRange.length > 0 || pool === undefined ? inRange : inPool).map(({ user }) => user);
  }

  #take(account: Account, found: Sighting | Absence): void {
    account.seen = found.usage;
    account.present = !('gone' in found);
    if ('gone' in found) {
      account.node = found.node;
      this.#shelves.drop((found.missing ?? []).filter((name) => this.#isOver(account.vmid, name)));
      return;
    }
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
        `the storages still hold volumes or backups of a former guest ${vmid} that are not yours; choose another vmid or ask an administrator to remove them`,
      );
    }
  }

  /** A file keeps its owner as long as it is there or awaited, and is written by one call at a time. */
  #mustBeOwnFile({ vmid, file }: Aim): void {
    if (file === undefined) return;
    const isCopied = ({ place, volid }: FileName) => place === file.place && volid === file.volid;
    if (this.#reservations.values().some(({ copies }) => copies.some(isCopied)))
      throw new ConflictError(`${file.volid} is being imported by another call; wait for it or choose another name`);
    const known = this.#shelves.file(file);
    if (known === undefined) return;
    if (known.shelf !== vmid) throw new ForbiddenError(`${known.volid} is another user's; choose another name`);
    if (this.#reservations.has(known.reservation))
      throw new ConflictError(`${known.volid} is being written by another call; wait for it or choose another name`);
  }

  /** A change that cannot have happened has made no file: what it only expected is nobody's. */
  #disclaim({ id, aims }: Reservation): void {
    for (const { vmid } of aims)
      this.#shelves.drop(this.#shelves.filesOn(vmid).filter(({ fresh, reservation }) => fresh && reservation === id));
  }

  /** Whether a file that is recorded on a shelf and is not there is not awaited either. */
  #isOver(shelf: number, name: FileName): boolean {
    const file = this.#shelves.file(name);
    return file?.shelf === shelf && !this.#reservations.has(file.reservation);
  }

  /** A device belongs to one guest at a time, whoever pays and whoever asks. */
  #mustGetDevices({ vmid, node, after }: Aim): void {
    for (const { resource, item } of after.lines) {
      const holders = resource === device ? this.#totals.holdersOf(node, item) : [];
      const other = [...holders].find((one) => one !== vmid);
      if (other !== undefined)
        throw new ConflictError(
          `device ${item} of node ${node} is in use by another instance; choose another device`,
        ).of({ resource, item });
    }
  }

  #open(request: ReservationRequest): Reservation {
    const { by, address, call, digest, waived, copies = [], sources = [] } = request;
    const aims = request.aims.map(({ after, ...aim }) => ({ ...aim, lines: after.lines }));
    const detail = request.aims.map(({ vmid, after }) => ({ vmid, after: after.lines }));
    const opened = { by, call, digest, upid: undefined, madeAt: this.#wall(), aims, copies, sources };
    const id = this.#store.open(
      opened,
      { user: by, address, call, vmid: aims[0]?.vmid, verdict: 'allowed', detail },
      waived ? undefined : by,
    );
    const reservation = { ...opened, id };
    this.#reservations.set(id, reservation);
    for (const aim of request.aims) {
      const { vmid, file } = aim;
      if (file !== undefined)
        this.#shelves.put({ ...file, shelf: vmid, reservation: id, fresh: this.#shelves.file(file) === undefined });
      this.#change(aim.vmid, aim, (account) => {
        account.open.set(id, { node: aim.node, lines: aim.after.lines, creates: aim.creates });
        account.touched = this.stamp();
        if (!aim.creates) return;
        account.node = aim.node;
        account.type = aim.type;
        account.pool = aim.pool;
        account.birth = undefined;
        if (!waived) account.owners = [{ user: by, birth: null, how: 'created', since: opened.madeAt }];
      });
    }
    return reservation;
  }

  #close(id: ReservationId, found: readonly (Sighting | Absence)[], outcome: string): void {
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    this.#reservations.delete(id);
    if (found.length === 0) this.#disclaim(reservation);
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

/** How long decisions and tasks are kept, in ms. */
const keptFor = 30 * 24 * 3600 * 1000;

/** No read of PVE takes longer, in ms. */
const readsEndWithin = 10 * 60 * 1000;

/** Where an instance was found; of one that is gone the type is not known any more. */
function listingOf(found: Sighting | Absence): Listing {
  return 'gone' in found ? { vmid: found.vmid, node: found.node, type: 'qemu', pool: undefined } : found;
}

/** Whether a read found a guest as it was last seen, which most reads do. */
function isKnown(account: Account | undefined, found: Sighting | Absence): boolean {
  if (account?.present !== true || 'gone' in found) return false;
  const { type, node, pool, birth, usage } = found;
  const isSame = account.type === type && account.node === node && account.pool === pool && account.birth === birth;
  return isSame && isDeepStrictEqual(account.seen, usage);
}

/** Whether the same users pay, for the same guest. */
function sameOwners(a: readonly Owner[], b: readonly Owner[]): boolean {
  return (
    a.length === b.length && a.every(({ user, birth }, index) => user === b[index]?.user && birth === b[index]?.birth)
  );
}
