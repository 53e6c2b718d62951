/** Calls that only give back: what they free counts when PVE shows that it is gone. */

import type { GuestType } from '../../pve/instance.ts';
import { destroyed } from '../../pve/projections.ts';
import type { ChangePolicy } from '../policy.ts';
import { flag } from './values.ts';

function destroy(type: GuestType): ChangePolicy {
  return {
    class: 'releasing',
    kind: 'destroy',
    type,
    method: 'DELETE',
    path: `/nodes/{node}/${type}/{vmid}`,
    params: { purge: flag, 'destroy-unreferenced-disks': flag, ...(type === 'lxc' ? { force: flag } : {}) },
    project: ({ before }) => destroyed(before),
  };
}

export const releasingPolicies: readonly ChangePolicy[] = [destroy('qemu'), destroy('lxc')];
