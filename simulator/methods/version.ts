/** GET /version. */

import type { MethodRow } from '../method.ts';

export const versionMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/version',
    permissions: { user: 'all' },
    parameters: {},
    run: ({ cluster }) => ({ ...cluster.version }),
  },
];
