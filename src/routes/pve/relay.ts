/** Reads that go straight through: PVE's answer passes from its connection to the client's without being looked at. */

import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { admit } from '../../admission/admit.ts';
import type { Gate } from '../../admission/gate.ts';
import { policyFor } from '../../admission/policies/index.ts';
import type { OwnPolicy, Resolved } from '../../admission/policy.ts';
import type { UserId } from '../../backends/backend.ts';
import type { Answer, Call } from '../../pve/call.ts';
import { isOpen } from '../answering.ts';
import { callerNamed, nameOf, signedInAsPve } from '../caller.ts';
import type { Rooms } from '../rooms.ts';
import type { Format } from './reading.ts';
import { ofEveryAnswer } from './reply.ts';

/** A read that has found its row. */
export interface Read {
  readonly call: Call;
  readonly policy: OwnPolicy;
  readonly named: Resolved['named'];
}

/** The call as a read whose answer is PVE's own word to the caller; undefined when this server has a say in it. */
export function plainRead(call: Call): Read | undefined {
  if (call.method !== 'GET' || isOpen(call)) return undefined;
  const { policy, named } = policyFor(call) ?? {};
  if (policy === undefined || named === undefined || policy.class !== 'read') return undefined;
  return policy.answer === undefined && policy.refused === undefined ? { call, policy, named } : undefined;
}

/**
 * Answers a read with the caller's own credential. Null when the answer has gone out; otherwise what is to be said:
 * PVE's refusal, or the gate's answer about a guest or a task that is the caller's although PVE does not know it yet.
 */
export async function relay(
  rooms: Pick<Rooms, 'gate' | 'relay' | 'sessions' | 'directory' | 'load'>,
  read: Read,
  format: Format,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Answer | null> {
  const asked = outcomes.get(request.raw);
  if (asked !== undefined) return asked;
  const { gate, relay } = rooms;
  const { user, credential } = await signedInAsPve(request, rooms);
  await rooms.directory.mustAdmit(nameOf(user));
  if (isLifted(gate, read, user) || credential.kind === 'service')
    return (await admit(gate, read.call, await callerNamed(user, credential, rooms, request.ip))).answer;
  return relay.read(
    { call: read.call, user, as: credential, format, gzip: takesGzip(request.headers['accept-encoding']) },
    {
      response: reply.raw,
      begin(headers) {
        const lines = [...headers];
        for (const ours of [reply.getHeaders(), ofEveryAnswer()])
          for (const [name, value] of Object.entries(ours)) lines.push(name, String(value));
        reply.raw.writeHead(200, 'OK', lines);
        reply.hijack();
      },
    },
  );
}

/** What reads that were begun before came to. */
const outcomes = new WeakMap<IncomingMessage, Promise<Answer | null>>();

/** Has `relay` give this outcome for the request, which is not to be asked of PVE again. */
export function handOver(request: IncomingMessage, outcome: Promise<Answer | null>): void {
  outcomes.set(request, outcome);
}

/** Whether the read is of a guest or a task that is the user's although PVE does not know it yet. */
export function isLifted({ ledger }: Pick<Gate, 'ledger'>, { policy, named }: Read, user: UserId): boolean {
  return (
    (policy.ofGuest === true && ledger.isCreating(Number(named.vmid), user)) ||
    (policy.ofTask === true && ledger.taskUser(named.upid ?? '') === user)
  );
}

/** Whether the client says that it takes gzip. */
export function takesGzip(acceptEncoding: string | string[] | undefined): boolean {
  return /(?:^|,)\s*(?:gzip|\*)\s*(?:,|;\s*q=(?:1|0\.0*[1-9])|$)/i.test(String(acceptEncoding ?? ''));
}
