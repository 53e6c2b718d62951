/** What a call comes with: its verb, its caller, its parameters. */

export type Verb = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** Who calls: a user, or a token of that user. */
export interface Caller {
  /** `user@realm`. */
  readonly user: string;
  /** `user@realm!id` when an API token was shown. */
  readonly token?: string;
}

/** The token id when there is one, else the user: what PVE calls authuser. */
export function authUser(caller: Caller): string {
  return caller.token ?? caller.user;
}

/** Parameters as they were sent: PVE asks for permission before it looks at their form. */
export type RawParameters = ReadonlyMap<string, unknown>;
