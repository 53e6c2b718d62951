/**
 * What PVE holds, as far as we have looked: the lists, the storages and every instance. It keeps the ledger's
 * last-seen usage fresh; anything that a change depends on is read at that moment.
 */

import type { Logger } from 'pino';
import { ConflictError, NotFoundError, UpstreamBrokenError } from '../errors.ts';
import { type Answer, call, type Params, succeeded, type Upstream } from '../pve/call.ts';
import {
  type Backup,
  birthMark,
  bornAt,
  drivesOf,
  type GuestType,
  type Host,
  type Instance,
  isDeviceSlot,
  readPending,
} from '../pve/instance.ts';
import {
  type ClusterNode,
  type Content,
  type Guest,
  noContent,
  readContent,
  readResources,
  type StorageOnNode,
  unlistedGuest,
} from '../pve/listing.ts';
import { readHasSnapshots, readJobs } from '../pve/replication.ts';
import { privilegesOn } from '../pve/rights.ts';
import type { Absence, FileName, Ledger, Sighting, Stamp } from '../quota/ledger.ts';
import { isShelf } from '../quota/shelves.ts';
import { usageOf } from '../quota/usage.ts';
import { Devices } from './devices.ts';
import { Memory, type Reading } from './memory.ts';

/** Which instance, and where the asker believes it to be. */
export interface Whereabouts {
  readonly vmid: number;
  readonly type: GuestType;
  readonly node: string;
}

/** The storages whose lists a look reads anew: these, those that the found instance suggests, or every one that it is known to touch. */
export type Storages = readonly string[] | ((found: Instance) => readonly string[]) | 'all';

/** What a look at one instance found, and when it began. */
export interface Look {
  readonly stamp: Stamp;
  /** null when the vmid is free. */
  readonly instance: Instance | null;
  readonly sighting: Sighting | Absence;
}

/** Nothing may grow while this stands. */
export interface Frozen {
  readonly reason: string;
}

/** How far PVE's clock may be from ours, in seconds. */
const clockSkew = 60;

/** How often a look begins anew because a change of that instance was opened or settled meanwhile. */
const mostLooks = 5;

export class Inventory {
  readonly #upstream: Upstream;
  readonly #ledger: Ledger;
  readonly #log: Logger;
  readonly #counted: readonly string[];
  readonly #backupStorage: string | undefined;
  /** The PCI devices of the nodes. */
  readonly devices: Devices;
  readonly #memory = new Memory();
  readonly #guests = new Map<number, Guest>();
  readonly #hints = new Map<number, string>();
  /** By vmid: the nodes to which replication jobs copy the guest, as far as that is known or not disproved. */
  readonly #jobs = new Map<number, readonly string[]>();
  #jobsReadAt: Stamp = 0;
  readonly #stale = new Set<number>();
  #nodes: readonly ClusterNode[] = [];
  #storages: readonly StorageOnNode[] = [];
  /** By node: its storages whose volumes may be replicated. */
  #replicating: ReadonlyMap<string, ReadonlySet<string>> = new Map();
  #listing: Promise<void> | undefined;
  #nextListing: Promise<void> | undefined;
  #frozen: Frozen | undefined;
  #listed = false;
  #storagesListed = false;

  /** `counted` names further numeric configuration keys that are resources; `backupStorage` is where backups are counted. */
  constructor({
    upstream,
    ledger,
    log,
    counted,
    backupStorage,
  }: {
    upstream: Upstream;
    ledger: Ledger;
    log: Logger;
    counted: readonly string[];
    backupStorage: string | undefined;
  }) {
    this.#upstream = upstream;
    this.devices = new Devices(upstream);
    this.#ledger = ledger;
    this.#log = log;
    this.#counted = counted;
    this.#backupStorage = backupStorage;
  }

  /** Whether all lists have been read at least once. */
  get ready(): boolean {
    return this.#listed && this.#storagesListed;
  }

  /** Why nothing may grow at the moment, if so. */
  get frozen(): Frozen | undefined {
    return this.#frozen;
  }

