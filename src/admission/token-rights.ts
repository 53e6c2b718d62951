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

/** A privilege on a path, as PVE's access control names them. */
interface Wanted {
  readonly path: string;
  readonly privilege: string;
}

/** Without these some calls of tenants are refused by PVE. */
const useful: readonly (Wanted & { readonly for: string })[] = [
  { path: '/vms', privilege: 'VM.Clone', for: 'clones' },
  { path: '/vms', privilege: 'VM.Migrate', for: 'migrations' },
  { path: '/vms', privilege: 'VM.Replicate', for: 'replication' },
  { path: '/vms', privilege: 'VM.Snapshot', for: 'snapshots' },
  { path: '/vms', privilege: 'VM.Snapshot.Rollback', for: 'going back to snapshots' },
  { path: '/storage', privilege: 'Datastore.AllocateTemplate', for: 'uploads and downloads' },
  { path: '/pool', privilege: 'Pool.Allocate', for: 'moves between pools' },
  { path: '/mapping', privilege: 'Mapping.Use', for: 'mapped devices' },
];

/** More than a gate should hold: with these whoever gets at the token owns the cluster. */
const tooWide = ['Permissions.Modify', 'Sys.Modify', 'Sys.PowerMgmt', 'Sys.Console', 'Realm.Allocate'];

export interface TokenRights {
  readonly missing: readonly Wanted[];
  /** Privileges that only some calls need, with what will not work. */
  readonly lacking: readonly (Wanted & { readonly for: string })[];
  readonly excess: readonly string[];
}

/**
 * Reads the token's own rights. PVE 7.4 knows neither SDN.Use nor Mapping.Use, so those are wanted from version 8 on, and
 * VM.Replicate, in whose place there was Datastore.Allocate, from version 9 on.
 */
export async function readTokenRights(upstream: Upstream): Promise<TokenRights> {
  const service = { kind: 'service' } as const;
  const version = await upstream.send(call('GET', '/version'), service);
  if (!succeeded(version)) {
    const answer = `${version.status} ${version.reason}`;
    throw new Error(
      version.status === 401
        ? `PVE does not accept the API token: ${answer}. Check user, realm, id and uuid of "token"; a secret that is lost needs a new token`
        : `PVE does not tell its version: ${answer}. Check that "url" names a PVE host, by https`,
    );
  }
  const major = Number.parseInt(String((version.data as { version?: unknown } | null)?.version), 10);
  const isKnown = ({ privilege }: Wanted) =>
    privilege === 'VM.Replicate' ? major >= 9 : major >= 8 || !/^(?:SDN|Mapping)\./.test(privilege);
  const needed = essential
    .flatMap(({ path, privileges }) => privileges.map((privilege) => ({ path, privilege })))
    .filter(isKnown);
  const wished = useful.filter(isKnown);
  const held = new Map<string, ReadonlySet<string>>();
  for (const path of new Set([...needed, ...wished].map((row) => row.path))) {
    const answer = await upstream.send(call('GET', '/access/permissions', [], { path }), service);
    const privileges = privilegesOn(answer, path);
    if (privileges === null)
      throw new Error(`PVE does not tell the token's rights on ${path}: ${answer.status} ${answer.reason}`);
    held.set(path, privileges);
  }
  const lacks = ({ path, privilege }: Wanted) => held.get(path)?.has(privilege) !== true;
  const excess = tooWide.filter((privilege) => held.values().some((privileges) => privileges.has(privilege)));
  return { missing: needed.filter(lacks), lacking: wished.filter(lacks), excess };
}

/** What an administrator has to type to mend it. */
export function remedyFor(
  { missing, lacking }: TokenRights,
  token: { readonly user: string; readonly realm: string; readonly id: string },
): string {
  const privileges = [...new Set([...missing, ...lacking].map(({ privilege }) => privilege))].join(' ');
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
      const remedy = remedyFor(rights, token);
      if (rights.missing.length === 0) {
        if (rights.lacking.length > 0)
          log.warn(
            { lacking: rights.lacking.map(({ path, privilege }) => `${privilege} on ${path}`) },
            `the API token lacks rights, so these will not work: ${[...new Set(rights.lacking.map((one) => one.for))].join(', ')}; on a PVE node, as root:\n${remedy}`,
          );
        return;
      }
      if (remedy !== told)
        log.error(
          { missing: rights.missing },
          `the API token lacks rights, so nothing is admitted yet; on a PVE node, as root:\n${remedy}`,
        );
      told = remedy;
    } catch (error) {
      log.warn({ err: error }, 'PVE cannot be asked about the API token yet; trying again');
    }
    await setTimeout(pauseMs, undefined, { signal }).catch(() => {});
  }
}
