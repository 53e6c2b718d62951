/**
 * Closes reservations: once PVE has answered or its task has ended, the instance is looked at again and what it shows
 * replaces the charge. A lost answer stays charged until PVE cannot act on it any more. Nothing here depends on the
 * caller still being there.
 */

import { setImmediate, setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Answer, call, succeeded, type Upstream } from '../pve/call.ts';
import { type Row, rowsIn } from '../pve/rows.ts';
import { parseUpid, type TaskStatus } from '../pve/task.ts';
import type { Ledger, Reservation, ReservationId } from '../quota/ledger.ts';
import { isShelf } from '../quota/shelves.ts';
import type { Inventory, Look } from './inventory.ts';

/** How a forwarded call ended, as far as we know. */
export type Ending =
  /** PVE did nothing: refused before looking, or never reached. */
  | { readonly kind: 'nothing'; readonly outcome: string }
  /** PVE answered, for better or worse: what it did shows in the instance. */
  | { readonly kind: 'answered'; readonly outcome: string; readonly refused: boolean }
  | { readonly kind: 'task'; readonly upid: string }
  /** PVE may have acted, and may still. */
  | { readonly kind: 'lost'; readonly outcome: string };

export interface SettlementOptions {
  readonly upstream: Upstream;
  readonly ledger: Ledger;
  readonly inventory: Inventory;
  readonly log: Logger;
  /** Seconds for which PVE may go on with a call whose answer was lost. */
  readonly hold: number;
}

/** How often a task is asked about: at first often, then less. */
const pollFrom = 50;
const pollTo = 1000;

/** How long who depends on a reservation waits for a running task to end, and for PVE to show what it has left, in ms. */
const forTasks = 2000;
const forLooks = 6000;

/** The pauses before an instance is looked at again, in seconds: 2 and 10 minutes after a lost answer was closed. */
const pauses = [120, 480];

export class Settlement {
  readonly #options: SettlementOptions;
  readonly #running = new Map<ReservationId, Promise<unknown>>();
  /** Ends the pauses between two questions about a task. */
  readonly #hurries = new Map<ReservationId, () => void>();
  readonly #stop = new AbortController();

  constructor(options: SettlementOptions) {
    this.#options = options;
  }

  /** Takes up what was left open when the process last ended: tasks are followed, all else counts as a lost answer. */
  resume(): void {
    for (const reservation of this.#options.ledger.reservations()) {
      const { upid } = reservation;
      void this.follow(
        reservation,
        upid === undefined ? { kind: 'lost', outcome: 'found open at start' } : { kind: 'task', upid },
      );
    }
  }

