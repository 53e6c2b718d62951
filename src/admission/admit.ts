/** The gate: every call of every surface passes here, in these steps. */

import {
  ApiError,
  BadRequestError,
  ConflictError,
  ForbiddenError,
  NotFoundError,
  NotSupportedError,
  QuotaExceededError,
  UpstreamBrokenError,
} from '../errors.ts';
import { type Call, type Credential, type Draft, describeCall, type Params, succeeded } from '../pve/call.ts';
import { backupOwner, type Config, type Instance, isDeviceSlot } from '../pve/instance.ts';
import { nothingYet } from '../pve/projections.ts';
import { type Caller, mustBeTheirs, placed } from './access.ts';
import { forward, withDigest } from './forward.ts';
import type { Gate, Outcome } from './gate.ts';
import { mustNotObject } from './objections.ts';
import { passOn } from './pass-on.ts';
import { policyFor } from './policies/index.ts';
import { type Change, type ChangePolicy, type Named, parameterFaults, takesDigest } from './policy.ts';
import { reserve } from './reserve.ts';

/**
 * Judges one call and, when it may pass, forwards it. Throws an ApiError when it may not; what PVE answers, refusals
 * included, comes back. A caller who hangs up changes nothing about what was begun.
 */
export async function admit(gate: Gate, asked: Call | Draft, caller: Caller): Promise<Outcome> {
  const given = isDraft(asked) ? (asked.given ?? {}) : asked.params;
  const resolved = policyFor({ ...asked, params: given });
  if (resolved === undefined) throw new ForbiddenError(`${describeCall(asked)} is not offered here`);
  const { policy, named } = resolved;
  const vmid = vmidOf(named, given);
  if (!('project' in policy)) {
    if (isDraft(asked)) throw new TypeError(`${describeCall(asked)} changes no instance`);
    return passOn(gate, policy, asked, caller, { vmid, upid: named.upid });
  }
  try {
    return await change(gate, policy, asked, caller, { named, vmid });
  } catch (error) {
    if (error instanceof ApiError) writeDown(gate, asked, caller, vmid, error);
    throw error;
  }
}

