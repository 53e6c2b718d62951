/** The consoles that are open: two WebSockets each, the caller's and PVE's, joined. */

import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import type { Sessions } from '../../backends/sessions.ts';
import { ForbiddenError, NotReadyError, TooManyRequestsError, UnauthenticatedError } from '../../errors.ts';
import type { Credential } from '../../pve/call.ts';
import { type ConsoleLimits, subprotocolOf } from '../../pve/console.ts';
import { type Arrival, isSame } from '../web-sockets.ts';

export interface ConsoleSocketsOptions {
  readonly limits: ConsoleLimits;
  readonly sessions: Pick<Sessions, 'identify'>;
  /** Ms between two pings: often enough that no web server in front takes a quiet console for a dead one. */
  readonly pingEvery?: number;
  /** Ms between two looks at idle times and at sessions, of which PVE's word is believed for a while. */
  readonly checkEvery?: number;
}

/** Who is at a console. */
export interface Viewer {
  readonly user: string;
  readonly credential: Credential;
}

/** Opens PVE's side: resolves when it stands, paused. Its errors are listened to; when the caller has gone, it is given up. */
export type OpenUpstream = (subprotocol: string, side: SideOptions, gone: AbortSignal) => Promise<WebSocket>;

/** What holds for either side of a console. */
export interface SideOptions {
  readonly perMessageDeflate: false;
  /** Bytes. */
  readonly maxPayload: number;
  /** Ms in which the other side has to say goodbye. */
  readonly closeTimeout: number;
}

interface Console {
  readonly viewer: Viewer;
  readonly client: WebSocket;
  readonly upstream: WebSocket;
  /** When something last went through, in monotonic ms. */
  movedAt: number;
  /** Whether the client has answered the last ping. */
  alive: boolean;
}

/** Bytes that one side may be behind before the other is read no further. */
const mostBehind = 256 * 1024;

/** How long clients have to say goodbye, in ms. */
const farewell = 500;

/** What a WebSocket is closed with. */
const goingAway = 1001;
const noCode = 1005;
const cutOff = 1006;
const policyViolation = 1008;
const tooLong = 1009;

/**
 * Joins callers to PVE's consoles. One ends with either side, whose close code the other is told, with its session,
 * when nothing goes through for too long, when its client falls silent, and with the server. Either side is read only
 * as fast as the other takes it.
 */
export class ConsoleSockets {
  readonly #limits: ConsoleLimits;
  readonly #sessions: Pick<Sessions, 'identify'>;
  readonly #side: SideOptions;
  readonly #server: WebSocketServer;
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #consoles = new Set<Console>();
  /** Places taken, by user; a console takes one from the moment that PVE is asked for it. */
  readonly #taken = new Map<string, number>();
  #total = 0;
  #ended = false;
  #checking: Promise<void> | undefined;

