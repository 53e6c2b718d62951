/** Looking into guests and nodes, and typing there: PVE's own access control decides; guests stay as large as they are. */

import type { OwnPolicy } from '../policy.ts';
import { ownRows } from './rows.ts';

export const consolePolicies: readonly OwnPolicy[] = ownRows(
  'console',
  `
  POST /nodes/{node}/qemu|lxc/{vmid}/spiceproxy
  POST /nodes/{node}/qemu|lxc/{vmid}/termproxy
  POST /nodes/{node}/qemu|lxc/{vmid}/vncproxy
  GET /nodes/{node}/qemu|lxc/{vmid}/vncwebsocket
  PUT /nodes/{node}/qemu/{vmid}/sendkey

  POST /nodes/{node}/spiceshell
  POST /nodes/{node}/termproxy
  POST /nodes/{node}/vncshell
  GET /nodes/{node}/vncwebsocket

  POST /nodes/{node}/qemu/{vmid}/agent
  POST /nodes/{node}/qemu/{vmid}/agent/exec
  POST /nodes/{node}/qemu/{vmid}/agent/file-write
  POST /nodes/{node}/qemu/{vmid}/agent/fsfreeze-freeze
  POST /nodes/{node}/qemu/{vmid}/agent/fsfreeze-status
  POST /nodes/{node}/qemu/{vmid}/agent/fsfreeze-thaw
  POST /nodes/{node}/qemu/{vmid}/agent/fstrim
  POST /nodes/{node}/qemu/{vmid}/agent/ping
  POST /nodes/{node}/qemu/{vmid}/agent/set-user-password
  `,
);
