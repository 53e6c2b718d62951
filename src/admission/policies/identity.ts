/** Who users are and what they may do in PVE: PVE lets users change their own passwords, factors and tokens, and some change others'. */

import type { OwnPolicy } from '../policy.ts';
import { ownRows } from './rows.ts';

export const identityPolicies: readonly OwnPolicy[] = ownRows(
  'identity',
  `
  PUT /access/acl
  POST /access/domains
  PUT DELETE /access/domains/{realm}
  POST /access/domains/{realm}/sync
  POST /access/groups
  PUT DELETE /access/groups/{groupid}
  POST /access/openid/auth-url
  POST /access/openid/login
  PUT /access/password
  POST /access/roles
  PUT DELETE /access/roles/{roleid}
  POST /access/tfa
  POST /access/tfa/{userid}
  PUT DELETE /access/tfa/{userid}/{id}
  POST /access/ticket
  POST /access/users
  PUT DELETE /access/users/{userid}
  POST PUT DELETE /access/users/{userid}/token/{tokenid}
  PUT /access/users/{userid}/unlock-tfa
  POST /access/vncticket
  POST PUT DELETE /cluster/jobs/realm-sync/{id}
  `,
);