  /** The ids of all storages in the last list. */
  get storages(): readonly string[] {
    return [...new Set(this.#storages.map(({ storage }) => storage))];
  }

  get nodes(): readonly ClusterNode[] {
    return this.#nodes;
  }

  /** The guests that were in the last list, or that we have met since. */
  get guests(): ReadonlyMap<number, Guest> {
    return this.#guests;
  }

  /** The vmids that want a look: new ones, changed ones, those that were asked for. Whoever looks takes them out. */
  get stale(): Set<number> {
    return this.#stale;
  }

  /** The guest as listed; looks at the list again when it is not in the last one. Throws NotFoundError. */
  async find(vmid: number): Promise<Guest> {
    if (!this.#guests.has(vmid)) await this.list();
    const guest = this.#guests.get(vmid);
    if (guest === undefined) throw new NotFoundError(`there is no instance ${vmid}`);
    return guest;
  }

  /** What is known of a node. */
  host(node: string): Host {
    const cpus = this.#nodes.find((one) => one.node === node)?.cpus;
    const replicates = this.#replicating.get(node);
    return {
      node,
      ...(replicates === undefined ? {} : { replicates }),
      ...(cpus === undefined ? {} : { cpus }),
      ...this.devices.lastOf(node),
    };
  }

  /** Where a storage's volumes lie, as a node sees them: a shared storage by its name, another as `node/storage`. */
  placeOf(storage: string, node: string): string {
    return this.#storages.some((row) => row.storage === storage && row.shared) ? storage : `${node}/${storage}`;
  }

  /** What storages held under a vmid when they were last looked at, as a guest on `node` has it, whether or not there is one. */
  remains(vmid: number, node: string): Instance & { readonly absent: true } {
    const leftBackups = this.#memory.backups(vmid).filter((backup) => this.#isCounted(backup));
    return {
      type: 'qemu',
      vmid,
      host: this.host(node),
      current: {},
      next: {},
      volumes: this.#memory.volumes(vmid, node),
      leftBackups,
      absent: true,
      ...this.#replication(vmid, true),
    };
  }

  /**
   * Looks at one instance now: its configuration with what is pending, and what the storages hold for it. What comes
   * back is current: no change of the instance was opened or settled since the look began.
   */
  async look(where: Whereabouts, storages: Storages): Promise<Look> {
    for (let looks = 1; looks <= mostLooks; looks += 1) {
      const found = await this.#look(where, storages);
      if (this.#ledger.isCurrent(where.vmid, found.stamp)) return found;
    }
    throw new ConflictError(`instance ${where.vmid} is being changed all the time; try again in a moment`);
  }

  /** Reads the lists of guests, nodes and storages, beginning after now; everybody who asks meanwhile shares the next read. */
  list(): Promise<void> {
    if (this.#listing === undefined) {
      this.#listing = this.#list().finally(() => {
        this.#listing = undefined;
      });
      return this.#listing;
    }
    this.#nextListing ??= this.#listing
      .catch(() => {})
      .then(() => {
        this.#nextListing = undefined;
        return this.list();
      });
    return this.#nextListing;
  }

  /** Reads the content of every storage, a shared one once. A storage that cannot be read keeps what was known of it. */
  async listStorages(): Promise<void> {
    if (!this.#listed) await this.list();
    const places = new Map<string, StorageOnNode>();
    for (const row of this.#storages) {
      const place = this.placeOf(row.storage, row.node);
      const wanted = row.holdsImages || row.storage === this.#backupStorage || this.#ledger.shelvesAt(place).size > 0;
      if (row.available && wanted && !places.has(place)) places.set(place, row);
    }
    for (const [place, row] of places) {
      await this.#listStorage(place, row).catch((error: unknown) => {
        this.#log.warn({ storage: row.storage, node: row.node, err: error }, 'the storage could not be listed');
      });
    }
    this.#storagesListed = true;
  }

  /** Whether PVE says that nothing has this vmid. */
  async isFree(vmid: number): Promise<boolean> {
    const answer = await this.#read('/cluster/nextid', [], { vmid: String(vmid) });
    if (succeeded(answer)) return true;
    if (answer.status === 400 && answer.errors?.vmid !== undefined) return false;
    throw new UpstreamBrokenError(`PVE does not tell whether vmid ${vmid} is free: ${answer.status} ${answer.reason}`);
  }

  async #look(where: Whereabouts, storages: Storages): Promise<Look> {
    const { vmid } = where;
    if (isShelf(vmid)) return this.#lookAtShelf(where);
    const stamp = this.#ledger.stamp();
    // A job that was just set up is booked before any list has shown it.
    if (this.#isReplicated(vmid) && (storages === 'all' || !this.#jobs.has(vmid))) await this.#readJobs(stamp);
    const listed = this.#guests.get(vmid);
    const place: Whereabouts = { vmid, node: listed?.node ?? where.node, type: listed?.type ?? where.type };
    const answer = await this.#read('/nodes/{}/{}/{}/pending', [place.node, place.type, vmid]);
    if (!succeeded(answer)) return this.#lookElsewhere(where, place, answer, storages);
    const found = readPending(answer.data);
    if (found === null) throw new UpstreamBrokenError(`PVE's answer about instance ${vmid} is not understood`);
    if (passesDevices(found)) await this.devices.of(place.node);

    const first = this.#instance(place, found);
    const [hasSnapshots] = await Promise.all([
      this.#readHasSnapshots(place),
      this.#readVolumes(place, this.#chosen(storages, vmid, first), stamp, where.node),
    ]);
    const reading = { ...found, hasSnapshots };
    const instance = this.#instance(place, reading);
    const sighting = this.#sighting(instance);
    if (this.#ledger.isCurrent(vmid, stamp)) {
      this.#memory.setReading(vmid, reading, stamp);
      if (!this.#guests.has(vmid)) this.#guests.set(vmid, unlistedGuest(instance, sighting.pool));
    }
    return { stamp, instance, sighting };
  }

  /** PVE did not show the instance: it is gone, or it has moved, or PVE has trouble. */
  async #lookElsewhere(where: Whereabouts, asked: Whereabouts, answer: Answer, storages: Storages): Promise<Look> {
    const { vmid } = where;
    const trouble = () =>
      new UpstreamBrokenError(`PVE cannot show instance ${vmid}: ${answer.status} ${answer.reason}`);
    if (answer.status >= 595 || answer.status === 401) throw trouble();
    const stamp = this.#ledger.stamp();
    if (await this.isFree(vmid)) {
      await this.#readVolumes(asked, this.#chosen(storages, vmid, null), stamp);
      if (this.#ledger.isCurrent(vmid, stamp)) this.#remove(vmid, stamp);
      return { stamp, instance: null, sighting: this.#absence(vmid, asked.node) };
    }
    await this.list();
    const listed = this.#guests.get(vmid);
    if (listed === undefined || (listed.node === asked.node && listed.type === asked.type)) throw trouble();
    return this.#look(where, storages);
  }

  /**
   * Lists the storages where files of a shelf lie or are awaited. The instance has the files that are on their way as
   * well, so that what is judged on it takes them into account.
   */
  async #lookAtShelf({ vmid, node }: Whereabouts): Promise<Look> {
    const stamp = this.#ledger.stamp();
    const files = this.#ledger.filesOn(vmid);
    const awaited = files.filter((file) => file.awaited !== undefined);
    const needed = new Set(awaited.map(({ place }) => place));
    await Promise.all(
      [...new Set(files.map(({ place }) => place))].map(async (place) => {
        const row = this.#storages.find((one) => one.available && this.placeOf(one.storage, one.node) === place);
        if (row !== undefined) await this.#listStorage(place, row).catch(needed.has(place) ? undefined : () => {});
        else if (needed.has(place)) throw new UpstreamBrokenError(`storage ${place} cannot be listed at the moment`);
      }),
    );
    const volumes = new Map(this.#memory.volumes(vmid, node));
    for (const { volid, awaited: bytes = 0 } of awaited) {
      if (bytes > (volumes.get(volid)?.bytes ?? 0))
        volumes.set(volid, { volid, storage: storageOf(volid), bytes, format: '' });
    }
    const instance = { ...shelfOf(vmid, this.host(node)), volumes };
    return { stamp, instance, sighting: this.#shelved(vmid, node) };
  }

  #chosen(storages: Storages, vmid: number, found: Instance | null): readonly string[] {
    if (storages === 'all') return this.#storagesOf(vmid, found);
    if (typeof storages !== 'function') return storages;
    return found === null ? [] : storages(found);
  }

  /** Every storage that an instance is known to touch, by its configuration, by earlier looks, or by what was booked for it. */
  #storagesOf(vmid: number, found: Instance | null): string[] {
    const storages = new Set<string>();
    for (const config of found === null ? [] : [found.current, found.next]) {
      for (const drive of drivesOf(found?.type ?? 'qemu', config).values()) {
        if (drive !== null && 'storage' in drive) storages.add(drive.storage);
      }
    }
    for (const { storage } of this.#memory.volumes(vmid, '').values()) storages.add(storage);
    for (const { resource } of this.#ledger.account(vmid)?.booking ?? []) {
      if (resource.startsWith('storage:')) storages.add(resource.slice('storage:'.length));
      if (resource === 'backups' && this.#backupStorage !== undefined) storages.add(this.#backupStorage);
    }
    return [...storages];
  }

  /** Reads what storages hold for a guest where it is, where it was or has copies, and where it was `expected`. */
  async #readVolumes(
    { vmid, node: here }: Whereabouts,
    storages: readonly string[],
    stamp: Stamp,
    expected = here,
  ): Promise<void> {
    const read = (node: string, storage: string) => this.#readContent(vmid, node, storage, stamp);
    // Volumes that have moved here with their guest are still remembered where they were, replicas lie on the nodes of
    // its jobs, and a move that has failed may have left some at its goal; what cannot be read stays so.
    const beside = [
      ...this.#memory.placesBeside(vmid, here),
      ...this.#replicaPlaces(this.#jobs.get(vmid) ?? []),
      ...this.#storages.flatMap(({ node, storage, shared }) =>
        node === expected && !shared ? [[node, storage] as const] : [],
      ),
    ];
    const left = new Map(
      beside
        .filter(([node, storage]) => node !== here && storages.includes(storage))
        .map((place) => [place.join('/'), place]),
    ).values();
    await Promise.all([
      ...storages.map((storage) => read(here, storage)),
      ...[...left].map(([node, storage]) => read(node, storage).catch(() => {})),
    ]);
  }

  async #list(): Promise<void> {
    const stamp = this.#ledger.stamp();
    const [rights, answer, replication] = await Promise.all([
      this.#read('/access/permissions', [], { path: '/vms' }),
      this.#read('/cluster/resources'),
      this.#read('/cluster/replication'),
    ]);
    const held = privilegesOn(rights, '/vms');
    if (held === null)
      throw new UpstreamBrokenError(`PVE does not tell the rights of the token: ${rights.status} ${rights.reason}`);
    if (!succeeded(answer))
      throw new UpstreamBrokenError(`PVE does not list its resources: ${answer.status} ${answer.reason}`);
    const sees = held.has('VM.Audit');
    this.#freeze(
      sees ? undefined : { reason: 'the API token has lost VM.Audit on /vms, so guests are hidden from this server' },
    );
    if (!sees) return;

    const { guests, hints, nodes, storages } = readResources(answer.data);
    this.#nodes = nodes;
    this.#storages = storages;
    this.#replicating = replicatingIn(storages);
    for (const guest of guests) this.#takeIn(guest, hints.get(guest.vmid) ?? '', stamp);
    await this.#takeInJobs(replication, stamp);
    await this.#confirmMissing(new Set(guests.map(({ vmid }) => vmid)), stamp);
    this.#memory.prune(stamp);
    this.#listed = true;
  }

