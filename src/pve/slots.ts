/** Lets at most `width` pieces of work run at once; at most `queue` more wait, and are served in order. */
export class Slots {
  readonly #width: number;
  readonly #queue: number;
  readonly #waiting: (() => void)[] = [];
  #busy = 0;

  constructor(width: number, queue: number) {
    this.#width = width;
    this.#queue = queue;
  }

  /** Whether the next piece of work would find neither a slot nor a place in the queue. */
  get full(): boolean {
    return this.#busy >= this.#width && this.#waiting.length >= this.#queue;
  }

  /** Runs `work` when its turn comes; gives up, without having begun, when `signal` aborts first. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (this.#busy < this.#width) this.#busy += 1;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#busy -= 1;
      else next();
    }
  }

  #turn(signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => {
      this.#waiting.splice(this.#waiting.indexOf(begin), 1);
      reject(signal?.reason);
    };
    const begin = (): void => {
      signal?.removeEventListener('abort', leave);
      resolve();
    };
    this.#waiting.push(begin);
    signal?.addEventListener('abort', leave, { once: true });
    return promise;
  }
}