/** The guest that a call is about: named in its path, by a backup's name, or by a parameter; NaN when by none. */
function vmidOf({ vmid, backup }: Named, given: Params): number {
  if (vmid !== undefined) return Number(vmid);
  return backup === undefined ? Number(given.vmid) : (backupOwner(backup) ?? Number.NaN);
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

/** A call that changes what an instance takes: one at a time for each instance, from its reading to PVE's answer. */
async function change(
  gate: Gate,
  policy: ChangePolicy,
  asked: Call | Draft,
  caller: Caller,
  at: Place,
): Promise<Outcome> {
  const waived = caller.record.cluster.admin;
  const node = at.named.node ?? '';
  const changeOf = (before: Instance): Change => {
    const params = isDraft(asked) ? asked.params(before) : asked.params;
    const { backupStorage } = gate;
    return { before, params: waived ? texts(params) : onlyKnown(policy, params), named: at.named, backupStorage };
  };
  const blank = () =>
    nothingYet(policy.type ?? 'qemu', at.vmid, gate.inventory.host(node), gate.inventory.volumes(at.vmid, node));
  // What cannot pass whatever the instance is, is refused before PVE is asked anything.
  if (!isDraft(asked)) changeOf(blank());

  return gate.turns.take([at.vmid], async () => {
    await gate.payers.refresh();
    const found =
      policy.kind === 'create'
        ? await beginning(gate, caller, at, changeOf, blank)
        : await beforehand(gate, policy, caller, at, changeOf);
    const judged = await toldBy(gate, policy, found);
    if (!waived) await mustNotObject(gate, policy, judged);
    const params = withDigest(
      policy,
      judged.before,
      waived ? judged.params : (policy.forward?.(judged) ?? judged.params),
    );
    const as = await credentialFor(gate, policy, judged, params, caller);
    const reservation = await reserve(gate, policy, judged, asked, caller);
    return forward(gate, reservation, { ...asked, params }, as);
  });
}

/** Where a change happens. */
interface Place {
  readonly named: Named;
  readonly vmid: number;
}

/** The change with what PVE tells of it; what it refuses to tell is unknown to the projection. */
async function toldBy({ upstream, inventory }: Gate, policy: ChangePolicy, found: Change): Promise<Change> {
  const { host } = found.before;
  const passes = host.devices === undefined && Object.keys(found.params).some(isDeviceSlot);
  if (passes) await inventory.devices(host.node);
  const change = passes ? { ...found, before: { ...found.before, host: inventory.host(host.node) } } : found;
  const question = policy.asks?.(change) ?? null;
  if (question === null) return change;
  const answer = await upstream.send(question, { kind: 'service' });
  return { ...change, told: succeeded(answer) ? answer.data : undefined };
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
  return policy.needsRoot?.(change, forwarded) === true ? root.credential() : { kind: 'service' };
}

function isDraft(asked: Call | Draft): asked is Draft {
  return typeof asked.params === 'function';
}

/** On lifted calls, exactly the parameters that the row names. */
function onlyKnown(policy: ChangePolicy, params: Params): Config {
  const faults = parameterFaults(policy.params, params);
  if (faults.length > 0) throw new BadRequestError(faults);
  return texts(params);
}

/** A new instance, in a place that is the caller's to use. */
async function beginning(
  gate: Gate,
  caller: Caller,
  { named: { node = '' }, vmid }: Place,
  changeOf: (before: Instance) => Change,
  blank: () => Instance,
): Promise<Change> {
  const params = await placed(gate, caller, changeOf(blank()).params, { node, vmid });
  return { ...changeOf(blank()), params };
}

/** The instance that the call is about, read at this moment, and what the call asks of it. */
async function beforehand(
  gate: Gate,
  policy: ChangePolicy,
  caller: Caller,
  { named, vmid }: Place,
  changeOf: (before: Instance) => Change,
): Promise<Change> {
  const { inventory, ledger } = gate;
  if (!Number.isSafeInteger(vmid))
    throw new BadRequestError({ field: 'vmid', problem: 'is required: which instance?' });
  if (!caller.record.cluster.admin) await mustBeTheirs(gate, caller, vmid);
  const storages = (before: Instance) => policy.storages?.(changeOf(before)) ?? [];
  const listed = inventory.guests.get(vmid);
  const where = { vmid, type: policy.type ?? listed?.type ?? 'qemu', node: named.node ?? '' };
  const { instance, sighting, stamp } = await inventory.look(where, storages);
  ledger.see(sighting, stamp);
  if (instance === null) throw new NotFoundError(`there is no instance ${vmid}`);
  const { type = instance.type } = policy;
  if (instance.type !== type || (named.backup === undefined && instance.host.node !== named.node)) {
    throw new BadRequestError({
      field: 'vmid',
      problem: `instance ${vmid} is a ${instance.type} guest on node ${instance.host.node}`,
    });
  }
  const found = changeOf(instance);
  if (takesDigest(policy)) mustBeJudgedOn(instance, found.params.digest);
  return found;
}

/** A change applies to the configuration that it was judged on, so PVE has to tell that one's digest, and a caller's own has to be it. */
function mustBeJudgedOn({ vmid, digest }: Instance, asked: string | undefined): void {
  if (digest === undefined) throw new UpstreamBrokenError(`PVE does not tell the digest of instance ${vmid}`);
  if (asked !== undefined && asked !== digest) {
    throw new ConflictError(
      `the configuration of instance ${vmid} is not the one that was looked at (digest); look again`,
    );
  }
}

/** Parameters as single texts; PVE's changes of guests take no arrays. */
function texts(params: Params): Config {
  const entries = Object.entries(params).map(([field, value]) => {
    if (typeof value !== 'string') throw new NotSupportedError(`${field}: give it once`);
    return [field, value] as const;
  });
  return Object.fromEntries(entries);
}
