/** `/nodes/{node}/{qemu,lxc}/{vmid}/snapshot`: what VMs and containers have been. */

import { guestOf, optionsOf, snapshotRows } from '../guests.ts';
import { heldVolumes } from '../held-volumes.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import type { Guest } from '../model.ts';
import { shownValue } from '../options.ts';
import { flag, oneOf, required, snapshotName, text, vmid } from '../parameters.ts';
import { deleteSnapshot, describeSnapshot, rollBack, snapshotOf, snapshotSection, takeSnapshot } from '../snapshots.ts';
import { canBeBase, canSnapshot } from '../volumes.ts';

function on(privileges: readonly string[]): Permissions {
  return { check: ['perm', '/vms/{vmid}', privileges, ...(privileges.length > 1 ? ['any', 1] : [])] };
}

const snapname = required(snapshotName);

function shownSection(guest: Guest, name: string): Record<string, unknown> {
  const table = optionsOf(guest);
  const shown = [...snapshotSection(snapshotOf(guest, name))].map(([key, value]) => [
    key,
    key === 'cipassword' ? '**********' : typeof value === 'number' ? value : shownValue(table, key, value),
  ]);
  return Object.fromEntries(shown);
}

function rowsFor(type: Guest['type']): readonly MethodRow[] {
  const list = `/nodes/{node}/${type}/{vmid}/snapshot`;
  const one = `${list}/{snapname}`;
  const guest = (context: Context) => guestOf(context, type);
  const memory = type === 'qemu' ? { vmstate: flag } : {};
  return [
    {
      method: 'GET',
      path: list,
      permissions: on(['VM.Audit']),
      parameters: { vmid },
      run: (context) => snapshotRows(guest(context)),
    },
    {
      method: 'POST',
      path: list,
      permissions: on(['VM.Snapshot']),
      parameters: { vmid, snapname, description: text, ...memory },
      run: (context) => takeSnapshot(context, guest(context)),
    },
    {
      method: 'GET',
      path: one,
      permissions: { user: 'all' },
      parameters: { vmid, snapname },
      run: () => [{ cmd: 'rollback' }, { cmd: 'config' }],
    },
    {
      method: 'DELETE',
      path: one,
      permissions: on(['VM.Snapshot']),
      parameters: { vmid, snapname, force: flag },
      run: (context) => deleteSnapshot(context, guest(context)),
    },
    {
      method: 'GET',
      path: `${one}/config`,
      permissions: on(['VM.Snapshot', 'VM.Snapshot.Rollback', 'VM.Audit']),
      parameters: { vmid, snapname },
      run: (context) => shownSection(guest(context), String(context.param.snapname)),
    },
    {
      method: 'PUT',
      path: `${one}/config`,
      permissions: on(['VM.Snapshot']),
      parameters: { vmid, snapname, description: text },
      run: (context) => describeSnapshot(context, guest(context)),
    },
    {
      method: 'POST',
      path: `${one}/rollback`,
      permissions: on(['VM.Snapshot', 'VM.Snapshot.Rollback']),
      parameters: { vmid, snapname, start: flag },
      run: (context) => rollBack(context, guest(context)),
    },
  ];
}

/** Whether the storages of a guest's volumes can do this; a copy can always be made. */
function featureRow(type: Guest['type']): MethodRow {
  return {
    method: 'GET',
    path: `/nodes/{node}/${type}/{vmid}/feature`,
    permissions: on(['VM.Audit']),
    parameters: { vmid, feature: required(oneOf('snapshot', 'clone', 'copy')), snapname: snapshotName },
    run(context) {
      const { cluster, param } = context;
      const guest = guestOf(context, type);
      const can = { snapshot: canSnapshot, clone: canBeBase, copy: () => true }[String(param.feature)] ?? (() => false);
      const hasFeature = heldVolumes(cluster, guest, guest.config).every(({ volume }) => can(cluster, volume));
      return { hasFeature: hasFeature ? 1 : 0, ...(type === 'qemu' ? { nodes: [guest.node] } : {}) };
    },
  };
}

export const snapshotMethods: readonly MethodRow[] = [
  ...rowsFor('qemu'),
  ...rowsFor('lxc'),
  featureRow('qemu'),
  featureRow('lxc'),
];
