/** Distinguished names: the names of entries in an LDAP directory. */

/** One attribute and its value in a name; a step of a name has one of them, seldom more. */
export interface NamePart {
  readonly type: string;
  readonly value: string;
}

/** The value as it stands in a distinguished name, whatever it is: it cannot end its step or begin another. */
export function escapeDnValue(value: string): string {
  return value.replace(/^[ #]|[ ]$|[,+"\\<>;=]/g, '\\$&').replace(/\p{Cc}/gu, hexPairs);
}

/** The steps of a name from the entry up to the root, unescaped; null when the text is no name. The name of the root has none. */
export function parseDn(text: string): readonly (readonly NamePart[])[] | null {
  const steps: NamePart[][] = [];
  let parts: NamePart[] = [];
  for (let rest = text.trim(); rest !== ''; ) {
    const found = part.exec(rest)?.groups;
    if (found === undefined) return null;
    const { whole = '', type = '', value = '', end = '' } = found;
    const plain = unescaped(value);
    if (plain === null) return null;
    parts.push({ type: type.toLowerCase(), value: plain });
    rest = rest.slice(whole.length);
    if (end !== '+') {
      steps.push(parts);
      parts = [];
    }
    if (end !== '' && rest === '') return null;
  }
  return steps;
}

/** Equal for two names of the same entry, since LDAP tells neither cases nor blanks around a step apart; null for what is no name. */
export function dnKey(text: string): string | null {
  const steps = parseDn(text);
  if (steps === null) return null;
  const keys = steps.map((parts) => parts.map(({ type, value }) => `${type}=${escapeDnValue(value.toLowerCase())}`));
  return keys.map((parts) => parts.toSorted().join('+')).join(',');
}

/** Whether both are the same name of a user or group but for the case, which neither PVE nor LDAP may go by. */
export function sameName(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

const part =
  /^(?<whole>\s*(?<type>[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+) *= *(?<value>(?:[^ ,+"\\<>;\p{Cc}]|\\[ ,+"\\<>;=#]|\\[0-9A-Fa-f]{2}| +(?![ ,+]|$))*) *(?<end>[,+]|$))/u;

/** Without its escapes; null when the bytes that it escapes are no text. */
function unescaped(value: string): string | null {
  try {
    return value.replace(/((?:\\[0-9A-Fa-f]{2})+)|\\(.)/g, (_, pairs: string | undefined, plain: string) =>
      pairs === undefined ? plain : utf8.decode(Buffer.from(pairs.replaceAll('\\', ''), 'hex')),
    );
  } catch {
    return null;
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function hexPairs(text: string): string {
  return Buffer.from(text).toString('hex').replace(/../g, '\\$&');
}
