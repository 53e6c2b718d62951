/** An upload's form, read as it comes: a few short fields, then one file, which is passed on and never held. */

import { BadRequestError } from '../errors.ts';
import type { Params } from '../pve/call.ts';

/** A form up to its file. */
export interface UploadForm {
  /** The fields, with the file's name as `filename`. */
  readonly params: Params;
  /** The file is at most so long; it is this long exactly, or two bytes shorter where a line break ends the form. */
  readonly bytes: number;
  /** The file; throws BadRequestError when the form does not end with it. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** What may precede the file; PVE ignores other fields, and what follows the file. */
const known: readonly string[] = ['content', 'checksum-algorithm', 'checksum'];

/** Bytes that the headers of a part, and a field, may have. */
const longestHeaders = 4096;
const longestField = 1024;

/** The boundary in the content type of a form; throws BadRequestError when it is none that can be read in one way only. */
export function boundaryOf(contentType = ''): string {
  // Some clients add how the fields are written, which is in UTF-8 or refused.
  const type = contentType.replace(/;\s*charset=[\w-]+/, '');
  const [, quoted, bare] =
    /^multipart\/form-data;\s*boundary=(?:"([\w'()+,./:=?-]{1,70})"|([\w'()+./:?-]{1,70}))$/.exec(type) ?? [];
  const boundary = quoted ?? bare;
  if (boundary !== undefined) return boundary;
  throw bad('content-type', 'expected multipart/form-data; boundary=..., as a form with a file is sent');
}

/** Reads a form of `length` bytes up to its file. Throws BadRequestError when it is not of the form that PVE takes, or could be read in two ways. */
export async function readUploadForm(
  source: AsyncIterator<Uint8Array>,
  boundary: string,
  length: number,
): Promise<UploadForm> {
  const feed = new Feed(source);
  const params: Record<string, string> = {};
  await feed.must(`--${boundary}`);
  for (;;) {
    await feed.must('\r\n');
    const { name, filename } = readHeaders(textOf('form', await feed.until('\r\n\r\n', longestHeaders)));
    if (filename !== undefined) {
      if (name !== 'filename') throw bad(name, 'the field with the file has to be called "filename"');
      const bytes = length - feed.taken - `\r\n--${boundary}--`.length;
      if (bytes < 0) throw bad('form', tooShort);
      return {
        params: { ...params, filename },
        bytes,
        content: readFile(feed, boundary),
      };
    }
    if (!known.includes(name)) throw bad(name, `only ${known.join(', ')} and the file are taken`);
    if (params[name] !== undefined) throw bad(name, 'give it once');
    params[name] = textOf(name, await feed.until(`\r\n--${boundary}`, longestField)).trim();
  }
}

/** What the headers of a part say. PVE reads them more loosely, so what it might read otherwise is refused. */
function readHeaders(text: string): { readonly name: string; readonly filename: string | undefined } {
  const lines = text.split('\r\n');
  const dispositions = lines.filter((line) => /^content-disposition:/i.test(line));
  const [, name, filename] =
    /^content-disposition: *form-data; *name="([^"\\]+)"(?:; *filename="([^"\\]+)")?$/i.exec(dispositions[0] ?? '') ??
    [];
  const isKnown = lines.every((line) =>
    /^content-(?:disposition|type|length):|^content-transfer-encoding: *(?:binary|[78]bit)$/i.test(line),
  );
  if (name !== undefined && isKnown && dispositions.length === 1 && !/[^\P{Cc}\r\n]/u.test(text))
    return { name, filename };
  throw bad('form', `the headers of a part are not understood: ${JSON.stringify(text.slice(0, 200))}`);
}

async function* readFile(feed: Feed, boundary: string): AsyncGenerator<Uint8Array> {
  yield* feed.before(`\r\n--${boundary}`);
  const rest = await feed.rest(4);
  if (rest === '--' || rest === '--\r\n') return;
  throw bad('form', rest.startsWith('\r\n') ? 'nothing may follow the file' : 'its end is not understood');
}

function textOf(field: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw bad(field, 'it is not UTF-8');
  }
}

function bad(field: string, problem: string): BadRequestError {
  return new BadRequestError({ field, problem });
}

const tooShort = 'it ends too early';

/** How many of the last bytes may be the beginning of a mark. */
function begun(bytes: Buffer, mark: string): number {
  const end = bytes.toString('latin1', Math.max(0, bytes.length - mark.length + 1));
  for (let start = 0; start < end.length; start += 1) if (mark.startsWith(end.slice(start))) return end.length - start;
  return 0;
}

/** A stream of bytes, read up to marks; what is held is at most one piece and one mark. */
class Feed {
  readonly #source: AsyncIterator<Uint8Array>;
  #held: Buffer = Buffer.alloc(0);
  /** How many bytes have been taken out. */
  taken = 0;

  constructor(source: AsyncIterator<Uint8Array>) {
    this.#source = source;
  }

  /** Passes over a text that has to come next. */
  async must(text: string): Promise<void> {
    while (this.#held.length < text.length) await this.#more();
    if (this.#take(text.length).toString('latin1') !== text) throw bad('form', `${JSON.stringify(text)} is expected`);
  }

  /** What comes before a mark, which is passed over; it may be so long. */
  async until(mark: string, most: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of this.before(mark)) {
      length += piece.length;
      if (length > most) throw bad('form', `a part of it is longer than ${most} bytes`);
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** Piece by piece what comes before a mark, which is passed over. */
  async *before(mark: string): AsyncGenerator<Uint8Array> {
    for (;;) {
      const at = this.#held.indexOf(mark, 0, 'latin1');
      const ready = at < 0 ? this.#held.length - begun(this.#held, mark) : at;
      if (ready > 0) yield this.#take(ready);
      if (at >= 0) {
        this.#take(mark.length);
        return;
      }
      await this.#more();
    }
  }

  /** All that is left, as far as it is of interest. */
  async rest(most: number): Promise<string> {
    while (this.#held.length <= most && (await this.#isFed()));
    return this.#held.toString('latin1');
  }

  #take(length: number): Buffer {
    const taken = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    this.taken += length;
    return taken;
  }

  async #more(): Promise<void> {
    if (!(await this.#isFed())) throw bad('form', tooShort);
  }

  async #isFed(): Promise<boolean> {
    const { value, done } = await this.#source.next();
    if (done === true) return false;
    this.#held =
      this.#held.length === 0
        ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
        : Buffer.concat([this.#held, value]);
    return true;
  }
}
