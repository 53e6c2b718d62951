/**
 * The connections to one PVE host over which reads go whose answers are passed on: kept, one request at a time on each, and
 * no more of them than allowed. undici does much more than that, and took most of the CPU time of a small read.
 */

import type { OnReadOpts, Socket } from 'node:net';
import { AnswerReader, type Receiver } from './answer-reader.ts';

/** A GET request on its way, and who gets what becomes of it: `end`, or `fail`, once. */
export interface Exchange extends Receiver {
  /** The head of the request as it is written, Latin-1. */
  readonly request: string;
  /** Whose it is. */
  readonly party: string;
  /** Whether it must go over a new connection, since a kept one may be closing. */
  readonly fresh: boolean;
  /** It is about to be written to this connection, so that PVE can know of it from now on. */
  sent(carrier: Connection): void;
  end(): void;
  fail(error: Error): void;
}

export interface ConnectionsOptions {
  /** Opens a connection that is read in this way. */
  readonly dial: (onread: OnReadOpts, done: (...outcome: [Error, null] | [null, Socket]) => void) => void;
  /** Connections at a time, and requests of one party at a time. */
  readonly most: number;
  readonly share: number;
  /** How long PVE may be silent in the middle of an answer, in ms. */
  readonly patience: number;
}

/** PVE closes a connection after so many requests, and after 5 s without any. */
const mostRequests = 100;
const idleFor = 4000;

/** How often connections are looked over, in ms. */
const pace = 500;

/** Where all connections read into: what comes is passed on or copied before anything else is read. */
const arriving = Buffer.allocUnsafeSlow(256 * 1024);

const ending = new Error('the server is ending');

const isPlain = ({ fresh }: Exchange): boolean => !fresh;

