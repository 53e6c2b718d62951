/** `/cluster`: what there is in the cluster as a whole. */

import { guestResource } from '../guest-status.ts';
import { kindOf } from '../guests.ts';
import type { Context, MethodRow } from '../method.ts';
import type { ClusterNode, StorageDefinition } from '../model.ts';
import { oneOf, vmid } from '../parameters.ts';
import { may } from '../permit.ts';
import { parameterError } from '../pve-error.ts';
import { isOnNode, usedBytes } from '../volumes.ts';
import { nodeRow } from './nodes.ts';

type Row = Readonly<Record<string, unknown>>;

/** Guests that the caller may audit; their numbers come from the statistics, not from limits that count. */
function guestRows(context: Context): readonly Row[] {
  const { cluster } = context;
  return [...cluster.guests.values()]
    .filter(({ vmid: id }) => may(context, `/vms/${id}`, ['VM.Audit']))
    .map((guest) => guestResource(cluster, guest));
}

/** One row for each storage on each node that has it. */
function storageRows(context: Context): readonly Row[] {
  const { cluster } = context;
  const seen = [...cluster.storages.values()].filter(({ storage }) =>
    may(context, `/storage/${storage}`, ['Datastore.Audit']),
  );
  return [...cluster.nodes.values()].flatMap((node) =>
    seen
      .filter((definition) => isOnNode(definition, node.name))
      .map((definition) => storageRow(context, node, definition)),
  );
}

function storageRow({ cluster }: Context, { name, online }: ClusterNode, definition: StorageDefinition): Row {
  const { storage, type, content, shared, total } = definition;
  return {
    ...{ id: `storage/${name}/${storage}`, type: 'storage', storage, node: name, plugintype: type },
    ...{ content: content.join(','), shared: shared ? 1 : 0, status: online ? 'available' : 'unknown' },
    ...{ disk: usedBytes(cluster, definition, name), maxdisk: total },
  };
}

function poolRows(context: Context): readonly Row[] {
  return [...context.cluster.pools.keys()]
    .filter((pool) => may(context, `/pool/${pool}`, ['Pool.Audit']))
    .map((pool) => ({ id: `/pool/${pool}`, type: 'pool', pool }));
}

function nodeRows(context: Context): readonly Row[] {
  return [...context.cluster.nodes.values()].map((node) => nodeRow(context, node));
}

const sources = { pool: poolRows, vm: guestRows, node: nodeRows, storage: storageRows };

function resources(context: Context): readonly Row[] {
  const { type } = context.param;
  const wanted = Object.entries(sources).filter(([name]) => type === undefined || name === type);
  return wanted.flatMap(([, rows]) => rows(context));
}

const lowestVmid = 100;

/** The lowest free vmid, which nothing keeps free; a vmid that is asked about is a 400 when it is taken. */
function nextId({ cluster, param }: Context): string {
  const asked = param.vmid === undefined ? undefined : Number(param.vmid);
  const taken = asked === undefined ? undefined : cluster.guests.get(asked);
  if (taken !== undefined) throw parameterError({ vmid: `${kindOf(taken)} ${asked} already exists` });
  let next = asked ?? lowestVmid;
  while (cluster.guests.has(next)) next++;
  return String(next);
}

function clusterStatus({ cluster, node: here }: Context): readonly Row[] {
  const nodes = [...cluster.nodes.values()];
  return [
    { id: 'cluster', type: 'cluster', name: 'simulated', nodes: nodes.length, quorate: 1, version: nodes.length },
    ...nodes.map(({ name, online }, index) => ({
      ...{ id: `node/${name}`, type: 'node', name, nodeid: index + 1, ip: `192.0.2.${index + 1}`, level: '' },
      ...{ online: online ? 1 : 0, local: name === here ? 1 : 0 },
    })),
  ];
}

const openOptions = { console: 'html5' };
const auditedOptions = { keyboard: 'en-us', mac_prefix: 'BC:24:11' };

export const clusterMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/cluster',
    permissions: { user: 'all' },
    parameters: {},
    run: () => ['mapping', 'nextid', 'options', 'resources', 'status', 'tasks'].map((name) => ({ name })),
  },
  {
    method: 'GET',
    path: '/cluster/resources',
    permissions: { user: 'all' },
    parameters: { type: oneOf('vm', 'storage', 'node', 'sdn') },
    run: resources,
  },
  {
    method: 'GET',
    path: '/cluster/nextid',
    permissions: { user: 'all' },
    parameters: { vmid: { ...vmid, optional: true } },
    run: nextId,
  },
  {
    method: 'GET',
    path: '/cluster/status',
    permissions: { check: ['perm', '/', ['Sys.Audit']] },
    parameters: {},
    run: clusterStatus,
  },
  {
    method: 'GET',
    path: '/cluster/options',
    permissions: { user: 'all' },
    parameters: {},
    run: (context) => (may(context, '/', ['Sys.Audit']) ? { ...openOptions, ...auditedOptions } : openOptions),
  },
];
