/** PVE's property strings: `local:32,size=1G,ssd=1`. What a text may hold is given by a table of properties. */

import { formatSize, parseSize } from './sizes.ts';

export interface Property {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'size';
  /** Has to be there. */
  readonly required?: true;
  /** May be written without its name, anywhere in the text. */
  readonly defaultKey?: true;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly pattern?: RegExp;
}

export interface PropertyFormat {
  readonly properties: Readonly<Record<string, Property>>;
  /** Other names of a property. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** `virtio=AA:...` names the model and the address at once. */
  readonly keyAlias?: { readonly names: readonly string[]; readonly key: string; readonly value: string };
  /** Skipped without a word. */
  readonly ignored?: readonly string[];
}

export type Properties = Readonly<Record<string, string>>;

/** Why a text is not of its format. */
export class PropertyError extends Error {
  override readonly name = 'PropertyError';
}

/** The properties of a text, booleans as 0 or 1; throws PropertyError. */
export function parseProperties(format: PropertyFormat, text: string): Properties {
  const found: Record<string, string> = {};
  for (const part of text.split(',')) if (part !== '') readPart(format, part, found);
  for (const [key, { required }] of Object.entries(format.properties)) {
    if (required && found[key] === undefined)
      throw new PropertyError(`${key}: property is missing and it is not optional`);
  }
  return found;
}

function readPart(format: PropertyFormat, part: string, found: Record<string, string>): void {
  const match = /^([^=]+)=(.+)$/s.exec(part);
  if (match === null) {
    if (part.includes('=')) throw new PropertyError('invalid format - missing key in comma-separated list property');
    const key = defaultKeyOf(format);
    if (key === undefined) throw new PropertyError('value without key, but schema does not define a default key');
    // PVE asks whether the value it has is true, so that 0 may be said again.
    if (isTrue(found[key])) throw new PropertyError(`duplicate key in comma-separated list property: ${key}`);
    found[key] = checked(format, key, part);
    return;
  }
  const [, name = '', value = ''] = match;
  if (format.ignored?.includes(name)) return;
  if (format.keyAlias?.names.includes(name)) {
    assign(format, format.keyAlias.key, name, found);
    assign(format, format.keyAlias.value, value, found);
    return;
  }
  assign(format, format.aliases?.[name] ?? name, value, found);
}

function assign(format: PropertyFormat, key: string, value: string, found: Record<string, string>): void {
  if (isTrue(found[key])) throw new PropertyError(`duplicate key in comma-separated list property: ${key}`);
  found[key] = checked(format, key, value);
}

/** Perl's idea of truth. */
function isTrue(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0';
}

function defaultKeyOf(format: PropertyFormat): string | undefined {
  return Object.keys(format.properties).find((key) => format.properties[key]?.defaultKey);
}

function checked(format: PropertyFormat, key: string, value: string): string {
  const property = Object.hasOwn(format.properties, key) ? format.properties[key] : undefined;
  if (property === undefined)
    throw new PropertyError(`invalid format - format error\n${key}: property is not defined in schema`);
  const fault = faultOf(property, value);
  if (fault !== undefined) throw new PropertyError(`invalid format - format error\n${key}: ${fault}`);
  return property.type === 'boolean' ? (readBoolean(value) ?? '0') : value;
}

function faultOf(property: Property, value: string): string | undefined {
  if (property.enum && !property.enum.includes(value)) {
    return `value '${value}' does not have a value in the enumeration '${property.enum.join(', ')}'`;
  }
  if (property.pattern && !property.pattern.test(value)) return 'value does not match the regex pattern';
  if (property.type === 'boolean' && readBoolean(value) === undefined) {
    return `type check ('boolean') failed - got '${value}'`;
  }
  if (property.type === 'size' && !/^\d+(\.\d+)?([KMGT](iB)?)?$/.test(value)) {
    return `value does not look like a valid disk size: ${value}`;
  }
  return property.type === 'integer' || property.type === 'number' ? numberFault(property, value) : undefined;
}

function numberFault({ type, minimum, maximum }: Property, value: string): string | undefined {
  const form = type === 'integer' ? /^[+-]?\d+$/ : /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
  if (!form.test(value)) return `type check ('${type}') failed - got '${value}'`;
  if (minimum !== undefined && Number(value) < minimum) return `value must have a minimum value of ${minimum}`;
  if (maximum !== undefined && Number(value) > maximum) return `value must have a maximum value of ${maximum}`;
  return undefined;
}

function readBoolean(value: string): '0' | '1' | undefined {
  if (/^(1|on|yes|true)$/i.test(value)) return '1';
  return /^(0|off|no|false)$/i.test(value) ? '0' : undefined;
}

/** PVE's canonical text: the default key without its name, then required keys, then all others, each in order of name. */
export function printProperties(format: PropertyFormat, found: Properties): string {
  const unnamed = defaultKeyOf(format);
  const { keyAlias } = format;
  const combined = keyAlias && found[keyAlias.key] !== undefined && found[keyAlias.value] !== undefined;
  const done = new Set(combined ? [keyAlias.key, keyAlias.value] : []);
  const keys = Object.keys(found)
    .filter((key) => !done.has(key) && key !== unnamed)
    .sort();
  const isRequired = (key: string) => format.properties[key]?.required === true;
  const named = [...keys.filter(isRequired), ...keys.filter((key) => !isRequired(key))];
  return [
    ...(combined ? [`${found[keyAlias.key]}=${found[keyAlias.value]}`] : []),
    ...(unnamed !== undefined && !done.has(unnamed) && found[unnamed] !== undefined ? [found[unnamed]] : []),
    ...named.map((key) => `${key}=${printed(format.properties[key], found[key] ?? '')}`),
  ].join(',');
}

function printed(property: Property | undefined, value: string): string {
  const bytes = property?.type === 'size' ? parseSize(value) : undefined;
  return bytes === undefined ? value : formatSize(bytes);
}
