/** What a call that changes instances is about, and what it asks of each of them. */

import { BadRequestError, NotSupportedError } from '../errors.ts';
import { type Call, type Draft, type Params, singles, succeeded } from '../pve/call.ts';
import { backupOwner, type Config, type Instance, volumeOwner } from '../pve/instance.ts';
import { nothingYet, parseList } from '../pve/projections.ts';
import type { Caller, Gate } from './gate.ts';
import { type Asked, type Change, type ChangePolicy, type Named, parameterFaults } from './policy.ts';

/** A call that changes what instances take, and what it is about. */
export interface Subject {
  readonly policy: ChangePolicy;
  readonly asked: Call | Draft;
  readonly caller: Caller;
  /** The call as its row reads it. */
  readonly about: Asked;
  /** The guests that it changes or makes; null: every guest. */
  readonly vmids: readonly number[] | null;
  /** The guests that it reads. */
  readonly sources: readonly number[];
  /** The shelves of the files that it imports: none of these may be written meanwhile. */
  readonly shelves: readonly number[];
}

/** Finds out which guests a call is about. */
export function subjectOf(
  { allowances, ledger, inventory }: Gate,
  { policy, named }: { readonly policy: ChangePolicy; readonly named: Named },
  asked: Call | Draft,
  caller: Caller,
): Subject {
  const sent = isDraft(asked) ? undefined : asked.cargo?.bytes;
  const about: Asked = { params: givenBy(asked), named, allowances, ...(sent === undefined ? {} : { sent }) };
  const vmids = policy.guests === undefined ? [guestOf(about)] : policy.guests(about);
  const sources = new Set(policy.sources?.(about) ?? []).difference(new Set(vmids));
  const imported = (policy.media?.(singles(about.params)) ?? []).filter(({ content }) => content === 'import');
  const shelves = imported.flatMap(({ volid }) => {
    const place = inventory.placeOf(volid.slice(0, volid.indexOf(':')), policy.node?.(about) ?? named.node ?? '');
    return ledger.shelfWith({ place, volid }) ?? [];
  });
  return { policy, asked, caller, about, vmids: vmids && [...new Set(vmids)], sources: [...sources], shelves };
}

/** Throws when the call leaves it to PVE which node is meant. */
export function mustNameNode({ about }: Subject): void {
  if (about.named.node === 'localhost')
    throw new BadRequestError({ field: 'node', problem: 'localhost is whichever node answers; name the node' });
}

/** A call's parameters as far as they are known before the instance is. */
export function givenBy(asked: Call | Draft): Params {
  return isDraft(asked) ? (asked.given ?? {}) : asked.params;
}

export function isDraft(asked: Call | Draft): asked is Draft {
  return typeof asked.params === 'function';
}

/** The guest that a call is about: named in its path, by a volume's name, or by a parameter; NaN when by none. */
function guestOf({ named: { vmid, backup, image }, params }: Asked): number {
  if (vmid !== undefined) return Number(vmid);
  if (backup !== undefined) return backupOwner(backup) ?? Number.NaN;
  return image === undefined ? Number(params.vmid) : (volumeOwner(image) ?? Number.NaN);
}

/** What the call asks of an instance, as it is found. Throws what is wrong with the parameters. */
export function changeOf(
  { inventory, backupStorage, allowances }: Gate,
  { policy, asked, caller, about }: Subject,
  before: Instance,
  others: ReadonlyMap<number, Instance> = new Map(),
): Change {
  const given = isDraft(asked) ? asked.params(before) : asked.params;
  const known = texts(policy, caller.record.cluster.admin ? given : onlyKnown(policy, given, allowances.parameters));
  const params = policy.canonical?.(known) ?? known;
  const target = inventory.host(policy.node?.(about) ?? before.host.node);
  return { ...about, before, target, others, shared: new Set(), params, backupStorage, told: [] };
}

/** The place for an instance that is to be made. */
export function blank({ inventory }: Gate, { policy, about }: Subject, vmid: number): Instance {
  const node = policy.node?.(about) ?? about.named.node ?? '';
  const { absent: _, type: __, ...remains } = inventory.remains(vmid, node);
  return { ...nothingYet(policy.type ?? 'qemu', vmid, remains.host, remains.volumes), ...remains };
}

/** The change with what PVE tells of it; what it refuses to tell is unknown to the projection. */
export async function toldBy({ upstream, inventory }: Gate, policy: ChangePolicy, found: Change): Promise<Change> {
  const answersTo = (questions: readonly Call[] = []) =>
    Promise.all(
      questions.map(async (question) => {
        const answer = await upstream.send(question, { kind: 'service' });
        return succeeded(answer) ? answer.data : undefined;
      }),
    );
  const told = await answersTo(policy.asks?.(found));
  const change = { ...found, told: [...told, ...(await answersTo(policy.asksThen?.({ ...found, told })))] };
  if (policy.devices?.(change) !== true) return change;
  const { before, target } = change;
  await inventory.devices.of(target.node);
  const host = inventory.host(target.node);
  return { ...change, target: host, before: before.host.node === host.node ? { ...before, host } : before };
}

/** Administrators' parameters as they came; tenants' as the row writes them, arrays as PVE takes them. */
export function forwardedBy({ policy, asked, caller }: Subject, change: Change): Params {
  if (caller.record.cluster.admin) return isDraft(asked) ? change.params : asked.params;
  const lists = isDraft(asked) ? [] : (policy.lists ?? []).filter((name) => asked.params[name] !== undefined);
  const arrays = lists.map((name) => [name, parseList(change.params[name])] as const);
  return { ...(policy.forward?.(change) ?? change.params), ...Object.fromEntries(arrays) };
}

/** On lifted calls, exactly the parameters that the row names. */
function onlyKnown(policy: ChangePolicy, params: Params, allowed: readonly string[]): Params {
  const joined = withoutArrays(policy, params);
  const faults = parameterFaults(policy.params, joined, allowed);
  if (faults.length > 0) throw new BadRequestError(faults);
  return joined;
}

/** Parameters as single texts; only those that the row calls lists, or joined, may be arrays. */
function texts(policy: ChangePolicy, params: Params): Config {
  const entries = Object.entries(withoutArrays(policy, params)).map(([field, value]) => {
    if (typeof value !== 'string') throw new NotSupportedError([{ field, problem: 'give it once' }]);
    return [field, value] as const;
  });
  return Object.fromEntries(entries);
}

function withoutArrays({ lists = [], joined = [] }: ChangePolicy, params: Params): Params {
  const entries = Object.entries(params).map(([field, value]) => [
    field,
    typeof value !== 'string' && [...lists, ...joined].includes(field) ? value.join(',') : value,
  ]);
  return Object.fromEntries(entries);
}
