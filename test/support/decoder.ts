/**
 * Answers as the dashboards read them: the static one fails on any status but 200 and on any body that is no object or
 * array; the Go one fails on a missing field, a number in quotes, a negative or broken one. Other fields are free.
 */

import { z } from 'zod';
import type { Reply } from './site.ts';

const unsigned = z.int().min(0);
const named = z.looseObject;
const byName = <T extends z.ZodType>(value: T) => z.record(z.string(), value);

const max = named({ max: unsigned });
const standing = named({ max: unsigned, used: unsigned, avail: z.int() });
const entry = named({ match: z.string(), name: z.string(), max: unsigned });
const standingEntry = entry.extend(standing.shape);
const scoped = <T extends z.ZodType>(limit: T) => named({ global: limit, nodes: byName(limit) });
const withTotal = <T extends z.ZodType>(limit: T) => scoped(limit).extend({ total: limit });
const quotas = byName(z.union([scoped(max), scoped(z.array(entry))]));

const grants = named({
  admin: z.boolean(),
  nodes: byName(z.boolean()),
  pools: byName(z.boolean()),
  vmid: named({ min: z.int(), max: z.int() }),
  backups: max,
});

const user = named({
  attributes: named({ memberOf: z.array(z.string().includes('cn=')) }),
  resources: quotas,
  cluster: grants,
});

const group = named({
  dn: z.string(),
  attributes: named({ cn: z.string(), member: z.array(z.union([z.literal(''), z.string().includes('uid=')])) }),
});

const described = named({
  type: z.enum(['numeric', 'storage', 'list']),
  name: z.string(),
  display: z.boolean(),
  category: z.string(),
});
const amount = described.extend({
  multiplier: unsigned,
  base: z.literal([1000, 1024]),
  compact: z.boolean(),
  unit: z.string(),
});

const volume = named({ type: z.string(), volume_id: z.string(), file: z.string(), size: unsigned, mp: z.string() });
const net = named({ net_id: z.string(), value: z.string(), rate: unsigned, vlan: unsigned });

const device = named({
  id: z.string(),
  device_id: z.string(),
  device_bus: z.string(),
  device_name: z.string(),
  vendor_name: z.string(),
  functions: byName(named({ function_id: z.string(), reserved: z.boolean() })),
  reserved: z.boolean(),
  Value: z.string(),
});

/** What is read of each answer, by what it tells. */
export const shapes = {
  nothing: named({}),
  auth: named({ auth: z.literal(true) }),
  signedOut: named({ auth: z.literal(false) }),
  version: named({ version: z.string() }),
  echo: z.strictObject({ body: z.strictObject({}), cookies: z.strictObject({}) }),
  password: named({ ok: z.literal(true), allResponses: z.array(z.unknown()) }),
  users: named({ users: byName(user) }),
  user: named({ user }),
  groups: named({ groups: byName(group) }),
  group: named({ group }),
  grants,
  quotas: quotas.and(named({ cpu: scoped(z.array(entry)) })),
  usage: byName(z.union([withTotal(standing), withTotal(z.array(standingEntry))])),
  media: z.array(named({ name: z.string(), volid: z.string() })),
  resources: named({ resources: byName(z.union([amount, described.extend({ type: z.literal('list') })])) }),
  schemes: named({
    always: named({ enabled: z.boolean() }),
    hash: named({ enabled: z.boolean() }),
    interrupt: named({ enabled: z.boolean(), 'min-rate': z.number(), 'max-rate': z.number() }),
  }),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  data: named({ data: z.unknown() }),
  task: named({ upid: z.string().startsWith('UPID:'), status: z.literal('stopped'), exitstatus: z.literal('OK') }),
  done: named({ data: z.null() }),
  pools: named({ pools: z.array(z.string()) }),
  nodes: named({ nodes: z.array(z.string()) }),
  devices: z.array(device),
  device,
  instance: named({
    type: z.enum(['VM', 'CT']),
    name: z.string(),
    cpu: z.string(),
    cores: unsigned,
    memory: unsigned,
    swap: unsigned,
    volumes: byName(volume),
    nets: byName(net),
    devices: byName(device.omit({ id: true })).nullable(),
    boot: named({ enabled: z.array(z.union([volume, net])), disabled: z.array(z.union([volume, net])) }),
  }),
  backups: z.array(named({ volid: z.string(), notes: z.string(), size: unsigned, ctime: unsigned })),
  upid: z.string().startsWith('UPID:'),
  blank: z.literal(''),
} as const;

/** The answer as a dashboard reads it; throws with all that it would trip over. */
export function decoded<T extends z.ZodType>(shape: T, { status, headers, body }: Reply): z.output<T> {
  const type = headers.get('content-type') ?? 'nothing';
  const isRead = typeof body === 'string' ? type.startsWith('text/html') : type.startsWith('application/json');
  if (status !== 200 || !isRead || body === null || !['object', 'string'].includes(typeof body))
    throw new Error(`no dashboard reads this as a success: ${status} ${type} ${JSON.stringify(body)}`);
  return shape.parse(body);
}

/** What a dashboard shows of a refusal; throws when it would show "undefined", or markup. */
export function refusalIn({ status, headers, body }: Reply): { readonly status: number; readonly error: string } {
  const json = headers.get('content-type')?.startsWith('application/json') === true;
  if (status < 400 || !json || typeof body?.error !== 'string' || body.error === '' || body.error.includes('<'))
    throw new Error(`no dashboard reads this as a refusal: ${status} ${JSON.stringify(body)}`);
  return { status, error: body.error };
}
