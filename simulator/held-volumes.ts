/** The volumes that a guest's configuration holds, whichever kind of guest it is. */

import type { Cluster } from './cluster.ts';
import { isCdrom, isDriveKey, parseDrive, printDrive } from './drives.ts';
import type { Guest, Volume } from './model.ts';
import { isMountKey, parseMount, printMount } from './mounts.ts';
import { PveError } from './pve-error.ts';
import { formatSize } from './sizes.ts';
import { splitVolid } from './volumes.ts';

export interface HeldVolume {
  readonly key: string;
  readonly value: string;
  readonly volume: Volume;
}

/** The disks of a VM without its cdroms, or the file systems of a container without those of the host; each has to exist. */
export function heldVolumes(
  cluster: Cluster,
  { type, node }: Pick<Guest, 'type' | 'node'>,
  config: ReadonlyMap<string, string>,
): readonly HeldVolume[] {
  return heldVolids(type, config).map(({ key, value, volid }) => {
    const volume = cluster.volumes.get(node, volid);
    if (volume === undefined) throw new PveError(500, `volume '${volid}' does not exist`);
    return { key, value, volume };
  });
}

/** The same by name, whether they exist or not. */
export function heldVolids(type: Guest['type'], config: ReadonlyMap<string, string>) {
  return [...config].flatMap(([key, value]) => {
    const volid = heldVolid(type, key, value);
    return volid === undefined ? [] : [{ key, value, volid }];
  });
}

function heldVolid(type: Guest['type'], key: string, value: string): string | undefined {
  if (type === 'lxc') {
    const { volume } = isMountKey(key) ? parseMount(key, value) : {};
    return volume?.startsWith('/') ? undefined : volume;
  }
  const drive = isDriveKey(key) ? parseDrive(key, value) : {};
  return isCdrom(drive) || splitVolid(drive.file ?? '') === undefined ? undefined : drive.file;
}

/** The value with another volume behind it, its real size included. */
export function withVolume(
  type: Guest['type'],
  { key, value }: Pick<HeldVolume, 'key' | 'value'>,
  volume: Volume,
): string {
  const size = formatSize(volume.bytes);
  return type === 'qemu'
    ? printDrive(key, { ...parseDrive(key, value), file: volume.volid, size })
    : printMount(key, { ...parseMount(key, value), volume: volume.volid, size });
}
