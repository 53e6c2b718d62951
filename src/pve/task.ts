/** PVE's tasks: what a call that takes time leaves behind. */

declare const upid: unique symbol;

/** The id of a task, of the right form: `UPID:<node>:<pid>:<pstart>:<starttime>:<type>:<id>:<user>:`. */
export type Upid = string & { readonly [upid]: true };

/** What a UPID says by itself. */
export interface Task {
  readonly upid: Upid;
  /** The node that runs the task, which is also the one to ask about it. */
  readonly node: string;
  readonly pid: number;
  readonly pstart: number;
  /** Seconds since 1970. */
  readonly starttime: number;
  readonly type: string;
  /** Often the vmid, but the source's for a clone, and empty or a volume for others. */
  readonly id: string;
  readonly user: string;
  readonly tokenid?: string;
}

/** What `GET /nodes/{node}/tasks/{upid}/status` answers. */
export interface TaskStatus extends Task {
  readonly status: 'running' | 'stopped';
  /** Only once it has stopped. */
  readonly exitstatus?: string;
}

const form =
  /^UPID:(?<node>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?):(?<pid>[0-9A-Fa-f]{8}):(?<pstart>[0-9A-Fa-f]{8,9}):(?<starttime>[0-9A-Fa-f]{8}):(?<type>[^:\s]+):(?<id>[^:\s]*):(?<user>[^:\s!]+)(?:!(?<tokenid>[^:\s!]+))?:$/;

/** The task of that id; null when the value is anything but a UPID. */
export function parseUpid(value: unknown): Task | null {
  const parts = typeof value === 'string' && !value.includes('\n') ? form.exec(value)?.groups : undefined;
  if (parts === undefined) return null;
  const { node = '', pid = '', pstart = '', starttime = '', type = '', id = '', user = '', tokenid } = parts;
  const number = (hex: string): number => Number.parseInt(hex, 16);
  const task = { node, pid: number(pid), pstart: number(pstart), starttime: number(starttime), type, id, user };
  return { upid: value as Upid, ...task, ...(tokenid === undefined ? {} : { tokenid }) };
}

/** Whether a stopped task did its work; PVE says `WARNINGS: n` when it did so with remarks. */
export function taskSucceeded(exitstatus: string): boolean {
  return exitstatus === 'OK' || /^WARNINGS: \d+$/.test(exitstatus);
}
