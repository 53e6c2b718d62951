/** The kinds of groups in an LDAP directory: where each keeps its members, and by which names. */

import { type Entry, valuesOf } from './ldap-entries.ts';

/** How groups of one kind say who is in them. */
export interface GroupKind {
  /** The object class of such groups; null: whatever no kind before it is for. */
  readonly objectClass: string | null;
  readonly member: string;
  /** Whether members go by the distinguished names of their entries, or by the names of users, so that no group is one. */
  readonly holds: 'dn' | 'name';
  /** Who is in a group that nobody is in, where it cannot be empty. */
  readonly nobody: string | null;
}

/** Those of LDAP's own schemas; an entry of several of these classes is of the first. */
export const usualKinds: readonly GroupKind[] = [
  { objectClass: 'groupOfNames', member: 'member', holds: 'dn', nobody: '' },
  { objectClass: 'groupOfMembers', member: 'member', holds: 'dn', nobody: null },
  { objectClass: 'groupOfUniqueNames', member: 'uniqueMember', holds: 'dn', nobody: '' },
  { objectClass: 'posixGroup', member: 'memberUid', holds: 'name', nobody: null },
  { objectClass: null, member: 'member', holds: 'dn', nobody: '' },
];

/** The kind of a group, or of one with these object classes. */
export function kindOf(kinds: readonly GroupKind[], group: Entry | readonly string[]): GroupKind {
  const classes = ('dn' in group ? valuesOf(group, 'objectClass') : group).map((name) => name.toLowerCase());
  const found = kinds.find(({ objectClass }) => objectClass === null || classes.includes(objectClass.toLowerCase()));
  if (found === undefined) throw new TypeError('the last kind is for every group');
  return found;
}

/** The attributes with members, each once. */
export function memberAttributes(kinds: readonly GroupKind[]): readonly Pick<GroupKind, 'member' | 'holds'>[] {
  return [...new Map(kinds.map((kind) => [kind.member, kind])).values()];
}

/** The members of a group by the names that its kind goes by, without the one who is nobody. */
export function membersIn(group: Entry, { member }: GroupKind): readonly string[] {
  return valuesOf(group, member).filter((name) => name !== '');
}
