/** Volumes of guests, called by their own names: allocating, labelling and freeing them. */

import type { Fault } from '../../errors.ts';
import { call } from '../../pve/call.ts';
import { drivesOf } from '../../pve/instance.ts';
import { withVolume } from '../../pve/projections.ts';
import { rowsIn } from '../../pve/rows.ts';
import type { Change, ChangePolicy } from '../policy.ts';
import * as values from './values.ts';

const { lines, matching, oneOf, wholeNumber } = values;

const contentPath = '/nodes/{node}/storage/{storage}/content';

const onNamedStorage = ({ named: { storage } }: Change): readonly string[] => (storage === undefined ? [] : [storage]);

/** Bytes of a size as PVE takes it for a new volume: whole KiB, or with M or G. */
function bytesOf(size: string): number {
  const [, amount, unit = 'K'] = /^(\d+)([KMG]?)$/.exec(size) ?? [];
  return Number(amount) * 1024 ** (['K', 'M', 'G'].indexOf(unit || 'K') + 1);
}

const allocate: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  ofVolumes: true,
  method: 'POST',
  path: contentPath,
  params: {
    vmid: values.vmid,
    filename: matching(/^[A-Za-z0-9][\w.+-]*$/, 'a name such as vm-100-disk-1'),
    size: matching(/^[1-9]\d{0,14}[MG]?$/, 'a whole number of KiB, or such as 512M or 8G'),
    format: oneOf('raw', 'qcow2', 'vmdk', 'subvol'),
  },
  storages: onNamedStorage,
  objections: ({ before, params: { filename = '', format } }): Fault[] => [
    ...(before.absent ? [{ field: 'vmid', problem: `there is no instance ${before.vmid}` }] : []),
    // The name says whose it is, wherever it lies.
    ...(new RegExp(`^(?:vm|subvol)-${before.vmid}-`).test(filename)
      ? []
      : [{ field: 'filename', problem: `must begin with vm-${before.vmid}-` }]),
    ...(format === 'subvol' && before.type === 'qemu'
      ? [{ field: 'format', problem: 'only containers have those' }]
      : []),
  ],
  project: ({ before, named: { storage = '' }, params: { filename = '', size = '' } }) =>
    withVolume(before, storage, filename, bytesOf(size)),
};

/** The volume id of the image that a call's path names, with its storage. */
function volidOf({ named: { storage = '', image = '' } }: Change): string {
  return image.startsWith(`${storage}:`) ? image : `${storage}:${image}`;
}

function mustBeOwn(change: Change): Fault[] {
  const volid = volidOf(change);
  return change.before.volumes.has(volid)
    ? []
    : [{ field: 'volume', problem: `no storage lists ${volid} as a volume of instance ${change.before.vmid}` }];
}

/** A volume that a configuration or a snapshot still names would leave it broken. */
function mustBeFree(change: Change): Fault[] {
  const { before, told } = change;
  if (before.absent) return [];
  const volid = volidOf(change);
  const problem = (text: string): Fault[] => [{ field: 'volume', problem: text }];
  for (const config of [before.current, before.next]) {
    const held = [...drivesOf(before.type, config)].find(
      ([, drive]) => drive?.kind === 'volume' && drive.volid === volid,
    );
    const slot = held?.[0] ?? (config.vmstate === volid ? 'vmstate' : undefined);
    if (slot !== undefined)
      return problem(`${volid} is ${slot} of instance ${before.vmid}; take it out of there instead`);
  }
  const [rows] = told;
  const snapshots = rowsIn(rows);
  if (snapshots === null) return problem('PVE does not tell the snapshots of the instance; try again in a moment');
  const snapshot = snapshots.find(({ name }) => name !== 'current');
  return snapshot === undefined
    ? []
    : problem(`instance ${before.vmid} has snapshots (${snapshot.name}), which may hold ${volid}; delete them first`);
}

const label: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  ofVolumes: true,
  method: 'PUT',
  path: `${contentPath}/{image}`,
  params: { notes: lines },
  storages: onNamedStorage,
  objections: mustBeOwn,
  project: ({ before }) => before,
};

const free: ChangePolicy = {
  class: 'releasing',
  kind: 'change',
  ofVolumes: true,
  method: 'DELETE',
  path: `${contentPath}/{image}`,
  params: { delay: wholeNumber(1, 30) },
  storages: onNamedStorage,
  asks: ({ before: { absent, host, type, vmid } }) =>
    absent ? [] : [call('GET', '/nodes/{}/{}/{}/snapshot', [host.node, type, vmid])],
  objections: (change) => [...mustBeOwn(change), ...mustBeFree(change)],
  project: ({ before }) => before,
};

export const volumePolicies: readonly ChangePolicy[] = [allocate, label, free];