  constructor({ limits, sessions, pingEvery = 25_000, checkEvery = 1000 }: ConsoleSocketsOptions) {
    this.#limits = limits;
    this.#sessions = sessions;
    this.#side = { perMessageDeflate: false, maxPayload: limits.frameBytes, closeTimeout: 4 * farewell };
    this.#server = new WebSocketServer({
      ...this.#side,
      noServer: true,
      clientTracking: false,
      handleProtocols: (offered) => subprotocolOf([...offered]),
    });
    this.#timers = [setInterval(() => this.#ping(), pingEvery), setInterval(() => this.#check(), checkEvery)];
  }

  get size(): number {
    return this.#consoles.size;
  }

  /** Takes over the connection once PVE's side stands; throws what is to be answered when it does not, or is not asked for. */
  async accept({ request, connection, head }: Arrival, viewer: Viewer, open: OpenUpstream): Promise<void> {
    if (connection.destroyed) return;
    this.#enter(viewer.user, connection);
    const gone = new AbortController();
    connection.once('close', () => gone.abort());
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    const subprotocol = subprotocolOf(offered.filter((name) => name !== ''));
    const upstream = await open(subprotocol, this.#side, gone.signal);
    let joined = false;
    try {
      if (this.#ended) throw ending();
      this.#server.handleUpgrade(request, connection, head, (client) => {
        this.#join({ viewer, client, upstream, movedAt: performance.now(), alive: true });
        joined = true;
      });
    } finally {
      // What is no proper request for a WebSocket has been told so.
      if (!joined) upstream.terminate();
    }
  }

  /** Closes the consoles of a session that has ended. */
  end(credential: Credential): void {
    for (const console of this.#consoles)
      if (isSame(console.viewer.credential, credential)) this.#cut(console, policyViolation, 'signed out');
  }

  /** Closes the consoles of a user who is gone. */
  endOf(user: string): void {
    for (const console of this.#consoles)
      if (console.viewer.user === user) this.#cut(console, policyViolation, 'the session has ended');
  }

  /** Closes all consoles; clients that do not say goodbye soon are cut off. */
  async close(): Promise<void> {
    this.#ended = true;
    for (const timer of this.#timers) clearInterval(timer);
    const closed = [...this.#consoles].map((console) => {
      const end = new Promise<void>((resolve) => console.client.once('close', () => resolve()));
      this.#cut(console, goingAway, 'the server is ending');
      return end;
    });
    if (closed.length > 0) await Promise.race([Promise.all(closed), delay(farewell)]);
    for (const { client } of this.#consoles) client.terminate();
  }

  /** Takes a place that is free again when the connection has ended. */
  #enter(user: string, connection: Duplex): void {
    const { total, perUser } = this.#limits;
    const own = this.#taken.get(user) ?? 0;
    if (this.#ended) throw ending();
    if (total === 0 || perUser === 0) throw new ForbiddenError('Consoles are not offered here (limits.consoles)');
    if (this.#total >= total)
      throw new NotReadyError(`There are too many consoles open (${total}); try again in a moment`, 5);
    if (own >= perUser) throw new TooManyRequestsError(`You have too many consoles open (${own}); close some`, 5);
    this.#total += 1;
    this.#taken.set(user, own + 1);
    connection.once('close', () => {
      this.#total -= 1;
      const left = (this.#taken.get(user) ?? 1) - 1;
      if (left > 0) this.#taken.set(user, left);
      else this.#taken.delete(user);
    });
  }

  #join(console: Console): void {
    const { client, upstream } = console;
    this.#consoles.add(console);
    this.#forward(console, client, upstream);
    this.#forward(console, upstream, client);
    client.on('pong', () => {
      console.alive = true;
    });
    client.on('close', () => this.#consoles.delete(console));
    upstream.resume();
    if (upstream.readyState !== WebSocket.OPEN) passOn(client, cutOff);
  }

  #forward(console: Console, from: WebSocket, to: WebSocket): void {
    from.on('message', (data, binary) => {
      console.movedAt = performance.now();
      to.send(data as Buffer, { binary }, () => {
        if (from.isPaused && to.bufferedAmount <= mostBehind) from.resume();
      });
      if (to.bufferedAmount > mostBehind) from.pause();
    });
    from.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH')
        to.close(tooLong, `a frame was longer than ${this.#limits.frameBytes} bytes`);
    });
    from.on('close', (code, reason) => passOn(to, code, reason));
  }

  /** Ends a console by our own decision: nothing goes through any more. */
  #cut({ client, upstream }: Console, code: number, reason: string): void {
    client.close(code, reason);
    upstream.terminate();
  }

  #ping(): void {
    for (const console of this.#consoles) {
      if (console.alive) console.client.ping();
      else console.client.terminate();
      console.alive = false;
    }
  }

  #check(): void {
    const since = performance.now() - this.#limits.idle * 1000;
    for (const console of this.#consoles)
      if (console.movedAt < since) this.#cut(console, policyViolation, 'nothing went through for too long');
    this.#checking ??= this.#checkSessions().finally(() => {
      this.#checking = undefined;
    });
  }

  /** Asks anew who is at each console; PVE being away ends none. */
  async #checkSessions(): Promise<void> {
    await Promise.all(
      [...this.#consoles].map(async (console) => {
        const { credential, user } = console.viewer;
        try {
          if ((await this.#sessions.identify(credential)) === user) return;
        } catch (error) {
          if (!(error instanceof UnauthenticatedError)) return;
        }
        this.#cut(console, policyViolation, 'the session has ended');
      }),
    );
  }
}

function ending(): NotReadyError {
  return new NotReadyError('The server is ending; try again in a moment', 1);
}

/** Closes a side as the other was closed. PVE ends a console without a word, which no code can repeat. */
function passOn(to: WebSocket, code: number, reason?: Buffer): void {
  if (code === noCode) to.close();
  else if (code === cutOff) to.close(goingAway, 'the console has ended');
  else to.close(code, reason);
}
