/** Lists of tasks: to PVE what we start for a tenant is the privileged token's, and hidden from them. */

import { isObject } from '../../json.ts';
import { type Answer, type Call, type Params, succeeded } from '../../pve/call.ts';
import { parseUpid, type Task } from '../../pve/task.ts';
import type { Caller, Gate } from '../gate.ts';

/** A row of a list of PVE's, unchanged. */
interface Row {
  readonly upid: string;
  readonly user: string;
  readonly starttime: number;
}

/** Rows asked for at once. */
const pageSize = 500;

/** The cluster's recent tasks: the caller's own and those that we started for them, newest first. */
export async function clusterTasks(gate: Gate, asked: Call, caller: Caller): Promise<Answer | undefined> {
  const started = startedFor(gate, caller);
  if (started.size === 0) return undefined;
  const [own, all] = await Promise.all([
    gate.upstream.send(asked, caller.credential),
    gate.upstream.send(asked, { kind: 'service' }),
  ]);
  return succeeded(own) ? { ...own, data: merged(rowsOf(own), chosen(all, started)) } : own;
}

/** A node's tasks under PVE's filters: the caller's own and those that we started for them, newest first. */
export async function nodeTasks(gate: Gate, asked: Call, caller: Caller): Promise<Answer | undefined> {
  const [start, limit] = [count(asked.params.start, 0), count(asked.params.limit, 50)];
  const [, node] = asked.segments;
  const started = startedFor(gate, caller, (task) => node === 'localhost' || node === task.node);
  if (start === null || limit === null || started.size === 0) return undefined;
  const first = { ...asked, params: { ...asked.params, start: '0', limit: String(start + limit) } };
  const own = await gate.upstream.send(first, caller.credential);
  if (!succeeded(own)) return own;
  const rows = rowsOf(own);
  // Whoever sees the tasks of others sees these as well. While a task runs, PVE may write its token as the user.
  if (rows.some(({ user }) => user.replace(/!.*/, '') !== caller.user)) return undefined;
  const ours = await rowsAmong(gate, asked, started);
  const { total = rows.length } = own.extra ?? {};
  return {
    ...own,
    data: merged(rows, ours).slice(start, start + limit),
    extra: { ...own.extra, total: Number(total) + ours.length },
  };
}

/** The tasks that we started for a tenant, by UPID. */
function startedFor({ ledger }: Gate, { user, record }: Caller, counts: (task: Task) => boolean = () => true) {
  const tasks = record.cluster.admin ? [] : ledger.tasksOf(user).map(parseUpid);
  return new Map(tasks.flatMap((task) => (task !== null && counts(task) ? [[task.upid as string, task]] : [])));
}

/** PVE's rows about these tasks, as far as they pass the caller's filters; asked page by page until none can be left. */
async function rowsAmong({ upstream }: Gate, asked: Call, started: ReadonlyMap<string, Task>): Promise<Row[]> {
  const found: Row[] = [];
  const filters = narrowed(asked.params, [...started.values()]);
  for (let start = 0; found.length < started.size; start += pageSize) {
    const params = { ...filters, start: String(start), limit: String(pageSize) };
    const page = await upstream.send({ ...asked, params }, { kind: 'service' });
    found.push(...chosen(page, started));
    if (rowsOf(page).length < pageSize) break;
  }
  return found;
}

/** The caller's filters, and no more tasks of others than need be. */
function narrowed(params: Params, tasks: readonly Task[]): Params {
  const since = Math.max(Number(params.since ?? 0), Math.min(...tasks.map(({ starttime }) => starttime)));
  const [user, ...others] = new Set(tasks.map(({ user }) => user));
  return {
    ...(user !== undefined && others.length === 0 ? { userfilter: user } : {}),
    ...params,
    since: String(since),
  };
}

function chosen(answer: Answer, started: ReadonlyMap<string, Task>): Row[] {
  return rowsOf(answer).filter(({ upid }) => started.has(upid));
}

function merged(own: readonly Row[], ours: readonly Row[]): Row[] {
  const byUpid = new Map([...own, ...ours].map((row) => [row.upid, row]));
  return [...byUpid.values()].sort((one, other) => other.starttime - one.starttime);
}

function rowsOf({ data }: Answer): Row[] {
  return Array.isArray(data)
    ? data.filter((row) => isObject(row) && typeof row.upid === 'string' && typeof row.user === 'string')
    : [];
}

/** A whole number as PVE takes one; null for anything else, which PVE refuses. */
function count(value: Params[string] | undefined, otherwise: number): number | null {
  if (value === undefined) return otherwise;
  return typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : null;
}