/** Requests of one party: how many are under way, and those that wait, in order of arrival. */
interface Party {
  underWay: number;
  readonly waiting: Exchange[];
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #keeper: Keeper = {
    ended: (exchange) => this.#ended(exchange),
    free: (one) => this.#use(one, isPlain),
    gone: (one) => this.#gone(one),
  };
  readonly #parties = new Map<string, Party>();
  readonly #open = new Set<Connection>();
  /** The last one used is the first to be used again, so that the others can age. */
  readonly #idle: Connection[] = [];
  #opening = 0;
  /** Requests that wait, of all parties. */
  #waiting = 0;
  #rounds: NodeJS.Timeout | undefined;
  #closed: PromiseWithResolvers<void> | undefined;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** Has the request sent as soon as a connection is free for it; the party with the least under way comes first. */
  ask(exchange: Exchange): void {
    const party = this.#partyOf(exchange);
    const kept = exchange.fresh || !this.#mayMore(party) ? undefined : this.#idle.pop();
    if (kept !== undefined) this.#hand(kept, exchange);
    else {
      party.waiting.push(exchange);
      this.#waiting += 1;
      this.#serve();
    }
  }

  /** Takes back a request that has not been sent; what has been sent is ended by closing its carrier. */
  withdraw(exchange: Exchange): void {
    const party = this.#partyOf(exchange);
    this.#takeOut(party, party.waiting.indexOf(exchange));
    this.#endIfDone();
  }

  /** Resolves once all requests have ended and all connections are closed. */
  close(): Promise<void> {
    this.#closed ??= Promise.withResolvers();
    for (const connection of [...this.#idle]) connection.close(ending);
    this.#endIfDone();
    return this.#closed.promise;
  }

  #partyOf({ party: name }: Exchange): Party {
    const known = this.#parties.get(name);
    if (known !== undefined) return known;
    const party: Party = { underWay: 0, waiting: [] };
    this.#parties.set(name, party);
    return party;
  }

  #mayMore({ underWay }: Party): boolean {
    return underWay < this.#options.share;
  }

  /** Takes out what is to be sent next, of the party with the least under way. */
  #next(suits: (exchange: Exchange) => boolean): Exchange | undefined {
    if (this.#waiting === 0) return undefined;
    let first: Party | undefined;
    for (const party of this.#parties.values())
      if (this.#mayMore(party) && party.underWay < (first?.underWay ?? Infinity) && party.waiting.some(suits))
        first = party;
    return first && this.#takeOut(first, first.waiting.findIndex(suits));
  }

  #takeOut({ waiting }: Party, at: number): Exchange | undefined {
    if (at === -1) return undefined;
    this.#waiting -= 1;
    return waiting.splice(at, 1)[0];
  }

  /** Has what waits sent over idle connections, and further ones opened for the rest. */
  #serve(): void {
    if (this.#waiting === 0) return;
    for (let kept = this.#idle.at(-1); kept !== undefined; kept = this.#idle.at(-1)) {
      const next = this.#next(isPlain);
      if (next === undefined) break;
      this.#idle.pop();
      this.#hand(kept, next);
    }
    let wanted = 0;
    for (const { underWay, waiting } of this.#parties.values())
      wanted += Math.min(waiting.length, this.#options.share - underWay);
    while (this.#opening < wanted) {
      if (this.#open.size + this.#opening < this.#options.most) this.#dial();
      else {
        // One that may be closing makes room for a new one, which is then opened.
        this.#idle.at(-1)?.close(new Error('its place is needed'));
        return;
      }
    }
  }

  #dial(): void {
    this.#opening += 1;
    let opened: Connection | undefined;
    const callback = (count: number) => {
      opened?.read(arriving.subarray(0, count));
      return true;
    };
    this.#options.dial({ buffer: arriving, callback }, (error, socket) => {
      this.#opening -= 1;
      if (socket === null) this.#failed(error);
      else {
        opened = new Connection(socket, this.#keeper);
        this.#open.add(opened);
        this.#rounds ??= setInterval(() => this.#lookOver(), pace).unref();
        this.#use(opened, () => true);
      }
    });
  }

  #failed(error: Error): void {
    this.#next(() => true)?.fail(error);
    this.#serve();
    this.#endIfDone();
  }

  #hand(connection: Connection, exchange: Exchange): void {
    this.#partyOf(exchange).underWay += 1;
    connection.carry(exchange);
  }

  #ended(exchange: Exchange): void {
    this.#partyOf(exchange).underWay -= 1;
  }

  /** Has the connection carry what comes next, or wait for it. */
  #use(connection: Connection, suits: (exchange: Exchange) => boolean): void {
    const next = this.#next(suits);
    if (next !== undefined) this.#hand(connection, next);
    else if (this.#closed !== undefined) connection.close(ending);
    else {
      this.#idle.push(connection);
      // What needs a new connection may have waited for this place.
      this.#serve();
    }
  }

  #gone(connection: Connection): void {
    this.#open.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
    if (this.#open.size === 0) {
      clearInterval(this.#rounds);
      this.#rounds = undefined;
    }
    this.#serve();
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (this.#open.size + this.#opening + this.#waiting === 0) this.#closed?.resolve();
  }

  #lookOver(): void {
    for (const connection of [...this.#open]) connection.grow(pace, { idleFor, patience: this.#options.patience });
    for (const [name, { underWay, waiting }] of this.#parties)
      if (underWay === 0 && waiting.length === 0) this.#parties.delete(name);
  }
}

interface Keeper {
  /** What it carried has ended, in whatever way. */
  ended(exchange: Exchange): void;
  free(connection: Connection): void;
  gone(connection: Connection): void;
}

/** A connection that carries one request after the other. */
export class Connection {
  readonly #socket: Socket;
  readonly #keeper: Keeper;
  #exchange: Exchange | undefined;
  #reader: AnswerReader | undefined;
  #carried = 0;
  /** For how many ms nothing has happened, as far as anybody has looked. */
  #silent = 0;
  #paused = false;
  #closed = false;

  constructor(socket: Socket, keeper: Keeper) {
    this.#socket = socket;
    this.#keeper = keeper;
    socket.on('end', () => this.#end());
    socket.on('error', (error) => this.close(error));
    socket.on('close', () => this.close(new Error('the connection was closed')));
  }

  carry(exchange: Exchange): void {
    this.#carried += 1;
    this.#silent = 0;
    this.#exchange = exchange;
    this.#reader = new AnswerReader(exchange);
    exchange.sent(this);
    this.#socket.write(exchange.request, 'latin1');
  }

  read(bytes: Buffer): void {
    this.#silent = 0;
    const reader = this.#reader;
    try {
      if (reader === undefined) throw new Error('it sent what nobody had asked for');
      reader.take(bytes);
      if (reader.isOver && !this.#closed) this.#done(reader.keeps);
    } catch (error) {
      this.close(asError(error));
    }
  }

  /** Reads no more until `resume`. */
  pause(): void {
    if (this.#closed || this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (this.#closed || !this.#paused) return;
    this.#paused = false;
    this.#silent = 0;
    this.#socket.resume();
  }

  /** Ends it at once; what it carries has failed with this error. */
  close(error: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#reader = undefined;
    if (exchange !== undefined) this.#keeper.ended(exchange);
    exchange?.fail(error);
    this.#keeper.gone(this);
  }

  /** Closes what has been silent for too long. */
  grow(ms: number, { idleFor, patience }: { readonly idleFor: number; readonly patience: number }): void {
    this.#silent += ms;
    if (this.#exchange === undefined && this.#silent >= idleFor) this.close(new Error('nothing was asked'));
    // By then it has been silent for at least as long.
    if (this.#exchange !== undefined && !this.#paused && this.#silent >= patience + ms)
      this.close(new Error('it fell silent in the middle of its answer'));
  }

  #end(): void {
    try {
      this.#reader?.end();
      this.#done(false);
    } catch (error) {
      this.close(asError(error));
    }
  }

  #done(keeps: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#reader = undefined;
    if (exchange !== undefined) this.#keeper.ended(exchange);
    this.resume();
    if (keeps && this.#carried < mostRequests) this.#keeper.free(this);
    else this.close(new Error('it has served its time'));
    exchange?.end();
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error('it could not be passed on', { cause: thrown });
}
