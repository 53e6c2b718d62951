/** The table: every PVE method that this server admits, one row each. */

import { policyTable } from '../policy.ts';
import { backupPolicies } from './backup.ts';
import { consumingPolicies } from './consuming.ts';
import { powerPolicies } from './power.ts';
import { readPolicies } from './read.ts';
import { releasingPolicies } from './releasing.ts';
import { snapshotPolicies } from './snapshots.ts';

export const policies = [
  ...readPolicies,
  ...powerPolicies,
  ...backupPolicies,
  ...snapshotPolicies,
  ...consumingPolicies,
  ...releasingPolicies,
];

/** The row that admits a call; undefined when none does. */
export const policyFor = policyTable(policies);
