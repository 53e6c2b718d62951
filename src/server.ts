/** The server as a whole: its rooms made and wired, begun and ended in the right order. */

import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import type { Gate } from './admission/gate.ts';
import { Inventory } from './admission/inventory.ts';
import { Payers } from './admission/payers.ts';
import { Rounds } from './admission/rounds.ts';
import { Settlement } from './admission/settlement.ts';
import { awaitTokenRights } from './admission/token-rights.ts';
import { Turns } from './admission/turns.ts';
import { Watch } from './admission/watch.ts';
import { buildApp } from './app.ts';
import { type Directory, openDirectory } from './backends/directory.ts';
import { Sessions } from './backends/sessions.ts';
import { type Config, hintsOf, pveSettings, strangersIn } from './config.ts';
import { ApiError, type Fault } from './errors.ts';
import { makeLog } from './log.ts';
import { Hosts } from './pve/hosts.ts';
import { Relay } from './pve/relay.ts';
import { Root } from './pve/root.ts';
import { withUploads } from './pve/upload.ts';
import { createUpstream } from './pve/upstream.ts';
import { Ledger } from './quota/ledger.ts';
import { countedKeys } from './quota/usage.ts';
import { addressBehind, isAmong } from './routes/client-address.ts';
import type { Health } from './routes/health.ts';
import { Load } from './routes/load.ts';
import type { Rooms } from './routes/rooms.ts';
import { SignInLimit } from './routes/sign-in-limit.ts';
import { UploadPlaces } from './routes/upload-places.ts';
import { WebSockets } from './routes/web-sockets.ts';
import { FaultsError } from './schema.ts';
import { type DatabaseLock, lockDatabase, openDatabase } from './store/database.ts';

export interface ServerOptions {
  readonly configFile: string;
  readonly version: string;
  readonly log?: Logger;
}

/** A server that listens. */
export interface Server {
  /** `http://host:port`, or `https://host:port`. */
  readonly url: string;
  readonly inventory: Inventory;
  readonly rounds: Rounds;
  readonly ledger: Ledger;
  readonly directory: Directory;
  readonly payers: Payers;
  readonly settlement: Settlement;
  readonly gate: Gate;
  /**
   * Stops taking requests, lets running ones end, settles what it can, and closes everything, all in the time given: what
   * takes longer is cut off, and its reservation found open at the next start.
   */
  close(withinMs?: number): Promise<void>;
}

/** How long a change waits for another one of the same instance, in ms. */
const turnBound = 10_000;

/** How long requests stand still for another program that writes to the database, in ms. */
const busyFor = 300;

/** How often what was seen is written down, in ms. */
const saveEvery = 1000;

/** The shares of the time to end in: requests may use the first, calls to PVE the second. */
const forRequests = 0.6;
const forCalls = 0.9;

/** A log that is written line by line: what is kept for later cannot be got rid of at the end, if nobody reads it any more. */
function standardOutput(): Logger {
  return makeLog(pino.destination({ fd: 1, sync: true }));
}

