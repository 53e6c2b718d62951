/** A user's limits and what is used of them, as clients draw them: whole numbers in quota units, every resource present. */

import type { Holding } from '../../quota/ledger.ts';
import { lineResource } from '../../quota/limits.ts';
import type { ListEntry, ListLimits, Max, NumericLimits, UserRecord } from '../../quota/record.ts';
import type { AmountResource, Resources } from '../../quota/resources.ts';

/** The largest number that every client reads exactly; stands for "unlimited". */
const endless = Number.MAX_SAFE_INTEGER;

interface ShownMax {
  readonly max: number;
  readonly unlimited?: true;
}

interface Standing extends ShownMax {
  readonly used: number;
  readonly avail: number;
}

type ShownEntry = ShownMax & Pick<ListEntry, 'match' | 'name'>;
/** An entry of a list with what is used of it. */
export type CountedEntry = Standing & Pick<ListEntry, 'match' | 'name'>;

interface Scoped<T> {
  readonly global: T;
  readonly nodes: Readonly<Record<string, T>>;
}

/** Limits by resource; `cpu` is always there, since clients look for it. */
export type QuotaTable = Readonly<Record<string, Scoped<ShownMax> | Scoped<readonly ShownEntry[]>>>;

type WithTotal<T> = Scoped<T> & { readonly total: T };

/** Limits and usage by resource; `total` adds up the scopes. */
export type UsageTable = Readonly<Record<string, WithTotal<Standing> | WithTotal<readonly CountedEntry[]>>>;

/** A maximum as a number; JSON has no word for "unlimited" that strict clients read. */
export function shownMax(max: Max): ShownMax {
  return max === 'unlimited' ? { max: endless, unlimited: true } : { max: Math.floor(max) };
}

/** The limits in a record, for every configured resource. */
export function quotaTable(record: UserRecord, resources: Resources): QuotaTable {
  const rows = Object.entries(resources).map(([name, { type }]) => [
    name,
    type === 'list'
      ? eachScope(listLimits(record, name), (entries) => entries.map(shownEntry))
      : eachScope(amountLimits(record, name), ({ max }) => shownMax(max)),
  ]);
  return { cpu: { global: [], nodes: {} }, ...Object.fromEntries(rows) };
}

/** The limits in a record with what its user holds of each. */
export function usageTable(record: UserRecord, resources: Resources, holdings: readonly Holding[]): UsageTable {
  const rows = Object.entries(resources).map(([name, resource]) => {
    const held = holdings.filter(({ resource: held }) => held === lineResource(name, resources));
    return [
      name,
      resource.type === 'list'
        ? listUsage(listLimits(record, name), held, name !== 'cpu')
        : amountUsage(amountLimits(record, name), held, resource),
    ];
  });
  return Object.fromEntries(rows);
}

function amountLimits({ resources }: UserRecord, name: string): NumericLimits {
  return (Object.hasOwn(resources, name) ? resources[name] : { global: { max: 0 }, nodes: {} }) as NumericLimits;
}

function listLimits({ resources }: UserRecord, name: string): ListLimits {
  return (Object.hasOwn(resources, name) ? resources[name] : { global: [], nodes: {} }) as ListLimits;
}

function shownEntry({ match, name, max }: ListEntry): ShownEntry {
  return { match, name, ...shownMax(max) };
}

/** The same for `global` and every node with a limit of its own; `nodes` holds what lies there, `global` all else. */
function eachScope<T, R>(
  { global, nodes }: Scoped<T>,
  show: (limit: T, covers: (node: string) => boolean) => R,
): Scoped<R> {
  return {
    global: show(global, (node) => !Object.hasOwn(nodes, node)),
    nodes: Object.fromEntries(Object.entries(nodes).map(([own, limit]) => [own, show(limit, (node) => node === own)])),
  };
}

function amountUsage(limits: NumericLimits, held: readonly Holding[], resource: AmountResource): WithTotal<Standing> {
  const scopes = eachScope(limits, ({ max }, covers) => {
    const booked = sum(held.filter(({ node, item }) => item === '' && covers(node)).map(({ booked }) => booked));
    return standing(max, booked, resource.multiplier);
  });
  return { ...scopes, total: [scopes.global, ...Object.values(scopes.nodes)].reduce(added) };
}

/** `used` is rounded up and `avail` down, so that the two never promise more than there is. */
function standing(max: Max, booked: number, multiplier: number): Standing {
  const avail = max === 'unlimited' ? endless : Math.floor((max * multiplier - booked) / multiplier);
  return { ...shownMax(max), used: Math.ceil(booked / multiplier), avail };
}

function added(a: Standing, b: Standing): Standing {
  const used = a.used + b.used;
  if (a.unlimited || b.unlimited) return { ...shownMax('unlimited'), used, avail: endless };
  return { max: Math.min(endless, a.max + b.max), used, avail: Math.min(endless, a.avail + b.avail) };
}

/** `counted` is false where entries only say yes or no. A device counts for the first entry that its name contains. */
function listUsage(limits: ListLimits, held: readonly Holding[], counted: boolean): WithTotal<readonly CountedEntry[]> {
  const scopes = eachScope(limits, (entries, covers) => {
    const first = (item: string) => entries.find(({ match }) => item.includes(match));
    return entries.map((entry): CountedEntry => {
      const own = held.filter(({ node, item }) => counted && covers(node) && first(item) === entry);
      const { match, name, max } = entry;
      return { match, name, ...standing(max, sum(own.map(({ booked }) => booked)), 1) };
    });
  });
  const total = new Map<string, CountedEntry>();
  for (const entry of [scopes.global, ...Object.values(scopes.nodes)].flat()) {
    const before = total.get(entry.match);
    total.set(entry.match, before === undefined ? entry : { ...before, ...added(before, entry) });
  }
  return { ...scopes, total: [...total.values()] };
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0);
}
