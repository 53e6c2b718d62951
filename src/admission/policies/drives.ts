/** What a call's parameters say about disk slots: what would be allocated, read from, or taken from others. */

import type { Fault } from '../../errors.ts';
import { type Config, drivesOf, type GuestType, propertiesOf } from '../../pve/instance.ts';
import type { Change, Medium } from '../policy.ts';

/** The storages on which a call allocates volumes. */
export function allocates(type: GuestType, params: Config): string[] {
  const drives = [...drivesOf(type, params).values()];
  return [...new Set(drives.flatMap((drive) => (drive?.kind === 'allocation' ? [drive.storage] : [])))];
}

/** Media of nobody that a call puts into drives, or builds a container from. */
export function mediaOf(type: GuestType, params: Config): Medium[] {
  const isos = [...drivesOf(type, params)].flatMap(([field, drive]) =>
    drive?.kind === 'medium' && drive.volid !== undefined
      ? [{ field, volid: drive.volid, content: 'iso' as const }]
      : [],
  );
  return params.ostemplate === undefined
    ? isos
    : [...isos, { field: 'ostemplate', volid: params.ostemplate, content: 'vztmpl' }];
}

/** Volumes of others, host paths and imports: the privileged token could use them all, so this server has to refuse them. */
export function driveObjections({ before, params }: Change): Fault[] {
  return [...drivesOf(before.type, params)].flatMap(([field, drive]): Fault[] => {
    if (drive?.kind === 'path') return [{ field, problem: `not allowed: ${drive.path} is a path of the host` }];
    if (drive?.kind === 'opaque')
      return [{ field, problem: `not allowed: what ${drive.text} would take cannot be told` }];
    // QEMU would write all changes to a file of the host, without limit.
    if (propertiesOf(params[field] ?? '', { defaultKey: 'file' })?.has('snapshot'))
      return [{ field, problem: 'not allowed: with snapshot the drive writes to the host instead of its storage' }];
    if (drive?.kind === 'volume' && !before.volumes.has(drive.volid)) {
      return [
        { field, problem: `not allowed: no storage lists ${drive.volid} as a volume of instance ${before.vmid}` },
      ];
    }
    return [];
  });
}
