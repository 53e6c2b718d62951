/** Who a caller is: PVE's word about exactly what the caller shows, remembered for a moment. */

import { hash, randomBytes } from 'node:crypto';
import { NotReadyError, UnauthenticatedError, UpstreamBrokenError } from '../errors.ts';
import { type Answer, type Credential, call, type Upstream } from '../pve/call.ts';
import { Slots } from '../pve/slots.ts';
import { lifetime, parseApiToken, parseCsrfToken, parseTicket, withinLifetime } from '../pve/ticket.ts';
import { formatUserName, parseUserName, type UserId } from './backend.ts';

export interface SessionsOptions {
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
  /** Verdicts kept of each kind. */
  readonly capacity?: number;
  /** Bounds how often strangers may be wrong. */
  readonly limit?: FailureLimit;
}

/** Counts an attempt of a user at an address as failed, or throws when there were too many; the function returned takes it back. */
export interface FailureLimit {
  attempt(user: string, address: string): () => void;
}

const boundless: FailureLimit = { attempt: () => () => {} };

/** Milliseconds for which PVE's word about a credential is believed. */
const believedFor = 5000;

/** Seconds by which our clock may differ from PVE's; what is further off is refused without asking, since PVE takes 3 s to refuse. */
const clockSlack = 300;

/** Questions to PVE at once, how many of them about one user or from one network, and how many may wait for that. */
const width = 8;
const share = 3;
const queue = 256;

/** The signed-in users. */
export class Sessions {
  readonly #upstream: Upstream;
  readonly #now: () => number;
  readonly #clock: () => number;
  readonly #users: Verdicts<UserId | null>;
  readonly #csrf: Verdicts<boolean>;
  readonly #limit: FailureLimit;
  /**
   * Made-up credentials keep PVE busy for seconds each; they must not stand in the way of those it knows, nor of strangers
   * from elsewhere.
   */
  readonly #strangers = new Slots(width, queue, share);
  readonly #familiar = new Slots(width, queue, share);

  constructor(
    upstream: Upstream,
    { now = () => performance.now(), clock = Date.now, capacity = 10_000, limit = boundless }: SessionsOptions = {},
  ) {
    this.#upstream = upstream;
    this.#now = now;
    this.#clock = clock;
    this.#users = new Verdicts(capacity, now);
    this.#csrf = new Verdicts(capacity, now);
    this.#limit = limit;
  }

