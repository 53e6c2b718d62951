/** Keeps the ledger's claims and quotas in step with the directory of users. */

import type { Logger } from 'pino';
import { parseUserName } from '../backends/backend.ts';
import type { Directory } from '../backends/directory.ts';
import type { Claim, Ledger } from '../quota/ledger.ts';
import { type Quota, quotaOf } from '../quota/limits.ts';
import { grantedNames, type UserRecord } from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';

/** How long claims are believed when no backend tells of a change, in ms. */
const believedFor = 5000;

export class Payers {
  readonly #directory: Directory;
  readonly #ledger: Ledger;
  readonly #resources: Resources;
  readonly #log: Pick<Logger, 'warn'>;
  #version = Number.NaN;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;
  /** A backend was away at the last attempt: the claims are those of before. */
  #isBehind = false;

  constructor(directory: Directory, ledger: Ledger, resources: Resources, log: Pick<Logger, 'warn'>) {
    this.#directory = directory;
    this.#ledger = ledger;
    this.#resources = resources;
    this.#log = log;
  }

  /**
   * Makes sure that the ledger knows who claims what, as of now or a moment ago. While a backend is away the claims of
   * before stand, and nobody waits for it: what its users may have is asked for anew by `quota`, for them alone.
   */
  async refresh(): Promise<void> {
    const stale = this.#version !== this.#directory.version() || performance.now() - this.#readAt > believedFor;
    if (!stale && this.#reading === undefined) return;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    if (this.#isBehind) this.#reading.catch(() => {});
    else await this.#reading;
  }

  /** A user's limits in real amounts. */
  async quota(user: string): Promise<Quota> {
    const name = parseUserName(user);
    if (name === null) throw new TypeError(`${user} is no user name`);
    return quotaOf(user, await this.#directory.record(name), this.#resources);
  }

  async #read(): Promise<void> {
    const version = this.#directory.version();
    const records = await this.#directory.records().catch((error: unknown) => {
      if (this.#readAt === Number.NEGATIVE_INFINITY) throw error;
      if (!this.#isBehind)
        this.#log.warn({ err: error }, 'a backend is away: who pays for which guest stays as it was last known');
      this.#isBehind = true;
      return null;
    });
    if (records === null) return;
    this.#isBehind = false;
    this.#ledger.setClaims([...records].flatMap(([user, record]) => claimOf(user, record)));
    this.#ledger.reloadOwners();
    this.#version = version;
    this.#readAt = performance.now();
  }
}

/** What a user's record lays claim to. Administrators pay only for what is recorded as theirs: their ranges would cover everybody's. */
export function claimOf(user: string, { cluster }: UserRecord): Claim[] {
  if (cluster.admin) return [];
  return [{ user, vmid: cluster.vmid, pools: new Set(grantedNames(cluster.pools)) }];
}
