/** How calls reach PVE: which host, which connection, and what is known when no answer comes. */

import { readFileSync } from 'node:fs';
import { getCACertificates, TLSSocket } from 'node:tls';
import type { BaseLogger } from 'pino';
import { buildConnector, Client, Pool } from 'undici';
import { z } from 'zod';
import { UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../errors.ts';
import { expected } from '../schema.ts';
import { secret } from '../secret.ts';
import { type Answer, type Call, type Credential, describeCall, type Upstream } from './call.ts';
import { type WireRequest, wireRequest } from './request.ts';
import { Slots } from './slots.ts';

const name = (what: string) => z.string().regex(/^[\x21-\x7e]+$/, { error: expected(`${what} without blanks`) });

const hostUrl = z
  .string()
  .refine((text) => originOf(text) !== null, {
    error: expected('a URL such as https://pve1.example.org:8006/api2/json'),
  })
  .transform((text) => originOf(text) ?? text);

const seconds = z.number().min(0.05).max(3600);

/** The configuration of a `pve` backend. */
export const upstreamSettings = z
  .strictObject({
    url: z
      .union([hostUrl, z.array(hostUrl).min(1)])
      .describe('Base URL of the PVE API, or those of several hosts of one cluster.'),
    token: z
      .strictObject({
        user: name('a user name'),
        realm: name('a realm'),
        id: name('the name of an API token'),
        uuid: secret
          .refine((text) => /^[\x21-\x7e]+$/.test(text.reveal()), 'expected a secret without blanks')
          .describe('The secret of the API token.'),
      })
      .describe('The privileged API token.'),
    root: z
      .strictObject({ username: name('a user name'), password: secret })
      .optional()
      .describe('root@pam, needed only for raw PCI devices, which PVE gives to nobody else.'),
    fabric: z.unknown().optional().describe('Accepted from older files and ignored.'),
    ca: z.string().min(1).optional().describe('PEM file with the certificate authority of the hosts.'),
    fingerprint: z
      .string()
      .regex(/^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$/, {
        error: expected('a SHA-256 fingerprint, 64 hexadecimal digits'),
      })
      .optional()
      .describe('SHA-256 fingerprint of the only certificate to accept, self-signed or not.'),
    deadlines: z
      .strictObject({ read: seconds.default(10), write: seconds.default(35), connect: seconds.default(3) })
      .prefault({})
      .describe('Seconds after which a call is given up.'),
    connections: z
      .int()
      .min(1)
      .max(500)
      .default(32)
      .describe('Most connections to one host, for reads and for writes each.'),
  })
  .refine(
    ({ url, fingerprint }) => fingerprint === undefined || [url].flat().every((origin) => origin.startsWith('https:')),
    {
      path: ['fingerprint'],
      error: 'only https URLs have a certificate that could be checked',
    },
  );

export type UpstreamSettings = z.output<typeof upstreamSettings>;

export interface UpstreamOptions {
  readonly log: Pick<BaseLogger, 'warn'>;
  /** Bytes; a longer answer counts as broken. */
  readonly maxAnswer?: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** When it aborts, every call under way is given up; whether PVE acted on it is unknown. */
  readonly giveUp?: AbortSignal;
}

const never = new AbortController().signal;

/** A host that failed is tried last for this many milliseconds. */
const avoidFor = 5000;

/** Writes that may wait for a connection before further ones are refused. */
const writeQueue = 1000;

/** Starts to talk to PVE; throws when the file of the certificate authority cannot be read. */
export function createUpstream(settings: UpstreamSettings, options: UpstreamOptions): Upstream {
  return new PveUpstream(settings, options);
}

interface Host {
  readonly origin: string;
  readonly address: string;
  readonly pool: Pool;
  failedAt: number;
}

class PveUpstream implements Upstream {
  readonly #hosts: readonly Host[];
  readonly #connector: buildConnector.connector;
  readonly #client: Client.Options;
  readonly #deadlines: UpstreamSettings['deadlines'];
  readonly #serviceToken: string;
  readonly #writes: Slots;
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #log: UpstreamOptions['log'];
  readonly #now: () => number;
  readonly #giveUp: AbortSignal;

  constructor(
    settings: UpstreamSettings,
    { log, maxAnswer = 64 * 1024 ** 2, now = () => performance.now(), giveUp = never }: UpstreamOptions,
  ) {
    const { url, token, deadlines, connections } = settings;
    this.#connector = connector(settings);
    // The deadline of the whole call replaces the client's own timeouts. PVE closes idle connections after 5 s, and any after 100 requests.
    this.#client = {
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
      pool: new Pool(origin, { ...this.#client, connections, connect: this.#connector }),
      failedAt: -Infinity,
    }));
    this.#deadlines = deadlines;
    this.#serviceToken = `${token.user}@${token.realm}!${token.id}=${token.uuid.reveal()}`;
    this.#writes = new Slots(connections, writeQueue);
    this.#log = log;
    this.#now = now;
    this.#giveUp = giveUp;
  }

  async send(call: Call, as: Credential): Promise<Answer> {
    const answer = this.#send(call, wireRequest(call, as, this.#serviceToken));
    this.#underWay.add(answer);
    try {
      return await answer;
    } finally {
      this.#underWay.delete(answer);
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    await Promise.all(this.#hosts.map(({ pool }) => pool.close()));
  }

  async #send(call: Call, request: WireRequest): Promise<Answer> {
    if (call.method === 'GET') return this.#inTurn(call, request, this.#within(this.#deadlines.read));
    const { write } = this.#deadlines;
    const deadline = this.#within(write);
    // One that has waited half its time is not sent any more, since PVE would have too little left to answer.
    const patience = after(write / 2);
    const busy = `PVE is busy with other changes; ${describeCall(call)} was not sent. Try again later.`;
    if (this.#writes.full) throw new UpstreamUnreachableError(busy);
    try {
      return await this.#writes.run(() => this.#inTurn(call, request, deadline), patience);
    } catch (error) {
      throw error === patience.reason ? new UpstreamUnreachableError(busy) : error;
    }
  }

  #within(seconds: number): AbortSignal {
    return AbortSignal.any([after(seconds), this.#giveUp]);
  }

  /** Goes from host to host as long as nothing has been sent; a read may also be repeated once after it was. */
  async #inTurn(call: Call, request: WireRequest, deadline: AbortSignal): Promise<Answer> {
    const [first, ...others] = this.#inOrder();
    let host = first;
    let repeated = false;
    while (host !== undefined) {
      try {
        return await this.#attempt(host, call, request, deadline, repeated);
      } catch (error) {
        const unsent = error instanceof UpstreamUnreachableError;
        const repeatable: boolean = call.method === 'GET' && error instanceof UpstreamBrokenError && !repeated;
        this.#avoid(host, error);
        const next = others.shift();
        if (deadline.aborted || !(repeatable || (unsent && next !== undefined))) throw error;
        repeated ||= repeatable;
        host = next ?? host;
      }
    }
    throw new TypeError('no PVE host is configured');
  }

  /** All hosts, those first that have not failed lately, in the order configured. */
  #inOrder(): readonly Host[] {
    const since = this.#now() - avoidFor;
    const failedAt = (host: Host): number => Math.max(host.failedAt, since);
    return this.#hosts.toSorted((a, b) => failedAt(a) - failedAt(b));
  }

  #avoid(host: Host, error: unknown): void {
    const now = this.#now();
    if (now - host.failedAt > avoidFor) this.#log.warn({ host: host.address, err: error }, 'a PVE host failed');
    host.failedAt = now;
  }

  /** One request to one host. Writes and repeated reads have a connection of their own, since a kept one may be closing. */
  async #attempt(
    host: Host,
    call: Call,
    request: WireRequest,
    deadline: AbortSignal,
    repeated: boolean,
  ): Promise<Answer> {
    const fresh = call.method !== 'GET' || repeated;
    let connected = false;
    const dispatcher = fresh
      ? new Client(host.origin, {
          ...this.#client,
          connect: (options, done) =>
            this.#connector(options, (...outcome) => {
              connected ||= outcome[0] === null;
              done(...outcome);
            }),
        })
      : host.pool;
    try {
      const response = await dispatcher.request({ ...request, signal: deadline, reset: fresh });
      return readAnswer(response.statusCode, response.statusText, await response.body.text());
    } catch (error) {
      const sent = fresh ? connected : !(error instanceof ConnectError);
      throw failure(error, `${describeCall(call)} at ${host.address}`, { sent, late: deadline.aborted });
    } finally {
      if (fresh) await dispatcher.destroy();
    }
  }
}

