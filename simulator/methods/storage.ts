/** `/storage` and `/nodes/{node}/storage`: where volumes lie, and what lies there. */

import { backupType } from '../archives.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import type { StorageDefinition, Volume } from '../model.ts';
import { splitList } from '../named-formats.ts';
import { flag, integer, named, oneOf, text, vmid } from '../parameters.ts';
import { type Asker, demand, demandVolume, may, mayUseVolume } from '../permit.ts';
import { backupsOn, isProtectionLeft, protectionFault } from '../pruning.ts';
import { PveError, parameterError } from '../pve-error.ts';
import { MiB } from '../sizes.ts';
import { discard } from '../volume-chain.ts';
import { isOnNode, namedVolid, ownerOf, pathOf, roundedOn, splitVolid, storageOn, usedBytes } from '../volumes.ts';

const storagePath = '/nodes/{node}/storage/{storage}';
const contentPath = `${storagePath}/content`;
const volumePath = `${contentPath}/{volume}`;
const readRights = ['Datastore.Audit', 'Datastore.AllocateSpace'];
const readable: Permissions = { check: ['perm', '/storage/{storage}', readRights, 'any', 1] };

function visible(asker: Asker): readonly StorageDefinition[] {
  return [...asker.cluster.storages.values()].filter(({ storage }) =>
    may(asker, `/storage/${storage}`, readRights, true),
  );
}

function definitionRow({
  storage,
  type,
  content,
  shared,
  nodes,
  pruneBackups,
  volumeChain,
}: StorageDefinition): Record<string, unknown> {
  return {
    storage,
    type,
    content: content.join(','),
    ...(shared ? { shared: 1 } : {}),
    ...(nodes === undefined ? {} : { nodes: nodes.join(',') }),
    ...(pruneBackups === undefined ? {} : { 'prune-backups': pruneBackups }),
    ...(volumeChain ? { 'snapshot-as-volume-chain': 1 } : {}),
  };
}

function statusRow({ cluster, node }: Context, definition: StorageDefinition): Record<string, unknown> {
  const { type, content, shared, total } = definition;
  const used = usedBytes(cluster, definition, node);
  return {
    type,
    content: content.join(','),
    shared: shared ? 1 : 0,
    active: 1,
    enabled: 1,
    total,
    used,
    avail: Math.max(0, total - used),
  };
}

function listed(context: Context): readonly Record<string, unknown>[] {
  const { node, param } = context;
  const wanted = splitList(String(param.content ?? ''));
  return visible(context)
    .filter((definition) => isOnNode(definition, node))
    .filter(({ storage }) => param.storage === undefined || storage === param.storage)
    .filter(({ content }) => wanted.length === 0 || wanted.some((sort) => content.includes(sort)))
    .map((definition) => {
      const row = statusRow(context, definition);
      return { storage: definition.storage, ...row, used_fraction: Number(row.used) / definition.total };
    });
}

function volumeRow(volume: Volume): Record<string, unknown> {
  const { volid, format, bytes, fileBytes, content, ctime, vmid: owner, notes, parent } = volume;
  const subtype = backupType(volid);
  return {
    volid,
    format,
    size: fileBytes ?? bytes,
    content,
    ctime,
    ...(owner === undefined ? {} : { vmid: owner }),
    ...(notes === undefined ? {} : { notes }),
    ...(volume.protected ? { protected: 1 } : {}),
    ...(parent === undefined ? {} : { parent }),
    ...(subtype === undefined ? {} : { subtype }),
  };
}

/** Everything named after a vmid with `vmid`, in a configuration or not; each volume only to those who may use it. */
function contentRows(context: Context): readonly Record<string, unknown>[] {
  const { cluster, node, param } = context;
  const definition = storageOn(cluster, node, String(param.storage));
  return cluster.volumes
    .onStorage(definition, node)
    .filter((volume) => !volume.hidden && (param.vmid === undefined || volume.vmid === param.vmid))
    .filter(({ content }) => param.content === undefined || content === param.content)
    .filter(({ volid }) => mayUseVolume(context, volid))
    .map(volumeRow);
}

