/** The ledger's side of the database: what is written, in which transactions, and what is read back at start. */

import type { Database, Statement } from 'better-sqlite3';
import type { GuestType } from '../pve/instance.ts';
import { writing } from '../store/database.ts';
import type { Line, Usage } from './usage.ts';

/** One who pays for an instance because it was recorded so. */
export interface Owner {
  readonly user: string;
  /** The birth mark of the guest that it was recorded for; null: not told apart yet. */
  readonly birth: string | null;
  readonly how: 'created' | 'assigned';
  /** When it was recorded, in ms since 1970. */
  readonly since: number;
}

/** An instance as it is kept. */
export interface StoredInstance {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | undefined;
  readonly birth: string | undefined;
  readonly present: boolean;
  readonly seen: Usage | null;
}

/** What one user has put on the storages of one node; its id is negative, so that it is nobody's vmid. */
export interface Shelf {
  readonly id: number;
  readonly user: string;
  readonly node: string;
}

/** A file by the place where it lies (a shared storage, or `node/storage`) and its volume id. */
export interface FileName {
  readonly place: string;
  readonly volid: string;
}

/** Whose a file is, and what the last reservation about it awaited. */
export interface StoredFile extends FileName {
  readonly shelf: number;
  readonly bytes: number;
  readonly reservation: number;
  /** That reservation made the record: when it comes to nothing, the file is nobody's. */
  readonly fresh: boolean;
}

/** A file that a change would leave on a shelf, of at most so many bytes. */
export interface ExpectedFile extends FileName {
  readonly bytes: number;
}

/** An instance that a reservation is about, with what it may become. */
export interface StoredAim {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | undefined;
  readonly creates: boolean;
  readonly lines: readonly Line[];
  /** On a shelf: the file that it would then hold. */
  readonly file?: ExpectedFile;
}

/** An open reservation as it is kept. */
export interface StoredReservation {
  readonly id: number;
  readonly by: string;
  readonly call: string;
  readonly madeAt: number;
  readonly digest: string | undefined;
  readonly upid: string | undefined;
  readonly aims: readonly StoredAim[];
  /** The files that it copies, which have to stay as they were judged until it has ended. */
  readonly copies: readonly FileName[];
  /** The guests that it copies. */
  readonly sources: readonly number[];
}

/** One line of the record of decisions. */
export interface Decision {
  readonly user: string;
  readonly address: string;
  readonly call: string;
  readonly vmid: number | undefined;
  /** `allowed`, or the code of the refusal. */
  readonly verdict: string;
  readonly detail: unknown;
}

/** A decision as it is kept, and what became of it. */
export interface KeptDecision extends Decision {
  /** In ms since 1970. */
  readonly at: number;
  readonly upid: string | undefined;
  /** Absent while the change is under way, and where it was refused. */
  readonly outcome: string | undefined;
}

/**
 * Reads and writes the ledger's tables. Every method is one durable transaction. What has happened in PVE is not undone
 * by a full disk: while the database cannot be written, `open` refuses, and what else there is to write is owed.
 */
export class LedgerStore {
  readonly #sql: ReturnType<typeof prepare>;
  /** What could not be written when it happened, the oldest first. */
  readonly #owed: (() => void)[] = [];
  /** Does all that `work` writes in one transaction: to make a new one each time takes as long as a statement. */
  readonly #atOnce: <T>(work: () => T) => T;

  constructor(db: Database) {
    this.#sql = prepare(db);
    this.#atOnce = db.transaction((work) => work()).immediate as <T>(work: () => T) => T;
  }

