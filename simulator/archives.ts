/** Backups: what an archive holds, how it is named and read, and making one of a guest. */

import type { Cluster } from './cluster.ts';
import { isCdrom, isDriveKey, parseDrive } from './drives.ts';
import type { Archive, ArchivedDisk, Guest, StorageDefinition, Volume } from './model.ts';
import { parseMount } from './mounts.ts';
import { PveError } from './pve-error.ts';
import { parseSize } from './sizes.ts';
import { splitVolid } from './volumes.ts';

/** What a backup of the guest holds now. */
export function archiveOf(cluster: Cluster, { type, node, config }: Guest): Archive {
  const isLeftOut = (key: string) =>
    /^(lock|parent|vmstate)$/.test(key) || (type === 'qemu' && /^unused\d+$/.test(key));
  const kept = new Map([...config].filter(([key]) => !isLeftOut(key)));
  if (type === 'lxc') return { type, config: kept, disks: [] };
  const disks = [...kept].flatMap(([key, value]): readonly ArchivedDisk[] => {
    const drive = isDriveKey(key) ? parseDrive(key, value) : {};
    if (drive.file === undefined || isCdrom(drive) || drive.backup === '0') return [];
    const volume = cluster.volumes.get(node, drive.file);
    if (volume === undefined) throw new PveError(500, `volume '${drive.file}' does not exist`);
    return [{ key, bytes: volume.bytes, storage: volume.storage, format: volume.format }];
  });
  return { type, config: kept, disks };
}

/** The archive that a configuration would have given; sizes come from its texts unless the header is to say otherwise. */
export function archiveWith(
  type: Guest['type'],
  config: ReadonlyMap<string, string>,
  sizes: Readonly<Record<string, number>> = {},
): Archive {
  if (type === 'lxc') return { type, config, disks: [] };
  const disks = [...config].flatMap(([key, value]): readonly ArchivedDisk[] => {
    const drive = isDriveKey(key) ? parseDrive(key, value) : {};
    const storage = splitVolid(drive.file ?? '')?.storage;
    if (storage === undefined || isCdrom(drive) || drive.backup === '0') return [];
    return [{ key, bytes: sizes[key] ?? parseSize(drive.size ?? '') ?? 0, storage, format: 'raw' }];
  });
  return { type, config, disks };
}

/** The configuration text in the archive: the description as comments, the options, and for a VM where each disk lay. */
export function archiveText({ config, disks }: Archive): string {
  const description = (config.get('description') ?? '').split('\n').filter((line) => line !== '');
  const options = [...config].filter(([key]) => key !== 'description').sort(([a], [b]) => (a < b ? -1 : 1));
  const device = (key: string) => (key === 'tpmstate0' ? 'drive-tpmstate0-backup' : `drive-${key}`);
  const map = disks.map(({ key, storage, format }) => `#qmdump#map:${key}:${device(key)}:${storage}:${format}:`);
  const lines = [
    ...description.map((line) => `#${encoded(line)}`),
    ...options.map(([key, value]) => `${key}: ${value}`),
    ...map,
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** Control characters, colons, per cent signs and what is not ASCII would be read as something else in a comment. */
function encoded(line: string): string {
  return line.replace(/[^\x20-\x24\x26-\x39\x3b-\x7e]/gu, (char) =>
    [...Buffer.from(char)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
}

/** What a volume's name says a backup is of; undefined for anything that is no backup. */
export function backupType(volid: string): Guest['type'] | undefined {
  const type = /:backup\/vzdump-(qemu|lxc)-\d+-/.exec(volid)?.[1];
  return type === 'qemu' || type === 'lxc' ? type : undefined;
}

/** The archive behind a volume id; refused when there is none on this node. */
export function archiveAt(cluster: Cluster, node: string, volid: string): Archive {
  const volume = cluster.volumes.get(node, volid);
  if (volume === undefined) throw new PveError(500, `volume '${volid}' does not exist`);
  if (volume.archive === undefined) throw new PveError(500, `unable to read the configuration in '${volid}'`);
  return volume.archive;
}

const endings: Readonly<Record<string, string>> = { gzip: '.gz', '1': '.lzo', lzo: '.lzo', zstd: '.zst' };

export interface BackupSketch {
  readonly definition: StorageDefinition;
  readonly node: string;
  readonly vmid: number;
  readonly archive: Archive;
  /** Seconds since 1970. */
  readonly time: number;
  readonly compress?: string;
  readonly notes?: string;
  readonly protected?: boolean;
}

/**
 * Puts an archive onto a storage under the name that PVE gives it. Two backups of a guest are never of the same
 * second, so a second that is taken gives way to the next.
 */
export function addArchive(cluster: Cluster, sketch: BackupSketch): Volume {
  const { definition, node, vmid, archive, compress = 'zstd', notes } = sketch;
  const format = `${archive.type === 'qemu' ? 'vma' : 'tar'}${endings[compress] ?? ''}`;
  const volidAt = (time: number) =>
    `${definition.storage}:backup/vzdump-${archive.type}-${vmid}-${stamp(time)}.${format}`;
  let { time } = sketch;
  while (cluster.volumes.get(node, volidAt(time)) !== undefined) time++;
  return cluster.volumes.add({
    ...{ volid: volidAt(time), storage: definition.storage, node: definition.shared ? '' : node, vmid },
    ...{ content: 'backup', format, bytes: bytesOf(archive), ctime: time, archive },
    ...(notes === undefined ? {} : { notes }),
    ...(sketch.protected ? { protected: true } : {}),
  });
}

function stamp(time: number): string {
  return new Date(time * 1000).toISOString().slice(0, 19).replaceAll(/[-:]/g, '_').replace('T', '-');
}

/** A quarter of what the guest's disks could hold: compressed, and never full. */
function bytesOf({ type, config, disks }: Archive): number {
  const mounts = type === 'qemu' ? [] : [...config].filter(([key]) => /^(rootfs|mp\d+)$/.test(key));
  const inConfig = mounts.map(([key, value]) => parseSize(parseMount(key, value).size ?? '') ?? 0);
  const total = [...disks.map(({ bytes }) => bytes), ...inConfig].reduce((sum, bytes) => sum + bytes, 0);
  return Math.max(4096, Math.ceil(total / 4));
}
