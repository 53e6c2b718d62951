/** The configuration as a whole, composed of each room's own schema and checked before anything listens. */

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import type { UserHandlers } from './backends/directory.ts';
import { type BackendEntry, backendsSchema, faultsOfModules, kindOf } from './backends/index.ts';
import { faultsOfNames, normaliseRecord, type RecordPatch, recordSchema } from './backends/normalise.ts';
import type { Fault } from './errors.ts';
import { isObject, JsonError, parseJson } from './json.ts';
import { type BeyondGuest, beyondGuest } from './pve/beyond.ts';
import { consoleLimits } from './pve/console.ts';
import { uploadLimits } from './pve/upload.ts';
import type { UpstreamSettings } from './pve/upstream-settings.ts';
import { faultsOfResources, type Resources, resourcesSchema } from './quota/resources.ts';
import { readPair, tlsSettings } from './routes/tls.ts';
import { type Checked, check, didYouMean, expected, FaultsError, fits } from './schema.ts';
import { masked, withoutReferences } from './secret.ts';

const text = z.string().min(1);
const list = z.array(text);

/** As described in the earliest README: PVE, a database, and for some realms one backend more. */
const oldestHandlers = z
  .strictObject({ pve: text, db: text, auth: z.record(text, text).default({}) })
  .transform(({ pve, db, auth }): Handlers => {
    const both = (backend: string) => [...new Set([db, backend])];
    const realm = Object.fromEntries(Object.entries(auth).map(([name, backend]) => [name, both(backend)]));
    return { instance: { pve }, users: { realm, otherwise: [db], any: [...new Set([db, ...Object.values(auth)])] } };
  });

const instance = z.strictObject({ pve: text });

/** June 2024: a list for each realm. */
const olderHandlers = z
  .strictObject({ instance, users: z.record(text, list) })
  .transform(({ instance, users }): Handlers => {
    return { instance, users: { realm: users, otherwise: [], any: [...new Set(Object.values(users).flat())] } };
  });

const todaysHandlers = z
  .strictObject({
    instance,
    users: z.strictObject({
      realm: z.record(text, list),
      any: list,
      groups: list
        .exactOptional()
        .describe('Groups whose records count for their members, the last one most: lab@pve, students@ldap.'),
    }),
  })
  .transform(({ instance, users }): Handlers => ({ instance, users: { ...users, otherwise: [] } }));

/** Which backend serves what; older forms are brought to today's. */
export interface Handlers {
  readonly instance: { readonly pve: string };
  readonly users: UserHandlers;
}

const hostName = z
  .string()
  .regex(/^(?=.{1,253}$)\.?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i, {
    error: expected('a host name without scheme, port or path'),
  });

const origin = z.string().refine((value) => URL.canParse(value) && new URL(value).origin === value, {
  error: expected('an exact origin such as https://paas.example.org (no path, no trailing slash)'),
});

const network = z.string().refine(isNetwork, { error: expected('an IP address or a network such as 10.0.0.0/8') });

function isNetwork(value: string): boolean {
  const [address = '', prefix, ...more] = value.split('/');
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
  return (
    more.length === 0 && bits > 0 && (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits))
  );
}

const application = z
  .strictObject({
    hostname: hostName.default('localhost').describe('Host name of the dashboard, without scheme.'),
    domain: hostName
      .transform((name) => name.replace(/^\./, ''))
      .exactOptional()
      .describe('Domain of the cookies. Every host below it receives the ticket. Without it only this host does.'),
    listenPort: z.int().min(0).max(65535).default(8081),
    listenHost: text
      .default('127.0.0.1')
      .describe('Address to listen on; 0.0.0.0 when the web server in front is on another machine.'),
    trustedProxies: z
      .array(network)
      .default(['127.0.0.1', '::1'])
      .describe('Web servers in front whose X-Forwarded-For is believed.'),
    corsOrigins: z.array(origin).default([]).describe('Exact origins of dashboards that are served from elsewhere.'),
    tls: tlsSettings
      .exactOptional()
      .describe('Serve HTTPS; the files are read anew when they change. Without it: HTTP.'),
  })
  .prefault({});

const scheme = z.strictObject({ enabled: z.boolean().default(true) }).prefault({});
const rate = z.number().positive();

const clientsync = z
  .strictObject({
    resourcetypes: z
      .array(z.enum(['lxc', 'qemu', 'node', 'storage', 'pool', 'sdn']))
      .default(['lxc', 'qemu', 'node'])
      .describe('What dashboards follow.'),
    schemes: z
      .strictObject({
        always: scheme,
        hash: scheme,
        interrupt: z
          .strictObject({
            enabled: z.boolean().default(true),
            'min-rate': rate.default(1),
            'max-rate': rate.default(60),
          })
          .refine((rates) => rates['min-rate'] <= rates['max-rate'], { error: expected('min-rate <= max-rate') })
          .describe('By WebSocket, looking every so many seconds: the least and the most that a dashboard may ask for.')
          .prefault({}),
      })
      .prefault({}),
  })
  .prefault({});

