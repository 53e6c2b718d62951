/** Backups: making, labelling and deleting those of an instance, and going back to one. */

import type { Fault } from '../../errors.ts';
import { backedUp, readArchive, restored } from '../../pve/archives.ts';
import { call } from '../../pve/call.ts';
import type { GuestType } from '../../pve/instance.ts';
import type { Change, ChangePolicy } from '../policy.ts';
import * as values from './values.ts';

const { flag, lines, oneOf, wholeNumber } = values;

/** Backups are counted on one storage, so that is the only place where they may be made. */
function mustBeCountedOn({ params, backupStorage }: Change): Fault[] {
  if (backupStorage === undefined)
    return [{ field: 'storage', problem: 'no storage is configured for backups (backups.storage)' }];
  return params.storage === backupStorage
    ? []
    : [{ field: 'storage', problem: `must be ${backupStorage}, where backups are counted` }];
}

/** Only a backup that counts as the instance's own: not one of an earlier guest of that vmid, nor of anybody else. */
function mustBeOwn({ before }: Change, field: string, volid: string | undefined): Fault[] {
  const own = before.backups?.some((backup) => backup.volid === volid) ?? false;
  return own ? [] : [{ field, problem: `${JSON.stringify(volid ?? '')} is no backup of instance ${before.vmid}` }];
}

const onBackupStorage = ({ backupStorage }: Change): readonly string[] =>
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
  params: {
    vmid: values.vmid,
    storage: values.storageId,
    mode: oneOf('snapshot', 'suspend', 'stop'),
    // Removing by the storage's own rules could take the backups of others.
    remove: oneOf('0'),
    compress: oneOf('zstd', 'lzo', 'gzip', '0'),
    'notes-template': lines,
  },
  storages: onBackupStorage,
  objections: (change) => [
    ...mustBeCountedOn(change),
    ...(change.params.remove === '0' ? [] : [{ field: 'remove', problem: 'must be 0: other backups stay' }]),
  ],
  project: ({ before }) => backedUp(before),
};

const label: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  method: 'PUT',
  path: contentPath,
  params: { notes: lines },
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
  storages: onBackupStorage,
  objections: (change) => mustBeOwn(change, 'volume', volidOf(change)),
  project: ({ before }) => before,
};

/** Going back to a backup: what the instance becomes is what the archive says, overlaid by what the call says. */
function restore(type: GuestType): ChangePolicy {
  const archive = type === 'qemu' ? 'archive' : 'ostemplate';
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}`,
    when: (params) => (type === 'qemu' ? params.archive !== undefined : params.restore === '1'),
    params: {
      vmid: values.vmid,
      [archive]: values.volumeId,
      force: oneOf('1'),
      storage: values.storageId,
      ...(type === 'lxc'
        ? { restore: flag, rootfs: values.drive('lxc', 'rootfs'), 'mp[n]': values.drive('lxc', 'mp') }
        : { unique: flag }),
    },
    storages: onBackupStorage,
    asks: ({ before, params }) => [
      call('GET', '/nodes/{}/vzdump/extractconfig', [before.host.node], { volume: params[archive] ?? '' }),
    ],
    objections: (change) => [
      ...mustBeOwn(change, archive, change.params[archive]),
      ...(change.params.force === '1' ? [] : [{ field: 'force', problem: 'must be 1: the instance is replaced' }]),
    ],
    project: ({ before, params, told: [text] }) => restored(before, readArchive(type, text), params),
    // A container comes back unprivileged, whatever it was when it was saved.
    ...(type === 'lxc' ? { forward: ({ params }) => ({ ...params, unprivileged: '1' }) } : {}),
  };
}

export const backupPolicies: readonly ChangePolicy[] = [make, label, remove, restore('qemu'), restore('lxc')];
