/** A small LDAP server in memory: as much of LDAP as a directory of people and groups needs, with LDAP's result codes. */

export interface Entry {
  readonly dn: string;
  readonly attributes: Readonly<Record<string, readonly string[]>>;
}

export interface Modification {
  readonly operation: 'add' | 'delete' | 'replace';
  readonly attribute: string;
  readonly values: readonly string[];
}

/** A connection bound as somebody: it sees and changes what the server lets them. */
export interface LdapConnection {
  search(base: string, scope: 'base' | 'one' | 'sub', objectClass?: string): Promise<readonly Entry[]>;
  add(entry: Entry): Promise<void>;
  modify(dn: string, modifications: readonly Modification[]): Promise<void>;
  remove(dn: string): Promise<void>;
}

export interface LdapServer extends AsyncDisposable {
  /** Throws LdapError when the server refuses, any other error when it cannot be reached. */
  bind(dn: string, password: string): Promise<LdapConnection>;
}

/** The results that a directory of people and groups can give. */
export const results: Readonly<Record<number, string>> = {
  16: 'No Such Attribute',
  20: 'Type or Value Exists',
  32: 'No Such Object',
  34: 'Invalid DN Syntax',
  49: 'Invalid Credentials',
  50: 'Insufficient Access Rights',
  53: 'Unwilling To Perform',
  68: 'Entry Already Exists',
};

export class LdapError extends Error {
  readonly code: number;

  constructor(code: number) {
    super(results[code] ?? 'Other');
    this.code = code;
  }
}

export const suffix = 'dc=example,dc=org';
export const people = `ou=people,${suffix}`;
export const groups = `ou=groups,${suffix}`;

/** The one who may change everything; others may change themselves. */
export const administrator = `uid=admin,${people}`;

export const person = (uid: string, cn: string, sn: string, password: string): Entry => ({
  dn: `uid=${uid},${people}`,
  attributes: {
    objectClass: ['inetOrgPerson'],
    uid: [uid],
    cn: [cn],
    sn: [sn],
    mail: [`${uid}@example.org`],
    userPassword: [password],
  },
});

/** What a new directory holds: three people, each with the password `<uid>-secret`, a group, and something else. */
export const seed: readonly Entry[] = [
  { dn: suffix, attributes: { objectClass: ['dcObject', 'organization'], dc: ['example'], o: ['Example'] } },
  { dn: people, attributes: { objectClass: ['organizationalUnit'], ou: ['people'] } },
  { dn: groups, attributes: { objectClass: ['organizationalUnit'], ou: ['groups'] } },
  person('admin', 'Ada Minster', 'Minster', 'admin-secret'),
  person('alice', 'Alice Ames', 'Ames', 'alice-secret'),
  person('bob', 'Bob Bär', 'Bär', 'bob-secret'),
  { dn: `uid=printer,${people}`, attributes: { objectClass: ['account'], uid: ['printer'] } },
  {
    dn: `cn=lab,${groups}`,
    attributes: { objectClass: ['groupOfNames'], cn: ['lab'], member: ['', `uid=alice,${people}`] },
  },
];

/** An LDAP server with the seed in it. */
export function memoryLdap(): LdapServer {
  const entries = new Map(seed.map((entry) => [keyOf(entry.dn), entry]));
  return {
    async bind(dn, password) {
      const found = entries.get(keyOf(dn));
      if (password === '') throw new LdapError(53);
      if (found?.attributes.userPassword?.includes(password) !== true) throw new LdapError(49);
      return connect(entries, keyOf(dn));
    },
    async [Symbol.asyncDispose]() {
      entries.clear();
    },
  };
}

function connect(entries: Map<string, Entry>, self: string): LdapConnection {
  const find = (dn: string): Entry => {
    const entry = entries.get(keyOf(dn));
    if (entry === undefined) throw new LdapError(32);
    return entry;
  };
  const mayChange = (dn: string): void => {
    if (self !== keyOf(administrator) && self !== keyOf(dn)) throw new LdapError(50);
  };
  const shown = ({ dn, attributes }: Entry): Entry => {
    const memberOf = [...entries.values()].filter((group) => group.attributes.member?.some((one) => same(one, dn)));
    return { dn, attributes: { ...attributes, memberOf: memberOf.map((group) => group.dn) } };
  };
  return {
    async search(base, scope, objectClass) {
      find(base);
      const inside = {
        base: (dn: string) => dn === keyOf(base),
        one: (dn: string) => parentOf(dn) === keyOf(base),
        sub: (dn: string) => dn === keyOf(base) || dn.endsWith(`,${keyOf(base)}`),
      };
      return [...entries]
        .filter(([dn]) => inside[scope](dn))
        .map(([, entry]) => entry)
        .filter(({ attributes }) => objectClass === undefined || attributes.objectClass?.includes(objectClass))
        .map(shown);
    },
    async add(entry) {
      mayChange(entry.dn);
      if (entries.has(keyOf(entry.dn))) throw new LdapError(68);
      entries.set(keyOf(entry.dn), entry);
    },
    async modify(dn, modifications) {
      const entry = find(dn);
      mayChange(dn);
      const attributes = modifications.reduce(modified, entry.attributes);
      entries.set(keyOf(dn), { dn: entry.dn, attributes });
    },
    async remove(dn) {
      find(dn);
      mayChange(dn);
      entries.delete(keyOf(dn));
    },
  };
}

function modified(
  attributes: Entry['attributes'],
  { operation, attribute, values }: Modification,
): Entry['attributes'] {
  const before = attributes[attribute] ?? [];
  if (operation === 'replace') return { ...attributes, [attribute]: values };
  const present = (value: string) => before.some((one) => same(one, value));
  if (operation === 'add') {
    if (values.some(present)) throw new LdapError(20);
    return { ...attributes, [attribute]: [...before, ...values] };
  }
  if (!values.every(present)) throw new LdapError(16);
  return { ...attributes, [attribute]: before.filter((one) => !values.some((value) => same(one, value))) };
}

/** LDAP does not tell the cases of names apart. */
function keyOf(dn: string): string {
  if (!/^([a-z]+=[^,+"\\<>;=]+(,|$))+$/i.test(dn)) throw new LdapError(34);
  return dn.toLowerCase();
}

function same(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

function parentOf(dn: string): string {
  return keyOf(dn).replace(/^[^,]*,/, '');
}
