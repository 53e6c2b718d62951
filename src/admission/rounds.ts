/** Looks at PVE now and again, so that what the ledger has last seen does not grow old. */

import type { Logger } from 'pino';
import { UpstreamDeadlineError, UpstreamUnreachableError } from '../errors.ts';
import { drivesOf, type Instance, volumeOwner } from '../pve/instance.ts';
import type { Ledger } from '../quota/ledger.ts';
import type { Inventory } from './inventory.ts';

/** Seconds between two looks. */
export interface Refresh {
  /** Guests, nodes and storages as PVE lists them. */
  readonly resources: number;
  /** The content of each storage. */
  readonly storage: number;
  /** The configuration of every guest, spread over this time. */
  readonly sweep: number;
}

export interface RoundsOptions {
  readonly inventory: Inventory;
  readonly ledger: Ledger;
  readonly log: Logger;
  readonly refresh: Refresh;
}

/** How many instances are looked at side by side. */
const width = 8;

export class Rounds {
  readonly #options: RoundsOptions;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** What is left of the present sweep over all guests. */
  #sweep: number[] = [];
  /** Guests of it that are due: of few guests a fraction of one in each second. */
  #due = 0;
  #looking: Promise<void> | undefined;
  /** When rounds began to fail. */
  #awaySince: number | undefined;
  #closed = false;

  constructor(options: RoundsOptions) {
    this.#options = options;
  }

  /** Begins to look, now and again and again, until closed; PVE being away only delays it. */
  start(): void {
    const { inventory, log, refresh } = this.#options;
    this.#every(refresh.resources, async () => {
      await inventory.list();
      await this.#lookAtStale();
      if (this.#awaySince !== undefined)
        log.info({ seconds: Math.round((performance.now() - this.#awaySince) / 1000) }, 'PVE can be looked at again');
      this.#awaySince = undefined;
    });
    this.#every(refresh.storage, () => inventory.listStorages());
    this.#every(1, () => this.#continueSweep());
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** Reads everything anew: lists, storages, and every instance. */
  async all(): Promise<void> {
    const { inventory } = this.#options;
    await inventory.list();
    await inventory.listStorages();
    for (const vmid of inventory.guests.keys()) inventory.stale.add(vmid);
    await this.#looking?.catch(() => {});
    await this.#lookAtStale();
  }

  /** The next part of all guests, so that each is looked at once in the sweep's time; and whatever else wants a look. */
  async #continueSweep(): Promise<void> {
    const { inventory, refresh } = this.#options;
    if (this.#sweep.length === 0) this.#sweep = [...inventory.guests.keys()];
    this.#due += inventory.guests.size / refresh.sweep;
    for (const vmid of this.#sweep.splice(0, this.#due)) inventory.stale.add(vmid);
    this.#due %= 1;
    await this.#lookAtStale();
  }

  /** Looks at what wants a look, a few at a time; everybody who asks meanwhile shares the work. */
  #lookAtStale(): Promise<void> {
    this.#looking ??= this.#takeLooks().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #takeLooks(): Promise<void> {
    const { stale } = this.#options.inventory;
    const worker = async () => {
      for (const vmid of stale) {
        if (this.#closed) return;
        stale.delete(vmid);
        await this.#lookAt(vmid);
      }
    };
    await Promise.all(Array.from({ length: width }, worker));
  }

  /** Looks at one guest for the ledger. Trouble with that guest alone is logged; PVE being away ends the round. */
  async #lookAt(vmid: number): Promise<void> {
    const { inventory, ledger, log } = this.#options;
    const guest = inventory.guests.get(vmid);
    if (guest === undefined) return;
    try {
      const { sighting, stamp } = await inventory.look(guest, unlisted);
      ledger.see(sighting, stamp);
    } catch (error) {
      if (error instanceof UpstreamUnreachableError || error instanceof UpstreamDeadlineError) {
        inventory.stale.add(vmid);
        throw error;
      }
      log.warn({ vmid, err: error }, 'the instance could not be looked at');
    }
  }

  /** Does `work` now and every so many seconds after it has ended; a failure is logged and the next round tries again. */
  #every(seconds: number, work: () => Promise<void>, first = 0): void {
    if (this.#closed) return;
    const run = async () => {
      this.#timers.delete(timer);
      try {
        await work();
      } catch (error) {
        this.#options.log.warn({ err: error }, 'PVE could not be looked at; trying again');
        this.#awaySince ??= performance.now();
      }
      // Until the first lists are there, nothing can be decided: then sooner.
      this.#every(seconds, work, this.#options.inventory.ready ? seconds : Math.min(seconds, 1));
    };
    const timer = setTimeout(run, first * 1000);
    this.#timers.add(timer);
  }
}

/** The storages of volumes that the configuration names as the guest's own and no list has shown yet. */
function unlisted({ type, vmid, current, next, volumes }: Instance): string[] {
  const drives = [current, next].flatMap((config) => [...drivesOf(type, config).values()]);
  const missing = drives.flatMap((drive) =>
    drive?.kind === 'volume' && !volumes.has(drive.volid) && volumeOwner(drive.volid) === vmid ? [drive.storage] : [],
  );
  return [...new Set(missing)];
}
