/** What a user may use at most, and whether a change keeps within it. Pure: the ledger brings the numbers. */

import type { ListEntry, ListLimits, Max, NumericLimits, UserRecord } from '../backends/record.ts';
import type { Overrun } from '../errors.ts';
import { formatAmount, type Presentation } from '../pve/size.ts';
import type { Resources } from './resources.ts';
import { cpuType, unlimited } from './usage.ts';

/** A limit on an amount, in base units; Infinity when unlimited. */
interface AmountLimit {
  readonly kind: 'amount';
  readonly global: number;
  readonly nodes: ReadonlyMap<string, number>;
  readonly presentation: Presentation;
}

interface Entry {
  readonly match: string;
  readonly max: number;
}

/** A limit on named things; `counted` is false where an entry only says yes or no (CPU types). */
interface ListLimit {
  readonly kind: 'list';
  readonly global: readonly Entry[];
  readonly nodes: ReadonlyMap<string, readonly Entry[]>;
  readonly whitelist: boolean;
  readonly counted: boolean;
  /** Items that the administrator's own templates hand out. */
  readonly granted: ReadonlySet<string>;
}

/** All limits of a user, by the `resource` of usage lines. A resource that is not in it has limit zero. */
export interface Quota {
  readonly user: string;
  readonly limits: ReadonlyMap<string, AmountLimit | ListLimit>;
}

/** The `resource` of usage lines that a configured resource limits. */
export function lineResource(name: string, resources: Resources): string {
  return resources[name]?.type === 'storage' ? `storage:${name}` : name;
}

/** Turns a record's numbers into real amounts: each times its resource's multiplier. */
export function quotaOf(user: string, record: UserRecord, resources: Resources): Quota {
  const limits = new Map<string, AmountLimit | ListLimit>();
  for (const [name, resource] of Object.entries(resources)) {
    const limit = record.resources[name];
    const key = lineResource(name, resources);
    if (resource.type === 'list') {
      const list = (limit ?? { global: [], nodes: {} }) as ListLimits;
      limits.set(key, {
        kind: 'list',
        global: entries(list.global),
        nodes: new Map(Object.entries(list.nodes).map(([node, own]) => [node, entries(own)])),
        whitelist: resource.whitelist,
        counted: name !== 'cpu',
        granted: name === 'cpu' ? templateCpu(record) : new Set(),
      });
    } else {
      const { global, nodes } = (limit ?? { global: { max: 0 }, nodes: {} }) as NumericLimits;
      const amount = (max: Max) => (max === 'unlimited' ? Infinity : Math.floor(max * resource.multiplier));
      limits.set(key, {
        kind: 'amount',
        global: amount(global.max),
        nodes: new Map(Object.entries(nodes).map(([node, own]) => [node, amount(own.max)])),
        presentation: resource,
      });
    }
  }
  return { user, limits };
}

/** A record that says nothing of a list's global part has an amount of zero there: nothing is listed. */
function entries(list: readonly ListEntry[] | { readonly max: Max }): Entry[] {
  return !('map' in list) ? [] : list.map(({ match, max }) => ({ match, max: max === 'unlimited' ? Infinity : max }));
}

function templateCpu(record: UserRecord): ReadonlySet<string> {
  const value = record.templates.instances.qemu.cpu?.value;
  const type = value === undefined ? null : cpuType(String(value));
  return new Set(type === null ? [] : [type]);
}

/** The scope that an instance on `node` is charged to: a node with a limit of its own, or `global`. */
export function scopeOf(quota: Quota, resource: string, node: string): string {
  return quota.limits.get(resource)?.nodes.has(node) === true ? node : 'global';
}

/** What a payer holds of one resource and item in one scope. */
export interface Standing {
  /** By instances as last seen. */
  readonly used: number;
  /** By instances and open reservations together: never less than `used`. */
  readonly booked: number;
}

/** How much more of one resource and item a change takes in one scope. */
export interface Growth {
  readonly resource: string;
  readonly item: string;
  readonly scope: string;
  readonly amount: number;
}

