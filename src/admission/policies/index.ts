/** The table: every PVE method that this server admits, one row each. */

import type { Policy } from '../policy.ts';
import { policyTable } from '../policy-table.ts';
import { administrationPolicies } from './administration.ts';
import { backupPolicies } from './backup.ts';
import { bulkPolicies } from './bulk.ts';
import { closedPolicies } from './closed.ts';
import { consolePolicies } from './console.ts';
import { consumingPolicies } from './consuming.ts';
import { copyPolicies } from './copies.ts';
import { diskPolicies } from './disks.ts';
import { filePolicies } from './files.ts';
import { identityPolicies } from './identity.ts';
import { poolPolicies } from './pools.ts';
import { powerPolicies } from './power.ts';
import { readPolicies } from './read.ts';
import { releasingPolicies } from './releasing.ts';
import { replicationPolicies } from './replication.ts';
import { restorePolicies } from './restore.ts';
import { snapshotPolicies } from './snapshots.ts';
import { volumePolicies } from './volumes.ts';

/** Of several rows for one path, those that are told apart by a parameter come first. */
export const policies: readonly Policy[] = [
  ...backupPolicies,
  ...restorePolicies,
  ...filePolicies,
  ...snapshotPolicies,
  ...consumingPolicies,
  ...diskPolicies,
  ...copyPolicies,
  ...volumePolicies,
  ...poolPolicies,
  ...bulkPolicies,
  ...replicationPolicies,
  ...releasingPolicies,
  ...readPolicies,
  ...powerPolicies,
  ...consolePolicies,
  ...identityPolicies,
  ...administrationPolicies,
  ...closedPolicies,
];

/** The row that admits a call; undefined when none does. */
export const policyFor = policyTable(policies);
