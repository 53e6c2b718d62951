/** What was last read of each instance, part by part: of two reads of one part, the one that began later stays. */

import type { Backup, Config, Volume } from '../pve/instance.ts';
import { type Content, noContent } from '../pve/listing.ts';
import type { Stamp } from '../quota/ledger.ts';

/** An instance's configuration as PVE showed it. */
export interface Reading {
  readonly current: Config;
  readonly next: Config;
  readonly digest: string | undefined;
  /** Of a guest with replication jobs: whether it has snapshots. */
  readonly hasSnapshots?: boolean;
}

interface Part<T> {
  readonly stamp: Stamp;
  readonly value: T;
}

interface Parts {
  /** null: there was no such instance. */
  reading?: Part<Reading | null>;
  /** By place: a shared storage, or a storage of one node. */
  readonly content: Map<string, Part<Content>>;
}

export class Memory {
  readonly #parts = new Map<number, Parts>();

  /** The configuration last read; null when the instance was found to be gone, undefined when nobody has looked. */
  reading(vmid: number): Reading | null | undefined {
    return this.#parts.get(vmid)?.reading?.value;
  }

  /**
   * Every volume that storages listed under the vmid: by volume id where a guest on `node` can reach it. A storage of
   * another node may hold one of the same name, which counts as well.
   */
  volumes(vmid: number, node: string): ReadonlyMap<string, Volume> {
    const found = new Map<string, Volume>();
    for (const [place, { value }] of this.#parts.get(vmid)?.content ?? []) {
      const [where, storage] = place.split('/');
      for (const volume of value.volumes) {
        if (storage === undefined || where === node) found.set(volume.volid, volume);
        else found.set(`${volume.volid} at ${place}`, { ...volume, node: where ?? '' });
      }
    }
    return found;
  }

  /** Whether what a place holds of the vmid was read. */
  hasListed(vmid: number, place: string): boolean {
    return this.#parts.get(vmid)?.content.has(place) === true;
  }

  /** The storages of other nodes that held anything of the vmid, each with its node. */
  placesBeside(vmid: number, node: string): (readonly [string, string])[] {
    const content = this.#parts.get(vmid)?.content ?? new Map<string, Part<Content>>();
    return [...content].flatMap(([place, { value }]) => {
      const [where = '', storage] = place.split('/');
      return storage === undefined || where === node || isEmpty(value) ? [] : [[where, storage] as const];
    });
  }

  /** Every backup that storages listed of the vmid. */
  backups(vmid: number): readonly Backup[] {
    return this.#content(vmid).flatMap(({ backups }) => backups);
  }

  /** The vmids of which a place held anything. */
  vmidsAt(place: string): number[] {
    return [...this.#parts].flatMap(([vmid, { content }]) =>
      isEmpty(content.get(place)?.value ?? noContent) ? [] : [vmid],
    );
  }

  /** Whether the instance was found to be gone by a look that began after `stamp`. */
  isGoneSince(vmid: number, stamp: Stamp): boolean {
    const reading = this.#parts.get(vmid)?.reading;
    return reading?.value === null && reading.stamp > stamp;
  }

  /** Takes in a configuration, or that there is none; an older read than what is known is ignored. */
  setReading(vmid: number, value: Reading | null, stamp: Stamp): void {
    const parts = this.#of(vmid);
    if ((parts.reading?.stamp ?? 0) <= stamp) parts.reading = { stamp, value };
  }

  /** Takes in what one place holds of the vmid; false when that is nothing new, or older than what is known. */
  setContent(vmid: number, place: string, value: Content, stamp: Stamp): boolean {
    const { content } = this.#of(vmid);
    const known = content.get(place);
    if (known !== undefined && known.stamp > stamp) return false;
    content.set(place, { stamp, value });
    return !sameContent(known?.value ?? noContent, value);
  }

  /** Forgets instances that were found gone before `stamp` and have left nothing. */
  prune(stamp: Stamp): void {
    for (const [vmid, { reading, content }] of this.#parts) {
      const left = content.values().some(({ value }) => !isEmpty(value));
      if (!left && reading?.value === null && reading.stamp < stamp) this.#parts.delete(vmid);
    }
  }

  #content(vmid: number): Content[] {
    return [...(this.#parts.get(vmid)?.content.values() ?? [])].map(({ value }) => value);
  }

  #of(vmid: number): Parts {
    const parts = this.#parts.get(vmid) ?? { content: new Map() };
    this.#parts.set(vmid, parts);
    return parts;
  }
}

function isEmpty({ volumes, backups }: Content): boolean {
  return volumes.length === 0 && backups.length === 0;
}

function sameContent(a: Content, b: Content): boolean {
  return sameItems(a.volumes, b.volumes) && sameItems(a.backups, b.backups);
}

function sameItems(a: readonly (Volume | Backup)[], b: readonly (Volume | Backup)[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ volid, bytes }, index) => volid === b[index]?.volid && bytes === b[index]?.bytes)
  );
}