/** The volume of the call, written with or without its storage in front. */
function namedVolume({ param }: Context): string {
  const volume = String(param.volume);
  const prefix = splitVolid(volume)?.storage;
  if (prefix === undefined) return `${param.storage}:${volume}`;
  if (prefix !== param.storage)
    throw parameterError({ storage: `storage ID missmatch (${prefix} != ${param.storage})` });
  return volume;
}

function volumeOf({ cluster, node }: Context, volid: string): Volume {
  storageOn(cluster, node, splitVolid(volid)?.storage ?? '');
  const volume = cluster.volumes.get(node, volid);
  if (volume === undefined) throw new PveError(500, `volume '${volid}' does not exist`);
  return volume;
}

function showVolume(context: Context): Record<string, unknown> {
  const volid = namedVolume(context);
  demandVolume(context, undefined, volid);
  const { format, bytes, fileBytes = bytes, notes, storage, ...volume } = volumeOf(context, volid);
  return {
    path: pathOf(storageOn(context.cluster, context.node, storage), volid),
    format,
    size: bytes,
    used: fileBytes,
    ...(notes === undefined ? {} : { notes }),
    ...(volume.protected ? { protected: 1 } : {}),
  };
}

/** Any vmid will do, even one of no guest; a number alone is KiB. */
function allocateVolume({ cluster, node, param }: Context): string {
  const definition = storageOn(cluster, node, String(param.storage));
  const [, amount = '', unit] = /^(\d+)([MG])?$/.exec(String(param.size)) ?? [];
  const factor = { M: MiB, G: MiB * 1024 }[unit ?? ''] ?? 1024;
  const filename = String(param.filename);
  const [, ending] = /\.(raw|qcow2|vmdk)$/.exec(filename) ?? [];
  const format = String(param.format ?? ending ?? 'raw');
  if (ending !== undefined && ending !== format) {
    throw parameterError({ format: `different storage formats (${format} != ${ending})` });
  }
  const owner = Number(param.vmid);
  const volid = namedVolid(definition, owner, filename, format);
  if (volid === undefined) throw new PveError(500, `illegal name '${filename}' - should be 'vm-${owner}-*'`);
  const bearer = ownerOf(splitVolid(volid)?.name ?? '') ?? owner;
  cluster.volumes.add({
    volid,
    storage: definition.storage,
    node: definition.shared ? '' : node,
    vmid: bearer,
    content: 'images',
    format,
    bytes: roundedOn(definition, Number(amount) * factor),
    ctime: Math.floor(cluster.now() / 1000),
  });
  return volid;
}

/** The volume goes; a configuration that names it goes on naming it. With a delay PVE waits so long for the task. */
function deleteVolume(context: Context): string | null {
  const { cluster, node, caller, param } = context;
  const volid = namedVolume(context);
  const { storage, content, vmid: owner } = volumeOf(context, volid);
  if (content === 'backup' && owner !== undefined) {
    demand(context, `/storage/${storage}`, ['Datastore.AllocateSpace']);
    demand(context, `/vms/${owner}`, ['VM.Backup']);
  } else {
    demand(context, `/storage/${storage}`, ['Datastore.Allocate']);
  }
  const upid = cluster.tasks.start({
    node,
    type: 'imgdel',
    id: owner === undefined ? '' : `${owner}@${storage}`,
    caller,
    run() {
      const volume = volumeOf(context, volid);
      if (volume.protected) throw new PveError(500, `can't remove protected volume '${volid}'`);
      assertNoClone(context, volume);
      discard(cluster, volume);
    },
  });
  const exitstatus = cluster.tasks.get(upid)?.exitstatus;
  if (param.delay === undefined || exitstatus === undefined) return upid;
  if (exitstatus !== 'OK') throw new PveError(500, exitstatus);
  return null;
}

