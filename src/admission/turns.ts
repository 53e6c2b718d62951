/** One change at a time for each instance. */

import { ConflictError } from '../errors.ts';

/** Gives turns on vmids: first come, first served; nobody waits longer than the bound. */
export class Turns {
  readonly #taken = new Map<number, Promise<void>>();
  readonly #boundMs: number;

  constructor(boundMs: number) {
    this.#boundMs = boundMs;
  }

  /** Runs `work` when no other work on any of these vmids runs; throws ConflictError when that takes longer than the bound. */
  async take<T>(vmids: readonly number[], work: () => Promise<T>): Promise<T> {
    const { promise: done, resolve: release } = Promise.withResolvers<void>();
    const before = vmids.map((vmid) => this.#taken.get(vmid)).filter((turn) => turn !== undefined);
    const mine = Promise.all([...before, done]).then(() => {});
    for (const vmid of vmids) this.#taken.set(vmid, mine);
    try {
      if (before.length > 0) await this.#within(Promise.all(before), vmids);
      return await work();
    } finally {
      release();
      void mine.then(() => {
        for (const vmid of vmids) if (this.#taken.get(vmid) === mine) this.#taken.delete(vmid);
      });
    }
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
