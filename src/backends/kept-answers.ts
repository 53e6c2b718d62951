/** What backends have said, believed for a while. */

import type { LoadedBackend } from './index.ts';

/** Ms for which the word of a backend that cannot tell of changes is believed. */
export const believedFor = 5000;

/** Answers kept at most; beyond it all are asked for again. */
const keptAtMost = 20_000;

interface Kept {
  readonly value: Promise<unknown>;
  readonly version: number;
  readonly until: number;
}

/**
 * One question at a time for each key; the answer holds until a backend tells of a change or, where one of those asked
 * cannot tell, its time is up. Failures are not kept.
 */
export class KeptAnswers {
  readonly #version: () => number;
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();

  /** `version` grows with every change that a backend tells of; `now` gives monotonic milliseconds. */
  constructor(version: () => number, now: () => number) {
    this.#version = version;
    this.#now = now;
  }

  get<T>(key: string, asked: readonly LoadedBackend[], load: () => Promise<T>, life = believedFor): Promise<T> {
    const version = this.#version();
    const now = this.#now();
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.version === version && now < kept.until) return kept.value as Promise<T>;
    const telling = asked.every(({ backend }) => backend.version !== undefined);
    if (this.#kept.size >= keptAtMost) this.#kept.clear();
    const value = load();
    const entry: Kept = { value, version, until: telling ? Infinity : now + life };
    this.#kept.set(key, entry);
    value.catch(() => {
      if (this.#kept.get(key) === entry) this.#kept.delete(key);
    });
    return value;
  }
}
