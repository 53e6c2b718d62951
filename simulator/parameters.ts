/** Building blocks for the parameter tables of the methods. */

import type { Schema } from './method.ts';

export const text: Schema = { type: 'string', optional: true };
export const flag: Schema = { type: 'boolean', optional: true };

export function integer(minimum?: number, maximum?: number): Schema {
  return {
    type: 'integer',
    optional: true,
    ...(minimum === undefined ? {} : { minimum }),
    ...(maximum === undefined ? {} : { maximum }),
  };
}

export function number(minimum?: number, maximum?: number): Schema {
  return { ...integer(minimum, maximum), type: 'number' };
}

export function oneOf(...values: readonly string[]): Schema {
  return { type: 'string', optional: true, enum: values };
}

export function named(format: string): Schema {
  return { type: 'string', optional: true, format };
}

export function required(schema: Schema): Schema {
  return { ...schema, optional: false };
}

export const node: Schema = { type: 'string', format: 'pve-node' };
export const vmid: Schema = { type: 'integer', format: 'pve-vmid', minimum: 100, maximum: 999_999_999 };
export const digest: Schema = { type: 'string', optional: true, maxLength: 40 };
export const storageId = named('pve-storage-id');
/** The name of a snapshot. */
export const snapshotName: Schema = { ...named('pve-configid'), maxLength: 40 };
export const diskSize: Schema = { type: 'string', pattern: '\\+?\\d+(\\.\\d+)?[KMGT]?' };

/** Every key that a VM's disk can have. */
export const diskKeys: readonly string[] = Object.entries({
  ...{ ide: 4, scsi: 31, virtio: 16, sata: 6 },
  ...{ efidisk: 1, tpmstate: 1 },
}).flatMap(([name, count]) => Array.from({ length: count }, (_, index) => `${name}${index}`));

/** An optional text among the parameters of a call. */
export function textOf(value: unknown): string | undefined {
  return value === undefined ? undefined : String(value);
}
