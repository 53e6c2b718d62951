/** How errors leave the server, whichever surface says them. */

import { ApiError, type ErrorCode } from '../errors.ts';

/** The HTTP status of each error. */
const statusOf = {
  bad_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  quota_exceeded: 403,
  usage_unknown: 403,
  not_found: 404,
  unknown_method: 404,
  too_slow: 408,
  conflict: 409,
  too_large: 413,
  too_many_requests: 429,
  not_supported: 501,
  upstream_broken: 502,
  not_ready: 503,
  upstream_unreachable: 503,
  upstream_deadline: 504,
} as const satisfies Record<ErrorCode, number>;

/** What a caller is told of an error. */
export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The refusal for any error: an error of ours and one of HTTP itself speaks for itself, any other is a 500 without detail. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof ApiError) {
    const wait =
      'retryAfter' in error && typeof error.retryAfter === 'number'
        ? Math.max(1, Math.ceil(error.retryAfter))
        : undefined;
    return {
      status: statusOf[error.code],
      message: error.message,
      headers: wait === undefined ? {} : { 'retry-after': String(wait) },
    };
  }
  const status =
    error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : 500;
  if (status >= 400 && status < 500) return { status, message: (error as Error).message, headers: {} };
  return { status: 500, message: 'Internal error; the log of the server says more', headers: {} };
}

/** How loudly an error is logged: what is ours as an error, what PVE or a backend lost as a warning. Refusals are between us and the caller, who could fill a disk with them. */
export function logLevelOf(error: unknown): 'error' | 'warn' | undefined {
  if (error instanceof ApiError) return error.code.startsWith('upstream_') ? 'warn' : undefined;
  return refusalOf(error).status === 500 ? 'error' : undefined;
}

/**
 * The text as a reason phrase: printable ASCII of at most 300 bytes, umlauts without their dots, other letters as `?`.
 * (A character above 0xFF in a status line throws inside Node.)
 */
export function reasonPhrase(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/\s+/gu, ' ')
    .replace(/[^\x20-\x7e]/gu, '?')
    .trim()
    .slice(0, 300);
}

/** The text for dashboards, which insert it as HTML. */
export function plainText(text: string): string {
  return text.replaceAll('<', '&lt;');
}
