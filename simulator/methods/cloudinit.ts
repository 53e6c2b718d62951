/** `/nodes/{node}/qemu/{vmid}/cloudinit`: what a VM is told when it starts for the first time. */

import { isCloudinit, isDriveKey, parseDrive } from '../drives.ts';
import { assertUnlocked, guestOf, pendingRows } from '../guests.ts';
import type { Context, MethodRow } from '../method.ts';
import { oneOf, required, vmid } from '../parameters.ts';
import { MiB } from '../sizes.ts';
import { allocate, splitVolid } from '../volumes.ts';

const path = '/nodes/{node}/qemu/{vmid}/cloudinit';
const told = /^(ci\w+|ipconfig\d+|nameserver|searchdomain|sshkeys|name|net\d+)$/;

/** Writes the drive anew; one whose volume is gone is made again. */
function regenerate(context: Context): null {
  const { cluster, node } = context;
  const guest = guestOf(context, 'qemu');
  assertUnlocked(guest);
  for (const [key, value] of guest.config) {
    const drive = isDriveKey(key) ? parseDrive(key, value) : {};
    const { file = '' } = drive;
    if (!isCloudinit(drive) || cluster.volumes.get(node, file) !== undefined) continue;
    const [format] = /(?<=\.)\w+$/.exec(file) ?? [];
    const place = { node, storage: splitVolid(file)?.storage ?? '', vmid: guest.vmid, role: 'cloudinit' };
    allocate(cluster, { ...place, content: 'images', bytes: 4 * MiB, ...(format === undefined ? {} : { format }) });
  }
  return null;
}

export const cloudinitMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path,
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Audit']] },
    parameters: { vmid },
    run: (context) => pendingRows(guestOf(context, 'qemu')).filter(({ key }) => told.test(String(key))),
  },
  {
    method: 'PUT',
    path,
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Config.Cloudinit']] },
    parameters: { vmid },
    run: regenerate,
  },
  {
    method: 'GET',
    path: `${path}/dump`,
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Audit']] },
    parameters: { vmid, type: required(oneOf('user', 'network', 'meta')) },
    run(context) {
      const { config, vmid: id } = guestOf(context, 'qemu');
      const name = config.get('name') ?? `VM${id}`;
      return context.param.type === 'user' ? `#cloud-config\nhostname: ${name}\n` : `instance-id: ${id}\n`;
    },
  },
];
