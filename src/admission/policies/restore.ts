/** Restoring from backups: what a guest becomes is what the archive says, overlaid by what the call says. */

import type { Fault } from '../../errors.ts';
import { readArchive, restored } from '../../pve/archives.ts';
import { beyondIn } from '../../pve/beyond.ts';
import { call } from '../../pve/call.ts';
import { backupOwner, birthMark, type Config, drivesOf, type GuestType, isDeviceSlot } from '../../pve/instance.ts';
import { type Asked, type Change, type ChangePolicy, isOpen } from '../policy.ts';
import { mustBeOwn, onBackupStorage } from './backup.ts';
import { needsRoot } from './devices.ts';
import { driveObjections, mediaOf } from './drives.ts';
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
      ...mustBeOwn(change, field, change.params[field]),
      ...driveObjections(change),
      ...mustNotReachBeyond(change, type),
      ...mustSayWhere(change),
      ...(over ? mustStayItself(change, type) : []),
    ],
    project: ({ before, params, told: [text] }) => restored(before, readArchive(type, text), params),
    needsRoot,
    // A container comes back unprivileged, whatever it was when it was saved.
    ...(type === 'lxc' ? { forward: ({ params }: Change) => ({ unprivileged: '1', ...params }) } : {}),
  };
}

/** The guest whose backup it is, unless the backup is open to all. */
function ownerIn({ params, allowances }: Asked, field: string): number[] {
  const volid = params[field];
  const owner = typeof volid !== 'string' || isOpen(allowances, volid) ? null : backupOwner(volid);
  return owner === null ? [] : [owner];
}

/** What an administrator once set on a guest stays with that guest: an archive does not carry it on. */
function mustNotReachBeyond({ before, params, told: [text], allowances }: Change, type: GuestType): Fault[] {
  const config: Config = readArchive(type, text)?.config ?? {};
  const field = archiveOf[type];
  const kept = (key: string) => config[key] !== undefined && config[key] === before.current[key];
  const paths = [...drivesOf(type, config)].flatMap(([slot, drive]) => (drive?.kind === 'path' ? [slot] : []));
  const beyond = beyondIn(type, { ...config, unprivileged: '1' }, allowances.parameters).filter(
    (key) => params[key] === undefined,
  );
  return [...beyond, ...paths]
    .filter((key) => !kept(key))
    .map((key) => ({ field, problem: `the backup holds ${key}, which only an administrator can bring back` }));
}

/** What tells a guest from earlier ones of its vmid says who pays for it, and which backups are its own. */
function mustStayItself({ before, params, told: [text] }: Change, type: GuestType): Fault[] {
  const { config } = readArchive(type, text) ?? {};
  const mark = birthMark({ current: before.current, next: before.next });
  if (config === undefined || mark === undefined) return [];
  const kept = birthMark({ current: config, next: config }) === mark;
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
