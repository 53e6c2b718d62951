/** What a request shows of its caller, and whether a browser was tricked into sending it. */

import type { IncomingHttpHeaders } from 'node:http';
import type { Sessions } from '../backends/sessions.ts';
import { ForbiddenError, UnauthenticatedError } from '../errors.ts';
import type { Credential } from '../pve/call.ts';
import { decoded, readCookies } from './cookies.ts';

/** The credential that PVE itself would use: the cookie's ticket, then a ticket in Authorization, then an API token; null when there is none. */
export function credentialOf(headers: IncomingHttpHeaders): Credential | null {
  const { authorization = '' } = headers;
  const ticket =
    readCookies(headers.cookie).PVEAuthCookie || decoded(/^PVEAuthCookie[= ]([^;]+)/.exec(authorization)?.[1] ?? '');
  const csrf = csrfHeader(headers);
  if (ticket) return { kind: 'ticket', ticket, ...(csrf === '' ? {} : { csrf }) };
  const token = /^PVEAPIToken[= ]([^;]+)/.exec(authorization)?.[1];
  return token === undefined ? null : { kind: 'token', token };
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
  const { PVEAuthCookie: ticket, CSRFPreventionToken: cookie } = readCookies(headers.cookie);
  if (!ticket) return;
  requireSameOrigin(headers, origins);
  const shown = csrfHeader(headers);
  if (shown === '' || shown !== cookie)
    throw new UnauthenticatedError(
      'Permission denied - invalid csrf token: the header CSRFPreventionToken must repeat the cookie of that name',
    );
  await sessions.verifyCsrf(ticket, shown);
}
