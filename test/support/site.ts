/** A whole site for a story: a simulated cluster, the server in front of it, and users who sign in. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { type Logger, pino } from 'pino';
import { type Simulator, type SimulatorOptions, startSimulator } from '../../simulator/index.ts';
import { loadConfig } from '../../src/config.ts';
import { type Server, startServer } from '../../src/server.ts';
import { type Amounts, truthOfAll } from './truth.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

/** What a user of the site may have; amounts in base units, memory and swap in bytes, network in bytes per second. */
export interface UserSketch {
  readonly cores?: number | 'unlimited';
  readonly memory?: number | 'unlimited';
  readonly swap?: number | 'unlimited';
  readonly network?: number | 'unlimited';
  readonly local?: number | 'unlimited';
  readonly fast?: number | 'unlimited';
  readonly ceph?: number | 'unlimited';
  readonly nodes?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** How many PCI devices of which name. */
  readonly pci?: readonly { readonly match: string; readonly max: number }[];
  readonly vmid?: readonly [number, number];
  readonly admin?: boolean;
  /** Pools besides the user's own, which has the user's name. */
  readonly pools?: readonly string[];
  readonly templates?: unknown;
}

export interface SiteOptions {
  /** By name; each is `<name>@pve` with the password `<name>-secret`, and is QuotaTenant on a pool of that name. */
  readonly users?: Readonly<Record<string, UserSketch>>;
  readonly hold?: number;
  readonly taskWait?: number;
  readonly refresh?: { readonly resources?: number; readonly storage?: number; readonly sweep?: number };
  readonly deadlines?: { readonly read?: number; readonly write?: number };
  /** Where the server finds PVE, when not at the simulator itself. */
  readonly pveUrl?: readonly string[];
  readonly simulator?: SimulatorOptions;
  /** More of the configuration, merged at the top level. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** `process`: the server runs as a process of its own that can be killed. */
  readonly as?: 'here' | 'process';
  /** Where the server in this process writes its log; nowhere when absent. */
  readonly log?: Logger;
  /** Options for the Node of that process. */
  readonly execArgv?: readonly string[];
}

/** The secret of the server's privileged token; no caller may ever see it. */
export const secret = '6e1b0f5a-58f2-4f0e-9f0a-0d8c3a5d2c11';

const slots = ['rootfs', 'mp', 'scsi', 'sata', 'ide', 'virtio', 'unused'];
const storage = { type: 'storage', compact: true, unit: 'B', disks: slots };
const resources = {
  cpu: { type: 'list', whitelist: true, display: false },
  cores: { type: 'numeric', name: 'vCPU', unit: 'Cores' },
  memory: { type: 'numeric', name: 'RAM', compact: true, unit: 'B' },
  swap: { type: 'numeric', name: 'SWAP', compact: true, unit: 'B' },
  network: { type: 'numeric', name: 'Network', base: 1000, compact: true, unit: 'B/s' },
  pci: { type: 'list', whitelist: true },
  local: storage,
  fast: storage,
  ceph: storage,
};

/** Starts everything on free ports; ready when the server has read the cluster. */
export async function startSite(options: SiteOptions = {}): Promise<Site> {
  const directory = await mkdtemp(join(tmpdir(), 'site-'));
  const simulator = await startSimulator({ ...options.simulator, serviceSecret: secret });
  const users = Object.entries(options.users ?? {});
  for (const [name, sketch] of users) settle(simulator, name, sketch);
  await writeFile(
    join(directory, 'localdb.json'),
    JSON.stringify({
      users: Object.fromEntries(users.map(([name, sketch]) => [`${name}@pve`, recordOf(name, sketch)])),
    }),
  );
  const configFile = join(directory, 'config.json');
  await writeFile(configFile, JSON.stringify(configOf(simulator, directory, options)));
  const site = new Site(directory, configFile, simulator, options);
  await site.startServer();
  return site;
}

function settle({ cluster }: Simulator, name: string, { admin, pools = [] }: UserSketch): void {
  const user = `${name}@pve`;
  cluster.access.addUser(user, { password: `${name}-secret` });
  for (const pool of [name, ...pools]) {
    if (!cluster.pools.has(pool))
      cluster.pools.set(pool, { poolid: pool, comment: '', vms: new Set(), storages: new Set() });
    cluster.access.setAcl(`/pool/${pool}`, { users: [user] }, 'QuotaTenant');
  }
  if (admin === true) cluster.access.setAcl('/', { users: [user] }, 'Administrator');
}

