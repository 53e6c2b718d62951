/** Snapshots of guests: taking them, going back to them, and giving them up. */

import { randomUUID } from 'node:crypto';
import {
  freeVolume,
  isInUse,
  isTemplate,
  keepUnused,
  kindOf,
  owns,
  saved,
  setRunning,
  volumeIn,
  volumesIn,
} from './guests.ts';
import { heldVolids, heldVolumes } from './held-volumes.ts';
import { startLocked } from './locked-task.ts';
import type { Context } from './method.ts';
import type { Guest, Snapshot } from './model.ts';
import { PveError } from './pve-error.ts';
import { stateBytes, stateStorage } from './qemu-power.ts';
import { chainOf, chainSnapshot } from './volume-chain.ts';
import { allocate, canSnapshot } from './volumes.ts';

const prefixes = { qemu: 'qm', lxc: 'vz' } as const;

/** What is of the moment, not of the guest: a snapshot does not have it, and going back does not change it. */
function isOfTheMoment(key: string): boolean {
  return /^(lock|description|vmstate|unused\d+)$/.test(key);
}

/** The snapshot of the call. */
export function snapshotOf(guest: Guest, name: string): Snapshot {
  const snapshot = guest.snapshots.get(name);
  if (snapshot === undefined) throw new PveError(500, `snapshot '${name}' does not exist`);
  return snapshot;
}

/** A snapshot's section of the configuration file. */
export function snapshotSection({
  config,
  snaptime,
  parent,
  description,
}: Snapshot): ReadonlyMap<string, string | number> {
  return new Map<string, string | number>([
    ...config,
    ['snaptime', snaptime],
    ...(parent === undefined ? [] : [['parent', parent] as const]),
    ...(description === undefined ? [] : [['description', description] as const]),
  ]);
}

/** Starts taking a snapshot and answers the task; with `vmstate` the memory of a running VM goes onto a volume of its own. */
export function takeSnapshot(context: Context, guest: Guest): string {
  const { cluster, node, param } = context;
  const name = String(param.snapname);
  if (name === 'current' || name === 'pending') {
    throw new PveError(500, `unable to use snapshot name '${name}' (reserved name)`);
  }
  const savesMemory = Boolean(param.vmstate) && guest.type === 'qemu';
  return startLocked(context, guest, {
    type: `${prefixes[guest.type]}snapshot`,
    lock: 'snapshot',
    check() {
      if (isTemplate(guest)) throw new PveError(500, "you can't take a snapshot if it's a template");
      if (guest.snapshots.has(name)) throw new PveError(500, `snapshot name '${name}' already used`);
      const all = heldVolumes(cluster, guest, guest.config);
      if (!all.every(({ volume }) => canSnapshot(cluster, volume)))
        throw new PveError(500, 'snapshot feature is not available');
    },
    work() {
      const config = new Map([...guest.config].filter(([key]) => !isOfTheMoment(key) && key !== 'parent'));
      if (savesMemory && guest.status === 'running') {
        const [storage, bytes] = [stateStorage(context, guest), stateBytes(guest)];
        const place = { node, storage, vmid: guest.vmid, content: 'images', role: `state-${name}` } as const;
        config.set('vmstate', allocate(cluster, { ...place, bytes }).volid);
      }
      for (const { volume } of heldVolumes(cluster, guest, guest.config)) chainSnapshot(cluster, volume, name);
      const parent = guest.config.get('parent');
      guest.snapshots.set(name, {
        ...{ name, config, snaptime: Math.floor(cluster.now() / 1000) },
        ...(parent === undefined ? {} : { parent }),
        ...(param.description === undefined ? {} : { description: String(param.description) }),
      });
      guest.config.set('parent', name);
    },
  });
}

/**
 * Starts going back and answers the task. The configuration becomes that of the snapshot; description, unused volumes
 * and the list of snapshots stay, pending changes are dropped, and volumes that the snapshot does not have become unused.
 */
export function rollBack(context: Context, guest: Guest): string {
  const { cluster, param } = context;
  const name = String(param.snapname);
  return startLocked(context, guest, {
    type: `${prefixes[guest.type]}rollback`,
    lock: 'rollback',
    check() {
      if (isTemplate(guest)) throw new PveError(500, "you can't rollback if it is a template");
      snapshotOf(guest, name);
    },
    work() {
      const { config } = snapshotOf(guest, name);
      const left = heldVolids(guest.type, guest.config);
      const kept = [...guest.config].filter(([key]) => isOfTheMoment(key));
      guest.config = new Map([...kept, ...[...config].filter(([key]) => key !== 'vmstate'), ['parent', name]]);
      if (guest.config.has('vmgenid')) guest.config.set('vmgenid', randomUUID());
      guest.pending.clear();
      guest.status = 'stopped';
      for (const { volid } of left) if (!isInUse(guest, volid) && owns(guest, volid)) keepUnused(guest, volid);
      saved(guest);
      if (config.has('vmstate') || param.start) setRunning(cluster, guest);
    },
  });
}

/** Starts giving up a snapshot and answers the task; its saved memory is freed, disks that only it had become unused. */
export function deleteSnapshot(context: Context, guest: Guest): string {
  const { cluster, param } = context;
  const name = String(param.snapname);
  return startLocked(context, guest, {
    type: `${prefixes[guest.type]}delsnapshot`,
    lock: 'snapshot-delete',
    check() {
      if (isTemplate(guest)) throw new PveError(500, `you can't delete a snapshot if ${kindOf(guest)} is a template`);
      snapshotOf(guest, name);
    },
    work() {
      const { config, parent } = snapshotOf(guest, name);
      guest.snapshots.delete(name);
      for (const child of guest.snapshots.values()) {
        if (child.parent === name) guest.snapshots.set(child.name, withParent(child, parent));
      }
      if (guest.config.get('parent') === name) {
        if (parent === undefined) guest.config.delete('parent');
        else guest.config.set('parent', parent);
      }
      for (const { volid } of heldVolids(guest.type, config)) {
        const volume = cluster.volumes.get(guest.node, volid);
        for (const one of volume ? chainOf(cluster, volume, name) : []) cluster.volumes.remove(one);
      }
      const state = volumeIn(config.get('vmstate') ?? '');
      if (state !== undefined) freeVolume(cluster, guest, state);
      const known = new Set(
        [guest.config, ...[...guest.snapshots.values()].map((other) => other.config)].flatMap(volumesIn),
      );
      for (const { volid } of heldVolids(guest.type, config)) {
        const isLost = !known.has(volid) && cluster.volumes.get(guest.node, volid) !== undefined;
        if (isLost && owns(guest, volid)) keepUnused(guest, volid);
      }
    },
  });
}

function withParent({ parent: _parent, ...snapshot }: Snapshot, parent: string | undefined): Snapshot {
  return { ...snapshot, ...(parent === undefined ? {} : { parent }) };
}

/** Changes what is said about a snapshot; nothing at all takes it away. */
export function describeSnapshot({ param }: Context, guest: Guest): null {
  const { description: _description, ...snapshot } = snapshotOf(guest, String(param.snapname));
  const said = param.description === undefined ? {} : { description: String(param.description) };
  guest.snapshots.set(snapshot.name, { ...snapshot, ...said });
  return null;
}
