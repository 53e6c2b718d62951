/** Guests for tests, in one line each. */

import type { Config, GuestType, Host, Instance, Volume } from '../../../src/pve/instance.ts';

export const MiB = 1024 ** 2;
export const GiB = 1024 ** 3;

export interface Given {
  /** What the guest runs with. */
  readonly current?: Config;
  /** What it will have; as `current` unless given. */
  readonly next?: Config;
  /** What storages list: size in bytes by volume id. */
  readonly volumes?: Readonly<Record<string, number>>;
  readonly host?: Host;
}

/** Guest 100 on node n1, which has 16 CPUs. */
export function guest(type: GuestType, { current = {}, next = current, volumes = {}, host }: Given): Instance {
  return {
    type,
    vmid: 100,
    host: host ?? { node: 'n1', cpus: 16 },
    current,
    next,
    volumes: new Map(Object.entries(volumes).map(([volid, bytes]) => [volid, volume(volid, bytes)])),
  };
}

export const qemu = (given: Given): Instance => guest('qemu', given);
export const lxc = (given: Given): Instance => guest('lxc', given);

export function volume(volid: string, bytes: number): Volume {
  return { volid, storage: volid.slice(0, volid.indexOf(':')), bytes, format: 'raw' };
}
