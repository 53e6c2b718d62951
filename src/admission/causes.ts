/** Which parameters of a call are at fault when it is refused, by the names that the caller knows them by. */

import type { About } from '../errors.ts';
import { singles } from '../pve/call.ts';
import { type Config, isDiskSlot } from '../pve/instance.ts';
import { usageOf } from '../quota/usage.ts';
import type { Asked, Change, ChangePolicy } from './policy.ts';

/** What is known of a call when it is judged. */
interface Judged {
  readonly policy: ChangePolicy;
  /** The call as its row reads it. */
  readonly about: Asked;
  readonly changes: readonly Change[];
  /** Further numeric configuration keys that are resources. */
  readonly counted: readonly string[];
}

/**
 * The parameters that make a call take so much of a resource: those without which it would take less. Where none alone
 * does, since what they say is also the default, those of which it takes another amount when they say nothing; and else
 * the one that names what the call is about. Never none, and only what the call has in its parameters or its path.
 */
export function causesOf({ policy, about, changes, counted }: Judged, taken: About, scope = 'global'): string[] {
  const sent = Object.fromEntries(
    Object.entries(about.params).map(([name, value]) => [name, [value].flat().join(',')]),
  );
  // Each parameter is weighed by judging the call without it, and everybody else waits meanwhile.
  if (Object.keys(sent).length * changes.length > mostWeighed) return [nameGiven(about, scope)];
  const amountsOf = (params: Config) =>
    changes.map((change) => taking(policy, asking(policy, change, params), taken, counted));
  const amounts = amountsOf(sent);
  const causing = (differs: (amount: number, other: number) => boolean, other: (name: string) => Config) =>
    Object.keys(sent).filter(
      (name) => !names.has(name) && amountsOf(other(name)).some((one, n) => differs(amounts[n] ?? 0, one)),
    );
  const causes = causing(
    (amount, less) => less < amount,
    (name) => Object.fromEntries(Object.entries(sent).filter(([other]) => other !== name)),
  );
  if (causes.length > 0) return causes;
  const feeders = causing(
    (amount, other) => other !== amount,
    (name) => ({ ...sent, [name]: '' }),
  );
  return feeders.length > 0 ? feeders : [nameGiven(about, scope)];
}

/** Of calls with more parameters than this for all their guests, which is more than clients send, none is weighed. */
const mostWeighed = 80;

/** How much of a resource a change would leave; infinitely much where that cannot be told. */
function taking(policy: ChangePolicy, change: Change, { resource, item }: About, counted: readonly string[]): number {
  const { lines, unknown } = usageOf(policy.project(change), counted);
  const isMeant = (other: string) => other === resource || (other === 'storage:*' && resource.startsWith('storage:'));
  if (unknown.some((one) => isMeant(one.resource))) return Number.POSITIVE_INFINITY;
  return lines.reduce((sum, line) => sum + (line.resource === resource && line.item === item ? line.amount : 0), 0);
}

/** The change with other parameters; to questions that it asks all the same it has the same answers. */
function asking(policy: ChangePolicy, change: Change, sent: Config): Change {
  const other = { ...change, params: policy.canonical?.(sent) ?? sent };
  const questions = (of: Change) => policy.asks?.(of).map((question) => JSON.stringify(question)) ?? [];
  const asked = questions(change);
  return { ...other, told: questions(other).map((question) => change.told[asked.indexOf(question)]) };
}

/** The name by which the caller sent what the row reads as `name`; undefined when they sent no such thing. */
export function asSent({ canonical }: ChangePolicy, { params }: Asked, name: string): string | undefined {
  if (Object.hasOwn(params, name)) return name;
  const others = Object.entries(singles(params));
  return others.find(([sent, text]) => name in (canonical?.({ [sent]: text } satisfies Config) ?? {}))?.[0];
}

/** Parameters that say which guest or thing a call is about, in the order in which one is chosen to stand for the call. */
const names: ReadonlySet<string> = new Set([
  ...['todisk', 'to-disk', 'archive', 'target-vmid', 'newid', 'filename', 'vms', 'target', 'vmid'],
  ...['ostemplate', 'disk', 'volume', 'pool', 'node'],
]);

function nameGiven({ params, named }: Asked, scope: string): string {
  const isSent = (name: string) => params[name] !== undefined;
  if (params.target === scope) return 'target';
  if (params.restore === '1' && isSent('ostemplate')) return 'ostemplate';
  return [...names].find(isSent) ?? placeIn(named);
}

/** The parameter of the path that says what a call is about, by PVE's name for it. */
function placeIn({ snapshot, backup, image, file, id, vmid }: Asked['named']): string {
  if (snapshot !== undefined) return 'snapname';
  if ([backup, image, file].some((volume) => volume !== undefined)) return 'volume';
  if (id !== undefined) return 'id';
  return vmid === undefined ? 'node' : 'vmid';
}

/** The parameter by which a call names a guest, or would have to. */
export function fieldOfGuest({ params: table }: ChangePolicy, { params, named }: Asked, vmid: number): string {
  if (Number(named.vmid) === vmid) return 'vmid';
  const saysIt = new RegExp(`(?<!\\d)${vmid}(?!\\d)`);
  const sent = Object.entries(params).filter(([, text]) => saysIt.test(String(text)));
  const among = (candidates: readonly string[]) => candidates.find((name) => sent.some(([other]) => other === name));
  return (
    among(['newid', 'target-vmid', 'vms', 'vmid', 'archive', 'ostemplate', 'id']) ??
    sent.find(([name]) => isDiskSlot('qemu', name))?.[0] ??
    ['newid', 'vms', 'vmid', 'id'].find((name) => Object.hasOwn(table, name)) ??
    placeIn(named)
  );
}
