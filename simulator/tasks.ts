/** PVE's tasks: what runs, what ran, and how fast. */

import { authUser, type Caller } from './call.ts';

/** How long tasks take: at once (ended before the answer goes out), after so many ms, or when the test calls `finish`. */
export type TaskPace = 'at once' | number | 'by hand';

export interface TaskRequest {
  readonly node: string;
  readonly type: string;
  readonly id: string;
  readonly caller: Caller;
  /** Its own pace, whatever that of its type. */
  readonly pace?: TaskPace;
  /**
   * What the task does. It runs when the task ends (see TaskPace); it may throw, then its message is the exit status.
   * `log` adds a line to the task's log.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: most tasks return nothing at all
  run(log: (line: string) => void): void | 'WARNINGS: 1' | undefined;
  /** Undoes what was done before the answer, when the task fails or is stopped before `run`. */
  abandon?(): void;
}

/** How a task is made to fail: before it does anything, or after it has done everything. */
export interface TaskFailure {
  readonly message: string;
  readonly halfWay?: boolean;
}

/** Times are seconds since 1970. */
export interface Task {
  readonly upid: string;
  readonly node: string;
  readonly pid: number;
  readonly pstart: number;
  readonly starttime: number;
  readonly type: string;
  readonly id: string;
  /** The user or token that started it. */
  readonly authid: string;
  readonly log: readonly string[];
  readonly endtime?: number;
  /** `OK`, `WARNINGS: 1` or the error; absent while it runs. */
  readonly exitstatus?: string;
}

interface Entry extends Task {
  readonly log: string[];
  endtime?: number;
  exitstatus?: string;
  readonly request: TaskRequest;
  readonly failure: TaskFailure | undefined;
  readonly timer?: NodeJS.Timeout;
}

const mostKept = 20_000;

export class Tasks {
  /** For every type that has no pace of its own. */
  pace: TaskPace;
  readonly paces = new Map<string, TaskPace>();
  readonly #now: () => number;
  readonly #tasks = new Map<string, Entry>();
  readonly #running = new Map<string, Entry>();
  #lastPid = 0x3e8;
  #failure: TaskFailure | undefined;
  #isAtOnce = false;

  constructor(now: () => number = Date.now, pace: TaskPace = 'at once') {
    this.#now = now;
    this.pace = pace;
  }

  /** Starts a task and answers its UPID; with the pace `at once` it has already ended then. */
  start(request: TaskRequest): string {
    const pid = ++this.#lastPid;
    const pstart = pid * 16;
    const starttime = this.#seconds();
    const { node, type, id } = request;
    const authid = authUser(request.caller);
    const upid = `UPID:${node}:${hex(pid)}:${hex(pstart)}:${hex(starttime)}:${type}:${id}:${authid}:`;
    const pace = this.#isAtOnce ? 'at once' : (request.pace ?? this.paces.get(type) ?? this.pace);
    const task: Entry = {
      ...{ upid, node, pid, pstart, starttime, type, id, authid, log: [], request, failure: this.#failure },
      ...(typeof pace === 'number' ? { timer: setTimeout(() => this.#end(upid), pace).unref() } : {}),
    };
    this.#tasks.set(upid, task);
    this.#running.set(upid, task);
    this.#forgetOldest();
    if (pace === 'at once') this.#end(upid);
    return upid;
  }

  /** Ends a running task now, whatever its pace. */
  finish(upid: string): void {
    this.#end(upid);
  }

  /** Ends all that run now, oldest first. */
  finishAll(): void {
    for (const upid of [...this.#running.keys()]) this.#end(upid);
  }

  /** Ends a running task without letting it do its work. */
  stop(upid: string): void {
    this.#end(upid, { message: 'received interrupt' });
  }

  /** Every task that `act` starts fails this way. */
  failing<Result>(failure: TaskFailure | undefined, act: () => Result): Result {
    this.#failure = failure;
    try {
      return act();
    } finally {
      this.#failure = undefined;
    }
  }

  /** Every task that `act` starts ends before it returns. */
  atOnce<Result>(act: () => Result): Result {
    const before = this.#isAtOnce;
    this.#isAtOnce = true;
    try {
      return act();
    } finally {
      this.#isAtOnce = before;
    }
  }

  get(upid: string): Task | undefined {
    return this.#tasks.get(upid);
  }

  /** All that are still known, latest first. */
  list(): readonly Task[] {
    return [...this.#tasks.values()].reverse();
  }

  /** Those that run, oldest first; with a vmid, those whose id is that guest. */
  running(vmid?: number): readonly Task[] {
    return [...this.#running.values()].filter(({ id }) => vmid === undefined || id === String(vmid));
  }

  /** No timer is left; tasks that run stay so. */
  close(): void {
    for (const { timer } of this.#running.values()) clearTimeout(timer);
  }

  #end(upid: string, stopped?: TaskFailure): void {
    const task = this.#running.get(upid);
    if (!task) return;
    this.#running.delete(upid);
    clearTimeout(task.timer);
    const exitstatus = outcome(task, stopped ?? task.failure);
    task.log.push(/^(OK|WARNINGS: \d+)$/.test(exitstatus) ? `TASK ${exitstatus}` : `TASK ERROR: ${exitstatus}`);
    task.endtime = this.#seconds();
    task.exitstatus = exitstatus;
  }

  #forgetOldest(): void {
    if (this.#tasks.size <= mostKept) return;
    for (const upid of this.#tasks.keys()) {
      if (this.#running.has(upid)) continue;
      this.#tasks.delete(upid);
      return;
    }
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

function outcome({ request, log }: Entry, failure: TaskFailure | undefined): string {
  try {
    const result = failure && !failure.halfWay ? request.abandon?.() : request.run((line) => void log.push(line));
    return failure?.message ?? result ?? 'OK';
  } catch (error) {
    return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '';
  }
}

function hex(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}
