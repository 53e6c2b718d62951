/** What the configuration says of an LDAP directory. */

import { z } from 'zod';
import { expected } from '../schema.ts';
import { secret } from '../secret.ts';
import { type GroupKind, usualKinds } from './ldap-group-kinds.ts';
import { parseDn } from './ldap-names.ts';

const serverUrl = z.string().refine(isServerUrl, {
  error: ({ input }) =>
    /^https?:/i.test(String(input))
      ? expected('the URL of an LDAP server (the PAAS-LDAP service is for the backend "paasldap")')({ input })
      : expected('the URL of an LDAP server, such as ldaps://ldap1.example.org (without path or user)')({ input }),
});

const dn = z.string().refine((text) => (parseDn(text)?.length ?? 0) > 0, {
  error: expected('the name of an entry, such as ou=people,dc=example,dc=org'),
});

const filter = z
  .string()
  .refine(isBalanced, { error: expected('an LDAP filter in parentheses, such as (objectClass=*)') });

const attribute = z.string().regex(/^[A-Za-z][A-Za-z0-9-]*$/, { error: expected('the name of an LDAP attribute') });

const classes = z.array(attribute).min(1);

const boundAs = z
  .string()
  .regex(/^[^{}]*\{id\}[^{}]*$/, { abort: true, error: expected('a name with {id} in it, once') })
  .refine(
    (text) => text.includes('@') || text.includes('\\') || (parseDn(text.replace('{id}', 'x'))?.length ?? 0) > 0,
    {
      error: expected('a name such as uid={id},ou=people,dc=example,dc=org or {id}@example.org'),
    },
  );

/** What is usual in a directory of each type. */
const usual = {
  openldap: {
    users: { filter: '(objectClass=inetOrgPerson)', name: 'uid', classes: ['inetOrgPerson'] },
    groups: {
      filter:
        '(|(objectClass=groupOfNames)(objectClass=groupOfMembers)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))',
      name: 'cn',
      membership: 'member',
      classes: ['groupOfNames'],
    },
    kinds: usualKinds,
    passwords: 'extended',
    /** The attribute by which an entry is found that has this name. */
    nameOfEntry: 'entryDN',
    /** Who is in a group that nobody is in, where the configuration says how groups are. */
    nobody: '',
  },
  ad: {
    users: {
      filter: '(&(objectCategory=person)(objectClass=user))',
      name: 'sAMAccountName',
      // An account without an end has 0 there, or the largest number that there is.
      disabled: '(|(userAccountControl:1.2.840.113556.1.4.803:=2)(&(accountExpires>=1)(accountExpires<={filetime})))',
      classes: ['top', 'person', 'organizationalPerson', 'user'],
    },
    groups: {
      filter: '(objectClass=group)',
      name: 'sAMAccountName',
      membership: 'memberOf',
      classes: ['top', 'group'],
    },
    kinds: [{ objectClass: null, member: 'member', holds: 'dn', nobody: null }],
    passwords: 'unicodePwd',
    nameOfEntry: 'distinguishedName',
    nobody: null,
  },
} as const;