/** `https://host:8006` of a URL of the API, with or without its path; null for any other text. */
function originOf(text: string): string | null {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || !/^(\/api2\/json)?\/?$/.test(url.pathname)) return null;
  return url.username || url.password || url.search || url.hash ? null : url.origin;
}

function after(seconds: number): AbortSignal {
  return AbortSignal.timeout(seconds * 1000);
}

/** Opening the connection failed, so nothing of the request can have been sent. */
class ConnectError extends Error {
  override readonly name = 'ConnectError';
}

/** Opens connections to hosts that prove to be the right ones; no TLS session is resumed, so that each shows its certificate. */
function connector({ url, ca, fingerprint, deadlines }: UpstreamSettings): buildConnector.connector {
  const wanted = fingerprint?.replaceAll(':', '').toUpperCase();
  const secure = [url].flat().some((origin) => origin.startsWith('https:'));
  const authorities =
    ca === undefined
      ? [...getCACertificates('default'), ...(secure ? getCACertificates('system') : [])]
      : [readFileSync(ca, 'utf8')];
  const open = buildConnector({
    allowH2: false,
    maxCachedSessions: 0,
    timeout: deadlines.connect * 1000,
    ...(wanted === undefined ? (secure ? { ca: authorities } : {}) : { rejectUnauthorized: false }),
  });
  return (options, done) =>
    open(options, (error, socket) => {
      if (error !== null) return done(new ConnectError(error.message, { cause: error }), null);
      const shown =
        wanted === undefined || !(socket instanceof TLSSocket)
          ? wanted
          : socket.getPeerCertificate().fingerprint256?.replaceAll(':', '');
      if (shown === wanted) return done(null, socket);
      socket.destroy();
      done(new ConnectError(`its certificate has the fingerprint ${shown ?? 'of none'}, not the configured one`), null);
    });
}

