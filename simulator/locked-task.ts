/** Tasks that keep a guest locked from their answer until they end. */

import { assertUnlocked } from './guests.ts';
import type { Context } from './method.ts';
import type { Guest } from './model.ts';
import { PveError } from './pve-error.ts';

export interface LockedTask {
  readonly type: string;
  readonly lock: 'snapshot' | 'snapshot-delete' | 'rollback' | 'migrate' | 'disk';
  /** Throws what PVE finds wrong once the task runs: the task is answered all the same, and ends with that. */
  check(): void;
  work(log: (line: string) => void): void;
}

/** Starts the task and answers it. A guest that is locked already, or fails the check, is left alone. */
export function startLocked(context: Context, guest: Guest, { type, lock, check, work }: LockedTask): string {
  const { cluster, node, caller } = context;
  const refusal = refusalOf(() => {
    assertUnlocked(guest);
    check();
  });
  if (refusal === undefined) guest.config.set('lock', lock);
  const unlock = () => {
    if (refusal === undefined) guest.config.delete('lock');
  };
  return cluster.tasks.start({
    node,
    type,
    id: String(guest.vmid),
    caller,
    run(log) {
      unlock();
      if (refusal !== undefined) throw refusal;
      work(log);
    },
    abandon: unlock,
  });
}

/** What PVE says against it; undefined when it says nothing. */
export function refusalOf(check: () => void): PveError | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof PveError) return error;
    throw error;
  }
}
