/** `/cluster/replication`: jobs that would copy a guest's volumes to another node. Only their configuration is kept. */

import type { Context, MethodRow, Schema } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { flag, named, node, number, oneOf, required, text } from '../parameters.ts';
import { demand, may } from '../permit.ts';
import { PveError, parameterError } from '../pve-error.ts';

const list = '/cluster/replication';
const one = `${list}/{id}`;
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

function jobOf({ cluster, param }: Context): Readonly<Record<string, unknown>> {
  const job = cluster.replication.get(String(param.id));
  if (job === undefined) throw new PveError(500, `replication job '${param.id}' does not exist`);
  return job;
}

function createJob(context: Context): null {
  const { cluster, param } = context;
  const [name, vmid] = [String(param.id), guestOf(param.id)];
  demandReplicate(context);
  const guest = cluster.guests.get(vmid);
  if (guest === undefined) throw new PveError(500, `guest '${vmid}' does not exist`);
  if (cluster.replication.has(name)) throw new PveError(500, `replication job '${name}' already exists`);
  if (!cluster.nodes.has(String(param.target))) throw new PveError(500, `target node '${param.target}' does not exist`);
  if (guest.node === param.target) throw parameterError({ target: 'target is local node.' });
  const jobnum = Number(name.split('-')[1]);
  cluster.replication.set(name, { source: guest.node, ...param, guest: vmid, jobnum });
  return null;
}

function updateJob(context: Context): null {
  const { cluster, param } = context;
  demandReplicate(context);
  const { delete: removed, digest: _digest, ...changes } = param;
  const gone = splitList(removed);
  const kept = Object.entries({ ...jobOf(context), ...changes }).filter(([key]) => !gone.includes(key));
  cluster.replication.set(String(param.id), Object.fromEntries(kept));
  return null;
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
    run(context) {
      demandReplicate(context);
      jobOf(context);
      context.cluster.replication.delete(String(context.param.id));
    },
  },
];
