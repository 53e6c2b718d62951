/** `/cluster/replication` and `/nodes/{node}/replication`: jobs that keep copies of a guest's volumes on another node. */

import type { Context, MethodRow, Schema } from '../method.ts';
import type { ReplicationJob } from '../model.ts';
import { splitList } from '../named-formats.ts';
import { flag, integer, named, node, number, oneOf, required, text } from '../parameters.ts';
import { demand, may } from '../permit.ts';
import { PveError, parameterError } from '../pve-error.ts';
import { jobsOf, replicatedVolumes, runJob } from '../replication.ts';

const list = '/cluster/replication';
const one = `${list}/{id}`;
const onNode = '/nodes/{node}/replication';
const id: Schema = { type: 'string', pattern: '[1-9][0-9]{2,8}-\\d{1,9}' };
const fields = {
  comment: { ...text, maxLength: 4096 },
  disable: flag,
  rate: number(1),
  remove_job: oneOf('local', 'full'),
  schedule: { ...text, maxLength: 128 },
  source: { ...node, optional: true },
} satisfies Record<string, Schema>;

function guestOf(name: unknown): number {
  return Number(String(name).split('-')[0]);
}

function demandReplicate(context: Context): void {
  demand(context, `/vms/${guestOf(context.param.id)}`, ['VM.Replicate']);
}

function jobOf({ cluster, param }: Context): ReplicationJob {
  const job = cluster.replication.get(String(param.id));
  if (job === undefined) throw new PveError(500, `no such replication job '${param.id}'`);
  return job;
}

function createJob(context: Context): null {
  const { cluster, param } = context;
  const { source, target } = param;
  const [name, vmid] = [String(param.id), guestOf(param.id)];
  demandReplicate(context);
  const guest = cluster.guests.get(vmid);
  if (guest === undefined) throw new PveError(500, `Guest '${vmid}' does not exist.`);
  if (!cluster.nodes.has(String(target))) throw new PveError(500, `Target '${target}' does not exist.`);
  if (source !== undefined && source !== guest.node) {
    const why = `does not match current node of guest '${vmid}' (${guest.node})`;
    throw new PveError(500, `Source '${source}' ${why}`);
  }
  if (guest.node === target) throw new PveError(500, 'Source and target must not be identical');
  if (replicatedVolumes(cluster, guest).length === 0) throw new PveError(500, 'No replicatable volumes found');
  if (cluster.replication.has(name)) throw new PveError(500, `replication job '${name}' already exists`);
  if (jobsOf(cluster, vmid).some((job) => job.target === target))
    throw new PveError(500, `replication job for guest '${vmid}' to target 'local/${target}' already exists`);
  const jobnum = Number(name.split('-')[1]);
  const settings = { ...param, id: name, type: 'local', target: String(target) } as const;
  cluster.replication.set(name, { ...settings, source: guest.node, guest: vmid, jobnum });
  return null;
}

function updateJob(context: Context): null {
  const { cluster, param } = context;
  demandReplicate(context);
  const { delete: removed, digest: _digest, ...changes } = param;
  const gone = splitList(removed);
  const fixed = gone.find((key) => !Object.hasOwn(fields, key));
  if (fixed !== undefined) throw new PveError(500, `no such option '${fixed}'`);
  const kept = Object.entries({ ...jobOf(context), ...changes }).filter(([key]) => !gone.includes(key));
  cluster.replication.set(String(param.id), Object.fromEntries(kept) as ReplicationJob);
  return null;
}

/** The job goes when it next runs, and before that what it has copied. */
function removeJob(context: Context): void {
  const { cluster, param } = context;
  demandReplicate(context);
  const name = String(param.id);
  if (param.force) {
    if (param.keep) throw parameterError({ keep: "conflicts with parameter 'force'" });
    cluster.replication.delete(name);
    return;
  }
  cluster.replication.set(name, { ...jobOf(context), remove_job: param.keep ? 'local' : 'full' });
}

function statusOf({ cluster }: Context, job: ReplicationJob): Record<string, unknown> {
  return { ...job, last_sync: 0, fail_count: 0, ...cluster.replicationStates.get(job.id) };
}

export const replicationMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: list,
    permissions: { user: 'all' },
    parameters: {},
    run: (context) =>
      [...context.cluster.replication.values()].filter(({ guest }) => may(context, `/vms/${guest}`, ['VM.Audit'])),
  },
  {
    method: 'POST',
    path: list,
    permissions: { user: 'all' },
    parameters: { ...fields, id, target: node, type: required(oneOf('local')) },
    run: createJob,
  },
  {
    method: 'GET',
    path: one,
    permissions: { user: 'all' },
    parameters: { id },
    run(context) {
      demand(context, `/vms/${guestOf(context.param.id)}`, ['VM.Audit']);
      return jobOf(context);
    },
  },
  {
    method: 'PUT',
    path: one,
    permissions: { user: 'all' },
    parameters: { ...fields, id, delete: named('pve-configid-list'), digest: { ...text, maxLength: 64 } },
    run: updateJob,
  },
  {
    method: 'DELETE',
    path: one,
    permissions: { user: 'all' },
    parameters: { id, force: flag, keep: flag },
    run: removeJob,
  },
  {
    method: 'GET',
    path: onNode,
    permissions: { user: 'all' },
    parameters: { guest: { ...integer(100), optional: true } },
    run: (context) =>
      [...context.cluster.replication.values()]
        .filter(({ guest }) => context.cluster.guests.get(guest)?.node === context.node)
        .filter(({ guest }) => context.param.guest === undefined || context.param.guest === guest)
        .filter(({ guest }) => may(context, `/vms/${guest}`, ['VM.Audit']))
        .map((job) => statusOf(context, job)),
  },
  {
    method: 'GET',
    path: `${onNode}/{id}/status`,
    permissions: { user: 'all' },
    parameters: { id },
    run(context) {
      demand(context, `/vms/${guestOf(context.param.id)}`, ['VM.Audit']);
      return statusOf(context, jobOf(context));
    },
  },
  {
    method: 'POST',
    path: `${onNode}/{id}/schedule_now`,
    permissions: { user: 'all' },
    parameters: { id },
    run(context) {
      demandReplicate(context);
      runJob(context.cluster, jobOf(context));
    },
  },
];
