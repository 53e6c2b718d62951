/** PVE's verification of parameters: closed schemas, one fault for each parameter, texts as PVE words them. */

import type { RawParameters } from './call.ts';
import type { MethodRow, Schema } from './method.ts';
import { formatFault } from './named-formats.ts';
import { parameterError } from './pve-error.ts';

export type Verified = Readonly<Record<string, unknown>>;

interface Family {
  readonly expression: RegExp;
  readonly schema: Schema;
}

interface ClosedSchema {
  readonly single: ReadonlyMap<string, Schema>;
  readonly families: readonly Family[];
}

type Judgement = { readonly value: unknown } | { readonly fault: string };

const ofPath: Readonly<Record<string, Schema>> = {
  node: { type: 'string', format: 'pve-node' },
  vmid: { type: 'integer', format: 'pve-vmid', minimum: 100, maximum: 999_999_999 },
  storage: { type: 'string', format: 'pve-storage-id' },
  userid: { type: 'string', format: 'pve-userid', maxLength: 64 },
  groupid: { type: 'string', format: 'pve-groupid' },
  roleid: { type: 'string', format: 'pve-roleid' },
};

const known = new WeakMap<MethodRow, ClosedSchema>();

/** The parameters in their types, under their proper names; throws the 400 that names every fault. */
export function verifyParameters(row: MethodRow, given: RawParameters): Verified {
  const schema = closedSchema(row);
  const faults = new Map<string, string>();
  const values: Record<string, unknown> = {};
  for (const [name, raw] of given) {
    const property = propertyOf(schema, name);
    if (property === undefined) {
      faults.set(name, 'property is not defined in schema and the schema does not allow additional properties');
      continue;
    }
    if (raw === undefined || raw === null) continue;
    const judged = judge(property, raw);
    if ('fault' in judged) faults.set(name, judged.fault);
    else values[property.alias ?? name] = judged.value;
    if (property.requires !== undefined && given.get(property.requires) === undefined) {
      faults.set(property.requires, `missing property - '${name}' requires this property`);
    }
  }
  for (const [name, property] of schema.single) {
    if (property.optional || property.alias !== undefined || name in values || faults.has(name)) continue;
    faults.set(name, 'property is missing and it is not optional');
  }
  if (faults.size > 0) throw parameterError(Object.fromEntries(faults));
  return values;
}

function closedSchema(row: MethodRow): ClosedSchema {
  const compiled = known.get(row) ?? compile(row);
  known.set(row, compiled);
  return compiled;
}

function compile({ path, parameters }: MethodRow): ClosedSchema {
  const inPath = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name = '']): [string, Schema] => [
    name,
    ofPath[name] ?? { type: 'string' },
  ]);
  const all = [...inPath, ...Object.entries(parameters)];
  return {
    single: new Map(all.filter(([name]) => !name.endsWith('[n]'))),
    families: all.filter(([name]) => name.endsWith('[n]')).map(([name, schema]) => familyOf(name.slice(0, -3), schema)),
  };
}

function familyOf(name: string, schema: Schema): Family {
  return { expression: new RegExp(`^${name}(0|[1-9][0-9]{0,5})$`), schema };
}

function propertyOf({ single, families }: ClosedSchema, name: string): Schema | undefined {
  const own = single.get(name);
  if (own !== undefined) return own;
  for (const { expression, schema } of families) {
    const index = expression.exec(name)?.[1];
    if (index !== undefined && Number(index) < (schema.count ?? Number.POSITIVE_INFINITY)) return schema;
  }
  return undefined;
}

function judge(schema: Schema, raw: unknown): Judgement {
  if (schema.type === 'array') return judgeArray(schema, [raw].flat());
  const isJoinable = schema.format?.endsWith('-list') && Array.isArray(raw);
  const value = isJoinable ? raw.join(',') : raw;
  if (typeof value === 'boolean' && schema.type === 'boolean') return { value: value ? 1 : 0 };
  if (typeof value === 'object' || typeof value === 'boolean') {
    return { fault: `type check ('${schema.type}') failed - got ${perlKind(value)}` };
  }
  return judgeText(schema, String(value));
}

/** One value alone is an array of one. */
function judgeArray({ items }: Schema, values: readonly unknown[]): Judgement {
  const judged = items === undefined ? [] : values.map((value) => judge(items, value));
  const fault = judged.find((one) => 'fault' in one);
  return fault ?? { value: values };
}

function judgeText(schema: Schema, text: string): Judgement {
  const fault = typeFault(schema, text) ?? textFault(schema, text) ?? rangeFault(schema, text);
  return fault === undefined ? { value: typed(schema, text) } : { fault };
}

// Every `\n?$` is what `$` means to PVE: a newline may follow.
const integer = /^[+-]?\p{Nd}+\n?$/u;
const number = /^[+-]?(\p{Nd}+(\.\p{Nd}*)?|\.\p{Nd}+)(e[+-]?\p{Nd}+)?\n?$/iu;

function typeFault({ type }: Schema, text: string): string | undefined {
  const isOfType =
    (type === 'integer' && integer.test(text)) ||
    (type === 'number' && number.test(text)) ||
    (type === 'boolean' && /^[01]$/.test(text)) ||
    type === 'string';
  return isOfType ? undefined : `type check ('${type}') failed - got '${text}'`;
}

function textFault({ format, pattern, maxLength, minLength, enum: words }: Schema, text: string): string | undefined {
  const badFormat = format === undefined ? undefined : formatFault(format, text);
  if (badFormat !== undefined) return `invalid format - ${badFormat}\n`;
  if (pattern !== undefined && !new RegExp(`^(?:${pattern})\n?$`).test(text))
    return 'value does not match the regex pattern';
  if (maxLength !== undefined && text.length > maxLength) return `value may only be ${maxLength} characters long`;
  if (minLength !== undefined && text.length < minLength) return `value must be at least ${minLength} characters long`;
  if (words !== undefined && !words.includes(text)) {
    return `value '${text}' does not have a value in the enumeration '${words.join(', ')}'`;
  }
  return undefined;
}

function rangeFault({ type, minimum, maximum }: Schema, text: string): string | undefined {
  if (type !== 'integer' && type !== 'number') return undefined;
  const value = numberOf(text);
  if (maximum !== undefined && value > maximum) return `value must have a maximum value of ${maximum}`;
  if (minimum !== undefined && value < minimum) return `value must have a minimum value of ${minimum}`;
  return undefined;
}

function typed({ type }: Schema, text: string): unknown {
  return type === 'string' ? text : numberOf(text);
}

/** Digits of other scripts pass as digits but count as nothing. */
function numberOf(text: string): number {
  return Number.parseFloat(text) || 0;
}

function perlKind(value: unknown): string {
  if (Array.isArray(value)) return 'ARRAY';
  return typeof value === 'boolean' ? 'JSON::PP::Boolean' : 'HASH';
}
