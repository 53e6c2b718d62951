/** Signing in at PVE through us, with a bound on how often it may fail. */

import { ForbiddenError } from '../errors.ts';
import type { Answer, Call } from '../pve/call.ts';
import { succeeded } from '../pve/call.ts';
import { credentialOf, type Sender } from './caller.ts';
import type { Rooms } from './rooms.ts';

/**
 * PVE's answer to `POST /access/ticket`: a password, a second factor, the renewal of a ticket, or the check of a
 * privilege. Only what PVE refuses as wrong counts as failed; beyond the bound TooManyRequestsError. Throws ForbiddenError
 * where an API token is shown.
 */
export async function signIn(
  { upstream, sessions, signInLimit }: Pick<Rooms, 'upstream' | 'sessions' | 'signInLimit'>,
  call: Call,
  { headers, ip }: Sender,
): Promise<Answer> {
  // PVE refuses it as well, and would take no notice of a ticket.
  if (credentialOf(headers)?.kind === 'token')
    throw new ForbiddenError('Permission check failed (signing in needs a password or a ticket, not an API token)');
  const { username = '', realm } = call.params;
  const name = [username, ...(realm === undefined ? [] : [realm])].join('@');
  const answer = await signInLimit.inTurn(ip, async () => {
    const forgive = signInLimit.attempt(name, ip);
    const said = await upstream.send(call, { kind: 'none' }).catch((error: unknown) => {
      forgive();
      throw error;
    });
    if (said.status !== 401) forgive();
    return said;
  });
  const { ticket } = Object(answer.data) as Readonly<Record<string, unknown>>;
  if (succeeded(answer) && typeof ticket === 'string') sessions.welcome(ticket);
  return answer;
}
