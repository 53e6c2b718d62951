/** `/nodes/{node}/vzdump` and pruning: making backups, reading them, and letting them go by rule. */

import { archiveAt, archiveText } from '../archives.ts';
import { dumpGuests } from '../backups.ts';
import type { Context, MethodRow, Schema } from '../method.ts';
import type { StorageDefinition } from '../model.ts';
import { flag, integer, named, oneOf, text, textOf, vmid } from '../parameters.ts';
import { demand, demandVolume } from '../permit.ts';
import { backupsOn, type KeepRules, type PruneRow, parseKeepRules, pruneRows } from '../pruning.ts';
import { PveError } from '../pve-error.ts';
import { storageOn } from '../volumes.ts';

const prunePath = '/nodes/{node}/storage/{storage}/prunebackups';
const pruneParameters = { 'prune-backups': text, type: oneOf('qemu', 'lxc'), vmid: { ...vmid, optional: true } };
const backups: Schema = named('pve-vmid-list');

function definitionOf({ cluster, node, param }: Context): StorageDefinition {
  return storageOn(cluster, node, String(param.storage));
}

function rulesOf({ param }: Context, { storage, pruneBackups }: StorageDefinition): KeepRules {
  const rules = textOf(param['prune-backups']) ?? pruneBackups;
  if (rules === undefined) throw new PveError(500, `no prune-backups options configured for storage '${storage}'`);
  return parseKeepRules(rules);
}

function rowsOf(context: Context): readonly PruneRow[] {
  const { cluster, node, param } = context;
  const definition = definitionOf(context);
  const wanted = { vmid: param.vmid as number | undefined, type: textOf(param.type) };
  return pruneRows(backupsOn(cluster, definition, node, wanted), rulesOf(context, definition));
}

/** One guest's backups are pruned by who may back it up, those of all by the master of the storage. */
function prune(context: Context): string {
  const { cluster, node, caller, param } = context;
  const storage = String(param.storage);
  if (param.vmid === undefined) {
    demand(context, `/storage/${storage}`, ['Datastore.Allocate']);
  } else {
    demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
    demand(context, `/vms/${param.vmid}`, ['VM.Backup']);
  }
  rulesOf(context, definitionOf(context));
  return cluster.tasks.start({
    node,
    type: 'prunebackups',
    id: param.vmid === undefined ? storage : `${param.vmid}@${storage}`,
    caller,
    run() {
      for (const { volume, mark } of rowsOf(context)) if (mark === 'remove') cluster.volumes.remove(volume);
    },
  });
}

/** The configuration text in a backup. */
function extractConfig(context: Context): string {
  const volid = String(context.param.volume);
  demandVolume(context, undefined, volid);
  return archiveText(archiveAt(context.cluster, context.node, volid));
}

/** What a backup is made like where nothing else is said. */
const usual = {
  ...{ all: 0, bwlimit: 0, compress: '0', ionice: 7, lockwait: 180, mailnotification: 'always', mode: 'snapshot' },
  ...{ 'notification-mode': 'auto', 'pbs-change-detection-mode': 'legacy', pigz: 0, quiet: 0, remove: 1 },
  ...{ stdexcludes: 1, stop: 0, stopwait: 10, zstd: 1 },
};

function defaults(context: Context): Record<string, unknown> {
  const { storage } = context.param;
  if (storage === undefined) return { ...usual, 'prune-backups': 'keep-all=1' };
  demand(context, `/storage/${storage}`, ['Datastore.Audit', 'Datastore.AllocateSpace'], true);
  const { pruneBackups = 'keep-all=1' } = definitionOf(context);
  return { ...usual, 'prune-backups': pruneBackups };
}

export const backupMethods: readonly MethodRow[] = [
  {
    method: 'POST',
    path: '/nodes/{node}/vzdump',
    permissions: { user: 'all' },
    parameters: {
      all: flag,
      bwlimit: integer(0),
      compress: oneOf('0', '1', 'gzip', 'lzo', 'zstd'),
      dumpdir: text,
      exclude: backups,
      'exclude-path': { type: 'array', optional: true },
      fleecing: text,
      ionice: integer(0, 8),
      'job-id': { ...text, pattern: '\\S+', maxLength: 50 },
      lockwait: integer(0),
      mailnotification: oneOf('always', 'failure'),
      mailto: text,
      mode: oneOf('snapshot', 'suspend', 'stop'),
      'notes-template': { ...text, maxLength: 1024, requires: 'storage' },
      'notification-mode': oneOf('auto', 'legacy-sendmail', 'notification-system'),
      'pbs-change-detection-mode': oneOf('legacy', 'data', 'metadata'),
      performance: text,
      pigz: integer(),
      pool: text,
      protected: { ...flag, requires: 'storage' },
      'prune-backups': text,
      quiet: flag,
      remove: flag,
      script: text,
      stdexcludes: flag,
      stdout: flag,
      stop: flag,
      stopwait: integer(0),
      storage: named('pve-storage-id'),
      tmpdir: text,
      vmid: backups,
      zstd: integer(),
    },
    run: dumpGuests,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/vzdump/defaults',
    permissions: { user: 'all' },
    parameters: { storage: named('pve-storage-id') },
    run: defaults,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/vzdump/extractconfig',
    permissions: { user: 'all' },
    parameters: { volume: { type: 'string' } },
    run: extractConfig,
  },
  {
    method: 'GET',
    path: prunePath,
    permissions: { check: ['perm', '/storage/{storage}', ['Datastore.Audit', 'Datastore.AllocateSpace'], 'any', 1] },
    parameters: pruneParameters,
    run: (context) =>
      rowsOf(context).map(({ volume, type, mark }) => ({
        ...{ volid: volume.volid, ctime: volume.ctime, type, mark },
        ...(volume.vmid === undefined ? {} : { vmid: volume.vmid }),
      })),
  },
  { method: 'DELETE', path: prunePath, permissions: { user: 'all' }, parameters: pruneParameters, run: prune },
];
