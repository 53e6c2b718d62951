/** What a policy is: the row of the table that admits a PVE method. */

import type { Fault } from '../errors.ts';
import { beyondGuest, beyondMeasure, entryFor, isAllowed } from '../pve/beyond.ts';
import type { Answer, Call, Method, Params } from '../pve/call.ts';
import type { Config, GuestType, Host, Instance } from '../pve/instance.ts';
import type { ExpectedFile } from '../quota/ledger.ts';
import type { Allowances } from './allowances.ts';
import type { Caller, Gate } from './gate.ts';

/** What is wrong with a parameter's value, or null when nothing is; `allowed` names parameters that the configuration opens to all. */
export type ValueCheck = (value: string, allowed?: readonly string[]) => string | null;

/** The parameters that a lifted call may carry; `net[n]` stands for `net0`, `net1`, ... */
export type ParameterTable = Readonly<Record<string, ValueCheck>>;

interface Row {
  readonly method: Method;
  /** `/nodes/{node}/qemu/{vmid}/config`; what braces take depends on the name in them. */
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
  /** Answers a tenant where PVE, which does not know what this server does for them, would mislead them. */
  readonly answer?: OwnAnswer;
}

/** The answer in place of PVE's own; undefined where that one is right. Throws ApiError. */
export type OwnAnswer = (gate: Gate, asked: Call, caller: Caller) => Promise<Answer | undefined>;

/** A call that could take resources unmetered, whatever rights PVE gives: for administrators alone, with their own credentials. */
export interface ClosedPolicy extends Row {
  readonly class: 'closed';
  /** Why, and what to do instead. */
  readonly reason: string;
}

/** What a change of an instance needs to be judged. */
export interface Change extends Asked {
  readonly before: Instance;
  /** The node where the instance will be. */
  readonly target: Host;
  /** The other guests that the call changes, or reads, by vmid. */
  readonly others: ReadonlyMap<number, Instance>;
  /** Those that it only reads because PVE lets the caller, by the row's `sourcePrivilege`. */
  readonly shared: ReadonlySet<number>;
  readonly params: Config;
  /** Where backups are made and counted. */
  readonly backupStorage: string | undefined;
  /** The file that the call would leave on a shelf. */
  readonly file?: ExpectedFile;
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
  /** Parameters that hold a list in one text, which PVE joins where the name is repeated; joined they go on. */
  readonly joined?: readonly string[];
  /**
   * The guests that the call changes, or makes; absent: the one that its path or its parameter `vmid` names. Null when
   * it names none, which PVE takes for all.
   */
  guests?(call: Asked): readonly number[] | null;
  /** Guests that it reads and leaves as they are: what a clone is made of, whose backup is brought back. */
  sources?(call: Asked): readonly number[];
  /** The node on which the guests, or copies of them, would then be; absent: the one in the path, or where they are. */
  node?(call: Asked): string | undefined;
  /** The pool that the guests would go into. */
  pool?(call: Asked): string | undefined;
  /** It is about volumes, which may lie under a vmid that no guest has any more. */
  readonly ofVolumes?: boolean;
  /** It takes what its sources hold when PVE comes to copy them, which may be after its answer. */
  readonly copiesSources?: true;
  /** It changes what a copy of the guest may be made of, although nothing grows. */
  readonly changesCopies?: true;
  /** It leaves the guest as it is and takes nothing but this resource. */
  readonly takesOnly?: string;
  /** A privilege on a source that stands in for its being the caller's: what an administrator has shared in PVE. */
  readonly sourcePrivilege?: string;
  /** Storages whose list for the guest must be read anew before the change can be judged. */
  storages?(change: Change): readonly string[];
  /** Media that the call would use, which have to be on offer. */
  media?(params: Config): readonly Medium[];
  /** What only PVE knows and the projection needs, asked with the privileged token. */
  asks?(change: Change): readonly Call[];
  /** What is to be asked once the answers to these are there. */
  asksThen?(change: Change): readonly Call[];
  /** Whether the projection needs to know the devices of the target node. */
  devices?(change: Change): boolean;
  /** The same parameters without PVE's other names for them. */
  canonical?(params: Config): Config;
  /** A `digest` that it takes is not that of the guest's configuration, and goes to PVE as it came. */
  readonly hasOwnDigest?: true;
  /** It is about a file that belongs to no guest; what it changes is then the shelf of the file's owner. */
  readonly file?: FileRow;
  /**
   * The configuration that a guest gets from elsewhere than its parameters, and the parameter that says from where;
   * undefined where an administrator hands it out.
   */
  brings?(change: Change): { readonly field: string; readonly config: Config } | undefined;
  /** Why a tenant may not do this to this instance, whatever the quota. */
  objections?(change: Change): readonly Fault[];
  /** The instance as the call would leave it, asked for each guest that it changes. Pure: the charge is the difference. */
  project(change: Change): Instance;
  /** The method by which it goes to PVE, where that is another one. */
  sentBy?(change: Change): Method | undefined;
  /** The parameters as they go to PVE, by the first guest; absent: as they came. */
  forward?(change: Change): Params;
  /** Whether PVE takes what is forwarded from root alone, whom the privileged token cannot stand in for. */
  needsRoot?(change: Change, forwarded: Params): boolean;
}

/** How a row tells which file its call is about. */
export interface FileRow {
  /** The parameter that says, in the end, what it holds; absent: `url`. */
  readonly source?: string;
  /** The file's volume id, or what is wrong with its name. */
  volid(call: Asked): string | Fault;
  /** The most bytes that the file will then have; null when that cannot be told. Absent: the call makes no file. */
  bytes?(change: Change): number | null;
}

/** A volume that no guest owns: an iso image, a container template, something to import, a snippet. */
export interface Medium {
  /** The parameter that names it. */
  readonly field: string;
  readonly volid: string;
  readonly content: 'iso' | 'vztmpl' | 'import' | 'snippets';
}

/** Whether PVE accepts `digest`, so that the change applies to the configuration that it was judged on or not at all. */
export function takesDigest({ params, hasOwnDigest }: ChangePolicy): boolean {
  return Object.hasOwn(params, 'digest') && hasOwnDigest !== true;
}

/** A call as far as it says which guests it is about. */
export interface Asked {
  readonly params: Params;
  /** The values of the braces in the row's path. */
  readonly named: Named;
  readonly allowances: Allowances;
  /** Of an upload: the most bytes that the file may have. */
  readonly sent?: number;
}

export type Policy = OwnPolicy | ClosedPolicy | ChangePolicy;

/** A call that has found its row, with the values of the row's braces. */
export interface Resolved {
  readonly policy: Policy;
  readonly named: Named;
}

/** Every parameter that the row does not name, or whose value it does not take; those that are allowed by name may hold anything. */
export function parameterFaults(table: ParameterTable, params: Params, allowed: readonly string[] = []): Fault[] {
  const faults: Fault[] = [];
  for (const [field, value] of Object.entries(params)) {
    const check = isAllowed(allowed, field) ? () => null : entryFor(table, field);
    const reason = entryFor<string>(beyondGuest, field) ?? entryFor<string>(beyondMeasure, field);
    if (check === undefined)
      faults.push({
        field,
        problem: reason === undefined ? 'this call does not take it here' : `not allowed: ${reason}`,
      });
    else if (typeof value !== 'string') faults.push({ field, problem: 'give it once' });
    else {
      const problem = check(value, allowed);
      if (problem !== null) faults.push({ field, problem });
    }
  }
  return faults;
}
