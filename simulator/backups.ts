/** vzdump: backing up guests of a node, one after the other in one task. */

import { addArchive, archiveOf } from './archives.ts';
import { assertUnlocked, kindOf } from './guests.ts';
import { refusalOf } from './locked-task.ts';
import type { Context } from './method.ts';
import type { Guest, StorageDefinition } from './model.ts';
import { splitList } from './named-formats.ts';
import { textOf } from './parameters.ts';
import { demand, isRoot, may } from './permit.ts';
import { parseProperties } from './property-string.ts';
import {
  backupsOn,
  isProtectionLeft,
  type KeepRules,
  mostKept,
  parseKeepRules,
  protectionFault,
  pruneRows,
} from './pruning.ts';
import { PveError, parameterError } from './pve-error.ts';
import { storageOn } from './volumes.ts';

const forRootAlone = ['tmpdir', 'dumpdir', 'script', 'job-id'];
const forTheHost = ['bwlimit', 'ionice', 'performance'];

/**
 * Starts the backup of guests of this node and answers the task. Guests of other nodes are passed over; when there are
 * no others, the answer is the text `OK` and there is no task.
 */
export function dumpGuests(context: Context): string {
  const { cluster, node, caller, param } = context;
  demandParameters(context);
  const wanted = wantedGuests(context);
  const local = wanted.filter((vmid) => [node, undefined].includes(cluster.guests.get(vmid)?.node));
  if (local.length === 0 && !param.all) return 'OK';
  if (param.storage !== undefined) demand(context, `/storage/${param.storage}`, ['Datastore.AllocateSpace']);

  const locked = new Map<number, Guest>();
  const problems = new Map<number, PveError>();
  for (const vmid of new Set(local)) {
    const problem = refusalOf(() => locked.set(vmid, lock(context, vmid)));
    if (problem !== undefined) problems.set(vmid, problem);
  }
  const unlock = () => {
    for (const { config } of locked.values()) config.delete('lock');
  };
  return cluster.tasks.start({
    node,
    type: 'vzdump',
    id: local.length === 1 ? String(local[0]) : '',
    caller,
    run(log) {
      unlock();
      const storage = backupStorage(context);
      for (const vmid of local) if (!param.all) demand(context, `/vms/${vmid}`, ['VM.Backup']);
      for (const vmid of local) {
        const guest = locked.get(vmid);
        if (guest === undefined) continue;
        if (param.all && !may(context, `/vms/${vmid}`, ['VM.Backup'])) continue;
        log(`INFO: Starting Backup of VM ${vmid} (${guest.type})`);
        const problem = refusalOf(() => dump(context, storage, guest, log));
        if (problem !== undefined) problems.set(vmid, problem);
      }
      for (const [vmid, { message }] of problems) log(`ERROR: Backup of VM ${vmid} failed - ${message}`);
      if (problems.size > 0) throw new PveError(500, 'job errors');
    },
    abandon: unlock,
  });
}

function demandParameters(context: Context): void {
  const { param } = context;
  if (param.stdout) throw parameterError({ stdout: 'option is only allowed on the command line interface.' });
  for (const name of forRootAlone) {
    if (param[name] !== undefined && !isRoot(context))
      throw parameterError({ [name]: 'Only root may set this option.' });
  }
  if (forTheHost.some((name) => param[name] !== undefined)) demand(context, '/', ['Sys.Modify']);
  if (param['prune-backups'] !== undefined) {
    parseKeepRules(String(param['prune-backups']));
    if (param.storage !== undefined) demand(context, `/storage/${param.storage}`, ['Datastore.Allocate']);
  }
  const fleecing = fleecingStorage(textOf(param.fleecing));
  if (fleecing !== undefined) demand(context, `/storage/${fleecing}`, ['Datastore.AllocateSpace']);
  if (param.vmid !== undefined) {
    for (const name of ['all', 'pool', 'exclude']) {
      if (param[name]) throw parameterError({ [name]: "option conflicts with option 'vmid'" });
    }
  } else if (!param.all && !param.pool && !param.stop) {
    throw parameterError({ vmid: 'property is missing and it is not optional' });
  }
  if (param.pool !== undefined && param.exclude !== undefined) {
    throw parameterError({ exclude: "option conflicts with option 'pool'" });
  }
}