/** What every tenant may use besides what is theirs. */
const tenants = z
  .strictObject({
    parameters: z
      .array(z.enum(Object.keys(beyondGuest) as BeyondGuest[]))
      .default([])
      .describe(
        'Parameters that reach beyond a guest and are refused otherwise; PVE takes most of them from root alone.',
      ),
    volumes: z
      .array(
        z.string().regex(/^[A-Za-z][\w.-]*:[^\s,*]*\*?$/, {
          error: expected('a volume id such as nfs:import/debian.qcow2, or its beginning and a final *'),
        }),
      )
      .default([])
      .describe('Media, images to import, snippets and backups that belong to nobody; a final * stands for any rest.'),
    networks: z
      .array(
        z.string().regex(/^[A-Za-z][A-Za-z0-9_.-]*(?:\/(?:\d+|\*))?$/, {
          error: expected('a bridge such as vmbr1, one VLAN of it as vmbr1/20, or all as vmbr1/*'),
        }),
      )
      .default([])
      .describe(
        'Networks that tenants may join guests to, besides those of their templates and where PVE gives them SDN.Use.',
      ),
    urls: z
      .array(
        z.string().regex(/^https?:\/\/[a-z0-9.-]+(:\d+)?\/[^\s*]*\*?$/, {
          error: expected('a URL such as https://cloud.debian.org/images/*'),
        }),
      )
      .default([])
      .describe('From where the nodes may fetch files for tenants; a final * stands for any rest.'),
  })
  .prefault({});

const seconds = z.number().positive();

const schema = z.strictObject({
  $schema: z.string().exactOptional(),
  backends: backendsSchema.describe('The sources of users, by names of your choice.'),
  handlers: z
    .union([todaysHandlers, olderHandlers, oldestHandlers])
    .describe('Which backends serve instances, each realm, and lists.'),
  application,
  useriso: z
    .strictObject({ node: text, storage: text })
    .exactOptional()
    .describe('Where ISO images and container templates are listed.'),
  backups: z.strictObject({ storage: text }).exactOptional().describe('Where backups are kept.'),
  tenants: tenants.describe('What every tenant may use besides what is theirs.'),
  resources: resourcesSchema
    .prefault({})
    .describe('What is limited: cpu, cores, memory, swap, network, pci, and storages by their ids.'),
  clientsync,
  defaultuser: recordSchema.prefault({}).describe('What every user starts from whom PVE knows.'),
  database: text
    .default('config/pve-quota-proxy.db')
    .describe('SQLite file with records and reservations, from the working directory.'),
  taskWait: seconds
    .max(3600)
    .default(50)
    .describe('Seconds that a request waits for a PVE task; below the timeout of the web server in front.'),
  operatorPrivilege: z
    .string()
    .regex(/^[A-Z][A-Za-z]*(\.[A-Z][A-Za-z]*)+$/, { error: expected('a PVE privilege such as VM.PowerMgmt') })
    .default('VM.PowerMgmt')
    .describe('The PVE privilege on an instance that lets a user change it within the quota.'),
  hold: z.number().min(0).default(40).describe('Seconds after which a call whose answer was lost cannot act any more.'),
  refresh: z
    .strictObject({ resources: seconds.default(15), storage: seconds.default(60), sweep: seconds.default(900) })
    .prefault({})
    .describe("Seconds between two reads of the cluster's list, of each storage, of every instance."),
  limits: z
    .strictObject({
      bodyBytes: z.int().min(1024).default(524_288),
      concurrentRequests: z.int().positive().default(500),
      concurrentPerUser: z
        .int()
        .positive()
        .exactOptional()
        .describe('Requests of one user at a time; half of all unless given.'),
      consoles: consoleLimits,
      uploads: uploadLimits,
    })
    .prefault({})
    .describe('The largest body that is accepted, and how many requests are served at a time.'),
});

type Sections = z.output<typeof schema>;

/** A checked configuration with every default filled in, `handlers` in today's form and secrets resolved. */
export interface Config extends Omit<Sections, '$schema' | 'defaultuser'> {
  readonly handlers: Handlers;
  readonly resources: Resources;
  readonly defaultuser: RecordPatch;
}

/** The configuration file does not exist; the message says what to do. */
export class MissingConfigError extends Error {
  override readonly name = 'MissingConfigError';
}

/** Where the configuration is when nothing else is said, from the working directory. */
export const defaultConfigFile = 'config/config.json';

/**
 * Reads and checks a configuration; throws FaultsError with all its faults, or MissingConfigError.
 * `secrets: 'unread'` is for commands that use none, and may run where only the service can read them.
 */
