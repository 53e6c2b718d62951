/** How answers and refusals look to a PVE client: the sentence in the status line, in `message`, and by parameter in `errors`. */

import { STATUS_CODES } from 'node:http';
import type { FastifyReply } from 'fastify';
import { ApiError, BadRequestError, UnauthenticatedError, UnknownMethodError } from '../../errors.ts';
import { type Answer, succeeded } from '../../pve/call.ts';
import { reasonPhrase, refusalOf } from '../edge.ts';
import type { Format } from './reading.ts';

/** An answer as it goes out. `body` is null where PVE sends a status line alone. */
export interface Spoken {
  readonly status: number;
  readonly reason: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, unknown>> | null;
}

/** PVE's answer in a format, its status from 400 to 599 unchanged; what no client expects of PVE is a bad gateway. */
export function spokenAnswer(format: Format, answer: Answer): Spoken {
  const { data = null, extra } = answer;
  if (succeeded(answer)) return success(format, { data, ...extra });
  const status = answer.status >= 400 && answer.status <= 599 ? answer.status : 502;
  const reason = answer.reason || (STATUS_CODES[status] ?? 'unknown');
  return failure(format, { status, reason, headers: {}, data, more: { ...extra, ...errorsIn(answer.errors) } });
}

/** Any error in a format. That nobody is signed in is said by a status line alone, as PVE says it before it looks at the call. */
export function spokenError(format: Format, error: unknown): Spoken {
  const { status, message, headers } = refusalOf(error);
  if (error instanceof UnauthenticatedError) return { status, reason: message, headers, body: null };
  const reason = error instanceof BadRequestError ? `Parameter verification failed. ${message}` : message;
  const more = errorsIn(error instanceof ApiError ? joined(error.faults) : {});
  const told = error instanceof UnknownMethodError ? 501 : status;
  return failure(format, { status: told, reason, headers, data: null, more });
}

/** Sends an answer with the headers that PVE sends; our own name stands in for its. */
export function say(reply: FastifyReply, { status, reason, headers, body }: Spoken): FastifyReply {
  reply.raw.statusMessage = reasonPhrase(reason);
  reply.code(status).headers({ ...headers, ...ofEveryAnswer(), ...(body === null ? {} : json) });
  return body === null ? reply.send() : reply.send(JSON.stringify(body));
}

const json = { 'content-type': 'application/json;charset=UTF-8' };

let present = { second: 0, headers: {} as Readonly<Record<string, string>>, lines: [] as readonly string[] };

/** The headers that PVE puts on all its answers, made anew each second. */
export function ofEveryAnswer(): Readonly<Record<string, string>> {
  return ofNow().headers;
}

/** The same as names and values in turn, with what every answer of this server has. */
export function linesOfEveryAnswer(): readonly string[] {
  return ofNow().lines;
}

function ofNow(): typeof present {
  const now = Date.now();
  const second = Math.floor(now / 1000);
  if (present.second !== second) {
    const expires = new Date(now).toUTCString();
    const headers = { 'cache-control': 'max-age=0', pragma: 'no-cache', expires, server: 'pve-quota-proxy' };
    const lines = [...Object.entries(headers), ['x-content-type-options', 'nosniff']].flat();
    present = { second, headers, lines };
  }
  return present;
}

function success(format: Format, body: Readonly<Record<string, unknown>>): Spoken {
  return { status: 200, reason: 'OK', headers: {}, body: format === 'json' ? body : { ...body, success: 1 } };
}

interface Failure extends Omit<Spoken, 'body'> {
  readonly data: unknown;
  readonly more: Readonly<Record<string, unknown>>;
}

/** In extjs a failure of the method is a success of HTTP; one between the daemons stays what it is. */
function failure(format: Format, { status, reason, headers, data, more }: Failure): Spoken {
  const body = { data, message: `${reason}\n`, ...more };
  if (format === 'json' || status >= 595) return { status, reason, headers, body };
  return { status: 200, reason: 'OK', headers, body: { ...body, status, success: 0 } };
}

function errorsIn(errors: Readonly<Record<string, string>> | undefined): Readonly<Record<string, unknown>> {
  return errors === undefined || Object.keys(errors).length === 0 ? {} : { errors };
}

/** What is wrong with each field, in one text. */
function joined(faults: readonly { readonly field: string; readonly problem: string }[]): Record<string, string> {
  const byField = Map.groupBy(faults, ({ field }) => field);
  return Object.fromEntries([...byField].map(([field, of]) => [field, of.map(({ problem }) => problem).join('; ')]));
}
