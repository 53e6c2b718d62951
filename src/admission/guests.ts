/** The guests that a call changes, makes or reads, as they are at this moment, and as far as they are the caller's. */

import { BadRequestError, ConflictError, ForbiddenError, NotFoundError, UpstreamBrokenError } from '../errors.ts';
import { singles } from '../pve/call.ts';
import type { Instance } from '../pve/instance.ts';
import { grants } from '../quota/record.ts';
import {
  holds,
  mustBeOwnNode,
  mustBeOwnPlace,
  mustBeTheirs,
  mustJoin,
  mustOperateSomewhere,
  type PlaceFields,
  placed,
  poolFor,
} from './access.ts';
import { fieldOfGuest } from './causes.ts';
import type { Gate } from './gate.ts';
import { type Change, takesDigest } from './policy.ts';
import { blank, changeOf, type Subject, toldBy } from './subject.ts';

/** What a call asks of each guest that it changes or makes, with what PVE tells of it; throws when they are not the caller's. */
export async function changesOf(gate: Gate, subject: Subject): Promise<Change[]> {
  const { policy, caller } = subject;
  const { guests, shared } = await guestsOf(gate, subject);
  const changes: Change[] = [];
  for (const vmid of subject.vmids ?? []) {
    const before = guests.get(vmid) ?? blank(gate, subject, vmid);
    const others = new Map([...guests].filter(([other]) => other !== vmid));
    const { params, ...found } = changeOf(gate, subject, before, others);
    const place = { node: before.host.node, vmid };
    const settled =
      policy.kind === 'create' ? await placed(gate, caller, params, place, fieldsOfPlace(subject)) : params;
    changes.push(await toldBy(gate, policy, { ...found, shared, params: settled }));
  }
  return changes;
}

/**
 * Throws when a call is about guests of others, before it takes turns with their own changes. What is known here says
 * so without PVE in nearly all cases.
 */
export async function mustConcern(gate: Gate, subject: Subject): Promise<void> {
  const { policy, about, caller, vmids, sources } = subject;
  const { ledger, inventory } = gate;
  const { cluster } = caller.record;
  if (cluster.admin) return;
  const mayBeTheirs = (vmid: number) => {
    const pool = inventory.guests.get(vmid)?.pool;
    return ledger.payersOf(vmid).includes(caller.user) || (pool !== undefined && grants(cluster.pools, pool));
  };
  for (const vmid of vmids?.filter(Number.isSafeInteger) ?? []) {
    if (policy.kind !== 'create') {
      const isFree = policy.ofVolumes === true && !inventory.guests.has(vmid);
      if (!isFree && !mayBeTheirs(vmid)) await ofGuest(subject, vmid, mustBeTheirs(gate, caller, vmid));
      continue;
    }
    const node = policy.node?.(about) ?? about.named.node ?? '';
    const pool = poolFor(caller.record, singles(about.params).pool);
    mustBeOwnPlace(caller.record, { node, pool, vmid }, fieldsOfPlace(subject));
  }
  for (const vmid of sources) {
    const { sourcePrivilege } = policy;
    if (mayBeTheirs(vmid)) continue;
    if (sourcePrivilege === undefined || !(await holds(gate.upstream, caller, `/vms/${vmid}`, sourcePrivilege)))
      await ofGuest(subject, vmid, mustBeTheirs(gate, caller, vmid));
  }
}

/** What is found out about one guest of a call; a refusal says which parameter has named that guest. */
async function ofGuest<T>({ policy, about }: Subject, vmid: number, finding: Promise<T>): Promise<T> {
  try {
    return await finding;
  } catch (error) {
    if (error instanceof ForbiddenError || error instanceof NotFoundError || error instanceof ConflictError)
      throw error.faults.length > 0 ? error : error.at(fieldOfGuest(policy, about, vmid));
    throw error;
  }
}

/** By which parameters a call says where the guests will be, and which vmid a new one gets. */
function fieldsOfPlace({ policy, about }: Subject): PlaceFields {
  return {
    node: about.params.target === undefined ? 'node' : 'target',
    vmid: fieldOfGuest(policy, about, Number.NaN),
  };
}

/** The guests of a call that are there, as they are now, and those among them that are only shared with the caller. */
async function guestsOf(gate: Gate, subject: Subject) {
  const { policy, about, caller, sources } = subject;
  const vmids = policy.kind === 'create' ? [] : (subject.vmids ?? []);
  const guests = new Map<number, Instance>();
  const shared = new Set<number>();
  for (const vmid of sources) {
    const { source, isShared } = await ofGuest(subject, vmid, sourceOf(gate, subject, vmid));
    if (source !== null) guests.set(vmid, source);
    if (isShared) shared.add(vmid);
  }
  for (const vmid of vmids) guests.set(vmid, await ofGuest(subject, vmid, theirs(gate, subject, vmid)));
  const [node, pool] = [policy.node?.(about), policy.pool?.(about)];
  if (!caller.record.cluster.admin && vmids.length > 0) {
    if (node !== undefined) mustBeOwnNode(caller.record, node, fieldsOfPlace(subject).node);
    if (pool !== undefined) await mustJoin(gate, caller, pool, vmids);
  }
  return { guests, shared };
}