  instances(): StoredInstance[] {
    return this.#sql.instances.all().map(({ pool, birth, present, seen, ...row }) => ({
      ...row,
      pool: pool ?? undefined,
      birth: birth ?? undefined,
      present: present === 1,
      seen: seen === null ? null : JSON.parse(seen),
    }));
  }

  /** The decisions that are kept, the oldest first: all of them, or those by one user, or about one vmid. */
  *decisions(about?: string | number): IterableIterator<KeptDecision> {
    for (const { vmid, detail, upid, outcome, ...row } of this.#sql.decisions.iterate({ about: about ?? null }))
      yield {
        ...row,
        vmid: vmid ?? undefined,
        detail: JSON.parse(detail),
        upid: upid ?? undefined,
        outcome: outcome ?? undefined,
      };
  }

  /** The recorded payers, by vmid. */
  owners(): ReadonlyMap<number, readonly Owner[]> {
    return Map.groupBy(this.#sql.owners.all(), ({ vmid }) => vmid);
  }

  /** The recorded payers of one vmid. */
  ownersOf(vmid: number): readonly Owner[] {
    return this.#sql.ownersOf.all({ vmid });
  }

  shelves(): Shelf[] {
    return this.#sql.shelves.all();
  }

  files(): StoredFile[] {
    return this.#sql.files.all().map((file) => ({ ...file, fresh: file.fresh === 1 }));
  }

  /** Throws NotReadyError when the database cannot be written. */
  addShelf(shelf: Shelf): void {
    writing(() => {
      this.#settleUp();
      this.#sql.addShelf.run(shelf);
    });
  }

  /** Puts all files of one shelf on another. Throws NotReadyError when the database cannot be written. */
  moveFiles(from: number, to: number): void {
    writing(() => {
      this.#settleUp();
      this.#sql.moveFiles.run({ from, to });
    });
  }

  /** Forgets whose these files were. */
  dropFiles(names: readonly FileName[]): void {
    this.#owe(() => {
      for (const { place, volid } of names) this.#sql.dropFile.run({ place, volid });
    });
  }

  /** The open reservations, the oldest first. */
  reservations(): StoredReservation[] {
    return this.#sql.reservations.all().map(({ id, user, call, made_at, digest, upid, aims, copies, sources }) => ({
      ...{ id, by: user, call, madeAt: made_at, digest: digest ?? undefined, upid: upid ?? undefined },
      ...{ aims: JSON.parse(aims), copies: JSON.parse(copies), sources: JSON.parse(sources) },
    }));
  }

  /**
   * Writes a reservation with its decision, and `owner` down as the only payer of what it creates; gives its id.
   * Throws NotReadyError when the database cannot be written.
   */
  open(reservation: Omit<StoredReservation, 'id'>, decision: Decision, owner: string | undefined): number {
    const { by, call, madeAt, digest = null, aims, copies, sources } = reservation;
    return writing(() => {
      this.#settleUp();
      return this.#atOnce(() => {
        const texts = { aims: JSON.stringify(aims), copies: JSON.stringify(copies), sources: JSON.stringify(sources) };
        const id = Number(this.#sql.addReservation.run({ madeAt, user: by, call, digest, ...texts }).lastInsertRowid);
        for (const { vmid, creates, file } of aims) {
          if (file !== undefined) this.#sql.putFile.run({ ...file, shelf: vmid, reservation: id, since: madeAt });
          if (!creates || owner === undefined) continue;
          this.#sql.dropOwners.run({ vmid });
          this.#sql.addOwner.run({ vmid, user: owner, birth: null, how: 'created', since: madeAt });
        }
        this.#decide(decision, madeAt, id);
        return id;
      });
    });
  }

  /** Notes the task that carries a reservation out, for whom it runs, and about which vmid. */
  setUpid(
    id: number,
    task: { readonly upid: string; readonly user: string; readonly vmid: number | null; readonly at: number },
  ): void {
    this.#owe(() => {
      this.#sql.setUpid.run({ id, upid: task.upid });
      this.#sql.decisionUpid.run({ id, upid: task.upid });
      this.#sql.addTask.run(task);
    });
  }

  /** Removes a reservation, and in the same step writes what its instances have become; an instance that is none any more is erased. */
  close(id: number, outcome: string, instances: ReadonlyMap<number, StoredInstance | undefined>): void {
    this.#owe(() => {
      this.#sql.dropReservation.run({ id });
      this.#sql.decisionOutcome.run({ id, outcome });
      this.#put(instances);
    });
  }

  /**
   * Writes what is owed, what was seen, and refusals; forgets decisions and tasks that are older than `before`.
   * Throws NotReadyError when the database cannot be written.
   */
  save(
    instances: ReadonlyMap<number, StoredInstance | undefined>,
    refusals: readonly (Decision & { readonly at: number })[],
    before: number,
  ): void {
    writing(() => {
      this.#settleUp();
      this.#atOnce(() => {
        this.#put(instances);
        for (const refusal of refusals) this.#decide(refusal, refusal.at, null);
        this.#sql.dropDecisions.run({ before });
        this.#sql.dropTasks.run({ before });
      });
    });
  }

  /** Forgets an instance and its payers. */
  erase(vmid: number): void {
    this.#owe(() => this.#erase(vmid));
  }

  /** Forgets who created what has this vmid; those who were assigned stay. */
  disown(vmid: number): void {
    this.#owe(() => this.#sql.dropCreators.run({ vmid }));
  }

  /** Makes these users the payers of a vmid; with none it falls back to who claims it. */
  assign(vmid: number, users: readonly string[], birth: string | null, since: number): void {
    this.#atOnce(() => {
      this.#sql.dropOwners.run({ vmid });
      for (const user of users) this.#sql.addOwner.run({ vmid, user, birth, how: 'assigned', since });
    });
  }

  /** Forgets for whom these tasks were started; the record of decisions keeps them. */
  dropTasksOf(user: string): void {
    this.#owe(() => this.#sql.dropTasksOf.run({ user }));
  }

  /** The latest tasks that were started for a user through us. */
  tasksOf(user: string): string[] {
    return this.#sql.tasksOf.all({ user }).map(({ upid }) => upid);
  }

  /** For whom a task was started, when it was started through us. */
  taskUser(upid: string): string | undefined {
    return this.#sql.task.get({ upid })?.user;
  }

  /** Writes at once, or when that fails as soon as it can be done, before anything else is written. */
  #owe(write: () => void): void {
    this.#owed.push(write);
    try {
      this.#settleUp();
    } catch {
      // The next save tries again, and tells.
    }
  }

  #settleUp(): void {
    for (let next = this.#owed[0]; next !== undefined; next = this.#owed[0]) {
      this.#atOnce(next);
      this.#owed.shift();
    }
  }

  #erase(vmid: number): void {
    this.#sql.dropInstance.run({ vmid });
    this.#sql.dropOwners.run({ vmid });
  }

  #decide(
    { user, address, call, vmid = undefined, verdict, detail }: Decision,
    at: number,
    reservation: number | null,
  ): void {
    this.#sql.addDecision.run({
      at,
      user,
      address,
      call,
      vmid: vmid ?? null,
      verdict,
      detail: JSON.stringify(detail),
      reservation,
    });
  }

  #put(instances: ReadonlyMap<number, StoredInstance | undefined>): void {
    for (const [vmid, instance] of instances) {
      if (instance === undefined) {
        this.#erase(vmid);
        continue;
      }
      const { type, node, pool = null, birth = null, present } = instance;
      const seen = instance.seen && JSON.stringify(instance.seen);
      this.#sql.putInstance.run({ vmid, type, node, pool, birth, present: present ? 1 : 0, seen });
      // Payers that are bound to no guest yet are bound to this one.
      if (birth !== null) this.#sql.markOwners.run({ vmid, birth });
    }
  }
}

