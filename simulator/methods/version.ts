/** What the API is: its root and its version. */

import type { MethodRow } from '../method.ts';

export const versionMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/',
    permissions: { user: 'all' },
    parameters: {},
    run: () => ['version', 'cluster', 'nodes', 'storage', 'access', 'pools'].map((subdir) => ({ subdir })),
  },
  {
    method: 'GET',
    path: '/version',
    permissions: { user: 'all' },
    parameters: {},
    run: ({ cluster }) => ({ ...cluster.version }),
  },
];
