/** The places for uploads. */

import { NotReadyError } from '../errors.ts';

/** Lets so many uploads run at once. No user takes more than three quarters of the places, so that none can keep the others out. */
export class UploadPlaces {
  readonly #most: number;
  readonly #mostOfOne: number;
  readonly #byUser = new Map<string, number>();
  #running = 0;

  constructor(most: number) {
    this.#most = most;
    this.#mostOfOne = most - Math.floor(most / 4);
  }

  /** Runs a user's upload; throws NotReadyError, without having begun, when there is no place for it. */
  async run<T>(user: string, upload: () => Promise<T>): Promise<T> {
    const own = this.#byUser.get(user) ?? 0;
    if (this.#running >= this.#most || own >= this.#mostOfOne)
      throw new NotReadyError('There are too many uploads under way; try again in a moment', 5);
    this.#count(user, 1);
    try {
      return await upload();
    } finally {
      this.#count(user, -1);
    }
  }

  #count(user: string, step: 1 | -1): void {
    this.#running += step;
    const own = (this.#byUser.get(user) ?? 0) + step;
    if (own === 0) this.#byUser.delete(user);
    else this.#byUser.set(user, own);
  }
}