function recordOf(name: string, sketch: UserSketch): unknown {
  const amounts = ['cores', 'memory', 'swap', 'network', 'local', 'fast', 'ceph'] as const;
  const nodesOf = (amount: string) =>
    Object.fromEntries(
      Object.entries(sketch.nodes ?? {}).flatMap(([node, limits]) =>
        limits[amount] === undefined ? [] : [[node, { max: limits[amount] }]],
      ),
    );
  const [min, max] = sketch.vmid ?? [100, 999];
  return {
    resources: {
      ...Object.fromEntries(
        amounts.map((amount) => [amount, { global: { max: sketch[amount] ?? 0 }, nodes: nodesOf(amount) }]),
      ),
      cpu: { global: [{ match: 'host', name: 'host', max: 1 }], nodes: {} },
      pci: { global: sketch.pci ?? [], nodes: {} },
    },
    cluster: {
      admin: sketch.admin ?? false,
      nodes: { n1: true, n2: true, n3: true },
      pools: Object.fromEntries([name, ...(sketch.pools ?? [])].map((pool) => [pool, true])),
      vmid: { min, max },
      backups: { max: 2 },
    },
    templates: sketch.templates ?? {
      instances: { lxc: {}, qemu: {} },
      network: {
        qemu: { type: 'virtio', bridge: 'vmbr0', vlan: 10 },
        lxc: { type: 'veth', bridge: 'vmbr0', vlan: 10, ip: 'dhcp', ip6: 'dhcp' },
      },
    },
  };
}

function configOf(
  simulator: Simulator,
  directory: string,
  { hold = 1, taskWait = 20, refresh, deadlines, pveUrl, config }: SiteOptions,
): unknown {
  return {
    backends: {
      pve: {
        import: 'pve',
        config: {
          url: pveUrl ?? simulator.url,
          token: { user: 'quota-proxy', realm: 'pve', id: 'gate', uuid: secret },
          deadlines: { read: 10, write: 15, ...deadlines },
          ...(simulator.fingerprint === undefined ? {} : { fingerprint: simulator.fingerprint }),
        },
      },
      localdb: { import: 'localdb', config: { dbfile: join(directory, 'localdb.json') } },
    },
    tenants: { networks: ['vmbr0', 'vmbr0/*'] },
    handlers: { instance: { pve: 'pve' }, users: { realm: { pve: ['pve', 'localdb'] }, any: ['pve', 'localdb'] } },
    application: { hostname: 'localhost', listenPort: 0 },
    useriso: { node: 'n1', storage: 'shared' },
    resources,
    database: join(directory, 'site.db'),
    hold,
    taskWait,
    // Nothing is read in between but where a test asks for it.
    refresh: { resources: 3600, storage: 3600, sweep: 86_400, ...refresh },
    ...config,
  };
}

/** One started site; `await using` ends it. */
export class Site {
  readonly directory: string;
  readonly configFile: string;
  readonly simulator: Simulator;
  readonly #options: SiteOptions;
  #server: Server | undefined;
  #process: ChildProcess | undefined;
  url = '';

  constructor(directory: string, configFile: string, simulator: Simulator, options: SiteOptions) {
    this.directory = directory;
    this.configFile = configFile;
    this.simulator = simulator;
    this.#options = options;
  }

  get cluster(): Simulator['cluster'] {
    return this.simulator.cluster;
  }

  /** The server in this process. */
  get server(): Server {
    if (this.#server === undefined) throw new Error('the server runs as a process of its own, or not at all');
    return this.#server;
  }

  /** The server as a process of its own. */
  get process(): ChildProcess {
    if (this.#process === undefined) throw new Error('the server runs in this process, or not at all');
    return this.#process;
  }

  /** Starts the server, and waits until it has read the cluster unless told not to. */
  async startServer({ ready = true }: { readonly ready?: boolean } = {}): Promise<void> {
    if (this.#options.as === 'process') {
      await this.#spawn();
      if (ready) await until('the server process is ready', async () => (await fetch(`${this.url}/healthz`)).ok);
    } else {
      const log = this.#options.log ?? pino({ level: process.env.SITE_LOG ?? 'silent' });
      this.#server = await startServer(loadConfig(this.configFile), {
        configFile: this.configFile,
        version: '0.0.0',
        log,
      });
      this.url = this.#server.url;
      await until('the server is ready', () => this.server.inventory.ready);
    }
  }

  async stopServer(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }

  /** Ends a server process at once, as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  /** A signed-in user, by the name given to `startSite`. */
  async signIn(name: string, password = `${name}-secret`): Promise<Client> {
    const client = new Client(this);
    const answer = await client.post('/access/ticket', { username: `${name}@pve`, password });
    if (answer.status !== 200) throw new Error(`sign-in failed: ${answer.status} ${JSON.stringify(answer.body)}`);
    return client;
  }

