/** The WebSockets of those who want to hear at once that something has changed. */

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Caller } from '../../admission/gate.ts';
import type { Changes, Listening, Watch } from '../../admission/watch.ts';
import { NotReadyError, TooManyRequestsError } from '../../errors.ts';
import { grants, type UserRecord } from '../../quota/record.ts';
import { type Held, HeldSockets, policyViolation, type Rhythm } from '../held-sockets.ts';

/** Seconds between two looks at the cluster that a client may ask for. */
export interface Rates {
  readonly min: number;
  readonly max: number;
}

export interface SyncSocketsOptions extends Partial<Rhythm> {
  readonly watch: Watch;
  readonly rates: Rates;
  /** Sockets at a time, of all users and of one. */
  readonly most?: number;
  readonly mostOfOne?: number;
}

interface Subscriber extends Held {
  readonly identify: () => Promise<Caller>;
  readonly listening: Listening;
  caller: Caller;
  /** Frames since the last ping. */
  frames: number;
}

/** A client has one thing to say, in few words. */
const longestMessage = 128;
const mostFrames = 100;

/** Says `sync` when something has changed that concerns the user, and nothing else to those who follow the protocol. */
export class SyncSockets extends HeldSockets<Subscriber> {
  readonly #watch: Watch;
  readonly #rates: Rates;
  readonly #most: number;
  readonly #mostOfOne: number;
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: longestMessage,
    maxFragments: 1,
  });
  #arriving = 0;

  constructor({
    watch,
    rates,
    pingEvery = 25_000,
    checkEvery = 60_000,
    most = 2048,
    mostOfOne = 1024,
  }: SyncSocketsOptions) {
    super({ pingEvery, checkEvery });
    this.#watch = watch;
    this.#rates = rates;
    this.#most = most;
    this.#mostOfOne = mostOfOne;
  }

  /** Takes over the connection of an upgrade request, if `identify` says who sends it; throws what is to be answered otherwise. */
  async accept(
    request: IncomingMessage,
    connection: Duplex,
    head: Buffer,
    identify: () => Promise<Caller>,
  ): Promise<void> {
    if (this.size + this.#arriving >= this.#most)
      throw new NotReadyError('There are too many sync sockets open; try again in a moment', 5);
    this.#arriving += 1;
    try {
      const caller = await identify();
      this.mustTakeNew();
      if (this.#of(caller.user) >= this.#mostOfOne)
        throw new TooManyRequestsError('You have too many sync sockets open; close some', 5);
      this.#server.handleUpgrade(request, connection, head, (client) => this.#take(client, caller, identify));
    } finally {
      this.#arriving -= 1;
    }
  }

  #of(user: string): number {
    return [...this.held].filter(({ caller }) => caller.user === user).length;
  }

  #take(client: WebSocket, caller: Caller, identify: () => Promise<Caller>): void {
    const listening = this.#watch.listen((changes) => {
      if (concerns(changes, subscriber.caller.record)) void this.#tell(subscriber);
    });
    const subscriber: Subscriber = { client, identify, listening, caller, alive: true, frames: 0 };
    this.hold(subscriber);
    client
      .on('message', (data) => this.#hear(subscriber, String(data)))
      .on('ping', () => this.#count(subscriber))
      .on('pong', () => this.#count(subscriber))
      // It closes by itself after an error, which is the client's fault.
      .on('error', () => {})
      .on('close', () => listening.end());
  }

  #hear(subscriber: Subscriber, text: string): void {
    this.#count(subscriber);
    const { rate, error } = commandIn(text, this.#rates);
    if (error === undefined) subscriber.listening.every(rate);
    else {
      subscriber.client.send(error);
      subscriber.client.close(policyViolation);
    }
  }

  #count(subscriber: Subscriber): void {
    subscriber.frames += 1;
    if (subscriber.frames > mostFrames) subscriber.client.terminate();
  }

  protected override ping(): void {
    super.ping();
    for (const subscriber of this.held) subscriber.frames = 0;
  }

  /** One after the other; before one is told anything it is asked as well. */
  protected async checkAll(): Promise<void> {
    for (const subscriber of this.held) await this.stands(subscriber);
  }

  protected async isTheirs(subscriber: Subscriber): Promise<boolean> {
    subscriber.caller = await subscriber.identify();
    return true;
  }

  async #tell(subscriber: Subscriber): Promise<void> {
    if (await this.stands(subscriber)) subscriber.client.send('sync');
  }
}

/** What a message asks for, or what is wrong with it. */
export function commandIn(
  text: string,
  { min, max }: Rates,
): { readonly rate: number; readonly error?: never } | { readonly rate?: never; readonly error: string } {
  const [word = '', given = '', ...more] = text.split(' ');
  if (word !== 'rate') return { error: `error: ${word} command not found.` };
  const rate = /^\d+(?:\.\d+)?$/.test(given) && more.length === 0 ? Number(given) : Number.NaN;
  return rate >= min && rate <= max ? { rate } : { error: `error: rate must be in range [${min}, ${max}].` };
}

function concerns({ nodes, pools }: Changes, { cluster }: UserRecord): boolean {
  return nodes || [...pools].some((pool) => grants(cluster.pools, pool));
}
