/** A ledger in a database file of its own, with quotas and short forms of what tests say again and again. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { completeRecord } from '../../../src/backends/normalise.ts';
import type { Absence, Aim, Claim, Reservation, Sighting } from '../../../src/quota/ledger.ts';
import { Ledger } from '../../../src/quota/ledger.ts';
import { type Quota, quotaOf } from '../../../src/quota/limits.ts';
import type { UserRecord } from '../../../src/quota/record.ts';
import type { ReservationRequest } from '../../../src/quota/request.ts';
import { resourcesSchema } from '../../../src/quota/resources.ts';
import type { Line, Usage } from '../../../src/quota/usage.ts';
import { type Database, openDatabase } from '../../../src/store/database.ts';

const resources = resourcesSchema.parse({
  cores: { type: 'numeric', unit: 'Cores' },
  memory: { type: 'numeric', unit: 'B' },
  ceph: { type: 'storage', unit: 'B' },
  pci: { type: 'list' },
});

/** Most amounts by resource; `cores@n2` is the limit of a node. */
export type Limits = Readonly<Record<string, number | 'unlimited'>>;

export function quotaFor(user: string, limits: Limits): Quota {
  const of: Record<string, UserRecord['resources'][string]> = {};
  for (const name of Object.keys(resources)) {
    const nodes = Object.entries(limits).filter(([key]) => key.startsWith(`${name}@`));
    const own = nodes.map(([key, max]) => [key.slice(name.length + 1), { max }] as const);
    const max = limits[name] ?? 0;
    of[name] =
      name === 'pci'
        ? { global: [{ match: 'T4', name: 'T4', max }], nodes: {} }
        : { global: { max }, nodes: Object.fromEntries(own) };
  }
  return quotaOf(user, { ...completeRecord({}), resources: of }, resources);
}

/** `{ cores: 2, 'pci T4': 1 }` as lines. */
export function usage(amounts: Readonly<Record<string, number>>, unknown: Usage['unknown'] = []): Usage {
  const lines = Object.entries(amounts).flatMap(([name, amount]): Line[] => {
    const [resource = '', item = ''] = name.split(' ');
    return amount === 0 ? [] : [{ resource, item, amount }];
  });
  return { lines, unknown };
}

export function sighting(
  vmid: number,
  amounts: Readonly<Record<string, number>>,
  more: Partial<Sighting> = {},
): Sighting {
  return { vmid, type: 'qemu', node: 'n1', pool: undefined, birth: undefined, usage: usage(amounts), ...more };
}

export function absence(vmid: number, left: Readonly<Record<string, number>> = {}): Absence {
  return { vmid, gone: true, node: 'n1', usage: usage(left) };
}

export function aim(vmid: number, amounts: Readonly<Record<string, number>>, more: Partial<Aim> = {}): Aim {
  return { vmid, type: 'qemu', node: 'n1', pool: undefined, after: usage(amounts), creates: false, ...more };
}

export function claim(user: string, min: number, max: number, ...pools: string[]): Claim {
  return { user, vmid: { min, max }, pools: new Set(pools) };
}

/** The ledger, and all that stays when it is opened again. */
export class Books implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ledger-'));
  readonly #limits: Readonly<Record<string, Limits>>;
  readonly #claims: readonly Claim[];
  database: Database;
  ledger: Ledger;
  now = 1_700_000_000_000;

  constructor(limits: Readonly<Record<string, Limits>>, claims: readonly Claim[] = []) {
    this.#limits = limits;
    this.#claims = claims;
    [this.database, this.ledger] = this.#open();
  }

  #open(): [Database, Ledger] {
    const database = openDatabase(join(this.#folder, 'ledger.db'));
    // Nothing here is to survive a loss of power.
    database.pragma('synchronous = OFF');
    const ledger = new Ledger(database, () => this.now);
    ledger.setClaims(this.#claims);
    return [database, ledger];
  }

  /** As after `kill -9`: what only memory knew is gone. */
  crash(): void {
    this.database.close();
    [this.database, this.ledger] = this.#open();
  }

  restart(): void {
    this.ledger.save();
    this.crash();
  }

  quotas(): Map<string, Quota> {
    return new Map(Object.entries(this.#limits).map(([user, limits]) => [user, quotaFor(user, limits)]));
  }

  /** Reads an instance now. */
  see(found: Sighting | Absence): boolean {
    return this.ledger.see(found, this.ledger.stamp());
  }

  reserve(
    by: string,
    aims: Aim | readonly Aim[],
    waived = false,
    copied: Pick<ReservationRequest, 'copies' | 'sources'> = {},
  ): Promise<Reservation> {
    return this.ledger.reserve({
      by,
      address: '192.0.2.7',
      call: 'PUT /nodes/n1/qemu/100/config',
      digest: 'd1',
      aims: [aims].flat(),
      quotas: this.quotas(),
      waived,
      ...copied,
    });
  }

  create(
    by: string,
    vmid: number,
    amounts: Readonly<Record<string, number>>,
    more: Partial<Aim> = {},
  ): Promise<Reservation> {
    return this.reserve(by, aim(vmid, amounts, { creates: true, ...more }));
  }

  settle(id: number, ...found: (Sighting | Absence)[]): boolean {
    return this.ledger.settle(id, found, this.ledger.stamp(), 'OK');
  }

  /** What a user holds: `[used, booked]` by resource, item and node. */
  holds(user: string): Record<string, [number, number]> {
    return Object.fromEntries(
      this.ledger
        .holdings(user)
        .map(({ node, resource, item, used, booked }) => [
          [resource, item, node].filter((part) => part !== '').join(' '),
          [used, booked],
        ]),
    );
  }

  rows(table: string): Record<string, unknown>[] {
    return this.database.prepare(`SELECT * FROM ${table}`).all() as Record<string, unknown>[];
  }

  [Symbol.dispose](): void {
    this.database.close();
    rmSync(this.#folder, { recursive: true });
  }
}