  /** Sees a reservation to its end; resolves when it is settled, with the task's last status when there was one, or when stopped. */
  follow(reservation: Reservation, ending: Ending): Promise<TaskStatus | undefined> {
    const work = this.#follow(reservation, ending).catch((error) => {
      if (!this.#stop.signal.aborted)
        this.#options.log.error(
          { err: error, reservation: reservation.id },
          'a reservation could not be settled; it stays open',
        );
      return undefined;
    });
    this.#running.set(reservation.id, work);
    void work.finally(() => {
      this.#running.delete(reservation.id);
      this.#hurries.delete(reservation.id);
    });
    return work;
  }

  /** Waits a moment for these reservations to be settled: PVE is asked at once about their tasks, and longer for what the ended ones have left. */
  async ended(ids: readonly ReservationId[]): Promise<void> {
    for (const id of ids) this.#hurries.get(id)?.();
    const all = Promise.all(ids.map((id) => this.#running.get(id)));
    await this.#soon(all, forTasks);
    if (!ids.some((id) => this.#hurries.has(id))) await this.#soon(all, forLooks);
  }

  async #soon(work: Promise<unknown>, withinMs: number): Promise<void> {
    const enough = new AbortController();
    const late = wait(withinMs, AbortSignal.any([enough.signal, this.#stop.signal])).catch(() => {});
    await Promise.race([work, late]);
    enough.abort();
  }

  /** How many reservations are being followed. */
  get open(): number {
    return this.#running.size;
  }

  /** Waits for what is under way, at most so long; what is left stays in the ledger for the next start. */
  async close(withinMs: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#running.values()), wait(withinMs, this.#stop.signal)]);
    this.#stop.abort();
    await Promise.allSettled(this.#running.values());
  }

  async #follow(reservation: Reservation, ending: Ending): Promise<TaskStatus | undefined> {
    switch (ending.kind) {
      case 'nothing':
        this.#options.ledger.release(reservation.id, ending.outcome);
        return undefined;
      case 'answered':
        // The caller's answer goes out first.
        await setImmediate();
        await this.#settle(reservation, ending.outcome, ending.refused);
        return undefined;
      case 'task': {
        const task = await this.#taskEnd(reservation, ending.upid);
        this.#hurries.delete(reservation.id);
        if (await this.#goesOn(reservation, ending.upid)) await this.#waitUntilOver(reservation);
        await this.#settle(reservation, task?.exitstatus ?? 'the task is not known any more');
        return task;
      }
      case 'lost':
        await this.#waitUntilOver(reservation);
        await this.#settle(reservation, ending.outcome);
        void this.#lookAgain(reservation);
        return undefined;
    }
  }

  /** Looks at every instance of a reservation, from after its end, and closes it with that. Goes on until PVE can be asked. */
  async #settle(reservation: Reservation, outcome: string, refused = false): Promise<void> {
    const { ledger } = this.#options;
    await this.#insist(async () => {
      const looks = await this.#look(reservation);
      const stamp = Math.min(...looks.map((look) => look.stamp));
      // Where PVE refused to create, a guest that is there is somebody else's.
      if (refused && reservation.aims.some(({ creates }) => creates))
        for (const { instance } of looks) if (instance !== null) ledger.disown(instance.vmid);
      return ledger.settle(
        reservation.id,
        looks.map(({ sighting }) => sighting),
        stamp,
        outcome,
      );
    });
  }

  #look({ aims }: Reservation): Promise<Look[]> {
    const { inventory, ledger } = this.#options;
    return Promise.all(
      aims.map(({ vmid, node }) => inventory.look({ vmid, node, type: ledger.account(vmid)?.type ?? 'qemu' }, 'all')),
    );
  }

  /**
   * Whether what a task has begun goes on without it: guests that are highly available move later, when PVE comes to it,
   * and of many guests each has a task of its own, which does not end with the one that began them all.
   */
  async #goesOn(reservation: Reservation, upid: string): Promise<boolean> {
    if (!/^(?:hamigrate|migrateall|suspendall|bulk\w+)$/.test(parseUpid(upid)?.type ?? '')) return false;
    if (await this.#hasRunningTask(reservation, 0)) return true;
    const looks = await this.#insist(() => this.#look(reservation));
    return looks.some(({ instance }, n) => instance !== null && instance.host.node !== reservation.aims[n]?.node);
  }

  /** The last status of a task once it has stopped; undefined when PVE does not know it (any more), or its node can do no more. */
  async #taskEnd(reservation: Reservation, upid: string): Promise<TaskStatus | undefined> {
    const node = parseUpid(upid)?.node ?? '';
    let pause = pollFrom;
    for (;;) {
      const { promise: hurried, resolve: hurry } = Promise.withResolvers<void>();
      this.#hurries.set(reservation.id, () => {
        pause = pollFrom;
        hurry();
      });
      const answer = await this.#ask('/nodes/{}/tasks/{}/status', [node, upid]);
      const status = answer.data as TaskStatus | null;
      if (succeeded(answer) && status?.status === 'stopped') return status;
      // So PVE answers for a UPID that it has no log of; any other refusal says nothing about the task.
      const isUnknown = answer.status === 400 && answer.errors?.upid !== undefined;
      if (!succeeded(answer) && (isUnknown || this.#isOut(node, reservation))) return undefined;
      await Promise.race([wait(pause, this.#stop.signal), hurried]);
      pause = Math.min(pollTo, pause * 1.5);
    }
  }

  /**
   * Waits until PVE cannot act on a call any more whose answer was lost: its configuration has changed from what the call
   * was computed on, holds all that it could bring and stays as it is, or PVE has come to all that it was sent before, the
   * longest time that it takes for a call has passed since, and no task of the guest runs. PVE writes the configuration
   * more than once in one call, so a change of it is not the end.
   */
  async #waitUntilOver(reservation: Reservation): Promise<void> {
    const { hold } = this.#options;
    let cameToIt: { readonly at: number; readonly until: number } | undefined;
    let last: string | undefined;
    for (let pause = 250; ; pause = Math.min(pause * 1.5, 2000)) {
      await wait(Math.min(pause, hold * 1000), this.#stop.signal);
      if (cameToIt === undefined && (await this.#hasComeToIt(reservation)))
        cameToIt = { at: performance.now(), until: Date.now() + hold * 1000 };
      if (cameToIt !== undefined && performance.now() - cameToIt.at >= hold * 1000) {
        if (!(await this.#hasRunningTask(reservation, cameToIt.until))) return;
      } else if (reservation.digest !== undefined) {
        const digest = await this.#digest(reservation);
        if (
          digest !== undefined &&
          digest !== reservation.digest &&
          digest === last &&
          !this.#mayBringMore(reservation) &&
          !(await this.#hasRunningTask(reservation))
        )
          return;
        last = digest;
      }
    }
  }

  async #digest(reservation: Reservation): Promise<string | undefined> {
    const looks = await this.#insist(() => this.#look(reservation));
    for (const { sighting, stamp } of looks) this.#options.ledger.see(sighting, stamp);
    return looks[0]?.instance?.digest;
  }

  #mayBringMore({ id, aims }: Reservation): boolean {
    return aims.some(({ vmid }) => this.#options.ledger.growing(vmid, () => true).includes(id));
  }

  /**
   * Whether a node can do no more for a call: it has left the cluster, or is offline and its guests are elsewhere, to
   * where they are only brought when it has been switched off.
   */
  #isOut(node: string, { aims }: Reservation): boolean {
    const { ready, nodes, guests } = this.#options.inventory;
    const status = nodes.find((one) => one.node === node)?.status;
    if (status === 'offline') return aims.every(({ vmid }) => (guests.get(vmid)?.node ?? node) !== node);
    return ready && status === undefined;
  }

  /** The nodes of a call's instances and the one that it was sent to, but for those that can do no more for it. */
  #nodesOf(reservation: Reservation): ReadonlySet<string> {
    const { aims, call: asked } = reservation;
    const [, sentTo] = /\/nodes\/([^/]+)\//.exec(`${asked}/`) ?? [];
    // PVE takes a file in on whichever node it was sent to, and copies it from there; so it does with calls that name none.
    const online = this.#options.inventory.nodes.flatMap(({ node, status }) => (status === 'online' ? [node] : []));
    const nodes = [
      ...aims.flatMap(({ vmid, node }) => (isShelf(vmid) || sentTo === undefined ? online : [node])),
      ...(sentTo === undefined ? [] : [sentTo]),
    ];
    return new Set(nodes.filter((node) => !this.#isOut(node, reservation)));
  }

  /**
   * Whether the nodes' daemons, busy as they may be, have come to a call. They take calls in turn, and carry them out
   * although nobody awaits them any more; one that only they answer shows how far they are.
   */
  async #hasComeToIt(reservation: Reservation): Promise<boolean> {
    for (const node of this.#nodesOf(reservation))
      if (endingOf(await this.#ask('/nodes/{}/replication', [node])).kind === 'lost') return false;
    return true;
  }

  /** Whether a task runs that may be the call's; PVE began none for it after `until`, but for those that name its guests. */
  async #hasRunningTask(reservation: Reservation, until = Number.POSITIVE_INFINITY): Promise<boolean> {
    const { aims, madeAt } = reservation;
    const vmids = new Set(aims.map(({ vmid }) => vmid));
    for (const node of this.#nodesOf(reservation)) {
      const answer = await this.#ask('/nodes/{}/tasks', [node], { source: 'active' });
      const tasks = succeeded(answer) ? rowsIn(answer.data) : null;
      if (tasks === null || tasks.some((task) => mayConcern(task, vmids, madeAt, until))) return true;
    }
    return false;
  }

  async #lookAgain({ aims }: Reservation): Promise<void> {
    for (const seconds of pauses) {
      await wait(seconds * 1000, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      for (const { vmid } of aims) this.#options.inventory.stale.add(vmid);
    }
  }

  #ask(
    path: string,
    values: readonly (string | number)[],
    params: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    return this.#insist(() => this.#options.upstream.send(call('GET', path, values, params), { kind: 'service' }));
  }

  /** Does it until it succeeds (and gives no false); PVE being away only takes time. */
  async #insist<T>(work: () => Promise<T>): Promise<T> {
    for (let pause = 100; ; pause = Math.min(pause * 2, 5000)) {
      try {
        const outcome = await work();
        if (outcome !== false) return outcome;
      } catch (error) {
        if (this.#stop.signal.aborted) throw error;
        this.#options.log.warn({ err: error }, 'PVE could not be asked about a change under way; trying again');
      }
      await wait(pause, this.#stop.signal);
    }
  }
}

/** Tasks that PVE does not file under the guests that they change: a copy runs under its source, others under none. */
const filedElsewhere = /^(?:qmclone|vzclone|vzdump|imgcopy|download|ociregistrypull|bulk\w+|suspendall|migrateall)$/;

/** How far PVE's clock may be from ours, in ms. */
const clockSkew = 300_000;

/** Tasks that may run as long as somebody looks on, and change nothing. */
const console = /^(?:vnc|spice)proxy$/;

/** Whether a running task may be that of a call about these guests; where its id does not tell, PVE began it between these times. */
function mayConcern({ id, type, starttime }: Row, vmids: ReadonlySet<number>, madeAt: number, until: number): boolean {
  const named = String(id ?? '').match(/\d+/g) ?? [];
  if (named.some((text) => vmids.has(Number(text)))) return !console.test(String(type));
  const began = Number(starttime) * 1000;
  return filedElsewhere.test(String(type)) && !(began < madeAt - clockSkew || began > until + clockSkew);
}

/** How PVE's answer to a forwarded change is to be understood. */
export function endingOf(answer: Answer): Ending {
  const outcome = `${answer.status} ${answer.reason}`.trim();
  const upid = succeeded(answer) ? parseUpid(answer.data)?.upid : undefined;
  if (upid !== undefined) return { kind: 'task', upid };
  if (answer.status === 401 || answer.status === 501) return { kind: 'nothing', outcome };
  // PVE's own hops failed on the way, or a proxy before it: it may still be at work.
  if (answer.status >= 595 || [502, 503, 504].includes(answer.status)) return { kind: 'lost', outcome };
  return { kind: 'answered', outcome, refused: !succeeded(answer) };
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return setTimeout(ms, undefined, { signal });
}
