/** The state of the simulated cluster. Methods read and change it; tests and the demo look at it and change it from outside. */

import type { Access } from './access.ts';
import { Consoles } from './consoles.ts';
import type {
  ClusterNode,
  Guest,
  PciMapping,
  Pool,
  RemoteFile,
  ReplicationJob,
  ReplicationState,
  StorageDefinition,
} from './model.ts';
import type { Tasks } from './tasks.ts';
import { Volumes } from './volume-index.ts';

/** Everything that the cluster holds. Time comes from `now()`, in ms, so that tests can pass their own. */
export class Cluster {
  readonly nodes = new Map<string, ClusterNode>();
  readonly storages = new Map<string, StorageDefinition>();
  readonly guests = new Map<number, Guest>();
  readonly volumes = new Volumes();
  readonly consoles = new Consoles();
  /** Jobs by id: `100-0` is the first of guest 100. */
  readonly replication = new Map<string, ReplicationJob>();
  /** What became of the jobs' runs. */
  readonly replicationStates = new Map<string, ReplicationState>();
  /** What can be fetched from outside: by URL, by template, by reference of an image. */
  readonly outside = new Map<string, RemoteFile>();
  readonly pools = new Map<string, Pool>();
  /** The guests that high availability looks after. */
  readonly highlyAvailable = new Set<number>();
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
