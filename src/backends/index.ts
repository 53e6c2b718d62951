/** Every kind of backend, by the name that the configuration imports it with; and modules of one's own. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BaseLogger } from 'pino';
import { z } from 'zod';
import type { Fault } from '../errors.ts';
import type { Upstream } from '../pve/call.ts';
import { upstreamSettings } from '../pve/upstream-settings.ts';
import type { Resources } from '../quota/resources.ts';
import { didYouMean, expected, formatPath } from '../schema.ts';
import type { Database } from '../store/database.ts';
import type { Backend, RecordKey } from './backend.ts';
import { ldapSettings } from './ldap-settings.ts';
import { type Imported, LocalBackend, localSettings } from './local.ts';
import { PaasLdapBackend, paasldapSettings } from './paasldap.ts';
import { createPveBackend } from './pve.ts';

type Log = Pick<BaseLogger, 'info' | 'warn'>;

/** What the built-in backends are made from. */
export interface BackendContext {
  readonly log: Log;
  readonly database: Database;
  readonly upstream: Upstream;
  readonly resources: Resources;
}

/** What a module of one's own is given besides its settings. */
export interface ModuleContext {
  /** The backend's name in the configuration. */
  readonly name: string;
  readonly log: Log;
}

/** What the default export of such a module must be. */
export type BackendFactory = (config: unknown, context: ModuleContext) => Backend | Promise<Backend>;

/** The keys that decide what a user may do and use. */
export const grantKeys = ['resources', 'cluster', 'templates'] as const satisfies readonly RecordKey[];

interface Kind<Settings extends z.ZodType> {
  readonly imports: readonly [string, ...string[]];
  readonly settings: Settings;
  /** Whether it may supply `resources`, `cluster` and `templates` without the configuration's consent. */
  readonly grants: boolean;
  create(settings: z.output<Settings>, context: BackendContext): Backend | Promise<Backend>;
}

const kind = <Settings extends z.ZodType>(row: Kind<Settings>): Kind<Settings> => row;

const kinds = {
  pve: kind({
    imports: ['pve', 'pve.js'],
    settings: upstreamSettings,
    grants: false,
    create: (_, { upstream, log }) => createPveBackend(upstream, { log }),
  }),
  localdb: kind({
    imports: ['localdb', 'localdb.js'],
    settings: localSettings.prefault({}),
    grants: true,
    create: ({ dbfile }, { database, resources, log }) => {
      const backend = new LocalBackend(database, resources);
      const { users, problem }: Imported = dbfile === undefined ? {} : backend.importOnce(dbfile, new Date());
      if (users !== undefined) log.info(`imported ${users} users from ${dbfile}, which is not read again`);
      if (problem !== undefined) log.warn(`dbfile of localdb: ${problem}`);
      return backend;
    },
  }),
  paasldap: kind({
    imports: ['paasldap', 'paasldap.js'],
    settings: paasldapSettings,
    grants: false,
    create: (settings, { log }) => new PaasLdapBackend(settings, { log }),
  }),
  ldap: kind({
    imports: ['ldap', 'ldap.js'],
    settings: ldapSettings,
    grants: false,
    // Whoever has no LDAP directory need not load what speaks LDAP.
    create: async (settings, { log }) => (await import('./ldap.ts')).createLdapBackend(settings, { log }),
  }),
};

const supplies = z
  .array(z.enum(grantKeys))
  .exactOptional()
  .describe('Which of resources, cluster and templates this backend may decide, besides localdb.');

const entryOf = <Settings extends z.ZodType>({ imports, settings }: Kind<Settings>) =>
  z.strictObject({ import: z.literal(imports), config: settings, supplies });

const moduleEntry = z.strictObject({
  import: z
    .string()
    .regex(/^[./]/, { abort: true })
    .describe('Path of a module of your own, from the directory of this file.'),
  config: z.unknown().optional(),
  supplies,
});

const builtIn: readonly Kind<z.ZodType>[] = Object.values(kinds);

const entry = z.union([...builtIn.map(entryOf), moduleEntry], {
  error: ({ input }) => importProblem(input),
});

/** The `backends` section: names are free. */
export const backendsSchema = z.record(z.string().min(1), entry);

export type BackendEntries = z.output<typeof backendsSchema>;
export type BackendEntry = BackendEntries[string];

function importProblem(input: unknown): string | undefined {
  const name = (input as { import?: unknown } | null)?.import;
  if (typeof name !== 'string') return undefined;
  if (kindOf({ import: name }) !== null) return undefined;
  const known = Object.values(kinds).flatMap(({ imports }) => imports);
  return expected(
    `import to be one of ${known.join(', ')}, or the path of a module (./mine.js)${didYouMean(name, known)}`,
  )({ input: name });
}

