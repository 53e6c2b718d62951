/** Files that belong to no guest: each is on a shelf, which is what one user has put on the storages of one node. */

import type { FileName, LedgerStore, Shelf, StoredFile } from './ledger-store.ts';

/** Whether an id is that of a shelf; guests' vmids are positive. */
export function isShelf(id: number): boolean {
  return id < 0;
}

/** The shelves and the files that are recorded to lie on them, in memory and in the database. */
export class Shelves {
  readonly #store: LedgerStore;
  readonly #shelves = new Map<number, Shelf>();
  readonly #files = new Map<string, StoredFile>();
  readonly #onShelf = new Map<number, Set<StoredFile>>();

  constructor(store: LedgerStore) {
    this.#store = store;
    for (const shelf of store.shelves()) this.#shelves.set(shelf.id, shelf);
    for (const file of store.files()) this.put(file);
  }

  /** The id of a user's shelf on a node, made when there is none yet. Throws NotReadyError when it cannot be written. */
  of(user: string, node: string): number {
    const known = this.#shelves.values().find((shelf) => shelf.user === user && shelf.node === node);
    if (known !== undefined) return known.id;
    const shelf = { id: Math.min(0, ...this.#shelves.keys()) - 1, user, node };
    this.#store.addShelf(shelf);
    this.#shelves.set(shelf.id, shelf);
    return shelf.id;
  }

  /** The shelves of a user. */
  allOf(user: string): readonly Shelf[] {
    return [...this.#shelves.values().filter((shelf) => shelf.user === user)];
  }

  get(id: number): Shelf | undefined {
    return this.#shelves.get(id);
  }

  /** The record of a file, when it is somebody's. */
  file(name: FileName): StoredFile | undefined {
    return this.#files.get(keyOf(name));
  }

  filesOn(shelf: number): readonly StoredFile[] {
    return [...(this.#onShelf.get(shelf) ?? [])];
  }

  /** All recorded files. */
  files(): MapIterator<StoredFile> {
    return this.#files.values();
  }

  /** Takes in a record that is in the database, in the place of an older one of that file. */
  put(file: StoredFile): void {
    this.#remove(file);
    this.#files.set(keyOf(file), file);
    const onShelf = this.#onShelf.get(file.shelf) ?? new Set();
    this.#onShelf.set(file.shelf, onShelf.add(file));
  }

  /** Puts all files of one shelf on another. Throws NotReadyError, moving nothing, when it cannot be written. */
  move(from: number, to: number): void {
    this.#store.moveFiles(from, to);
    for (const file of this.filesOn(from)) this.put({ ...file, shelf: to });
  }

  /** Forgets whose these files were. */
  drop(names: readonly FileName[]): void {
    if (names.length === 0) return;
    for (const name of names) this.#remove(name);
    this.#store.dropFiles(names);
  }

  #remove(name: FileName): void {
    const file = this.file(name);
    if (file === undefined) return;
    this.#files.delete(keyOf(name));
    this.#onShelf.get(file.shelf)?.delete(file);
  }
}

function keyOf({ place, volid }: FileName): string {
  return `${place} ${volid}`;
}
