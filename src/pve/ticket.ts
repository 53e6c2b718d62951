/** The form and age of PVE's tickets, CSRF tokens and API tokens. Only PVE can say whether they are genuine. */

import type { Credential } from './call.ts';

/** PVE accepts what it made up to this many seconds ago, and up to `ahead` seconds in its future. */
export const lifetime = { seconds: 7200, ahead: 300 } as const;

/** Who a ticket names, and when it was made, in seconds since 1970. */
export interface TicketText {
  readonly user: string;
  readonly madeAt: number;
}

/** No key of PVE signs with more; on headers of 8 KiB it hangs up, seconds later and without a word. */
const base64 = '[A-Za-z0-9+/]{1,1400}={0,2}';
const ticketForm = new RegExp(`^PVE:(?<user>[^!:\\s][^:\\s]{0,127}):(?<time>[0-9A-Fa-f]{8})::${base64}$`);
const csrfForm = new RegExp(`^(?<time>[0-9A-Fa-f]{8}):${base64}$`);

/** What a login ticket says; null for any other text, the half ticket of a pending second factor included. */
export function parseTicket(text: string): TicketText | null {
  const { user = '', time = '' } = ticketForm.exec(text)?.groups ?? {};
  return user === '' ? null : { user, madeAt: Number.parseInt(time, 16) };
}

/** When a CSRF token was made, in seconds since 1970; null when the text is none. */
export function parseCsrfToken(text: string): number | null {
  const time = csrfForm.exec(text)?.groups?.time;
  return time === undefined ? null : Number.parseInt(time, 16);
}

/** The user of an API token (`user@realm!tokenid=secret`, percent-encoded or not); null when the text is none. */
export function parseApiToken(text: string): string | null {
  if (!/^[\x21-\x7e]{1,512}$/.test(text)) return null;
  try {
    // PVE takes what follows the last `=` for the secret.
    return /^([^!\s]+)![A-Za-z][A-Za-z0-9.\-_]+=[^=\s]+$/.exec(decodeURIComponent(text))?.[1] ?? null;
  } catch {
    return null;
  }
}

/** Whose a call is, as its credential says whether or not that is so; '' for nobody's, undefined for the server's own. */
export function partyOf(as: Credential): string | undefined {
  if (as.kind === 'ticket') return parseTicket(as.ticket)?.user ?? '';
  if (as.kind === 'token') return parseApiToken(as.token) ?? '';
  return as.kind === 'none' ? '' : as.for;
}

/** Whether PVE can still accept what was made at `madeAt`, both in seconds; `slack` allows for clocks that differ. */
export function withinLifetime(madeAt: number, now: number, slack = 0): boolean {
  const age = now - madeAt;
  return age > -lifetime.ahead - slack && age < lifetime.seconds + slack;
}
