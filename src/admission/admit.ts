/** The gate: every call of every surface passes here, in these steps. */

import {
  ApiError,
  BadRequestError,
  ForbiddenError,
  NotFoundError,
  NotReadyError,
  NotSupportedError,
  UpstreamUnreachableError,
} from '../errors.ts';
import {
  type Answer,
  type Call,
  type Credential,
  call,
  type Draft,
  describeCall,
  type Params,
  succeeded,
  type Upstream,
} from '../pve/call.ts';
import type { Config, Instance } from '../pve/instance.ts';
import type { TaskStatus } from '../pve/task.ts';
import { type Ledger, QuotaNeeded, type Reservation, type ReservationRequest } from '../quota/ledger.ts';
import { type Quota, quotaOf } from '../quota/limits.ts';
import type { Resources } from '../quota/resources.ts';
import { usageOf } from '../quota/usage.ts';
import { type Caller, granted, holds, mustBeOwnPlace, poolFor } from './access.ts';
import type { Inventory } from './inventory.ts';
import type { Payers } from './payers.ts';
import { blankInstance } from './policies/consuming.ts';
import { policyFor } from './policies/index.ts';
import { type Change, type ChangePolicy, type OwnPolicy, parameterFaults } from './policy.ts';
import { type Ending, endingOf, type Settlement } from './settlement.ts';
import type { Turns } from './turns.ts';

/** What the gate works with. */
export interface Gate {
  readonly upstream: Upstream;
  readonly ledger: Ledger;
  readonly inventory: Inventory;
  readonly payers: Payers;
  readonly settlement: Settlement;
  readonly turns: Turns;
  /** The privilege on an instance that makes its holder more than an onlooker. */
  readonly operatorPrivilege: string;
  readonly resources: Resources;
  /** Further numeric configuration keys that are resources. */
  readonly counted: readonly string[];
  /** Where isos and container templates are on offer. */
  readonly media: { readonly node: string; readonly storage: string } | undefined;
}

/** What became of a call. */
export interface Outcome {
  readonly answer: Answer;
  /** Resolves when the change is settled, with the last status of PVE's task when there was one. Never rejects. */
  readonly settled: Promise<TaskStatus | undefined>;
}

/**
 * Judges one call and, when it may pass, forwards it. Throws an ApiError when it may not; what PVE answers, refusals
 * included, comes back. A caller who hangs up changes nothing about what was begun.
 */
export async function admit(gate: Gate, asked: Call | Draft, caller: Caller): Promise<Outcome> {
  const resolved = policyFor(asked);
  if (resolved === undefined) throw new ForbiddenError(`${describeCall(asked)} is not offered here`);
  const { policy } = resolved;
  const vmid = resolved.vmid ?? (isDraft(asked) ? Number.NaN : Number(asked.params.vmid));
  if (!('project' in policy)) {
    if (isDraft(asked)) throw new TypeError(`${describeCall(asked)} changes no instance`);
    return passOn(gate, asked, caller, policy, { vmid, upid: resolved.upid });
  }
  try {
    return await change(gate, policy, asked, caller, { node: resolved.node ?? '', vmid });
  } catch (error) {
    if (error instanceof ApiError) {
      const detail = 'overruns' in error ? error.overruns : error.message;
      gate.ledger.refused({
        user: caller.user,
        address: caller.address,
        call: describeCall(asked),
        vmid,
        verdict: error.code,
        detail,
      });
    }
    throw error;
  }
}

/**
 * Reads and power go with the caller's own credentials. Two reads PVE would refuse although the matter is theirs: a guest
 * that is being made for them, and a task that we started for them.
 */
