/** Reads whose answers pass from PVE to the client as they come: nothing is parsed, and nothing is kept. */

import type { ServerResponse } from 'node:http';
import { type Client, type Dispatcher, Pool } from 'undici';
import { type Answer, type Call, type Credential, describeCall } from './call.ts';
import { failure, type Host, type Hosts } from './hosts.ts';
import { inTurn, ownClient } from './in-turn.ts';
import { wireRequest } from './request.ts';
import { readAnswer } from './upstream.ts';
import type { UpstreamSettings } from './upstream-settings.ts';

/** A read to pass on. */
export interface Reading {
  readonly call: Call;
  /** Never the privileged token's: what comes back is shown to the caller as it is. */
  readonly as: Exclude<Credential, { readonly kind: 'service' }>;
  readonly format: 'json' | 'extjs';
  /** Whether the client takes gzip, in which PVE sends longer answers. */
  readonly gzip: boolean;
}

/** Where the answer goes. */
export interface Destination {
  readonly response: ServerResponse;
  /** Writes the head, with these names and values in turn; called once, before the first byte of the rest. */
  begin(headers: readonly string[]): void;
}

/** The headers of PVE's that reach the client. */
const passed = ['content-type', 'content-length', 'content-encoding', 'content-disposition'] as const;

/** JSON, and the files that PVE has for download; nothing that a browser would run. */
const types = /^(?:application\/json|application\/octet-stream|text\/plain)(?:\s*;|$)/;

/** An answer up to this many bytes goes out in one piece with its head. */
const onePiece = 16 * 1024;

/** Bytes that may wait for a client to take them. */
const waiting = 256 * 1024;

/** Bytes of JSON after which an answer is cut; files have no limit. */
const longest = 64 * 1024 ** 2;

export class Relay {
  readonly #hosts: Hosts;
  readonly #client: Client.Options;
  readonly #connections: number;
  /** In ms. */
  readonly #deadline: number;
  /** Kept apart from the connections of our own reads: slow clients must not keep the server from looking at PVE. */
  readonly #pools = new Map<Host, Pool>();

  constructor({ deadlines, connections }: Pick<UpstreamSettings, 'deadlines' | 'connections'>, hosts: Hosts) {
    this.#hosts = hosts;
    this.#deadline = deadlines.read * 1000;
    this.#client = { ...hosts.client, maxResponseSize: -1, bodyTimeout: this.#deadline };
    this.#connections = connections;
  }

