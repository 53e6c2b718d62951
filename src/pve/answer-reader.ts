/** How an HTTP/1.1 answer to a GET is read from a connection: strictly, since what two could read differently is no answer. */

/** The head of an answer. */
export interface Head {
  readonly status: number;
  readonly reason: string;
  /** What was said about the body, by name in small letters: those of `telling` that were there. */
  readonly fields: Readonly<Record<Telling, string | undefined>>;
}

/** Who gets an answer as it comes. What it throws ends the reading. */
export interface Receiver {
  /** Called once, before the first byte. */
  begin(head: Head): void;
  /** A piece of the body; its bytes are overwritten after the call. */
  take(bytes: Buffer): void;
}

/** The fields that are looked at; each may be there once. */
const telling = [
  'connection',
  'content-disposition',
  'content-encoding',
  'content-length',
  'content-type',
  'transfer-encoding',
] as const;
type Telling = (typeof telling)[number];

/** To begin with, so that all have one shape. */
const untold = Object.fromEntries(telling.map((name) => [name, undefined])) as Record<Telling, undefined>;

/** Bytes of a head; bytes of a line that tells the size of a chunk. */
const longestHead = 16 * 1024;
const longestLine = 256;

/** A status line and fields, none of them folded, with neither a space before the colon nor control characters behind it. */
const headForm = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([^\0\r\n]*))?(?:\r\n[\w!#$%&'*+.^`|~-]+:[\t\x20-\x7e\x80-\xff]*)*$/;
const chunkLine = /^([\da-f]{1,8})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/i;

/** Reads one answer. */
export class AnswerReader {
  readonly #receiver: Receiver;
  /** Takes what has come and gives what is left of it; null when the answer is over. */
  #next: ((bytes: Buffer) => Buffer) | null = this.#head;
  /** What has come of a head or a line that has no end yet. */
  #held: Buffer | undefined;
  /** Bytes of the body, or of the chunk, that have not come yet. */
  #left = 0;
  #endsByClosing = false;
  #keeps = false;

  constructor(receiver: Receiver) {
    this.#receiver = receiver;
  }

  get isOver(): boolean {
    return this.#next === null;
  }

  /** Whether another request may follow on the connection, once the answer is over. */
  get keeps(): boolean {
    return this.#keeps;
  }

  /** Reads the next piece, however the answer is cut; throws when it is none. */
  take(bytes: Buffer): void {
    let rest = bytes;
    while (rest.length > 0 && this.#next !== null) rest = this.#next(rest);
    if (rest.length > 0) this.#keeps = false;
  }

  /** Reads that the connection has ended; throws when that is too early. */
  end(): void {
    if (this.#next === null) return;
    if (!this.#endsByClosing) throw new Error('the connection was closed in the middle of the answer');
    this.#next = null;
  }

  #head(bytes: Buffer): Buffer {
    return this.#upTo('\r\n\r\n', longestHead, bytes, (text) => {
      const [, minor, code, reason = ''] = headForm.exec(text) ?? [];
      const status = Number(code);
      // Nobody has asked for another protocol.
      if (minor === undefined || status === 101) throw new Error('its answer has no head as HTTP/1.1 knows it');
      const fields = readFields(text.split('\r\n'));
      if (status >= 200) this.#begin({ status, reason: utf8(reason), fields }, minor === '1');
    });
  }

  /** How long the body is, by RFC 9112, section 6.3; whatever would be said twice is refused. */
  #begin(head: Head, isNewer: boolean): void {
    const { 'content-length': length, 'transfer-encoding': coding, connection = '' } = head.fields;
    this.#keeps = isNewer && !/(?:^|,)[\t ]*close[\t ]*(?:,|$)/i.test(connection);
    if (coding !== undefined && (length !== undefined || !isNewer || coding.toLowerCase() !== 'chunked'))
      throw new Error('how long its answer is can be read in two ways');
    if (length !== undefined && !/^\d{1,15}$/.test(length)) throw new Error('the length of its answer is no number');
    if (head.status === 204 || head.status === 304) this.#next = null;
    else if (coding !== undefined) this.#next = this.#chunk;
    else if (length === undefined) {
      this.#keeps = false;
      this.#endsByClosing = true;
      this.#next = this.#untilClosed;
    } else {
      this.#left = Number(length);
      this.#next = this.#left === 0 ? null : this.#counted;
    }
    this.#receiver.begin(head);
  }

  #counted(bytes: Buffer): Buffer {
    const rest = this.#give(bytes);
    if (this.#left === 0) this.#next = null;
    return rest;
  }

  #untilClosed(bytes: Buffer): Buffer {
    this.#receiver.take(bytes);
    return bytes.subarray(bytes.length);
  }

  #chunk(bytes: Buffer): Buffer {
    return this.#upTo('\r\n', longestLine, bytes, (line) => {
      const [, size] = chunkLine.exec(line) ?? [];
      if (size === undefined) throw new Error('a piece of its answer has no size');
      this.#left = Number.parseInt(size, 16);
      this.#next = this.#left === 0 ? this.#lastLine : this.#inChunk;
    });
  }

  #inChunk(bytes: Buffer): Buffer {
    const rest = this.#give(bytes);
    if (this.#left === 0) this.#next = this.#afterChunk;
    return rest;
  }

  #afterChunk(bytes: Buffer): Buffer {
    return this.#upTo('\r\n', 2, bytes, () => {
      this.#next = this.#chunk;
    });
  }

  /** PVE has no trailers. */
  #lastLine(bytes: Buffer): Buffer {
    return this.#upTo('\r\n', 2, bytes, () => {
      this.#next = null;
    });
  }

  /** Passes on as much as is left of a body or a chunk. */
  #give(bytes: Buffer): Buffer {
    const given = bytes.length <= this.#left ? bytes : bytes.subarray(0, this.#left);
    this.#left -= given.length;
    this.#receiver.take(given);
    return bytes.subarray(given.length);
  }

  /** Has the text before a mark read once it is there; it may have `most` bytes with the mark. */
  #upTo(mark: string, most: number, bytes: Buffer, read: (text: string) => void): Buffer {
    const all = this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes]);
    const end = all.indexOf(mark, 0, 'latin1');
    if ((end === -1 ? all.length : end + mark.length) > most) throw new Error('its answer has too long a head or line');
    if (end === -1) {
      const [line = ''] = all.toString('latin1').split('\r\n');
      if (/[\0\n]/.test(line)) throw new Error('a line of its answer ends in no proper way');
      this.#held = all === bytes ? Buffer.from(all) : all;
      return bytes.subarray(bytes.length);
    }
    this.#held = undefined;
    read(all.toString('latin1', 0, end));
    return all.subarray(end + mark.length);
  }
}

/** What the telling ones among the lines say. */
function readFields(lines: readonly string[]): Head['fields'] {
  const fields: Record<Telling, string | undefined> = { ...untold };
  for (const line of lines) {
    const known = telling.find(
      (name) => line[name.length] === ':' && line.slice(0, name.length).toLowerCase() === name,
    );
    if (known === undefined) continue;
    if (fields[known] !== undefined) throw new Error(`its answer says ${known} twice`);
    fields[known] = line.slice(known.length + 1).trim();
  }
  return fields;
}

/** The text that Latin-1 letters are the bytes of; PVE's sentences are in the language of its messages. */
function utf8(text: string): string {
  return /[\x80-\xff]/.test(text) ? Buffer.from(text, 'latin1').toString() : text;
}
