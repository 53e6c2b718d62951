/** Records of users as files of any age and backends of any kind give them, brought to one form and merged. */

import { z } from 'zod';
import type { Fault } from '../errors.ts';
import { isObject } from '../json.ts';
import type {
  ClusterGrants,
  ListEntry,
  ListLimits,
  Max,
  NumericLimits,
  Templates,
  UserRecord,
} from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';
import { type Checked, check, didYouMean, expected, fits, formatPath } from '../schema.ts';

const max = z.union([z.number().min(0, { abort: true }), z.literal('unlimited')], {
  error: expected('a number of at least 0 or "unlimited"'),
});

/** Earlier servers could write what they had computed for a reply back into their file; it means nothing here. */
const leftovers = { used: z.unknown().optional(), avail: z.unknown().optional() };

const amount = z.strictObject({ max, ...leftovers }).transform((limit) => ({ max: limit.max }));

const entry = z
  .strictObject({ match: z.string().min(1), name: z.string().exactOptional(), max, ...leftovers })
  .transform((item): ListEntry => ({ match: item.match, name: item.name ?? item.match, max: item.max }));

const entries = z.array(entry);

/** What a limit in a record may leave out: another backend may say it. */
interface LimitPatch<Limit> {
  readonly global?: Limit;
  readonly nodes: Readonly<Record<string, Limit>>;
}

/** A limit with the scopes `global` and `nodes`, without the totals that earlier servers left in it. */
const scoped = <Limit>(limit: z.ZodType<Limit>) =>
  z
    .strictObject({
      global: limit.exactOptional(),
      nodes: z.record(z.string(), limit).default({}),
      total: z.unknown().optional(),
    })
    .transform(({ global, nodes }): LimitPatch<Limit> => ({ ...(global === undefined ? {} : { global }), nodes }));

/** The oldest files give a limit without scopes; it is the global one. */
const unscoped = <Limit>(limit: z.ZodType<Limit>) =>
  limit.transform((global): LimitPatch<Limit> => ({ global, nodes: {} }));

const limits = z.union([scoped(amount), scoped(entries), unscoped(amount), unscoped(entries)]);

/** Names that are granted: an object of booleans, or the list of older files. */
const grants = z.union([
  z.record(z.string().min(1), z.boolean()),
  z.array(z.string().min(1)).transform((names) => Object.fromEntries(names.map((name) => [name, true]))),
]);

const vmid = z
  .strictObject({ min: z.int(), max: z.int() })
  .refine(({ min, max }) => (min === -1 && max === -1) || (min >= 100 && min <= max && max <= 999_999_999), {
    error: expected('100 <= min <= max <= 999999999, or -1 twice for none'),
  });

const cluster = z.strictObject({
  admin: z.boolean().exactOptional(),
  nodes: grants.exactOptional(),
  pools: grants.exactOptional(),
  pool: z.string().exactOptional(),
  vmid: vmid.exactOptional(),
  backups: z.strictObject({ max }).exactOptional(),
});

const templateEntry = z.strictObject({
  value: z.union([z.string(), z.number()]),
  resource: z.union([z.strictObject({ name: z.string().min(1), amount: z.number().min(0) }), z.null()]).default(null),
});

const networkTemplate = z.strictObject({
  type: z.string().min(1),
  bridge: z.string().min(1),
  vlan: z.int().min(1).max(4094).exactOptional(),
  ip: z.string().exactOptional(),
  ip6: z.string().exactOptional(),
});

const network = z.strictObject({ qemu: networkTemplate.exactOptional(), lxc: networkTemplate.exactOptional() });

const templates = z.strictObject({
  instances: z
    .strictObject({
      qemu: z.record(z.string(), templateEntry).exactOptional(),
      lxc: z.record(z.string(), templateEntry).exactOptional(),
    })
    .exactOptional(),
  network: network.exactOptional(),
});

/** A user's data of any age; nodes, pool and network of older files move to where they are today. */
export const recordSchema = z
  .strictObject({
    dn: z.string().exactOptional(),
    attributes: z.looseObject({ memberOf: z.array(z.string()).exactOptional() }).exactOptional(),
    resources: z.record(z.string().min(1), limits).exactOptional(),
    cluster: cluster.exactOptional(),
    templates: templates.exactOptional(),
    nodes: grants.exactOptional(),
    network: network.exactOptional(),
  })
  .transform(({ nodes, network, cluster, templates, ...rest }, context): RecordPatch => {
    const { pool, ...granted } = cluster ?? {};
    const twice = (old: string, now: string) =>
      context.addIssue({ code: 'custom', message: `"${old}" and "${now}" say the same: give one` });
    if (nodes !== undefined && granted.nodes !== undefined) twice('nodes', 'cluster.nodes');
    if (pool !== undefined && granted.pools !== undefined) twice('cluster.pool', 'cluster.pools');
    if (network !== undefined && templates?.network !== undefined) twice('network', 'templates.network');
    const moved = {
      ...granted,
      ...(nodes === undefined ? {} : { nodes }),
      ...(pool === undefined ? {} : { pools: pool === '' ? {} : { [pool]: true } }),
    };
    return {
      ...rest,
      ...(cluster === undefined && nodes === undefined ? {} : { cluster: moved }),
      ...(templates === undefined && network === undefined
        ? {}
        : { templates: { ...templates, ...(network === undefined ? {} : { network }) } }),
    };
  });