async function passOn(
  { upstream, ledger, inventory }: Gate,
  asked: Call,
  caller: Caller,
  policy: OwnPolicy,
  { vmid, upid }: { vmid: number; upid: string | undefined },
): Promise<Outcome> {
  const refused = Object.entries(policy.refused ?? {}).filter(
    ([name]) => asked.params[name] !== undefined && asked.params[name] !== '0',
  );
  if (refused.length > 0)
    throw new BadRequestError(refused.map(([field, problem]) => ({ field, problem: `not allowed: ${problem}` })));
  const isTheirs =
    (policy.ofGuest === true && ledger.isCreating(vmid, caller.user)) ||
    (policy.ofTask === true && ledger.taskUser(upid ?? '') === caller.user);
  const answer = await upstream.send(asked, isTheirs ? { kind: 'service' } : caller.credential);
  // Starting and stopping apply what was pending: what is held may have become less.
  if (policy.kind === 'power' && succeeded(answer)) inventory.stale.add(vmid);
  return { answer, settled: Promise.resolve(undefined) };
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
  const paramsFor = (before: Instance): Config => {
    const params = isDraft(asked) ? asked.params(before) : asked.params;
    return waived ? texts(params) : onlyKnown(policy, params);
  };
  const nothingYet = () =>
    blankInstance(policy.type, at.vmid, gate.inventory.host(at.node), gate.inventory.volumes(at.vmid));
  // What cannot pass whatever the instance is, is refused before PVE is asked anything.
  if (!isDraft(asked)) paramsFor(nothingYet());

  return gate.turns.take([at.vmid], async () => {
    await gate.payers.refresh();
    const found =
      policy.kind === 'create'
        ? { params: await placed(gate, caller, paramsFor(nothingYet()), at), before: nothingYet() }
        : await beforehand(gate, policy, caller, at, paramsFor);
    if (!waived) await mustNotObject(gate, policy, found);
    const reservation = await reserve(gate, policy, found, asked, caller);
    const params = waived ? found.params : (policy.forward?.(found) ?? found.params);
    const forwarded = { ...asked, params: withDigest(policy, found.before, params) };
    return forward(gate, reservation, forwarded, waived ? caller.credential : { kind: 'service' });
  });
}

