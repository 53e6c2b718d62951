/** A simulated PVE cluster for tests and the demo. */

import { Access } from './access.ts';
import { createApp } from './app.ts';
import { type Certificate, makeCertificate } from './certificate.ts';
import { Cluster } from './cluster.ts';
import { Daemon } from './daemon.ts';
import { Faults } from './faults.ts';
import { methods } from './methods/index.ts';
import { type LoggedRequest, RequestLog } from './request-log.ts';
import { seedDemo, seedEmpty } from './seed.ts';
import { type TaskPace, Tasks } from './tasks.ts';

export interface SimulatorOptions {
  /** 0, the default: any free one. */
  readonly port?: number;
  readonly host?: string;
  readonly tls?: boolean;
  /** `empty`: nodes, storages and the service user; `demo`: tenants and guests as well. */
  readonly seed?: 'empty' | 'demo';
  /** How many guests the demo has in all. */
  readonly guests?: number;
  /** The secret of the service token; made up when absent. */
  readonly serviceSecret?: string;
  /** How long a 401 takes, in ms. */
  readonly unauthorizedDelay?: number;
  readonly taskPace?: TaskPace;
  /** In ms since 1970. */
  readonly now?: () => number;
}

/** A cluster that listens. All of its state outlives `stop`, as PVE's does. */
export class Simulator {
  readonly url: string;
  readonly cluster: Cluster;
  readonly faults: Faults;
  readonly requests: readonly LoggedRequest[];
  /** SHA-256 of the certificate, when it speaks TLS. */
  readonly fingerprint: string | undefined;
  /** PEM, when it speaks TLS. */
  readonly ca: string | undefined;
  readonly #daemon: Daemon;
  readonly #log: RequestLog;

  constructor(
    url: string,
    parts: { cluster: Cluster; faults: Faults; log: RequestLog; daemon: Daemon; certificate: Certificate | undefined },
  ) {
    this.url = url;
    this.cluster = parts.cluster;
    this.faults = parts.faults;
    this.requests = parts.log.entries;
    this.fingerprint = parts.certificate?.fingerprint;
    this.ca = parts.certificate?.certificate;
    this.#daemon = parts.daemon;
    this.#log = parts.log;
  }

  /** How many console connections are open. */
  get consoles(): number {
    return this.cluster.consoles.open;
  }

  /** The first request that is wanted, already here or still to come; it may not be answered yet (status 0). */
  waitForRequest(isWanted: (request: LoggedRequest) => boolean): Promise<LoggedRequest> {
    return this.#log.waitFor(isWanted);
  }

  /** Breaks off every connection; tasks go on. */
  stop(): Promise<void> {
    return this.#daemon.stop();
  }

  /** Listens again, on the same port. */
  start(): Promise<void> {
    return this.#daemon.start();
  }

  /** Takes connections and requests but answers none until `resume`. */
  pause(): void {
    this.#daemon.pause();
  }

  resume(): void {
    this.#daemon.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.cluster.tasks.close();
  }
}

/** Makes a cluster and listens; rejects when the port is taken. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const { host = '127.0.0.1', port = 0, unauthorizedDelay = 0, now = Date.now } = options;
  const cluster = new Cluster(new Access(now), new Tasks(now, options.taskPace), now);
  seed(cluster, options);
  const [faults, log] = [new Faults(), new RequestLog()];
  const certificate = options.tls ? await makeCertificate(host) : undefined;
  const app = createApp({ cluster, rows: methods, faults, requests: log, unauthorizedDelay });
  const daemon = new Daemon({ host, port, ...(certificate && { certificate }) }, app);
  await daemon.start();
  const url = `${certificate ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${daemon.port}`;
  return new Simulator(url, { cluster, faults, log, daemon, certificate });
}

function seed(cluster: Cluster, { seed: kind = 'empty', guests, serviceSecret }: SimulatorOptions): void {
  const secret = serviceSecret === undefined ? {} : { serviceSecret };
  if (kind === 'empty') seedEmpty(cluster, secret);
  else seedDemo(cluster, { ...secret, ...(guests === undefined ? {} : { guests }) });
}
