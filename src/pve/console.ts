/** Consoles: a call makes a ticket, and a WebSocket with that ticket has to reach the host that made it. */

import { z } from 'zod';
import { type Answer, type Call, succeeded } from './call.ts';

/** The longest frame that PVE takes, in bytes. */
const longestFrame = 131_072;

/** `limits.consoles`: what consoles may take of the server. */
export const consoleLimits = z
  .strictObject({
    total: z.int().min(0).default(256).describe('Consoles open at a time.'),
    perUser: z.int().min(0).default(16).describe('Consoles open at a time of one user.'),
    idle: z.number().positive().default(1800).describe('Seconds without a byte either way after which one is closed.'),
    frameBytes: z
      .int()
      .min(1024)
      .max(longestFrame)
      .default(longestFrame)
      .describe('Longest frame, either way; PVE takes none longer than 131072 bytes.'),
  })
  .prefault({})
  .describe('What consoles may take of the server.');

export type ConsoleLimits = z.output<typeof consoleLimits>;

/** PVE takes a ticket for 40 s; its clock may differ a little. */
const kept = 60_000;
const mostKept = 10_000;

/** Remembers for a minute which host made a console's ticket: its port is open on that host alone. */
export class ConsoleTickets<Host> {
  readonly #made = new Map<string, { readonly host: Host; readonly until: number }>();
  readonly #now: () => number;

  /** `now` in monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Takes in what a host answered; only tickets of consoles are kept. */
  note({ method, segments }: Pick<Call, 'method' | 'segments'>, answer: Answer, host: Host): void {
    if (method !== 'POST' || !proxies.has(segments.at(-1) ?? '') || !succeeded(answer)) return;
    const { ticket } = Object(answer.data);
    if (typeof ticket !== 'string') return;
    const now = this.#now();
    for (const [old, { until }] of this.#made) {
      if (until > now && this.#made.size < mostKept) break;
      this.#made.delete(old);
    }
    this.#made.set(bare(ticket), { host, until: now + kept });
  }

  /** The host that made the ticket; undefined when none did lately. */
  hostOf(ticket: string): Host | undefined {
    const made = this.#made.get(bare(ticket));
    return made !== undefined && made.until > this.#now() ? made.host : undefined;
  }
}

/** What PVE calls the methods that open a port for a WebSocket. */
const proxies: ReadonlySet<string> = new Set(['vncproxy', 'termproxy', 'vncshell']);

/** PVE takes a ticket also behind the password of the console and a colon. */
function bare(ticket: string): string {
  return ticket.slice(Math.max(0, ticket.indexOf('PVEVNC:')));
}

/** The subprotocol to ask PVE for: it insists on one, and speaks this whatever it is. */
export const subprotocol = 'binary';
