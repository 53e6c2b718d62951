/** What becomes of the instances and files of a user who is deleted. */

import type { Inventory } from '../../admission/inventory.ts';
import type { Payers } from '../../admission/payers.ts';
import { excess } from '../../quota/excess.ts';
import type { Ledger } from '../../quota/ledger.ts';

/** Another user pays for them, or nobody who is not their payer already. */
export type Leaving =
  | { readonly kind: 'reassign'; readonly to: string /** No limit counts for them. */; readonly waived: boolean }
  | { readonly kind: 'leave' };

/** What somebody pays for, alone or with others: instances by vmid, and files of their own by volume id. */
export interface Estate {
  readonly vmids: readonly number[];
  readonly files: readonly string[];
}

/** A limit of the new payer that is below what they hold now, in base units. */
export interface Above {
  readonly resource: string;
  readonly item: string;
  readonly scope: string;
  readonly held: number;
  readonly limit: number;
}

/** What has become of an estate; with `problem` where that could not be recorded, or not be compared with limits. */
export interface Became extends Estate {
  readonly became: 'reassigned' | 'left';
  readonly to?: string;
  readonly above?: readonly Above[];
  readonly problem?: string;
}

/** The rooms that know who pays for what. */
export interface Estates {
  readonly ledger: Pick<
    Ledger,
    | 'vmids'
    | 'payersOf'
    | 'recordedPayers'
    | 'assign'
    | 'filesOf'
    | 'handOver'
    | 'forgetTasksOf'
    | 'holdings'
    | 'shelf'
    | 'see'
  >;
  readonly inventory: Pick<Inventory, 'look'>;
  readonly payers: Pick<Payers, 'refresh' | 'quota'>;
}

export function estateOf(ledger: Estates['ledger'], user: string): Estate {
  const vmids = [...ledger.vmids()].filter((vmid) => ledger.payersOf(vmid).includes(user));
  return {
    vmids: vmids.toSorted((a, b) => a - b),
    files: ledger
      .filesOf(user)
      .map(({ volid }) => volid)
      .toSorted(),
  };
}

export function isEmpty({ vmids, files }: Estate): boolean {
  return vmids.length === 0 && files.length === 0;
}

/** An estate in a sentence; of a long one the beginning. */
export function described({ vmids, files }: Estate): string {
  const some = (what: string, all: readonly unknown[]) => {
    const more = all.length > mostNamed ? ` and ${all.length - mostNamed} more` : '';
    return all.length === 0 ? [] : [`the ${what} ${all.slice(0, mostNamed).join(', ')}${more}`];
  };
  return [...some('instances', vmids), ...some('files', files)].join(' and ');
}

const mostNamed = 10;

/** Records who has these now that the user is gone, and what the user has made meanwhile; `leaving` is null where there is nothing. */
export async function becomeOf(
  estates: Estates,
  user: string,
  owned: Estate,
  leaving: Leaving | null,
): Promise<Became> {
  const { ledger } = estates;
  const now = estateOf(ledger, user);
  const to = leaving?.kind === 'reassign' ? leaving.to : undefined;
  const became: Became = {
    vmids: [...new Set([...owned.vmids, ...now.vmids])].toSorted((a, b) => a - b),
    files: now.files,
    became: to === undefined ? 'left' : 'reassigned',
    ...(to === undefined ? {} : { to }),
  };
  try {
    for (const vmid of became.vmids) assign(ledger, vmid, user, to);
    ledger.forgetTasksOf(user);
    for (const shelf of ledger.handOver(user, to)) await seeShelf(estates, shelf);
  } catch (error) {
    return { ...became, problem: `not all of it could be recorded (${(error as Error).message}): use owner set` };
  }
  if (leaving?.kind !== 'reassign' || leaving.waived || isEmpty(became)) return became;
  return { ...became, ...(await standingOf(estates, leaving.to)) };
}

function assign(ledger: Estates['ledger'], vmid: number, user: string, to: string | undefined): void {
  const recorded = ledger.recordedPayers(vmid);
  if (to === undefined && !recorded.includes(user)) return;
  const others = (to === undefined ? recorded : ledger.payersOf(vmid)).filter((payer) => payer !== user);
  ledger.assign(vmid, [...new Set([...others, ...(to === undefined ? [] : [to])])]);
}

/** Has a shelf shown by what the storages hold; while they do not tell, what was last seen counts. */
async function seeShelf({ ledger, inventory }: Estates, vmid: number): Promise<void> {
  const look = inventory.look({ vmid, type: 'qemu', node: ledger.shelf(vmid)?.node ?? '' }, 'all');
  await look.then(
    ({ sighting, stamp }) => ledger.see(sighting, stamp),
    () => {},
  );
}

/** The limits that the new payer is above; an administrator gives what they give. */
async function standingOf({ ledger, payers }: Estates, to: string): Promise<Pick<Became, 'above' | 'problem'>> {
  try {
    await payers.refresh();
    const over = excess(await payers.quota(to), ledger.holdings(to));
    return {
      above: over.map(({ resource, item, scope, requested, limit }) => ({
        resource,
        item,
        scope,
        held: requested,
        limit,
      })),
    };
  } catch (error) {
    return { problem: `whether ${to} is above a limit now could not be told (${(error as Error).message})` };
  }
}
