/** Every method of the simulated cluster. */

import type { MethodRow } from '../method.ts';
import { accessMethods } from './access.ts';
import { agentMethods } from './agent.ts';
import { backupMethods } from './backups.ts';
import { bulkMethods } from './bulk.ts';
import { cloudinitMethods } from './cloudinit.ts';
import { clusterMethods } from './cluster.ts';
import { consoleMethods } from './consoles.ts';
import { copyMethods } from './copies.ts';
import { fileMethods } from './files.ts';
import { lxcMethods } from './lxc.ts';
import { mappingMethods } from './mappings.ts';
import { nodeMethods } from './nodes.ts';
import { poolMethods } from './pools.ts';
import { qemuMethods } from './qemu.ts';
import { realmMethods } from './realms.ts';
import { replicationMethods } from './replication.ts';
import { snapshotMethods } from './snapshots.ts';
import { statisticsMethods } from './statistics.ts';
import { storageMethods } from './storage.ts';
import { taskMethods } from './tasks.ts';
import { tfaMethods } from './tfa.ts';
import { ticketMethods } from './ticket.ts';
import { userMethods } from './users.ts';
import { versionMethods } from './version.ts';

export const methods: readonly MethodRow[] = [
  ...versionMethods,
  ...ticketMethods,
  ...accessMethods,
  ...realmMethods,
  ...userMethods,
  ...tfaMethods,
  ...nodeMethods,
  ...qemuMethods,
  ...agentMethods,
  ...cloudinitMethods,
  ...lxcMethods,
  ...bulkMethods,
  ...replicationMethods,
  ...snapshotMethods,
  ...consoleMethods,
  ...copyMethods,
  ...storageMethods,
  ...statisticsMethods,
  ...fileMethods,
  ...backupMethods,
  ...taskMethods,
  ...clusterMethods,
  ...mappingMethods,
  ...poolMethods,
];
