/** Every method of the simulated cluster. */

import type { MethodRow } from '../method.ts';
import { accessMethods } from './access.ts';
import { clusterMethods } from './cluster.ts';
import { lxcMethods } from './lxc.ts';
import { nodeMethods } from './nodes.ts';
import { poolMethods } from './pools.ts';
import { qemuMethods } from './qemu.ts';
import { storageMethods } from './storage.ts';
import { taskMethods } from './tasks.ts';
import { ticketMethods } from './ticket.ts';
import { userMethods } from './users.ts';
import { versionMethods } from './version.ts';

export const methods: readonly MethodRow[] = [
  ...versionMethods,
  ...ticketMethods,
  ...accessMethods,
  ...userMethods,
  ...nodeMethods,
  ...qemuMethods,
  ...lxcMethods,
  ...storageMethods,
  ...taskMethods,
  ...clusterMethods,
  ...poolMethods,
];
