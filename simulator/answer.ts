/** How PVE writes an answer: one result, worded by each format in its way. */

import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gzipSync } from 'node:zlib';
import type { Download, Reply } from './method.ts';
import { PveError } from './pve-error.ts';

/** A whole answer; the reason phrase is what PVE's clients read. */
export interface Answer {
  readonly status: number;
  readonly reason: string;
  readonly contentType?: string;
  /** The name under which a browser keeps it. */
  readonly filename?: string;
  readonly body: Buffer;
}

type Writer = (outcome: Outcome) => Answer;
type Outcome = { readonly reply: Reply } | { readonly error: PveError };

const noBody = Buffer.alloc(0);
const json = 'application/json;charset=UTF-8';
const html = 'text/html;charset=UTF-8';

const writers: Readonly<Record<string, Writer>> = {
  json: writeJson,
  extjs: (outcome) => writeExtjs(outcome, json),
  htmljs: (outcome) => writeExtjs(outcome, html),
  html: writePage,
  spiceconfig: writePage,
  png: writePage,
};

/** Whether PVE has this format at all. */
export function isFormat(format: string): boolean {
  return Object.hasOwn(writers, format);
}

/** Words the result of a method, or the error it ended with. */
export function answerOf(format: string, outcome: Outcome): Answer {
  return (writers[format] ?? writeJson)(outcome);
}

/** A status line without a body. */
export function bareAnswer(status: number, reason: string): Answer {
  return { status, reason, body: noBody };
}

/** A file instead of a JSON text. */
export function downloadAnswer({ text, filename }: Download): Answer {
  return { status: 200, reason: 'OK', contentType: 'text/plain', filename, body: Buffer.from(text) };
}

/** Anything that a method threw, as PVE would report it. */
export function errorOf(thrown: unknown): PveError {
  if (thrown instanceof PveError) return thrown;
  return new PveError(500, thrown instanceof Error ? thrown.message : String(thrown));
}

function writeJson(outcome: Outcome): Answer {
  if ('reply' in outcome) return jsonAnswer(200, 'OK', dataOf(outcome.reply));
  const { status, message, errors } = outcome.error;
  return jsonAnswer(status, message, { data: null, ...(errors && { errors }), message: `${message}\n` });
}

/** The web interface wants 200 always and looks at `success`. */
function writeExtjs(outcome: Outcome, contentType: string): Answer {
  if ('reply' in outcome) return { ...jsonAnswer(200, 'OK', { ...dataOf(outcome.reply), success: 1 }), contentType };
  const { status, message, errors } = outcome.error;
  const body = { data: null, ...(errors && { errors }), message: `${message}\n`, status, success: 0 };
  return { ...jsonAnswer(200, 'OK', body), contentType };
}

function writePage(outcome: Outcome): Answer {
  const [status, reason] = 'reply' in outcome ? [200, 'OK'] : [outcome.error.status, outcome.error.message];
  return { status, reason, contentType: html, body: Buffer.from(`<!DOCTYPE html><title>${status}</title>\n`) };
}

function dataOf({ data, extra }: Reply): Readonly<Record<string, unknown>> {
  return { data: data ?? null, ...extra };
}

function jsonAnswer(status: number, reason: string, body: unknown): Answer {
  return { status, reason, contentType: json, body: Buffer.from(JSON.stringify(body)) };
}

export interface Sending {
  /** The client takes gzip. */
  readonly acceptsGzip: boolean;
  /** The connection stays open after a success. */
  readonly keepAlive: boolean;
}

/** Sends an answer. After an error PVE closes the connection. */
export function send(response: ServerResponse, answer: Answer, { acceptsGzip, keepAlive }: Sending): void {
  const compresses = acceptsGzip && answer.body.length > 1024;
  const body = compresses ? gzipSync(answer.body, { level: 1 }) : answer.body;
  response.writeHead(answer.status, phrase(answer.reason), {
    ...headers(keepAlive && answer.status < 400),
    ...(answer.contentType && { 'Content-Type': answer.contentType }),
    ...(answer.filename && { 'Content-Disposition': `attachment; filename="${answer.filename}"` }),
    ...(compresses && { 'Content-Encoding': 'gzip' }),
    'Content-Length': body.length,
  });
  response.end(body);
}

/** Sends a JSON text of a length that no client should take, without end if the length is infinite. */
export async function sendLong(response: ServerResponse, bytes: number): Promise<void> {
  const [head, tail] = ['{"data":"', '"}'];
  const length = Number.isFinite(bytes) ? { 'Content-Length': head.length + bytes + tail.length } : {};
  response.useChunkedEncodingByDefault = false;
  response.writeHead(200, 'OK', { ...headers(false), 'Content-Type': json, ...length });
  // The client is expected to hang up on it.
  await pipeline(Readable.from(longText(head, bytes, tail)), response).catch(() => undefined);
}

function* longText(head: string, bytes: number, tail: string): Generator<string | Buffer> {
  const chunk = Buffer.alloc(65536, 'x');
  yield head;
  for (let left = bytes; left > 0; left -= chunk.length) yield left < chunk.length ? chunk.subarray(0, left) : chunk;
  yield tail;
}

/** Ends the connection the hard way; what runs over TLS can only be cut. */
export function reset(socket: Socket): void {
  if ('encrypted' in socket) socket.destroy();
  else socket.resetAndDestroy();
}

function headers(keepAlive: boolean): Readonly<Record<string, string>> {
  return {
    'Cache-Control': 'max-age=0',
    Connection: keepAlive ? 'Keep-Alive' : 'close',
    Pragma: 'no-cache',
    Server: 'pve-api-daemon/3.0',
    Expires: new Date().toUTCString(),
  };
}

/** The first line as raw bytes: Latin-1 goes out as it is, other characters as UTF-8; what no status line can carry becomes a blank. */
function phrase(reason: string): string {
  const line = reason.split('\n', 1)[0] ?? '';
  const bytes = /[^\0-\xff]/.test(line) ? Buffer.from(line, 'utf8').toString('latin1') : line;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are the ones to replace
  return bytes.replace(/[\0-\x1f\x7f]/g, ' ');
}
