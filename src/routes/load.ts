/** How much the server takes on at a time: what is beyond that is refused before anything is done for it. */

import { getHeapStatistics } from 'node:v8';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { NotReadyError } from '../errors.ts';
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

/**
 * Counts requests until they are answered and what they began has ended, whichever is later: a client that hangs up
 * leaves its work behind. No network takes more than three quarters of the places, so that none can keep the others out.
 */
export class Load {
  readonly #most: number;
  readonly #mostOfOne: number;
  readonly #byNetwork = new Map<string, number>();
  readonly #waiting = new Set<() => void>();
  readonly #timer: NodeJS.Timeout;
  #running = 0;
  #strain: string | undefined;

  constructor(most: number) {
    this.#most = most;
    this.#mostOfOne = most - Math.floor(most / 4);
    // To ask takes milliseconds. Without a limit of its own a process may have what there is: 0, or more than any machine has.
    const memoryLimit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
    let last = performance.now();
    let lateBefore = 0;
    this.#timer = setInterval(() => {
      const now = performance.now();
      const late = Math.max(0, now - last - pace);
      this.#strain = strainOf({ late: Math.min(late, lateBefore), memoryLimit, ...memory() });
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
      const leave = this.#enter(network);
      reply.raw.once('close', () => void (work.get(request) ?? Promise.resolve()).then(leave));
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

  /** A place for a request that comes by no guarded route, with the way to leave it; undefined when the guard would refuse. */
  place(address: string): (() => void) | undefined {
    const network = networkOf(address);
    return this.#refusal(network) === undefined ? this.#enter(network) : undefined;
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
    if ((this.#byNetwork.get(network) ?? 0) >= this.#mostOfOne) return 'too many come from one place';
    return this.#strain;
  }

  #enter(network: string): () => void {
    this.#running += 1;
    this.#byNetwork.set(network, (this.#byNetwork.get(network) ?? 0) + 1);
    return () => {
      this.#running -= 1;
      const left = (this.#byNetwork.get(network) ?? 1) - 1;
      if (left > 0) this.#byNetwork.set(network, left);
      else this.#byNetwork.delete(network);
      if (this.#running > 0) return;
      for (const resolve of this.#waiting) resolve();
      this.#waiting.clear();
    };
  }
}

function memory(): Omit<Sample, 'late' | 'memoryLimit'> {
  const { used_heap_size: heap, heap_size_limit: heapLimit } = getHeapStatistics();
  return { heap, heapLimit, resident: process.memoryUsage.rss() };
}
