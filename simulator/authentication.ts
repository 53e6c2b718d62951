/** Who sends a request: PVE looks at the cookie, then at a ticket in Authorization, then at an API token. */

import type { IncomingHttpHeaders } from 'node:http';
import type { Access } from './access.ts';
import type { Caller } from './call.ts';
import { HttpRefusal } from './pve-error.ts';
import { percentDecode } from './reading.ts';

export interface Identity {
  /** Absent where no login is asked for. */
  readonly caller?: Caller;
  /** An API token came with the request, whether or not it was needed. */
  readonly hasToken: boolean;
  /** A multipart body is expected. */
  readonly isUpload: boolean;
}

// Only at the start or after white space, so `x;PVEAuthCookie=` is not seen; a blank may stand for the first `=`.
const shownTicket = /(?:^|\s)PVEAuthCookie[= ]([^;]*)/;
const shownToken = /(?:^|\s)PVEAPIToken[= ]([^;]*)/;
const withoutLogin = new Set([
  'GET /access/domains',
  'GET /access/ticket',
  'POST /access/ticket',
  'POST /access/vncticket',
]);

/** Throws the 401 that PVE sends; the path is decoded but not otherwise tidied, as PVE compares it here. */
export function authenticate(access: Access, method: string, path: string, headers: IncomingHttpHeaders): Identity {
  const ticket = credential(headers.cookie, shownTicket) ?? credential(headers.authorization, shownTicket);
  const token = ticket === undefined ? credential(headers.authorization, shownToken) : undefined;
  const hasToken = token !== undefined;
  if (withoutLogin.has(`${method} ${path}`)) return { hasToken, isUpload: false };
  if (token !== undefined) return { caller: callerOfToken(access, token), hasToken, isUpload: isUpload(method, path) };
  if (ticket === undefined) throw new HttpRefusal(401, 'No ticket');

  const user = access.tickets.verify(ticket, access.seconds);
  if (user === undefined || !access.isActive(user)) throw new HttpRefusal(401, 'Authentication failed!');
  const csrf = String(headers.csrfpreventiontoken ?? '');
  // A form that uploads a file cannot send headers, so PVE asks nothing of it.
  const needsCsrf = method !== 'GET' && !isUpload(method, path);
  if (needsCsrf && !access.tickets.verifyCsrf(csrf, user, access.seconds)) {
    throw new HttpRefusal(401, 'Permission denied - invalid csrf token');
  }
  return { caller: { user }, hasToken, isUpload: isUpload(method, path) };
}

function credential(header: string | undefined, shown: RegExp): string | undefined {
  const value = shown.exec(header ?? '')?.[1];
  return value ? percentDecode(value) : undefined;
}

function callerOfToken(access: Access, shown: string): Caller {
  const at = shown.lastIndexOf('=');
  const caller = access.callerOfToken(shown.slice(0, Math.max(at, 0)), shown.slice(at + 1));
  if (caller === undefined) throw new HttpRefusal(401, 'Authentication failed!');
  return caller;
}

function isUpload(method: string, path: string): boolean {
  return method === 'POST' && /^\/nodes\/[^/]+\/storage\/[^/]+\/upload$/.test(path);
}