const given = z
  .strictObject({
    url: z
      .union([serverUrl, z.array(serverUrl).min(1)])
      .describe(
        'The LDAP server, ldap:// or ldaps://, or several with the same content: the first that answers is used.',
      ),
    realm: z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9.\-_]+$/, { error: expected('the name of a PVE realm') })
      .describe('The PVE realm of the same users.'),
    type: z
      .enum(['openldap', 'ad'])
      .default('openldap')
      .describe('What the settings that are left out are taken from.'),
    starttls: z
      .boolean()
      .default(true)
      .describe('Whether ldap:// is made secure by StartTLS before anything is said. Passwords are sent.'),
    ca: z.string().min(1).exactOptional().describe('PEM file with the certificate authority of the servers.'),
    bind: z
      .strictObject({ dn: z.string().min(3), password: secret })
      .exactOptional()
      .describe('The account that users and groups are read and changed with.'),
    users: z.strictObject({
      base: dn.describe('The entry below which users are.'),
      filter: filter.exactOptional().describe('Which entries there are users.'),
      name: attribute.exactOptional().describe('The attribute with the name of a user in PVE: uid, sAMAccountName.'),
      disabled: filter
        .exactOptional()
        .describe('Which users may not sign in; {filetime} is the time in the way of Active Directory.'),
      boundAs: boundAs
        .exactOptional()
        .describe('Without "bind": what a user binds as, {id} being the name: uid={id},ou=people,dc=example,dc=org.'),
      classes: classes.exactOptional().describe('The object classes of new users.'),
    }),
    groups: z
      .strictObject({
        base: dn.describe('The entry below which groups are; others count for nothing.'),
        filter: filter.exactOptional().describe('Which entries there are groups.'),
        name: attribute.exactOptional().describe('The attribute with the name of a group.'),
        member: attribute
          .exactOptional()
          .describe('The attribute of a group with its members. Without it: what is usual for its object class.'),
        holds: z
          .enum(['dn', 'name'])
          .exactOptional()
          .describe('What is in "member": names of entries, or of users. Without it: dn, and name for memberUid.'),
        membership: z
          .enum(['member', 'memberOf'])
          .exactOptional()
          .describe("Whether the groups of a user are found by their members or by the user's memberOf."),
        nested: z.int().min(0).max(10).default(0).describe('How many levels of groups within groups count.'),
        classes: classes.exactOptional().describe('The object classes of new groups.'),
      })
      .exactOptional(),
    passwords: z
      .enum(['extended', 'unicodePwd', 'none'])
      .exactOptional()
      .describe('How passwords are changed: by the extended operation, in the way of Active Directory, or not here.'),
    page: z.int().min(10).max(1000).default(500).describe('Entries asked for at a time.'),
    connections: z.int().min(1).max(64).default(4).describe('Most questions at a time, and most sign-ins at a time.'),
    deadline: z.number().min(0.05).max(3600).default(10).describe('Seconds after which a question is given up.'),
  })
  .refine(({ groups }) => groups?.holds === undefined || groups.member !== undefined, {
    path: ['groups', 'holds'],
    error: 'expected beside "member" alone, since it says what that attribute holds',
  })
  .refine(({ bind, users }) => bind !== undefined || users.boundAs !== undefined, {
    path: ['bind'],
    error: 'expected an account to read the directory with, or "users.boundAs" to have each user bind for themselves',
  });

/** The configuration of an `ldap` backend; what is left out is what is usual for its type. */
export const ldapSettings = given.transform(({ url, users, groups, passwords, ...others }) => {
  const usually = usual[others.type];
  return {
    ...others,
    urls: [url].flat(),
    users: { disabled: null, ...usually.users, ...users },
    groups:
      groups === undefined
        ? null
        : { ...usually.groups, ...groups, nameOfEntry: usually.nameOfEntry, kinds: kindsIn(groups, usually) },
    passwords: passwords ?? usually.passwords,
  };
});

/** The one kind of groups that the configuration tells of, or those that are usual. */
function kindsIn(
  { member, holds }: { readonly member?: string; readonly holds?: 'dn' | 'name' },
  { kinds, nobody }: { readonly kinds: readonly GroupKind[]; readonly nobody: string | null },
): readonly GroupKind[] {
  if (member === undefined) return kinds;
  const held = holds ?? (/^memberUid$/i.test(member) ? 'name' : 'dn');
  return [{ objectClass: null, member, holds: held, nobody: held === 'dn' ? nobody : null }];
}

export type LdapSettings = z.output<typeof ldapSettings>;

function isServerUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || !/^ldaps?:$/.test(url.protocol) || url.hostname === '' || !/^\/?$/.test(url.pathname))
    return false;
  return !(url.username || url.password || url.search || url.hash);
}

function isBalanced(text: string): boolean {
  let depth = 0;
  for (const [index, character] of text.split('').entries()) {
    if (character === '(') depth += 1;
    if (character === ')') depth -= 1;
    if (depth < 1 && index < text.length - 1) return false;
  }
  return depth === 0 && text !== '' && !text.includes('()');
}