/** A guest that is only read: the caller's, or shared with them by a privilege in PVE. For administrators it need not be there. */
async function sourceOf(
  gate: Gate,
  subject: Subject,
  vmid: number,
): Promise<{ readonly source: Instance | null; readonly isShared: boolean }> {
  const { policy, caller } = subject;
  if (caller.record.cluster.admin) {
    const source = await present(gate, subject, vmid).catch((error: unknown) => {
      if (error instanceof NotFoundError || error instanceof BadRequestError) return null;
      throw error;
    });
    return { source, isShared: true };
  }
  const { sourcePrivilege } = policy;
  const isShared =
    sourcePrivilege !== undefined && (await holds(gate.upstream, caller, `/vms/${vmid}`, sourcePrivilege));
  return { source: await (isShared ? present : theirs)(gate, subject, vmid), isShared };
}

/** An instance of the caller's, as it is at this moment. */
async function theirs(gate: Gate, subject: Subject, vmid: number): Promise<Instance> {
  const { policy, caller } = subject;
  mustBeVmid(subject, vmid);
  if (policy.ofVolumes === true) {
    const remains = await remainsOf(gate, subject, vmid);
    if (remains !== null) return remains;
  }
  if (!caller.record.cluster.admin) await mustBeTheirs(gate, caller, vmid);
  return present(gate, subject, vmid);
}

function mustBeVmid({ policy, about }: Subject, vmid: number): void {
  if (!Number.isSafeInteger(vmid))
    throw new BadRequestError({ field: fieldOfGuest(policy, about, vmid), problem: 'is required: which instance?' });
}

/** An instance as it is at this moment, on the node and of the type that the call says. */
async function present(gate: Gate, subject: Subject, vmid: number): Promise<Instance> {
  const { policy, about, vmids } = subject;
  const { inventory, ledger } = gate;
  const { named } = about;
  mustBeVmid(subject, vmid);
  const storages = (before: Instance) => policy.storages?.(changeOf(gate, subject, before)) ?? [];
  const listed = inventory.guests.get(vmid);
  const where = { vmid, type: policy.type ?? listed?.type ?? 'qemu', node: named.node ?? '' };
  const { instance, sighting, stamp } = await inventory.look(where, storages);
  ledger.see(sighting, stamp);
  if (instance === null) throw new NotFoundError(`there is no instance ${vmid}`);
  const { type = instance.type } = policy;
  const isNamed = named.vmid === String(vmid) || vmids?.includes(vmid) === true;
  const bound = isNamed && named.backup === undefined && named.image === undefined && named.node !== undefined;
  if (instance.type !== type || (bound && instance.host.node !== named.node)) {
    throw new BadRequestError({
      field: fieldOfGuest(policy, about, vmid),
      problem: `instance ${vmid} is a ${instance.type} guest on node ${instance.host.node}`,
    });
  }
  if (takesDigest(policy) && vmids?.[0] === vmid)
    mustBeJudgedOn(instance, changeOf(gate, subject, instance).params.digest);
  return instance;
}

/** What storages hold under a vmid that no guest has (any more), for who pays for it; null when there is a guest. */
async function remainsOf(gate: Gate, { caller, about }: Subject, vmid: number): Promise<Instance | null> {
  const { inventory, ledger } = gate;
  if (inventory.guests.has(vmid) || !(await inventory.isFree(vmid))) return null;
  if (!caller.record.cluster.admin) {
    if (!ledger.payersOf(vmid).includes(caller.user))
      throw new ForbiddenError(`there is no instance ${vmid}, and what is left of one is not yours`);
    await mustOperateSomewhere(gate, caller);
  }
  const { node = '', storage } = about.named;
  const { sighting, stamp } = await inventory.look(
    { vmid, type: 'qemu', node },
    storage === undefined ? [] : [storage],
  );
  ledger.see(sighting, stamp);
  return inventory.remains(vmid, node);
}

/** A change applies to the configuration that it was judged on, so PVE has to tell that one's digest, and a caller's own has to be it. */
function mustBeJudgedOn({ vmid, digest }: Instance, asked: string | undefined): void {
  if (digest === undefined) throw new UpstreamBrokenError(`PVE does not tell the digest of instance ${vmid}`);
  if (asked !== undefined && asked !== digest) {
    throw new ConflictError(
      `the configuration of instance ${vmid} is not the one that was looked at (digest); look again`,
    ).at('digest');
  }
}