/** A part of a record in today's form: what one backend says, and nothing it does not say. */
export interface RecordPatch {
  readonly dn?: string;
  readonly attributes?: Readonly<Record<string, unknown>>;
  readonly resources?: Readonly<Record<string, LimitPatch<{ readonly max: Max }> | LimitPatch<readonly ListEntry[]>>>;
  readonly cluster?: Partial<ClusterGrants>;
  readonly templates?: {
    readonly instances?: Partial<Templates['instances']>;
    readonly network?: Templates['network'];
  };
}

/** Brings a record of any age to today's form; a limit whose form does not suit the configured resource is a fault. */
export function normaliseRecord(
  input: unknown,
  resources: Resources,
  at: readonly PropertyKey[] = [],
): Checked<RecordPatch> {
  const checked = check(recordSchema, input, at);
  if (!fits(checked)) return checked;
  const faults = Object.entries(checked.value.resources ?? {}).flatMap(([name, limit]): Fault[] => {
    const declared = Object.hasOwn(resources, name) ? resources[name] : undefined;
    const values = [limit.global, ...Object.values(limit.nodes)].filter((value) => value !== undefined);
    if (declared === undefined || values.every((value) => Array.isArray(value) === (declared.type === 'list')))
      return [];
    const form = declared.type === 'list' ? 'lists of {"match", "name", "max"}' : '{"max": ...}';
    return [
      {
        field: formatPath([...at, 'resources', name]),
        problem: `expected ${form}: "${name}" is configured as ${declared.type}`,
      },
    ];
  });
  return faults.length > 0 ? { faults } : checked;
}

/** Limits for resources that the configuration does not declare: they have no effect, so most likely a name is misspelt. */
export function faultsOfNames(
  { resources = {} }: RecordPatch,
  declared: Resources,
  at: readonly PropertyKey[] = [],
): Fault[] {
  const names = Object.keys(declared);
  return Object.keys(resources)
    .filter((name) => !names.includes(name))
    .map((name) => ({
      field: formatPath([...at, 'resources', name]),
      problem: `the configuration declares no such resource${didYouMean(name, names)}`,
    }));
}

/** Lays one patch over another: the later one wins, deep for objects; lists, vmid ranges and template entries whole. */
export function mergeRecords(base: RecordPatch, over: RecordPatch): RecordPatch {
  return merge(base, over) as RecordPatch;
}

const wholes = /^\/(cluster\/vmid|templates\/instances\/[^/]*\/.*)$/s;

/** Whether what is at this path (`/cluster/vmid`) has parts that backends may say one by one. */
export function hasParts(value: unknown, path: string): value is Readonly<Record<string, unknown>> {
  return isObject(value) && !wholes.test(path);
}

/** Lays a tree in the shape of a record over another, by the rules for records. */
export function merge(base: unknown, over: unknown, path = ''): unknown {
  if (!hasParts(base, path) || !hasParts(over, path)) return over;
  const own = Object.entries(base).filter(([key]) => !Object.hasOwn(over, key));
  const laid = Object.entries(over).map(([key, value]) => [
    key,
    Object.hasOwn(base, key) ? merge(base[key], value, `${path}/${key}`) : value,
  ]);
  return Object.fromEntries([...own, ...laid]);
}

/** The whole record: what no backend said is "nothing allowed", and nodes and pools that were taken away (`false`) are gone. */
export function completeRecord({ dn, attributes, resources, cluster, templates }: RecordPatch): UserRecord {
  const { memberOf, ...others } = attributes ?? {};
  return {
    ...(dn === undefined ? {} : { dn }),
    attributes: { ...others, memberOf: (memberOf as readonly string[] | undefined) ?? [] },
    resources: Object.fromEntries(
      Object.entries(resources ?? {})
        .filter(([, limit]) => saysSomething(limit))
        .map(([name, limit]) => [name, completeLimit(limit)]),
    ),
    cluster: {
      admin: cluster?.admin ?? false,
      nodes: granted(cluster?.nodes),
      pools: granted(cluster?.pools),
      vmid: cluster?.vmid ?? { min: -1, max: -1 },
      backups: cluster?.backups ?? { max: 0 },
    },
    templates: {
      instances: { qemu: templates?.instances?.qemu ?? {}, lxc: templates?.instances?.lxc ?? {} },
      network: templates?.network ?? {},
    },
  };
}

/** A limit without any scope is none, and does not even show whether it is an amount or a list. */
function saysSomething({ global, nodes }: LimitPatch<unknown>): boolean {
  return global !== undefined || Object.keys(nodes).length > 0;
}

function completeLimit({ global, nodes }: LimitPatch<unknown>): NumericLimits | ListLimits {
  const none = Object.values(nodes).some(Array.isArray) ? [] : { max: 0 };
  return { global: global ?? none, nodes } as NumericLimits | ListLimits;
}

function granted(names: Readonly<Record<string, boolean>> = {}): Readonly<Record<string, boolean>> {
  return Object.fromEntries(Object.entries(names).filter(([, allowed]) => allowed));
}
