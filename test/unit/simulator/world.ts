/** A small cluster whose methods are called as the router calls them, without HTTP. */

import { Access } from '../../../simulator/access.ts';
import { addVolume } from '../../../simulator/administrator.ts';
import type { Caller, Verb } from '../../../simulator/call.ts';
import { Cluster } from '../../../simulator/cluster.ts';
import type { Fault } from '../../../simulator/faults.ts';
import { methods } from '../../../simulator/methods/index.ts';
import { demandPermission } from '../../../simulator/permission.ts';
import { verifyParameters } from '../../../simulator/schema.ts';
import { addPool, seedEmpty } from '../../../simulator/seed.ts';
import { GiB } from '../../../simulator/sizes.ts';
import { type TaskPace, Tasks } from '../../../simulator/tasks.ts';

export const root: Caller = { user: 'root@pam' };
export const proxy: Caller = { user: 'quota-proxy@pve', token: 'quota-proxy@pve!gate' };
export const alice: Caller = { user: 'alice@pve' };

export interface World {
  readonly cluster: Cluster;
  /** Runs a method by its template; refusals are thrown. `node` is n1 unless the parameters say otherwise. */
  call<Result = unknown>(
    method: Verb,
    template: string,
    param?: Readonly<Record<string, unknown>>,
    more?: CallOptions,
  ): Result;
  /** Runs a method that starts a task, and answers how the task ended. */
  task(
    method: Verb,
    template: string,
    param: Readonly<Record<string, unknown>>,
    more?: CallOptions,
  ): string | undefined;
  /** A stopped VM made through the API. */
  vm(vmid: number, param?: Readonly<Record<string, unknown>>): void;
  container(vmid: number, param?: Readonly<Record<string, unknown>>): void;
  config(vmid: number): Readonly<Record<string, unknown>>;
}

export interface CallOptions {
  readonly caller?: Caller;
  readonly fault?: Fault;
}

export const qemu = '/nodes/{node}/qemu/{vmid}';
export const lxc = '/nodes/{node}/lxc/{vmid}';
export const template = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

/** The empty seed at a fixed time, with the tenant alice, her pool, and an import file that is bigger than it looks. */
export function makeWorld(pace: TaskPace = 'at once'): World {
  const now = () => 1_763_784_000_000;
  const cluster = new Cluster(new Access(now), new Tasks(now, pace), now);
  seedEmpty(cluster);
  addPool(cluster, 'alice');
  cluster.access.addUser('alice@pve');
  cluster.access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'QuotaTenant');
  addVolume(cluster, { volid: 'shared:import/big.qcow2', content: 'import', bytes: 10 * GiB });

  const world: World = {
    cluster,
    call<Result>(method: Verb, path: string, param = {}, { caller = root, fault }: CallOptions = {}) {
      const row = methods.find((one) => one.method === method && one.path === path);
      if (row === undefined) throw new Error(`no method ${method} ${path}`);
      const inPath = path.includes('{node}') ? { node: 'n1' } : {};
      const given = new Map<string, unknown>(Object.entries({ ...inPath, ...param }));
      demandPermission(row.permissions, cluster.access, caller, given);
      const verified = verifyParameters(row, given);
      const node = String(verified.node ?? 'n1');
      return row.run({ cluster, caller, param: verified, node, ...(fault === undefined ? {} : { fault }) }) as Result;
    },
    task(method, path, param, more) {
      const upid = world.call<string>(method, path, param, more);
      return cluster.tasks.get(upid)?.exitstatus;
    },
    vm(vmid, param = {}) {
      const status = world.task('POST', '/nodes/{node}/qemu', { vmid, ...param });
      if (status !== 'OK') throw new Error(status);
    },
    container(vmid, param = {}) {
      const status = world.task('POST', '/nodes/{node}/lxc', { vmid, ostemplate: template, storage: 'ceph', ...param });
      if (status !== 'OK') throw new Error(status);
    },
    config: (vmid) => Object.fromEntries(cluster.guests.get(vmid)?.config ?? []),
  };
  return world;
}
