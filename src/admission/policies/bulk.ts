/** Calls about several guests at once, which have to name them: PVE takes none for all. */

import { migrated, parseList, stateStorages, withState } from '../../pve/projections.ts';
import type { Asked, Change, ChangePolicy } from '../policy.ts';
import { toTarget } from './copies.ts';
import { flag, nodeName, oneOf, storageId, vmids, wholeNumber } from './values.ts';

const workers = { 'max-workers': wholeNumber(1, 64), maxworkers: wholeNumber(1, 64) };

function guestsIn({ params: { vms } }: Asked): readonly number[] | null {
  const listed = typeof vms === 'string' ? parseList(vms) : vms;
  return listed === undefined || listed.length === 0 ? null : listed.map(Number);
}

const bulk = { class: 'consuming', kind: 'change', method: 'POST', guests: guestsIn, joined: ['vms'] } as const;

/** The node is to keep all memory: where PVE puts it is not the caller's to say here. */
const suspendAll: ChangePolicy = {
  ...bulk,
  type: 'qemu',
  path: '/nodes/{node}/suspendall',
  params: { vms: vmids, ...workers },
  storages: ({ before }) => stateStorages(before),
  project: ({ before }) => withState(before, stateStorages(before)),
};

const statesOf = ({ before, params }: Change) =>
  params.statestorage === undefined ? stateStorages(before) : [params.statestorage];

const bulkSuspend: ChangePolicy = {
  ...bulk,
  type: 'qemu',
  path: '/cluster/bulk-action/guest/suspend',
  when: (params) => params['to-disk'] === '1',
  params: { vms: vmids, 'to-disk': oneOf('1'), statestorage: storageId, ...workers },
  lists: ['vms'],
  storages: statesOf,
  project: (change) => withState(change.before, statesOf(change)),
};

/** Volumes keep the names of their storages. */
const migrating = {
  ...bulk,
  ...toTarget,
  project: ({ before, target }: Change) => migrated(before, target, (storage) => storage),
};

export const bulkPolicies: readonly ChangePolicy[] = [
  suspendAll,
  bulkSuspend,
  {
    ...migrating,
    path: '/nodes/{node}/migrateall',
    params: { target: nodeName, vms: vmids, 'with-local-disks': flag, ...workers },
  },
  {
    ...migrating,
    path: '/cluster/bulk-action/guest/migrate',
    params: { target: nodeName, vms: vmids, online: flag, 'with-local-disks': flag, ...workers },
    lists: ['vms'],
  },
];
