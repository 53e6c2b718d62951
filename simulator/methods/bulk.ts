/** `/cluster/bulk-action` and the calls for all guests of a node. */

import { type Bulk, isNoTemplate, migrate, shutDown, start, startBulk, suspend } from '../bulk.ts';
import type { Context, MethodRow, Schema } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { flag, integer, named, node, storageId, vmid } from '../parameters.ts';

const power = ['VM.PowerMgmt'];
const anyGuest = () => true;
const workers = integer(1, 64);
const some: Schema = { type: 'array', optional: true, items: vmid };

type Plan = Pick<Bulk, 'privileges' | 'takes' | 'act'>;

function clusterRow(
  action: string,
  parameters: MethodRow['parameters'],
  planFor: (context: Context) => Plan,
): MethodRow {
  return {
    method: 'POST',
    path: `/cluster/bulk-action/guest/${action}`,
    permissions: { user: 'all' },
    parameters: { vms: some, 'max-workers': workers, maxworkers: { ...workers, alias: 'max-workers' }, ...parameters },
    run(context) {
      const vmids = (context.param.vms as readonly unknown[] | undefined)?.map(Number);
      return startBulk(context, { type: `bulk-${action}`, vmids, onNode: false, ...planFor(context) });
    },
  };
}

function nodeRow(type: string, parameters: MethodRow['parameters'], planFor: (context: Context) => Plan): MethodRow {
  return {
    method: 'POST',
    path: `/nodes/{node}/${type}`,
    permissions: { user: 'all' },
    parameters: { vms: named('pve-vmid-list'), 'max-workers': workers, ...parameters },
    run(context) {
      const { vms } = context.param;
      const vmids = vms === undefined ? undefined : splitList(vms).map(Number);
      return startBulk(context, { type, vmids, onNode: true, ...planFor(context) });
    },
  };
}

function index(path: string, names: readonly string[]): MethodRow {
  const run = () => names.map((name) => ({ name }));
  return { method: 'GET', path, permissions: { user: 'all' }, parameters: {}, run };
}

export const bulkMethods: readonly MethodRow[] = [
  index('/cluster/bulk-action', ['guest']),
  index('/cluster/bulk-action/guest', ['start', 'shutdown', 'migrate', 'suspend']),
  clusterRow('start', { timeout: integer() }, () => ({ privileges: power, takes: isNoTemplate, act: start })),
  clusterRow('shutdown', { timeout: integer(), 'force-stop': flag }, () => ({
    ...{ privileges: power, takes: isNoTemplate, act: shutDown },
  })),
  clusterRow('suspend', { 'to-disk': flag, statestorage: { ...storageId, requires: 'to-disk' } }, ({ param }) => {
    const { 'to-disk': todisk = 0, statestorage } = param;
    const privileges = todisk === 1 ? [...power, 'VM.Config.Disk'] : power;
    return { privileges, takes: isNoTemplate, act: suspend({ todisk, statestorage }) };
  }),
  clusterRow('migrate', { target: node, online: flag, 'with-local-disks': flag }, ({ param }) => ({
    ...{ privileges: ['VM.Migrate'], takes: anyGuest, act: migrate(() => param.online === 1) },
  })),
  nodeRow('startall', { force: flag }, ({ param }) => ({
    privileges: power,
    takes: (guest) => isNoTemplate(guest) && (param.force === 1 || guest.config.get('onboot') === '1'),
    act: start,
  })),
  nodeRow('stopall', { 'force-stop': flag, timeout: integer(0, 7200) }, () => ({
    ...{ privileges: power, takes: isNoTemplate, act: shutDown },
  })),
  nodeRow('suspendall', {}, () => ({ privileges: power, takes: isNoTemplate, act: suspend({ todisk: 1 }) })),
  nodeRow(
    'migrateall',
    { target: node, maxworkers: { ...workers, alias: 'max-workers' }, 'with-local-disks': flag },
    () => ({ privileges: ['VM.Migrate'], takes: anyGuest, act: migrate(({ status }) => status === 'running') }),
  ),
];
