/** Restoring from backups: what a guest becomes is what the archive says, overlaid by what the call says. */

import type { Fault } from '../../errors.ts';
import { readArchive, restored } from '../../pve/archives.ts';
import { beyondIn } from '../../pve/beyond.ts';
import { call } from '../../pve/call.ts';
import { backupOwner, birthMark, type Config, type GuestType, isDeviceSlot } from '../../pve/instance.ts';
import { withStores } from '../../pve/projections.ts';
import { isAmong } from '../allowances.ts';
import type { Asked, Change, ChangePolicy } from '../policy.ts';
import { mustBeOwn, onBackupStorage } from './backup.ts';
import { needsRoot } from './devices.ts';
import { driveObjections, mediaOf, pathsIn } from './drives.ts';
import { restoreParameters } from './parameters.ts';
import * as values from './values.ts';

const { flag, oneOf } = values;

/** The parameter that names the backup. */
const archiveOf = { qemu: 'archive', lxc: 'ostemplate' } as const;

function restore(type: GuestType, over: boolean): ChangePolicy {
  const field = archiveOf[type];
  const disks = { rootfs: values.drive('lxc', 'rootfs'), 'mp[n]': values.drive('lxc', 'mp') };
  return {
    class: 'consuming',
    kind: over ? 'change' : 'create',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}`,
    when: (params) =>
      (type === 'qemu' ? params.archive !== undefined : params.restore === '1') && (params.force === '1') === over,
    canonical: (params) => withStores(params, params.storage),
    params: {
      ...(over ? { vmid: values.vmid, storage: values.storageId, start: flag } : restoreParameters(type)),
      [field]: values.volumeId,
      ...(over ? { force: oneOf('1') } : { force: oneOf('0') }),
      unique: flag,
      ...(type === 'lxc' ? { restore: flag, ...disks } : {}),
    },
    sources: (asked) => ownerIn(asked, field),
    storages: onBackupStorage,
    media: ({ cicustom }) => (cicustom === undefined ? [] : mediaOf(type, { cicustom })),
    asks: ({ target, params }) => [
      call('GET', '/nodes/{}/vzdump/extractconfig', [target.node], { volume: params[field] ?? '' }),
    ],
    devices: ({ told: [text] }) => Object.keys(readArchive(type, text)?.config ?? {}).some(isDeviceSlot),
    objections: (change) => [
      ...(isOpen(change, field) ? [] : mustBeOwn(change, field, change.params[field])),
      ...driveObjections(change),
      ...mustNotReachBeyond(change, type),
      ...mustSayWhere(change),
      ...(over ? mustBeItsOwn(change, type) : []),
    ],
    brings: (change) => {
      const archive = isOpen(change, field) ? null : readArchive(type, change.told[0]);
      return archive === null ? undefined : { field, config: archive.config };
    },
    project: ({ before, params, told: [text] }) => restored(before, readArchive(type, text), params),
    needsRoot,
    // A container comes back unprivileged, whatever it was when it was saved.
    ...(type === 'lxc' ? { forward: ({ params }: Change) => ({ unprivileged: '1', ...params }) } : {}),
  };
}

/** Whether the configuration opens the backup to all: to be brought back, and nothing else. */
function isOpen({ params, allowances }: Asked, field: string): boolean {
  const volid = params[field];
  return typeof volid === 'string' && isAmong(allowances.volumes, volid);
}

/** The guest whose backup it is, unless the backup is open to all. */
function ownerIn(asked: Asked, field: string): number[] {
  const owner = isOpen(asked, field) ? null : backupOwner(String(asked.params[field]));
  return owner === null ? [] : [owner];
}

/** What an administrator once set on a guest stays with that guest: an archive does not carry it on. */
function mustNotReachBeyond(change: Change, type: GuestType): Fault[] {
  const { before, params, told, allowances } = change;
  const [text] = told;
  const config: Config = readArchive(type, text)?.config ?? {};
  const field = archiveOf[type];
  const kept = (key: string) => config[key] !== undefined && config[key] === before.current[key];
  const beyond = beyondIn(type, { ...config, unprivileged: '1' }, allowances.parameters).filter(
    // PVE leaves raw settings of a container out unless root asks.
    (key) => params[key] === undefined && (key !== 'lxc' || needsRoot(change, params)),
  );
  return [...beyond, ...pathsIn(type, config)]
    .filter((key) => !kept(key))
    .map((key) => ({ field, problem: `the backup holds ${key}, which only an administrator can bring back` }));
}

/** What tells a guest from earlier ones of its vmid says who pays for it, and which backups are its own. */
function mustBeItsOwn({ before, params, told: [text] }: Change, type: GuestType): Fault[] {
  const { config } = readArchive(type, text) ?? {};
  const mark = birthMark(before.current, before.next);
  if (config === undefined || mark === undefined) return [];
  const kept = birthMark(config) === mark;
  return kept && !(mark.startsWith('uuid=') && params.unique === '1')
    ? []
    : [
        {
          field: archiveOf[type],
          problem: 'it is of another guest; make a new instance of it, with a vmid of its own',
        },
      ];
}

/** PVE puts a container's disks where the call says; what it does where nothing is said differs. */
function mustSayWhere({ before, params }: Change): Fault[] {
  const isSaid = params.storage !== undefined || params.rootfs !== undefined;
  return before.type === 'qemu' || isSaid ? [] : [{ field: 'storage', problem: 'is required: to which storage?' }];
}

export const restorePolicies: readonly ChangePolicy[] = [
  restore('qemu', true),
  restore('qemu', false),
  restore('lxc', true),
  restore('lxc', false),
];