interface InstanceRow {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | null;
  readonly birth: string | null;
  readonly present: number;
  readonly seen: string | null;
}

interface DecisionRow {
  readonly at: number;
  readonly user: string;
  readonly address: string;
  readonly call: string;
  readonly vmid: number | null;
  readonly verdict: string;
  readonly detail: string;
  readonly upid: string | null;
  readonly outcome: string | null;
}

/** What a reservation is about, as JSON. */
interface ReservationTexts {
  readonly aims: string;
  readonly copies: string;
  readonly sources: string;
}

function prepare(db: Database) {
  const sql = <Parameters extends object, Row = unknown>(text: string) =>
    db.prepare(text) as Statement<[Parameters], Row>;
  const all = <Row>(text: string) => db.prepare(text) as Statement<[], Row>;
  type Id = { id: number };
  type Vmid = { vmid: number };
  return {
    instances: all<InstanceRow>('SELECT * FROM instance'),
    owners: all<Owner & Vmid>('SELECT vmid, user, birth, how, since FROM owner ORDER BY vmid, user'),
    ownersOf: sql<Vmid, Owner>('SELECT user, birth, how, since FROM owner WHERE vmid = @vmid ORDER BY user'),
    reservations: all<
      ReservationTexts & {
        id: number;
        made_at: number;
        user: string;
        call: string;
        digest: string | null;
        upid: string | null;
      }
    >('SELECT * FROM reservation ORDER BY id'),

    putInstance:
      sql<InstanceRow>(`INSERT INTO instance (vmid, type, node, pool, birth, present, seen) VALUES (@vmid, @type, @node, @pool, @birth, @present, @seen)
      ON CONFLICT (vmid) DO UPDATE SET type = @type, node = @node, pool = @pool, birth = @birth, present = @present, seen = @seen`),
    dropInstance: sql<Vmid>('DELETE FROM instance WHERE vmid = @vmid'),
    addOwner: sql<Owner & Vmid>(
      'INSERT INTO owner (vmid, user, birth, how, since) VALUES (@vmid, @user, @birth, @how, @since) ON CONFLICT (vmid, user) DO UPDATE SET birth = @birth, how = @how, since = @since',
    ),
    markOwners: sql<Vmid & { birth: string }>('UPDATE owner SET birth = @birth WHERE vmid = @vmid AND birth IS NULL'),
    dropCreators: sql<Vmid>("DELETE FROM owner WHERE vmid = @vmid AND how = 'created'"),
    dropOwners: sql<Vmid>('DELETE FROM owner WHERE vmid = @vmid'),

    shelves: all<Shelf>('SELECT id, user, node FROM shelf'),
    files: all<Omit<StoredFile, 'fresh'> & { fresh: number }>(
      'SELECT place, volid, shelf, bytes, reservation, fresh FROM file',
    ),
    addShelf: sql<Shelf>('INSERT INTO shelf (id, user, node) VALUES (@id, @user, @node)'),
    putFile: sql<Omit<StoredFile, 'fresh'> & { since: number }>(
      'INSERT INTO file (place, volid, shelf, bytes, reservation, fresh, since) VALUES (@place, @volid, @shelf, @bytes, @reservation, 1, @since) ON CONFLICT (place, volid) DO UPDATE SET bytes = @bytes, reservation = @reservation, fresh = 0',
    ),
    moveFiles: sql<{ from: number; to: number }>('UPDATE file SET shelf = @to WHERE shelf = @from'),
    dropFile: sql<FileName>('DELETE FROM file WHERE place = @place AND volid = @volid'),

    addReservation: sql<ReservationTexts & { madeAt: number; user: string; call: string; digest: string | null }>(
      'INSERT INTO reservation (made_at, user, call, digest, aims, copies, sources) VALUES (@madeAt, @user, @call, @digest, @aims, @copies, @sources)',
    ),
    dropReservation: sql<Id>('DELETE FROM reservation WHERE id = @id'),
    setUpid: sql<Id & { upid: string }>('UPDATE reservation SET upid = @upid WHERE id = @id'),

    addDecision: sql<object>(
      'INSERT INTO decision (at, user, address, call, vmid, verdict, detail, reservation) VALUES (@at, @user, @address, @call, @vmid, @verdict, @detail, @reservation)',
    ),
    decisions: sql<{ about: string | number | null }, DecisionRow>(
      'SELECT at, user, address, call, vmid, verdict, detail, upid, outcome FROM decision WHERE @about IS NULL OR user = @about OR vmid = @about ORDER BY at, id',
    ),
    decisionUpid: sql<Id & { upid: string }>('UPDATE decision SET upid = @upid WHERE reservation = @id'),
    decisionOutcome: sql<Id & { outcome: string }>('UPDATE decision SET outcome = @outcome WHERE reservation = @id'),
    dropDecisions: sql<{ before: number }>('DELETE FROM decision WHERE at < @before'),
    addTask: sql<{ upid: string; user: string; vmid: number | null; at: number }>(
      'INSERT INTO task (upid, user, vmid, at) VALUES (@upid, @user, @vmid, @at) ON CONFLICT DO NOTHING',
    ),
    task: sql<{ upid: string }, { user: string }>('SELECT user FROM task WHERE upid = @upid'),
    tasksOf: sql<{ user: string }, { upid: string }>(
      'SELECT upid FROM task WHERE user = @user ORDER BY at DESC LIMIT 1000',
    ),
    dropTasksOf: sql<{ user: string }>('DELETE FROM task WHERE user = @user'),
    dropTasks: sql<{ before: number }>('DELETE FROM task WHERE at < @before'),
  };
}
