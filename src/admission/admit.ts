/** The gate: every call of every surface passes here, in these steps. */

import {
  ApiError,
  BadRequestError,
  ConflictError,
  ForbiddenError,
  NotFoundError,
  NotSupportedError,
  QuotaExceededError,
  UnknownMethodError,
  UpstreamBrokenError,
} from '../errors.ts';
import { type Call, type Credential, type Draft, describeCall, type Params, succeeded } from '../pve/call.ts';
import { backupOwner, type Config, type Instance, isDeviceSlot } from '../pve/instance.ts';
import { nothingYet, parseList } from '../pve/projections.ts';
import { type Caller, holds, mustBeTheirs, placed } from './access.ts';
import { forward, withDigest } from './forward.ts';
import type { Gate, Outcome } from './gate.ts';
import { mustNotObject } from './objections.ts';
import { passOn } from './pass-on.ts';
import { policyFor } from './policies/index.ts';
import { type Asked, type Change, type ChangePolicy, type Named, parameterFaults, takesDigest } from './policy.ts';
import { reserve } from './reserve.ts';

/**
 * Judges one call and, when it may pass, forwards it. Throws an ApiError when it may not; what PVE answers, refusals
 * included, comes back. A caller who hangs up changes nothing about what was begun.
 */
export async function admit(gate: Gate, asked: Call | Draft, caller: Caller): Promise<Outcome> {
  const params = isDraft(asked) ? (asked.given ?? {}) : asked.params;
  const resolved = policyFor({ ...asked, params });
  if (resolved === undefined) throw new UnknownMethodError(`Method '${describeCall(asked)}' not implemented`);
  const { policy, named } = resolved;
  const about = { params, named };
  if (!('project' in policy)) {
    if (isDraft(asked)) throw new TypeError(`${describeCall(asked)} changes no instance`);
    return passOn(gate, policy, asked, caller, named);
  }
  const vmids = policy.guests === undefined ? [guestOf(about)] : policy.guests(about);
  try {
    if (vmids === null) return await changeAll(gate, asked, caller);
    return await change(gate, { policy, asked, caller, named, vmids, sources: policy.sources?.(about) ?? [] });
  } catch (error) {
    if (error instanceof ApiError) writeDown(gate, asked, caller, vmids?.[0] ?? Number.NaN, error);
    throw error;
  }
}

