import type { IncomingHttpHeaders } from 'node:http';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Access } from '../../../../simulator/access.ts';
import { authenticate } from '../../../../simulator/authentication.ts';
import { authUser } from '../../../../simulator/call.ts';
import { call } from '../../../../src/pve/call.ts';
import { wireRequest } from '../../../../src/pve/request.ts';
import { parseApiToken, parseTicket } from '../../../../src/pve/ticket.ts';
import { credentialOf } from '../../../../src/routes/caller.ts';

const access = new Access();
for (const user of ['alice@pve', 'bob@pve']) access.addUser(user, {});
const ticketOf = (user: string): string => access.tickets.issue(user, access.seconds);
const tokenOf = (user: string): string => `${user}!ci=${access.addToken(user, 'ci')}`;
const tickets = [ticketOf('alice@pve'), ticketOf('bob@pve'), encodeURIComponent(ticketOf('bob@pve')), 'PVE:x', ''];
const tokens = [tokenOf('alice@pve'), encodeURIComponent(tokenOf('bob@pve')), 'bob@pve!ci=wrong', ''];

/** Whom PVE takes the sender of these headers for. */
function seenByPve(headers: IncomingHttpHeaders): string {
  try {
    const { caller } = authenticate(access, 'GET', '/nodes', headers);
    return caller === undefined ? 'nobody' : authUser(caller);
  } catch {
    return 'nobody';
  }
}

/** Whom it takes us for when we send the call on; null when we do not. */
function seenThroughUs(headers: IncomingHttpHeaders): string | null {
  const credential = credentialOf(headers);
  if (credential === null) return null;
  const isWhole =
    credential.kind === 'ticket'
      ? parseTicket(credential.ticket)
      : credential.kind === 'token' && parseApiToken(credential.token);
  return isWhole ? seenByPve(wireRequest(call('GET', '/nodes'), credential, 'service@pve!gate=x').headers) : null;
}

const shown = fc.oneof(
  fc.tuple(fc.constantFrom('PVEAuthCookie'), fc.constantFrom('=', ' '), fc.constantFrom(...tickets)),
  fc.tuple(fc.constantFrom('PVEAPIToken'), fc.constantFrom('=', ' ', '=='), fc.constantFrom(...tokens)),
  fc.tuple(fc.constantFrom('a', 'XPVEAuthCookie', 'username'), fc.constant('='), fc.constantFrom('b', ...tickets)),
);
const header = fc
  .array(fc.tuple(shown, fc.constantFrom('; ', ';', ' ', ', ', '')), { maxLength: 3 })
  .map((parts) => parts.flat(2).join(''));

test('whatever credentials a request shows, nobody gets to be another one than PVE would take them for', () => {
  let through = 0;
  fc.assert(
    fc.property(fc.option(header), fc.option(header), (cookie, authorization) => {
      const headers = { ...(cookie === null ? {} : { cookie }), ...(authorization === null ? {} : { authorization }) };
      const ours = seenThroughUs(headers);
      if (ours === null) return;
      through += 1;
      expect([headers, ours]).toEqual([headers, seenByPve(headers)]);
    }),
    { numRuns: 2000 },
  );
  expect(through).toBeGreaterThan(200);
});
