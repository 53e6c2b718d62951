/** What every group of routes is given, and who a request comes from. */

import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Caller } from '../../admission/access.ts';
import { parseUserName } from '../../backends/backend.ts';
import { UnauthenticatedError } from '../../errors.ts';
import { credentialOf, type Origins, requireCsrf } from '../caller.ts';
import { readCookies } from '../cookies.ts';
import type { Rooms } from '../rooms.ts';

/** Who sends a request; on a method that changes something also that no foreign page sent it for them. */
export type Identify = (request: Sender) => Promise<Caller>;

/** What a request says of who sends it. */
export type Sender = Pick<FastifyRequest, 'method' | 'headers' | 'ip'>;

/** What every group of routes is given. */
export interface Surface {
  readonly app: FastifyInstance;
  readonly rooms: Rooms;
  readonly identify: Identify;
}

/** The caller whom PVE takes the sender for, with what their record grants now. Throws UnauthenticatedError or ForbiddenError. */
export async function identify(request: Sender, { sessions, directory }: Rooms, origins: Origins): Promise<Caller> {
  const credential = credentialOf(request.headers);
  if (credential === null) throw new UnauthenticatedError('Sign in: there is no ticket');
  const user = await sessions.identify(credential);
  const { username } = readCookies(request.headers.cookie);
  if (credential.kind === 'ticket' && username !== undefined && username !== user)
    throw new UnauthenticatedError('Sign in again: the cookie username names another user than the ticket');
  if (request.method !== 'GET') await requireCsrf(request.headers, sessions, origins);
  const name = parseUserName(user);
  if (name === null) throw new UnauthenticatedError('Sign in: the ticket names no user');
  return { user, credential, record: await directory.record(name), address: request.ip };
}
