/** Whether the privileged token may do what this server needs it for. */

import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { call, succeeded, type Upstream } from '../pve/call.ts';
import { privilegesOn } from '../pve/rights.ts';

/** Without these nothing can be decided or done; `path` as PVE's access control names it. */
const essential: readonly { readonly path: string; readonly privileges: readonly string[] }[] = [
  {
    path: '/vms',
    privileges: [
      'VM.Allocate',
      'VM.Audit',
      'VM.Backup',
      'VM.Config.CDROM',
      'VM.Config.CPU',
      'VM.Config.Cloudinit',
      'VM.Config.Disk',
      'VM.Config.HWType',
      'VM.Config.Memory',
      'VM.Config.Network',
      'VM.Config.Options',
      'VM.PowerMgmt',
    ],
  },
  { path: '/storage', privileges: ['Datastore.Allocate', 'Datastore.AllocateSpace', 'Datastore.Audit'] },
  { path: '/pool', privileges: ['Pool.Audit'] },
  { path: '/nodes', privileges: ['Sys.Audit'] },
  { path: '/sdn', privileges: ['SDN.Use'] },
  { path: '/access', privileges: ['User.Modify'] },
];

/** More than a gate should hold: with these whoever gets at the token owns the cluster. */
const tooWide = ['Permissions.Modify', 'Sys.Modify', 'Sys.PowerMgmt', 'Sys.Console', 'Realm.Allocate'];

export interface TokenRights {
  readonly missing: readonly { readonly path: string; readonly privilege: string }[];
  readonly excess: readonly string[];
}

/** Reads the token's own rights. PVE 7.4 knows neither SDN.Use nor its path, so that is asked for from version 8 on. */
export async function readTokenRights(upstream: Upstream): Promise<TokenRights> {
  const service = { kind: 'service' } as const;
  const version = await upstream.send(call('GET', '/version'), service);
  if (!succeeded(version)) throw new Error(`PVE does not accept the API token: ${version.status} ${version.reason}`);
  const major = Number.parseInt(String((version.data as { version?: unknown } | null)?.version), 10);
  const missing: { path: string; privilege: string }[] = [];
  const excess = new Set<string>();
  for (const { path, privileges } of essential) {
    const answer = await upstream.send(call('GET', '/access/permissions', [], { path }), service);
    const held = privilegesOn(answer, path);
    if (held === null)
      throw new Error(`PVE does not tell the token's rights on ${path}: ${answer.status} ${answer.reason}`);
    const wanted = privileges.filter((privilege) => major >= 8 || !privilege.startsWith('SDN.'));
    for (const privilege of wanted) if (!held.has(privilege)) missing.push({ path, privilege });
    for (const privilege of tooWide) if (held.has(privilege)) excess.add(privilege);
  }
  return { missing, excess: [...excess] };
}

/** What an administrator has to type to mend it. */
export function remedyFor(
  { missing }: TokenRights,
  token: { readonly user: string; readonly realm: string; readonly id: string },
): string {
  const privileges = [...new Set(missing.map(({ privilege }) => privilege))].join(' ');
  const user = `${token.user}@${token.realm}`;
  return [
    `pveum role add QuotaProxy --privs "${privileges}" || pveum role modify QuotaProxy --append --privs "${privileges}"`,
    `pveum acl modify / --users ${user} --roles QuotaProxy`,
    `pveum acl modify / --tokens '${user}!${token.id}' --roles QuotaProxy`,
  ].join('\n');
}

/** Looks until the token has what is essential; says what is missing and how to mend it, once for each change of the finding. */
export async function awaitTokenRights(
  upstream: Upstream,
  token: { readonly user: string; readonly realm: string; readonly id: string },
  { log, signal, pauseMs = 5000 }: { log: Logger; signal: AbortSignal; pauseMs?: number },
): Promise<void> {
  let told = '';
  while (!signal.aborted) {
    try {
      const rights = await readTokenRights(upstream);
      if (rights.excess.length > 0 && told === '')
        log.warn(
          { privileges: rights.excess },
          'the API token may do more than this server needs: take these privileges away',
        );
      if (rights.missing.length === 0) return;
      const remedy = remedyFor(rights, token);
      if (remedy !== told)
        log.error(
          { missing: rights.missing },
          `the API token lacks rights, so nothing is admitted yet; on a PVE node, as root:\n${remedy}`,
        );
      told = remedy;
    } catch (error) {
      if (told !== 'away') log.warn({ err: error }, 'PVE cannot be asked about the API token yet; trying again');
      told = 'away';
    }
    await setTimeout(pauseMs, undefined, { signal }).catch(() => {});
  }
}
