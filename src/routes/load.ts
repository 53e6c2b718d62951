/** How much the server takes on at a time: what is beyond that is refused before anything is done for it. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { getHeapStatistics } from 'node:v8';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { NotReadyError, TooManyRequestsError } from '../errors.ts';
import { networkOf } from './sign-in-limit.ts';

/** How the process is doing; memory in bytes. */
export interface Sample {
  /** By how many ms timers are late, time after time; a single pause is over when it is noticed. */
  readonly late: number;
  readonly heap: number;
  readonly heapLimit: number;
  readonly resident: number;
  /** What the system allows the process in all. */
  readonly memoryLimit: number;
}

/** From this on every request waits longer than it helps anybody, in ms. */
const tooLate = 2000;

/** Beyond this share of what it may have, a process spends its time on looking for memory. */
const tooFull = 0.85;

/** Why nothing more is taken on, if so. */
export function strainOf({ late, heap, heapLimit, resident, memoryLimit }: Sample): string | undefined {
  if (heap > tooFull * heapLimit || resident > tooFull * memoryLimit) return 'memory is short';
  if (late > tooLate) return 'it cannot keep up';
  return undefined;
}

/** How often the process is looked at, in ms. */
const pace = 250;

/** Seconds after which a refused client may try again. */
const comeBack = 1;

/** One request that has been taken on. */
interface Place {
  readonly network: string;
  /** Whose it is, once that is known. */
  user?: string;
}

/**
 * Counts requests until they are answered and what they began has ended, whichever is later: a client that hangs up
 * leaves its work behind. No network takes more than three quarters of the places, and no user more than a given number,
 * half of them unless another is given, so that none can keep the others out.
 */
export class Load {
  readonly #most: number;
  readonly #mostOfNetwork: number;
  readonly #mostOfUser: number;
  readonly #byNetwork = new Map<string, number>();
  readonly #byUser = new Map<string, number>();
  readonly #places = new WeakMap<object, Place>();
  readonly #waiting = new Set<() => void>();
  readonly #timer: NodeJS.Timeout;
  #running = 0;
  #strain: string | undefined;

  constructor(most: number, mostOfUser = Math.ceil(most / 2)) {
    this.#most = most;
    this.#mostOfNetwork = most - Math.floor(most / 4);
    this.#mostOfUser = mostOfUser;
    // To ask takes milliseconds. Without a limit of its own a process may have what there is: 0, or more than any machine has.
    const memoryLimit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
    let last = performance.now();
    let lateBefore = 0;
    this.#timer = setInterval(() => {
      const now = performance.now();
      const late = Math.max(0, now - last - pace);
      this.#strain = strainAt(Math.min(late, lateBefore), memoryLimit);
      [last, lateBefore] = [now, late];
    }, pace).unref();
  }

  /** Requests under way. */
  get running(): number {
    return this.#running;
  }

  /** Guards every route that is registered in this context from now on; once `stopping` has aborted, nothing more is taken on. */
  guard(app: FastifyInstance, stopping: AbortSignal): void {
    const work = new WeakMap<FastifyRequest, Promise<void>>();
    app.addHook('onRequest', (request, reply, done) => {
      const network = networkOf(request.ip);
      const refusal = stopping.aborted ? 'it is ending' : this.#refusal(network);
      if (refusal !== undefined) {
        reply.header('connection', 'close');
        done(new NotReadyError(`The server takes no more requests (${refusal}); try again in a moment`, comeBack));
        return;
      }
      const place: Place = { network };
      this.#places.set(request, place);
      const leave = this.#enter(place);
      onceOver(request.raw, reply.raw, () => void (work.get(request) ?? Promise.resolve()).then(leave));
      done();
    });
    app.addHook('onRoute', (route) => {
      const { handler } = route;
      route.handler = function (request, reply) {
        const answer = handler.call(this, request, reply);
        const over = () => {};
        work.set(request, Promise.resolve(answer).then(over, over));
        return answer;
      };
    });
  }

  /** Counts a guarded request as this user's from now on; throws TooManyRequestsError when that would be one too many. */
  claim(request: object, user: string): void {
    const place = this.#places.get(request);
    if (place === undefined || place.user !== undefined) return;
    if (this.#isAtShare(user))
      throw new TooManyRequestsError(
        `You have too many requests under way (${this.#mostOfUser}); try again in a moment`,
        comeBack,
      );
    place.user = user;
    count(this.#byUser, user, 1);
  }

  /** A place for a user's request that comes by no guarded route, with the way to leave it; undefined when it would be refused. */
  place(address: string, user: string): (() => void) | undefined {
    const network = networkOf(address);
    if (this.#refusal(network) !== undefined || this.#isAtShare(user)) return undefined;
    count(this.#byUser, user, 1);
    return this.#enter({ network, user });
  }

  /** Resolves when no request is under way. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #refusal(network: string): string | undefined {
    if (this.#running >= this.#most) return 'it is busy';
    if ((this.#byNetwork.get(network) ?? 0) >= this.#mostOfNetwork) return 'too many come from one place';
    return this.#strain;
  }

  #isAtShare(user: string): boolean {
    return (this.#byUser.get(user) ?? 0) >= this.#mostOfUser;
  }

  #enter(place: Place): () => void {
    this.#running += 1;
    count(this.#byNetwork, place.network, 1);
    return () => {
      this.#running -= 1;
      count(this.#byNetwork, place.network, -1);
      if (place.user !== undefined) count(this.#byUser, place.user, -1);
      if (this.#running > 0) return;
      for (const resolve of this.#waiting) resolve();
      this.#waiting.clear();
    };
  }
}

/** Counts one more, or one less, of what has this name; keeps no name of which there is none. */
export function count(counts: Map<string, number>, key: string, step: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + step;
  if (now === 0) counts.delete(key);
  else counts.set(key, now);
}

function strainAt(late: number, memoryLimit: number): string | undefined {
  const { used_heap_size: heap, heap_size_limit: heapLimit } = getHeapStatistics();
  try {
    return strainOf({ late, heap, heapLimit, resident: process.memoryUsage.rss(), memoryLimit });
  } catch {
    // To ask for it takes a file.
    return 'open files are short';
  }
}

/**
 * Calls back once, when a response is over or its connection is, and gives the way to call that off. A response that waits
 * behind another one of its connection hears nothing of the connection's end in Node before 24.21.
 */
export function onceOver({ socket }: IncomingMessage, response: ServerResponse, over: () => void): () => void {
  let isOver = false;
  const cancel = () => {
    isOver = true;
    socket.off('close', end);
    response.off('close', end);
  };
  const end = () => {
    if (isOver) return;
    cancel();
    over();
  };
  socket.on('close', end);
  response.on('close', end);
  return cancel;
}
