/** The server as a whole: its rooms made and wired, begun and ended in the right order. */

import { dirname } from 'node:path';
import { type Logger, pino } from 'pino';
import type { Gate } from './admission/admit.ts';
import { Inventory } from './admission/inventory.ts';
import { Payers } from './admission/payers.ts';
import { Rounds } from './admission/rounds.ts';
import { Settlement } from './admission/settlement.ts';
import { awaitTokenRights } from './admission/token-rights.ts';
import { Turns } from './admission/turns.ts';
import { buildApp } from './app.ts';
import { Directory } from './backends/directory.ts';
import { loadBackends } from './backends/index.ts';
import { Sessions } from './backends/sessions.ts';
import { type Config, pveSettings } from './config.ts';
import { createUpstream } from './pve/upstream.ts';
import { Ledger } from './quota/ledger.ts';
import { measured } from './quota/usage.ts';
import { SignInLimit } from './routes/sign-in-limit.ts';
import { lockDatabase, openDatabase } from './store/database.ts';

export interface ServerOptions {
  readonly configFile: string;
  readonly version: string;
  readonly log?: Logger;
}

/** A server that listens. */
export interface Server {
  /** `http://host:port` */
  readonly url: string;
  readonly inventory: Inventory;
  readonly rounds: Rounds;
  readonly ledger: Ledger;
  readonly payers: Payers;
  readonly settlement: Settlement;
  /** Stops taking requests, lets running ones end, settles what it can in the time given, and closes everything. */
  close(withinMs?: number): Promise<void>;
}

/** How long a change waits for another one of the same instance, in ms. */
const turnBound = 10_000;

/** How often what was seen is written down, in ms. */
const saveEvery = 1000;

/** Starts to serve. Throws when the database or the port is taken; PVE being away only delays readiness. */
export async function startServer(
  config: Config,
  { configFile, version, log = pino() }: ServerOptions,
): Promise<Server> {
  const lock = lockDatabase(config.database);
  try {
    return await serve(config, { configFile, version, log }, () => lock.release());
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function serve(
  config: Config,
  { configFile, version, log }: Required<ServerOptions>,
  unlock: () => void,
): Promise<Server> {
  const settings = pveSettings(config);
  const counted = Object.entries(config.resources).flatMap(([name, { type }]) =>
    type === 'numeric' && !measured.includes(name) ? [name] : [],
  );
  const stopping = new AbortController();

  const database = openDatabase(config.database);
  const upstream = createUpstream(settings, { log });
  const backends = await loadBackends(config.backends, dirname(configFile), {
    log,
    database,
    upstream,
    resources: config.resources,
  });
  const directory = new Directory({
    backends,
    users: config.handlers.users,
    pve: config.handlers.instance.pve,
    defaultuser: config.defaultuser,
    resources: config.resources,
    log,
    now: () => performance.now(),
  });
  const ledger = new Ledger(database);
  const inventory = new Inventory({ upstream, ledger, log, counted });
  const rounds = new Rounds({ inventory, ledger, log, refresh: config.refresh });
  const payers = new Payers(directory, ledger, config.resources);
  const settlement = new Settlement({ upstream, ledger, inventory, log, hold: config.hold });
  const sessions = new Sessions(upstream);
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
  };
  const app = buildApp({
    config,
    version,
    directory,
    sessions,
    signInLimit: new SignInLimit(),
    gate,
    upstream,
    inventory,
    ledger,
    payers,
    log,
    stopping: stopping.signal,
  });

  const saving = setInterval(() => {
    try {
      ledger.save();
    } catch (error) {
      log.error({ err: error }, 'what was seen could not be written down; trying again');
    }
  }, saveEvery);
  void awaitTokenRights(upstream, settings.token, { log, signal: stopping.signal }).then(() => {
    if (stopping.signal.aborted) return;
    rounds.start();
    settlement.resume();
  });

  const { listenHost: host, listenPort: port } = config.application;
  await app.listen({ host, port });

  return {
    url: app.listeningOrigin,
    inventory,
    rounds,
    ledger,
    payers,
    settlement,
    async close(withinMs = 8000) {
      stopping.abort();
      await app.close();
      rounds.close();
      await settlement.close(withinMs);
      clearInterval(saving);
      ledger.save();
      for (const { backend } of backends.values()) await backend.close?.();
      await upstream.close();
      database.close();
      unlock();
    },
  };
}

/** Runs the server as this process: until SIGTERM or SIGINT, then ends it cleanly. */
export async function runServer(config: Config, options: ServerOptions): Promise<void> {
  const log = options.log ?? pino();
  const server = await startServer(config, { ...options, log });
  log.info({ url: server.url, version: options.version }, 'serving');
  const end = async (signal: NodeJS.Signals) => {
    log.info({ signal }, 'ending: running requests finish first');
    await server.close();
    process.exitCode = 0;
    log.info('ended');
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, end);
}
