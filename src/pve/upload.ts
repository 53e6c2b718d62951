/** How files reach PVE: as a form of our own that names the file, streamed at the pace of whoever is slower. */

import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { Client } from 'undici';
import { z } from 'zod';
import { BadRequestError, UpstreamUnreachableError } from '../errors.ts';
import { type Answer, type Call, type Cargo, type Credential, describeCall, type Upstream } from './call.ts';
import { failure, type Host, type Hosts } from './hosts.ts';
import { wireRequest } from './request.ts';
import { readAnswer } from './upstream.ts';

/** `limits.uploads`: what uploads may take of the server. */
export const uploadLimits = z
  .strictObject({
    bytes: z
      .int()
      .min(1)
      .default(16 * 1024 ** 3)
      .describe('Longest file.'),
    total: z.int().min(0).default(16).describe('Uploads at a time.'),
    idle: z.number().positive().default(60).describe('Seconds without a byte after which one is given up.'),
  })
  .prefault({})
  .describe('What uploads may take of the server.');

export type UploadLimits = z.output<typeof uploadLimits>;

export interface UploadOptions {
  readonly hosts: Hosts;
  /** Seconds in which a byte has to move, or the answer to come. */
  readonly idle: number;
  /** When it aborts, every upload under way is given up. */
  readonly giveUp: AbortSignal;
}

/**
 * The upstream, for calls that carry a file as well. PVE acts on a form only once it is complete, so one that was broken
 * off before its end has done nothing: UpstreamUnreachableError, with the reason as its cause.
 */
export function withUploads(upstream: Upstream, options: UploadOptions): Upstream {
  const underWay = new Set<Promise<unknown>>();
  return {
    async send(call, as) {
      if (call.cargo === undefined) return upstream.send(call, as);
      const upload = send(call, call.cargo, as, options);
      underWay.add(upload);
      try {
        return await upload;
      } finally {
        underWay.delete(upload);
      }
    },
    async close() {
      await Promise.allSettled(underWay);
      await upstream.close();
    },
  };
}

/** Goes from host to host until one can be reached; the file is read only then. */
async function send(call: Call, cargo: Cargo, as: Credential, options: UploadOptions): Promise<Answer> {
  const hosts = options.hosts.inOrder();
  const form = new Form(call);
  for (const [index, host] of hosts.entries()) {
    const attempt = new Attempt(call, cargo, form, options);
    try {
      return await attempt.run(host, as);
    } catch (error) {
      if (!attempt.hasBegun) options.hosts.avoid(host, error);
      if (attempt.hasBegun || index === hosts.length - 1) throw error;
    }
  }
  throw new TypeError('no PVE host is configured');
}

/** One upload to one host. */
class Attempt {
  readonly #call: Call;
  readonly #cargo: Cargo;
  readonly #options: UploadOptions;
  readonly #parts: Form;
  readonly #stalled = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isComplete = false;
  /** Why the file did not come to its end. */
  #broken: unknown;
  hasBegun = false;

  constructor(call: Call, cargo: Cargo, parts: Form, options: UploadOptions) {
    this.#call = call;
    this.#cargo = cargo;
    this.#parts = parts;
    this.#options = options;
  }

  async run(host: Host, as: Credential): Promise<Answer> {
    const { hosts, giveUp } = this.#options;
    const { boundary, head, tail } = this.#parts;
    const { method, path, headers } = wireRequest({ ...this.#call, params: {} }, as, hosts.serviceToken);
    const length = head.length + this.#cargo.bytes + tail.length;
    const body = Readable.from(this.#form(), { highWaterMark: 1 });
    // Also when nobody reads it any more, it must not break anything.
    body.on('error', () => {});
    const client = new Client(host.origin, { ...hosts.client, connect: hosts.connect });
    try {
      const response = await client.request({
        method,
        path,
        headers: {
          ...headers,
          'content-type': `multipart/form-data; boundary=${boundary}`,
          'content-length': String(length),
        },
        body,
        signal: AbortSignal.any([this.#stalled.signal, giveUp]),
        reset: true,
      });
      return readAnswer(response.statusCode, response.statusText, await response.body.text());
    } catch (error) {
      throw this.#failure(error, host);
    } finally {
      this.#rest();
      await client.destroy();
    }
  }

  /** The form. While PVE takes it, and until it answers, a byte has to move now and again; the client's side has a clock of its own. */
  async *#form(): AsyncGenerator<Uint8Array> {
    this.hasBegun = true;
    this.#wait();
    yield this.#parts.head;
    let left = this.#cargo.bytes;
    try {
      this.#rest();
      for await (const piece of this.#cargo.content) {
        left -= piece.length;
        this.#wait();
        yield piece;
        this.#rest();
      }
      if (left !== 0 && left !== lineBreak.length) throw new TypeError('the file has another length than announced');
    } catch (error) {
      this.#broken = error;
      throw error;
    }
    this.#isComplete = true;
    this.#wait();
    // What follows the last delimiter is no part of the form.
    yield Buffer.concat([this.#parts.tail, lineBreak.subarray(0, left)]);
  }

  #wait(): void {
    this.#rest();
    this.#timer = setTimeout(() => this.#stalled.abort(), this.#options.idle * 1000);
  }

  #rest(): void {
    clearTimeout(this.#timer);
  }

  #failure(error: unknown, { address }: Host): Error {
    const what = `${describeCall(this.#call)} at ${address}`;
    const late = this.#stalled.signal.aborted;
    if (!this.hasBegun || this.#isComplete) return failure(error, what, { sent: this.hasBegun, late });
    const why = late ? `PVE took no byte for ${this.#options.idle} s` : textOf(this.#broken ?? error);
    return new UpstreamUnreachableError(`${what} was broken off, so PVE has done nothing: ${why}`, {
      cause: this.#broken ?? error,
    });
  }
}

const lineBreak = Buffer.from('\r\n');

const fields: readonly string[] = ['content', 'checksum-algorithm', 'checksum'];

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What stands around the file: the fields in the order in which PVE looks for them, and the file's name. */
class Form {
  readonly boundary = randomBytes(24).toString('hex');
  readonly head: Buffer;
  readonly tail = Buffer.from(`\r\n--${this.boundary}--`);

  /** Throws BadRequestError for what PVE does not take with a file. */
  constructor({ params: { filename = '', ...given } }: Call) {
    const odd = Object.keys(given).filter((name) => !fields.includes(name));
    if (odd.length > 0)
      throw new BadRequestError(odd.map((field) => ({ field, problem: 'an upload does not take it' })));
    const parts = fields.flatMap((name) => {
      const value = given[name];
      return value === undefined ? [] : [`${this.#disposition(name)}\r\n\r\n${plain(name, value)}\r\n`];
    });
    const file = `${this.#disposition('filename')}; filename="${plain('filename', filename)}"`;
    this.head = Buffer.from(`${parts.join('')}${file}\r\nContent-Type: application/octet-stream\r\n\r\n`);
  }

  #disposition(name: string): string {
    return `--${this.boundary}\r\nContent-Disposition: form-data; name="${name}"`;
  }
}

/** A text that ends nothing in a form. */
function plain(field: string, value: string | readonly string[]): string {
  if (typeof value === 'string' && !/["\\\p{Cc}]/u.test(value)) return value;
  throw new BadRequestError({ field, problem: 'give it once, without quotes, backslashes and control characters' });
}
