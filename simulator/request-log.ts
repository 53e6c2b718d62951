/** What the simulator was asked, for tests to look at. */

export interface LoggedRequest {
  /** In ms of the cluster's clock. */
  readonly at: number;
  readonly method: string;
  /** Decoded, below the format: `/nodes/n1/qemu`. */
  readonly path: string;
  /** As they were sent. */
  params: Readonly<Record<string, unknown>>;
  /** The user or token; '' as long as it is not known. */
  caller: string;
  viaToken: boolean;
  /** 0 as long as there is no answer. */
  status: number;
}

interface Waiter {
  readonly isWanted: (request: LoggedRequest) => boolean;
  readonly found: (request: LoggedRequest) => void;
}

const mostKept = 100_000;
const slack = 10_000;

export class RequestLog {
  /** Oldest first. */
  readonly entries: LoggedRequest[] = [];
  #waiting: readonly Waiter[] = [];

  /** Writes down a request that has just come in. */
  add(at: number, method: string, path: string): LoggedRequest {
    const request: LoggedRequest = { at, method, path, params: {}, caller: '', viaToken: false, status: 0 };
    this.entries.push(request);
    if (this.entries.length > mostKept + slack) this.entries.splice(0, this.entries.length - mostKept);
    this.update(request, {});
    return request;
  }

  /** Adds what has become known about it. */
  update(
    request: LoggedRequest,
    known: Partial<Pick<LoggedRequest, 'params' | 'caller' | 'viaToken' | 'status'>>,
  ): void {
    Object.assign(request, known);
    for (const waiter of this.#waiting) {
      if (!waiter.isWanted(request)) continue;
      this.#waiting = this.#waiting.filter((other) => other !== waiter);
      waiter.found(request);
    }
  }

  /** The first request that is wanted, already here or still to come; it may not be answered yet. */
  waitFor(isWanted: (request: LoggedRequest) => boolean): Promise<LoggedRequest> {
    const here = this.entries.find(isWanted);
    if (here) return Promise.resolve(here);
    return new Promise((found) => {
      this.#waiting = [...this.#waiting, { isWanted, found }];
    });
  }
}
