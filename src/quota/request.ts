/** What is asked of the ledger: to hold what a change takes. */

import type { GuestType } from '../pve/instance.ts';
import type { ExpectedFile, FileName } from './ledger-store.ts';
import type { Quota } from './limits.ts';
import type { Usage } from './usage.ts';

/** What a change would make of an instance. */
export interface Aim {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
  readonly pool: string | undefined;
  readonly after: Usage;
  /** The vmid must be free. */
  readonly creates: boolean;
  /** On a shelf: the file that it would then hold. */
  readonly file?: ExpectedFile;
}

export interface ReservationRequest {
  readonly by: string;
  readonly address: string;
  readonly call: string;
  /** The digest that the change was computed on, when PVE takes one. */
  readonly digest: string | undefined;
  readonly aims: readonly Aim[];
  /** The files that it copies, which have to stay as they were judged until it has ended. */
  readonly copies?: readonly FileName[];
  /** The guests that it copies from, as they are when PVE comes to it. */
  readonly sources?: readonly number[];
  /** The quotas of all payers, by user. */
  readonly quotas: ReadonlyMap<string, Quota>;
  /** Administrators: booked, never refused, and not recorded as payers of what they create. */
  readonly waived: boolean;
}

/** A payer's quota is needed and was not given: read it and ask again. */
export class QuotaNeeded extends Error {
  override readonly name = 'QuotaNeeded';
  readonly users: readonly string[];

  constructor(users: readonly string[]) {
    super(`quotas needed: ${users.join(', ')}`);
    this.users = users;
  }
}
