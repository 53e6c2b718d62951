/** `user list`, `group set`, ...: the records of local users and groups. */

import { formatGroupName, isGroupName, parseGroupName, parseUserName } from '../backends/backend.ts';
import { type BackendEntry, grantKeys, kindOf } from '../backends/index.ts';
import type { Kind, LocalBackend } from '../backends/local.ts';
import { isListed } from '../backends/memberships.ts';
import { faultsOfNames, normaliseRecord, type RecordPatch } from '../backends/normalise.ts';
import type { Config } from '../config.ts';
import { isObject } from '../json.ts';
import { type Grants, grantedNames } from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';
import { didYouMean, FaultsError, fits } from '../schema.ts';
import { type Command, UsageError } from './command.ts';
import { differences } from './difference.ts';
import { withLocalUsers } from './local.ts';
import { table } from './table.ts';

/** How a kind of records is spoken of, and the name that a typed one means; null for what cannot be one. */
interface Naming {
  readonly placeholder: string;
  readonly example: string;
  name(text: string): string | null;
  /** Why a record of this name would count for nobody; null when it counts. */
  whyIdle(name: string, config: Config): string | null;
}

const namings: Readonly<Record<Kind, Naming>> = {
  user: {
    placeholder: 'USER',
    example: 'a user name such as alice@pve',
    name: (text) => (parseUserName(text) === null ? null : text),
    whyIdle: (name, { handlers: { users }, backends }) => {
      const { realm = '' } = parseUserName(name) ?? {};
      const asked = (Object.hasOwn(users.realm, realm) ? users.realm[realm] : undefined) ?? users.otherwise;
      const isLocal = (entry: BackendEntry | undefined) => entry !== undefined && kindOf(entry) === 'localdb';
      return asked.some((backend) => isLocal(backends[backend]))
        ? null
        : `handlers.users asks no localdb about the realm ${realm}`;
    },
  },
  group: {
    placeholder: 'GROUP',
    example: 'a group name such as students@ldap, or lab for a group of PVE',
    name: (text) => (isGroupName(text) ? formatGroupName(parseGroupName(text)) : null),
    whyIdle: (name, { handlers: { users } }) =>
      isListed(parseGroupName(name), users.groups) ? null : 'handlers.users.groups does not name the group',
  },
};

export const recordCommands: readonly Command[] = (['user', 'group'] as const).flatMap((kind) => {
  const { placeholder, example, name: nameOf, whyIdle } = namings[kind];
  return [
    {
      name: `${kind} list`,
      usage: '',
      summary: `the local ${kind}s, with vmids, pools and nodes`,
      run: ({ configFile, print }) =>
        withLocalUsers(configFile, (local) => {
          const rows = [...local.records(kind)].map(([name, record]) => rowOf(name, record));
          for (const line of table([[kind, 'admin', 'vmids', 'pools', 'nodes'], ...rows])) print(line);
          return 0;
        }),
    },
    {
      name: `${kind} get`,
      usage: placeholder,
      summary: `the record of a local ${kind}, as JSON`,
      run: ({ args, configFile, print }) => {
        const [typed, ...more] = args;
        if (typed === undefined || more.length > 0) throw new UsageError(`Expected: ${kind} get ${placeholder}`);
        return withLocalUsers(configFile, (local) => {
          const record = local.records(kind).get(nameOf(typed) ?? typed);
          if (record === undefined) throw unknown(kind, typed, local);
          print(JSON.stringify(record, null, 2));
          return 0;
        });
      },
    },
    {
      name: `${kind} set`,
      usage: `${placeholder} KEY=VALUE...`,
      summary: 'change (or begin) a record: resources.cores.global.max=16 cluster.pools.lab=true; null removes',
      run: ({ args, configFile, print }) => {
        const [typed, ...assignments] = args;
        if (typed === undefined || assignments.length === 0)
          throw new UsageError(`Expected: ${kind} set ${placeholder} KEY=VALUE...`);
        const name = nameOf(typed);
        if (name === null) throw new UsageError(`Expected ${example}, got ${typed}.`);
        return withLocalUsers(configFile, (local, config) => {
          const { before, after } = local.edit(kind, name, (before) => {
            const wanted = assignments.map(parseAssignment).reduce(assign, before);
            return checked(wanted, before, name, config.resources);
          });
          const changes = differences(before, after);
          for (const line of changes.length === 0 ? ['unchanged'] : changes) print(`${name}: ${line}`);
          const idle = whyIdle(name, config);
          if (idle !== null) print(`  note: the record has no effect: ${idle}`);
          return 0;
        });
      },
    },
    {
      name: `${kind} delete`,
      usage: placeholder,
      summary: `forget the record of a local ${kind}; PVE and LDAP directories keep theirs`,
      run: ({ args, configFile, print }) => {
        const [typed, ...more] = args;
        if (typed === undefined || more.length > 0) throw new UsageError(`Expected: ${kind} delete ${placeholder}`);
        return withLocalUsers(configFile, (local) => {
          const name = nameOf(typed) ?? typed;
          if (!local.remove(kind, name).ok) throw unknown(kind, typed, local);
          print(`${name}: forgotten`);
          return 0;
        });
      },
    },
  ] satisfies Command[];
});

