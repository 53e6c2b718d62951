/** What was last read of each instance, part by part: of two reads of one part, the one that began later stays. */

import type { Config, Volume } from '../pve/instance.ts';
import type { Stamp } from '../quota/ledger.ts';

/** An instance's configuration as PVE showed it. */
export interface Reading {
  readonly current: Config;
  readonly next: Config;
  readonly digest: string | undefined;
}

interface Part<T> {
  readonly stamp: Stamp;
  readonly value: T;
}

interface Parts {
  /** null: there was no such instance. */
  reading?: Part<Reading | null>;
  /** By place: a shared storage, or a storage of one node. */
  readonly volumes: Map<string, Part<readonly Volume[]>>;
}

export class Memory {
  readonly #parts = new Map<number, Parts>();

  /** The configuration last read; null when the instance was found to be gone, undefined when nobody has looked. */
  reading(vmid: number): Reading | null | undefined {
    return this.#parts.get(vmid)?.reading?.value;
  }

  /** Every volume that storages listed under the vmid, by volume id. */
  volumes(vmid: number): ReadonlyMap<string, Volume> {
    const lists = [...(this.#parts.get(vmid)?.volumes.values() ?? [])].flatMap(({ value }) => value);
    return new Map(lists.map((volume) => [volume.volid, volume]));
  }

  /** The vmids that had volumes in a place. */
  vmidsAt(place: string): number[] {
    return [...this.#parts].flatMap(([vmid, { volumes }]) =>
      (volumes.get(place)?.value.length ?? 0) > 0 ? [vmid] : [],
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

  /** Takes in what one place holds for the vmid; false when that is nothing new, or older than what is known. */
  setVolumes(vmid: number, place: string, value: readonly Volume[], stamp: Stamp): boolean {
    const { volumes } = this.#of(vmid);
    const known = volumes.get(place);
    if (known !== undefined && known.stamp > stamp) return false;
    volumes.set(place, { stamp, value });
    return !sameVolumes(known?.value ?? [], value);
  }

  /** Forgets instances that were found gone before `stamp` and have no volumes left. */
  prune(stamp: Stamp): void {
    for (const [vmid, { reading, volumes }] of this.#parts) {
      const empty = volumes.values().every(({ value }) => value.length === 0);
      if (empty && reading?.value === null && reading.stamp < stamp) this.#parts.delete(vmid);
    }
  }

  #of(vmid: number): Parts {
    const parts = this.#parts.get(vmid) ?? { volumes: new Map() };
    this.#parts.set(vmid, parts);
    return parts;
  }
}

function sameVolumes(a: readonly Volume[], b: readonly Volume[]): boolean {
  return (
    a.length === b.length &&
    a.every((volume, index) => volume.volid === b[index]?.volid && volume.bytes === b[index]?.bytes)
  );
}
