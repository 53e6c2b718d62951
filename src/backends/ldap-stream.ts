/** A connection to an LDAP server: opened, made secure, and cut into messages. */

import { on, once } from 'node:events';
import { connect, isIP, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as tlsConnect } from 'node:tls';
import { BerReader } from 'ldapts';

export interface Opening {
  readonly starttls: boolean;
  /** Certificates of authorities, in PEM. */
  readonly authorities: readonly string[];
  /** Bytes; a longer answer counts as broken. */
  readonly maxAnswer: number;
  readonly signal: AbortSignal;
}

/** No connection could be made, or not one that can be trusted, so nothing was said in it. */
export class ConnectError extends Error {
  override readonly name = 'ConnectError';
}

/** A connection to the server at `url`, over TLS unless StartTLS is forgone; throws ConnectError. */
export async function openStream(url: string, { starttls, authorities, maxAnswer, signal }: Opening) {
  const { protocol, hostname, port } = new URL(url);
  const secure = protocol === 'ldaps:';
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const plain = safe(connect({ host, port: Number(port || (secure ? 636 : 389)), keepAlive: true, noDelay: true }));
  try {
    await once(plain, 'connect', { signal });
    if (!secure && !starttls) return new LdapStream(plain, maxAnswer);
    if (!secure) await startTls(plain, signal);
    const name = isIP(host) === 0 ? { servername: host } : {};
    const encrypted = safe(tlsConnect({ socket: plain, host, ca: [...authorities], ...name }));
    await once(encrypted, 'secureConnect', { signal });
    return new LdapStream(encrypted, maxAnswer);
  } catch (error) {
    plain.destroy();
    throw new ConnectError(signal.aborted ? 'it took too long' : (error as Error).message, { cause: error });
  }
}

/** A socket may fail at any moment, also while nobody is waiting for it. */
function safe<S extends Socket>(socket: S): S {
  return socket.on('error', () => {});
}

const startTlsName = Buffer.from('1.3.6.1.4.1.1466.20037');
const startTlsBody = Buffer.from([0x02, 0x01, 0x01, 0x77, startTlsName.length + 2, 0x80, startTlsName.length]);
const startTlsRequest = Buffer.from([
  0x30,
  startTlsBody.length + startTlsName.length,
  ...startTlsBody,
  ...startTlsName,
]);

/** Has the server agree to TLS. What comes beside its answer may be somebody else's, to be taken for something said in TLS. */
async function startTls(socket: Socket, signal: AbortSignal): Promise<void> {
  socket.write(startTlsRequest);
  let answer = Buffer.alloc(0);
  for await (const [chunk] of on(socket, 'data', { signal, close: ['close'] })) {
    answer = Buffer.concat([answer, chunk]);
    const { end = Infinity } = elementAt(answer, 0) ?? {};
    if (end > answer.length) continue;
    if (end < answer.length) throw new Error('it said more before TLS than it was asked');
    const reader = new BerReader(answer);
    reader.readSequence(0x30);
    reader.readInt();
    reader.readSequence(0x78);
    const result = reader.readEnumeration();
    if (result !== 0) throw new Error(`it refuses StartTLS with the result ${result}`);
    return;
  }
  throw new Error('it closed the connection instead of starting TLS');
}

/**
 * The connection as ldapts reads it: whole messages, one at a time, each well formed. It ends with an error on anything
 * else, and on an answer that is too long, since ldapts would wait for the rest of what was never LDAP.
 */
export class LdapStream extends Duplex {
  // ldapts takes what it is given for a socket, and asks these whether it is open.
  readonly connecting = false;
  readonly readyState = 'open';
  readonly #socket: Socket;
  readonly #maxAnswer: number;
  #last: Buffer = Buffer.alloc(0);
  #held: Buffer[] = [];
  #size = 0;
  /** Bytes without which there is no message yet. */
  #wanted = 2;
  #answered = 0;

  constructor(socket: Socket, maxAnswer: number) {
    super({ readableObjectMode: true, autoDestroy: true });
    this.#socket = socket;
    this.#maxAnswer = maxAnswer;
    // It may fail before anybody has asked for anything.
    this.on('error', () => {});
    socket
      .on('data', (chunk: Buffer) => this.#take(chunk))
      .once('end', () => this.destroy(new Error('the server closed the connection')))
      .once('error', (error) => this.destroy(error))
      .once('close', () => this.destroy());
  }

  /** The message that has come last. */
  get last(): Buffer {
    return this.#last;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#answered = 0;
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  #take(chunk: Buffer): void {
    this.#held.push(chunk);
    this.#size += chunk.length;
    this.#answered += chunk.length;
    if (this.#answered > this.#maxAnswer) {
      this.destroy(new Error(`the answer is longer than ${this.#maxAnswer} bytes`));
      return;
    }
    if (this.#size < this.#wanted) return;
    try {
      this.#cut(Buffer.concat(this.#held));
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  #cut(bytes: Buffer): void {
    let rest = bytes;
    for (;;) {
      const message = elementAt(rest, 0);
      if (rest.length > 0 && rest[0] !== sequence) throw new Error('the server does not speak LDAP');
      if ((message?.end ?? 0) > this.#maxAnswer) throw new Error(`the answer is longer than ${this.#maxAnswer} bytes`);
      if (message === null || message.end > rest.length) {
        this.#held = [rest];
        this.#size = rest.length;
        this.#wanted = message?.end ?? rest.length + 1;
        return;
      }
      if (!isNested(rest, message)) throw new Error('the server does not speak LDAP as it should');
      this.#last = rest.subarray(0, message.end);
      if (!this.push(this.#last)) this.#socket.pause();
      rest = rest.subarray(message.end);
    }
  }
}

const sequence = 0x30;
const constructed = 0x20;
const deepest = 10;

interface Element {
  readonly start: number;
  readonly end: number;
}

/** Where the content of a BER element begins and ends; null when its length is not there yet. Throws on a length that LDAP forbids. */
function elementAt(bytes: Buffer, at: number): Element | null {
  const first = bytes[at + 1];
  if (first === undefined) return null;
  if (first < 0x80) return { start: at + 2, end: at + 2 + first };
  const count = first & 0x7f;
  if (count < 1 || count > 4) throw new Error('the server does not speak LDAP');
  const start = at + 2 + count;
  return start > bytes.length ? null : { start, end: start + bytes.readUIntBE(at + 2, count) };
}

/** Whether everything within an element ends where it should. */
function isNested(bytes: Buffer, { start, end }: Element, depth = 0): boolean {
  for (let at = start; at < end; ) {
    const inner = elementAt(bytes, at);
    if (inner === null || inner.end > end) return false;
    const opens = ((bytes[at] ?? 0) & constructed) !== 0;
    if (opens && (depth === deepest || !isNested(bytes, inner, depth + 1))) return false;
    at = inner.end;
  }
  return true;
}
