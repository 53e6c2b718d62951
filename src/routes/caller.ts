/** What a request shows of its caller, and whether a browser was tricked into sending it. */

import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyRequest } from 'fastify';
import type { Caller } from '../admission/gate.ts';
import { parseUserName, type UserId, type UserName } from '../backends/backend.ts';
import type { Sessions } from '../backends/sessions.ts';
import { ForbiddenError, UnauthenticatedError } from '../errors.ts';
import type { Credential } from '../pve/call.ts';
import { decoded, readCookies } from './cookies.ts';
import type { Rooms } from './rooms.ts';
import { networkOf } from './sign-in-limit.ts';

/** What a request says of who sends it. */
export type Sender = Pick<FastifyRequest, 'method' | 'headers' | 'ip'>;

/** The rooms that know users. */
type Registry = Pick<Rooms, 'sessions' | 'directory' | 'load'>;

/** The credential that PVE itself would use: the cookie's ticket, then a ticket in Authorization, then an API token; null when there is none. */
export function credentialOf({ cookie, authorization, csrfpreventiontoken }: IncomingHttpHeaders): Credential | null {
  const ticket = decoded(ticketIn(cookie) || ticketIn(authorization));
  const csrf = csrfHeader({ csrfpreventiontoken });
  if (ticket !== '') return { kind: 'ticket', ticket, ...(csrf === '' ? {} : { csrf }) };
  const token = shownIn(authorization, /(?:^|\s)PVEAPIToken[= ]([^;]*)/);
  return token === '' ? null : { kind: 'token', token };
}

function ticketIn(header: string | undefined): string {
  return shownIn(header, /(?:^|\s)PVEAuthCookie[= ]([^;]*)/);
}

/** PVE looks at the first of a kind, where the header begins or after white space, and takes a blank for the first `=`. */
function shownIn(header = '', form: RegExp): string {
  return form.exec(header)?.[1] ?? '';
}

/** Scripts that copy the cookie into the header may leave it percent-encoded; the token itself contains no `%`. What no header can carry is none. */
function csrfHeader(headers: IncomingHttpHeaders): string {
  const text = decoded(String(headers.csrfpreventiontoken ?? ''));
  return /^[\x21-\x7e]*$/.test(text) ? text : '';
}

/** The origins whose pages may make changes, besides the one that the request itself was sent to. */
export interface Origins {
  /** Host of the dashboard, with its port where that is not the default. */
  readonly hostname?: string;
  /** Exact origins, such as `https://dashboard.example.org`. */
  readonly corsOrigins: readonly string[];
}

/** Throws ForbiddenError when the browser says that the request comes from a page of another site; clients that say nothing pass. */
export function requireSameOrigin(headers: IncomingHttpHeaders, { hostname, corsOrigins }: Origins): void {
  const { origin, host } = headers;
  const site = headers['sec-fetch-site'];
  if (site === 'same-origin' || (origin !== undefined && corsOrigins.includes(origin))) return;
  const from = origin === undefined ? undefined : (URL.parse(origin)?.host ?? '');
  const foreign = from !== undefined && (from === '' || (from !== host && from !== hostname));
  if (foreign || (site !== undefined && site !== 'none')) {
    throw new ForbiddenError(
      `Requests from ${origin ?? 'another site'} are not allowed; its origin would have to be in application.corsOrigins`,
    );
  }
}

/**
 * Passes a changing request only when no foreign page can have sent it: with a ticket in a cookie it must also
 * show that cookie's CSRF token in the header, one that PVE itself accepts for the user.
 */
export async function requireCsrf(
  headers: IncomingHttpHeaders,
  sessions: Pick<Sessions, 'verifyCsrf'>,
  origins: Origins,
): Promise<void> {
  const ticket = decoded(ticketIn(headers.cookie));
  if (ticket === '') return;
  const { CSRFPreventionToken: cookie } = readCookies(headers.cookie);
  requireSameOrigin(headers, origins);
  const shown = csrfHeader(headers);
  if (shown === '' || shown !== cookie)
    throw new UnauthenticatedError(
      'Permission denied - invalid csrf token: the header CSRFPreventionToken must repeat the cookie of that name',
    );
  await sessions.verifyCsrf(ticket, shown);
}

/** The user whom PVE takes the sender of a request for by this credential; it counts as theirs from now on. Throws ApiError. */
async function userOf(
  credential: Credential,
  sender: Sender,
  { sessions, load }: Pick<Registry, 'sessions' | 'load'>,
): Promise<UserId> {
  const user = await sessions.identify(credential, networkOf(sender.ip));
  load.claim(sender, user);
  return user;
}

/** The caller whom PVE takes the sender of a request for by this credential, with what their record grants now; throws UnauthenticatedError. */
export async function callerWith(credential: Credential, sender: Sender, rooms: Registry): Promise<Caller> {
  return callerNamed(await userOf(credential, sender, rooms), credential, rooms, sender.ip);
}

/** The name of a signed-in user in its parts. */
export function nameOf(user: string): UserName {
  const name = parseUserName(user);
  if (name === null) throw new UnauthenticatedError('Sign in: the ticket names no user');
  return name;
}

/** The caller of that name, with what their record grants now. Throws UnauthenticatedError for one who is disabled or gone. */
export async function callerNamed(
  user: UserId,
  credential: Credential,
  { directory }: Pick<Rooms, 'directory'>,
  address: string,
): Promise<Caller> {
  return { user, credential, record: await directory.admit(nameOf(user)), address };
}

/** Whom PVE takes the sender of a request for, and by what; throws UnauthenticatedError in PVE's words. */
export async function signedInAsPve(
  sender: Sender,
  rooms: Pick<Registry, 'sessions' | 'load'>,
): Promise<{ readonly user: UserId; readonly credential: Credential }> {
  const credential = credentialOf(sender.headers);
  if (credential === null) throw new UnauthenticatedError('No ticket');
  try {
    return { user: await userOf(credential, sender, rooms), credential };
  } catch (error) {
    throw error instanceof UnauthenticatedError
      ? new UnauthenticatedError('Authentication failed!', { cause: error })
      : error;
  }
}

/**
 * Who sends a request to PVE's own API, by PVE's rules and in its words: a change with a ticket, wherever it is shown,
 * needs a CSRF token that PVE accepts, and no page of another site may have sent it. Throws UnauthenticatedError or ForbiddenError.
 */
export async function identifyAsPve(sender: Sender, rooms: Registry, origins: Origins): Promise<Caller> {
  const { method, headers, ip } = sender;
  const { user, credential } = await signedInAsPve(sender, rooms);
  const caller = await callerNamed(user, credential, rooms, ip);
  if (method !== 'GET' && credential.kind === 'ticket') {
    requireSameOrigin(headers, origins);
    await rooms.sessions.verifyCsrf(credential.ticket, credential.csrf ?? '');
  }
  return caller;
}
