/** What the accounts add up to, for each payer and each device. */

import { type Account, devicesOf, type Holding, isClouded, keyOf } from './account.ts';
import { type Quota, type Standing, scopeOf } from './limits.ts';

/** Sums that follow the accounts: one that is booked counts until it is unbooked, and must not change in between. */
export class Totals {
  readonly #held = new Map<string, Map<string, Holding>>();
  /** By payer: the vmids whose usage is not, or not wholly, known. */
  readonly #clouded = new Map<string, Set<number>>();
  /** By node and bus id: the vmids that have, or are about to have, a PCI device. */
  readonly #devices = new Map<string, Set<number>>();

  book(account: Account): void {
    this.#add(account, 1);
    for (const key of devicesOf(account)) entry(this.#devices, key).add(account.vmid);
    if (isClouded(account)) for (const payer of account.payers) entry(this.#clouded, payer).add(account.vmid);
  }

  unbook(account: Account): void {
    this.#add(account, -1);
    for (const key of devicesOf(account)) this.#devices.get(key)?.delete(account.vmid);
    for (const payer of account.payers) this.#clouded.get(payer)?.delete(account.vmid);
  }

  /** What a payer holds, on each node of each resource. */
  holdings(payer: string): readonly Holding[] {
    return [...(this.#held.get(payer)?.values() ?? [])];
  }

  /** What a payer holds of one resource in one scope, of the items that pass. */
  standing(quota: Quota, resource: string, scope: string, counts: (item: string) => boolean): Standing {
    let used = 0;
    let booked = 0;
    for (const holding of this.#held.get(quota.user)?.values() ?? []) {
      if (holding.resource !== resource || !counts(holding.item) || scopeOf(quota, resource, holding.node) !== scope)
        continue;
      used += holding.used;
      booked += holding.booked;
    }
    return { used, booked };
  }

  /** The vmids of a payer whose usage is not, or not wholly, known. */
  clouded(payer: string): Iterable<number> {
    return this.#clouded.get(payer) ?? [];
  }

  /** The vmids that have, or are about to have, a PCI device of a node, by bus id. */
  holdersOf(node: string, bus: string): Iterable<number> {
    return this.#devices.get(`${node} ${bus}`) ?? [];
  }

  #add({ payers, booking }: Account, sign: 1 | -1): void {
    for (const payer of payers) {
      const totals = this.#held.get(payer) ?? new Map<string, Holding>();
      this.#held.set(payer, totals);
      for (const holding of booking) {
        const key = keyOf(holding.node, holding);
        const old = totals.get(key);
        const next = {
          ...holding,
          used: (old?.used ?? 0) + sign * holding.used,
          booked: (old?.booked ?? 0) + sign * holding.booked,
        };
        if (next.booked === 0) totals.delete(key);
        else totals.set(key, next);
      }
    }
  }
}

function entry(sets: Map<string, Set<number>>, key: string): Set<number> {
  const set = sets.get(key) ?? new Set();
  sets.set(key, set);
  return set;
}
