/** Snapshots, and memory that is written to a storage. */

import type { Fault } from '../../errors.ts';
import { readSnapshot, rolledBack } from '../../pve/archives.ts';
import { call } from '../../pve/call.ts';
import { type GuestType, isDeviceSlot } from '../../pve/instance.ts';
import { stateStorages, withState } from '../../pve/projections.ts';
import { withSnapshot } from '../../pve/replication.ts';
import { rowsIn } from '../../pve/rows.ts';
import type { Change, ChangePolicy } from '../policy.ts';
import { storagesOf } from './drives.ts';
import { flag, lines, oneOf, snapshotName, storageId } from './values.ts';

const pathOf = (type: GuestType, rest = '') => `/nodes/{node}/${type}/{vmid}/snapshot${rest}`;

/** What a snapshot takes of its disks is in no list, but for the memory of a running VM. */
function take(type: GuestType): ChangePolicy {
  const withMemory = ({ params }: Change) => params.vmstate === '1';
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: pathOf(type),
    params: { snapname: snapshotName, description: lines, ...(type === 'qemu' ? { vmstate: flag } : {}) },
    storages: (change) => (withMemory(change) ? stateStorages(change.before) : []),
    changesCopies: true,
    asks: () => [call('GET', '/storage')],
    objections: mustNotBeChained,
    project: (change) => {
      const before = withSnapshot(change.before);
      return withMemory(change) ? withState(before, stateStorages(before)) : before;
    },
  };
}

/** Where each snapshot is a volume of the disk's whole size, no list shows it under the guest. */
function mustNotBeChained({ before, told: [rows] }: Change): Fault[] {
  const storages = rowsIn(rows);
  if (storages === null) return [{ field: 'snapname', problem: 'PVE does not tell how its storages keep snapshots' }];
  const chained = storages
    .filter((row) => Number(row['snapshot-as-volume-chain'] ?? 0) === 1)
    .map(({ storage }) => storage);
  return storagesOf(before.type, before.current)
    .filter((storage) => chained.includes(storage))
    .map((storage) => ({
      field: 'snapname',
      problem: `storage ${storage} keeps a volume of the disk's size for each snapshot, unmetered; make a backup instead`,
    }));
}

function label(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'PUT',
    path: pathOf(type, '/{snapshot}/config'),
    params: { description: lines },
    project: ({ before }) => before,
  };
}

/** What only the snapshot held becomes unused, and counts until it is gone. */
function remove(type: GuestType): ChangePolicy {
  return {
    class: 'releasing',
    kind: 'change',
    type,
    method: 'DELETE',
    path: pathOf(type, '/{snapshot}'),
    params: { force: flag },
    project: ({ before }) => before,
  };
}

/** Going back: the instance becomes what it was then, so that is what is charged. */
function rollback(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: pathOf(type, '/{snapshot}/rollback'),
    params: { start: flag },
    asks: ({ before, named }) => [
      call('GET', '/nodes/{}/{}/{}/snapshot/{}/config', [before.host.node, type, before.vmid, named.snapshot ?? '']),
    ],
    devices: ({ told: [config] }) => Object.keys(readSnapshot(config) ?? {}).some(isDeviceSlot),
    project: ({ before, told: [config] }) => rolledBack(before, readSnapshot(config)),
  };
}

/** Saving a VM's memory and stopping it: PVE is told where to, so that it is charged there. */
const suspendToDisk: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  type: 'qemu',
  method: 'POST',
  path: '/nodes/{node}/qemu/{vmid}/status/suspend',
  when: ({ todisk }) => todisk === '1',
  params: { todisk: oneOf('1'), statestorage: storageId },
  storages: (change) => [stateStorage(change)],
  project: (change) => withState(change.before, [stateStorage(change)]),
  forward: (change) => ({ ...change.params, statestorage: stateStorage(change) }),
};

function stateStorage({ before, params }: Change): string {
  return params.statestorage ?? stateStorages(before)[0] ?? 'local';
}

export const snapshotPolicies: readonly ChangePolicy[] = [
  ...(['qemu', 'lxc'] as const).flatMap((type) => [take(type), label(type), remove(type), rollback(type)]),
  suspendToDisk,
];
