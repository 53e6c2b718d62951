/** From a call to its answer, whichever surface it came by. */

import { admit } from '../admission/admit.ts';
import type { Caller } from '../admission/gate.ts';
import { policyFor } from '../admission/policies/index.ts';
import { BadRequestError } from '../errors.ts';
import { type Answer, type Call, describeCall, succeeded } from '../pve/call.ts';
import { type Origins, requireSameOrigin, type Sender } from './caller.ts';
import type { Rooms } from './rooms.ts';
import { signIn } from './ticket.ts';

/** What PVE answers before anybody has signed in, whatever the caller shows. */
const open: ReadonlySet<string> = new Set([
  'GET /access/domains',
  'GET /access/ticket',
  'POST /access/vncticket',
  'POST /access/openid/auth-url',
  'POST /access/openid/login',
]);

/** Whether PVE answers the call whoever asks. */
export function isOpen(call: Call): boolean {
  return open.has(describeCall(call));
}

/**
 * Answers a call: signing in is counted, and so is guessing at a password by who has signed in; what is open to everybody
 * goes to PVE without credentials, and the gate judges all else for the caller, who is asked for only then. Throws an
 * ApiError for what is refused.
 */
export async function answerTo(
  rooms: Rooms,
  call: Call,
  sender: Sender,
  { origins, identify }: { readonly origins: Origins; readonly identify: (sender: Sender) => Promise<Caller> },
): Promise<Answer> {
  const asked = describeCall(call);
  if (asked === 'POST /access/ticket') {
    requireSameOrigin(sender.headers, origins);
    return signIn(rooms, call, sender);
  }
  if (open.has(asked)) {
    const ask = () => rooms.upstream.send(call, { kind: 'none' });
    // PVE takes seconds to refuse one, as it does with sign-ins, among which it counts.
    return call.method === 'GET' ? ask() : rooms.signInLimit.inTurn(sender.ip, ask);
  }
  const caller = await identify(sender);
  const forgive = showsPassword(call) ? rooms.signInLimit.attempt(caller.user, sender.ip) : () => {};
  try {
    const { answer } = await admit(rooms.gate, withoutRepeats(call), caller);
    if (succeeded(answer) || answer.status >= 595) forgive();
    return answer;
  } catch (error) {
    forgive();
    throw error;
  }
}

/** Whether PVE is to check the caller's password once more, so that whoever has their ticket alone could guess at it. */
function showsPassword({ segments: [area, noun], params }: Call): boolean {
  if (area !== 'access') return false;
  return params['confirmation-password'] !== undefined || (noun === 'tfa' && params.password !== undefined);
}

/** The call without parameters that only repeat its path, which clients send along; throws when they say another thing. */
export function withoutRepeats(call: Call): Call {
  const given = Object.keys(call.params);
  if (given.length === 0) return call;
  const named = policyFor(call)?.named ?? {};
  const repeated = given.filter((name) => Object.hasOwn(named, name));
  const others = repeated.filter((name) => call.params[name] !== named[name]);
  if (others.length > 0)
    throw new BadRequestError(
      others.map((field) => ({ field, problem: `duplicate parameter in request path, where it is ${named[field]}` })),
    );
  const kept = Object.entries(call.params).filter(([name]) => !repeated.includes(name));
  return { ...call, params: Object.fromEntries(kept) };
}
