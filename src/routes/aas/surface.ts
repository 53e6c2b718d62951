/** What every group of routes is given, and who a request comes from. */

import type { FastifyInstance } from 'fastify';
import type { Caller } from '../../admission/gate.ts';
import { UnauthenticatedError } from '../../errors.ts';
import { callerWith, credentialOf, type Origins, requireCsrf, type Sender } from '../caller.ts';
import { readCookies } from '../cookies.ts';
import type { Rooms } from '../rooms.ts';

/** Who sends a request; on a method that changes something also that no foreign page sent it for them. */
export type Identify = (request: Sender) => Promise<Caller>;

/** What every group of routes is given. */
export interface Surface {
  readonly app: FastifyInstance;
  readonly rooms: Rooms;
  readonly identify: Identify;
}

/** The caller whom PVE takes the sender for, with what their record grants now. Throws UnauthenticatedError or ForbiddenError. */
export async function identify(request: Sender, rooms: Rooms, origins: Origins): Promise<Caller> {
  const credential = credentialOf(request.headers);
  if (credential === null) throw new UnauthenticatedError('Sign in: there is no ticket');
  const caller = await callerWith(credential, request, rooms);
  const { username } = readCookies(request.headers.cookie);
  if (credential.kind === 'ticket' && username !== undefined && username !== caller.user)
    throw new UnauthenticatedError('Sign in again: the cookie username names another user than the ticket');
  if (request.method !== 'GET') await requireCsrf(request.headers, rooms.sessions, origins);
  return caller;
}
