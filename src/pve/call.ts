/** A call of the PVE API, and what PVE answered; surfaces make calls, the gate judges them, the upstream sends them. */

import type { Instance } from './instance.ts';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** Parameters by name, as PVE would read them; an array where PVE takes one. */
export type Params = Readonly<Record<string, string | readonly string[]>>;

/** A file that goes with a call: its bytes as they come, read once. */
export interface Cargo {
  /** What it takes at most; it may turn out two bytes shorter, which is how far a form's length leaves the file's open. */
  readonly bytes: number;
  /** Throws an ApiError when what comes is not what was announced. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** One PVE call. `segments` is the path behind `/api2/json`, split and percent-decoded: `['nodes', 'n1', 'qemu', '100', 'config']`. */
export interface Call {
  readonly method: Method;
  readonly segments: readonly string[];
  readonly params: Params;
  /** Of an upload: the file. */
  readonly cargo?: Cargo;
}

/** A call whose parameters follow from the instance that it changes, as the gate finds it; `params` may throw a refusal. */
export interface Draft extends Omit<Call, 'params'> {
  /** Parameters that are known beforehand and say which kind of call it is: a vmid that is not in the path, `archive`. */
  readonly given?: Params;
  readonly params: (before: Instance) => Params;
}

/** What PVE said. `status` is HTTP's, `reason` the reason phrase (PVE's own error text). */
export interface Answer {
  readonly status: number;
  readonly reason: string;
  readonly data: unknown;
  /** Per parameter, on a 400. */
  readonly errors?: Readonly<Record<string, string>>;
  /** Keys that PVE puts beside `data`: `total`, `changes`, `message`. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** With whose rights a call is sent. */
export type Credential =
  | { readonly kind: 'ticket'; readonly ticket: string; readonly csrf?: string }
  /** An API token of a user: the text behind `PVEAPIToken=`. */
  | { readonly kind: 'token'; readonly token: string }
  /** The configured privileged token; `for` is the user on whose behalf, where it stands in for theirs. */
  | { readonly kind: 'service'; readonly for?: string }
  | { readonly kind: 'none' };

/** The parameters that are given once, as texts. */
export function singles(params: Params): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(params).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

/** Makes a call from a path whose parts are already clean; each `{}` takes the next value, whatever it contains. */
export function call(
  method: Method,
  path: string,
  values: readonly (string | number)[] = [],
  params: Params = {},
): Call {
  const rest = values.map(String);
  const segments = path
    .split('/')
    .filter((part) => part !== '')
    .map((part) => (part === '{}' ? (rest.shift() ?? '') : part));
  return { method, segments, params };
}

/** The call as a person writes it: `PUT /nodes/n1/qemu/100/config`. */
export function describeCall({ method, segments }: Pick<Call, 'method' | 'segments'>): string {
  return `${method} /${segments.join('/')}`;
}

/** Whether PVE did, or has begun to do, what it was asked. */
export function succeeded(answer: Answer): boolean {
  return answer.status >= 200 && answer.status < 300;
}

/** Sends calls to PVE. */
export interface Upstream {
  /**
   * Sends one call and reads the whole answer; an HTTP error status is an answer, not an error.
   * Throws UpstreamUnreachableError (nothing was sent), UpstreamBrokenError or UpstreamDeadlineError (it may have acted).
   * Reads fail over to the other URLs of the cluster; writes are sent once.
   */
  send(call: Call, as: Credential): Promise<Answer>;
  close(): Promise<void>;
}
