/** The servers of an LDAP directory as one: connections are kept, and another server is taken when one fails. */

import { Client, type Filter, ResultCodeError, type SearchOptions } from 'ldapts';
import type { BaseLogger } from 'pino';
import { NotReadyError, UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../errors.ts';
import { Slots } from '../pve/slots.ts';
import { type Entry, entryOf, withMore } from './ldap-entries.ts';
import { cookieIn, PageControl } from './ldap-pages.ts';
import { ConnectError, type LdapStream, openStream } from './ldap-stream.ts';

/** Whom a connection is bound as. */
export interface Account {
  readonly dn: string;
  readonly password: string;
}

export interface ServersOptions {
  readonly urls: readonly string[];
  readonly starttls: boolean;
  readonly authorities: readonly string[];
  readonly connections: number;
  /** Entries in a page. */
  readonly page: number;
  /** Seconds. */
  readonly deadline: number;
  /** Bytes. */
  readonly maxAnswer: number;
  readonly log: Pick<BaseLogger, 'warn'>;
}

export interface Search {
  /** The search is among what is below it, and itself. */
  readonly base: string;
  readonly filter: Filter;
  readonly attributes: readonly string[];
}

/** Milliseconds in which a connection must be made, and bound. */
const connectWithin = 3000;

/** Milliseconds for which a server that failed is tried after the others. */
const avoidedFor = 30_000;

/** Milliseconds after which a connection that nobody uses is closed: firewalls forget such, and tell nobody. */
const idleFor = 30_000;

/** Pages that a search may have. */
const mostPages = 5000;

/** Questions and sign-ins that may wait for their turn. */
const queue = 256;

/** LDAP's results by which a server says that another one should be asked: busy, unavailable. */
const elsewhere: ReadonlySet<number> = new Set([51, 52]);

/** A bound connection to one server, used for one question at a time. */
export class LdapConnection {
  readonly url: string;
  readonly #client: Client;
  readonly #stream: LdapStream;
  readonly #options: ServersOptions;
  #idle: NodeJS.Timeout | undefined;

  constructor(url: string, stream: LdapStream, options: ServersOptions) {
    this.url = url;
    this.#stream = stream;
    this.#options = options;
    // ldapts would open another connection in place of one that has ended, and go on without having bound.
    this.#client = new Client({ url: 'ldap://server', createConnection: () => stream as never });
  }

  get open(): boolean {
    return !this.#stream.destroyed;
  }

  /** Throws ResultCodeError when the server refuses. A bind without a password would succeed as nobody's, and is never sent. */
  async bind({ dn, password }: Account): Promise<void> {
    if (dn === '' || password === '') throw new TypeError('a bind needs a name and a password');
    const within = Math.min(connectWithin, this.#options.deadline * 1000);
    await this.ask('the bind', (client) => client.bind(dn, password), within);
  }

  /**
   * Has ldapts do something. Throws ResultCodeError when the server refuses; when it is silent UpstreamDeadlineError,
   * and on anything else UpstreamBrokenError, after which the connection is closed.
   */
  async ask<T>(
    what: string,
    operation: (client: Client) => Promise<T>,
    milliseconds = this.#options.deadline * 1000,
  ): Promise<T> {
    if (!this.open) throw new UpstreamBrokenError(`The connection to ${this.url} has ended`);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#stream.destroy();
    }, milliseconds);
    try {
      return await operation(this.#client);
    } catch (error) {
      if (error instanceof ResultCodeError) throw error;
      const why = (this.#stream.errored ?? (error as Error)).message.split('\n')[0];
      this.close();
      if (late) throw new UpstreamDeadlineError(`${this.url} did not answer ${what} in time`, { cause: error });
      throw new UpstreamBrokenError(`${this.url} was sent ${what}, but its answer was lost: ${why}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  /** All entries that a search finds, page by page and with all their values; references to other servers are not followed. */
  async search({ base, filter, attributes }: Search): Promise<readonly Entry[]> {
    const options: SearchOptions = { scope: 'sub', filter, attributes: [...attributes], derefAliases: 'never' };
    const found: Entry[] = [];
    try {
      for (let pages = 0, cookie: Buffer = Buffer.alloc(0); pages === 0 || cookie.length > 0; pages += 1) {
        if (pages === mostPages)
          throw new UpstreamBrokenError(`${this.url} gives one page after another without an end`);
        const control = new PageControl(this.#options.page, cookie);
        cookie = await this.ask('a search', async (client) => {
          const { searchEntries } = await client.search(base, options, control);
          found.push(...searchEntries.map(entryOf));
          return cookieIn(this.#stream.last);
        });
      }
      const completed: Entry[] = [];
      for (const entry of found) completed.push(entry.more.size === 0 ? entry : await this.#completed(entry));
      return completed;
    } catch (error) {
      if (!(error instanceof ResultCodeError)) throw error;
      throw new UpstreamBrokenError(`${this.url} refuses to search ${base}: ${wordsOf(error)}`, { cause: error });
    }
  }

  /** The entry with the values that were left out because there are so many. */
  async #completed(entry: Entry): Promise<Entry> {
    let whole = entry;
    for (let [next] = entry.more; next !== undefined; [next] = whole.more) {
      const [name, from] = next;
      const { searchEntries } = await this.ask('a search', (client) =>
        client.search(entry.dn, { scope: 'base', attributes: [`${name};range=${from}-*`] }),
      );
      const rest = searchEntries.map(entryOf)[0];
      if (rest === undefined) throw new UpstreamBrokenError(`${this.url} shows no more than a part of ${entry.dn}`);
      const others = [...whole.more].filter(([attribute]) => attribute !== name);
      whole = withMore(whole, name, { ...rest, more: new Map([...others, ...rest.more]) });
    }
    return whole;
  }

  /** Has `ended` called once, when the connection ends or nobody has used it for a while. */
  rest(ended: () => void): void {
    this.#idle = setTimeout(() => this.close(), idleFor).unref();
    this.#stream.once('close', ended);
  }

  /** Takes back what was asked of `rest`. */
  wake(ended: () => void): void {
    clearTimeout(this.#idle);
    this.#stream.off('close', ended);
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#stream.destroy();
  }
}

interface Kept {
  readonly connection: LdapConnection;
  readonly ended: () => void;
}

/** Servers with the same content. Reads share connections bound as one account; everything else has one of its own. */
export class LdapServers {
  readonly #options: ServersOptions;
  readonly #account: Account | undefined;
  readonly #reads: Slots;
  readonly #others: Slots;
  readonly #now: () => number;
  /** Servers that failed, until when they are avoided. */
  readonly #failed = new Map<string, number>();
  #idle: readonly Kept[] = [];
  #closed = false;

  constructor(options: ServersOptions, account: Account | undefined, now: () => number = () => performance.now()) {
    this.#options = options;
    this.#account = account;
    this.#reads = new Slots(options.connections, queue);
    this.#others = new Slots(options.connections, queue);
    this.#now = now;
  }

  /** Runs questions as the account, once more on a new connection when the server had ended the one that was kept, or takes no more. */
  read<T>(work: (connection: LdapConnection) => Promise<T>): Promise<T> {
    return inTurn(this.#reads, async () => {
      const kept = this.#takeUp();
      if (kept !== undefined) {
        try {
          return await this.#use(kept, work);
        } catch (error) {
          if (kept.open || !(error instanceof UpstreamBrokenError)) throw error;
        }
      }
      return this.#use(await this.#connectAsAccount(), work);
    });
  }

  /** Runs changes as the account, on a connection of their own, and never twice. */
  write<T>(work: (connection: LdapConnection) => Promise<T>): Promise<T> {
    return inTurn(this.#others, async () => closing(await this.#connectAsAccount(), work));
  }

  /** Runs something as somebody else; throws ResultCodeError when no server accepts the name with the password. */
  as<T>(account: Account, work: (connection: LdapConnection) => Promise<T>): Promise<T> {
    return inTurn(this.#others, async () => closing(await this.#connect(account), work));
  }

  close(): void {
    this.#closed = true;
    for (const { connection } of this.#idle) connection.close();
  }

  #takeUp(): LdapConnection | undefined {
    const latest = this.#idle.at(-1);
    this.#idle = this.#idle.slice(0, -1);
    latest?.connection.wake(latest.ended);
    return latest?.connection;
  }

  async #use<T>(connection: LdapConnection, work: (connection: LdapConnection) => Promise<T>): Promise<T> {
    try {
      return await work(connection);
    } catch (error) {
      const isLeaving = error instanceof UpstreamBrokenError && sendsElsewhere(error.cause);
      if (isLeaving) connection.close();
      if (isLeaving || error instanceof UpstreamDeadlineError) this.#avoid(connection.url, error);
      throw error;
    } finally {
      if (this.#closed) connection.close();
      if (connection.open) this.#keep(connection);
    }
  }

  #keep(connection: LdapConnection): void {
    const ended = (): void => {
      this.#idle = this.#idle.filter((kept) => kept.connection !== connection);
    };
    connection.rest(ended);
    this.#idle = [...this.#idle, { connection, ended }];
  }

  /** Has the others tried first for a while, and gives up what is left of the connections to it. */
  #avoid(url: string, problem: Error): void {
    const now = this.#now();
    if ((this.#failed.get(url) ?? 0) <= now) this.#options.log.warn({ err: problem, url }, 'an LDAP server failed');
    this.#failed.set(url, now + avoidedFor);
    for (const { connection } of this.#idle) if (connection.url === url) connection.close();
  }

  async #connectAsAccount(): Promise<LdapConnection> {
    if (this.#account === undefined) throw new TypeError('there is no account to read with');
    try {
      return await this.#connect(this.#account);
    } catch (error) {
      if (!(error instanceof ResultCodeError)) throw error;
      throw new UpstreamBrokenError(
        `The account ${this.#account.dn} of "bind" is refused: ${wordsOf(error)}. Check its name and password.`,
        { cause: error },
      );
    }
  }

  /** A bound connection to the first server that gives one. */
  async #connect(account: Account): Promise<LdapConnection> {
    const now = this.#now();
    const isAvoided = (url: string) => (this.#failed.get(url) ?? 0) > now;
    const problems: Error[] = [];
    for (const url of this.#options.urls.toSorted((a, b) => Number(isAvoided(a)) - Number(isAvoided(b)))) {
      try {
        const connection = await this.#bound(url, account);
        this.#failed.delete(url);
        return connection;
      } catch (error) {
        if (error instanceof ResultCodeError && !sendsElsewhere(error)) throw error;
        const problem = problemOf(url, error);
        problems.push(problem);
        this.#avoid(url, problem);
      }
    }
    throw joined(problems);
  }

  async #bound(url: string, account: Account): Promise<LdapConnection> {
    const signal = AbortSignal.timeout(Math.min(connectWithin, this.#options.deadline * 1000));
    const connection = new LdapConnection(url, await openStream(url, { ...this.#options, signal }), this.#options);
    try {
      await connection.bind(account);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }
}

function sendsElsewhere(error: unknown): boolean {
  return error instanceof ResultCodeError && elsewhere.has(error.code);
}

/** The words of a refusal, without ldapts' number. */
export function wordsOf({ message, code }: ResultCodeError): string {
  const words = message.replace(/\s*Code: 0x[0-9a-f]+$/, '').replace(/\s+/g, ' ');
  return `${words.trim().slice(0, 300) || 'no reason given'} (result ${code})`;
}

async function closing<T>(connection: LdapConnection, work: (connection: LdapConnection) => Promise<T>): Promise<T> {
  try {
    return await work(connection);
  } finally {
    connection.close();
  }
}

async function inTurn<T>(slots: Slots, work: () => Promise<T>): Promise<T> {
  if (slots.full) throw new NotReadyError('Too many questions wait for the LDAP directory; try again in a moment', 2);
  return slots.run(work);
}

function problemOf(url: string, error: unknown): Error {
  if (error instanceof ConnectError) {
    const remedy = trust.test(codeOf(error.cause))
      ? 'Name its authority in "ca".'
      : 'Check that it runs and that "url" is right.';
    return new UpstreamUnreachableError(`${url} could not be reached (${error.message}). ${remedy}`, { cause: error });
  }
  if (error instanceof ResultCodeError)
    return new UpstreamUnreachableError(`${url} takes no questions: ${wordsOf(error)}`, { cause: error });
  return error as Error;
}

const trust = /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/;

function codeOf(error: unknown): string {
  return String((error as NodeJS.ErrnoException | undefined)?.code ?? '');
}

/** One error for all servers: of the kind of the first that was reached at all, else that none was. */
function joined(problems: readonly Error[]): Error {
  const [first = new UpstreamUnreachableError('There is no LDAP server'), ...others] = problems;
  if (others.length === 0) return first;
  const message = problems.map((problem) => problem.message).join(' ');
  const telling = problems.find((problem) => !(problem instanceof UpstreamUnreachableError));
  const cause = { cause: telling ?? first };
  if (telling === undefined) return new UpstreamUnreachableError(message, cause);
  return telling instanceof UpstreamDeadlineError
    ? new UpstreamDeadlineError(message, cause)
    : new UpstreamBrokenError(message, cause);
}
