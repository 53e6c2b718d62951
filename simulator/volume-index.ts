/** The cluster's volumes, indexed. */

import type { StorageDefinition, Volume } from './model.ts';
import { PveError } from './pve-error.ts';

/** All volumes, found by name, by guest and by storage without looking at the others. */
export class Volumes {
  readonly #byKey = new Map<string, Volume>();
  readonly #byGuest = new Map<number, Set<Volume>>();
  readonly #byStorage = new Map<string, Set<Volume>>();

  get size(): number {
    return this.#byKey.size;
  }

  /** The volume as this node sees it: its own, or one on a shared storage. */
  get(node: string, volid: string): Volume | undefined {
    return this.#byKey.get(keyOf('', volid)) ?? this.#byKey.get(keyOf(node, volid));
  }

  add(volume: Volume): Volume {
    const key = keyOf(volume.node, volume.volid);
    if (this.#byKey.has(key)) throw new PveError(500, `disk image '${volume.volid}' already exists`);
    this.#byKey.set(key, volume);
    if (volume.vmid !== undefined) memberSet(this.#byGuest, volume.vmid).add(volume);
    memberSet(this.#byStorage, keyOf(volume.node, volume.storage)).add(volume);
    return volume;
  }

  remove(volume: Volume): void {
    this.#byKey.delete(keyOf(volume.node, volume.volid));
    if (volume.vmid !== undefined) this.#byGuest.get(volume.vmid)?.delete(volume);
    this.#byStorage.get(keyOf(volume.node, volume.storage))?.delete(volume);
  }

  /** Everything that is named after the guest, on all storages and nodes. */
  ofGuest(vmid: number): readonly Volume[] {
    return [...(this.#byGuest.get(vmid) ?? [])];
  }

  /** What the storage shows on this node. */
  onStorage({ storage, shared }: StorageDefinition, node: string): readonly Volume[] {
    return [...(this.#byStorage.get(keyOf(shared ? '' : node, storage)) ?? [])];
  }
}

function keyOf(node: string, name: string): string {
  return `${node}|${name}`;
}

function memberSet<Key>(index: Map<Key, Set<Volume>>, key: Key): Set<Volume> {
  const known = index.get(key);
  if (known !== undefined) return known;
  const fresh = new Set<Volume>();
  index.set(key, fresh);
  return fresh;
}