/** Starts to serve. Throws when the database or the port is taken; PVE being away only delays readiness. */
export async function startServer(
  config: Config,
  { configFile, version, log = standardOutput() }: ServerOptions,
): Promise<Server> {
  const lock = lockDatabase(config.database);
  try {
    return await serve(config, { configFile, version, log }, lock);
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function serve(
  config: Config,
  { configFile, version, log }: Required<ServerOptions>,
  lock: DatabaseLock,
): Promise<Server> {
  const stopping = new AbortController();
  const givingUp = new AbortController();
  const settings = pveSettings(config);
  const counted = countedKeys(config.resources);
  const database = openDatabase(config.database, busyFor);
  const hosts = new Hosts(settings, { log });
  const giveUp = givingUp.signal;
  const upstream = withUploads(createUpstream(settings, { log, giveUp }, hosts), {
    hosts,
    idle: config.limits.uploads.idle,
    giveUp,
  });
  const relay = new Relay(settings, hosts);
  const directory = await openDirectory(config, { configFile, log, database, upstream });
  for (const hint of hintsOf(config)) log.warn(hint);
  const ledger = new Ledger(database);
  const inventory = new Inventory({ upstream, ledger, log, counted, backupStorage: config.backups?.storage });
  const rounds = new Rounds({ inventory, ledger, log, refresh: config.refresh });
  const payers = new Payers(directory, ledger, config.resources, log);
  const settlement = new Settlement({ upstream, ledger, inventory, log, hold: config.hold });
  const gate: Gate = {
    upstream,
    ledger,
    inventory,
    payers,
    settlement,
    turns: new Turns(turnBound),
    operatorPrivilege: config.operatorPrivilege,
    resources: config.resources,
    counted,
    media: config.useriso,
    backupStorage: config.backups?.storage,
    allowances: config.tenants,
    root: new Root(upstream, settings.root),
  };
  const { concurrentRequests, concurrentPerUser } = config.limits;
  const load = new Load(concurrentRequests, concurrentPerUser);
  const saving = saveRegularly(ledger, log);
  let entitled = false;
  const unready = () => {
    if (stopping.signal.aborted) return 'the server is ending';
    if (!entitled) return 'PVE has not confirmed yet that the API token has the rights it needs; the log says more';
    return inventory.ready ? inventory.frozen?.reason : 'what the cluster holds is still being read';
  };
  const health = (): Health => ({ unready: unready(), problem: saving.problem });
  const rooms: Rooms = {
    config,
    version,
    directory,
    sessions: new Sessions(upstream, { limit: new SignInLimit() }),
    signInLimit: new SignInLimit(),
    load,
    sockets: new WebSockets(addressBehind(isAmong(config.application.trustedProxies))),
    gate,
    upstream,
    relay,
    hosts,
    uploads: new UploadPlaces(config.limits.uploads.total),
    inventory,
    watch: new Watch({ inventory, log }),
    ledger,
    payers,
    log,
    stopping: stopping.signal,
  };
  const app = buildApp(config, rooms, health);

  const server: Server = {
    get url() {
      return app.listeningOrigin;
    },
    inventory,
    rounds,
    ledger,
    directory,
    payers,
    settlement,
    gate,
    async close(withinMs = 8000) {
      const end = performance.now() + withinMs;
      const until = (share: number) => Math.max(0, end - withinMs * (1 - share) - performance.now());
      const soon = <T>(work: Promise<T>, share: number) =>
        Promise.race([work, delay(until(share), undefined, { ref: false })]);
      stopping.abort();
      const closed = app.close();
      await soon(load.idle(), forRequests);
      app.server.closeAllConnections();
      rounds.close();
      const cut = setTimeout(() => givingUp.abort(), until(forCalls));
      await settlement.close(until(forCalls));
      await Promise.all([upstream.close(), relay.close()]);
      clearTimeout(cut);
      await soon(Promise.all([closed, load.idle(), directory.close()]), 1);
      load.close();
      saving.stop();
      database.close();
      lock.release();
    },
  };
  const { listenHost: host, listenPort: port } = config.application;
  try {
    await app.listen({ host, port });
  } catch (error) {
    await server.close(0);
    throw unheard(error, host, port);
  }
  void awaitTokenRights(upstream, settings.token, { log, signal: stopping.signal }).then(() => {
    if (stopping.signal.aborted) return;
    entitled = true;
    rounds.start();
    settlement.resume();
    const strangers = async () => {
      while (!inventory.ready) await delay(1000, undefined, { signal: stopping.signal });
      const nodes = inventory.nodes.map(({ node }) => node);
      return strangersIn(config, { nodes, storages: inventory.storages });
    };
    // A server that ends before it was ready has nothing to tell.
    for (const found of [directory.hints(), strangers().catch(() => [])])
      void found.then((hints) => {
        for (const hint of hints) log.warn(hint);
      });
  });
  return server;
}

/** Why the server cannot listen, where the configuration can mend it. */
function unheard(error: unknown, host: string, port: number): unknown {
  const elsewhere = `${host} is no address of this machine; 127.0.0.1 serves a web server in front, 0.0.0.0 everybody`;
  const faults: Readonly<Record<string, Fault>> = {
    EADDRINUSE: {
      field: 'application.listenPort',
      problem: `${port} at ${host} is taken by another program: stop that one, or choose another port`,
    },
    EACCES: {
      field: 'application.listenPort',
      problem: `${port} is for root alone on this machine: choose one above 1023`,
    },
    EADDRNOTAVAIL: { field: 'application.listenHost', problem: elsewhere },
    EINVAL: { field: 'application.listenHost', problem: elsewhere },
    ENOTFOUND: { field: 'application.listenHost', problem: elsewhere },
  };
  const fault = faults[String((error as NodeJS.ErrnoException).code)];
  return fault === undefined ? error : new FaultsError('The configuration', [fault]);
}

interface Saving {
  /** Why what was seen cannot be written down, while that is so. */
  readonly problem: string | undefined;
  /** Writes a last time. */
  stop(): void;
}

/** Writes down what was seen, again and again; tells the log once when that begins to fail, and once when it works again. */
function saveRegularly(ledger: Ledger, log: Logger): Saving {
  let problem: string | undefined;
  const save = () => {
    try {
      ledger.save();
      if (problem !== undefined) log.info('the database can be written again');
      problem = undefined;
    } catch (error) {
      if (problem === undefined)
        log.error({ err: error }, 'the database cannot be written; nothing is changed until it can');
      problem = error instanceof ApiError ? error.message : 'the database cannot be written';
    }
  };
  const timer = setInterval(save, saveEvery);
  return {
    get problem() {
      return problem;
    },
    stop() {
      clearInterval(timer);
      save();
    },
  };
}

/** Runs the server as this process: SIGTERM or SIGINT ends it cleanly, a second one at once. */
export async function runServer(config: Config, options: ServerOptions): Promise<void> {
  const log = options.log ?? standardOutput();
  const server = await startServer(config, { ...options, log });
  log.info({ url: server.url, version: options.version }, 'serving');
  let ending = false;
  const end = async (signal: NodeJS.Signals) => {
    if (ending) process.exit(128 + constants.signals[signal]);
    ending = true;
    log.info({ signal }, 'ending: running requests finish first');
    await server.close();
    log.info('ended');
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, end);
}
