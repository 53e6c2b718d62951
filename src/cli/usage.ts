/** `usage`: what each user holds of their limits; of one user also which guests and files hold it. */

import { formatAmount } from '../pve/size.ts';
import type { Ledger } from '../quota/ledger.ts';
import { lineResource } from '../quota/limits.ts';
import type { Resource, Resources } from '../quota/resources.ts';
import { type CountedEntry, usageTable } from '../routes/aas/quota-table.ts';
import { type Command, UsageError } from './command.ts';
import { withPayers } from './owner.ts';
import { table } from './table.ts';

export const usageCommand: Command = {
  name: 'usage',
  usage: '[USER]',
  summary: 'what each user holds of each limit; of one user all limits, and which guests hold what',
  run: ({ args: [user, ...more], configFile, print }) => {
    if (more.length > 0) throw new UsageError('Expected: usage [USER]');
    return withPayers(configFile, ({ config: { resources }, ledger, records }) => {
      const record = user === undefined ? undefined : records.get(user);
      if (user !== undefined && record === undefined) throw new UsageError(`No backend lists a user ${user}.`);
      const shown = user === undefined || record === undefined ? records : new Map([[user, record]]);
      const sums = [...shown].flatMap(([name, record]) =>
        Object.entries(usageTable(record, resources, ledger.holdings(name))).flatMap(([resource, { global, nodes }]) =>
          Object.entries({ global, ...nodes }).flatMap(([scope, standing]) =>
            [standing]
              .flat()
              .filter(({ used, max }) => used > 0 || (user !== undefined && max > 0))
              .map((held) => [name, resource, scope, ...amountsOf(held, resources[resource])]),
          ),
        ),
      );
      for (const line of table([['user', 'resource', 'scope', 'used', 'limit', 'of'], ...sums])) print(line);
      if (user === undefined) return 0;
      print('');
      for (const line of table([['held by', 'node', 'resource', 'used', 'of'], ...holders(user, ledger, resources)]))
        print(line);
      return 0;
    });
  },
};

type Held = Pick<CountedEntry, 'used' | 'max' | 'unlimited'> & { readonly name?: string };

function amountsOf({ used, max, unlimited, name = '' }: Held, resource: Resource | undefined): string[] {
  const amount = (number: number) => (resource === undefined ? String(number) : inUnits(number, resource));
  return [amount(used), unlimited ? 'unlimited' : amount(max), name];
}

function inUnits(number: number, resource: Resource): string {
  return resource.type === 'list' ? String(number) : formatAmount(number * resource.multiplier, resource);
}

/** What the user pays for, guest by guest, the more that open reservations add included. */
function holders(user: string, ledger: Ledger, resources: Resources): string[][] {
  const declared = new Map(Object.entries(resources).map(([name, row]) => [lineResource(name, resources), row]));
  return [...ledger.vmids()]
    .filter((vmid) => ledger.payersOf(vmid).includes(user))
    .toSorted((a, b) => a - b)
    .flatMap((vmid) => {
      const { booking = [], present, seen } = ledger.account(vmid) ?? {};
      const holder = vmid < 0 ? 'files' : String(vmid);
      return [
        ...booking.map(({ node, resource, item, used, booked }) => {
          const row = declared.get(resource);
          const amount = row?.type === 'list' || row === undefined ? String(booked) : formatAmount(booked, row);
          return [holder, node, resource, used === booked ? amount : `${amount} (not settled yet)`, item];
        }),
        ...(present === true && seen === null ? [[holder, '', '', 'unknown', 'not read yet']] : []),
        ...(seen?.unknown ?? []).map(({ resource, reason }) => [holder, '', resource, 'unknown', reason]),
      ];
    });
}
