/** The time that something may take. */
export class Deadline {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #sooner: AbortSignal | undefined;
  readonly #abort = () => this.#controller.abort(this.#sooner?.reason);

  /** Ends in so many seconds, or when `sooner` aborts; `end` must be called when what it is for has ended before. */
  constructor(seconds: number, sooner?: AbortSignal) {
    this.#sooner = sooner;
    this.#timer = setTimeout(
      () => this.#controller.abort(new DOMException('The time is over', 'TimeoutError')),
      seconds * 1000,
    ).unref();
    if (sooner?.aborted === true) this.#abort();
    else sooner?.addEventListener('abort', this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Lets go of the timer: a call that is answered at once would otherwise leave an error and a timer behind. */
  end(): void {
    clearTimeout(this.#timer);
    this.#sooner?.removeEventListener('abort', this.#abort);
  }
}
