/** Every error that a caller may see. None of them knows HTTP: each surface says them in its own way. */

export type ErrorCode =
  | 'bad_request'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'too_large'
  | 'too_slow'
  | 'unknown_method'
  | 'conflict'
  | 'too_many_requests'
  | 'quota_exceeded'
  | 'usage_unknown'
  | 'not_ready'
  | 'not_supported'
  | 'upstream_unreachable'
  | 'upstream_broken'
  | 'upstream_deadline';

/** What is wrong with one field: its name and a sentence that gives the value and the remedy. */
export interface Fault {
  readonly field: string;
  readonly problem: string;
}

/** One resource, and which item of it where it is a list. */
export interface About {
  readonly resource: string;
  readonly item: string;
}

/** The base of all errors whose message is meant for the caller; `cause` is for the log alone. */
export abstract class ApiError extends Error {
  abstract readonly code: ErrorCode;
  /** What is wrong with which parameters of the call; none where it is not the parameters' fault. */
  faults: readonly Fault[];
  /** The resource that it is about, for those who know which parameters take of it. */
  about?: About;

  /** Faults say it all themselves, one after the other. */
  constructor(said: string | readonly Fault[], options?: ErrorOptions) {
    super(
      typeof said === 'string' ? said : said.map(({ field, problem }) => `${field}: ${problem}`).join('; '),
      options,
    );
    this.faults = typeof said === 'string' ? [] : said;
  }

  /** The same error, as the fault of these parameters. */
  at(...fields: readonly string[]): this {
    this.faults = fields.map((field) => ({ field, problem: this.message }));
    return this;
  }

  /** The same error, about a resource. */
  of({ resource, item }: About): this {
    this.about = { resource, item };
    return this;
  }
}

/** The input is not what it must be; every fault at once. */
export class BadRequestError extends ApiError {
  override readonly name = 'BadRequestError';
  override readonly code = 'bad_request';

  constructor(faults: readonly Fault[] | Fault) {
    super([faults].flat());
  }
}

/** Nobody is signed in, or what they show is not (or no longer) accepted. */
export class UnauthenticatedError extends ApiError {
  override readonly name = 'UnauthenticatedError';
  override readonly code = 'unauthenticated';
}

/** The caller is known and may not do this. */
export class ForbiddenError extends ApiError {
  override readonly name = 'ForbiddenError';
  override readonly code = 'forbidden';
}

/** No such route, instance, disk, ... */
export class NotFoundError extends ApiError {
  override readonly name = 'NotFoundError';
  override readonly code = 'not_found';
}

/** PVE has no such method, as far as this server knows. */
export class UnknownMethodError extends ApiError {
  override readonly name = 'UnknownMethodError';
  override readonly code = 'unknown_method';
}

/** What was sent is longer than this server takes. */
export class TooLargeError extends ApiError {
  override readonly name = 'TooLargeError';
  override readonly code = 'too_large';
}

/** What was announced did not come in time. */
export class TooSlowError extends ApiError {
  override readonly name = 'TooSlowError';
  override readonly code = 'too_slow';
}

/** It is there already, or another change of the same instance is under way. */
export class ConflictError extends ApiError {
  override readonly name = 'ConflictError';
  override readonly code = 'conflict';
}

/** Too many attempts; `retryAfter` in seconds. */
export class TooManyRequestsError extends ApiError {
  override readonly name = 'TooManyRequestsError';
  override readonly code = 'too_many_requests';
  readonly retryAfter: number;

  constructor(message: string, retryAfter: number) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

/** One limit that a change would break. Amounts are in base units (bytes, cores, bytes per second, pieces). */
export interface Overrun extends About {
  readonly payer: string;
  /** `global`, or the node whose own limit it is. */
  readonly scope: string;
  /** How much more the change takes. */
  readonly requested: number;
  /** What is held by instances as last seen. */
  readonly used: number;
  /** What open reservations hold beyond `used`. */
  readonly reserved: number;
  readonly limit: number;
  /** `limit - used - reserved`, never below 0. */
  readonly available: number;
  /** The sentence for the user, in human units. */
  readonly sentence: string;
}

/** The change would break these limits; nothing is held. */
export class QuotaExceededError extends ApiError {
  override readonly name = 'QuotaExceededError';
  override readonly code = 'quota_exceeded';
  readonly overruns: readonly Overrun[];

  /** `causes`: the parameters of the call that take so much. */
  constructor(overruns: readonly Overrun[], causes: (overrun: Overrun) => readonly string[] = () => []) {
    super(`Quota exceeded: ${overruns.map(({ sentence }) => sentence).join('; ')}`);
    this.overruns = overruns;
    this.faults = overruns.flatMap((overrun) => causes(overrun).map((field) => ({ field, problem: overrun.sentence })));
  }
}

/** Growth is refused because what is held now cannot be told; the message names vmid and resource, and `about` the latter. */
export class UsageUnknownError extends ApiError {
  override readonly name = 'UsageUnknownError';
  override readonly code = 'usage_unknown';
}

/** The server cannot decide yet; try again after `retryAfter` seconds. */
export class NotReadyError extends ApiError {
  override readonly name = 'NotReadyError';
  override readonly code = 'not_ready';
  readonly retryAfter: number;

  constructor(message: string, retryAfter: number) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

/** A thing that this server, or the configured backend, does not do. */
export class NotSupportedError extends ApiError {
  override readonly name = 'NotSupportedError';
  override readonly code = 'not_supported';
}

/** PVE could not be reached: not one byte of the call was sent, so nothing has happened there. */
export class UpstreamUnreachableError extends ApiError {
  override readonly name = 'UpstreamUnreachableError';
  override readonly code = 'upstream_unreachable';
}

/** PVE's answer was lost or made no sense: whether it acted is unknown. */
export class UpstreamBrokenError extends ApiError {
  override readonly name = 'UpstreamBrokenError';
  override readonly code = 'upstream_broken';
}

/** PVE did not answer in time: whether it acted is unknown. */
export class UpstreamDeadlineError extends ApiError {
  override readonly name = 'UpstreamDeadlineError';
  override readonly code = 'upstream_deadline';
}
