/** Tasks of a node and of the cluster, as PVE shows them and to whom. */

import { type Access, splitTokenId } from '../access.ts';
import { authUser, type Caller } from '../call.ts';
import { type Context, Download, type MethodRow, Reply, type Schema } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { flag, integer, text, vmid } from '../parameters.ts';
import { parameterError } from '../pve-error.ts';
import type { Task } from '../tasks.ts';

const upid: Schema = { type: 'string' };

/** The cluster's list holds so many ended tasks of each node. */
const mostRecent = 25;

export const taskMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/cluster/tasks',
    permissions: { user: 'all' },
    parameters: {},
    run: listOfCluster,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks',
    permissions: { user: 'all' },
    parameters: {
      errors: flag,
      limit: integer(0),
      since: integer(),
      source: { type: 'string', optional: true, enum: ['archive', 'active', 'all'] },
      start: integer(0),
      statusfilter: { type: 'string', optional: true, format: 'pve-task-status-type-list' },
      typefilter: text,
      until: integer(),
      userfilter: text,
      vmid: { ...vmid, optional: true },
    },
    run: listOfNode,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}',
    permissions: { user: 'all' },
    parameters: { upid },
    run: () => [{ name: 'log' }, { name: 'status' }],
  },
  {
    method: 'DELETE',
    path: '/nodes/{node}/tasks/{upid}',
    permissions: { user: 'all' },
    parameters: { upid },
    run(context) {
      context.cluster.tasks.stop(visibleTask(context, 'Sys.Modify').upid);
    },
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}/status',
    permissions: { user: 'all' },
    parameters: { upid },
    run(context) {
      const { exitstatus, ...task } = visibleTask(context, 'Sys.Audit');
      const status = exitstatus === undefined ? 'running' : 'stopped';
      return { ...described(task), status, ...(exitstatus === undefined ? {} : { exitstatus }) };
    },
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}/log',
    permissions: { user: 'all' },
    parameters: { upid, download: flag, limit: integer(0), start: integer(0) },
    run(context) {
      const task = visibleTask(context, 'Sys.Audit');
      if (context.param.download) return wholeLog(task, context.param);
      const { log } = task;
      const lines = (log.length > 0 ? log : ['no content']).map((t, index) => ({ n: index + 1, t }));
      return new Reply(page(lines, context.param), { total: lines.length });
    },
  },
];

function wholeLog({ log, node, type, starttime }: Task, { start, limit }: Context['param']): Download {
  if (start !== undefined || limit !== undefined) {
    throw parameterError({ download: "cannot be used together with 'start' or 'limit'" });
  }
  const time = new Date(starttime * 1000).toISOString().replace(/\.\d+/, '');
  return new Download(log.map((line) => `${line}\n`).join(''), `task-${node}-${type}-${time}.log`);
}

/** A token never equals the user part that is compared here, so it sees tasks with Sys.Audit only. */
function listOfCluster({ cluster, caller }: Context): unknown {
  const seesAll = cluster.access.check(caller, '/', ['Sys.Audit']);
  const mine = cluster.tasks.list().filter(({ authid }) => seesAll || splitTokenId(authid).user === authUser(caller));
  const seen = new Map<string, number>();
  const isRecent = ({ node, endtime }: Task) => {
    if (endtime === undefined) return true;
    seen.set(node, (seen.get(node) ?? 0) + 1);
    return (seen.get(node) ?? 0) <= mostRecent;
  };
  return mine.filter(isRecent).map((task) => ({ ...listed(task), saved: task.endtime === undefined ? '0' : '1' }));
}

function listOfNode({ cluster, caller, node, param }: Context): unknown {
  const seesAll = cluster.access.check(caller, `/nodes/${node}`, ['Sys.Audit']);
  const states = Map.groupBy(cluster.tasks.list(), ({ endtime }) => (endtime === undefined ? 'runs' : 'ended'));
  const all = [...(states.get('runs') ?? []), ...(states.get('ended') ?? [])];
  const found = all.filter(
    (task) => task.node === node && (seesAll || isOwn(caller, task)) && passesFilters(task, param),
  );
  const from = Number(param.start ?? 0);
  const shown = found.slice(from, from + Number(param.limit ?? 50)).map((task) => ({
    ...listed(task),
    ...(task.endtime === undefined && { status: 'RUNNING' }),
  }));
  return new Reply(shown, { total: found.length });
}

function passesFilters(task: Task, param: Context['param']): boolean {
  const { source = 'archive', vmid, typefilter, userfilter, since, until, errors, statusfilter } = param;
  const kinds = statusfilter === undefined ? undefined : splitList(statusfilter).map((kind) => kind.toLowerCase());
  const { user } = splitTokenId(task.authid);
  const isOfSource = source === 'all' || (source === 'active') === (task.endtime === undefined);
  return (
    isOfSource &&
    (vmid === undefined || task.id === String(vmid)) &&
    (typefilter === undefined || task.type === typefilter) &&
    (userfilter === undefined || user.toLowerCase().includes(String(userfilter).toLowerCase())) &&
    (since === undefined || task.starttime >= Number(since)) &&
    (until === undefined || task.starttime <= Number(until)) &&
    (errors ? kindOf(task) !== 'ok' : kinds === undefined || kinds.includes(kindOf(task)))
  );
}

/** One that runs has no status yet, which counts as unknown. */
function kindOf({ exitstatus }: Task): string {
  if (exitstatus === undefined || exitstatus === 'unexpected status') return 'unknown';
  if (exitstatus === 'OK') return 'ok';
  return exitstatus.startsWith('WARNINGS: ') ? 'warning' : 'error';
}

/** The task that the path names, to the caller whose it is or who has the privilege on its node. */
function visibleTask({ cluster, caller, node, param }: Context, privilege: string): Task {
  const wanted = String(param.upid);
  if (!/^UPID:[^:]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:]+:[^:]*:[^:]+:$/.test(wanted)) {
    throw parameterError({ upid: 'unable to parse worker upid' });
  }
  const task = cluster.tasks.get(wanted);
  if (task === undefined || task.node !== node) throw parameterError({ upid: 'no such task' });
  demandSight(cluster.access, caller, task, privilege);
  return task;
}

function demandSight(access: Access, caller: Caller, task: Task, privilege: string): void {
  if (!isOwn(caller, task)) access.demand(caller, `/nodes/${task.node}`, [privilege]);
}

/** A user owns what its tokens started, a token only what it started itself. */
function isOwn(caller: Caller, { authid }: Task): boolean {
  return authUser(caller) === authid || (caller.token === undefined && caller.user === splitTokenId(authid).user);
}

function described({ upid, node, pid, pstart, starttime, type, id, authid }: Omit<Task, 'exitstatus'>) {
  const { user, token } = splitTokenId(authid);
  return { upid, node, pid, pstart, starttime, type, id, user, ...(token === undefined ? {} : { tokenid: token }) };
}

function listed({ endtime, exitstatus, ...task }: Task) {
  return { ...described(task), ...(endtime === undefined ? {} : { endtime, status: exitstatus }) };
}

/** Fifty unless told; 0 means all. */
function page<Row>(rows: readonly Row[], { start = 0, limit = 50 }: Context['param']): readonly Row[] {
  const from = Number(start);
  return rows.slice(from, Number(limit) === 0 ? undefined : from + Number(limit));
}
