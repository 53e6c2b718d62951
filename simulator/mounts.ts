/** A container's root file system, mount points and nets: reading and reprinting them, and making their volumes. */

import { permissionError } from './access.ts';
import type { Cluster } from './cluster.ts';
import { newMac } from './drives.ts';
import { lxcNet, mountFormats } from './formats.ts';
import { familyOf } from './options.ts';
import { type Asker, demand, demandVolume, isRoot } from './permit.ts';
import { type Properties, PropertyError, parseProperties, printProperties } from './property-string.ts';
import { PveError, parameterError } from './pve-error.ts';
import { formatSize, GiB, MiB } from './sizes.ts';
import { allocate } from './volumes.ts';

export function isMountKey(key: string): boolean {
  return key === 'rootfs' || /^mp\d+$/.test(key);
}

function formatOf(key: string) {
  const family = familyOf(key);
  return family === 'mp' || family === 'unused' ? mountFormats[family] : mountFormats.rootfs;
}

/** A mount point's properties; a text that is none is a 400 on that key. */
export function parseMount(key: string, text: string): Properties {
  return orParameterError(key, () => parseProperties(formatOf(key), text));
}

export function printMount(key: string, mount: Properties): string {
  return printProperties(formatOf(key), mount);
}

/** A net as PVE saves it, with an address and a type of its own when none were given. */
export function canonicalLxcNet(key: string, text: string): string {
  return orParameterError(key, () => {
    const net = parseProperties(lxcNet, text);
    return printProperties(lxcNet, { ...net, hwaddr: net.hwaddr ?? newMac(), type: net.type ?? 'veth' });
  });
}

function orParameterError<Result>(key: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (error instanceof PropertyError) throw parameterError({ [key]: error.message });
    throw error;
  }
}

interface NewVolume {
  readonly storage: string;
  readonly bytes: number;
}

/** `<storage>:<GiB>` is rounded down to whole MiB, so a tiny fraction is nothing at all: a volume without limit. */
function newVolumeOf({ volume = '' }: Properties): NewVolume | undefined {
  const [, storage, gigabytes] = /^([^:\s]+):(\d+(?:\.\d+)?)$/.exec(volume) ?? [];
  if (storage === undefined) return undefined;
  return { storage, bytes: Math.floor((Number(gigabytes) * GiB) / MiB) * MiB };
}

/** Refuses a mount point that the caller may not have; directories and devices of the host are root@pam's alone. */
export function demandMount(asker: Asker, mount: Properties, vmid: number): void {
  const { volume = '' } = mount;
  if (volume.startsWith('/')) {
    const type = volume.startsWith('/dev/') ? 'device' : 'bind';
    if (!isRoot(asker)) throw permissionError(`mount point type ${type} is only allowed for root@pam`);
    return;
  }
  const fresh = newVolumeOf(mount);
  if (fresh === undefined) demandVolume(asker, vmid, volume);
  else demandRootdir(asker, fresh.storage);
}

/** Refuses a storage that takes no containers, or none of this caller's. */
export function demandRootdir(asker: Asker, storage: string): void {
  demand(asker, `/storage/${storage}`, ['Datastore.AllocateSpace']);
  const definition = asker.cluster.storages.get(storage);
  if (definition === undefined) throw new PveError(500, `storage '${storage}' does not exist`);
  if (definition.content.includes('rootdir')) return;
  throw parameterError({ storage: `storage '${storage}' does not support container directories` });
}

/** The options with a volume that is only a number on the default storage. */
export function placed(given: ReadonlyMap<string, string>, storage: string): Map<string, string> {
  return new Map(
    [...given].map(([key, value]) => {
      const mount = isMountKey(key) ? parseMount(key, value) : {};
      const isBare = /^\d+(\.\d+)?$/.test(mount.volume ?? '');
      return [key, isBare ? printMount(key, { ...mount, volume: `${storage}:${mount.volume}` }) : value];
    }),
  );
}

/** Where a container's volumes are made. */
export interface Site {
  readonly cluster: Cluster;
  readonly node: string;
  readonly vmid: number;
}

/** The mount point with its new volume's name and size; undefined when no new one is asked for. */
export function makeVolume(site: Site, key: string, mount: Properties): string | undefined {
  const fresh = newVolumeOf(mount);
  if (fresh === undefined) return undefined;
  const { volid } = allocate(site.cluster, { ...site, ...fresh, content: 'rootdir' });
  return printMount(key, { ...mount, volume: volid, size: formatSize(fresh.bytes) });
}

/** The mount point with the size that its volume really has. */
export function measured({ cluster, node }: Site, key: string, mount: Properties): string {
  const { volume: volid = '' } = mount;
  if (volid.startsWith('/')) return printMount(key, mount);
  const volume = cluster.volumes.get(node, volid);
  if (volume === undefined) throw new PveError(500, `volume '${volid}' does not exist`);
  return printMount(key, { ...mount, size: formatSize(volume.bytes) });
}
