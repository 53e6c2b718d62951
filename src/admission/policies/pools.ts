/** Pools: tenants may move guests of theirs between pools of theirs; who pays stays as it is. */

import { parseList } from '../../pve/projections.ts';
import type { Asked, ChangePolicy } from '../policy.ts';
import { flag, poolId, vmids } from './values.ts';

const join: Omit<ChangePolicy, 'path' | 'params'> = {
  class: 'consuming',
  kind: 'change',
  method: 'PUT',
  joined: ['vms'],
  guests: ({ params: { vms = [] } }: Asked) => [vms].flat().flatMap(parseList).map(Number),
  pool: ({ named, params }) => named.poolid ?? (typeof params.poolid === 'string' ? params.poolid : ''),
  project: ({ before }) => before,
};

export const poolPolicies: readonly ChangePolicy[] = [
  { ...join, path: '/pools/{poolid}', params: { vms: vmids, 'allow-move': flag } },
  { ...join, path: '/pools', params: { poolid: poolId, vms: vmids, 'allow-move': flag } },
];
