/** What the cluster is made of: plain data, without a rule. */

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

export interface PciMapping {
  readonly id: string;
  readonly description?: string;
  readonly mdev?: boolean;
  readonly 'live-migration-capable'?: boolean;
  /** Alternatives, one property string each; a VM gets the first of its node that is free. */
  readonly map: readonly string[];
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

export interface Archive {
  readonly type: Guest['type'];
  /** The configuration of that day, without lock, snapshots and pending changes. */
  readonly config: ReadonlyMap<string, string>;
  /** The disks of a VM; a container's are read from its configuration. */
  readonly disks: readonly ArchivedDisk[];
}

export interface ArchivedDisk {
  readonly key: string;
  /** What the archive's header says; it decides how big the disk is when it comes back. */
  readonly bytes: number;
  readonly storage: string;
  readonly format: string;
}

/** What the world outside offers under a URL, as an appliance template, or as an image of a registry. */
export interface RemoteFile {
  readonly bytes: number;
  /** Of the disk in an image; as big as the file when absent. */
  readonly virtualBytes?: number;
  readonly mimetype?: string;
  /** What makes it an appliance template of PVE's own list. */
  readonly appliance?: { readonly package: string; readonly version: string; readonly section: string };
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

export interface Pool {
  readonly poolid: string;
  comment: string;
  /** Changed by the cluster's `join` and `leave` only. */
  readonly vms: ReadonlySet<number>;
  readonly storages: Set<string>;
}

/** A job as it is kept. */
export interface ReplicationJob {
  readonly id: string;
  readonly type: 'local';
  readonly guest: number;
  readonly jobnum: number;
  readonly source: string;
  readonly target: string;
  readonly disable?: number;
  /** It is to be removed when it next runs; `full`: with what it has copied. */
  readonly remove_job?: 'local' | 'full';
  readonly [setting: string]: unknown;
}

/** What became of a job's runs. */
export interface ReplicationState {
  /** Seconds since 1970; 0: never. */
  readonly last_sync: number;
  readonly fail_count: number;
  readonly error?: string;
}
