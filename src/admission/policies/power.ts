/** Starting and stopping: PVE's own access control decides; nothing is taken that was not booked before. */

import type { OwnPolicy } from '../policy.ts';
import { ownRows } from './rows.ts';

/** Only the one form that has a row of its own, where the state is metered, passes. */
const toDisk = 'suspending to disk writes the memory to a storage; ask for it with 1';

export const powerPolicies: readonly OwnPolicy[] = [
  ...ownRows(
    'power',
    `
    POST /nodes/{node}/qemu/{vmid}/status/reset
    POST /nodes/{node}/qemu|lxc/{vmid}/status/reboot
    POST /nodes/{node}/qemu/{vmid}/status/resume
    POST /nodes/{node}/qemu|lxc/{vmid}/status/shutdown
    POST /nodes/{node}/qemu|lxc/{vmid}/status/start
    POST /nodes/{node}/qemu|lxc/{vmid}/status/stop

    POST /nodes/{node}/qemu/{vmid}/agent/shutdown
    POST /nodes/{node}/qemu/{vmid}/agent/suspend-disk
    POST /nodes/{node}/qemu/{vmid}/agent/suspend-hybrid
    POST /nodes/{node}/qemu/{vmid}/agent/suspend-ram

    POST /cluster/bulk-action/guest/shutdown
    POST /cluster/bulk-action/guest/start
    POST /nodes/{node}/startall
    POST /nodes/{node}/stopall
    `,
  ),
  ...ownRows('power', 'POST /nodes/{node}/qemu/{vmid}/status/suspend', {
    refused: { todisk: toDisk },
  }),
  ...ownRows('power', 'POST /cluster/bulk-action/guest/suspend', {
    refused: { 'to-disk': toDisk },
  }),
  ...ownRows('power', 'DELETE /nodes/{node}/tasks/{upid}', { ofTask: true }),
];
