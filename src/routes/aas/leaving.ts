/** What becomes of the instances of a user who is deleted. */

import type { Ledger } from '../../quota/ledger.ts';

/** Another user pays for them, or nobody who is not their payer already. */
export type Leaving = { readonly kind: 'reassign'; readonly to: string } | { readonly kind: 'leave' };

/** What has become of them; with `problem` where the record of payers could not be written. */
export interface Became {
  readonly vmids: readonly number[];
  readonly became: 'reassigned' | 'left';
  readonly to?: string;
  readonly problem?: string;
}

type Payments = Pick<Ledger, 'vmids' | 'payersOf' | 'recordedPayers' | 'assign'>;

/** The instances that a user pays for, alone or with others. */
export function instancesOf(ledger: Payments, user: string): readonly number[] {
  return [...ledger.vmids()].filter((vmid) => ledger.payersOf(vmid).includes(user)).toSorted((a, b) => a - b);
}

/** Records who pays for these instances now that the user is gone, and for those that the user has made meanwhile. */
export function becomeOf(ledger: Payments, user: string, owned: readonly number[], leaving: Leaving | null): Became {
  const vmids = [...new Set([...owned, ...instancesOf(ledger, user)])];
  const to = leaving?.kind === 'reassign' ? [leaving.to] : [];
  const became: Became = {
    vmids,
    became: to.length > 0 ? 'reassigned' : 'left',
    ...(to[0] === undefined ? {} : { to: to[0] }),
  };
  try {
    for (const vmid of vmids) {
      const recorded = ledger.recordedPayers(vmid);
      const others = (to.length > 0 ? ledger.payersOf(vmid) : recorded).filter((payer) => payer !== user);
      if (to.length > 0 || recorded.includes(user)) ledger.assign(vmid, [...new Set([...others, ...to])]);
    }
    return became;
  } catch (error) {
    return { ...became, problem: `the payers could not be recorded (${(error as Error).message}): use owner set` };
  }
}