export function loadConfig(file: string, { secrets = 'read' }: { readonly secrets?: 'read' | 'unread' } = {}): Config {
  const input = parse(file);
  const readable = secrets === 'read';
  const checked = checkConfig(readable ? input : withoutReferences(input), dirname(resolve(file)), readable);
  if (!fits(checked)) throw new FaultsError(file, checked.faults);
  return checked.value;
}

function parse(file: string): unknown {
  try {
    return parseJson(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof JsonError) throw new FaultsError(file, [{ field: '', problem: error.message }]);
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw new FaultsError(file, [{ field: '', problem: `it cannot be read (${code})` }]);
    throw new MissingConfigError(
      [
        `There is no configuration ${resolve(file)}.`,
        `Copy template.config.json to it and adapt it, or name another with --config FILE.`,
        `To try the program first, without a PVE cluster: npm run demo`,
      ].join('\n'),
    );
  }
}

/** Checks each section, and then what they say about each other as far as they can be understood: all faults appear together. */
function checkConfig(input: unknown, directory: string, readable: boolean): Checked<Config> {
  const checked = check(schema, input);
  const understood = fits(checked) ? checked.value : partly(input);
  const faults = [
    ...checked.faults,
    ...crossFaults(understood, importsOf(input), directory),
    ...faultsOfResources(isObject(input) ? input.resources : undefined),
    ...(readable ? faultsOfFiles(understood, input) : []),
  ];
  if (!fits(checked) || faults.length > 0) return { faults };
  const { $schema: _, ...config } = checked.value;
  return { value: config, faults: [] };
}

/** What is wrong with the files that are read at the start, whatever else is wrong with those who name them. */
function faultsOfFiles({ application }: Partial<Sections>, input: unknown): Fault[] {
  const authorities = Object.entries(importsOf(input)).flatMap(([name, entry]) => {
    const ca: unknown = Object(entry.config).ca;
    const isRead = ['pve', 'ldap'].includes(kindOf(entry) ?? '') && typeof ca === 'string';
    return isRead ? faultsOfAuthority(`backends.${name}.config.ca`, ca) : [];
  });
  return [...(application?.tls === undefined ? [] : readPair(application.tls).faults), ...authorities];
}

function faultsOfAuthority(field: string, file: string): Fault[] {
  try {
    new X509Certificate(readFileSync(file));
    return [];
  } catch (error) {
    const { code = '', syscall } = error as NodeJS.ErrnoException;
    const problem = syscall === undefined ? 'does not hold a certificate in PEM form' : `cannot be read (${code})`;
    return [{ field, problem: `the file ${file} ${problem}` }];
  }
}

/** The sections that are right by themselves. */
function partly(input: unknown): Partial<Sections> {
  return Object.fromEntries(
    Object.entries(schema.shape).flatMap(([key, section]) => {
      const result = (section as z.ZodType).safeParse(isObject(input) ? input[key] : undefined);
      return result.success ? [[key, result.data]] : [];
    }),
  );
}

type Imports = Readonly<Record<string, { readonly import: string; readonly config: unknown }>>;

/** What the backends import, with their settings as given, also where these have faults. */
function importsOf(input: unknown): Imports {
  const backends = isObject(input) && isObject(input.backends) ? input.backends : {};
  return Object.fromEntries(
    Object.entries(backends).map(([name, entry]) => {
      const { import: kind = '', config } = Object(entry);
      return [name, { import: String(kind), config }];
    }),
  );
}

function crossFaults(
  { handlers, resources, defaultuser }: Partial<Sections>,
  backends: Imports,
  directory: string,
): Fault[] {
  return [
    ...faultsOfKinds(backends),
    ...faultsOfModules(backends, directory),
    ...(handlers === undefined ? [] : faultsOfHandlers(handlers, backends)),
    ...(resources === undefined || defaultuser === undefined
      ? []
      : normaliseRecord(defaultuser, resources, ['defaultuser']).faults),
  ];
}

function faultsOfKinds(backends: Imports): Fault[] {
  const those = (kind: string) =>
    Object.entries(backends).flatMap(([name, entry]) => (kindOf(entry) === kind ? [JSON.stringify(name)] : []));
  const [pve, local] = [those('pve'), those('localdb')];
  return [
    ...(pve.length === 1
      ? []
      : [{ field: 'backends', problem: `expected exactly one that imports "pve", got ${pve.join(', ') || 'none'}` }]),
    ...(local.length <= 1
      ? []
      : [{ field: 'backends', problem: `expected at most one that imports "localdb", got ${local.join(', ')}` }]),
  ];
}

