/**
 * Lets at most `width` pieces of work run at once, and `share` of one party; at most `queue` more wait. The party with the
 * least running is served first, and each in order, so that none can keep the others out. What is of no party may have all.
 */
export class Slots {
  readonly #width: number;
  readonly #queue: number;
  readonly #share: number;
  readonly #running = new Map<string | undefined, number>();
  /** By party; the one that was served last stands last. */
  readonly #waiting = new Map<string | undefined, (() => void)[]>();
  #busy = 0;

  constructor(width: number, queue: number, share = width) {
    this.#width = width;
    this.#queue = queue;
    this.#share = share;
  }

  /** Whether the next piece of work would find neither a slot nor a place in the queue. */
  get full(): boolean {
    return this.isFullFor(undefined);
  }

  /** The same for a party, which has no larger share of the queue than of the slots. */
  isFullFor(party: string | undefined): boolean {
    if (this.#isOpenTo(party)) return false;
    const own = this.#waiting.get(party)?.length ?? 0;
    // A few parties together must not fill the queue for all others.
    if (party !== undefined && own === 0) return false;
    const waiting = [...this.#waiting.values()].reduce((sum, { length }) => sum + length, 0);
    if (waiting >= this.#queue) return true;
    return party !== undefined && own >= Math.ceil((this.#queue * this.#share) / this.#width);
  }

  /** Runs `work` when its turn comes; gives up, without having begun, when `signal` aborts first. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal, party?: string): Promise<T> {
    signal?.throwIfAborted();
    if (this.#isOpenTo(party)) this.#count(party, 1);
    else await this.#turn(party, signal);
    try {
      return await work();
    } finally {
      this.#count(party, -1);
      this.#next();
    }
  }

  /** Gives the slot that has become free to who has the least; who has their share goes on waiting. */
  #next(): void {
    let next: string | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const one of this.#waiting.keys()) {
      const running = this.#runningOf(one);
      if (running < least && this.#isOpenTo(one)) [next, least] = [one, running];
    }
    const queue = least === Number.POSITIVE_INFINITY ? undefined : this.#waiting.get(next);
    const begin = queue?.shift();
    if (queue === undefined || begin === undefined) return;
    this.#waiting.delete(next);
    if (queue.length > 0) this.#waiting.set(next, queue);
    this.#count(next, 1);
    begin();
  }

  #isOpenTo(party: string | undefined): boolean {
    return this.#busy < this.#width && (party === undefined || this.#runningOf(party) < this.#share);
  }

  #runningOf(party: string | undefined): number {
    return this.#running.get(party) ?? 0;
  }

  #count(party: string | undefined, step: 1 | -1): void {
    this.#busy += step;
    const own = this.#runningOf(party) + step;
    if (own === 0) this.#running.delete(party);
    else this.#running.set(party, own);
  }

  #turn(party: string | undefined, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const queue = this.#waiting.get(party) ?? [];
    const leave = (): void => {
      queue.splice(queue.indexOf(begin), 1);
      if (queue.length === 0) this.#waiting.delete(party);
      reject(signal?.reason);
    };
    const begin = (): void => {
      signal?.removeEventListener('abort', leave);
      resolve();
    };
    queue.push(begin);
    this.#waiting.set(party, queue);
    signal?.addEventListener('abort', leave, { once: true });
    return promise;
  }
}
