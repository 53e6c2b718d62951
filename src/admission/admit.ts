/** The gate: every call of every surface passes here, in these steps. */

import { ApiError, BadRequestError, ForbiddenError, QuotaExceededError, UnknownMethodError } from '../errors.ts';
import { type Call, type Credential, type Draft, describeCall, type Params } from '../pve/call.ts';
import { fieldOfGuest } from './causes.ts';
import { changeFile } from './files.ts';
import { forward, withDigest } from './forward.ts';
import type { Caller, Gate, Outcome } from './gate.ts';
import { mustConcern } from './guests.ts';
import { mustNotObject } from './objections.ts';
import { passOn } from './pass-on.ts';
import { policyFor } from './policies/index.ts';
import type { Change, ChangePolicy } from './policy.ts';
import { reserve } from './reserve.ts';
import { blank, changeOf, forwardedBy, givenBy, isDraft, mustNameNode, type Subject, subjectOf } from './subject.ts';
import { undisturbed } from './undisturbed.ts';

/**
 * Judges one call and, when it may pass, forwards it. Throws an ApiError when it may not; what PVE answers, refusals
 * included, comes back. A caller who hangs up changes nothing about what was begun.
 */
export async function admit(gate: Gate, asked: Call | Draft, caller: Caller): Promise<Outcome> {
  const resolved = policyFor({ ...asked, params: givenBy(asked) });
  if (resolved === undefined) throw new UnknownMethodError(`Method '${describeCall(asked)}' not implemented`);
  const { policy, named } = resolved;
  if (!('project' in policy)) {
    if (isDraft(asked)) throw new TypeError(`${describeCall(asked)} changes no instance`);
    return passOn(gate, policy, asked, caller, named);
  }
  const subject = subjectOf(gate, { policy, named }, asked, caller);
  try {
    if (policy.file !== undefined) return await changeFile(gate, subject, policy.file);
    const { vmids } = subject;
    const isPlain = vmids === null || (vmids.length === 0 && caller.record.cluster.admin);
    return await (isPlain ? changeUnnamed(gate, subject) : change(gate, subject, vmids));
  } catch (error) {
    if (error instanceof ApiError) writeDown(gate, asked, caller, subject.vmids?.[0] ?? Number.NaN, error);
    throw error;
  }
}

/** Changes are made one at a time for each instance, from its reading to PVE's answer. */
async function change(gate: Gate, subject: Subject, vmids: readonly number[]): Promise<Outcome> {
  const { policy, asked, about, caller, sources, shelves } = subject;
  mustNameNode(subject);
  // What cannot pass whatever the instance is, is refused before PVE is asked anything.
  if (!isDraft(asked)) changeOf(gate, subject, blank(gate, subject, vmids[0] ?? Number.NaN));

  await mustConcern(gate, subject);
  const work = async () => {
    await gate.payers.refresh();
    const changes = await undisturbed(gate, subject);
    const [first] = changes;
    if (first === undefined)
      throw new BadRequestError({
        field: fieldOfGuest(policy, about, Number.NaN),
        problem: 'is required: which instance?',
      });
    if (!caller.record.cluster.admin) for (const judged of changes) await mustNotObject(gate, subject, judged);
    const params = withDigest(policy, first.before, forwardedBy(subject, first));
    const as = await credentialFor(gate, policy, first, params, caller);
    const reservation = await reserve(gate, subject, changes);
    const method = (caller.record.cluster.admin ? undefined : policy.sentBy?.(first)) ?? asked.method;
    return forward(gate, reservation, { ...asked, method, params }, as);
  };
  return gate.turns.take(vmids, work, [...sources, ...shelves]);
}

/** A call that names no guest: PVE applies it to every one, or it changes none. Administrators' guests are looked at again. */
async function changeUnnamed({ upstream, inventory }: Gate, subject: Subject): Promise<Outcome> {
  const { policy, asked, about, caller, vmids } = subject;
  if (!caller.record.cluster.admin || isDraft(asked))
    throw new ForbiddenError(`${describeCall(asked)} is for every guest here unless it names some: name yours`).at(
      ['all', 'pool'].find((name) => about.params[name] !== undefined) ?? fieldOfGuest(policy, about, Number.NaN),
    );
  const answer = await upstream.send(asked, caller.credential);
  for (const vmid of vmids ?? inventory.guests.keys()) inventory.stale.add(vmid);
  return { answer, settled: Promise.resolve(undefined) };
}

/** Administrators act with their own rights, tenants with the privileged token's, or root's where PVE insists. */
function credentialFor(
  { root }: Gate,
  policy: ChangePolicy,
  change: Change,
  forwarded: Params,
  caller: Caller,
): Credential | Promise<Credential> {
  if (caller.record.cluster.admin) return caller.credential;
  return policy.needsRoot?.(change, forwarded) === true ? root.credential() : { kind: 'service', for: caller.user };
}

/** Refusals are kept with the decisions, as PVE's own log never hears of them. */
function writeDown(
  { ledger }: Gate,
  asked: Call | Draft,
  { user, address }: Caller,
  vmid: number,
  error: ApiError,
): void {
  const detail = error instanceof QuotaExceededError ? error.overruns : error.message;
  const about = Number.isSafeInteger(vmid) ? vmid : undefined;
  ledger.refused({ user, address, call: describeCall(asked), vmid: about, verdict: error.code, detail });
}
