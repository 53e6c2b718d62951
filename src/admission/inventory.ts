/**
 * What PVE holds, as far as we have looked: the lists, the storages and every instance. It keeps the ledger's
 * last-seen usage fresh; anything that a change depends on is read at that moment.
 */

import type { Logger } from 'pino';
import { ConflictError, NotFoundError, UpstreamBrokenError } from '../errors.ts';
import { type Answer, call, type Params, succeeded, type Upstream } from '../pve/call.ts';
import {
  birthMark,
  type Config,
  drivesOf,
  type GuestType,
  type Host,
  type Instance,
  readPending,
  type Volume,
} from '../pve/instance.ts';
import {
  type ClusterNode,
  type Guest,
  readResources,
  readVolumes,
  type StorageOnNode,
  unlistedGuest,
} from '../pve/listing.ts';
import type { Absence, Ledger, Sighting, Stamp } from '../quota/ledger.ts';
import { usageOf } from '../quota/usage.ts';
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

/** How long a node's list of devices is believed, in ms. */
const devicesBelievedFor = 600_000;

/** How often a look begins anew because a change of that instance was opened or settled meanwhile. */
const mostLooks = 5;

export class Inventory {
  readonly #upstream: Upstream;
  readonly #ledger: Ledger;
  readonly #log: Logger;
  readonly #counted: readonly string[];
  readonly #memory = new Memory();
  readonly #guests = new Map<number, Guest>();
  readonly #hints = new Map<number, string>();
  readonly #devices = new Map<string, { readonly at: number; readonly names: ReadonlyMap<string, string> }>();
  readonly #stale = new Set<number>();
  #nodes: readonly ClusterNode[] = [];
  #storages: readonly StorageOnNode[] = [];
  #listing: Promise<void> | undefined;
  #nextListing: Promise<void> | undefined;
  #frozen: Frozen | undefined;
  #listed = false;
  #storagesListed = false;

  /** `counted` names further numeric configuration keys that are resources. */
  constructor({
    upstream,
    ledger,
    log,
    counted,
  }: { upstream: Upstream; ledger: Ledger; log: Logger; counted: readonly string[] }) {
    this.#upstream = upstream;
    this.#ledger = ledger;
    this.#log = log;
    this.#counted = counted;
  }

  /** Whether all lists have been read at least once. */
  get ready(): boolean {
    return this.#listed && this.#storagesListed;
  }

  /** Why nothing may grow at the moment, if so. */
  get frozen(): Frozen | undefined {
    return this.#frozen;
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
    const devices = this.#devices.get(node)?.names;
    return { node, ...(cpus === undefined ? {} : { cpus }), ...(devices === undefined ? {} : { devices }) };
  }

  /** The volumes that storages held under a vmid when they were last looked at. */
  volumes(vmid: number): ReadonlyMap<string, Volume> {
    return this.#memory.volumes(vmid);
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
      const place = this.#placeOf(row.storage, row.node);
      if (row.available && row.holdsImages && !places.has(place)) places.set(place, row);
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
    const stamp = this.#ledger.stamp();
    const listed = this.#guests.get(vmid);
    const place: Whereabouts = { vmid, node: listed?.node ?? where.node, type: listed?.type ?? where.type };
    const answer = await this.#read('/nodes/{}/{}/{}/pending', [place.node, place.type, vmid]);
    if (!succeeded(answer)) return this.#lookElsewhere(where, place, answer, storages);
    const reading = readPending(answer.data);
    if (reading === null) throw new UpstreamBrokenError(`PVE's answer about instance ${vmid} is not understood`);
    await this.#readDevices(place.node, reading);

    const first = this.#instance(place, reading, this.#memory.volumes(vmid));
    await this.#readVolumes(place, this.#chosen(storages, vmid, first), stamp);
    const instance = this.#instance(place, reading, this.#memory.volumes(vmid));
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
    for (const { storage } of this.volumes(vmid).values()) storages.add(storage);
    for (const { resource } of this.#ledger.account(vmid)?.booking ?? []) {
      if (resource.startsWith('storage:')) storages.add(resource.slice('storage:'.length));
    }
    return [...storages];
  }

