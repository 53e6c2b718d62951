/** `/nodes/{node}/qemu`: VMs. */

import { type ConfigWrite, givenOptions, withdrawnKeys } from '../config-write.ts';
import { liveStatus } from '../guest-status.ts';
import { assertDigest, assertUnlocked, guestOf, listedGuests, pendingRows, shownConfig } from '../guests.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import { parametersOf, qemuOptions } from '../options.ts';
import {
  digest,
  diskKeys,
  diskSize,
  flag,
  integer,
  named,
  oneOf,
  required,
  snapshotName,
  storageId,
  text,
  vmid,
} from '../parameters.ts';
import { demandRootFor, demandSkiplock } from '../permit.ts';
import { PveError } from '../pve-error.ts';
import { canonicalOptions, demandOptions, demandStorages, writeQemuConfig } from '../qemu-config.ts';
import { createVm, destroyVm } from '../qemu-create.ts';
import { moveDrive, resizeDrive } from '../qemu-disks.ts';
import { rebootVm, resetVm, resumeVm, startVm, stopVm, suspendVm } from '../qemu-power.ts';

const guestPath = '/nodes/{node}/qemu/{vmid}';

function onGuest(...privileges: readonly string[]): Permissions {
  return { check: ['perm', '/vms/{vmid}', privileges] };
}

const configPermissions: Permissions = {
  check: [
    'perm',
    '/vms/{vmid}',
    ['Disk', 'CDROM', 'CPU', 'Memory', 'Network', 'HWType', 'Options', 'Cloudinit'].map((name) => `VM.Config.${name}`),
    'any',
    1,
  ],
};

const unusedKeys = Array.from({ length: 256 }, (_, index) => `unused${index}`);

const configParameters = {
  ...parametersOf(qemuOptions),
  delete: text,
  revert: text,
  force: flag,
  digest,
  skiplock: flag,
};

/** The write that the parameters ask for, after everything that PVE checks before it takes the lock. */
function readWrite(context: Context): ConfigWrite {
  const { param } = context;
  demandSkiplock(context, param.skiplock);
  const set = canonicalOptions(context, givenOptions(qemuOptions, param));
  const write = { set, ...withdrawnKeys(qemuOptions, set, param), force: Boolean(param.force) };
  if (set.size + write.delete.length + write.revert.length === 0) throw new PveError(500, 'no options specified');
  const { config } = guestOf(context, 'qemu');
  const id = Number(param.vmid);
  demandOptions(context, id, undefined, write, config);
  demandStorages(context, id, set);
  return write;
}

function writing(context: Context): () => void {
  const { param, fault } = context;
  const write = readWrite(context);
  const guest = guestOf(context, 'qemu');
  assertDigest(guest, param.digest);
  if (!param.skiplock) assertUnlocked(guest);
  return () => writeQemuConfig(context, guest, write, fault?.kind === 'partial' ? fault : undefined);
}

function writeByTask(context: Context): string {
  const { cluster, node, caller, param } = context;
  const run = writing(context);
  return cluster.tasks.start({ node, type: 'qmconfig', id: String(param.vmid), caller, run });
}

/** With a delay PVE waits so long for the task: its error is the answer's then, and success answers nothing. */
function writeInBackground(context: Context): string | null {
  const upid = writeByTask(context);
  const task = context.cluster.tasks.get(upid);
  if (context.param.background_delay === undefined || task?.exitstatus === undefined) return upid;
  if (!/^(OK|WARNINGS: \d+)$/.test(task.exitstatus)) throw new PveError(500, task.exitstatus);
  return null;
}

function writeNow(context: Context): null {
  writing(context)();
  return null;
}

function unlink(context: Context): null {
  const { idlist, ...param } = context.param;
  return writeNow({ ...context, param: { ...param, delete: idlist } });
}

function statusRow(action: string, parameters: MethodRow['parameters'], run: (context: Context) => string): MethodRow {
  return {
    method: 'POST',
    path: `${guestPath}/status/${action}`,
    permissions: onGuest('VM.PowerMgmt'),
    parameters: { vmid, ...parameters },
    run,
  };
}

const timeout = integer(0);
const keepActive = flag;
const skiplock = flag;

/** How a start is told that it is one half of a migration. */
const onlyForRoot = {
  ...{ 'force-cpu': text, migratedfrom: text, migration_network: text, stateuri: { ...text, maxLength: 128 } },
  migration_type: oneOf('secure', 'insecure'),
  'nets-host-mtu': text,
  targetstorage: text,
  'with-conntrack-state': flag,
};

