/** Calls that could take what nobody meters, whatever rights PVE gives for them: administrators alone may make them. */

import type { ClosedPolicy } from '../policy.ts';
import { closedRows } from './rows.ts';

export const closedPolicies: readonly ClosedPolicy[] = [
  // With our token's rights a tenant could have the nodes connect to any host and port that the nodes can reach.
  ...closedRows(
    'the node would connect to whatever address the call names; back the guest up and restore it in the other cluster',
    'POST /nodes/{node}/qemu|lxc/{vmid}/remote_migrate',
  ),
  ...closedRows(
    'what another cluster sends through it, disks and configuration, is not metered; restore a backup of the guest here',
    `
    POST /nodes/{node}/qemu|lxc/{vmid}/mtunnel
    GET /nodes/{node}/qemu|lxc/{vmid}/mtunnelwebsocket
    `,
  ),
  ...closedRows(
    'the monitor changes the VM past its configuration; use the configuration, or the guest agent',
    'POST /nodes/{node}/qemu/{vmid}/monitor',
  ),
  ...closedRows('it runs any other calls in one; make these one by one', 'POST /nodes/{node}/execute'),
  ...closedRows(
    'whose the copy would be cannot be told; use clone, or move a disk',
    'POST /nodes/{node}/storage/{storage}/content/{volume}',
  ),
  // PVE keeps all of them in one directory of the node, so one container would wake up with what another has left.
  ...closedRows(
    'the memory of a suspended container is written to a disk of its node, unmetered; stop it instead',
    'POST /nodes/{node}/lxc/{vmid}/status/suspend',
  ),
  ...closedRows(
    'the memory of a suspended container lies on its node, where it may be of another one; start it instead',
    'POST /nodes/{node}/lxc/{vmid}/status/resume',
  ),
  // Backups, files and images of guests have rows of their own, which come first.
  ...closedRows(
    'the name of this volume does not tell whose it is; ask an administrator',
    'PUT DELETE /nodes/{node}/storage/{storage}/content/{volume}',
  ),
];
