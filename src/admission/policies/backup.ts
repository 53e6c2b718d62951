/** Backups: making, labelling and deleting those of instances. */

import type { Fault } from '../../errors.ts';
import { backedUp } from '../../pve/archives.ts';
import { call } from '../../pve/call.ts';
import { backupOwner } from '../../pve/instance.ts';
import { parseList } from '../../pve/projections.ts';
import { rowsIn } from '../../pve/rows.ts';
import type { Change, ChangePolicy } from '../policy.ts';
import * as values from './values.ts';

const { flag, lines, oneOf, wholeNumber } = values;

/** Backups are counted on one storage, so that is the only place where they may be made, or thinned out. */
function mustBeCountedOn(storage: string | undefined, { backupStorage }: Change): Fault[] {
  if (backupStorage === undefined)
    return [{ field: 'storage', problem: 'no storage is configured for backups (backups.storage)' }];
  return storage === backupStorage
    ? []
    : [{ field: 'storage', problem: `must be ${backupStorage}, where backups are counted` }];
}

/** Only a backup that counts as an instance's own, and not one of an earlier guest of that vmid: of the instance, or of one that the call reads. */
export function mustBeOwn({ before, others }: Change, field: string, volid = ''): Fault[] {
  const owner = backupOwner(volid);
  const guest = owner === before.vmid ? before : others.get(owner ?? Number.NaN);
  const isOwn = guest?.backups?.some((backup) => backup.volid === volid) ?? false;
  return isOwn ? [] : [{ field, problem: `${JSON.stringify(volid)} is no backup of instance ${owner ?? before.vmid}` }];
}

/** Where an instance's own backups lie. */
export const onBackupStorage = ({ backupStorage }: Change): readonly string[] =>
  backupStorage === undefined ? [] : [backupStorage];

/** The volume id of the backup that a call's path names, with its storage. */
function volidOf({ named }: Change): string {
  const { storage = '', backup = '' } = named;
  return backup.startsWith(`${storage}:`) ? backup : `${storage}:${backup}`;
}

const contentPath = '/nodes/{node}/storage/{storage}/content/{backup}';

const make: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  method: 'POST',
  path: '/nodes/{node}/vzdump',
  joined: ['vmid'],
  params: {
    vmid: values.vmids,
    all: oneOf('0'),
    storage: values.storageId,
    mode: oneOf('snapshot', 'suspend', 'stop'),
    // Removing by the storage's own rules could take what an earlier guest of that vmid has left.
    remove: oneOf('0'),
    compress: oneOf('zstd', 'lzo', 'gzip', '0', '1'),
    'notes-template': lines,
    protected: flag,
    quiet: flag,
    'pbs-change-detection-mode': oneOf('legacy', 'data', 'metadata'),
    'notification-mode': oneOf('auto', 'legacy-sendmail', 'notification-system'),
  },
  guests: ({ params: { vmid, all, pool } }) =>
    vmid === undefined || (all !== undefined && all !== '0') || pool !== undefined
      ? null
      : [vmid].flat().flatMap(parseList).map(Number),
  storages: onBackupStorage,
  objections: (change) => mustBeCountedOn(change.params.storage, change),
  takesOnly: 'backups',
  project: ({ before }) => backedUp(before),
  // PVE backs a guest up as often as it is named.
  forward: ({ params }) => ({ remove: '0', ...params, vmid: [...new Set(parseList(params.vmid))].join(',') }),
};

/** A backup that is protected counts like any other, and can be let go again. */
const label: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  method: 'PUT',
  path: contentPath,
  params: { notes: lines, protected: flag },
  storages: onBackupStorage,
  objections: (change) => mustBeOwn(change, 'volume', volidOf(change)),
  project: ({ before }) => before,
};

const remove: ChangePolicy = {
  class: 'releasing',
  kind: 'change',
  method: 'DELETE',
  path: contentPath,
  params: { delay: wholeNumber(1, 30) },
  ofVolumes: true,
  storages: onBackupStorage,
  objections: (change) =>
    change.before.leftBackups?.some(({ volid }) => volid === volidOf(change))
      ? []
      : mustBeOwn(change, 'volume', volidOf(change)),
  project: ({ before }) => before,
};

/** PVE thins out whatever bears the vmid, so every backup that does has to be the instance's own. */
const prune: ChangePolicy = {
  class: 'releasing',
  kind: 'change',
  method: 'DELETE',
  path: '/nodes/{node}/storage/{storage}/prunebackups',
  params: { vmid: values.vmid, type: oneOf('qemu', 'lxc'), 'prune-backups': values.propertyString },
  guests: ({ params: { vmid } }) => (typeof vmid === 'string' ? [Number(vmid)] : null),
  storages: onBackupStorage,
  asks: ({ before, named: { storage = '' } }) => [
    call('GET', '/nodes/{}/storage/{}/content', [before.host.node, storage], {
      content: 'backup',
      vmid: String(before.vmid),
    }),
  ],
  objections: (change) => {
    const { before, named, told } = change;
    const rows = rowsIn(told[0]);
    const strange = rows?.find(({ volid }) => !before.backups?.some((backup) => backup.volid === volid));
    return [
      ...mustBeCountedOn(named.storage, change),
      ...(rows === null ? [{ field: 'storage', problem: 'does not list its backups; try again in a moment' }] : []),
      ...(strange === undefined
        ? []
        : [
            {
              field: 'vmid',
              problem: `${strange.volid} is of an earlier guest ${before.vmid}; delete yours one by one`,
            },
          ]),
    ];
  },
  project: ({ before }) => before,
};

export const backupPolicies: readonly ChangePolicy[] = [make, label, remove, prune];
