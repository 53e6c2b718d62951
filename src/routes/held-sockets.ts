/** WebSockets of one kind, each held for a caller for as long as their session, their client and the server last. */

import { setTimeout as delay } from 'node:timers/promises';
import type { WebSocket } from 'ws';
import { NotReadyError, UnauthenticatedError } from '../errors.ts';
import type { Credential } from '../pve/call.ts';

/** One WebSocket, and whose it is. */
export interface Held {
  readonly client: WebSocket;
  readonly caller: { readonly user: string; readonly credential: Credential };
  /** Whether the client has answered the last ping. */
  alive: boolean;
}

export interface Rhythm {
  /** Ms between two pings: often enough that no web server in front takes a quiet socket for a dead one. */
  readonly pingEvery: number;
  /** Ms between two questions whether the sessions still stand. */
  readonly checkEvery: number;
}

/** How long clients have to say goodbye, in ms. */
export const farewell = 500;

/** What a WebSocket is closed with: the server ends, or the client may not stay. */
export const goingAway = 1001;
export const policyViolation = 1008;

/** There is no timer for a single socket. */
export abstract class HeldSockets<One extends Held> {
  protected readonly held = new Set<One>();
  readonly #timers: readonly NodeJS.Timeout[];
  #ended = false;
  #checking: Promise<void> | undefined;

  constructor({ pingEvery, checkEvery }: Rhythm) {
    this.#timers = [setInterval(() => this.ping(), pingEvery), setInterval(() => this.check(), checkEvery)];
  }

  get size(): number {
    return this.held.size;
  }

  /** Closes those of a session that has ended. */
  end(credential: Credential): void {
    for (const one of this.held)
      if (isSame(one.caller.credential, credential)) this.cut(one, policyViolation, 'signed out');
  }

  /** Closes those of a user who is gone. */
  endOf(user: string): void {
    for (const one of this.held) if (one.caller.user === user) this.cut(one, policyViolation, 'the session has ended');
  }

  /** Closes all of them; clients that do not say goodbye soon are cut off. */
  async close(): Promise<void> {
    this.#ended = true;
    for (const timer of this.#timers) clearInterval(timer);
    const closed = [...this.held].map((one) => {
      const end = new Promise<void>((resolve) => one.client.once('close', () => resolve()));
      this.cut(one, goingAway, 'the server is ending');
      return end;
    });
    if (closed.length > 0) await Promise.race([Promise.all(closed), delay(farewell)]);
    for (const { client } of this.held) client.terminate();
  }

  /** Throws when the server is ending. */
  protected mustTakeNew(): void {
    if (this.#ended) throw new NotReadyError('The server is ending; try again in a moment', 1);
  }

  protected hold(one: One): void {
    this.held.add(one);
    one.client
      .on('pong', () => {
        one.alive = true;
      })
      .on('close', () => this.held.delete(one));
  }

  /** Ends one by our own decision. */
  protected cut({ client }: One, code: number, reason: string): void {
    client.close(code, reason);
  }

  protected ping(): void {
    for (const one of this.held) {
      if (one.alive) one.client.ping();
      else one.client.terminate();
      one.alive = false;
    }
  }

  /** Has all sessions asked about, unless that is under way. */
  protected check(): void {
    this.#checking ??= this.checkAll().finally(() => {
      this.#checking = undefined;
    });
  }

  protected abstract checkAll(): Promise<void>;

  /** Asks anew who is at one; false for somebody else. */
  protected abstract isTheirs(one: One): Promise<boolean>;

  /** Whether the session of one still stands; it is cut when it does not. PVE being away ends none. */
  protected async stands(one: One): Promise<boolean> {
    try {
      if (await this.isTheirs(one)) return true;
    } catch (error) {
      if (!(error instanceof UnauthenticatedError)) return true;
    }
    this.cut(one, policyViolation, 'the session has ended');
    return false;
  }
}

/** Whether two sessions are one. */
function isSame(a: Credential, b: Credential): boolean {
  if (a.kind === 'ticket' && b.kind === 'ticket') return a.ticket === b.ticket;
  return a.kind === 'token' && b.kind === 'token' && a.token === b.token;
}
