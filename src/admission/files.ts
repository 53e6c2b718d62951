/** Calls about files that belong to no guest: who made one owns it, pays for it, and alone may overwrite or delete it. */

import { BadRequestError, type Fault, ForbiddenError, UsageUnknownError } from '../errors.ts';
import { describeCall } from '../pve/call.ts';
import type { FileName } from '../quota/ledger.ts';
import { mustBeOwnNode, mustOperateSomewhere } from './access.ts';
import { forward } from './forward.ts';
import type { Caller, Gate, Outcome } from './gate.ts';
import { mustNotObject } from './objections.ts';
import type { Change, FileRow } from './policy.ts';
import { reserve } from './reserve.ts';
import { blank, changeOf, forwardedBy, isDraft, mustNameNode, type Subject, toldBy } from './subject.ts';

/**
 * Judges and forwards a call about a file. What administrators put on a storage is nobody's, and on offer to all; what
 * they do to a tenant's file is booked. Files are reserved one at a time for each shelf, and written side by side.
 */
export async function changeFile(gate: Gate, subject: Subject, row: FileRow): Promise<Outcome> {
  const { asked, caller, about, policy } = subject;
  const { inventory, ledger, upstream, turns } = gate;
  if (isDraft(asked)) throw new TypeError(`${describeCall(asked)} changes no instance`);
  const { node = '' } = about.named;
  mustNameNode(subject);
  // What cannot pass whatever is there, is refused before PVE is asked anything.
  changeOf(gate, subject, blank(gate, subject, Number.NaN));
  const volid = row.volid(about);
  const name =
    typeof volid === 'string' ? { place: inventory.placeOf(volid.slice(0, volid.indexOf(':')), node), volid } : volid;
  const shelf = await shelfFor(gate, caller, row, node, name);
  if (shelf === undefined || !('volid' in name))
    return { answer: await upstream.send(asked, caller.credential), settled: Promise.resolve(undefined) };

  const { reservation, params } = await turns.take([shelf], async () => {
    await gate.payers.refresh();
    const where = { vmid: shelf, type: 'qemu', node: ledger.shelf(shelf)?.node ?? node } as const;
    const { instance, sighting, stamp } = await inventory.look(where, 'all');
    ledger.see(sighting, stamp);
    if (instance === null) throw new TypeError('a shelf is always there');
    const change = expecting(row, name, await toldBy(gate, policy, changeOf(gate, subject, instance)));
    if (!caller.record.cluster.admin) {
      await mustNotObject(gate, subject, change);
      mustBeTold(row, name, change);
    }
    const reservation = await reserve(gate, subject, [change]);
    return { reservation, params: forwardedBy(subject, change) };
  });
  const as = caller.record.cluster.admin ? caller.credential : ({ kind: 'service', for: caller.user } as const);
  return forward(gate, reservation, { ...asked, params }, as);
}

/** The shelf that a call changes; undefined where an administrator's call touches nobody's. Throws when a tenant may not make it. */
async function shelfFor(
  gate: Gate,
  caller: Caller,
  row: FileRow,
  node: string,
  name: FileName | Fault,
): Promise<number | undefined> {
  const { ledger } = gate;
  if (caller.record.cluster.admin) return 'volid' in name ? ledger.shelfWith(name) : undefined;
  if (!('volid' in name)) throw new BadRequestError(name);
  mustBeOwnNode(caller.record, node, 'node');
  // Files are in no pool, so one of the caller's is enough.
  await mustOperateSomewhere(gate, caller);
  if (row.bytes !== undefined) return ledger.shelfOf(caller.user, node, name);
  if (ledger.fileOwner(name) !== caller.user)
    throw new ForbiddenError(`${name.volid} is not yours, or is not there`).at('volume');
  return ledger.shelfWith(name);
}

/** The change with the file that it would leave, as far as that can be told. */
function expecting(row: FileRow, name: FileName, change: Change): Change {
  const bytes = row.bytes?.(change) ?? null;
  return bytes === null ? change : { ...change, file: { ...name, bytes } };
}

function mustBeTold({ bytes, source = 'url' }: FileRow, { volid }: FileName, { file }: Change): void {
  if (bytes !== undefined && file === undefined)
    throw new UsageUnknownError(
      `how much ${volid} would take cannot be told, so it is refused; upload the file instead`,
    ).at(source);
}
