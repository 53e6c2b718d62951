/** Refusals on their way into the record of decisions. */

import type { Decision } from './ledger-store.ts';

/** A decision with its time, in ms since 1970. */
export interface DatedDecision extends Decision {
  readonly at: number;
}

/** Refusals of one user that are written down within one hour. */
const mostOfUser = 200;
const hour = 3600_000;

/** Refusals that wait to be written at most; beyond that the oldest are dropped. */
const mostWaiting = 10_000;

/** Characters of a text that came from a client. */
const longest = 2000;

/**
 * Holds refusals until they are written. A user who is refused over and over neither fills the disk nor crowds out the
 * refusals of others: the last line of an hour says that there were more.
 */
export class Refusals {
  readonly #waiting: DatedDecision[] = [];
  readonly #hours = new Map<string, { readonly since: number; count: number }>();

  add(refusal: DatedDecision): void {
    const { user, at } = refusal;
    const known = this.#hours.get(user);
    const current = known !== undefined && Math.abs(at - known.since) < hour ? known : { since: at, count: 0 };
    this.#hours.set(user, current);
    current.count += 1;
    if (current.count < mostOfUser) this.#push(shortened(refusal));
    if (current.count === mostOfUser) {
      const detail = `refused ${mostOfUser} times since ${iso(current.since)}; more until ${iso(current.since + hour)} is not written down`;
      this.#push({ ...shortened(refusal), verdict: 'not_recorded', detail });
    }
  }

  /** What is to be written, the oldest first. */
  get waiting(): readonly DatedDecision[] {
    return this.#waiting;
  }

  /** What waited has been written. */
  written(): void {
    this.#waiting.length = 0;
  }

  #push(refusal: DatedDecision): void {
    this.#waiting.push(refusal);
    if (this.#waiting.length > mostWaiting) this.#waiting.shift();
  }
}

function shortened(refusal: DatedDecision): DatedDecision {
  const { call, detail } = refusal;
  return {
    ...refusal,
    call: call.slice(0, longest),
    detail: typeof detail === 'string' ? detail.slice(0, longest) : detail,
  };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
