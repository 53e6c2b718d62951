/** The hosts of the PVE cluster: which to ask first, how to open a connection to one, and what a failure means. */

import { readFileSync } from 'node:fs';
import type { OnReadOpts } from 'node:net';
import { createSecureContext, getCACertificates, TLSSocket } from 'node:tls';
import type { BaseLogger } from 'pino';
import { buildConnector, type Client, Pool } from 'undici';
import { UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../errors.ts';
import { ConsoleTickets } from './console.ts';
import type { UpstreamSettings } from './upstream-settings.ts';

/** One host, with its kept connections. */
export interface Host {
  /** `https://host:8006` */
  readonly origin: string;
  /** `host:8006` */
  readonly address: string;
  readonly pool: Pool;
}

export interface HostsOptions {
  readonly log: Pick<BaseLogger, 'warn'>;
  /** Bytes; a longer answer counts as broken. */
  readonly maxAnswer?: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

/** A host that failed is tried last for this many milliseconds. */
const avoidFor = 5000;

/** A host that goes on failing is told of so often, in ms. */
const tellEvery = 300_000;

export class Hosts {
  /** Opens a connection to a host that proves to be the right one; fails with ConnectError. */
  readonly connect: buildConnector.connector;
  /** For clients of their own: the deadline of a whole call replaces the client's own timeouts. */
  readonly client: Client.Options;
  /** The text behind `PVEAPIToken=` of the privileged token. */
  readonly serviceToken: string;
  /** Which host made the ticket of a console. */
  readonly consoles: ConsoleTickets<Host>;
  readonly #connectorThat: ReturnType<typeof connector>;
  readonly #hosts: readonly Host[];
  readonly #failedAt = new Map<Host, number>();
  readonly #toldAt = new Map<Host, number>();
  readonly #log: HostsOptions['log'];
  readonly #now: () => number;

  /** Throws when the file of the certificate authority cannot be read. */
  constructor(
    settings: UpstreamSettings,
    { log, maxAnswer = 64 * 1024 ** 2, now = () => performance.now() }: HostsOptions,
  ) {
    const { url, token, connections } = settings;
    this.#connectorThat = connector(settings);
    this.connect = this.#connectorThat();
    // PVE closes idle connections after 5 s, and any after 100 requests.
    this.client = {
      maxResponseSize: maxAnswer,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: 4000,
      keepAliveMaxTimeout: 4000,
      maxRequestsPerClient: 100,
    };
    this.#hosts = [url].flat().map((origin) => ({
      origin,
      address: new URL(origin).host,
      pool: new Pool(origin, { ...this.client, connections, connect: this.connect }),
    }));
    this.serviceToken = `${token.user}@${token.realm}!${token.id}=${token.uuid.reveal()}`;
    this.consoles = new ConsoleTickets(now);
    this.#log = log;
    this.#now = now;
  }

  /** All hosts, those first that have not failed lately, in the order configured. */
  inOrder(): readonly Host[] {
    if (this.#failedAt.size === 0) return this.#hosts;
    const since = this.#now() - avoidFor;
    const failedAt = (host: Host): number => Math.max(this.#failedAt.get(host) ?? since, since);
    return this.#hosts.toSorted((a, b) => failedAt(a) - failedAt(b));
  }

  /** Opens a connection to the host that undici knows nothing of, as `connect` does; what comes is read as `onread` says. */
  dial({ origin }: Host, done: buildConnector.Callback, onread?: OnReadOpts): void {
    const { hostname, host, protocol, port } = new URL(origin);
    const connect = onread === undefined ? this.connect : this.#connectorThat({ onread });
    connect({ hostname: hostname.replace(/^\[|\]$/g, ''), host, protocol, port }, done);
  }

  /** Has a host that failed tried last for a while. */
  avoid(host: Host, error: unknown): void {
    const now = this.#now();
    this.#failedAt.set(host, now);
    if (now - (this.#toldAt.get(host) ?? -Infinity) < tellEvery) return;
    this.#log.warn({ host: host.address, err: error }, 'a PVE host failed');
    this.#toldAt.set(host, now);
  }

  async close(): Promise<void> {
    await Promise.all(this.#hosts.map(({ pool }) => pool.close()));
  }
}

/** Opening the connection failed, so nothing of the request can have been sent. */
export class ConnectError extends Error {
  override readonly name = 'ConnectError';
}

/** How long connections may resume the TLS session of a host that has shown its certificate, in ms: then it shows it anew. */
const believedFor = 300_000;

/** A TLS session that goes back to a certificate which was verified, at that time by the monotonic clock. */
interface Verified {
  readonly session: Buffer;
  readonly at: number;
}

/**
 * Makes what opens connections to hosts that prove to be the right ones: by their certificate, or by resuming the session
 * of a connection that has shown it. A session is offered to the host and port alone from which it came.
 */
function connector({ url, ca, fingerprint, deadlines }: UpstreamSettings) {
  const wanted = fingerprint?.replaceAll(':', '').toUpperCase();
  const secure = [url].flat().some((origin) => origin.startsWith('https:'));
  const authority = ca === undefined ? undefined : readFileSync(ca, 'utf8');
  // One for all connections: to read every authority takes longer than a call, and a fingerprint needs none of them.
  const secureContext = secure
    ? createSecureContext({ ca: wanted === undefined ? (authority ?? knownAuthorities()) : [] })
    : undefined;
  const base: buildConnector.BuildOptions = {
    allowH2: false,
    maxCachedSessions: 0,
    timeout: deadlines.connect * 1000,
    ...(secureContext === undefined ? {} : { secureContext }),
    ...(wanted === undefined ? {} : { rejectUnauthorized: false }),
  };
  const verified = new Map<string, Verified>();
  return (more: { readonly onread?: OnReadOpts } = {}): buildConnector.connector =>
    (options, done) => {
      const place = `${options.hostname} ${options.port}`;
      const known = verified.get(place);
      const offered = known !== undefined && performance.now() - known.at < believedFor ? known : undefined;
      const open = buildConnector({ ...base, ...more, ...(offered && { session: offered.session }) });
      open(options, (error, socket) => {
        if (error !== null) {
          verified.delete(place);
          return done(new ConnectError(error.message, { cause: error }), null);
        }
        if (socket instanceof TLSSocket) {
          const resumed = socket.isSessionReused() ? offered : undefined;
          const shown =
            wanted === undefined || resumed !== undefined
              ? wanted
              : socket.getPeerCertificate().fingerprint256?.replaceAll(':', '');
          if (shown !== wanted) {
            socket.destroy();
            const message = `its certificate has the fingerprint ${shown ?? 'of none'}, not the configured one`;
            return done(new ConnectError(message), null);
          }
          const at = resumed?.at ?? performance.now();
          socket.on('session', (session: Buffer) => verified.set(place, { session, at }));
        }
        done(null, socket);
      });
    };
}

function knownAuthorities(): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
}

const trust = /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/;

/** The error for the caller: what is known about the call, and what an administrator can do. */
export function failure(
  cause: unknown,
  what: string,
  { sent, late }: { readonly sent: boolean; readonly late: boolean },
): Error {
  if (!(cause instanceof Error)) return new TypeError('an error was expected', { cause });
  const why = reasonOf(cause);
  if (!sent) {
    const message = `${what} was not sent, since no connection could be made: ${why}. ${remedyFor(cause)}`;
    return new UpstreamUnreachableError(message, { cause });
  }
  const changed = what.startsWith('GET ') ? '' : ' Whether PVE acted is unknown: look before trying again.';
  if (late) return new UpstreamDeadlineError(`${what} was not answered in time.${changed}`, { cause });
  return new UpstreamBrokenError(`${what} was sent, but its answer was lost: ${why}.${changed}`, { cause });
}

function remedyFor(cause: Error): string {
  if (cause.message.includes('fingerprint'))
    return 'Compare it with "pvenode cert info" there; where it is right, change "fingerprint".';
  return trust.test(codeOf(cause.cause) ?? '')
    ? 'Name its certificate in "fingerprint", or its authority in "ca".'
    : 'Check that PVE runs there and that "url" is right.';
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** An error that joins several attempts has no message of its own. */
function reasonOf(error: Error): string {
  return error.message || codeOf(error.cause) || codeOf(error) || error.name;
}
