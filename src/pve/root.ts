/** PVE's root, whom some changes need: signed in when wanted, never kept longer than a ticket is good for. */

import { NotSupportedError, UpstreamBrokenError } from '../errors.ts';
import { type Credential, call, succeeded, type Upstream } from './call.ts';

/** Half of a ticket's life, in ms. */
const keptFor = 3600_000;

export interface RootAccount {
  readonly username: string;
  readonly password: { reveal(): string };
}

export class Root {
  readonly #upstream: Upstream;
  readonly #account: RootAccount | undefined;
  readonly #now: () => number;
  #kept: { readonly credential: Promise<Credential>; readonly until: number } | undefined;

  /** `now` in monotonic ms. */
  constructor(upstream: Upstream, account: RootAccount | undefined, now: () => number = () => performance.now()) {
    this.#upstream = upstream;
    this.#account = account;
    this.#now = now;
  }

  /** Root's ticket; throws NotSupportedError where no root account is configured, UpstreamBrokenError where PVE refuses it. */
  async credential(): Promise<Credential> {
    if (this.#kept === undefined || this.#now() > this.#kept.until) {
      this.#kept = { credential: this.#signIn(), until: this.#now() + keptFor };
    }
    try {
      return await this.#kept.credential;
    } catch (error) {
      this.#kept = undefined;
      throw error;
    }
  }

  async #signIn(): Promise<Credential> {
    if (this.#account === undefined) {
      throw new NotSupportedError(
        'PVE takes this from root alone: have the device mapped (Datacenter, Resource Mappings), or the root account configured',
      );
    }
    const { username, password } = this.#account;
    const answer = await this.#upstream.send(
      call('POST', '/access/ticket', [], { username, password: password.reveal() }),
      { kind: 'none' },
    );
    const { ticket, CSRFPreventionToken: csrf } = Object(answer.data) as Record<string, unknown>;
    if (!succeeded(answer) || typeof ticket !== 'string' || typeof csrf !== 'string') {
      throw new UpstreamBrokenError(
        `PVE does not sign the configured root account in: ${answer.status} ${answer.reason}`,
      );
    }
    return { kind: 'ticket', ticket, csrf };
  }
}
