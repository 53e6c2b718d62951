/** What was measured of guests, nodes and storages: a short history of what they show now. */

import type { Cluster } from '../cluster.ts';
import { statusOf } from '../guest-status.ts';
import { guestOf } from '../guests.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import { oneOf, required, storageId, vmid } from '../parameters.ts';
import { storageOn, usedBytes } from '../volumes.ts';

/** Seconds from one row to the next. */
const steps: Readonly<Record<string, number>> = { hour: 60, day: 1800, week: 10_800, month: 43_200, year: 604_800 };
const rows = 70;

/** As many rows as PVE gives at least, the last one at the last full step. */
function history({ now }: Cluster, timeframe: unknown, row: Readonly<Record<string, unknown>>): readonly unknown[] {
  const step = steps[String(timeframe)] ?? 60;
  const last = Math.floor(now() / 1000 / step) * step;
  return Array.from({ length: rows }, (_, index) => ({ time: last - (rows - 1 - index) * step, ...row }));
}

function ofGuest(type: 'qemu' | 'lxc'): MethodRow {
  const run = (context: Context) => {
    const { cpu, maxcpu, mem, maxmem, disk, maxdisk } = statusOf(context.cluster, guestOf(context, type));
    const traffic = { netin: 0, netout: 0, diskread: 0, diskwrite: 0 };
    return history(context.cluster, context.param.timeframe, { cpu, maxcpu, mem, maxmem, disk, maxdisk, ...traffic });
  };
  return row(`/nodes/{node}/${type}/{vmid}`, { check: ['perm', '/vms/{vmid}', ['VM.Audit']] }, { vmid }, run);
}

function row(
  path: string,
  permissions: Permissions,
  own: MethodRow['parameters'],
  run: MethodRow['run'],
  ...more: readonly string[]
): MethodRow {
  const parameters = {
    ...own,
    timeframe: required(oneOf(...Object.keys(steps), ...more)),
    cf: oneOf('AVERAGE', 'MAX'),
  };
  return { method: 'GET', path: `${path}/rrddata`, permissions, parameters, run };
}

export const statisticsMethods: readonly MethodRow[] = [
  ofGuest('qemu'),
  ofGuest('lxc'),
  row(
    '/nodes/{node}',
    { check: ['perm', '/nodes/{node}', ['Sys.Audit']] },
    {},
    ({ cluster, node, param }) => {
      const { cpus = 1, memory = 0 } = cluster.nodes.get(node) ?? {};
      return history(cluster, param.timeframe, { cpu: 0.05, maxcpu: cpus, memused: memory / 4, memtotal: memory });
    },
    'decade',
  ),
  row(
    '/nodes/{node}/storage/{storage}',
    { check: ['perm', '/storage/{storage}', ['Datastore.Audit', 'Datastore.AllocateSpace'], 'any', 1] },
    { storage: required(storageId) },
    ({ cluster, node, param }) => {
      const definition = storageOn(cluster, node, String(param.storage));
      const used = usedBytes(cluster, definition, node);
      return history(cluster, param.timeframe, { total: definition.total, used });
    },
  ),
];
