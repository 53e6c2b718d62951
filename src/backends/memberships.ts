/** Which of the groups that carry limits a user is in, by the word of backends that need no session to tell. */

import type { Fault } from '../errors.ts';
import { isObject } from '../json.ts';
import {
  type Backend,
  type BackendData,
  formatGroupName,
  formatUserName,
  type GroupName,
  parseGroupName,
  type UserName,
} from './backend.ts';
import type { LoadedBackend } from './index.ts';

/** A group that carries limits, and the backends that say who is in it. */
export interface LimitedGroup {
  readonly group: GroupName;
  readonly name: string;
  readonly told: readonly LoadedBackend[];
}

/** Asks one backend; a failure is thrown with the backend's name. */
export type Ask = <T>(loaded: LoadedBackend, ask: () => T | Promise<T>) => Promise<T>;

/** Groups of which no backend can tell the members without a session: their limits would count for nobody. */
export function faultsOfGroups(groups: readonly LimitedGroup[]): Fault[] {
  return groups
    .filter(({ told }) => told.length === 0)
    .map(({ group, name }) => ({
      field: 'handlers.users.groups',
      problem: `no backend for ${group.realm === undefined ? "PVE's own groups" : `the realm ${group.realm}`} can tell who is in ${JSON.stringify(name)} without the user's session`,
    }));
}

/** Whether the configuration has the limits of this group count. */
export function isListed(group: GroupName, listed: readonly string[] = []): boolean {
  return listed.some((text) => formatGroupName(parseGroupName(text)) === formatGroupName(group));
}

/** Whether a backend can tell who is in a group, from both sides. */
export function tellsMembers({ groupsOf, membersOf, getGroup, getAllUsers }: Backend): boolean {
  return membersOf !== undefined || (groupsOf !== undefined && getGroup !== undefined && getAllUsers !== undefined);
}

/** The names of the members of a group at a backend. */
export type MembersAt = (loaded: LoadedBackend, group: GroupName) => Promise<ReadonlySet<string>>;

/** Those of the groups that the user is in, in the same order. Fails when any backend that would know does. */
export async function groupsWith(
  user: UserName,
  groups: readonly LimitedGroup[],
  ask: Ask,
  members: MembersAt,
): Promise<readonly LimitedGroup[]> {
  const asked = [...new Set(groups.flatMap(({ told }) => told))].filter(
    ({ backend }) => backend.groupsOf !== undefined,
  );
  const named = new Map(
    await Promise.all(
      asked.map(async (loaded) => {
        const found = (await ask(loaded, () => loaded.backend.groupsOf?.(user))) ?? [];
        return [loaded, new Set(found.map(formatGroupName))] as const;
      }),
    ),
  );
  const isIn = async ({ group, name, told }: LimitedGroup): Promise<boolean> => {
    const answers = told.map(
      async (loaded) => named.get(loaded)?.has(name) ?? (await members(loaded, group)).has(formatUserName(user)),
    );
    return (await Promise.all(answers)).includes(true);
  };
  const within = await Promise.all(groups.map(isIn));
  return groups.filter((_, index) => within[index]);
}

/** For each of the groups the names of its members. Fails when any backend that would know does. */
export async function membersOf(
  groups: readonly LimitedGroup[],
  members: MembersAt,
): Promise<ReadonlyMap<LimitedGroup, ReadonlySet<string>>> {
  const found = groups.map(async (limited) => {
    const lists = await Promise.all(limited.told.map((loaded) => members(loaded, limited.group)));
    return [limited, new Set(lists.flatMap((names) => [...names]))] as const;
  });
  return new Map(await Promise.all(found));
}

/** The names of the members of a group, by the word of a backend that tells of them. */
export async function toldMembers(loaded: LoadedBackend, group: GroupName, ask: Ask): Promise<ReadonlySet<string>> {
  return new Set(((await ask(loaded, () => loaded.backend.membersOf?.(group))) ?? []).map(formatUserName));
}

/** The names of the members of a group, by what a list of all users says of each. */
export async function listedMembers(
  loaded: LoadedBackend,
  group: GroupName,
  ask: Ask,
  listed: () => Promise<Readonly<Record<string, BackendData>> | null | undefined>,
): Promise<ReadonlySet<string>> {
  const dn = (await ask(loaded, () => loaded.backend.getGroup?.(group, { cookies: {} })))?.dn;
  if (dn === undefined) return new Set();
  const names = Object.entries((await listed()) ?? {}).flatMap(([name, { attributes }]) => {
    const memberOf = isObject(attributes) ? attributes.memberOf : undefined;
    return Array.isArray(memberOf) && memberOf.includes(dn) ? [name] : [];
  });
  return new Set(names);
}
