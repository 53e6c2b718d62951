/** What somebody holds above their limits, as they may once something is made theirs. */

import type { Overrun } from '../errors.ts';
import type { Holding } from './account.ts';
import { type Growth, overruns, type Quota, scopeOf } from './limits.ts';

/** Every limit below what is held, as if all of that were asked for anew: `requested` is then what is held. */
export function excess(quota: Quota, holdings: readonly Holding[]): readonly Overrun[] {
  const held = new Map<string, Growth>();
  for (const { resource, item, node, booked } of holdings) {
    const scope = scopeOf(quota, resource, node);
    const key = `${resource} ${item} ${scope}`;
    held.set(key, { resource, item, scope, amount: (held.get(key)?.amount ?? 0) + booked });
  }
  return overruns(quota, [...held.values()], () => ({ used: 0, booked: 0 }));
}
