/** What a user may use at most, and whether a change keeps within it. Pure: the ledger brings the numbers. */

import type { Overrun } from '../errors.ts';
import { formatAmount, type Presentation } from '../pve/size.ts';
import type { ListEntry, ListLimits, Max, NumericLimits, UserRecord } from './record.ts';
import type { Resources } from './resources.ts';
import { cpuType, device, unlimited } from './usage.ts';

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

/** A limit that holds for each item by itself: the backups of one instance. */
interface EachLimit {
  readonly kind: 'each';
  readonly max: number;
}

type Limit = AmountLimit | ListLimit | EachLimit;

/** All limits of a user, by the `resource` of usage lines. A resource that is not in it has limit zero. */
export interface Quota {
  readonly user: string;
  readonly limits: ReadonlyMap<string, Limit>;
}

/** The `resource` of usage lines that a configured resource limits. */
export function lineResource(name: string, resources: Resources): string {
  return resources[name]?.type === 'storage' ? `storage:${name}` : name;
}

/** Turns a record's numbers into real amounts: each times its resource's multiplier. */
export function quotaOf(user: string, record: UserRecord, resources: Resources): Quota {
  const limits = new Map<string, Limit>();
  const { max } = record.cluster.backups;
  limits.set('backups', { kind: 'each', max: max === 'unlimited' ? Infinity : max });
  for (const [name, resource] of Object.entries(resources)) {
    const limit = Object.hasOwn(record.resources, name) ? record.resources[name] : undefined;
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
  const limit = quota.limits.get(resource);
  return limit !== undefined && 'nodes' in limit && limit.nodes.has(node) ? node : 'global';
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
  /** Nodes that hold some of it and are not the instance's own: those of its replicas. */
  readonly away?: readonly string[];
}

/** What a payer holds of one resource in one scope, of all items that pass. */
type Held = (counts: (item: string) => boolean) => Standing;

/** A limit that a growth would break. */
interface Breach {
  readonly limit: number;
  readonly held: Standing;
  readonly sentence: string;
}

/** Every limit that the growths would break; none when there is room for all of them together. */
export function overruns(
  quota: Quota,
  growths: readonly Growth[],
  standing: (resource: string, scope: string, counts: (item: string) => boolean) => Standing,
): Overrun[] {
  return growths.flatMap((growth): Overrun[] => {
    const { resource, item, scope, amount } = growth;
    if (amount <= 0 || resource === device) return [];
    const breach = breachOf(growth, quota.limits.get(resource), growths, (counts) => standing(resource, scope, counts));
    if (breach === null) return [];
    const { limit, held, sentence } = breach;
    const reserved = held.booked - held.used;
    const available = Math.max(0, limit - held.booked);
    return [
      {
        payer: quota.user,
        resource,
        item,
        scope,
        requested: amount,
        used: held.used,
        reserved,
        limit,
        available,
        sentence,
      },
    ];
  });
}

function breachOf(growth: Growth, limit: Limit | undefined, growths: readonly Growth[], held: Held): Breach | null {
  switch (limit?.kind) {
    case 'amount':
      return breachOfAmount(growth, limit, held);
    case 'list':
      return breachOfList(growth, limit, growths, held);
    case 'each':
      return breachOfEach(growth, limit, held);
    case undefined: {
      const sentence = `${titleOf(growth)}: this server has no such resource configured, so none is allowed`;
      return { limit: 0, held: held(() => true), sentence };
    }
  }
}

function breachOfAmount(growth: Growth, limit: AmountLimit, heldOf: Held): Breach | null {
  const most = limit.nodes.get(growth.scope) ?? limit.global;
  if (most === Infinity) return null;
  const held = heldOf((item) => item === '');
  // What is shown in full needs no unit behind every number.
  const text = (amount: number) =>
    limit.presentation.compact ? formatAmount(amount, limit.presentation) : String(amount);
  if (growth.item === unlimited) {
    const sentence = `${titleOf(growth)}: what has no limit of its own needs an unlimited quota, and yours is ${text(most)}`;
    return { limit: most, held, sentence };
  }
  if (held.booked + growth.amount <= most) return null;
  const reserved = held.booked > held.used ? `, ${text(held.booked - held.used)} reserved by changes under way` : '';
  const left = text(Math.max(0, most - held.booked));
  const sentence = `${titleOf(growth)}: ${text(growth.amount)} more requested, ${left} left (${text(held.used)} used${reserved}, limit ${text(most)})`;
  return { limit: most, held, sentence };
}

function breachOfList(growth: Growth, limit: ListLimit, growths: readonly Growth[], heldOf: Held): Breach | null {
  const { resource, item, scope } = growth;
  const list = limit.nodes.get(scope) ?? limit.global;
  const entryOf = (name: string) => list.find(({ match }) => (limit.counted ? name.includes(match) : name === match));
  const entry = entryOf(item);
  const held = entry === undefined || !limit.counted ? nothingHeld : heldOf((other) => entryOf(other) === entry);
  const alike = growths.filter(
    (other) =>
      other.resource === resource && other.scope === scope && other.amount > 0 && entryOf(other.item) === entry,
  );
  const wanted = limit.counted ? alike.reduce((total, other) => total + other.amount, 0) : 1;
  const fits = entry !== undefined && entry.max > 0 && (!limit.whitelist || held.booked + wanted <= entry.max);
  if (limit.granted.has(item) || fits === limit.whitelist) return null;
  return { limit: entry?.max ?? 0, held, sentence: listSentence(growth, entry, held, limit.whitelist, list) };
}

function breachOfEach({ resource, item, amount }: Growth, { max }: EachLimit, heldOf: Held): Breach | null {
  const held = heldOf((other) => other === item);
  if (held.booked + amount <= max) return null;
  return {
    limit: max,
    held,
    sentence: `${resource} of instance ${item}: ${held.booked} of ${max} taken; delete one first`,
  };
}

const nothingHeld: Standing = { used: 0, booked: 0 };

function titleOf({ resource, scope, away = [] }: Growth): string {
  const title = resource.startsWith('storage:') ? `storage ${resource.slice('storage:'.length)}` : resource;
  if (scope !== 'global') return `${title} on node ${scope}`;
  return away.length === 0 ? title : `${title}, replicas on ${away.join(', ')} included`;
}

function listSentence(
  growth: Growth,
  entry: Entry | undefined,
  { booked }: Standing,
  whitelist: boolean,
  list: readonly Entry[],
): string {
  const title = `${titleOf(growth)}: "${growth.item}"`;
  if (!whitelist) return `${title} is excluded from your quota`;
  if (entry === undefined || entry.max <= 0) {
    const allowed = list.filter(({ max }) => max > 0).map(({ match }) => match);
    return `${title} is not in your quota (${allowed.length === 0 ? 'nothing is' : `allowed: ${allowed.join(', ')}`})`;
  }
  return `${title}: ${booked} of ${entry.max} already taken`;
}
