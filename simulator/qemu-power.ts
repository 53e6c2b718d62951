/** Starting, stopping and suspending VMs. */

import { qemuCores } from './guest-status.ts';
import { freeVolume, isTemplate, setRunning, volumeIn } from './guests.ts';
import { assertRunning, power } from './lifecycle.ts';
import type { Context } from './method.ts';
import type { Guest } from './model.ts';
import { demand, demandOnGuest } from './permit.ts';
import { PveError } from './pve-error.ts';
import { applyAllPending, memoryOf } from './qemu-config.ts';
import { driveStorages } from './qemu-disks.ts';
import { MiB } from './sizes.ts';
import { allocate, isFileStorage } from './volumes.ts';

/** Everything pending takes effect first; a state that was saved to disk is used up. */
function boot(context: Context, guest: Guest): void {
  const { cluster } = context;
  applyAllPending(context, guest);
  const cpus = cluster.nodes.get(guest.node)?.cpus ?? 0;
  if (qemuCores(guest.config) > cpus) throw new PveError(500, `MAX ${cpus} vcpus allowed per VM on this node`);
  wake(context, guest);
  setRunning(cluster, guest);
}

function wake({ cluster }: Context, guest: Guest): void {
  const state = volumeIn(guest.config.get('vmstate') ?? '');
  if (state !== undefined) freeVolume(cluster, guest, state);
  for (const key of ['vmstate', 'lock', 'runningmachine', 'runningcpu']) guest.config.delete(key);
}

/** The start that follows a create or a restore: a VM that cannot start is a warning, not a failure. */
export function autostart(context: Context, guest: Guest, log: (line: string) => void): 'WARNINGS: 1' | undefined {
  try {
    boot(context, guest);
    return undefined;
  } catch (error) {
    if (!(error instanceof PveError)) throw error;
    log(error.message);
    return 'WARNINGS: 1';
  }
}

export function startVm(context: Context, guest: Guest): string {
  return power(context, guest, 'qmstart', () => {
    if (isTemplate(guest)) throw new PveError(500, "you can't start a vm if it's a template");
    if (guest.status === 'running') throw new PveError(500, `VM ${guest.vmid} already running`);
    boot(context, guest);
  });
}

/** Stops it at once or lets it shut down: here both end the same way, and neither minds one that is stopped. */
export function stopVm(context: Context, guest: Guest, type: 'qmstop' | 'qmshutdown'): string {
  return power(context, guest, type, () => {
    guest.status = 'stopped';
  });
}

export function rebootVm(context: Context, guest: Guest): string {
  assertRunning(guest);
  return power(context, guest, 'qmreboot', () => {
    guest.status = 'stopped';
    boot(context, guest);
  });
}

export function resetVm(context: Context, guest: Guest): string {
  assertRunning(guest);
  return power(context, guest, 'qmreset', () => assertRunning(guest));
}

/** Pauses it, or saves its memory to a volume of twice the RAM and 500 MiB and stops it. */
export function suspendVm(context: Context, guest: Guest): string {
  const { cluster, node, param } = context;
  assertRunning(guest);
  if (!param.todisk) return power(context, guest, 'qmpause', () => assertRunning(guest));
  const storage = String(param.statestorage ?? stateStorage(context, guest));
  demandOnGuest(context, guest.vmid, undefined, ['VM.Config.Disk']);
  demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
  return power(context, guest, 'qmsuspend', () => {
    const day = new Date(cluster.now()).toISOString().slice(0, 10);
    const bytes = stateBytes(guest);
    const state = allocate(cluster, {
      ...{ node, storage, vmid: guest.vmid, content: 'images', bytes, role: `state-suspend-${day}` },
    });
    guest.config.set('vmstate', state.volid);
    guest.config.set('lock', 'suspended');
    guest.status = 'stopped';
  });
}

/** What the saved memory of a VM takes: twice its RAM and 500 MiB. */
export function stateBytes(guest: Guest): number {
  return (2 * memoryOf(guest.config.get('memory')) + 500) * MiB;
}

/**
 * Where saved memory goes: the configured storage, else a shared one of its disks, else another of these, else `local`;
 * of several the last that keeps files, else the first.
 */
export function stateStorage({ cluster }: Context, guest: Guest): string {
  const used = [...new Set(driveStorages(guest))].sort().flatMap((storage) => cluster.storages.get(storage) ?? []);
  const best = [true, false].flatMap((shared) => {
    const alike = used.filter((definition) => definition.shared === shared);
    return alike.findLast(isFileStorage) ?? alike[0] ?? [];
  });
  return guest.config.get('vmstatestorage') ?? best[0]?.storage ?? 'local';
}

export function resumeVm(context: Context, guest: Guest): string {
  if (guest.config.get('lock') !== 'suspended') assertRunning(guest);
  return power(context, guest, 'qmresume', () => {
    if (guest.status !== 'running') boot(context, guest);
  });
}
