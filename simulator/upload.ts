/** Uploads as PVE's HTTP server reads them: a few fields, then one file, which is looked at as it passes and never held. */

import { createHash, type Hash } from 'node:crypto';
import type { RawParameters } from './call.ts';
import { HttpRefusal } from './pve-error.ts';
import { readForm } from './reading.ts';

export interface UploadedFile {
  readonly bytes: number;
  /** What it begins with. */
  readonly head: Buffer;
  /** Hex, by the algorithm that was asked for. */
  readonly checksum?: string;
}

/** Of a file under `/var/tmp`, where the real one is spooled. */
const spooled = '/var/tmp/pveupload-0';
const fieldNames = ['content', 'checksum-algorithm', 'checksum'];
export const checksumAlgorithms = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'];
const mostField = 64 * 1024;
const headLength = 32;

/** The parameters, those of the query first, and what the file was like; a 501 when the form is not as PVE wants it. */
export async function readUpload(
  source: AsyncIterable<Buffer>,
  contentType: string,
  query: string,
): Promise<{ readonly parameters: RawParameters; readonly upload: UploadedFile }> {
  const [, boundary] = /^multipart\/form-data\s*[;,].*?\bboundary\s*=\s*(\S+?)\s*(?:[;,]|$)/.exec(contentType) ?? [];
  if (boundary === undefined) throw new HttpRefusal(501, `upload 'Content-Type '${contentType}' not implemented`);
  const parameters = new Map(readForm(query));
  if (parameters.has('tmpfilename')) throw new HttpRefusal(400, "parameter 'tmpfilename' is not allowed");
  const feed = new Feed(source);
  const delimiter = `--${boundary}\r\n`;
  await feed.until(delimiter);
  for (;;) {
    const { name, filename } = disposition(await feed.until('\r\n\r\n'));
    if (filename !== undefined) {
      if (name !== 'filename') throw failed(`wrong field name '${name}' for file upload, expected 'filename'`);
      parameters.set('filename', filename.trim());
      break;
    }
    if (!fieldNames.includes(name)) throw failed('upload failed');
    parameters.set(name, (await feed.until(delimiter)).toString('latin1').trim());
  }
  // Only the last delimiter ends the file, so fields that follow it are part of it.
  const upload = await readFile(feed, `\r\n--${boundary}--`, String(parameters.get('checksum-algorithm')));
  return { parameters: parameters.set('tmpfilename', spooled), upload };
}

async function readFile(feed: Feed, end: string, algorithm: string): Promise<UploadedFile> {
  const hash: Hash | undefined = checksumAlgorithms.includes(algorithm) ? createHash(algorithm) : undefined;
  let bytes = 0;
  let head: Buffer = Buffer.alloc(0);
  await feed.pour(end, (piece) => {
    bytes += piece.length;
    if (head.length < headLength) head = Buffer.concat([head, piece.subarray(0, headLength - head.length)]);
    hash?.update(piece);
  });
  return { bytes, head, ...(hash === undefined ? {} : { checksum: hash.digest('hex') }) };
}

/** Bytes stay bytes: a name that is not ASCII has as many characters as bytes. */
function disposition(headers: Buffer): { readonly name: string; readonly filename: string | undefined } {
  const [, kind, name, filename] =
    /^Content-Disposition: (.*?); name="(.*?)"(?:; filename="([^"]+)")?/m.exec(headers.toString('latin1')) ?? [];
  if (kind === undefined || name === undefined) throw failed('upload failed');
  if (kind !== 'form-data') throw failed(`wrong Content-Disposition '${kind}' in multipart, expected 'form-data'`);
  return { name, filename };
}

function failed(reason: string): HttpRefusal {
  return new HttpRefusal(501, reason);
}

/** How many bytes at the end may be the beginning of the mark. */
function begun(bytes: Buffer, mark: Buffer): number {
  let length = Math.min(bytes.length, mark.length - 1);
  while (length > 0 && !bytes.subarray(-length).equals(mark.subarray(0, length))) length--;
  return length;
}

/** A stream that is read up to marks. */
class Feed {
  readonly #source: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** What comes before the mark, which is passed over; it must not be long. */
  async until(mark: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let length = 0;
    await this.pour(mark, (piece) => {
      length += piece.length;
      if (length > mostField) throw failed('upload failed');
      pieces.push(piece);
    });
    return Buffer.concat(pieces);
  }

  /** Passes on piece by piece what comes before the mark, keeping none of it. */
  async pour(mark: string, take: (piece: Buffer) => void): Promise<void> {
    const bytes = Buffer.from(mark);
    for (;;) {
      const at = this.#held.indexOf(bytes);
      const ready = at < 0 ? this.#held.length - begun(this.#held, bytes) : at;
      if (ready > 0) take(this.#held.subarray(0, ready));
      this.#held = this.#held.subarray(at < 0 ? ready : at + bytes.length);
      if (at >= 0) return;
      const { value, done } = await this.#source.next();
      if (done === true) throw failed('upload failed');
      this.#held = this.#held.length === 0 ? value : Buffer.concat([this.#held, value]);
    }
  }
}
