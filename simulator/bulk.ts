/** The same done to many guests, in one task that starts one for each and waits for it. */

import { isTemplate, kindOf } from './guests.ts';
import { startContainer, stopContainer } from './lxc-guests.ts';
import type { Context } from './method.ts';
import { migrateContainer, migrateVm } from './migrations.ts';
import type { Guest } from './model.ts';
import { demand } from './permit.ts';
import { PveError } from './pve-error.ts';
import { startVm, stopVm, suspendVm } from './qemu-power.ts';

/** Starts the task for one guest and answers it; undefined where there is nothing to do. */
type Act = (context: Context, guest: Guest) => string | undefined;

export interface Bulk {
  readonly type: string;
  readonly privileges: readonly string[];
  /** Absent: all guests. */
  readonly vmids: readonly number[] | undefined;
  /** Only guests of the node of the call, by right on the whole call; otherwise each guest's own rights count too. */
  readonly onNode: boolean;
  takes(guest: Guest): boolean;
  readonly act: Act;
}

/** Needs the privileges on every guest that is named, or on the whole cluster where none is. */
export function startBulk(context: Context, bulk: Bulk): string {
  const { cluster, node, caller } = context;
  const { type, privileges, vmids, onNode, takes, act } = bulk;
  for (const path of vmids?.length ? vmids.map((vmid) => `/vms/${vmid}`) : ['/']) demand(context, path, privileges);
  return cluster.tasks.start({
    ...{ node, type, id: '', caller },
    run(log) {
      const wanted = [...cluster.guests.values()]
        .filter((guest) => vmids === undefined || vmids.length === 0 || vmids.includes(guest.vmid))
        .filter((guest) => (!onNode || guest.node === node) && takes(guest))
        .sort((a, b) => a.vmid - b.vmid);
      const problems = wanted.flatMap((guest) => problemWith(context, bulk, guest, act) ?? []);
      for (const { text } of problems) log(text);
      const failed = problems.filter(({ isFailure }) => isFailure).map(({ vmid }) => vmid);
      if (failed.length > 0 && !onNode) throw new PveError(500, `Some guests failed: ${failed.join(', ')}`);
      return problems.length > 0 ? 'WARNINGS: 1' : undefined;
    },
  });
}

interface Problem {
  readonly vmid: number;
  readonly text: string;
  readonly isFailure: boolean;
}

function problemWith(context: Context, { privileges, onNode }: Bulk, guest: Guest, act: Act): Problem | undefined {
  const { cluster } = context;
  const { vmid } = guest;
  try {
    if (!onNode) demand(context, `/vms/${vmid}`, privileges);
    const own = { ...context, node: guest.node, param: { ...context.param, vmid } };
    const upid = cluster.tasks.atOnce(() => act(own, guest));
    if (upid === undefined) return { vmid, text: `Skipping ${kindOf(guest)} ${vmid}`, isFailure: false };
    const status = cluster.tasks.get(upid)?.exitstatus ?? '';
    return /^(OK|WARNINGS: \d+)$/.test(status) ? undefined : { vmid, text: status, isFailure: true };
  } catch (error) {
    if (error instanceof PveError) return { vmid, text: error.message, isFailure: true };
    throw error;
  }
}

export function isNoTemplate(guest: Guest): boolean {
  return !isTemplate(guest);
}

export const start: Act = (context, guest) => {
  if (guest.status === 'running') return undefined;
  return guest.type === 'qemu' ? startVm(context, guest) : startContainer(context, guest);
};

export const shutDown: Act = (context, guest) => {
  if (guest.status !== 'running') return undefined;
  return guest.type === 'qemu' ? stopVm(context, guest, 'qmshutdown') : stopContainer(context, guest, 'vzshutdown');
};

/** Only VMs can be suspended, and only those that run. */
export function suspend(param: Readonly<Record<string, unknown>>): Act {
  return (context, guest) => {
    if (guest.type !== 'qemu' || guest.status !== 'running') return undefined;
    return suspendVm({ ...context, param: { vmid: guest.vmid, ...param } }, guest);
  };
}

/** A container that runs is stopped and started again, a VM goes on running; `online` is what was said, not what is. */
export function migrate(online: (guest: Guest) => boolean): Act {
  return (context, guest) => {
    const { target, vmid } = context.param;
    if (guest.node === target) return undefined;
    const local = context.param['with-local-disks'];
    const param = { vmid, target, ...(online(guest) ? { online: 1, restart: 1 } : {}), 'with-local-disks': local };
    return guest.type === 'qemu'
      ? migrateVm({ ...context, param }, guest)
      : migrateContainer({ ...context, param }, guest);
  };
}