/** Which built-in kind an import names, or `module`; null when it names nothing that there is. */
export function kindOf({ import: name }: { readonly import: string }): keyof typeof kinds | 'module' | null {
  if (/^[./]/.test(name)) return 'module';
  const names = Object.keys(kinds) as (keyof typeof kinds)[];
  return names.find((key) => kinds[key].imports.includes(name)) ?? null;
}

/** A backend with its name, and with the keys that it is allowed to supply. */
export interface LoadedBackend {
  readonly name: string;
  readonly backend: Backend;
  readonly keys: ReadonlySet<RecordKey>;
}

/**
 * Makes every configured backend; module paths are relative to `directory`, where the configuration is.
 * Throws an Error that names the backend when a module cannot be loaded or is not what a backend must be.
 */
export async function loadBackends(
  entries: BackendEntries,
  directory: string,
  context: BackendContext,
): Promise<ReadonlyMap<string, LoadedBackend>> {
  const loaded = new Map<string, LoadedBackend>();
  for (const [name, entry] of Object.entries(entries)) {
    const { backend, grants } = await create(name, entry, directory, context);
    const consented: readonly RecordKey[] = ['dn', 'attributes', ...(grants ? grantKeys : (entry.supplies ?? []))];
    loaded.set(name, { name, backend, keys: new Set(backend.keys.filter((key) => consented.includes(key))) });
  }
  return loaded;
}

async function create(name: string, entry: BackendEntry, directory: string, context: BackendContext) {
  const built = kindOf(entry);
  if (built === null || built === 'module')
    return { backend: await loadModule(name, entry, directory, context.log), grants: false };
  // The entry was checked against this kind's settings, which the compiler cannot see through the table.
  const { create: make, grants } = kinds[built] as Kind<z.ZodType>;
  return { backend: await make(entry.config, context), grants };
}

const recordKeys: readonly RecordKey[] = ['dn', 'attributes', ...grantKeys];

const methods = [
  ...['version', 'close', 'openSession', 'closeSession'],
  ...[
    'admits',
    'groupsOf',
    'membersOf',
    'keepsPassword',
    'check',
    'getUser',
    'getAllUsers',
    'addUser',
    'setUser',
    'delUser',
  ],
  ...['getGroup', 'getAllGroups', 'addGroup', 'setGroup', 'delGroup', 'addUserToGroup', 'delUserFromGroup'],
] as const;

async function loadModule(name: string, entry: BackendEntry, directory: string, log: Log): Promise<Backend> {
  const path = resolve(directory, entry.import);
  const wrong = (problem: string, cause?: unknown) => new Error(`backend "${name}" (${path}): ${problem}`, { cause });
  const module: { default?: unknown } = await import(pathToFileURL(path).href).catch((error: Error) => {
    throw wrong(`cannot be loaded: ${error.message}`, error);
  });
  if (typeof module.default !== 'function')
    throw wrong('its default export must be a function (config, context) => backend');
  let backend: Backend;
  try {
    backend = await (module.default as BackendFactory)(entry.config, { name, log });
  } catch (error) {
    throw wrong(`cannot be set up: ${(error as Error).message}`, error);
  }
  const problems = faultsOfBackend(backend);
  if (problems.length > 0) throw wrong(problems.join('; '));
  return backend;
}

function faultsOfBackend(backend: unknown): string[] {
  if (typeof backend !== 'object' || backend === null) return ['what its factory returns must be an object'];
  const { keys } = backend as { keys?: unknown };
  const wrongKeys = !Array.isArray(keys) || keys.some((key) => !recordKeys.includes(key));
  const wrongMethods = methods.filter(
    (method) => !['function', 'undefined'].includes(typeof Reflect.get(backend, method)),
  );
  return [
    ...(wrongKeys ? [`"keys" must be a list with some of ${recordKeys.join(', ')}`] : []),
    ...wrongMethods.map((method) => `"${method}" must be a function, or absent`),
  ];
}

/** Module paths that lead nowhere. */
export function faultsOfModules(
  entries: Readonly<Record<string, { readonly import: string }>>,
  directory: string,
): Fault[] {
  return Object.entries(entries).flatMap(([name, entry]) => {
    const path = resolve(directory, entry.import);
    if (kindOf(entry) !== 'module' || existsSync(path)) return [];
    return [{ field: formatPath(['backends', name, 'import']), problem: `there is no file ${path}` }];
  });
}