  async #readVolumes({ vmid, node }: Whereabouts, storages: readonly string[], stamp: Stamp): Promise<void> {
    const read = async (storage: string) => {
      const answer = await this.#read('/nodes/{}/storage/{}/content', [node, storage], { vmid: String(vmid) });
      if (!succeeded(answer))
        throw new UpstreamBrokenError(
          `storage ${storage} does not list the volumes of ${vmid}: ${answer.status} ${answer.reason}`,
        );
      this.#memory.setVolumes(vmid, this.#placeOf(storage, node), readVolumes(answer.data).get(vmid) ?? [], stamp);
    };
    await Promise.all(storages.map(read));
  }

  async #list(): Promise<void> {
    const stamp = this.#ledger.stamp();
    const [rights, answer] = await Promise.all([
      this.#read('/access/permissions', [], { path: '/vms' }),
      this.#read('/cluster/resources'),
    ]);
    const held = (rights.data as Record<string, Record<string, unknown>> | null)?.['/vms'];
    if (!succeeded(rights) || held === undefined)
      throw new UpstreamBrokenError(`PVE does not tell the rights of the token: ${rights.status} ${rights.reason}`);
    if (!succeeded(answer))
      throw new UpstreamBrokenError(`PVE does not list its resources: ${answer.status} ${answer.reason}`);
    const sees = Object.hasOwn(held, 'VM.Audit');
    this.#freeze(
      sees ? undefined : { reason: 'the API token has lost VM.Audit on /vms, so guests are hidden from this server' },
    );
    if (!sees) return;

    const { guests, hints, nodes, storages } = readResources(answer.data);
    this.#nodes = nodes;
    this.#storages = storages;
    for (const guest of guests) this.#takeIn(guest, hints.get(guest.vmid) ?? '', stamp);
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
    const found = readVolumes(answer.data);
    for (const vmid of new Set([...found.keys(), ...this.#memory.vmidsAt(place)])) {
      if (!this.#ledger.isCurrent(vmid, stamp)) continue;
      if (this.#memory.setVolumes(vmid, place, found.get(vmid) ?? [], stamp)) this.#tell(vmid, node, stamp);
    }
  }

  /** Tells the ledger what the parts that are known add up to. */
  #tell(vmid: number, node: string, stamp: Stamp): void {
    const guest = this.#guests.get(vmid);
    const reading = this.#memory.reading(vmid);
    const account = this.#ledger.account(vmid);
    if (guest !== undefined && reading != null) {
      this.#ledger.see(this.#sighting(this.#instance(guest, reading, this.#memory.volumes(vmid))), stamp);
    } else if (guest === undefined && account?.present !== true && !this.#ledger.hasOpen(vmid)) {
      this.#ledger.see(this.#absence(vmid, account?.node ?? node), stamp);
    }
  }

  #instance(
    { vmid, type, node }: Whereabouts,
    { current, next, digest }: Reading,
    volumes: Instance['volumes'],
  ): Instance {
    return { type, vmid, host: this.host(node), current, next, volumes, ...(digest === undefined ? {} : { digest }) };
  }

  #sighting(instance: Instance): Sighting {
    const { vmid, type, host } = instance;
    const pool = this.#guests.get(vmid)?.pool ?? this.#ledger.account(vmid)?.pool;
    return { vmid, type, node: host.node, pool, birth: birthMark(instance), usage: usageOf(instance, this.#counted) };
  }

  /** No guest, but perhaps volumes under its vmid. */
  #absence(vmid: number, node: string): Absence {
    const none: Config = {};
    const { lines } = usageOf({
      type: 'qemu',
      vmid,
      host: { node },
      current: none,
      next: none,
      volumes: this.#memory.volumes(vmid),
    });
    return {
      vmid,
      gone: true,
      node,
      usage: { lines: lines.filter(({ resource }) => resource.startsWith('storage:')), unknown: [] },
    };
  }

  #placeOf(storage: string, node: string): string {
    return this.#storages.some((row) => row.storage === storage && row.shared) ? storage : `${node}/${storage}`;
  }

  async #readDevices(node: string, { current, next }: Reading): Promise<void> {
    const passes = [current, next].some((config) => Object.keys(config).some((key) => /^hostpci\d+$/.test(key)));
    const known = this.#devices.get(node);
    if (!passes || (known !== undefined && performance.now() - known.at < devicesBelievedFor)) return;
    const answer = await this.#read('/nodes/{}/hardware/pci', [node], { 'pci-class-blacklist': '' });
    if (!succeeded(answer) || !Array.isArray(answer.data)) return;
    const rows = answer.data as Record<string, unknown>[];
    const names = new Map(rows.map(({ id, device_name, device }) => [String(id), String(device_name ?? device)]));
    this.#devices.set(node, { at: performance.now(), names });
  }

  #read(path: string, values: readonly (string | number)[] = [], params: Params = {}): Promise<Answer> {
    return this.#upstream.send(call('GET', path, values, params), { kind: 'service' });
  }
}
