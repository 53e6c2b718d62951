/**
 * Storage replication: a job keeps a copy of a guest's local volumes on another node, under the same names on a storage
 * of the same name. From the moment it is set up it will take their room there, whether or not it has run.
 */

import { type Config, drivesOf, type GuestType, type Instance, propertiesOf } from './instance.ts';
import { rowsIn, rowsOf } from './rows.ts';

/** The guest that a job is for by its id (`100-0`); NaN when it is no such id. */
export function guestOfJob(id: string): number {
  const [, vmid] = /^([1-9]\d{2,8})-\d{1,9}$/.exec(id) ?? [];
  return Number(vmid ?? Number.NaN);
}

/** Reads the answer of `GET /cluster/replication`: the target nodes of each guest's jobs. Throws UpstreamBrokenError. */
export function readJobs(data: unknown): ReadonlyMap<number, readonly string[]> {
  const jobs = rowsOf(data, 'the list of replication jobs').map(({ id, guest, target }) => ({
    vmid: Number(guest ?? guestOfJob(String(id))),
    target: String(target),
  }));
  return new Map(
    [...Map.groupBy(jobs, ({ vmid }) => vmid)].map(([vmid, own]) => [
      vmid,
      [...new Set(own.map(({ target }) => target))].sort(),
    ]),
  );
}

/** Reads the answer of `GET .../snapshot`: whether there is any snapshot. Whoever is not told has to reckon with one. */
export function readHasSnapshots(data: unknown): boolean {
  return rowsIn(data)?.every(({ name }) => name === 'current') !== true;
}

/** The instance with one more job, to this node. */
export function replicatedTo(before: Instance, node: string, hasSnapshots: boolean): Instance {
  const { targets = [] } = before.replication ?? {};
  return { ...before, replication: { targets: [...new Set([...targets, node])], hasSnapshots } };
}

/** The instance with a snapshot: PVE replicates what any of them names, also what the configuration keeps out by then. */
export function withSnapshot(before: Instance): Instance {
  return before.replication === undefined
    ? before
    : { ...before, replication: { ...before.replication, hasSnapshots: true } };
}

/**
 * Tells on which nodes there are to be copies of a volume, by its id, or of what would be allocated in a slot by its text.
 * While there are snapshots nothing counts as kept out: one of them may name it otherwise, and PVE copies it then.
 */
export function replicaNodes(
  instance: Instance,
): (storage: string, volume: string | { readonly text: string }) => readonly string[] {
  const { absent, host, replication, type } = instance;
  if (absent || replication === undefined) return () => [];
  const targets = replication.targets.filter((node) => node !== host.node);
  const out = keptOut(instance);
  return (storage, volume) => {
    const isOut = typeof volume === 'string' ? out.has(volume) : isKeptOut(type, volume.text);
    return host.replicates?.has(storage) === false || (isOut && !replication.hasSnapshots) ? [] : targets;
  };
}

/**
 * The volumes that the configuration keeps out of replication wherever it names them. One that it will not name any more
 * is then an unused volume, which PVE replicates, unless it was in a CD-ROM drive.
 */
function keptOut({ type, current, next }: Instance): ReadonlySet<string> {
  const namedIn = (config: Config) =>
    [...drivesOf(type, config)].flatMap(([slot, drive]) =>
      drive?.kind === 'volume' ? [{ volid: drive.volid, text: config[slot] ?? '' }] : [],
    );
  const [now, later] = [namedIn(current), namedIn(next)];
  const out = (volid: string) => {
    const texts = [...now, ...later].filter((one) => one.volid === volid).map(({ text }) => text);
    const stays = later.some((one) => one.volid === volid);
    return texts.every((text) => (stays && isKeptOut(type, text)) || isCdrom(type, text));
  };
  return new Set(now.concat(later).flatMap(({ volid }) => (out(volid) ? [volid] : [])));
}

/** PVE leaves out what says so, and what lies in CD-ROM drives, such as the one for cloud-init. */
function isKeptOut(type: GuestType, text: string): boolean {
  const drive = propertiesOf(text, { defaultKey: type === 'qemu' ? 'file' : 'volume' });
  return /^(?:0|no|off|false)$/i.test(drive?.get('replicate') ?? '') || isCdrom(type, text);
}

function isCdrom(type: GuestType, text: string): boolean {
  const drive = type === 'qemu' ? propertiesOf(text, { defaultKey: 'file' }) : undefined;
  return drive?.get('media') === 'cdrom' || /:cloudinit$/.test(drive?.get('file') ?? '');
}
