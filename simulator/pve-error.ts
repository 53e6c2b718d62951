/** How PVE refuses. */

/** A refusal as PVE words it: `reason` becomes the reason phrase. */
export class PveError extends Error {
  override readonly name = 'PveError';
  readonly status: number;
  readonly errors: Readonly<Record<string, string>> | undefined;

  constructor(status: number, reason: string, errors?: Readonly<Record<string, string>>) {
    super(reason);
    this.status = status;
    this.errors = errors;
  }
}

/** `400 Parameter verification failed.` with the faults by parameter. */
export function parameterError(errors: Readonly<Record<string, string>>): PveError {
  return new PveError(400, 'Parameter verification failed.', errors);
}

/** A refusal before any method is known: a status line and no body. */
export class HttpRefusal extends Error {
  override readonly name = 'HttpRefusal';
  readonly status: number;

  constructor(status: number, reason: string) {
    super(reason);
    this.status = status;
  }
}
