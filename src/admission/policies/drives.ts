/** What a call's parameters say about disk slots: what would be allocated, read from, or taken from others. */

import type { Fault } from '../../errors.ts';
import { type Call, call, singles } from '../../pve/call.ts';
import {
  type Config,
  drivesOf,
  type GuestType,
  onStorage,
  propertiesOf,
  type Volume,
  volumeOwner,
} from '../../pve/instance.ts';
import { importsOf, parseList } from '../../pve/projections.ts';
import { formatSize } from '../../pve/size.ts';
import { isAmong } from '../allowances.ts';
import type { Asked, Change, Medium } from '../policy.ts';

/** The storages on which a call allocates volumes, or from which it imports them. */
export function allocates(type: GuestType, params: Config): string[] {
  const drives = [...drivesOf(type, params).values()];
  return [
    ...new Set([
      ...drives.flatMap((drive) => (drive?.kind === 'allocation' || drive?.kind === 'import' ? [drive.storage] : [])),
      ...importsOf(type, params).flatMap(({ source }) => (volumeOwner(source) === null ? [] : [storageOf(source)])),
    ]),
  ];
}

/** The storages that hold the volumes of a configuration. */
export function storagesOf(type: GuestType, config: Config): string[] {
  const drives = [...drivesOf(type, config).values()];
  return [...new Set(drives.flatMap((drive) => (drive?.kind === 'volume' ? [drive.storage] : [])))];
}

/** The slots of a configuration that hold a path or a device of the host. */
export function pathsIn(type: GuestType, config: Config): string[] {
  return [...drivesOf(type, config)].flatMap(([slot, drive]) => (drive?.kind === 'path' ? [slot] : []));
}

/** Media of nobody that a call puts into drives, imports, or builds a container from. */
export function mediaOf(type: GuestType, params: Config): Medium[] {
  const isos = [...drivesOf(type, params)].flatMap(([field, drive]) =>
    drive?.kind === 'medium' && drive.volid !== undefined
      ? [{ field, volid: drive.volid, content: 'iso' as const }]
      : [],
  );
  const imports = importsOf(type, params).flatMap(({ slot, source }) =>
    isFile(source) ? [{ field: slot, volid: source, content: 'import' as const }] : [],
  );
  const snippets = [...(propertiesOf(params.cicustom ?? '', {})?.values() ?? [])].map((volid) => ({
    field: 'cicustom',
    volid,
    content: 'snippets' as const,
  }));
  const { ostemplate } = params;
  const template =
    ostemplate === undefined ? [] : [{ field: 'ostemplate', volid: ostemplate, content: 'vztmpl' as const }];
  return [...isos, ...imports, ...snippets, ...template];
}

/** The guests of whose volumes a call imports copies. */
export function importedFrom({ params, allowances }: Asked): number[] {
  const owners = importsOf('qemu', singles(params)).map(({ source }) =>
    isFile(source) || isAmong(allowances.volumes, source) ? null : volumeOwner(source),
  );
  return owners.filter((owner) => owner !== null);
}

/** How large the images really are that a call imports, in the order in which it names them. */
export function importQuestions({ before, target, params }: Change): Call[] {
  return importsOf(before.type, params).map(({ source }) =>
    call('GET', '/nodes/{}/storage/{}/content/{}', [target.node, storageOf(source), source]),
  );
}

/** PVE's other name for the CD-ROM drive, which makes a disk of it where the text says so. */
export function withoutAliases({ cdrom, ...params }: Config): Config {
  const lists = Object.fromEntries(
    ['delete', 'revert'].flatMap((name) => {
      const keys = params[name];
      return keys === undefined
        ? []
        : [
            [
              name,
              parseList(keys)
                .map((key) => (key === 'cdrom' ? 'ide2' : key))
                .join(','),
            ],
          ];
    }),
  );
  if (cdrom === undefined) return { ...params, ...lists };
  return { ...params, ...lists, ide2: /(?:^|,)media=/.test(cdrom) ? cdrom : `${cdrom},media=cdrom` };
}

/** Volumes of others and host paths: the privileged token could use them all, so this server has to refuse them. */
export function driveObjections({ before, others, params, allowances }: Change): Fault[] {
  const isTheirs = (volid: string) =>
    [before, ...others.values()].some(({ vmid, volumes }) => volumeOwner(volid) === vmid && volumes.has(volid));
  return [...drivesOf(before.type, params)].flatMap(([field, drive]): Fault[] => {
    const refused = (problem: string) => [{ field, problem: `not allowed: ${problem}` }];
    if (drive?.kind === 'path') return refused(`${drive.path} is a path of the host`);
    if (drive?.kind === 'opaque') return refused(`what ${drive.text} would take cannot be told`);
    // QEMU would write all changes to a file of the host, without limit.
    if (propertiesOf(params[field] ?? '', { defaultKey: 'file' })?.has('snapshot'))
      return refused('with snapshot the drive writes to the host instead of its storage');
    if (drive?.kind === 'import') {
      const { source } = drive;
      if (source.startsWith('/')) return refused(`${source} is a path of the host`);
      if (/\.ova\//i.test(source))
        return refused('PVE unpacks an appliance onto a storage, unmetered; import the disk itself');
      return isFile(source) || isAmong(allowances.volumes, source) || isTheirs(source)
        ? []
        : refused(`no storage lists ${source} as a volume of an instance of yours`);
    }
    if (drive?.kind !== 'volume') return [];
    const volume = before.volumes.get(drive.volid);
    return volume === undefined
      ? refused(`no storage lists ${drive.volid} as a volume of instance ${before.vmid}`)
      : mustBeSo(before.type, field, params[field] ?? '', drive.size, volume);
  });
}

/**
 * PVE keeps what is stated of a volume that it has already. A backup brings it back in its real size, where the stated
 * one is judged; and whoever writes an image could make of it, by another format, a view of any file.
 */
function mustBeSo(
  type: GuestType,
  field: string,
  text: string,
  size: number | undefined,
  { volid, bytes, format }: Volume,
): Fault[] {
  const stated = propertiesOf(text, { defaultKey: 'file' })?.get('format');
  // Storages round sizes up, and clients repeat what a VM's configuration has said ever since.
  const isSo = size === bytes || (type === 'qemu' && size !== undefined && onStorage(size) === onStorage(bytes));
  return [
    ...(size === undefined || isSo
      ? []
      : [{ field, problem: `not allowed: ${volid} has size ${formatSize(bytes)}; leave size out, or use resize` }]),
    ...(stated === undefined || format === '' || stated === format
      ? []
      : [{ field, problem: `not allowed: ${volid} has format ${format}; leave format out` }]),
  ];
}

/**
 * The parameters with the size of each volume that is there already: of one that stays in its slot PVE keeps what is
 * said, also when that is nothing, and what a backup without sizes would take could not be told.
 */
export function withSizes({ before, params }: Change): Config {
  const drives = drivesOf(before.type, params);
  return Object.fromEntries(
    Object.entries(params).map(([slot, text]) => {
      const drive = drives.get(slot);
      const isUntold = drive?.kind === 'volume' && drive.size === undefined;
      const { bytes = 0 } = (isUntold ? before.volumes.get(drive.volid) : undefined) ?? {};
      return [slot, bytes > 0 ? `${text},size=${formatSize(bytes)}` : text];
    }),
  );
}

/** Whether a volume is a file to be imported, which belongs to no guest whatever its name. */
function isFile(volid: string): boolean {
  return /^[^/:]+:import\//.test(volid);
}

function storageOf(volid: string): string {
  return volid.slice(0, volid.indexOf(':'));
}