  /** Reads the whole cluster anew, as the refresh would in time. */
  async refresh(): Promise<void> {
    await this.server.rounds.all();
    await this.server.payers.refresh();
  }

  /** Waits until no change is under way any more. */
  async settled(): Promise<void> {
    await until(
      'nothing is open',
      () => this.server.settlement.open === 0 && this.server.ledger.reservations().length === 0,
    );
  }

  /** What the cluster really holds under these vmids, by resource. */
  truth(vmids: Iterable<number>): Amounts {
    return truthOfAll(this.cluster, vmids);
  }

  /** What the ledger has booked for a user, by resource. */
  booked(name: string): Record<string, number> {
    const totals: Record<string, number> = {};
    for (const { resource, item, booked } of this.server.ledger.holdings(`${name}@pve`))
      add(totals, `${resource}${item === '' ? '' : ` ${item}`}`, booked);
    return totals;
  }

  /** How many reservations the database holds, whether or not a server serves it. */
  storedReservations(): number {
    const database = new Sqlite(join(this.directory, 'site.db'), { readonly: true });
    try {
      return database.prepare<[], number>('SELECT count(*) FROM reservation').pluck().get() ?? 0;
    } finally {
      database.close();
    }
  }

  async #spawn(): Promise<void> {
    const child = spawn(
      process.execPath,
      [...(this.#options.execArgv ?? []), 'src/main.ts', '--config', this.configFile],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    this.#process = child;
    let output = '';
    child.stdout?.on('data', (chunk) => {
      output += chunk;
    });
    await until('the server process listens', () => /"url":"([^"]+)"/.test(output));
    this.url = /"url":"([^"]+)"/.exec(output)?.[1] ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing keeps the server from ending: neither a fault, nor a task for which it would wait.
    this.simulator.faults.clear();
    this.cluster.tasks.finishAll();
    await this.kill();
    await this.stopServer();
    await this.simulator[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}

function add(totals: Record<string, number>, key: string, amount: number): void {
  totals[key] = (totals[key] ?? 0) + amount;
}

// biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects to be there
export type Body = any;

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

/** A browser, as far as dashboards are one: keeps cookies, repeats the CSRF token in the header, sends forms. */
export class Client {
  readonly #site: Site;
  readonly cookies = new Map<string, string>();

  constructor(site: Site) {
    this.#site = site;
  }

  get(path: string): Promise<Reply> {
    return this.send('GET', path);
  }

  post(path: string, form: Readonly<Record<string, string | number>> = {}): Promise<Reply> {
    return this.send('POST', path, form);
  }

  delete(path: string, form?: Readonly<Record<string, string | number>>): Promise<Reply> {
    return this.send('DELETE', path, form);
  }

  /** Creates a VM of the given size on n1; the reply of the server. */
  createVm(
    vmid: number,
    { node = 'n1', ...form }: { node?: string } & Readonly<Record<string, string | number>> = {},
  ): Promise<Reply> {
    return this.post(`/cluster/${node}/qemu/${vmid}/create`, { name: `vm${vmid}`, cores: 1, memory: 512, ...form });
  }

  /** Creates a container with its root disk on ceph. */
  createContainer(
    vmid: number,
    { node = 'n1', ...form }: { node?: string } & Readonly<Record<string, string | number>> = {},
  ): Promise<Reply> {
    const ostemplate = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';
    return this.post(`/cluster/${node}/lxc/${vmid}/create`, {
      name: `ct${vmid}`,
      cores: 1,
      memory: 512,
      swap: 512,
      password: 'secret-password',
      ostemplate,
      rootfslocation: 'ceph',
      rootfssize: 4,
      ...form,
    });
  }

  /** A request below `/api`; a string body goes out as it is. */
  async send(
    method: string,
    path: string,
    form?: Readonly<Record<string, string | number>> | string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> {
    const body =
      form === undefined || typeof form === 'string'
        ? form
        : new URLSearchParams(
            Object.entries(form).map(([key, value]): [string, string] => [key, String(value)]),
          ).toString();
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(`${this.#site.url}/api${path}`, {
      method,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        ...(cookie === '' ? {} : { cookie }),
        ...(method === 'GET'
          ? {}
          : { csrfpreventiontoken: decodeURIComponent(this.cookies.get('CSRFPreventionToken') ?? '') }),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
    });
    for (const set of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? [];
      if (/Max-Age=0|Expires=Thu, 01 Jan 1970/i.test(set)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  }
}

/** Waits until something holds, looking often; fails with what it waited for after the given time. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 45_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
