/** Signing in and out. */

import type { FastifyInstance } from 'fastify';
import { parseUserName } from '../../backends/backend.ts';
import type { Directory } from '../../backends/directory.ts';
import type { Sessions } from '../../backends/sessions.ts';
import { ApiError, BadRequestError, UnauthenticatedError } from '../../errors.ts';
import type { Credential } from '../../pve/call.ts';
import { credentialOf, nameOf, type Origins, requireSameOrigin } from '../caller.ts';
import { type CookieOptions, expiredCookies, readCookies, sessionCookies } from '../cookies.ts';
import { plainText } from '../edge.ts';
import { networkOf, type SignInLimit } from '../sign-in-limit.ts';
import { fieldOf, formOf } from './form.ts';

export interface AccessOptions {
  /** Opens and closes sessions at every backend of a user's realm, and says who may go on. */
  readonly directory: Pick<Directory, 'openSession' | 'closeSession' | 'mustAdmit'>;
  readonly sessions: Pick<Sessions, 'identify' | 'forget' | 'welcome'>;
  /** Told of a session that its user has ended. */
  readonly signedOut: (session: Credential) => void;
  readonly limit: SignInLimit;
  readonly origins: Origins;
  readonly cookies: CookieOptions;
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
}

/** `/version`, `/echo`, `/access` and `/access/ticket`, below the prefix of `app`. */
export function accessRoutes(
  app: FastifyInstance,
  { directory, sessions, signedOut, limit, origins, cookies, version, clock = Date.now }: AccessOptions,
): void {
  app.get('/version', async () => ({ version }));

  // It once repeated all cookies, and handed scripts those that are for the browser alone.
  app.get('/echo', async () => ({ body: {}, cookies: {} }));

  app.get('/access', async ({ headers, ip }) => {
    const credential = credentialOf(headers);
    if (credential === null) throw new UnauthenticatedError('Sign in: there is no ticket');
    await directory.mustAdmit(nameOf(await sessions.identify(credential, networkOf(ip))));
    return { auth: true };
  });

  app.post('/access/ticket', async (request, reply) => {
    requireSameOrigin(request.headers, origins);
    const form = formOf(request.body);
    const typed = fieldOf(form, 'username') ?? '';
    const { password = '' } = form;
    const user = parseUserName(typed);
    if (user === null) throw new BadRequestError({ field: 'username', problem: 'expected a name such as alice@pve' });
    if (password === '') throw new BadRequestError({ field: 'password', problem: 'it is missing' });

    const result = await limit.inTurn(request.ip, async () => {
      const forgive = limit.attempt(typed, request.ip);
      const opened = await directory.openSession(user, password).catch((error: unknown) => {
        // Nobody has failed to sign in when a backend is away.
        if (error instanceof ApiError && error.code !== 'unauthenticated') forgive();
        throw error;
      });
      if (opened.ok || opened.status >= 500) forgive();
      return opened;
    });
    if (!result.ok) {
      const status = result.status >= 500 ? result.status : 401;
      return reply.code(status).send({ auth: false, error: plainText(result.message) });
    }
    for (const { name, value } of result.cookies ?? []) if (name === 'PVEAuthCookie') sessions.welcome(value);
    reply.header('set-cookie', sessionCookies(result.username, result.cookies ?? [], cookies, clock()));
    return { auth: true };
  });

  // Dashboards call this on every visit to the login page, signed in or not.
  app.delete('/access/ticket', async (request, reply) => {
    const held = readCookies(request.headers.cookie);
    const { username, ...secrets } = held;
    const credential = credentialOf(request.headers);
    let notClosed = {};
    if (credential !== null) {
      sessions.forget(credential);
      signedOut(credential);
    }
    if (Object.keys(secrets).length > 0) {
      const requester = { cookies: held, ...(username === undefined ? {} : { username }) };
      const away = await directory.closeSession(requester);
      if (away.length > 0)
        notClosed = { away, warning: plainText(`Not signed out of ${away.join(', ')}: try again later`) };
    }
    reply.header('set-cookie', expiredCookies(Object.keys(held), cookies));
    return { auth: false, ...notClosed };
  });
}
