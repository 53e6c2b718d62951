/** The kinds of resources that the configuration declares (its `resources` section). */

import { z } from 'zod';
import type { Fault } from '../errors.ts';
import { expected } from '../schema.ts';

interface Presented {
  readonly display: boolean;
  /** Heading on account pages; '' for none. */
  readonly category: string;
}

/** A number per instance, or bytes on the storage of that name; amounts are integers in the resource's base unit. */
export interface AmountResource extends Presented {
  readonly type: 'numeric' | 'storage';
  readonly name: string;
  /** A quota number times this is the real amount in `unit`. */
  readonly multiplier: number;
  readonly base: 1000 | 1024;
  readonly compact: boolean;
  readonly unit: string;
  /** Storages only: the prefixes of the slots that may lie on it. */
  readonly disks?: readonly string[];
}

/** Things of which a user may have some by name: CPU types, devices. */
export interface ListResource extends Presented {
  readonly type: 'list';
  readonly name?: string;
  /** true: only what is listed is allowed; false: everything but what is listed. */
  readonly whitelist: boolean;
}

export type Resource = AmountResource | ListResource;
export type Resources = Readonly<Record<string, Resource>>;

const presented = {
  display: z.boolean().default(true).describe('Whether dashboards show it.'),
  category: z.string().default('').describe('The heading it is shown under.'),
};

const amount = {
  ...presented,
  name: z.string().exactOptional(),
  multiplier: z
    .int()
    .positive({ error: expected('a whole number above 0') })
    .default(1)
    .describe('A quota number times this is the real amount, in "unit": bytes, cores, bytes per second.'),
  base: z.literal([1000, 1024]).default(1024).describe('Of the prefixes it is shown with: k, M or Ki, Mi.'),
  compact: z.boolean().default(false).describe('Whether it is shown with prefixes.'),
  unit: z.string().default(''),
};

/** The slots that PVE knows, without their numbers. */
const slotPrefix = z.enum(['rootfs', 'mp', 'ide', 'sata', 'scsi', 'virtio', 'efidisk', 'tpmstate', 'unused']);

const resource = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('numeric'), ...amount }),
  z.strictObject({
    type: z.literal('storage'),
    ...amount,
    disks: z
      .array(slotPrefix)
      .exactOptional()
      .describe('The kinds of drives that dashboards may put there; none without it.'),
  }),
  z.strictObject({
    type: z.literal('list'),
    ...presented,
    name: z.string().exactOptional(),
    whitelist: z
      .boolean()
      .default(true)
      .describe('true: nothing but what the list of a user names; false: all but that.'),
  }),
]);

/** The `resources` section; an amount without a label is labelled with its own key. */
export const resourcesSchema = z
  .record(z.string().min(1), resource)
  .transform(
    (declared): Resources =>
      Object.fromEntries(
        Object.entries(declared).map(([name, row]) => [
          name,
          row.type === 'list' ? row : { ...row, name: row.name ?? name },
        ]),
      ),
  );

const types: readonly unknown[] = ['numeric', 'storage', 'list'];

/** What instances themselves use has one type only: the names fix it. */
const fixedTypes = {
  cpu: 'list',
  pci: 'list',
  cores: 'numeric',
  memory: 'numeric',
  swap: 'numeric',
  network: 'numeric',
} as const;

/** The resources whose type is known but does not suit their name; `input` is the section as it was given. */
export function faultsOfResources(input: unknown): Fault[] {
  return Object.entries(fixedTypes).flatMap(([name, type]) => {
    const given: unknown = Object(Object(input)[name]).type;
    if (given === type || !types.includes(given)) return [];
    const problem = `expected ${JSON.stringify(type)}, got ${JSON.stringify(given)}: "${name}" is what an instance itself uses`;
    return [{ field: `resources.${name}.type`, problem }];
  });
}
