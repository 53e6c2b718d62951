/** The state of the simulated cluster. Methods read and change it; tests and the demo look at it and change it from outside. */

import type { Access } from './access.ts';
import type { Archive } from './archives.ts';
import { Consoles } from './consoles.ts';
import type { RemoteFile } from './files.ts';
import type { PciMapping } from './pci.ts';
import type { Tasks } from './tasks.ts';
import { Volumes } from './volumes.ts';

export interface ClusterNode {
  readonly name: string;
  readonly cpus: number;
  readonly memory: number;
  online: boolean;
  readonly pci: readonly PciDevice[];
}

export interface PciDevice {
  readonly id: string;
  readonly class: string;
  readonly vendor: string;
  readonly device: string;
  readonly vendor_name: string;
  readonly device_name: string;
  readonly iommugroup: number;
}

export interface StorageDefinition {
  readonly storage: string;
  /** `dir`, `nfs`, `lvm`, `lvmthin`, `zfspool`, `rbd`, ... */
  readonly type: string;
  readonly content: readonly string[];
  readonly shared: boolean;
  /** Of an `lvm` storage: a snapshot is another volume of the full size, below the one that goes on being written. */
  readonly volumeChain?: boolean;
  /** Only on these nodes; absent: on all. */
  readonly nodes?: readonly string[];
  /** Bytes. */
  readonly total: number;
  /** Which backups of a guest stay, as PVE writes it: `keep-last=3,keep-daily=7`; absent: all of them. */
  readonly pruneBackups?: string;
}

export interface Volume {
  readonly volid: string;
  readonly storage: string;
  /** The node that has it; '' on a shared storage. */
  readonly node: string;
  /** The guest in its name; undefined for isos and templates. */
  readonly vmid: number | undefined;
  readonly content: 'images' | 'rootdir' | 'iso' | 'vztmpl' | 'backup' | 'import' | 'snippets';
  readonly format: string;
  bytes: number;
  /** Of a file under `import`: what the list shows, while `bytes` is the size of the disk in it. */
  readonly fileBytes?: number;
  readonly ctime: number;
  notes?: string;
  protected?: boolean;
  parent?: string;
  /** A snapshot in a chain of volumes: it takes its space, and no list shows it. */
  readonly hidden?: true;
  /** What a backup holds. */
  readonly archive?: Archive;
}

export interface PendingValue {
  /** The value to come; undefined when the key is to be deleted. */
  readonly value?: string;
  readonly delete?: 1 | 2;
}

export interface Snapshot {
  readonly name: string;
  readonly config: Map<string, string>;
  readonly snaptime: number;
  readonly parent?: string;
  readonly description?: string;
}

export interface Guest {
  readonly vmid: number;
  readonly type: 'qemu' | 'lxc';
  node: string;
  status: 'running' | 'stopped';
  /** The current configuration, values in PVE's canonical text. `digest` is computed, never stored. */
  config: Map<string, string>;
  pending: Map<string, PendingValue>;
  snapshots: Map<string, Snapshot>;
  /** When it was started, in ms of the cluster's clock. */
  startedAt: number;
  /** The host devices that it took when it was started; they are free again when it does not run. */
  devices: readonly string[];
}

export interface Pool {
  readonly poolid: string;
  comment: string;
  /** Changed by the cluster's `join` and `leave` only. */
  readonly vms: ReadonlySet<number>;
  readonly storages: Set<string>;
}

/** Everything that the cluster holds. Time comes from `now()`, in ms, so that tests can pass their own. */
export class Cluster {
  readonly nodes = new Map<string, ClusterNode>();
  readonly storages = new Map<string, StorageDefinition>();
  readonly guests = new Map<number, Guest>();
  readonly volumes = new Volumes();
  readonly consoles = new Consoles();
  /** Jobs by id: `100-0` is the first of guest 100. */
  readonly replication = new Map<string, Readonly<Record<string, unknown>>>();
  /** What can be fetched from outside: by URL, by template, by reference of an image. */
  readonly outside = new Map<string, RemoteFile>();
  readonly pools = new Map<string, Pool>();
  /** Host devices under a name of the cluster. */
  readonly pciMappings = new Map<string, PciMapping>();
  readonly #poolByVmid = new Map<number, { readonly poolid: string; readonly vms: Set<number> }>();
  readonly access: Access;
  readonly tasks: Tasks;
  readonly now: () => number;
  /** The version that `GET /version` reports. */
  readonly version = { version: '9.2.3', release: '9.2', repoid: '5a1e0000' };

  constructor(access: Access, tasks: Tasks, now: () => number = Date.now) {
    this.access = access;
    this.tasks = tasks;
    this.now = now;
    access.membership = this;
  }

  poolOf(vmid: number): string | undefined {
    return this.#poolByVmid.get(vmid)?.poolid;
  }

  /** Puts the guest into the pool, out of any other: a guest is in at most one. */
  join(poolid: string, vmid: number): void {
    const pool = this.pools.get(poolid);
    if (pool === undefined) throw new Error(`pool '${poolid}' does not exist`);
    this.leave(vmid);
    const vms = pool.vms as Set<number>;
    vms.add(vmid);
    this.#poolByVmid.set(vmid, { poolid, vms });
  }

  leave(vmid: number): void {
    this.#poolByVmid.get(vmid)?.vms.delete(vmid);
    this.#poolByVmid.delete(vmid);
  }
}
