/** Taking a request from the wire: what the daemon accepts at all, and what came with it. */

import type { IncomingMessage } from 'node:http';
import type { Identity } from './authentication.ts';
import type { RawParameters, Verb } from './call.ts';
import { HttpRefusal } from './pve-error.ts';
import { mediaType, readParameters, type Target } from './reading.ts';
import { readUpload, type UploadedFile } from './upload.ts';

export interface Payload {
  readonly parameters: RawParameters;
  readonly upload?: UploadedFile;
}

const verbs: ReadonlySet<string> = new Set(['GET', 'POST', 'PUT', 'DELETE'] satisfies Verb[]);
const mostHeaders = 64;
const mostHeaderBytes = 8 * 1024;
const mostBodyBytes = 512 * 1024;

/** The method, when the daemon takes such a request at all. */
export function knownMethod(request: IncomingMessage): Verb {
  const { method = '', headers, rawHeaders } = request;
  if (!verbs.has(method)) throw new HttpRefusal(501, `method '${method}' not available`);
  const bytes = rawHeaders.reduce((sum, part) => sum + part.length + 2, 0);
  if (rawHeaders.length / 2 >= mostHeaders) throw new HttpRefusal(400, 'too many http header lines');
  if (bytes >= mostHeaderBytes) throw new HttpRefusal(400, 'http header too large');
  if (headers['transfer-encoding'] !== undefined) throw new HttpRefusal(501, 'transfer encoding not supported');
  return method as Verb;
}

/** What came with the request: its parameters, and the file of an upload, which is never held. */
export async function readPayload(
  request: IncomingMessage,
  method: Verb,
  { isUpload }: Identity,
  { query }: Target,
): Promise<Payload> {
  const length = Number(request.headers['content-length'] ?? 0);
  const contentType = request.headers['content-type'];
  if (length > 0 && method !== 'POST' && method !== 'PUT') {
    throw new HttpRefusal(501, `Unexpected content for method '${method}'`);
  }
  if (isUpload && length > 0) return readUpload(request, contentType ?? '', query);
  const body = length === 0 ? Buffer.alloc(0) : await readBody(request, length);
  return { parameters: readParameters({ method, contentType, body, query }) };
}

async function readBody(request: IncomingMessage, length: number): Promise<Buffer> {
  if (length > mostBodyBytes) throw new HttpRefusal(501, 'for data too large');
  const type = mediaType(request.headers['content-type']);
  if (type !== undefined && type !== 'application/json' && type !== 'application/x-www-form-urlencoded') {
    throw new HttpRefusal(506, `upload 'Content-Type '${type}' not implemented`);
  }
  return Buffer.concat(await request.toArray());
}
