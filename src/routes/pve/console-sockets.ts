/** The consoles that are open: two WebSockets each, the caller's and PVE's, joined. */

import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import type { Sessions } from '../../backends/sessions.ts';
import { ForbiddenError, NotReadyError, TooManyRequestsError } from '../../errors.ts';
import { type ConsoleLimits, subprotocol } from '../../pve/console.ts';
import { farewell, goingAway, type Held, HeldSockets, policyViolation, type Rhythm } from '../held-sockets.ts';
import type { Arrival } from '../web-sockets.ts';

export interface ConsoleSocketsOptions extends Partial<Rhythm> {
  readonly limits: ConsoleLimits;
  readonly sessions: Pick<Sessions, 'identify'>;
  /** Monotonic ms. */
  readonly now?: () => number;
}

/** Opens PVE's side: resolves when it stands, paused. Its errors are listened to; when the caller has gone, it is given up. */
export type OpenUpstream = (side: SideOptions, gone: AbortSignal) => Promise<WebSocket>;

/** What holds for either side of a console. */
export interface SideOptions {
  readonly perMessageDeflate: false;
  /** Bytes. */
  readonly maxPayload: number;
  /** Ms in which the other side has to say goodbye. */
  readonly closeTimeout: number;
}

interface Console extends Held {
  readonly upstream: WebSocket;
  /** When something last went through, in monotonic ms. */
  movedAt: number;
}

/** Bytes that one side may be behind before the other is read no further. */
const mostBehind = 256 * 1024;

/** What a WebSocket is closed with. */
const noCode = 1005;
const cutOff = 1006;
const tooLong = 1009;

/**
 * Joins callers to PVE's consoles. One ends with either side, whose close code the other is told, with its session,
 * when nothing goes through for too long, when its client falls silent, and with the server. Either side is read only
 * as fast as the other takes it.
 */
export class ConsoleSockets extends HeldSockets<Console> {
  readonly #limits: ConsoleLimits;
  readonly #sessions: Pick<Sessions, 'identify'>;
  readonly #now: () => number;
  readonly #side: SideOptions;
  readonly #server: WebSocketServer;
  /** Places taken, by user; a console takes one from the moment that PVE is asked for it. */
  readonly #taken = new Map<string, number>();
  #total = 0;

  constructor({
    limits,
    sessions,
    now = () => performance.now(),
    pingEvery = 25_000,
    checkEvery = 1000,
  }: ConsoleSocketsOptions) {
    super({ pingEvery, checkEvery });
    this.#limits = limits;
    this.#sessions = sessions;
    this.#now = now;
    this.#side = { perMessageDeflate: false, maxPayload: limits.frameBytes, closeTimeout: 4 * farewell };
    this.#server = new WebSocketServer({
      ...this.#side,
      noServer: true,
      clientTracking: false,
      handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : ([...offered][0] ?? false)),
    });
  }

  /** Takes over the connection once PVE's side stands; throws what is to be answered when it does not, or is not asked for. */
  async accept({ request, connection, head }: Arrival, caller: Held['caller'], open: OpenUpstream): Promise<void> {
    if (connection.destroyed) return;
    this.#enter(caller.user, connection);
    const gone = new AbortController();
    connection.once('close', () => gone.abort());
    const upstream = await open(this.#side, gone.signal);
    let joined = false;
    try {
      this.mustTakeNew();
      this.#server.handleUpgrade(request, connection, head, (client) => {
        this.#join({ caller, client, upstream, movedAt: this.#now(), alive: true });
        joined = true;
      });
    } finally {
      // What is no proper request for a WebSocket has been told so.
      if (!joined) upstream.terminate();
    }
  }

  /** Takes a place that is free again when the connection has ended. */
  #enter(user: string, connection: Duplex): void {
    const { total, perUser } = this.#limits;
    const own = this.#taken.get(user) ?? 0;
    this.mustTakeNew();
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
    this.hold(console);
    this.#forward(console, client, upstream);
    this.#forward(console, upstream, client);
    upstream.resume();
    if (upstream.readyState !== WebSocket.OPEN) passOn(client, cutOff);
  }

  #forward(console: Console, from: WebSocket, to: WebSocket): void {
    from.on('message', (data, binary) => {
      console.movedAt = this.#now();
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

  /** Nothing goes through any more. */
  protected override cut(console: Console, code: number, reason: string): void {
    super.cut(console, code, reason);
    console.upstream.terminate();
  }

  protected override check(): void {
    const since = this.#now() - this.#limits.idle * 1000;
    for (const console of this.held)
      if (console.movedAt < since) this.cut(console, policyViolation, 'nothing went through for too long');
    super.check();
  }

  protected async checkAll(): Promise<void> {
    await Promise.all([...this.held].map((console) => this.stands(console)));
  }

  protected async isTheirs({ caller }: Console): Promise<boolean> {
    return (await this.#sessions.identify(caller.credential)) === caller.user;
  }
}

/** Closes a side as the other was closed. PVE ends a console without a word, which no code can repeat. */
function passOn(to: WebSocket, code: number, reason?: Buffer): void {
  if (code === noCode) to.close();
  else if (code === cutOff) to.close(goingAway, 'the console has ended');
  else to.close(code, reason);
}