function faultsOfHandlers({ instance, users }: Handlers, backends: Imports): Fault[] {
  const names = Object.keys(backends);
  const { pve } = instance;
  const lists = [...Object.entries(users.realm), ['any', users.any] as const];
  const faults = lists.flatMap(([realm, list]) =>
    list
      .filter((name) => !names.includes(name))
      .map((name) => ({
        field: 'handlers',
        problem: `${realm === 'any' ? 'lists' : `realm ${JSON.stringify(realm)}`}: there is no backend ${JSON.stringify(name)}${didYouMean(name, names)}`,
      })),
  );
  const suitable = names.filter((name) => kindOf(backends[name] ?? { import: '' }) === 'pve');
  if (suitable.includes(pve)) return faults;
  const wanted = 'expected the name of the backend that imports "pve"';
  const problem = `instances: ${wanted}, got ${JSON.stringify(pve)}${didYouMean(pve, suitable)}`;
  return [...faults, { field: 'handlers', problem }];
}

/** Seconds in which PVE itself gives up what it has begun. */
const pveActsWithin = 30;

/** What is allowed, and hardly what is wanted: each with its key, its value and what to do. */
export function hintsOf({
  backends,
  handlers,
  hold,
  defaultuser,
  resources,
}: Pick<Config, 'backends' | 'handlers' | 'hold' | 'defaultuser' | 'resources'>): readonly string[] {
  const { realm, otherwise, any } = handlers.users;
  const used = new Set([handlers.instance.pve, ...Object.values(realm).flat(), ...otherwise, ...any]);
  const early = `hold: ${hold} is less than the ${pveActsWithin} seconds in which PVE may still act on a call whose answer was lost, so that its change could go uncounted: give ${pveActsWithin} or more`;
  return [
    ...(hold < pveActsWithin ? [early] : []),
    ...faultsOfNames(defaultuser, resources, ['defaultuser']).map(
      ({ field, problem }) => `${field}: it has no effect, since ${problem}`,
    ),
    ...Object.keys(backends)
      .filter((name) => !used.has(name))
      .map(
        (name) =>
          `backends: ${JSON.stringify(name)} is used by no realm and no list: name it in handlers.users, or leave it out`,
      ),
    ...Object.entries(realm)
      .filter(([, names]) => names.length === 0)
      .map(
        ([name]) =>
          `handlers.users.realm: ${JSON.stringify(name)} has no backends ([]), so its users have what defaultuser gives and no more: name some, or leave it out`,
      ),
    ...Object.entries(realm).flatMap(([name, names]) =>
      names.flatMap((asked) => {
        const own = realmOf(backends[asked]) ?? name;
        return own === name
          ? []
          : [
              `handlers.users.realm: ${JSON.stringify(name)} names ${JSON.stringify(asked)}, which has the users of the realm ${JSON.stringify(own)} and lets no others in: make them the same`,
            ];
      }),
    ),
  ];
}

/** The one realm whose users a backend has, where its settings say so. */
function realmOf(entry: BackendEntry | undefined): string | undefined {
  const isDirectory = entry !== undefined && ['ldap', 'paasldap'].includes(kindOf(entry) ?? '');
  return isDirectory ? (entry.config as { readonly realm: string }).realm : undefined;
}

/** What the configuration names and PVE's lists do not show: each with its key, its value and what to do. */
export function strangersIn(
  { resources, useriso, backups }: Pick<Config, 'resources' | 'useriso' | 'backups'>,
  { nodes, storages }: { readonly nodes: readonly string[]; readonly storages: readonly string[] },
): readonly string[] {
  const limited = Object.entries(resources).filter(([, { type }]) => type === 'storage');
  const named: readonly (readonly [string, string | undefined, string, readonly string[]])[] = [
    ...limited.map(([name]) => [`resources.${name}`, name, 'storage', storages] as const),
    ['useriso.node', useriso?.node, 'node', nodes],
    ['useriso.storage', useriso?.storage, 'storage', storages],
    ['backups.storage', backups?.storage, 'storage', storages],
  ];
  return named
    .filter(([, name, , known]) => name !== undefined && !known.includes(name))
    .map(
      ([field, name = '', kind, known]) =>
        `${field}: PVE lists no ${kind} ${JSON.stringify(name)}${didYouMean(name, known)}: see how it is written, or leave it out`,
    );
}

/** The settings of the PVE that serves the instances. */
export function pveSettings({ backends, handlers }: Config): UpstreamSettings {
  // Checked when the configuration was loaded: the backend is there and of this kind.
  return backends[handlers.instance.pve]?.config as UpstreamSettings;
}

/** The JSON schema of the file, for completion in editors. */
export function configJsonSchema(): unknown {
  return { title: 'pve-quota-proxy configuration', ...z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) };
}

/** The configuration in force, defaults included, as JSON text without secrets. */
export function printConfig(config: Config): string {
  return JSON.stringify(masked(config), null, 2);
}