function assertNoClone({ cluster, node }: Context, { volid, storage }: Volume): void {
  const others = cluster.volumes.onStorage(storageOn(cluster, node, storage), node);
  if (others.some(({ parent }) => parent === volid)) {
    throw new PveError(500, `base volume '${volid}' is still in use by linked cloned`);
  }
}

function describeVolume(context: Context): null {
  const { param } = context;
  const volid = namedVolume(context);
  demandVolume(context, undefined, volid);
  const volume = volumeOf(context, volid);
  for (const attribute of ['notes', 'protected']) {
    if (param[attribute] === undefined || volume.content === 'backup') continue;
    throw new PveError(500, `only backups support attribute '${attribute}'`);
  }
  if (param.notes !== undefined) volume.notes = String(param.notes);
  if (param.protected !== undefined) protect(context, volume, param.protected === 1);
  return null;
}

function protect(context: Context, volume: Volume, wanted: boolean): void {
  const { cluster, node } = context;
  const { storage, volid, vmid: owner } = volume;
  const others = backupsOn(cluster, storageOn(cluster, node, storage), node, { vmid: owner, type: backupType(volid) });
  const isMaster = may(context, `/storage/${storage}`, ['Datastore.Allocate']);
  if (wanted && !volume.protected && !isProtectionLeft(others, isMaster))
    throw new PveError(500, protectionFault(storage));
  volume.protected = wanted;
}

export const storageMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/storage',
    permissions: { user: 'all' },
    parameters: { type: text },
    run: (context) =>
      visible(context)
        .filter(({ type }) => context.param.type === undefined || type === context.param.type)
        .map(definitionRow),
  },
  {
    method: 'GET',
    path: '/storage/{storage}',
    permissions: { check: ['perm', '/storage/{storage}', ['Datastore.Allocate']] },
    parameters: {},
    run({ cluster, param }) {
      const definition = cluster.storages.get(String(param.storage));
      if (definition === undefined) throw new PveError(500, `storage '${param.storage}' does not exist`);
      return definitionRow(definition);
    },
  },
  {
    method: 'GET',
    path: '/nodes/{node}/storage',
    permissions: { user: 'all' },
    parameters: {
      content: named('pve-storage-content-list'),
      enabled: flag,
      format: flag,
      storage: named('pve-storage-id'),
      target: named('pve-node'),
    },
    run: listed,
  },
  {
    method: 'GET',
    path: storagePath,
    permissions: readable,
    parameters: {},
    run: () => ['content', 'prunebackups', 'status'].map((subdir) => ({ subdir })),
  },
  {
    method: 'GET',
    path: `${storagePath}/status`,
    permissions: readable,
    parameters: {},
    run: (context) => statusRow(context, storageOn(context.cluster, context.node, String(context.param.storage))),
  },
  {
    method: 'GET',
    path: contentPath,
    permissions: readable,
    parameters: { content: text, vmid: { ...vmid, optional: true } },
    run: contentRows,
  },
  {
    method: 'POST',
    path: contentPath,
    permissions: { check: ['perm', '/storage/{storage}', ['Datastore.AllocateSpace']] },
    parameters: {
      filename: { type: 'string' },
      format: { ...oneOf('raw', 'qcow2', 'subvol', 'vmdk'), requires: 'size' },
      size: { type: 'string', pattern: '\\d+[MG]?' },
      vmid,
    },
    run: allocateVolume,
  },
  {
    method: 'GET',
    path: volumePath,
    permissions: { user: 'all' },
    parameters: { volume: { type: 'string' } },
    run: showVolume,
  },
  {
    method: 'PUT',
    path: volumePath,
    permissions: { user: 'all' },
    parameters: { volume: { type: 'string' }, notes: text, protected: flag },
    run: describeVolume,
  },
  {
    method: 'DELETE',
    path: volumePath,
    permissions: { user: 'all' },
    parameters: { volume: { type: 'string' }, delay: integer(1, 30) },
    run: deleteVolume,
  },
];
