/** Uploads on either surface: judged when the head of the form has come, then streamed on to PVE. */

import { finished } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { admit } from '../admission/admit.ts';
import type { Caller } from '../admission/gate.ts';
import {
  ApiError,
  BadRequestError,
  NotSupportedError,
  TooLargeError,
  TooSlowError,
  UnauthenticatedError,
  UpstreamUnreachableError,
} from '../errors.ts';
import type { Answer, Call } from '../pve/call.ts';
import { parseTicket, withinLifetime } from '../pve/ticket.ts';
import { withoutRepeats } from './answering.ts';
import { nameOf } from './caller.ts';
import { boundaryOf, readUploadForm } from './multipart.ts';
import { readCall } from './reading.ts';
import type { Rooms } from './rooms.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route reads the body at its own pace. */
    readonly streams?: boolean;
  }
}

/** Bytes of a form besides its file. */
const mostBeside = 16 * 1024;

/** How long what a refused client still sends is read and thrown away, so that it sees the answer, in ms. */
const patience = 5000;

/** The upload of a file below a prefix; `answer` says it in the words of the surface. */
export function uploadRoute(
  app: FastifyInstance,
  prefix: string,
  answer: (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>,
): void {
  app.register(async (uploads) => {
    uploads.removeAllContentTypeParsers();
    uploads.addContentTypeParser('*', async () => undefined);
    uploads.post(`${prefix}/nodes/:node/storage/:storage/upload`, { config: { streams: true } }, (request, reply) => {
      finished(reply.raw, () => throwAway(request));
      return answer(request, reply);
    });
  });
}

/** The call of an upload, without its form. */
export function readUploadCall({ method }: FastifyRequest, target: string): Call {
  return readCall({ method, headers: {}, body: undefined }, target);
}

/** Answers an upload. Whatever is wrong with it, or with the client, PVE has then heard of nothing, or not of the end. */
export async function answerToUpload(
  { gate, config, uploads, sessions, directory }: Rooms,
  call: Call,
  request: FastifyRequest,
  identify: (request: FastifyRequest) => Promise<Caller>,
): Promise<Answer> {
  const { bytes: longest, idle } = config.limits.uploads;
  const length = Number(request.headers['content-length'] ?? Number.NaN);
  if (!Number.isSafeInteger(length))
    throw new NotSupportedError('an upload needs a Content-Length, since PVE takes none without');
  const tooLong = () => new TooLargeError(`the file is longer than this server takes (${longest} bytes)`);
  if (length > longest + mostBeside) throw tooLong();
  const boundary = boundaryOf(request.headers['content-type']);
  const caller = await identify(request);

  const source = atPace(request.raw.iterator({ destroyOnReturn: false }), idle);
  return uploads
    .run(caller.user, async () => {
      const { params, ...cargo } = await readUploadForm(source, boundary, length);
      if (cargo.bytes > longest) throw tooLong();
      const asked = withoutRepeats(call);
      const twice = Object.keys(params).filter((name) => Object.hasOwn(asked.params, name));
      if (twice.length > 0)
        throw new BadRequestError(twice.map((field) => ({ field, problem: 'it is in the query and in the form' })));
      const mayGoOn = async () => directory.mustAdmit(nameOf(await sessions.identify(caller.credential)));
      const content = confirmed(cargo.content, caller, mayGoOn);
      const whole = { ...asked, params: { ...asked.params, ...params }, cargo: { ...cargo, content } };
      return (await admit(gate, whole, caller)).answer;
    })
    .catch((error: unknown) => {
      throw error instanceof UpstreamUnreachableError && error.cause instanceof ApiError ? error.cause : error;
    })
    .finally(() => void source.return(undefined));
}

/**
 * The file, whose end PVE gets only if the caller may still go on, so that it does nothing for one who was cut off
 * meanwhile. A ticket that has only come of age was good when the upload began.
 */
async function* confirmed(
  content: AsyncIterable<Uint8Array>,
  { credential }: Caller,
  mayGoOn: () => Promise<void>,
): AsyncGenerator<Uint8Array> {
  yield* content;
  const ticket = credential.kind === 'ticket' ? parseTicket(credential.ticket) : null;
  if (ticket !== null && !withinLifetime(ticket.madeAt, Date.now() / 1000)) return;
  await mayGoOn().catch((error: unknown) => {
    if (error instanceof UnauthenticatedError) throw error;
  });
}

/** The bytes as they come; throws TooSlowError when none comes for so many seconds. A client who hangs up is too slow for ever. */
async function* atPace(source: AsyncIterator<Uint8Array>, idle: number): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const { value, done } = await within(source.next(), idle);
      if (done === true) return;
      yield value;
    }
  } finally {
    // Without waiting: it ends when the piece on its way has come.
    source.return?.().catch(() => {});
  }
}

async function within<T>(piece: Promise<T>, seconds: number): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TooSlowError(`nothing came for ${seconds} s`)), seconds * 1000);
  try {
    return await Promise.race([piece, late]);
  } catch (error) {
    throw error instanceof ApiError ? error : new TooSlowError('the client hung up', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Reads on for a moment after a refusal, then cuts the connection. */
function throwAway({ raw }: FastifyRequest): void {
  if (raw.complete || raw.destroyed) return;
  raw.resume();
  const timer = setTimeout(() => raw.socket.destroy(), patience);
  raw.once('close', () => clearTimeout(timer));
}
