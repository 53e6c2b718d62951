/** What tests make go wrong: the next call, or the next few, that match. */

import type { Verb } from './call.ts';

export type Fault =
  /** Refuses without acting; `refuseAfter` acts and then says that it failed. */
  | {
      readonly kind: 'refuse' | 'refuseAfter';
      readonly status: number;
      readonly reason: string;
      readonly errors?: Readonly<Record<string, string>>;
    }
  /** Acts so many ms later, whether or not the client still waits. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** Never answers and never acts. */
  | { readonly kind: 'hang' }
  /** Resets the connection, before or after acting. */
  | { readonly kind: 'resetBefore' | 'resetAfter' }
  /** Acts, and answers with half a JSON text. */
  | { readonly kind: 'wrongJson' }
  /** Acts, and answers with other data than the true ones. */
  | { readonly kind: 'otherData'; readonly data: (trueData: unknown) => unknown }
  /** Acts, and answers with a text that long. */
  | { readonly kind: 'hugeAnswer'; readonly bytes: number }
  /** Acts, and answers with a text that never ends. */
  | { readonly kind: 'endlessAnswer' }
  /** The task that the call starts fails: before it does anything, or with all done. */
  | { readonly kind: 'taskFails'; readonly message: string; readonly halfWay?: boolean }
  /** A configuration write applies so many keys and fails then. */
  | { readonly kind: 'partial'; readonly keys: number; readonly status: number; readonly reason: string }
  /** The node cannot be reached by the one that was asked. */
  | { readonly kind: 'nodeGone'; readonly node: string };

export interface FaultMatch {
  readonly method?: Verb;
  /** The template of a method (`/nodes/{node}/qemu`), or an expression for the path below the format. */
  readonly path?: string | RegExp;
  /** How often; once when absent. */
  readonly times?: number;
  /** How many matching calls go well before. */
  readonly after?: number;
}

/** A call as faults are matched with it. */
export interface FaultTarget {
  readonly method: Verb;
  readonly template: string;
  readonly path: string;
  /** The node in the path. */
  readonly node: string | undefined;
}

interface Planned {
  readonly match: FaultMatch;
  readonly fault: Fault;
  wait: number;
  left: number;
}

export class Faults {
  #planned: readonly Planned[] = [];

  /** Plans a fault; those planned first are taken first. */
  add({ method, path, times = 1, after = 0, ...fault }: FaultMatch & Fault): void {
    const match = { ...(method && { method }), ...(path !== undefined && { path }) };
    this.#planned = [...this.#planned, { match, fault, wait: after, left: times }];
  }

  /** Everything goes well again. */
  clear(): void {
    this.#planned = [];
  }

  /** The fault of this call, used up by asking; every plan that matches counts the call, the first that is due is taken. */
  take(target: FaultTarget): Fault | undefined {
    const due = this.#planned.filter(({ match, fault }) => matches(match, fault, target)).filter(isDue);
    const [taken] = due;
    if (taken === undefined) return undefined;
    taken.left--;
    this.#planned = this.#planned.filter(({ left }) => left > 0);
    return taken.fault;
  }
}

function isDue(planned: Planned): boolean {
  if (planned.wait === 0) return true;
  planned.wait--;
  return false;
}

function matches({ method, path }: FaultMatch, fault: Fault, target: FaultTarget): boolean {
  if (fault.kind === 'nodeGone' && fault.node !== target.node) return false;
  if (method !== undefined && method !== target.method) return false;
  if (path === undefined) return true;
  return typeof path === 'string' ? path === target.template : path.test(target.path);
}
