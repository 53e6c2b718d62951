/** PVE's property strings: `key=value` parts joined by commas, one key of which may go unnamed. */

export interface PropertyFormat {
  /** The key of the part that has no `=`, wherever it stands. */
  readonly defaultKey?: string;
  /** Other spellings of a key. `{key, value}` is one whose name is itself a value: `virtio=<mac>` says `model=virtio,macaddr=<mac>`. */
  readonly aliases?: Readonly<Record<string, string | { readonly key: string; readonly value: string }>>;
}

/** The text is no property string, or PVE could read it in more than one way; the message names the part. */
export class PropertyStringError extends Error {
  override readonly name = 'PropertyStringError';
}

/**
 * The values by key, in the order given, aliases resolved.
 * A key named twice is refused even where PVE takes the last one, which it does when the first is false.
 */
export function parsePropertyString(text: string, format: PropertyFormat = {}): ReadonlyMap<string, string> {
  if (/\p{Cc}/u.test(text)) throw new PropertyStringError('a control character is not allowed');
  const values = new Map<string, string>();
  for (const part of text.split(',').filter((part) => part.trim() !== '')) {
    for (const [key, value] of entriesOf(part, format)) {
      if (values.has(key)) throw new PropertyStringError(`'${key}' is given twice`);
      values.set(key, value);
    }
  }
  return values;
}

function entriesOf(part: string, { defaultKey, aliases }: PropertyFormat): readonly (readonly [string, string])[] {
  const equals = part.indexOf('=');
  if (equals === -1 && defaultKey === undefined) throw new PropertyStringError(`'${part}' needs the form key=value`);
  const key = equals === -1 ? (defaultKey ?? '') : part.slice(0, equals);
  const value = part.slice(equals + 1);
  if (key === '' || value === '') throw new PropertyStringError(`'${part}' lacks a ${key === '' ? 'key' : 'value'}`);
  const alias = aliases !== undefined && Object.hasOwn(aliases, key) ? aliases[key] : undefined;
  if (alias === undefined) return [[key, value]];
  if (typeof alias === 'string') return [[alias, value]];
  return [
    [alias.key, key],
    [alias.value, value],
  ];
}

/** The text that PVE reads back as exactly these values; the default key comes first and unnamed where that is unambiguous. */
export function formatPropertyString(
  values: Iterable<readonly [string, string]>,
  { defaultKey }: PropertyFormat = {},
): string {
  const entries = [...values];
  const broken = entries.find(
    ([key, value]) => !/^[^=,\p{Cc}]*[^=,\p{Cc}\s][^=,\p{Cc}]*$/u.test(key) || !/^[^,\p{Cc}]+$/u.test(value),
  );
  if (broken !== undefined)
    throw new PropertyStringError(`'${broken[0]}' has a value that a property string cannot hold`);
  const unnamed = ([key, value]: readonly [string, string]): boolean =>
    key === defaultKey && !value.includes('=') && value.trim() !== '';
  return [
    ...entries.filter(unnamed).map(([, value]) => value),
    ...entries.filter((entry) => !unnamed(entry)).map((entry) => entry.join('=')),
  ].join(',');
}