function unknown(kind: Kind, typed: string, local: LocalBackend): UsageError {
  return new UsageError(`There is no local ${kind} ${typed}${didYouMean(typed, [...local.records(kind).keys()])}.`);
}

interface Assignment {
  readonly path: readonly string[];
  readonly value: unknown;
}

/** `a.b\.c=5`: a path whose dots can be escaped, and a JSON value or else a text. */
function parseAssignment(text: string): Assignment {
  const [, path, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (path === undefined || value === undefined) throw new UsageError(`Expected KEY=VALUE, got ${text}.`);
  const parts = path.split(/(?<!\\)\./).map((part) => part.replaceAll('\\.', '.'));
  const [section = ''] = parts;
  if (!(grantKeys as readonly string[]).includes(section)) {
    throw new UsageError(
      `A local record has ${grantKeys.join(', ')}, not "${section}"${didYouMean(section, grantKeys)}.`,
    );
  }
  if (parts.includes('')) throw new UsageError(`Expected a key such as cluster.admin, got ${path}.`);
  return { path: parts, value: parseValue(value) };
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A copy of the record with one value set, or removed when it is null. */
function assign(record: object, { path, value }: Assignment): object {
  const [key = '', ...rest] = path;
  const others = Object.entries(record).filter(([name]) => name !== key);
  if (rest.length === 0) return Object.fromEntries(value === null ? others : [...others, [key, value]]);
  const inner: unknown = Object.hasOwn(record, key) ? Reflect.get(record, key) : {};
  if (!isObject(inner)) {
    throw new UsageError(`"${key}" has no keys of its own: set it as a whole, as JSON.`);
  }
  return Object.fromEntries([...others, [key, assign(inner, { path: rest, value })]]);
}

function checked(record: object, before: RecordPatch, name: string, resources: Resources): RecordPatch {
  const result = normaliseRecord(record, resources);
  if (!fits(result)) throw new FaultsError(`The record of ${name}`, result.faults);
  // What an import brought along may stay; what is typed now must have an effect.
  const kept = Object.keys(before.resources ?? {});
  const typed = Object.entries(result.value.resources ?? {}).filter(([resource]) => !kept.includes(resource));
  const faults = faultsOfNames({ resources: Object.fromEntries(typed) }, resources);
  if (faults.length > 0) throw new FaultsError(`The record of ${name}`, faults);
  return result.value;
}

function rowOf(name: string, { cluster = {} }: RecordPatch): string[] {
  const names = (list: Grants = {}) => grantedNames(list).join(',') || '-';
  const { admin = false, vmid, pools, nodes } = cluster;
  const range = vmid === undefined || vmid.min === -1 ? '-' : `${vmid.min}-${vmid.max}`;
  return [name, admin ? 'yes' : 'no', range, names(pools), names(nodes)];
}
