/** Making and destroying VMs. */

import { randomUUID } from 'node:crypto';
import { givenOptions } from './config-write.ts';
import { isCdrom, isDriveKey, parseDrive, realize } from './drives.ts';
import { assertUnlocked, assertUnprotected, removeGuest } from './guests.ts';
import { assertNoClones, freeAll, reserveGuest, undoing } from './lifecycle.ts';
import type { Context } from './method.ts';
import type { Guest } from './model.ts';
import { qemuOptions } from './options.ts';
import { textOf } from './parameters.ts';
import { demand, demandAllocate, demandSkiplock } from './permit.ts';
import { PveError } from './pve-error.ts';
import { canonicalOptions, demandOptions, demandStorages } from './qemu-config.ts';
import { autostart } from './qemu-power.ts';
import { restoreVm } from './qemu-restore.ts';
import { assertNoJobs, dropJobs } from './replication.ts';

/** The QEMU that makes new VMs, as their `meta` says. */
const qemuVersion = '10.1.2';

/**
 * Starts the creation of a VM and answers the task. The vmid is taken before the answer; drives are made and the pool
 * is entered by the task, and a task that fails leaves nothing behind.
 */
export function createVm(context: Context): string {
  const { cluster, node, caller, param } = context;
  if (param.archive !== undefined) return restoreVm(context);
  const vmid = Number(param.vmid);
  const pool = textOf(param.pool);
  const storage = textOf(param.storage);
  const set = canonicalOptions(context, givenOptions(qemuOptions, param));
  demandAllocate(context, vmid, pool);
  demandOptions(context, vmid, pool, { set, delete: [] });
  demandStorages(context, vmid, set, storage);
  if (param['ha-managed']) demand(context, '/', ['Sys.Console']);

  const guest = reserveGuest(context, { vmid, type: 'qemu' });
  return cluster.tasks.start({
    node,
    type: 'qmcreate',
    id: String(vmid),
    caller,
    run(log) {
      undoing(context, guest, () => fill(context, guest, set, storage));
      if (pool !== undefined) cluster.join(pool, vmid);
      guest.config.delete('lock');
      return param.start ? autostart(context, guest, log) : undefined;
    },
    abandon: () => removeGuest(cluster, vmid),
  });
}

function fill(context: Context, guest: Guest, set: ReadonlyMap<string, string>, storage: string | undefined): void {
  const { cluster, node } = context;
  const site = { cluster, node, vmid: guest.vmid };
  for (const [key, value] of set) {
    guest.config.set(key, isDriveKey(key) ? realize(site, key, parseDrive(key, value), { storage }) : value);
  }
  const { config } = guest;
  config.set('meta', `creation-qemu=${qemuVersion},ctime=${Math.floor(cluster.now() / 1000)}`);
  if (!config.has('smbios1')) config.set('smbios1', `uuid=${randomUUID()}`);
  if (['1', undefined].includes(config.get('vmgenid'))) config.set('vmgenid', randomUUID());
  const order = defaultBootOrder(config);
  if (!config.has('boot') && order !== '') config.set('boot', `order=${order}`);
}

/** The first disk, the first cdrom and the first net, in PVE's order of buses. */
function defaultBootOrder(config: ReadonlyMap<string, string>): string {
  const buses = ['ide', 'scsi', 'virtio', 'sata'];
  const rank = (key: string) => buses.indexOf(key.replace(/\d+$/, '')) * 100 + Number(/\d+$/.exec(key)?.[0]);
  const all = [...config].filter(([key]) => rank(key) >= 0 && isDriveKey(key)).sort(([a], [b]) => rank(a) - rank(b));
  const first = (cdrom: boolean) => all.find(([key, value]) => isCdrom(parseDrive(key, value)) === cdrom)?.[0];
  const net = [...config.keys()]
    .filter((key) => /^net\d+$/.test(key))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))[0];
  return [first(false), first(true), net].filter((key) => key !== undefined).join(';');
}

/**
 * Starts the destruction of a VM and answers the task. Its own volumes in the configuration go, attached, unused,
 * pending and state; those that only a snapshot or nobody names stay, unless unreferenced disks are asked for.
 */
export function destroyVm(context: Context, guest: Guest): string {
  const { cluster, node, caller, param } = context;
  demandSkiplock(context, param.skiplock);
  const assertDestroyable = () => {
    assertUnprotected(guest, `can't remove VM ${guest.vmid}`);
    if (!param.skiplock) assertUnlocked(guest);
    if (guest.status === 'running') throw new PveError(500, `VM ${guest.vmid} is running - destroy failed`);
    if (!param.purge) assertNoJobs(cluster, guest.vmid);
    assertNoClones(context, guest);
  };
  assertDestroyable();
  return cluster.tasks.start({
    node,
    type: 'qmdestroy',
    id: String(guest.vmid),
    caller,
    run() {
      assertDestroyable();
      freeAll(context, guest, Boolean(param['destroy-unreferenced-disks']));
      removeGuest(cluster, guest.vmid);
      dropJobs(cluster, guest.vmid);
    },
  });
}
