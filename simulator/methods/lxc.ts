/** `/nodes/{node}/lxc`: containers. */

import { type ConfigWrite, givenOptions, withdrawnKeys } from '../config-write.ts';
import { liveStatus } from '../guest-status.ts';
import { assertDigest, assertUnlocked, guestOf, listedGuests, pendingRows, shownConfig } from '../guests.ts';
import { canonicalLxcOptions, demandLxcOptions, demandMounts, writeLxcConfig } from '../lxc-config.ts';
import {
  createContainer,
  destroyContainer,
  freezeContainer,
  moveMount,
  rebootContainer,
  resizeMount,
  startContainer,
  stopContainer,
} from '../lxc-guests.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import { lxcOptions, parametersOf } from '../options.ts';
import {
  digest,
  diskSize,
  flag,
  integer,
  named,
  number,
  oneOf,
  required,
  snapshotName,
  storageId,
  text,
  vmid,
} from '../parameters.ts';
import { PveError } from '../pve-error.ts';

const guestPath = '/nodes/{node}/lxc/{vmid}';

function onGuest(...privileges: readonly string[]): Permissions {
  return { check: ['perm', '/vms/{vmid}', privileges] };
}

const mountKeys = ['rootfs', ...Array.from({ length: 256 }, (_, index) => `mp${index}`)];
const unusedKeys = Array.from({ length: 256 }, (_, index) => `unused${index}`);

function writeConfig(context: Context): null {
  const { param, fault } = context;
  const set = canonicalLxcOptions(givenOptions(lxcOptions, param));
  const write: ConfigWrite = { set, ...withdrawnKeys(lxcOptions, set, param), force: false };
  if (set.size + write.delete.length + write.revert.length === 0) throw new PveError(500, 'no options specified');
  const guest = guestOf(context, 'lxc');
  demandLxcOptions(context, guest.vmid, undefined, write, guest.config.get('unprivileged') === '1');
  demandMounts(context, guest.vmid, set);
  assertUnlocked(guest);
  assertDigest(guest, param.digest);
  writeLxcConfig(context, guest, write, fault?.kind === 'partial' ? fault : undefined);
  return null;
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

export const lxcMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/lxc',
    permissions: { user: 'all' },
    parameters: {},
    run: (context) => listedGuests(context, 'lxc').map((guest) => liveStatus(context.cluster, guest)),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/lxc',
    permissions: { user: 'all' },
    parameters: {
      ...parametersOf(lxcOptions),
      vmid,
      ostemplate: { type: 'string', maxLength: 255 },
      storage: storageId,
      pool: named('pve-poolid'),
      password: { ...text, minLength: 5 },
      'ssh-public-keys': text,
      'ignore-unpack-errors': flag,
      'ha-managed': flag,
      bwlimit: number(0),
      start: flag,
      force: flag,
      restore: flag,
      unique: { ...flag, requires: 'restore' },
    },
    run: createContainer,
  },
  {
    method: 'GET',
    path: guestPath,
    permissions: { user: 'all' },
    parameters: { vmid },
    run(context) {
      guestOf(context, 'lxc');
      return ['clone', 'config', 'migrate', 'move_volume', 'pending', 'resize', 'snapshot', 'status', 'template'].map(
        (subdir) => ({ subdir }),
      );
    },
  },
  {
    method: 'DELETE',
    path: guestPath,
    permissions: onGuest('VM.Allocate'),
    parameters: { vmid, force: flag, purge: flag, 'destroy-unreferenced-disks': flag },
    run: (context) => destroyContainer(context, guestOf(context, 'lxc')),
  },
  {
    method: 'GET',
    path: `${guestPath}/config`,
    permissions: onGuest('VM.Audit'),
    parameters: { vmid, current: flag, snapshot: snapshotName },
    run: (context) => shownConfig(guestOf(context, 'lxc'), context.param),
  },
  {
    method: 'PUT',
    path: `${guestPath}/config`,
    permissions: {
      check: [
        'perm',
        '/vms/{vmid}',
        ['Disk', 'CPU', 'Memory', 'Network', 'Options'].map((name) => `VM.Config.${name}`),
        'any',
        1,
      ],
    },
    parameters: { ...parametersOf(lxcOptions), vmid, delete: text, revert: text, digest },
    run: writeConfig,
  },
  {
    method: 'GET',
    path: `${guestPath}/pending`,
    permissions: onGuest('VM.Audit'),
    parameters: { vmid },
    run: (context) => pendingRows(guestOf(context, 'lxc')),
  },
  {
    method: 'PUT',
    path: `${guestPath}/resize`,
    permissions: { check: ['perm', '/vms/{vmid}', ['VM.Config.Disk'], 'any', 1] },
    parameters: { vmid, disk: required(oneOf(...mountKeys)), size: diskSize, digest },
    run: (context) => resizeMount(context, guestOf(context, 'lxc')),
  },
  {
    method: 'POST',
    path: `${guestPath}/move_volume`,
    permissions: onGuest('VM.Config.Disk'),
    parameters: {
      vmid,
      volume: required(oneOf(...mountKeys, ...unusedKeys)),
      storage: storageId,
      delete: flag,
      digest,
      'target-vmid': { ...vmid, optional: true },
      'target-volume': oneOf(...mountKeys, ...unusedKeys),
      'target-digest': digest,
      bwlimit: number(0),
    },
    run: (context) => moveMount(context, guestOf(context, 'lxc')),
  },
  {
    method: 'GET',
    path: `${guestPath}/status`,
    permissions: { user: 'all' },
    parameters: { vmid },
    run(context) {
      guestOf(context, 'lxc');
      return ['current', 'start', 'stop', 'shutdown', 'reboot', 'suspend', 'resume'].map((subdir) => ({ subdir }));
    },
  },
  {
    method: 'GET',
    path: `${guestPath}/status/current`,
    permissions: onGuest('VM.Audit'),
    parameters: { vmid },
    run: (context) => ({ ...liveStatus(context.cluster, guestOf(context, 'lxc')), ha: { managed: 0 } }),
  },
  statusRow('start', { skiplock: flag, debug: flag }, (context) => startContainer(context, guestOf(context, 'lxc'))),
  statusRow('stop', { skiplock: flag, 'overrule-shutdown': flag }, (context) =>
    stopContainer(context, guestOf(context, 'lxc'), 'vzstop'),
  ),
  statusRow('shutdown', { timeout, forceStop: flag }, (context) =>
    stopContainer(context, guestOf(context, 'lxc'), 'vzshutdown'),
  ),
  statusRow('reboot', { timeout }, (context) => rebootContainer(context, guestOf(context, 'lxc'))),
  statusRow('suspend', {}, (context) => freezeContainer(context, guestOf(context, 'lxc'), 'vzsuspend')),
  statusRow('resume', {}, (context) => freezeContainer(context, guestOf(context, 'lxc'), 'vzresume')),
];
