/** Turning guests into templates: their disks become bases of linked clones. */

import { assertUnlocked, isTemplate, kindOf } from './guests.ts';
import { heldVolumes, withVolume } from './held-volumes.ts';
import type { Context } from './method.ts';
import type { Guest } from './model.ts';
import { PveError } from './pve-error.ts';
import { canBeBase, isBase, makeBase } from './volumes.ts';

/** Starts the conversion and answers the task; with `disk` only that one. The answer for a container is nothing at all. */
export function convertToTemplate(context: Context, guest: Guest): string | null {
  const { cluster, node, caller, param } = context;
  assertConvertible(context, guest);
  const upid = cluster.tasks.start({
    node,
    type: guest.type === 'qemu' ? 'qmtemplate' : 'vztemplate',
    id: String(guest.vmid),
    caller,
    run() {
      assertConvertible(context, guest);
      guest.config.set('template', '1');
      makeBases(context, guest, (key) => param.disk === undefined || key === param.disk);
    },
  });
  return guest.type === 'qemu' ? upid : null;
}

function assertConvertible({ cluster, param }: Context, guest: Guest): void {
  assertUnlocked(guest);
  if (guest.snapshots.size > 0) {
    throw new PveError(500, `unable to create template, because ${kindOf(guest)} contains snapshots`);
  }
  if (isTemplate(guest) && param.disk === undefined)
    throw new PveError(500, "you can't convert a template to a template");
  if (guest.status === 'running') {
    throw new PveError(500, `you can't convert a ${kindOf(guest)} to template if the ${kindOf(guest)} is running`);
  }
  for (const { key, volume } of heldVolumes(cluster, guest, guest.config)) {
    if (!canBeBase(cluster, volume)) throw new PveError(500, `unable to create template: '${key}' does not support it`);
  }
}

/** Renames the disks to bases; those that are bases already stay. */
export function makeBases({ cluster }: Context, guest: Guest, takes: (key: string) => boolean = () => true): void {
  for (const held of heldVolumes(cluster, guest, guest.config)) {
    if (isBase(held.volume) || !takes(held.key)) continue;
    guest.config.set(held.key, withVolume(guest.type, held, makeBase(cluster, held.volume)));
  }
}
