/** What the steps of the gate share. */

import type { Answer, Credential, Upstream } from '../pve/call.ts';
import type { Root } from '../pve/root.ts';
import type { TaskStatus } from '../pve/task.ts';
import type { Ledger } from '../quota/ledger.ts';
import type { UserRecord } from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';
import type { Allowances } from './allowances.ts';
import type { Inventory } from './inventory.ts';
import type { Payers } from './payers.ts';
import type { Settlement } from './settlement.ts';
import type { Turns } from './turns.ts';

/** What the gate works with. */
export interface Gate {
  readonly upstream: Upstream;
  readonly ledger: Ledger;
  readonly inventory: Inventory;
  readonly payers: Payers;
  readonly settlement: Settlement;
  readonly turns: Turns;
  /** The privilege on an instance that makes its holder more than an onlooker. */
  readonly operatorPrivilege: string;
  readonly resources: Resources;
  /** Further numeric configuration keys that are resources. */
  readonly counted: readonly string[];
  /** Where isos and container templates are on offer. */
  readonly media: { readonly node: string; readonly storage: string } | undefined;
  /** Where backups are made and counted. */
  readonly backupStorage: string | undefined;
  readonly allowances: Allowances;
  /** PVE's root, for what PVE takes from nobody else. */
  readonly root: Root;
}

/** A signed-in user, as the gate sees them. */
export interface Caller {
  /** `id@realm` */
  readonly user: string;
  readonly credential: Credential;
  readonly record: UserRecord;
  /** Where they call from, for the record of decisions. */
  readonly address: string;
}

/** What became of a call. */
export interface Outcome {
  readonly answer: Answer;
  /** Resolves when the change is settled, with the last status of PVE's task when there was one. Never rejects. */
  readonly settled: Promise<TaskStatus | undefined>;
}
