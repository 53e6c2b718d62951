/** The WebSockets of those who want to hear at once that something has changed. */

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Caller } from '../../admission/gate.ts';
import type { Changes, Listening, Watch } from '../../admission/watch.ts';
import { NotReadyError, TooManyRequestsError, UnauthenticatedError } from '../../errors.ts';
import type { Credential } from '../../pve/call.ts';
import { grants, type UserRecord } from '../../quota/record.ts';
import { isSame } from '../web-sockets.ts';

/** Seconds between two looks at the cluster that a client may ask for. */
export interface Rates {
  readonly min: number;
  readonly max: number;
}

export interface SyncSocketsOptions {
  readonly watch: Watch;
  readonly rates: Rates;
  /** Ms between two pings: often enough that no web server in front takes a quiet socket for a dead one. */
  readonly pingEvery?: number;
  /** Ms between two questions whether a socket's session still stands. */
  readonly checkEvery?: number;
  /** Sockets at a time, of all users and of one. */
  readonly most?: number;
  readonly mostOfOne?: number;
}

interface Subscriber {
  readonly socket: WebSocket;
  readonly identify: () => Promise<Caller>;
  readonly listening: Listening;
  caller: Caller;
  /** Whether it has answered the last ping. */
  alive: boolean;
  /** Frames since then. */
  frames: number;
}

/** A client has one thing to say, in few words. */
const longestMessage = 128;
const mostFrames = 100;

/** How long clients have to say goodbye when the server ends, in ms. */
const farewell = 500;

/** What a WebSocket is closed with: the server ends, or the client may not stay. */
const goingAway = 1001;
const policyViolation = 1008;

/**
 * Says `sync` when something has changed that concerns the user, and nothing else to those who follow the protocol.
 * A socket ends with its session, when its client falls silent, and with the server. There is no timer for a single one.
 */
export class SyncSockets {
  readonly #watch: Watch;
  readonly #rates: Rates;
  readonly #most: number;
  readonly #mostOfOne: number;
  readonly #subscribers = new Set<Subscriber>();
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: longestMessage,
    maxFragments: 1,
  });
  readonly #timers: readonly NodeJS.Timeout[];
  #arriving = 0;
  #ended = false;
  #checking: Promise<void> | undefined;

  constructor({
    watch,
    rates,
    pingEvery = 25_000,
    checkEvery = 60_000,
    most = 2048,
    mostOfOne = 1024,
  }: SyncSocketsOptions) {
    this.#watch = watch;
    this.#rates = rates;
    this.#most = most;
    this.#mostOfOne = mostOfOne;
    this.#timers = [setInterval(() => this.#ping(), pingEvery), setInterval(() => this.#check(), checkEvery)];
  }

  get size(): number {
    return this.#subscribers.size;
  }

  /** Takes over the connection of an upgrade request, if `identify` says who sends it; throws what is to be answered otherwise. */
  async accept(
    request: IncomingMessage,
    connection: Duplex,
    head: Buffer,
    identify: () => Promise<Caller>,
  ): Promise<void> {
    if (this.#subscribers.size + this.#arriving >= this.#most)
      throw new NotReadyError('There are too many sync sockets open; try again in a moment', 5);
    this.#arriving += 1;
    try {
      const caller = await identify();
      if (this.#ended) throw new NotReadyError('The server is ending; try again in a moment', 1);
      if (this.#of(caller.user) >= this.#mostOfOne)
        throw new TooManyRequestsError('You have too many sync sockets open; close some', 5);
      this.#server.handleUpgrade(request, connection, head, (socket) => this.#take(socket, caller, identify));
    } finally {
      this.#arriving -= 1;
    }
  }

  /** Closes the sockets of a session that has ended. */
  end(credential: Credential): void {
    for (const { socket, caller } of this.#subscribers)
      if (isSame(caller.credential, credential)) socket.close(policyViolation, 'signed out');
  }

  /** Closes the sockets of a user who is gone. */
  endOf(user: string): void {
    for (const { socket, caller } of this.#subscribers)
      if (caller.user === user) socket.close(policyViolation, 'the session has ended');
  }

  /** Closes all sockets; those that do not say goodbye soon are cut. */
  async close(): Promise<void> {
    this.#ended = true;
    for (const timer of this.#timers) clearInterval(timer);
    const closed = [...this.#subscribers].map(
      ({ socket }) => new Promise<void>((resolve) => socket.once('close', () => resolve()).close(goingAway)),
    );
    if (closed.length > 0) await Promise.race([Promise.all(closed), delay(farewell)]);
    for (const { socket } of this.#subscribers) socket.terminate();
  }

  #of(user: string): number {
    return [...this.#subscribers].filter(({ caller }) => caller.user === user).length;
  }

  #take(socket: WebSocket, caller: Caller, identify: () => Promise<Caller>): void {
    const listening = this.#watch.listen((changes) => {
      if (concerns(changes, subscriber.caller.record)) void this.#tell(subscriber);
    });
    const subscriber: Subscriber = { socket, identify, listening, caller, alive: true, frames: 0 };
    this.#subscribers.add(subscriber);
    socket
      .on('message', (data) => this.#hear(subscriber, String(data)))
      .on('ping', () => this.#count(subscriber))
      .on('pong', () => {
        subscriber.alive = true;
        this.#count(subscriber);
      })
      // It closes by itself after an error, which is the client's fault.
      .on('error', () => {})
      .on('close', () => {
        listening.end();
        this.#subscribers.delete(subscriber);
      });
  }

  #hear(subscriber: Subscriber, text: string): void {
    this.#count(subscriber);
    const { rate, error } = commandIn(text, this.#rates);
    if (error === undefined) subscriber.listening.every(rate);
    else {
      subscriber.socket.send(error);
      subscriber.socket.close(policyViolation);
    }
  }

  #count(subscriber: Subscriber): void {
    subscriber.frames += 1;
    if (subscriber.frames > mostFrames) subscriber.socket.terminate();
  }

  #ping(): void {
    for (const subscriber of this.#subscribers) {
      if (subscriber.alive) subscriber.socket.ping();
      else subscriber.socket.terminate();
      subscriber.alive = false;
      subscriber.frames = 0;
    }
  }

  #check(): void {
    this.#checking ??= this.#checkAll().finally(() => {
      this.#checking = undefined;
    });
  }

  /** Asks anew who is at each socket, one after the other; before one is told anything it is asked as well. PVE being away ends no session. */
  async #checkAll(): Promise<void> {
    for (const subscriber of this.#subscribers) await this.#stands(subscriber);
  }

  async #tell(subscriber: Subscriber): Promise<void> {
    if (await this.#stands(subscriber)) subscriber.socket.send('sync');
  }

  /** Whether the session of a socket still stands; the socket is closed when it does not. */
  async #stands(subscriber: Subscriber): Promise<boolean> {
    try {
      subscriber.caller = await subscriber.identify();
    } catch (error) {
      if (error instanceof UnauthenticatedError) {
        subscriber.socket.close(policyViolation, 'the session has ended');
        return false;
      }
    }
    return true;
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
