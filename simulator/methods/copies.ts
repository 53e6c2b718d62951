/** Clones, templates and migrations of VMs and containers. */

import { cloneContainer, cloneVm } from '../clones.ts';
import { guestOf } from '../guests.ts';
import type { Context, MethodRow, Permissions, Schema } from '../method.ts';
import { migrateContainer, migrateVm, migrationConditions } from '../migrations.ts';
import type { Guest } from '../model.ts';
import {
  diskKeys,
  flag,
  integer,
  named,
  node,
  number,
  oneOf,
  snapshotName,
  storageId,
  text,
  vmid,
} from '../parameters.ts';
import { convertToTemplate } from '../templates.ts';

const clones: Permissions = {
  check: [
    'and',
    ['perm', '/vms/{vmid}', ['VM.Clone']],
    [
      'or',
      ['perm', '/vms/{newid}', ['VM.Allocate']],
      ['perm', '/pool/{pool}', ['VM.Allocate'], 'require_param', 'pool'],
    ],
  ],
};

const cloneParameters = {
  vmid,
  newid: vmid,
  description: text,
  full: flag,
  pool: named('pve-poolid'),
  snapname: snapshotName,
  storage: storageId,
  target: { ...node, optional: true } satisfies Schema,
};

function onGuest(type: Guest['type'], act: (context: Context, guest: Guest) => unknown): MethodRow['run'] {
  return (context) => act(context, guestOf(context, type));
}

export const copyMethods: readonly MethodRow[] = [
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/clone',
    permissions: clones,
    parameters: {
      ...cloneParameters,
      bwlimit: integer(0),
      format: oneOf('raw', 'qcow2', 'vmdk'),
      name: named('dns-name'),
    },
    run: onGuest('qemu', cloneVm),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/lxc/{vmid}/clone',
    permissions: clones,
    parameters: { ...cloneParameters, bwlimit: number(0), hostname: named('dns-name') },
    run: onGuest('lxc', cloneContainer),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/template',
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Allocate']] },
    parameters: { vmid, disk: oneOf(...diskKeys) },
    run: onGuest('qemu', convertToTemplate),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/lxc/{vmid}/template',
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Allocate']] },
    parameters: { vmid },
    run: onGuest('lxc', convertToTemplate),
  },
  ...(['qemu', 'lxc'] as const).map(
    (type): MethodRow => ({
      method: 'GET',
      path: `/nodes/{node}/${type}/{vmid}/migrate`,
      permissions: { check: ['perm', '/vms/{vmid}', ['VM.Migrate']] },
      parameters: { vmid, target: { ...node, optional: true } },
      run: onGuest(type, migrationConditions),
    }),
  ),
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/migrate',
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Migrate']] },
    parameters: {
      vmid,
      bwlimit: integer(0),
      force: flag,
      migration_network: text,
      migration_type: oneOf('secure', 'insecure'),
      online: flag,
      target: node,
      targetstorage: text,
      'with-conntrack-state': flag,
      'with-local-disks': flag,
    },
    run: onGuest('qemu', migrateVm),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/lxc/{vmid}/migrate',
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Migrate']] },
    parameters: {
      vmid,
      bwlimit: number(0),
      online: flag,
      restart: flag,
      target: node,
      'target-storage': text,
      timeout: integer(),
    },
    run: onGuest('lxc', migrateContainer),
  },
];