  #freeze(frozen: Frozen | undefined): void {
    if (frozen !== undefined && this.#frozen === undefined)
      this.#log.error(frozen, 'nothing may grow until this is mended');
    if (frozen === undefined && this.#frozen !== undefined) this.#log.info('the API token sees all guests again');
    this.#frozen = frozen;
  }

  #takeIn(guest: Guest, hint: string, stamp: Stamp): void {
    const { vmid } = guest;
    if (!this.#ledger.isCurrent(vmid, stamp) || this.#memory.isGoneSince(vmid, stamp)) return;
    const appeared = this.#ledger.list(guest, stamp);
    const changed = this.#hints.get(vmid) !== hint || this.#guests.get(vmid)?.node !== guest.node;
    this.#guests.set(vmid, guest);
    this.#hints.set(vmid, hint);
    if (appeared || changed || this.#memory.reading(vmid) == null) this.#stale.add(vmid);
  }

  /** A guest that is in no list is gone only when PVE says that its vmid is free. */
  async #confirmMissing(present: ReadonlySet<number>, stamp: Stamp): Promise<void> {
    const known = new Set([...this.#guests.keys(), ...this.#ledger.vmids()]);
    for (const vmid of known) {
      const believed = this.#guests.has(vmid) || this.#ledger.account(vmid)?.present === true;
      if (present.has(vmid) || !believed || this.#ledger.hasOpen(vmid) || !this.#ledger.isCurrent(vmid, stamp))
        continue;
      const asked = this.#ledger.stamp();
      if (!(await this.isFree(vmid))) continue;
      const node = this.#guests.get(vmid)?.node ?? this.#ledger.account(vmid)?.node ?? '';
      if (this.#ledger.see(this.#absence(vmid, node), asked)) this.#remove(vmid, asked);
    }
  }

  /** Whether the guest is, or was when it was last looked at, one that has copies on other nodes. */
  #isReplicated(vmid: number): boolean {
    const { booking = [], node } = this.#ledger.account(vmid) ?? {};
    return this.#jobs.has(vmid) || booking.some((held) => held.node !== node);
  }

  async #readJobs(stamp: Stamp): Promise<void> {
    await this.#takeInJobs(await this.#read('/cluster/replication'), stamp);
  }

  /** Takes in the list of replication jobs. What a job that has ended leaves on its target is looked at before it is forgotten. */
  async #takeInJobs(answer: Answer, stamp: Stamp): Promise<void> {
    if (!succeeded(answer))
      throw new UpstreamBrokenError(`PVE does not list its replication jobs: ${answer.status} ${answer.reason}`);
    if (stamp < this.#jobsReadAt) return;
    this.#jobsReadAt = stamp;
    const jobs = readJobs(answer.data);
    for (const vmid of new Set([...this.#jobs.keys(), ...jobs.keys()])) {
      const [known, now] = [this.#jobs.get(vmid) ?? [], jobs.get(vmid) ?? []];
      if (known.join(' ') === now.join(' ') || !this.#ledger.isCurrent(vmid, stamp)) continue;
      const ended = known.filter((node) => !now.includes(node));
      const unseen = await this.#unseenReplicas(vmid, ended);
      if (stamp < this.#jobsReadAt) return;
      const targets = [...now, ...unseen].sort();
      if (targets.length === 0) this.#jobs.delete(vmid);
      else this.#jobs.set(vmid, targets);
      this.#stale.add(vmid);
      if (this.#listed) this.#tell(vmid, this.#ledger.account(vmid)?.node ?? '', stamp);
    }
  }

  /** Reads what a storage holds for a guest as a node sees it. Throws UpstreamBrokenError. */
  async #readContent(vmid: number, node: string, storage: string, stamp: Stamp): Promise<void> {
    const answer = await this.#read('/nodes/{}/storage/{}/content', [node, storage], { vmid: String(vmid) });
    // A storage that the node does not have holds nothing there; a change that names it must come to an end all the same.
    if (!succeeded(answer) && answer.status === 500 && !this.#has(node, storage)) return;
    if (!succeeded(answer))
      throw new UpstreamBrokenError(
        `storage ${storage} does not list the volumes of ${vmid}: ${answer.status} ${answer.reason}`,
      );
    const content = readContent(answer.data, storage).guests.get(vmid) ?? noContent;
    this.#memory.setContent(vmid, this.placeOf(storage, node), content, stamp);
  }

  /** Looks at what these nodes hold of the guest; gives those that could not be looked at. */
  async #unseenReplicas(vmid: number, nodes: readonly string[]): Promise<string[]> {
    const places = this.#replicaPlaces(nodes);
    const stamp = this.#ledger.stamp();
    const looks = await Promise.all(
      places.map(async ([node, storage]) => {
        try {
          await this.#readContent(vmid, node, storage, stamp);
          return null;
        } catch {
          // A storage that hangs or talks nonsense must not keep all lists from being read.
          return node;
        }
      }),
    );
    return [...new Set(looks.filter((node) => node !== null))];
  }

  /** The storages of these nodes on which replicas may lie. */
  #replicaPlaces(nodes: readonly string[]): (readonly [node: string, storage: string])[] {
    const places = this.#storages.filter(({ node, replicates }) => replicates && nodes.includes(node));
    return places.map(({ node, storage }) => [node, storage]);
  }

  /** Of a guest with replication jobs, whether it has snapshots; it may where PVE does not tell. */
  async #readHasSnapshots({ node, type, vmid }: Whereabouts): Promise<boolean> {
    if (!this.#jobs.has(vmid)) return true;
    return readHasSnapshots((await this.#read('/nodes/{}/{}/{}/snapshot', [node, type, vmid])).data);
  }

  #replication(vmid: number, hasSnapshots = true): Pick<Instance, 'replication'> {
    const targets = this.#jobs.get(vmid);
    return targets === undefined ? {} : { replication: { targets, hasSnapshots } };
  }

  #remove(vmid: number, stamp: Stamp): void {
    this.#memory.setReading(vmid, null, stamp);
    this.#guests.delete(vmid);
    this.#hints.delete(vmid);
    this.#stale.delete(vmid);
  }

  async #listStorage(place: string, { node, storage }: StorageOnNode): Promise<void> {
    const stamp = this.#ledger.stamp();
    const answer = await this.#read('/nodes/{}/storage/{}/content', [node, storage]);
    if (!succeeded(answer))
      throw new UpstreamBrokenError(`storage ${storage} does not list its volumes: ${answer.status} ${answer.reason}`);
    const { guests, files } = readContent(answer.data, storage);
    const owned = Map.groupBy(files, ({ volid }) => this.#ledger.shelfWith({ place, volid }));
    const contentOf = (id: number): Content => guests.get(id) ?? { ...noContent, volumes: owned.get(id) ?? [] };
    const ids = new Set([...guests.keys(), ...this.#memory.vmidsAt(place), ...this.#ledger.shelvesAt(place)]);
    for (const id of ids) {
      if (!this.#ledger.isCurrent(id, stamp)) continue;
      const changed = this.#memory.setContent(id, place, contentOf(id), stamp);
      if (isShelf(id)) this.#tellOfShelf(id, stamp);
      else if (changed) this.#tell(id, node, stamp);
    }
  }

  /** Tells the ledger what is on a shelf, once all its places have been listed. */
  #tellOfShelf(id: number, stamp: Stamp): void {
    const listed = this.#ledger.filesOn(id).every(({ place }) => this.#memory.hasListed(id, place));
    const node = this.#ledger.shelf(id)?.node;
    if (listed && node !== undefined) this.#ledger.see(this.#shelved(id, node), stamp);
  }

  /** What is on a shelf, as far as its places have been listed; what is not cannot be told. */
  #shelved(vmid: number, node: string): Absence {
    const volumes = this.#memory.volumes(vmid, node);
    const recorded = this.#ledger.filesOn(vmid);
    const isListed = ({ place }: FileName) => this.#memory.hasListed(vmid, place);
    const untold = recorded
      .filter((file) => !isListed(file))
      .map(({ place, volid }) => {
        return { resource: `storage:${storageOf(volid)}`, reason: `storage ${place} has not been listed yet` };
      });
    const { lines, unknown } = usageOf({ ...shelfOf(vmid, this.host(node)), volumes });
    const missing = recorded.filter((file) => isListed(file) && !volumes.has(file.volid));
    return { vmid, gone: true, node, usage: { lines, unknown: [...unknown, ...untold] }, missing };
  }

  /** Tells the ledger what the parts that are known add up to. */
  #tell(vmid: number, node: string, stamp: Stamp): void {
    const guest = this.#guests.get(vmid);
    const reading = this.#memory.reading(vmid);
    const account = this.#ledger.account(vmid);
    if (guest !== undefined && reading != null) {
      this.#ledger.see(this.#sighting(this.#instance(guest, reading)), stamp);
    } else if (guest === undefined && account?.present !== true && !this.#ledger.hasOpen(vmid)) {
      this.#ledger.see(this.#absence(vmid, account?.node ?? node), stamp);
    }
  }

  #instance({ vmid, type, node }: Whereabouts, { current, next, digest, hasSnapshots }: Reading): Instance {
    const volumes = this.#memory.volumes(vmid, node);
    const instance: Instance = {
      type,
      vmid,
      host: this.host(node),
      current,
      next,
      volumes,
      ...(digest === undefined ? {} : { digest }),
      ...this.#replication(vmid, hasSnapshots),
    };
    return { ...instance, ...this.#backups(instance) };
  }

  /** The backups of an instance, and those that an earlier guest of its vmid has left. */
  #backups({ vmid, current, next }: Instance): Pick<Instance, 'backups' | 'leftBackups'> {
    const createdAt = this.#ledger.createdAt(vmid);
    const born = bornAt(current, next) ?? (createdAt === undefined ? undefined : createdAt / 1000 - clockSkew);
    const { backups = [], earlier = [] } = Object.groupBy(
      this.#memory.backups(vmid).filter((backup) => this.#isCounted(backup)),
      ({ ctime }) => (born === undefined || ctime >= born ? 'backups' : 'earlier'),
    );
    // Whoever creates a guest here had to pay for what was left under its vmid, and goes on to.
    return { backups, leftBackups: createdAt === undefined ? [] : earlier };
  }

  #isCounted({ volid }: Backup): boolean {
    return this.#backupStorage !== undefined && volid.startsWith(`${this.#backupStorage}:`);
  }

  #sighting(instance: Instance): Sighting {
    const { vmid, type, host, current, next } = instance;
    const pool = this.#guests.get(vmid)?.pool ?? this.#ledger.account(vmid)?.pool;
    const usage = usageOf(instance, this.#counted);
    return { vmid, type, node: host.node, pool, birth: birthMark(current, next), usage };
  }

  /** No guest, but perhaps volumes and backups under its vmid. */
  #absence(vmid: number, node: string): Absence {
    const { lines } = usageOf(this.remains(vmid, node));
    return { vmid, gone: true, node, usage: { lines, unknown: [] } };
  }

  #has(node: string, storage: string): boolean {
    return this.#storages.some((row) => row.storage === storage && row.node === node);
  }

  #read(path: string, values: readonly (string | number)[] = [], params: Params = {}): Promise<Answer> {
    return this.#upstream.send(call('GET', path, values, params), { kind: 'service' });
  }
}

/** By node: the storages whose volumes may be replicated, of nodes without any of them none. */
function replicatingIn(storages: readonly StorageOnNode[]): ReadonlyMap<string, ReadonlySet<string>> {
  const own = Map.groupBy(storages, ({ node }) => node);
  return new Map(
    [...own].map(([node, rows]) => [
      node,
      new Set(rows.flatMap(({ storage, replicates }) => (replicates ? [storage] : []))),
    ]),
  );
}

/** A shelf, as an instance that is nothing but volumes. */
function shelfOf(vmid: number, host: Host): Omit<Instance, 'volumes'> {
  return { type: 'qemu', vmid, host, current: {}, next: {}, absent: true };
}

function storageOf(volid: string): string {
  return volid.slice(0, volid.indexOf(':'));
}

function passesDevices({ current, next }: Reading): boolean {
  return [current, next].some((config) => Object.keys(config).some(isDeviceSlot));
}
