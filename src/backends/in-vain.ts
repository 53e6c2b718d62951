/** What the configuration and the records say to no effect, as far as the backends tell now: whoever does not is not blamed. */

import { type GroupName, server } from './backend.ts';
import { grantKeys, type LoadedBackend } from './index.ts';
import type { LimitedGroup } from './memberships.ts';

/** The groups that the configuration lists, the backends that decide what users may do and use, and PVE. */
export interface Deciders {
  readonly groups: readonly LimitedGroup[];
  readonly deciding: readonly LoadedBackend[];
  readonly pve: LoadedBackend | undefined;
}

/** One sentence for each, with what to do. */
export async function saidInVain({ groups, deciding, pve }: Deciders): Promise<readonly string[]> {
  const found = await Promise.all([
    ...groups.map((listed) => aboutListed(listed, deciding)),
    ...deciding.map((loaded) => aboutUnlisted(loaded, groups)),
    ...deciding.map((loaded) => aboutStrangers(loaded, pve)),
  ]);
  return found.flat();
}

async function aboutListed({ group, name, told }: LimitedGroup, deciding: readonly LoadedBackend[]): Promise<string[]> {
  const nobody = `handlers.users.groups names ${JSON.stringify(name)}, and`;
  if (!(await isKnown(told, group)))
    return [`${nobody} there is no such group: see how it is written, or leave it out`];
  if (await isKnown(deciding, group)) return [];
  return [`${nobody} no backend has limits for it: give some with node . group set, or leave it out`];
}

async function aboutUnlisted(
  { name, keys, backend }: LoadedBackend,
  listed: readonly LimitedGroup[],
): Promise<string[]> {
  const groups = Object.entries((await answerOf(() => backend.getAllGroups?.(server))) ?? {});
  const limited = groups.filter(([, data]) =>
    grantKeys.some((key) => keys.has(key) && Object.hasOwn(Object(data), key)),
  );
  return limited
    .filter(([group]) => !listed.some((one) => one.name === group))
    .map(
      ([group]) =>
        `handlers.users.groups does not name ${JSON.stringify(group)}, for which "${name}" has limits: they count for nobody`,
    );
}

const mostNamed = 10;

async function aboutStrangers({ name, backend }: LoadedBackend, pve: LoadedBackend | undefined): Promise<string[]> {
  const [known, own] = await Promise.all(
    [pve?.backend, backend].map((asked) => answerOf(() => asked?.getAllUsers?.(server))),
  );
  const strangers = known ? Object.keys(own ?? {}).filter((user) => !Object.hasOwn(known, user)) : [];
  if (strangers.length === 0) return [];
  const more = strangers.length > mostNamed ? ` and ${strangers.length - mostNamed} more` : '';
  return [
    `PVE knows no ${strangers.slice(0, mostNamed).join(', ')}${more}, of whom "${name}" has records: see how they are written, or delete them before others come by these names`,
  ];
}

async function isKnown(asked: readonly LoadedBackend[], group: GroupName): Promise<boolean> {
  const found = await Promise.all(asked.map(({ backend }) => answerOf(() => backend.getGroup?.(group, server))));
  return found.some((data) => data !== null);
}

async function answerOf<T>(ask: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch {
    return undefined;
  }
}
