/** Starting and stopping: PVE's own access control decides; nothing is taken that was not booked before. */

import type { OwnPolicy } from '../policy.ts';

const actions = {
  qemu: ['start', 'stop', 'shutdown', 'reboot', 'reset', 'resume', 'suspend'],
  lxc: ['start', 'stop', 'shutdown', 'reboot', 'resume', 'suspend'],
} as const;

const refused = {
  todisk: 'suspending to disk writes the memory to a storage, which is not metered here yet',
  statestorage: 'suspending to disk writes the memory to a storage, which is not metered here yet',
  skiplock: 'locks belong to PVE',
};

export const powerPolicies: readonly OwnPolicy[] = Object.entries(actions).flatMap(([type, names]) =>
  names.map(
    (action): OwnPolicy => ({
      method: 'POST',
      path: `/nodes/{node}/${type}/{vmid}/status/${action}`,
      class: 'power',
      refused,
    }),
  ),
);