/** Where a change happens. */
interface Place {
  readonly node: string;
  readonly vmid: number;
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

/** An instance that is there: PVE makes the caller its operator, and it is theirs to pay for or in a pool of theirs. */
async function mustBeTheirs(
  { upstream, inventory, ledger, operatorPrivilege }: Gate,
  caller: Caller,
  vmid: number,
): Promise<void> {
  if (!(await holds(upstream, caller, `/vms/${vmid}`, operatorPrivilege))) {
    throw new ForbiddenError(
      `you have no ${operatorPrivilege} on instance ${vmid} in PVE, or there is no such instance`,
    );
  }
  const { pool } = await inventory.find(vmid);
  const payers = ledger.payersOf(vmid);
  if (payers.length === 0) {
    throw new ForbiddenError(
      `nobody pays for instance ${vmid}, so only an administrator can change it; ask one to assign it to you`,
    );
  }
  if (!payers.includes(caller.user) && (pool === undefined || !granted(caller.record.cluster.pools, pool))) {
    throw new ForbiddenError(`instance ${vmid} is neither yours to pay for nor in one of your pools`);
  }
}

/** A new instance: node, pool and vmid are the caller's, and PVE makes them an operator there. Gives the parameters with the pool. */
async function placed(
  { upstream, operatorPrivilege }: Gate,
  caller: Caller,
  params: Config,
  { node, vmid }: Place,
): Promise<Config> {
  if (!Number.isSafeInteger(vmid) || vmid < 100) {
    throw new BadRequestError({
      field: 'vmid',
      problem: `must be a vmid from 100 to 999999999, not ${JSON.stringify(params.vmid ?? null)}`,
    });
  }
  if (caller.record.cluster.admin) return params;
  const pool = poolFor(caller.record, params.pool);
  mustBeOwnPlace(caller.record, { node, pool, vmid });
  for (const path of [`/pool/${pool}`, `/vms/${vmid}`]) {
    if (await holds(upstream, caller, path, operatorPrivilege)) return { ...params, pool };
  }
  throw new ForbiddenError(`you have no ${operatorPrivilege} on pool ${pool} in PVE`);
}

/** The instance that the call is about, read at this moment, and what the call asks of it. */
async function beforehand(
  gate: Gate,
  policy: ChangePolicy,
  caller: Caller,
  { node, vmid }: Place,
  paramsFor: (before: Instance) => Config,
): Promise<Change> {
  const { inventory, ledger } = gate;
  if (!caller.record.cluster.admin) await mustBeTheirs(gate, caller, vmid);
  const storages = (before: Instance) => policy.storages({ before, params: paramsFor(before) });
  const { instance, sighting, stamp } = await inventory.look({ type: policy.type, vmid, node }, storages);
  ledger.see(sighting, stamp);
  if (instance === null) throw new NotFoundError(`there is no instance ${vmid}`);
  if (instance.type !== policy.type || instance.host.node !== node) {
    throw new BadRequestError({
      field: 'vmid',
      problem: `instance ${vmid} is a ${instance.type} guest on node ${instance.host.node}`,
    });
  }
  return { before: instance, params: paramsFor(instance) };
}

/** What speaks against the change whatever the quota: volumes of others, media that are not on offer. */
async function mustNotObject({ upstream, media }: Gate, policy: ChangePolicy, change: Change): Promise<void> {
  const faults = [...policy.objections(change)];
  for (const { field, volid, content } of policy.media(change.params)) {
    if (media === undefined) {
      faults.push({ field, problem: 'no storage is configured to offer media from (useriso)' });
      continue;
    }
    const answer = await upstream.send(
      call('GET', '/nodes/{}/storage/{}/content', [media.node, media.storage], { content }),
      { kind: 'service' },
    );
    const offered =
      succeeded(answer) && Array.isArray(answer.data)
        ? (answer.data as { volid?: unknown }[]).map((row) => row.volid)
        : [];
    if (!succeeded(answer))
      throw new NotReadyError(
        `storage ${media.storage} does not list what is on offer (${answer.status} ${answer.reason}); try again in a moment`,
        5,
      );
    if (!offered.includes(volid))
      faults.push({ field, problem: `${volid} is not on offer on storage ${media.storage}` });
  }
  if (faults.length > 0) throw new BadRequestError(faults);
}

/** Charges the change to everybody who pays, before PVE hears of it. */
async function reserve(
  { inventory, ledger, payers, counted, resources }: Gate,
  policy: ChangePolicy,
  change: Change,
  asked: Call | Draft,
  caller: Caller,
): Promise<Reservation> {
  const { before, params } = change;
  const waived = caller.record.cluster.admin;
  if (!waived && inventory.frozen !== undefined && policy.kind !== 'destroy')
    throw new NotReadyError(`nothing may grow at the moment: ${inventory.frozen.reason}`, 30);
  if (!waived && !inventory.ready && policy.kind !== 'destroy')
    throw new NotReadyError('the server is still reading what the cluster holds; try again in a moment', 2);
  const after = usageOf(policy.project(change), counted);
  const pool = policy.kind === 'create' ? params.pool : inventory.guests.get(before.vmid)?.pool;
  const aim = {
    vmid: before.vmid,
    type: policy.type,
    node: before.host.node,
    pool,
    after,
    creates: policy.kind === 'create',
  };
  const request = (quotas: ReadonlyMap<string, Quota>): ReservationRequest => ({
    by: caller.user,
    address: caller.address,
    call: describeCall(asked),
    digest: policy.takesDigest ? before.digest : undefined,
    aims: [aim],
    quotas,
    waived,
  });
  const quotas = new Map<string, Quota>([[caller.user, quotaOf(caller.user, caller.record, resources)]]);
  for (;;) {
    try {
      return await ledger.reserve(request(quotas));
    } catch (error) {
      if (!(error instanceof QuotaNeeded)) throw error;
      for (const user of error.users) quotas.set(user, await payers.quota(user));
    }
  }
}

/** The change applies to the configuration that it was judged on, or not at all. */
function withDigest({ takesDigest }: ChangePolicy, { digest }: Instance, params: Params): Params {
  return takesDigest && digest !== undefined && params.digest === undefined ? { ...params, digest } : params;
}

/** Sends the call and sees to it that the reservation is closed, whatever PVE says and whether it says anything. */
async function forward(
  { upstream, ledger, settlement }: Gate,
  reservation: Reservation,
  asked: Call,
  as: Credential,
): Promise<Outcome> {
  try {
    const answer = await upstream.send(asked, as);
    const ending = endingOf(answer);
    if (ending.kind === 'task') ledger.setUpid(reservation.id, ending.upid);
    return { answer, settled: settlement.follow(reservation, ending) };
  } catch (error) {
    const outcome = error instanceof Error ? error.message : String(error);
    const ending: Ending =
      error instanceof UpstreamUnreachableError ? { kind: 'nothing', outcome } : { kind: 'lost', outcome };
    void settlement.follow(reservation, ending);
    throw error;
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
