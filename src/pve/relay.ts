/** Reads whose answers pass from PVE to the client as they come: nothing is parsed, and nothing is kept. */

import type { ServerResponse } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { UpstreamUnreachableError } from '../errors.ts';
import type { Head } from './answer-reader.ts';
import { type Answer, type Call, type Credential, describeCall } from './call.ts';
import { type Connection, Connections, type Exchange } from './connections.ts';
import { failure, type Host, type Hosts } from './hosts.ts';
import { inTurn } from './in-turn.ts';
import { wireRequest } from './request.ts';
import { readAnswer } from './upstream.ts';
import type { UpstreamSettings } from './upstream-settings.ts';

/** A read to pass on. */
export interface Reading {
  readonly call: Call;
  /** Whose it is: no user has more than half of the connections, however slowly PVE answers or they read. */
  readonly user: string;
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
  readonly #most: number;
  /** In ms. */
  readonly #deadline: number;
  /** Kept apart from the connections of our own reads: slow clients must not keep the server from looking at PVE. */
  readonly #connections = new Map<Host, Connections>();

  constructor({ deadlines, connections }: Pick<UpstreamSettings, 'deadlines' | 'connections'>, hosts: Hosts) {
    this.#hosts = hosts;
    this.#deadline = deadlines.read * 1000;
    this.#most = connections;
  }