/** What an HTTP response says; throws an Error when it is not what PVE would send. */
function readAnswer(status: number, phrase: string, text: string): Answer {
  const body = text === '' && status >= 400 ? {} : parseObject(text);
  if (body === null) throw new Error(`it answered ${status} with something else than PVE's JSON`);
  const { data = null, errors, ...extra } = body;
  const said = typeof extra.message === 'string' ? extra.message.trim() : '';
  return {
    status,
    // A phrase that is not UTF-8 has lost its letters; PVE repeats it in the body since 8.3.
    reason: (phrase === '' || phrase.includes('\uFFFD')) && said !== '' ? said : phrase,
    data,
    ...(isTexts(errors) ? { errors } : {}),
    ...(Object.keys(extra).length > 0 ? { extra } : {}),
  };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

function isTexts(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && Object.values(value).every((item) => typeof item === 'string');
}

const trust = /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/;

/** The error for the caller: what is known about the call, and what an administrator can do. */
function failure(
  cause: unknown,
  what: string,
  { sent, late }: { readonly sent: boolean; readonly late: boolean },
): Error {
  if (!(cause instanceof Error)) return new TypeError('an error was expected', { cause });
  const why = reasonOf(cause);
  if (!sent) {
    const remedy = trust.test(codeOf(cause.cause) ?? '')
      ? 'Name its certificate in "fingerprint", or its authority in "ca".'
      : 'Check that PVE runs there and that "url" is right.';
    return new UpstreamUnreachableError(`${what} was not sent, since no connection could be made: ${why}. ${remedy}`, {
      cause,
    });
  }
  const changed = what.startsWith('GET ') ? '' : ' Whether PVE acted is unknown: look before trying again.';
  if (late) return new UpstreamDeadlineError(`${what} was not answered in time.${changed}`, { cause });
  return new UpstreamBrokenError(`${what} was sent, but its answer was lost: ${why}.${changed}`, { cause });
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** An error that joins several attempts has no message of its own. */
function reasonOf(error: Error): string {
  return error.message || codeOf(error.cause) || codeOf(error) || error.name;
}
