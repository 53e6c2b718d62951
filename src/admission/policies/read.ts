/** Calls that only look: PVE's own access control decides what the caller sees. */

import type { OwnPolicy } from '../policy.ts';

const read = (path: string, more: Partial<OwnPolicy> = {}): OwnPolicy => ({
  method: 'GET',
  path,
  class: 'read',
  ...more,
});

/** Reads that a guest's creator may make of it before PVE's own access control covers it. */
const ofGuest = ['qemu', 'lxc'].flatMap((type) =>
  ['config', 'pending', 'status/current'].map((what) =>
    read(`/nodes/{node}/${type}/{vmid}/${what}`, { ofGuest: true }),
  ),
);

export const readPolicies: readonly OwnPolicy[] = [
  ...ofGuest,
  ...['status', 'log'].map((what) => read(`/nodes/{node}/tasks/{upid}/${what}`, { ofTask: true })),
  read('/access/{*}'),
  read('/cluster/{*}'),
  read('/nodes'),
  read('/nodes/{node}'),
  ...[
    'capabilities',
    'hardware',
    'lxc',
    'network',
    'qemu',
    'rrddata',
    'status',
    'storage',
    'tasks',
    'time',
    'version',
  ].map((what) => read(`/nodes/{node}/${what}/{*}`)),
  read('/pools/{*}'),
  read('/storage/{*}'),
  read('/version'),
];