  /**
   * Passes PVE's answer on as it comes, at the pace of the client; a client that goes away ends it at PVE as well.
   * Null when it went out. What PVE refused is given back, for the surface to say. Throws as `Upstream.send` does while
   * nothing has gone out; an answer that breaks off later breaks off the response.
   */
  async read({ call, as, format, gzip }: Reading, destination: Destination): Promise<Answer | null> {
    // Nothing tells any more that a client goes which has gone already.
    if (destination.response.destroyed) return null;
    const { method, path, headers } = wireRequest(call, as, '');
    const request = {
      method,
      path: format === 'json' ? path : path.replace('json', 'extjs'),
      headers: gzip ? { ...headers, 'accept-encoding': 'gzip' } : headers,
    };
    const passage = new Passage(destination, this.#deadline);
    try {
      return await inTurn(this.#hosts, {
        repeatable: true,
        isOver: () => passage.late,
        attempt: async (host, repeated) => {
          const dispatcher = repeated ? ownClient(this.#hosts, host, this.#client) : this.#pool(host);
          try {
            return await passage.attempt(dispatcher, { ...request, reset: repeated });
          } catch (error) {
            throw failure(error, `${describeCall(call)} at ${host.address}`, passage);
          } finally {
            if (repeated) await dispatcher.destroy();
          }
        },
      });
    } finally {
      passage.end();
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  #pool(host: Host): Pool {
    const known = this.#pools.get(host);
    if (known !== undefined) return known;
    const { connect } = this.#hosts;
    const pool = new Pool(host.origin, { ...this.#client, connections: this.#connections, connect });
    this.#pools.set(host, pool);
    return pool;
  }
}

interface Refused {
  readonly status: number;
  readonly reason: string;
  readonly body: Uint8Array[];
}

/** One answer on its way through, over as many attempts as it takes to begin. */
class Passage implements Dispatcher.DispatchHandler {
  readonly #destination: Destination;
  readonly #deadline: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | undefined;
  #outcome = Promise.withResolvers<Answer | null>();
  /** What PVE refused, or did not say in a form that is passed on, is read as a whole. */
  #refused: Refused | undefined;
  #begun = false;
  #ended = false;
  #most = longest;
  #bytes = 0;
  #length = -1;
  /** The answer, when it came in one piece. */
  #whole: Buffer | undefined;
  /** Whether PVE can know of the present attempt. */
  sent = false;
  /** Whether the deadline has passed. */
  late = false;

  /** `deadline` in ms, until PVE begins to answer. */
  constructor(destination: Destination, deadline: number) {
    this.#destination = destination;
    destination.response.once('close', () => this.#stop(null));
    this.#deadline = setTimeout(() => {
      this.late = true;
      this.#stop(new Error('no answer began in time'));
    }, deadline);
  }

  attempt(dispatcher: Dispatcher, request: Dispatcher.DispatchOptions): Promise<Answer | null> {
    this.sent = false;
    this.#controller = undefined;
    this.#refused = undefined;
    this.#bytes = 0;
    this.#outcome = Promise.withResolvers();
    dispatcher.dispatch(request, this);
    return this.#outcome.promise;
  }

  /** Nothing is waited for any more. */
  end(): void {
    clearTimeout(this.#deadline);
    this.#ended = true;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    this.sent = true;
    if (this.#ended) controller.abort(new Error('nobody waits for the answer any more'));
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    reason = '',
  ): void {
    if (status < 200) return;
    const type = String(headers['content-type']);
    if (status !== 200 || !types.test(type)) {
      this.#refused = { status, reason, body: [] };
      return;
    }
    clearTimeout(this.#deadline);
    if (!type.startsWith('application/json')) this.#most = Number.POSITIVE_INFINITY;
    this.#length = Number(headers['content-length'] ?? -1);
    this.#begun = true;
    const lines: string[] = [];
    for (const name of passed) {
      const value = headers[name];
      if (value !== undefined) lines.push(name, String(value));
    }
    this.#destination.begin(lines);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#most) throw new Error(`it is longer than ${this.#most} bytes`);
    const { response } = this.#destination;
    if (this.#refused !== undefined) this.#refused.body.push(chunk);
    else if (chunk.length === this.#length) this.#whole = chunk;
    else {
      response.write(chunk);
      if (response.writableLength <= waiting) return;
      controller.pause();
      response.once('drain', () => controller.resume());
    }
  }

  onResponseEnd(): void {
    if (this.#refused !== undefined) this.#readRefused(this.#refused);
    else {
      this.end();
      const { response } = this.#destination;
      const whole = this.#whole;
      // A text goes out in one write with the head; Latin-1 has a letter for each byte.
      if (whole !== undefined && whole.length <= onePiece) response.end(whole.toString('latin1'), 'latin1');
      else response.end(whole);
      this.#outcome.resolve(null);
    }
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    if (!this.#begun) this.#outcome.reject(error);
    else {
      this.end();
      this.#destination.response.destroy();
      this.#outcome.resolve(null);
    }
  }

  /** Gives up, whether or not PVE has begun: without an error when the client has gone. */
  #stop(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    if (error === null) this.#outcome.resolve(null);
    else this.#outcome.reject(error);
    this.#controller?.abort(error ?? new Error('the client has gone'));
  }

  #readRefused({ status, reason, body }: Refused): void {
    try {
      this.#outcome.resolve(readAnswer(status, reason, Buffer.concat(body).toString()));
    } catch (error) {
      this.#outcome.reject(error);
    }
  }
}
