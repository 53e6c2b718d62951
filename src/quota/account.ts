/** One instance as the ledger keeps it: what was last seen of it, what is on its way, and what both book. */

import type { GuestType } from '../pve/instance.ts';
import type { Owner, StoredInstance } from './ledger-store.ts';
import type { Standing } from './limits.ts';
import { device, type Line, type Usage } from './usage.ts';

/** A logical time: reads are stamped with it when they start, reservations when they open and settle. */
export type Stamp = number;

export type ReservationId = number;

/** So much of one resource on one node, held by a payer. */
export interface Holding extends Standing {
  readonly node: string;
  readonly resource: string;
  readonly item: string;
}

/** What an open reservation says that an instance may become. */
export interface Opening {
  readonly node: string;
  readonly lines: readonly Line[];
  readonly creates: boolean;
}

export interface Account extends StoredInstance {
  type: GuestType;
  node: string;
  pool: string | undefined;
  birth: string | undefined;
  present: boolean;
  /** null until it was read for the first time. */
  seen: Usage | null;
  owners: readonly Owner[];
  payers: readonly string[];
  readonly open: Map<ReservationId, Opening>;
  touched: Stamp;
  booking: readonly Holding[];
}

/** An account of which nothing is known but where it is. */
export function blankAccount({
  vmid,
  type,
  node,
  pool,
}: Pick<StoredInstance, 'vmid' | 'type' | 'node' | 'pool'>): Account {
  return {
    vmid,
    type,
    node,
    pool,
    birth: undefined,
    present: false,
    seen: null,
    owners: [],
    payers: [],
    open: new Map(),
    touched: 0,
    booking: [],
  };
}

/** Whether there is nothing left to keep: no guest, no volumes, no change under way. */
export function isVoid({ present, open, seen }: Account): boolean {
  return !present && open.size === 0 && (seen?.lines.length ?? 0) === 0 && (seen?.unknown.length ?? 0) === 0;
}

/** Whether some of what the instance takes is not known; of one that we are creating, its reservation tells. */
export function isClouded({ present, seen, open }: Account): boolean {
  if (seen !== null) return seen.unknown.length > 0;
  return present && !open.values().some(({ creates }) => creates);
}

/** The records of payers; one that was made for an earlier guest of that vmid does not count. */
export function recordsOf({ birth, owners }: Account): readonly Owner[] {
  return owners.filter((owner) => owner.birth === null || birth === undefined || owner.birth === birth);
}

/** The recorded payers. */
export function recordedOf(account: Account): readonly string[] {
  return recordsOf(account).map(({ user }) => user);
}

/** Tells the lines of one payer apart. */
export function keyOf(node: string, { resource, item }: Pick<Line, 'resource' | 'item'>): string {
  return `${node} ${resource} ${item}`;
}

/** Line by line the larger of what was seen and of every open reservation. */
export function bookingOf({ node, seen, open }: Pick<Account, 'node' | 'seen' | 'open'>): Holding[] {
  const booking = new Map<string, Holding>();
  for (const [key, { amount, ...what }] of placed(seen?.lines ?? [], node))
    booking.set(key, { ...what, used: amount, booked: amount });
  for (const opening of open.values()) {
    for (const [key, { amount, ...what }] of placed(opening.lines, opening.node)) {
      const held = booking.get(key) ?? { ...what, used: 0, booked: 0 };
      if (amount > held.booked) booking.set(key, { ...held, booked: amount });
    }
  }
  return [...booking.values()];
}

/** The lines of an instance on `home` by node; a guest may have come to the node where its replicas were seen. */
function placed(lines: readonly Line[], home: string): ReadonlyMap<string, Line & { readonly node: string }> {
  const found = new Map<string, Line & { readonly node: string }>();
  for (const { resource, item, amount, node = home } of lines) {
    const key = keyOf(node, { resource, item });
    found.set(key, { node, resource, item, amount: amount + (found.get(key)?.amount ?? 0) });
  }
  return found;
}

/** The resources of which a change under way may still bring an instance more than was last seen of it. */
export function aheadIn({ node, seen }: Pick<Account, 'node' | 'seen'>, opening: Opening): string[] {
  const shown = placed(seen?.lines ?? [], node);
  return [...placed(opening.lines, opening.node)].flatMap(([key, { resource, amount }]) =>
    amount > (shown.get(key)?.amount ?? 0) ? [resource] : [],
  );
}

/** The PCI devices in a booking, each by node and bus id. */
export function devicesOf({ booking }: Pick<Account, 'booking'>): string[] {
  return booking.flatMap(({ resource, node, item }) => (resource === device ? [`${node} ${item}`] : []));
}