function fleecingStorage(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const { enabled, storage } = parseProperties(
    { properties: { enabled: { type: 'boolean', defaultKey: true }, storage: { type: 'string' } } },
    text,
  );
  return enabled === '1' ? storage : undefined;
}

/** The guests that the parameters name, of all nodes; one that is named twice, twice. */
function wantedGuests({ cluster, param }: Context): readonly number[] {
  const excluded = new Set(splitList(param.exclude).map(Number));
  if (param.vmid !== undefined)
    return splitList(param.vmid)
      .map(Number)
      .sort((a, b) => a - b);
  if (param.pool === undefined)
    return param.all ? [...cluster.guests.keys()].filter((vmid) => !excluded.has(vmid)) : [];
  const pool = cluster.pools.get(String(param.pool));
  if (pool === undefined) throw new PveError(500, `pool '${param.pool}' does not exist`);
  return [...pool.vms].sort((a, b) => a - b);
}

function lock({ cluster }: Context, vmid: number): Guest {
  const guest = cluster.guests.get(vmid);
  if (guest === undefined) throw new PveError(500, `unable to find VM '${vmid}'`);
  assertUnlocked(guest);
  guest.config.set('lock', 'backup');
  return guest;
}

function backupStorage({ cluster, node, param }: Context): StorageDefinition {
  const storage = textOf(param.storage) ?? 'local';
  const definition = storageOn(cluster, node, storage);
  if (definition.content.includes('backup')) return definition;
  const why = `can't use storage '${storage}' for backups - wrong content type`;
  throw new PveError(500, `could not get storage information for '${storage}': ${why}`);
}

function dump(context: Context, definition: StorageDefinition, guest: Guest, log: (line: string) => void): void {
  const { cluster, node, param } = context;
  const { vmid, type } = guest;
  const rules = parseKeepRules(textOf(param['prune-backups']) ?? definition.pruneBackups ?? 'keep-all=1');
  const before = backupsOn(cluster, definition, node, { vmid, type });
  if (param.remove === 0) assertRoom(rules, before.filter((volume) => !volume.protected).length);
  const isMaster = may(context, `/storage/${definition.storage}`, ['Datastore.Allocate']);
  if (param.protected && !isProtectionLeft(before, isMaster)) {
    throw new PveError(500, protectionFault(definition.storage));
  }
  const notes = param['notes-template'] === undefined ? undefined : notesOf(context, guest);
  const volume = addArchive(cluster, {
    ...{ definition, node, vmid, archive: archiveOf(cluster, guest), time: Math.floor(cluster.now() / 1000) },
    compress: textOf(param.compress) ?? '0',
    ...(notes === undefined ? {} : { notes }),
    ...(param.protected ? { protected: true } : {}),
  });
  log(`INFO: creating vzdump archive '${volume.volid}'`);
  if (param.remove === 0) return;
  for (const row of pruneRows(backupsOn(cluster, definition, node, { vmid, type }), rules)) {
    if (row.mark === 'remove') cluster.volumes.remove(row.volume);
  }
}

function assertRoom(rules: KeepRules, taken: number): void {
  const most = mostKept(rules);
  if (taken < most) return;
  const advice = 'Either increase the limit or delete old backups.';
  throw new PveError(
    500,
    `There is a max backup limit of ${most} enforced by the target storage or the vzdump parameters. ${advice}`,
  );
}

function notesOf({ node, param }: Context, guest: Guest): string {
  const names: Readonly<Record<string, string>> = {
    cluster: 'simulated',
    guestname: guest.config.get(guest.type === 'qemu' ? 'name' : 'hostname') ?? `${kindOf(guest)} ${guest.vmid}`,
    node,
    vmid: String(guest.vmid),
  };
  return String(param['notes-template'])
    .replace(/\\(\\|n)/g, (_, char: string) => (char === 'n' ? '\n' : '\\'))
    .replace(/\{\{([^{}]+)\}\}/g, (_, name: string) => {
      const value = names[name];
      if (value === undefined) throw new PveError(500, `unexpected variable name '${name}' in notes-template`);
      return value;
    });
}
