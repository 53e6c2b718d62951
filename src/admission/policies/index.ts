/** The table: every PVE method that this server admits, one row each. */

import { policyTable } from '../policy.ts';
import { consumingPolicies } from './consuming.ts';
import { powerPolicies } from './power.ts';
import { readPolicies } from './read.ts';
import { releasingPolicies } from './releasing.ts';

export const policies = [...readPolicies, ...powerPolicies, ...consumingPolicies, ...releasingPolicies];

/** The row that admits a call; undefined when none does. */
export const policyFor = policyTable(policies);