/** Every limit that the growths would break; none when there is room for all of them together. `standing` tells what is held by all items that pass `counts`. */
export function overruns(
  quota: Quota,
  growths: readonly Growth[],
  standing: (resource: string, scope: string, counts: (item: string) => boolean) => Standing,
): Overrun[] {
  const found: Overrun[] = [];
  for (const growth of growths) {
    const { resource, item, scope, amount } = growth;
    if (amount <= 0) continue;
    const limit = quota.limits.get(resource);
    const refuse = (most: number, held: Standing, sentence: string) => {
      const reserved = held.booked - held.used;
      const available = Math.max(0, most - held.booked);
      found.push({
        payer: quota.user,
        resource,
        item,
        scope,
        requested: amount,
        used: held.used,
        reserved,
        limit: most,
        available,
        sentence,
      });
    };
    if (limit === undefined) {
      refuse(
        0,
        standing(resource, scope, () => true),
        `${titleOf(resource)}: this server has no such resource configured, so none is allowed`,
      );
    } else if (limit.kind === 'amount') {
      const most = limit.nodes.get(scope) ?? limit.global;
      if (most === Infinity) continue;
      const held = standing(resource, scope, (other) => other === '');
      if (item === unlimited) {
        refuse(
          most,
          held,
          `${titleOf(resource)}${where(scope)}: without a limit of its own it needs an unlimited quota, and yours is ${formatAmount(most, limit.presentation)}`,
        );
      } else if (held.booked + amount > most) {
        refuse(most, held, sentenceOf(growth, held, most, limit));
      }
    } else {
      const list = limit.nodes.get(scope) ?? limit.global;
      const matches = (entry: Entry, name: string) =>
        limit.counted ? name.includes(entry.match) : name === entry.match;
      const entry = list.find((candidate) => matches(candidate, item));
      const held =
        entry === undefined || !limit.counted
          ? nothingHeld
          : standing(resource, scope, (other) => list.find((one) => matches(one, other)) === entry);
      const others = growths.filter(
        (other) =>
          other.resource === resource &&
          other.scope === scope &&
          other.amount > 0 &&
          list.find((one) => matches(one, other.item)) === entry,
      );
      const wanted = limit.counted ? others.reduce((total, other) => total + other.amount, 0) : 1;
      const fits = entry !== undefined && entry.max > 0 && (!limit.whitelist || held.booked + wanted <= entry.max);
      if (limit.granted.has(item) || fits === limit.whitelist) continue;
      refuse(entry?.max ?? 0, held, listSentence(growth, entry, held, limit.whitelist, list));
    }
  }
  return found;
}

const nothingHeld: Standing = { used: 0, booked: 0 };

function titleOf(resource: string): string {
  return resource.startsWith('storage:') ? `storage ${resource.slice('storage:'.length)}` : resource;
}

function where(scope: string): string {
  return scope === 'global' ? '' : ` on node ${scope}`;
}

function sentenceOf(
  { resource, scope, amount }: Growth,
  { used, booked }: Standing,
  most: number,
  limit: AmountLimit,
): string {
  const text = (value: number) => formatAmount(value, limit.presentation);
  const reserved = booked > used ? ` and ${text(booked - used)} reserved by changes under way` : '';
  return `${titleOf(resource)}${where(scope)}: ${text(amount)} more requested, but ${text(used)} used${reserved} of ${text(most)} leaves ${text(Math.max(0, most - booked))}`;
}

function listSentence(
  { resource, item, scope }: Growth,
  entry: Entry | undefined,
  { booked }: Standing,
  whitelist: boolean,
  list: readonly Entry[],
): string {
  const title = `${titleOf(resource)} "${item}"${where(scope)}`;
  if (!whitelist) return `${title} is excluded from your quota`;
  if (entry === undefined || entry.max <= 0) {
    const allowed = list.filter(({ max }) => max > 0).map(({ match }) => match);
    return `${title} is not in your quota (${allowed.length === 0 ? 'nothing is' : `allowed: ${allowed.join(', ')}`})`;
  }
  return `${title}: ${booked} of ${entry.max} already taken`;
}
