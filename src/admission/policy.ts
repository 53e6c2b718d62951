/** What a policy is: the row of the table that admits a PVE method, and finding the row for a call. */

import type { Fault } from '../errors.ts';
import type { Call, Method, Params } from '../pve/call.ts';
import type { Config, GuestType, Instance } from '../pve/instance.ts';

/** What is wrong with a parameter's value, or null when nothing is. */
export type ValueCheck = (value: string) => string | null;

/** The parameters that a lifted call may carry; `net[n]` stands for `net0`, `net1`, ... */
export type ParameterTable = Readonly<Record<string, ValueCheck>>;

interface Row {
  readonly method: Method;
  /** `/nodes/{node}/qemu/{vmid}/config`; what the braces take is said below. */
  readonly path: string;
}

/** A call that goes with the caller's own credentials and takes nothing. */
export interface OwnPolicy extends Row {
  readonly class: 'read' | 'power' | 'console' | 'identity' | 'administration';
  /** Parameters with a reason for which this server refuses them although PVE might take them. */
  readonly refused?: Readonly<Record<string, string>>;
  /** Its answer concerns one guest's state, which the guest's creator may read while it is being made. */
  readonly ofGuest?: boolean;
  /** Its answer concerns one task, which the user for whom we started it may read. */
  readonly ofTask?: boolean;
}

/** A call that could take resources unmetered, whatever rights PVE gives: for administrators alone, with their own credentials. */
export interface ClosedPolicy extends Row {
  readonly class: 'closed';
  /** Why, and what to do instead. */
  readonly reason: string;
}

/** What a change of an instance needs to be judged. */
export interface Change {
  readonly before: Instance;
  /** The other guests that the call changes, or reads, by vmid. */
  readonly others: ReadonlyMap<number, Instance>;
  readonly params: Config;
  /** The values of the braces in the row's path. */
  readonly named: Named;
  /** Where backups are made and counted. */
  readonly backupStorage: string | undefined;
  /** What PVE answered to each question of the row; undefined where it refused to say. */
  readonly told: readonly unknown[];
}

/** The values of the braces in a row's path: `{ node: 'n1', vmid: '100' }`. */
export type Named = Readonly<Record<string, string | undefined>>;

/** A call that takes or gives back resources: judged, charged, and for tenants forwarded with the privileged token. */
export interface ChangePolicy extends Row {
  /** Releasing calls give back only, so they pass while nothing may grow. */
  readonly class: 'consuming' | 'releasing';
  readonly kind: 'create' | 'change' | 'destroy';
  /** The only type of guest that it is for; absent: both. */
  readonly type?: GuestType;
  /** Tells rows of one method and path apart; absent: always. */
  when?(params: Params): boolean;
  readonly params: ParameterTable;
  /** Parameters of which PVE takes an array; they are judged joined by commas. */
  readonly lists?: readonly string[];
  /**
   * The guests that the call changes, or makes; absent: the one that its path or its parameter `vmid` names. Null when
   * it names none, which PVE takes for all.
   */
  guests?(call: Asked): readonly number[] | null;
  /** Guests that it reads and leaves as they are: what a clone is made of, whose backup is brought back. */
  sources?(call: Asked): readonly number[];
  /** The node that a new guest would be on; absent: the one in the path. */
  node?(call: Asked): string | undefined;
  /** A privilege on a source that stands in for its being the caller's: what an administrator has shared in PVE. */
  readonly sourcePrivilege?: string;
  /** Storages whose list for the guest must be read anew before the change can be judged. */
  storages?(change: Change): readonly string[];
  /** Media that the call would use, which have to be on offer. */
  media?(params: Config): readonly Medium[];
  /** What only PVE knows and the projection needs, asked with the privileged token. */
  asks?(change: Change): readonly Call[];
  /** Why a tenant may not do this to this instance, whatever the quota. */
  objections?(change: Change): readonly Fault[];
  /** The instance as the call would leave it, asked for each guest that it changes. Pure: the charge is the difference. */
  project(change: Change): Instance;
  /** The parameters as they go to PVE, by the first guest; absent: as they came. */
  forward?(change: Change): Params;
  /** Whether PVE takes what is forwarded from root alone, whom the privileged token cannot stand in for. */
  needsRoot?(change: Change, forwarded: Params): boolean;
}

/** A volume that nobody owns: an iso image, or a container template. */
export interface Medium {
  /** The parameter that names it. */
  readonly field: string;
  readonly volid: string;
  readonly content: 'iso' | 'vztmpl';
}

