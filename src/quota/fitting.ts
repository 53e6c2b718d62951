/** Whether a change fits into what everybody who pays for it may have; it holds nothing itself. */

import { NotReadyError, type Overrun, QuotaExceededError, UsageUnknownError } from '../errors.ts';
import type { Holding } from './account.ts';
import { type Growth, overruns, scopeOf } from './limits.ts';
import { type Aim, QuotaNeeded, type ReservationRequest } from './request.ts';
import { isShelf } from './shelves.ts';
import type { Totals } from './totals.ts';
import { type Line, nothing, type Usage } from './usage.ts';

/** What the ledger knows, as far as judging looks at it. */
export interface Books {
  readonly totals: Totals;
  /** What was last seen of an instance; null until it was read. */
  seen(vmid: number): Usage | null | undefined;
  booking(vmid: number): readonly Holding[];
  payersOf(vmid: number): readonly string[];
  payersOfNew(aim: Aim, by: string, waived: boolean): readonly string[];
}

/**
 * Throws when the aims take more than a payer may have, or when that cannot be told: QuotaExceededError with every limit
 * that would break, UsageUnknownError, NotReadyError; QuotaNeeded when a payer's quota is missing.
 */
export function mustFit(request: ReservationRequest, books: Books): void {
  const growths = growthsOf(request, books);
  const needed = [...growths.keys()].filter((user) => !request.quotas.has(user));
  if (needed.length > 0) throw new QuotaNeeded(needed);
  const found: Overrun[] = [];
  for (const { vmid, after } of request.aims) {
    const before = books.seen(vmid) ?? nothing;
    const fresh = after.unknown.find(
      ({ resource, reason }) => !before.unknown.some((old) => old.resource === resource && old.reason === reason),
    );
    if (fresh !== undefined)
      throw new UsageUnknownError(
        `what ${nameOf(vmid)} would take of ${fresh.resource} cannot be told (${fresh.reason}), so it is refused`,
      ).of({ resource: fresh.resource, item: '' });
  }
  for (const [payer, own] of growths) {
    if (own.length === 0) continue;
    mustBeKnown(books, payer, own, request.by);
    const quota = request.quotas.get(payer);
    if (quota === undefined) throw new QuotaNeeded([payer]);
    found.push(
      ...overruns(quota, own, (...about) => books.totals.standing(quota, ...about)).map((overrun) =>
        payer === request.by ? overrun : withoutNumbers(overrun),
      ),
    );
  }
  if (found.length > 0) throw new QuotaExceededError(found);
}

function mustBeKnown(books: Books, payer: string, growths: readonly Growth[], by: string): void {
  for (const vmid of books.totals.clouded(payer)) {
    // What guests hold that the caller does not pay for is not theirs to read.
    const own = books.payersOf(vmid).includes(by);
    const instance = own ? nameOf(vmid) : 'an instance of another user who pays here';
    const seen = books.seen(vmid);
    if (seen == null)
      throw new NotReadyError(
        `${instance} has not been read yet, so what is left cannot be told; try again in a moment`,
        5,
      );
    for (const { resource, reason } of seen.unknown) {
      const grown = growths.find(
        (growth) =>
          growth.resource === resource || (resource === 'storage:*' && growth.resource.startsWith('storage:')),
      );
      if (grown !== undefined)
        throw new UsageUnknownError(
          `what ${instance} takes of ${resource} cannot be told${own ? ` (${reason})` : ''}, so no more of it is given; an administrator can mend its configuration`,
        ).of(grown);
    }
  }
}

/** For each payer, what the aims take beyond what is booked, by resource, item and scope. */
function growthsOf(request: ReservationRequest, books: Books): Map<string, Growth[]> {
  const growths = new Map<string, Map<string, Growth>>();
  const homes = new Set(request.aims.map(({ node }) => node));
  for (const aim of request.aims) {
    const payers = aim.creates ? books.payersOfNew(aim, request.by, request.waived) : books.payersOf(aim.vmid);
    for (const payer of payers) {
      const own = growths.get(payer) ?? new Map<string, Growth>();
      growths.set(payer, own);
      const quota = request.quotas.get(payer);
      if (quota === undefined) continue;
      const add = (node: string, { resource, item }: Pick<Line, 'resource' | 'item'>, amount: number) => {
        const scope = scopeOf(quota, resource, node);
        const key = `${resource} ${item} ${scope}`;
        const { amount: sum = 0, away = [] } = own.get(key) ?? {};
        const isAway = amount > 0 && !homes.has(node) && !away.includes(node);
        own.set(key, { resource, item, scope, amount: sum + amount, away: isAway ? [...away, node] : away });
      };
      for (const line of aim.after.lines) add(line.node ?? aim.node, line, line.amount);
      for (const held of books.booking(aim.vmid)) add(held.node, held, -held.booked);
    }
  }
  return new Map([...growths].map(([payer, own]) => [payer, [...own.values()].filter(({ amount }) => amount > 0)]));
}

/** The account in a sentence. */
function nameOf(vmid: number): string {
  return isShelf(vmid) ? 'the shelf of your files' : `instance ${vmid}`;
}

/** Another payer's overrun, without their numbers. */
function withoutNumbers({ resource, item, scope }: Overrun): Overrun {
  const sentence = `another user who pays for this instance has no room for more ${resource}`;
  return { payer: '', resource, item, scope, requested: 0, used: 0, reserved: 0, limit: 0, available: 0, sentence };
}
