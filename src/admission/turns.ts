/** One change at a time for each instance. */

import { ConflictError } from '../errors.ts';

/** Who has a turn on a vmid, or waits for one. */
interface Taken {
  /** Resolves when all of them have ended. */
  readonly all: Promise<void>;
  /** Resolves when those have ended that change it. */
  readonly changing: Promise<void>;
}

/** Gives turns on vmids: first come, first served, those that only read side by side; nobody waits longer than the bound. */
export class Turns {
  readonly #taken = new Map<number, Taken>();
  readonly #boundMs: number;

  constructor(boundMs: number) {
    this.#boundMs = boundMs;
  }

  /**
   * Runs `work` when no other work on any of these vmids runs, and none that changes what it reads; throws ConflictError
   * when that takes longer than the bound.
   */
  async take<T>(vmids: readonly number[], work: () => Promise<T>, reading: readonly number[] = []): Promise<T> {
    const { promise: done, resolve: release } = Promise.withResolvers<void>();
    const before = [
      ...vmids.flatMap((vmid) => this.#taken.get(vmid)?.all ?? []),
      ...reading.flatMap((vmid) => this.#taken.get(vmid)?.changing ?? []),
    ];
    const mine = Promise.all([...before, done]).then(() => {});
    for (const vmid of reading) this.#follow(vmid, mine, this.#taken.get(vmid)?.changing ?? Promise.resolve());
    for (const vmid of vmids) this.#follow(vmid, mine, mine);
    try {
      if (before.length > 0) await this.#within(Promise.all(before), [...vmids, ...reading]);
      return await work();
    } finally {
      release();
    }
  }

  /** Takes a vmid until `mine` has ended, and whoever has it now. */
  #follow(vmid: number, mine: Promise<void>, changing: Promise<void>): void {
    const all = Promise.all([this.#taken.get(vmid)?.all, mine]).then(() => {});
    const taken = { all, changing };
    this.#taken.set(vmid, taken);
    void all.then(() => {
      if (this.#taken.get(vmid) === taken) this.#taken.delete(vmid);
    });
  }

  async #within(turn: Promise<unknown>, vmids: readonly number[]): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const late = () =>
      reject(
        new ConflictError(`another change of instance ${vmids.join(', ')} is under way; try again when it has ended`),
      );
    const timer = setTimeout(late, this.#boundMs);
    try {
      await Promise.race([turn, promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}