/** The guest that a call is about: named in its path, by a backup's name, or by a parameter; NaN when by none. */
function guestOf({ named: { vmid, backup }, params }: Asked): number {
  if (vmid !== undefined) return Number(vmid);
  return backup === undefined ? Number(params.vmid) : (backupOwner(backup) ?? Number.NaN);
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

/** A call that PVE would apply to every guest: for administrators, whose guests are then all looked at again. */
async function changeAll({ upstream, inventory }: Gate, asked: Call | Draft, caller: Caller): Promise<Outcome> {
  if (!caller.record.cluster.admin || isDraft(asked))
    throw new ForbiddenError(`${describeCall(asked)} is for every guest here unless it names some: name yours`);
  const answer = await upstream.send(asked, caller.credential);
  for (const vmid of inventory.guests.keys()) inventory.stale.add(vmid);
  return { answer, settled: Promise.resolve(undefined) };
}

/** A call that changes what instances take, and what it is about. */
interface Subject {
  readonly policy: ChangePolicy;
  readonly asked: Call | Draft;
  readonly caller: Caller;
  readonly named: Named;
  /** The guests that it changes or makes. */
  readonly vmids: readonly number[];
  /** The guests that it reads. */
  readonly sources: readonly number[];
}

/** Changes are made one at a time for each instance, from its reading to PVE's answer. */
async function change(gate: Gate, subject: Subject): Promise<Outcome> {
  const { policy, asked, caller, vmids, sources } = subject;
  const waived = caller.record.cluster.admin;
  if (subject.named.node === 'localhost')
    throw new BadRequestError({ field: 'node', problem: 'localhost is whichever node answers; name the node' });
  // What cannot pass whatever the instance is, is refused before PVE is asked anything.
  if (!isDraft(asked)) changeOf(gate, subject, blank(gate, subject, vmids[0] ?? Number.NaN));

  return gate.turns.take([...vmids, ...sources], async () => {
    await gate.payers.refresh();
    const guests = new Map<number, Instance>();
    for (const vmid of sources) guests.set(vmid, await theirs(gate, subject, vmid, policy.sourcePrivilege));
    let params: Params | undefined;
    for (const vmid of vmids) {
      if (policy.kind !== 'create') guests.set(vmid, await theirs(gate, subject, vmid));
      else {
        const before = blank(gate, subject, vmid);
        guests.set(vmid, before);
        params = await placed(gate, caller, changeOf(gate, subject, before).params, { node: before.host.node, vmid });
      }
    }
    const changes: Change[] = [];
    for (const vmid of vmids) {
      const before = guests.get(vmid) as Instance;
      const others = new Map([...guests].filter(([other]) => other !== vmid));
      const found = changeOf(gate, subject, before, others);
      changes.push(
        await toldBy(gate, policy, params === undefined ? found : { ...found, params: texts(policy, params) }),
      );
    }
    const [first] = changes;
    if (first === undefined) throw new BadRequestError({ field: 'vmid', problem: 'is required: which instance?' });
    if (!waived) for (const judged of changes) await mustNotObject(gate, policy, judged);
    const forwarded = withDigest(
      policy,
      first.before,
      waived ? asGiven(asked, first) : forwardedBy(policy, asked, first),
    );
    const as = await credentialFor(gate, policy, first, forwarded, caller);
    const reservation = await reserve(gate, policy, changes, asked, caller);
    return forward(gate, reservation, { ...asked, params: forwarded }, as);
  });
}

/** What the call asks of an instance, as it is found. Throws what is wrong with the parameters. */
function changeOf(
  { backupStorage }: Gate,
  { policy, asked, caller, named }: Subject,
  before: Instance,
  others: ReadonlyMap<number, Instance> = new Map(),
): Change {
  const params = isDraft(asked) ? asked.params(before) : asked.params;
  const known = caller.record.cluster.admin ? texts(policy, params) : onlyKnown(policy, params);
  return { before, others, params: known, named, backupStorage, told: [] };
}

/** The place for an instance that is to be made. */
function blank({ inventory }: Gate, { policy, asked, named }: Subject, vmid: number): Instance {
  const params = isDraft(asked) ? (asked.given ?? {}) : asked.params;
  const node = policy.node?.({ params, named }) ?? named.node ?? '';
  return nothingYet(policy.type ?? 'qemu', vmid, inventory.host(node), inventory.volumes(vmid, node));
}

/** Administrators' parameters as they came; tenants' as the row writes them, arrays as PVE takes them. */
function forwardedBy(policy: ChangePolicy, asked: Call | Draft, change: Change): Params {
  const lists = isDraft(asked) ? [] : (policy.lists ?? []).filter((name) => asked.params[name] !== undefined);
  const arrays = lists.map((name) => [name, parseList(change.params[name])] as const);
  return { ...(policy.forward?.(change) ?? change.params), ...Object.fromEntries(arrays) };
}

function asGiven(asked: Call | Draft, { params }: Change): Params {
  return isDraft(asked) ? params : asked.params;
}

/** The change with what PVE tells of it; what it refuses to tell is unknown to the projection. */
async function toldBy({ upstream, inventory }: Gate, policy: ChangePolicy, found: Change): Promise<Change> {
  const { host } = found.before;
  const passes = host.devices === undefined && Object.keys(found.params).some(isDeviceSlot);
  if (passes) await inventory.devices(host.node);
  const change = passes ? { ...found, before: { ...found.before, host: inventory.host(host.node) } } : found;
  const told = await Promise.all(
    (policy.asks?.(change) ?? []).map(async (question) => {
      const answer = await upstream.send(question, { kind: 'service' });
      return succeeded(answer) ? answer.data : undefined;
    }),
  );
  return { ...change, told };
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
  const joined = withoutArrays(policy, params);
  const faults = parameterFaults(policy.params, joined);
  if (faults.length > 0) throw new BadRequestError(faults);
  return texts(policy, joined);
}

/** An instance that the call changes or reads, as it is at this moment; the caller's, or shared with them by a privilege in PVE. */
async function theirs(
  gate: Gate,
  subject: Subject,
  vmid: number,
  privilege: string | undefined = undefined,
): Promise<Instance> {
  const { policy, caller, named } = subject;
  const { inventory, ledger } = gate;
  if (!Number.isSafeInteger(vmid))
    throw new BadRequestError({ field: 'vmid', problem: 'is required: which instance?' });
  const shared = privilege !== undefined && (await holds(gate.upstream, caller, `/vms/${vmid}`, privilege));
  if (!caller.record.cluster.admin && !shared) await mustBeTheirs(gate, caller, vmid);
  const storages = (before: Instance) => policy.storages?.(changeOf(gate, subject, before)) ?? [];
  const listed = inventory.guests.get(vmid);
  const where = { vmid, type: policy.type ?? listed?.type ?? 'qemu', node: named.node ?? '' };
  const { instance, sighting, stamp } = await inventory.look(where, storages);
  ledger.see(sighting, stamp);
  if (instance === null) throw new NotFoundError(`there is no instance ${vmid}`);
  const { type = instance.type } = policy;
  const inPath = named.vmid === String(vmid) || subject.vmids.includes(vmid);
  const elsewhere =
    inPath && named.backup === undefined && named.node !== undefined && instance.host.node !== named.node;
  if (instance.type !== type || elsewhere) {
    throw new BadRequestError({
      field: 'vmid',
      problem: `instance ${vmid} is a ${instance.type} guest on node ${instance.host.node}`,
    });
  }
  if (takesDigest(policy) && subject.vmids[0] === vmid)
    mustBeJudgedOn(instance, changeOf(gate, subject, instance).params.digest);
  return instance;
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

/** Parameters as single texts; only those that the row calls lists may be arrays. */
function texts(policy: ChangePolicy, params: Params): Config {
  const entries = Object.entries(withoutArrays(policy, params)).map(([field, value]) => {
    if (typeof value !== 'string') throw new NotSupportedError(`${field}: give it once`);
    return [field, value] as const;
  });
  return Object.fromEntries(entries);
}

function withoutArrays({ lists = [] }: ChangePolicy, params: Params): Params {
  const entries = Object.entries(params).map(([field, value]) => [
    field,
    typeof value !== 'string' && lists.includes(field) ? value.join(',') : value,
  ]);
  return Object.fromEntries(entries);
}