/** Whether PVE accepts `digest`, so that the change applies to the configuration that it was judged on or not at all. */
export function takesDigest({ params }: ChangePolicy): boolean {
  return Object.hasOwn(params, 'digest');
}

/** A call as far as it says which guests it is about. */
export interface Asked {
  readonly params: Params;
  readonly named: Named;
}

export type Policy = OwnPolicy | ClosedPolicy | ChangePolicy;

/** A call that has found its row, with the values of the row's braces. */
export interface Resolved {
  readonly policy: Policy;
  readonly named: Named;
}

interface Compiled {
  readonly policy: Policy;
  readonly parts: readonly string[];
}

/** A part in braces takes only what PVE would understand as such a thing and nothing else. */
const braces: Readonly<Record<string, RegExp>> = {
  '{node}': /^(?!localhost$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/i,
  '{vmid}': /^[1-9][0-9]{2,8}$/,
  '{upid}': /^UPID:[^\s/]+:$/,
  '{snapshot}': /^[A-Za-z][A-Za-z0-9_-]{1,39}$/,
  '{storage}': /^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$/,
  // With or without its storage, as PVE takes it.
  '{backup}': /^(?:[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:)?backup\/[A-Za-z0-9._:+/-]+$/,
};

/** What finding a row looks at: parameters as far as they are known. */
type Sought = Pick<Call, 'method' | 'segments' | 'params'>;

/** Makes the function that finds the row for a call; undefined when no row admits it. Of several rows the first that fits is taken. */
export function policyTable(rows: readonly Policy[]): (sought: Sought) => Resolved | undefined {
  const byMethod = Map.groupBy(
    rows.map((policy): Compiled => ({ policy, parts: policy.path.split('/').filter((part) => part !== '') })),
    ({ policy }) => policy.method,
  );
  return ({ method, segments, params }) => {
    const found = byMethod
      .get(method)
      ?.find(
        ({ policy, parts }) => matches(parts, segments) && (!('when' in policy) || policy.when?.(params) !== false),
      );
    if (found === undefined) return undefined;
    const named = found.parts.flatMap((part, index) => (part in braces ? [[part.slice(1, -1), segments[index]]] : []));
    return { policy: found.policy, named: Object.fromEntries(named) };
  };
}

function matches(parts: readonly string[], segments: readonly string[]): boolean {
  const rest = parts.at(-1) === '{*}';
  if (rest ? segments.length < parts.length - 1 : segments.length !== parts.length) return false;
  return parts.every(
    (part, index) => part === '{*}' || part === segments[index] || braces[part]?.test(segments[index] ?? '') === true,
  );
}

/** Parameters that PVE keeps for root, or that reach beyond the tenant: refused with this reason on lifted calls. */
const beyondTenants: Readonly<Record<string, string>> = {
  args: 'raw QEMU arguments are for root alone',
  hookscript: 'scripts on the host are for root alone',
  lock: 'locks belong to PVE',
  skiplock: 'locks belong to PVE',
  'ha-managed': 'high availability is set up by administrators',
  startup: 'the start order of the host is set up by administrators',
  affinity: 'pinning host CPUs is for root alone',
  arch: 'another architecture is for root alone',
  hugepages: 'huge pages of the host are for root alone',
  keephugepages: 'huge pages of the host are for root alone',
  ivshmem: 'shared memory with the host is for root alone',
  unprivileged: 'containers made here are unprivileged',
  cicustom: 'snippets on the host are not yours',
  'hostpci[n]': 'only VMs take devices',
  'usb[n]': 'devices of the host are not passed through here',
  'parallel[n]': 'devices of the host are for root alone',
  'virtiofs[n]': 'a shared host directory has no limit',
  'dev[n]': 'devices of the host are for root alone',
};

/** What a table says of a parameter, by its name or else by its family's. */
function entryFor<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  const key = Object.hasOwn(table, name) ? name : name.replace(/\d{1,3}$/, '[n]');
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

/** Every parameter that the row does not name, or whose value it does not take. */
export function parameterFaults(table: ParameterTable, params: Params): Fault[] {
  const faults: Fault[] = [];
  for (const [field, value] of Object.entries(params)) {
    const check = entryFor(table, field);
    const reason = entryFor(beyondTenants, field);
    if (check === undefined)
      faults.push({
        field,
        problem: reason === undefined ? 'this call does not take it here' : `not allowed: ${reason}`,
      });
    else if (typeof value !== 'string') faults.push({ field, problem: 'give it once' });
    else {
      const problem = check(value);
      if (problem !== null) faults.push({ field, problem });
    }
  }
  return faults;
}
