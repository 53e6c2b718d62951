/** A change of an instance as the dashboards ask for it: handed to the gate, waited for, answered. */

import { setTimeout as delay } from 'node:timers/promises';
import { admit } from '../../admission/admit.ts';
import type { Caller } from '../../admission/gate.ts';
import { endingOf } from '../../admission/settlement.ts';
import { type Call, call, type Draft, succeeded } from '../../pve/call.ts';
import type { Config, Instance } from '../../pve/instance.ts';
import { parseUpid, type TaskStatus, taskSucceeded } from '../../pve/task.ts';
import type { Rooms } from '../rooms.ts';
import { dataOf, TaskFailure } from './reply.ts';
import type { Target } from './target.ts';

/** A configuration write that depends on what the instance holds when it is judged. */
export function configure({ node, type, vmid }: Target, params: (before: Instance) => Config): Draft {
  const method = type === 'qemu' ? 'POST' : 'PUT';
  return { ...call(method, '/nodes/{}/{}/{}/config', [node, type, vmid]), params };
}

/**
 * Has the gate make a change and waits until it is settled, at most `taskWait` and not beyond the server's end.
 * Gives the task with its log, the task as running when it is not over by then, or `{data}` where PVE needs none;
 * throws PveRefusal or TaskFailure. Whether the client is still there makes no difference.
 */
export async function change(
  rooms: Rooms,
  asked: Call | Draft,
  caller: Caller,
): Promise<Readonly<Record<string, unknown>>> {
  const { answer, settled } = await admit(rooms.gate, asked, caller);
  // An answer lost between PVE's own hops takes long to settle; any other refusal is settled before it is told, so that one may try again.
  const last = endingOf(answer).kind === 'lost' ? undefined : await waitFor(settled, rooms);
  const data = dataOf(answer);
  const task = parseUpid(data);
  if (task === null) return { data };
  if (last === undefined) return { ...task, status: 'running' };
  const ended = { ...last, log: await logOf(rooms, last) };
  if (!taskSucceeded(last.exitstatus ?? '')) throw new TaskFailure(ended);
  return ended;
}

/**
 * Has the gate make a change and does not wait for PVE's task. Gives what PVE answered; throws PveRefusal. What is over
 * by then is settled as well, so that one may ask for the next.
 */
export async function begin(rooms: Rooms, asked: Call | Draft, caller: Caller): Promise<unknown> {
  const { answer, settled } = await admit(rooms.gate, asked, caller);
  const { kind } = endingOf(answer);
  if (kind === 'answered' || kind === 'nothing') await waitFor(settled, rooms);
  return dataOf(answer);
}

async function waitFor<T>(work: Promise<T>, { config, stopping }: Rooms): Promise<T | undefined> {
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, stopping]);
  const patience = delay(config.taskWait * 1000, undefined, { signal }).catch(() => undefined);
  try {
    return await Promise.race([work, patience]);
  } finally {
    over.abort();
  }
}

/** The first lines of a task's log; PVE shows the log of the server's own tasks to the server alone. */
async function logOf({ upstream, log }: Rooms, { node, upid }: TaskStatus): Promise<readonly unknown[]> {
  try {
    const answer = await upstream.send(call('GET', '/nodes/{}/tasks/{}/log', [node, upid]), { kind: 'service' });
    return succeeded(answer) && Array.isArray(answer.data) ? answer.data : [];
  } catch (error) {
    log.warn({ err: error, upid }, 'the log of a task could not be read');
    return [];
  }
}