  /**
   * Passes PVE's answer on as it comes, at the pace of the client; a client that goes away ends it at PVE as well.
   * Null when it went out. What PVE refused is given back, for the surface to say. Throws as `Upstream.send` does while
   * nothing has gone out; an answer that breaks off later breaks off the response.
   */
  async read(reading: Reading, destination: Destination): Promise<Answer | null> {
    // Nothing tells any more that a client goes which has gone already.
    if (destination.response.destroyed) return null;
    const passage = new Passage(reading, destination, this.#deadline);
    try {
      return await inTurn(this.#hosts, {
        repeatable: true,
        isOver: () => passage.isOver,
        attempt: (host, repeated) => passage.attempt(host, this.#connectionsTo(host), repeated),
      });
    } finally {
      passage.release();
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#connections.values()].map((connections) => connections.close()));
  }

  #connectionsTo(host: Host): Connections {
    const known = this.#connections.get(host);
    if (known !== undefined) return known;
    const connections = new Connections({
      dial: (onread, done) => this.#hosts.dial(host, done, onread),
      most: this.#most,
      share: Math.ceil(this.#most / 2),
      patience: this.#deadline,
    });
    this.#connections.set(host, connections);
    return connections;
  }
}

/** The head of the request to PVE but for what names the host. */
function linesOf({ call, as, format, gzip }: Reading): string {
  const { method, path, headers } = wireRequest(call, as, '');
  if (method !== 'GET') throw new TypeError(`${method} is no read`);
  let lines = `GET ${format === 'json' ? path : path.replace('json', 'extjs')} HTTP/1.1\r\n`;
  for (const [name, value] of Object.entries(headers)) lines += `${name}: ${value}\r\n`;
  return gzip ? `${lines}accept-encoding: gzip\r\n` : lines;
}

interface Refused {
  readonly status: number;
  readonly reason: string;
  /** Whether it is in gzip, as long answers are for clients that take it. */
  readonly packed: boolean;
  readonly body: Uint8Array[];
}

/** One answer on its way through, over as many attempts as it takes to begin. */
class Passage implements Exchange {
  readonly #reading: Reading;
  readonly #lines: string;
  readonly #destination: Destination;
  readonly #deadline: NodeJS.Timeout;
  /** Of the present attempt. */
  #host: Host | undefined;
  #connections: Connections | undefined;
  /** What it is sent over, once it is. */
  #carrier: Connection | undefined;
  #outcome = Promise.withResolvers<Answer | null>();
  /** What PVE refused, or did not say in a form that is passed on, is read as a whole. */
  #refused: Refused | undefined;
  #begun = false;
  #ended = false;
  #late = false;
  #most = longest;
  #bytes = 0;
  #length = -1;
  /** The answer, when it came in one piece. */
  #whole: string | Buffer | undefined;
  /** A response that waits behind another one may not hear of its connection's end. */
  readonly #gone = () => this.#stop(null);
  readonly party: string;
  request = '';
  fresh = false;

  /** `deadline` in ms, until PVE begins to answer. */
  constructor(reading: Reading, destination: Destination, deadline: number) {
    this.#reading = reading;
    this.#lines = linesOf(reading);
    this.party = reading.user;
    this.#destination = destination;
    this.#deadline = setTimeout(() => {
      this.#late = true;
      this.#stop(new Error('no answer began in time'));
    }, deadline);
    destination.response.on('close', this.#gone);
    destination.response.req.socket.once('close', this.#gone);
  }

  /** Whether nothing is waited for any more. */
  get isOver(): boolean {
    return this.#ended;
  }

  /** Asks this host; throws as `Relay.read` does. */
  attempt(host: Host, connections: Connections, fresh: boolean): Promise<Answer | null> {
    this.#host = host;
    this.#connections = connections;
    this.#carrier = undefined;
    this.#refused = undefined;
    this.#bytes = 0;
    this.#outcome = Promise.withResolvers();
    this.request = `${this.#lines}host: ${host.address}\r\nconnection: ${fresh ? 'close' : 'keep-alive'}\r\n\r\n`;
    this.fresh = fresh;
    connections.ask(this);
    return this.#outcome.promise;
  }

  sent(carrier: Connection): void {
    this.#carrier = carrier;
  }

  begin({ status, reason, fields }: Head): void {
    const type = fields['content-type'] ?? '';
    if (status !== 200 || !types.test(type)) {
      this.#refused = { status, reason, packed: fields['content-encoding'] === 'gzip', body: [] };
      return;
    }
    clearTimeout(this.#deadline);
    if (!type.startsWith('application/json')) this.#most = Number.POSITIVE_INFINITY;
    this.#length = Number(fields['content-length'] ?? -1);
    this.#begun = true;
    const lines: string[] = [];
    for (const name of passed) {
      const value = fields[name];
      if (value !== undefined) lines.push(name, value);
    }
    this.#destination.begin(lines);
  }

  take(bytes: Buffer): void {
    this.#bytes += bytes.length;
    if (this.#bytes > this.#most) throw new Error(`it is longer than ${this.#most} bytes`);
    if (this.#refused !== undefined) this.#refused.body.push(Buffer.from(bytes));
    // A text goes out in one write with the head; Latin-1 has a letter for each byte.
    else if (bytes.length === this.#length)
      this.#whole = bytes.length <= onePiece ? bytes.toString('latin1') : Buffer.from(bytes);
    else this.#pass(Buffer.from(bytes));
  }

  end(): void {
    if (this.#ended) return;
    if (this.#refused === undefined) {
      this.release();
      this.#destination.response.end(this.#whole, 'latin1');
      this.#outcome.resolve(null);
    } else this.#readRefused(this.#refused);
  }

  fail(error: unknown): void {
    if (this.#ended) return;
    if (this.#begun) {
      this.release();
      this.#destination.response.destroy();
      this.#outcome.resolve(null);
    } else this.#outcome.reject(this.#failure(error));
  }

  #pass(bytes: Buffer): void {
    const { response } = this.#destination;
    const carrier = this.#carrier;
    response.write(bytes);
    if (response.writableLength <= waiting || response.listenerCount('drain') > 0) return;
    carrier?.pause();
    response.once('drain', () => this.#ended || carrier?.resume());
  }

  /** Nothing is waited for any more. */
  release(): void {
    this.#destination.response.req.socket.off('close', this.#gone);
    clearTimeout(this.#deadline);
    this.#ended = true;
  }

  /** Gives up, whether or not PVE has begun: without an error when the client has gone. */
  #stop(error: Error | null): void {
    if (this.#ended) return;
    if (error === null) this.#outcome.resolve(null);
    else this.#outcome.reject(this.#failure(error));
    this.release();
    this.#connections?.withdraw(this);
    this.#carrier?.close(error ?? new Error('the client has gone'));
  }

  #readRefused({ status, reason, packed, body }: Refused): void {
    try {
      const whole = Buffer.concat(body);
      const text = packed ? gunzipSync(whole, { maxOutputLength: longest }) : whole;
      this.#outcome.resolve(readAnswer(status, reason, text.toString()));
    } catch (error) {
      this.fail(error);
    }
  }

  #failure(error: unknown): Error {
    const what = `${describeCall(this.#reading.call)} at ${this.#host?.address}`;
    const sent = this.#carrier !== undefined;
    if (this.#late && !sent)
      return new UpstreamUnreachableError(`PVE is busy with other reads; ${what} was not sent. Try again later.`);
    return failure(error, what, { sent, late: this.#late });
  }
}
