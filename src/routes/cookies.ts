/** The cookies of a session at the browser. */

import type { BackendCookie } from '../backends/backend.ts';

/** Scripts of the dashboards read these; all others are for the browser alone. */
const readable: ReadonlySet<string> = new Set(['CSRFPreventionToken', 'username', 'auth']);

export interface CookieOptions {
  /** Only when configured: every host below it receives the ticket. */
  readonly domain?: string;
}

/**
 * The Set-Cookie lines of a new session: those of the backends, `username` and `auth`, all ending with the first of them,
 * since dashboards take a session for open as long as they see `username`.
 */
export function sessionCookies(
  username: string,
  cookies: readonly BackendCookie[],
  { domain }: CookieOptions,
  now: number,
): readonly string[] {
  const lifetime = Math.min(...cookies.map(({ expiresMSFromNow }) => expiresMSFromNow), 7_200_000);
  const values = new Map(cookies.map(({ name, value }) => [name, value])).set('username', username).set('auth', '1');
  return [...values].map(([name, value]) =>
    setCookie(name, value, domain, Math.max(0, Math.floor(lifetime / 1000)), now),
  );
}

/** The Set-Cookie lines that take these cookies away again; names that no cookie can have are left out. */
export function expiredCookies(names: readonly string[], { domain }: CookieOptions): readonly string[] {
  return names.filter((name) => /^[\w!#$%&'*.^`|~+-]+$/.test(name)).map((name) => setCookie(name, '', domain, 0, 0));
}

function setCookie(name: string, value: string, domain: string | undefined, maxAge: number, now: number): string {
  return [
    `${name}=${encodeURIComponent(value)}`,
    ...(domain === undefined ? [] : [`Domain=${domain}`]),
    'Path=/',
    `Max-Age=${maxAge}`,
    `Expires=${new Date(now + maxAge * 1000).toUTCString()}`,
    ...(readable.has(name) ? [] : ['HttpOnly']),
    'Secure',
    'SameSite=Lax',
  ].join('; ');
}

/**
 * The cookies of a request by name; the first of a name counts, as it does for PVE.
 * Values are decoded where they are percent-encoded; clients that send a ticket as it is are understood too.
 */
export function readCookies(header = ''): Readonly<Record<string, string>> {
  const pairs = header.split(';').flatMap((pair) => {
    const [, name, value = ''] = /^([^=\s]+)=(.*)$/.exec(pair.trim()) ?? [];
    return name === undefined ? [] : [[name, decoded(value)] as const];
  });
  return Object.fromEntries(pairs.toReversed());
}

/** The text without percent-encoding; as it is when it has none, or none that makes sense. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