export const qemuMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu',
    permissions: { user: 'all' },
    parameters: { full: flag },
    run: (context) => listedGuests(context, 'qemu').map((guest) => liveStatus(context.cluster, guest)),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu',
    permissions: { user: 'all' },
    parameters: {
      ...parametersOf(qemuOptions),
      vmid,
      archive: { ...text, maxLength: 255 },
      force: { ...flag, requires: 'archive' },
      unique: { ...flag, requires: 'archive' },
      'live-restore': flag,
      pool: named('pve-poolid'),
      storage: storageId,
      start: flag,
      bwlimit: integer(0),
      'ha-managed': flag,
      'import-working-storage': storageId,
    },
    run: createVm,
  },
  {
    method: 'GET',
    path: guestPath,
    permissions: { user: 'all' },
    parameters: { vmid },
    run(context) {
      guestOf(context, 'qemu');
      return [
        'clone',
        'config',
        'migrate',
        'move_disk',
        'pending',
        'resize',
        'snapshot',
        'status',
        'template',
        'unlink',
      ].map((subdir) => ({ subdir }));
    },
  },
  {
    method: 'DELETE',
    path: guestPath,
    permissions: onGuest('VM.Allocate'),
    parameters: { vmid, skiplock: flag, purge: flag, 'destroy-unreferenced-disks': flag },
    run: (context) => destroyVm(context, guestOf(context, 'qemu')),
  },
  {
    method: 'GET',
    path: `${guestPath}/config`,
    permissions: onGuest('VM.Audit'),
    parameters: { vmid, current: flag, snapshot: snapshotName },
    run: (context) => shownConfig(guestOf(context, 'qemu'), context.param),
  },
  {
    method: 'PUT',
    path: `${guestPath}/config`,
    permissions: configPermissions,
    parameters: { ...configParameters, vmid },
    run: writeNow,
  },
  {
    method: 'POST',
    path: `${guestPath}/config`,
    permissions: configPermissions,
    parameters: { ...configParameters, vmid, background_delay: integer(1, 30), 'import-working-storage': storageId },
    run: writeInBackground,
  },
  {
    method: 'GET',
    path: `${guestPath}/pending`,
    permissions: onGuest('VM.Audit'),
    parameters: { vmid },
    run: (context) => pendingRows(guestOf(context, 'qemu')),
  },
  {
    method: 'PUT',
    path: `${guestPath}/unlink`,
    permissions: onGuest('VM.Config.Disk'),
    parameters: { vmid, idlist: { type: 'string', format: 'pve-configid-list' }, force: flag },
    run: unlink,
  },
  {
    method: 'PUT',
    path: `${guestPath}/resize`,
    permissions: onGuest('VM.Config.Disk'),
    parameters: { vmid, disk: required(oneOf(...diskKeys)), size: diskSize, digest, skiplock: flag },
    run: (context) => resizeDrive(context, guestOf(context, 'qemu')),
  },
  {
    method: 'POST',
    path: `${guestPath}/move_disk`,
    permissions: onGuest('VM.Config.Disk'),
    parameters: {
      vmid,
      disk: required(oneOf(...diskKeys, ...unusedKeys)),
      storage: storageId,
      format: oneOf('raw', 'qcow2', 'vmdk'),
      delete: flag,
      digest,
      'target-vmid': { ...vmid, optional: true },
      'target-disk': oneOf(...diskKeys, ...unusedKeys),
      'target-digest': digest,
      bwlimit: integer(0),
    },
    run: (context) => moveDrive(context, guestOf(context, 'qemu')),
  },
  {
    method: 'GET',
    path: `${guestPath}/status`,
    permissions: { user: 'all' },
    parameters: { vmid },
    run(context) {
      guestOf(context, 'qemu');
      return ['current', 'start', 'stop', 'shutdown', 'reboot', 'reset', 'suspend', 'resume'].map((subdir) => ({
        subdir,
      }));
    },
  },
  {
    method: 'GET',
    path: `${guestPath}/status/current`,
    permissions: onGuest('VM.Audit'),
    parameters: { vmid },
    run(context) {
      const guest = guestOf(context, 'qemu');
      return { ...liveStatus(context.cluster, guest), ha: { managed: 0 }, agent: guest.config.has('agent') ? 1 : 0 };
    },
  },
  statusRow('start', { timeout, skiplock, machine: text, ...onlyForRoot }, (context) => {
    demandRootFor(context, Object.keys(onlyForRoot));
    return startVm(context, guestOf(context, 'qemu'));
  }),
  statusRow('stop', { timeout, skiplock, keepActive, 'overrule-shutdown': flag, migratedfrom: text }, (context) => {
    demandRootFor(context, ['migratedfrom']);
    return stopVm(context, guestOf(context, 'qemu'), 'qmstop');
  }),
  statusRow('shutdown', { timeout, skiplock, keepActive, forceStop: flag }, (context) =>
    stopVm(context, guestOf(context, 'qemu'), 'qmshutdown'),
  ),
  statusRow('reboot', { timeout }, (context) => rebootVm(context, guestOf(context, 'qemu'))),
  statusRow('reset', { skiplock }, (context) => resetVm(context, guestOf(context, 'qemu'))),
  statusRow('suspend', { skiplock, todisk: flag, statestorage: { ...storageId, requires: 'todisk' } }, (context) =>
    suspendVm(context, guestOf(context, 'qemu')),
  ),
  statusRow('resume', { skiplock, nocheck: flag }, (context) => resumeVm(context, guestOf(context, 'qemu'))),
];