  /**
   * The user whom PVE takes the holder of this credential for, asked at most 5 s ago; `network` is where it comes from.
   * Throws UnauthenticatedError when PVE refuses it, and the upstream's errors when PVE cannot be asked; of credentials that
   * are new, also what the limit throws.
   */
  async identify(credential: Credential, network?: string): Promise<UserId> {
    const named = this.#namedIn(credential);
    if (named === null) throw new UnauthenticatedError('Sign in: the ticket or API token is malformed or has expired');
    const user = await this.#users.about(keyOf(credential), async (before) => {
      const question = () => this.#upstream.send(call('GET', '/version'), withoutCsrf(credential));
      const counted = () => (before === undefined ? this.#counted(question, named, network) : question());
      const asked = this.#now();
      const answer = await (before
        ? inTurn(this.#familiar, question, named)
        : inTurn(this.#strangers, counted, network));
      if (answer.status === 200) return { value: named, until: asked + believedFor };
      if (answer.status === 401) return { value: null, until: this.#now() + believedFor };
      throw unexpected(answer);
    });
    if (user === null)
      throw new UnauthenticatedError('Sign in: PVE does not accept the ticket or API token, or the user is disabled');
    return user;
  }

  /** The user whom `identify` would name without asking PVE; undefined when it would ask, or refuse. */
  known(credential: Credential): UserId | undefined {
    return this.#namedIn(credential) === null ? undefined : (this.#users.inForce(keyOf(credential)) ?? undefined);
  }

  /**
   * Whether PVE accepts this CSRF token from the holder of this ticket, asked once for each pair during the token's life.
   * A token that PVE does not accept, or that no header can carry, gives UnauthenticatedError.
   */
  async verifyCsrf(ticket: string, csrf: string): Promise<void> {
    const user = parseTicket(ticket)?.user;
    const madeAt = parseCsrfToken(csrf);
    const now = this.#clock() / 1000;
    const plausible = user !== undefined && madeAt !== null && withinLifetime(madeAt, now, clockSlack);
    if (
      !plausible ||
      !(await this.#csrf.about(`${user}\n${csrf}`, () => this.#askAboutCsrf(ticket, csrf, madeAt - now)))
    ) {
      throw new UnauthenticatedError('Permission denied - invalid csrf token');
    }
  }

  /** Takes in a ticket that PVE has just given out, so that its holder need not queue with strangers. */
  welcome(ticket: string): void {
    const user = this.#namedIn({ kind: 'ticket', ticket });
    if (user !== null)
      this.#users.put(keyOf({ kind: 'ticket', ticket }), { value: user, until: this.#now() + believedFor });
  }

  /** Forgets what PVE said about a credential; it can be used again as long as PVE accepts it. */
  forget(credential: Credential): void {
    this.#users.forget(keyOf(credential));
  }

  /** PVE checks the token before it looks for the method, so a method that does not exist shows whether it is accepted, and does nothing. */
  async #askAboutCsrf(ticket: string, csrf: string, age: number): Promise<Verdict<boolean>> {
    const question = () => this.#upstream.send(call('PUT', '/version'), { kind: 'ticket', ticket, csrf });
    const answer = await inTurn(this.#familiar, question, parseTicket(ticket)?.user);
    if (answer.status === 501) return { value: true, until: this.#now() + 1000 * (age + lifetime.seconds) };
    if (answer.status === 401) return { value: false, until: this.#now() + believedFor };
    throw unexpected(answer);
  }

  #namedIn(credential: Credential): UserId | null {
    if (credential.kind === 'token') return canonical(parseApiToken(credential.token));
    const ticket = credential.kind === 'ticket' ? parseTicket(credential.ticket) : null;
    return ticket !== null && withinLifetime(ticket.madeAt, this.#clock() / 1000, clockSlack)
      ? canonical(ticket.user)
      : null;
  }

  /** Asks about a credential that nobody has shown before; one that PVE refuses counts against its network, once. */
  async #counted(question: () => Promise<Answer>, user: UserId, network: string | undefined): Promise<Answer> {
    const forgive = network === undefined ? () => {} : this.#limit.attempt(user, network);
    let isRefused = false;
    try {
      const answer = await question();
      isRefused = answer.status === 401;
      return answer;
    } finally {
      if (!isRefused) forgive();
    }
  }
}

function inTurn(slots: Slots, question: () => Promise<Answer>, party: string | undefined): Promise<Answer> {
  if (slots.isFullFor(party))
    throw new NotReadyError('Too many callers wait for PVE to confirm who they are; try again in a moment', 2);
  return slots.run(question, undefined, party);
}

function canonical(text: string | null): UserId | null {
  const name = text === null ? null : parseUserName(text);
  return name === null ? null : formatUserName(name);
}

function keyOf(credential: Credential): string {
  return `${credential.kind}\n${credential.kind === 'ticket' ? credential.ticket : credential.kind === 'token' ? credential.token : ''}`;
}

function withoutCsrf(credential: Credential): Credential {
  return credential.kind === 'ticket' ? { kind: 'ticket', ticket: credential.ticket } : credential;
}

function unexpected({ status, reason }: Answer): UpstreamBrokenError {
  return new UpstreamBrokenError(`PVE could not say who the caller is: it answered ${status} ${reason}`.trimEnd());
}

/** What was found out, and until when (monotonic milliseconds) it is believed. */
interface Verdict<T> {
  readonly value: T;
  readonly until: number;
}

interface Entry<T> {
  /** The verdict, or the question on its way. */
  readonly verdict: Promise<Verdict<T>>;
  last?: Verdict<T>;
}

/** Verdicts by a keyed hash of what they are about, so that no secret stays in memory; one question at a time about each. */
class Verdicts<T> {
  readonly #entries = new Map<string, Entry<T>>();
  readonly #key = randomBytes(32).toString('base64');
  readonly #capacity: number;
  readonly #now: () => number;

  constructor(capacity: number, now: () => number) {
    this.#capacity = capacity;
    this.#now = now;
  }

  /** The verdict in force, or a new one; `ask` is told what the last one was. */
  async about(subject: string, ask: (before: T | undefined) => Promise<Verdict<T>>): Promise<T> {
    const key = this.#keyFor(subject);
    const known = this.#entries.get(key);
    if (known !== undefined && (known.last === undefined || this.#now() < known.last.until))
      return (await known.verdict).value;
    const entry: Entry<T> = { verdict: ask(known?.last?.value) };
    this.#keep(key, entry);
    try {
      entry.last = await entry.verdict;
      return entry.last.value;
    } catch (error) {
      if (this.#entries.get(key) === entry) {
        this.#entries.delete(key);
        if (known !== undefined) this.#entries.set(key, known);
      }
      throw error;
    }
  }

  /** The verdict in force; undefined when there is none. */
  inForce(subject: string): T | undefined {
    const { last } = this.#entries.get(this.#keyFor(subject)) ?? {};
    return last !== undefined && this.#now() < last.until ? last.value : undefined;
  }

  /** Takes in a verdict that nobody had to be asked for. */
  put(subject: string, verdict: Verdict<T>): void {
    this.#keep(this.#keyFor(subject), { verdict: Promise.resolve(verdict), last: verdict });
  }

  forget(subject: string): void {
    this.#entries.delete(this.#keyFor(subject));
  }

  #keep(key: string, entry: Entry<T>): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size <= this.#capacity) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  /** A third of the time of an HMAC, on the way of every request; nobody sees a hash who could try to continue it. */
  #keyFor(subject: string): string {
    return hash('sha256', this.#key + subject, 'base64');
  }
}
