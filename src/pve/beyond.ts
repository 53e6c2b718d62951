/** What reaches beyond a guest: parameters that PVE keeps for root, or that take of the host or of the cluster. */

import type { Config, GuestType } from './instance.ts';

/** Why the holder of a guest may not say this, unless the configuration allows it by name; `usb[n]` stands for `usb0`, ... */
export const beyondGuest = {
  affinity: 'pinning host CPUs is for root alone',
  'amd-sev': 'encrypted memory is for root alone',
  arch: 'another architecture is for root alone',
  args: 'raw QEMU arguments are for root alone',
  bwlimit: 'the speed of copies is set up by administrators',
  'dev[n]': 'devices of the host are for root alone',
  features: 'containers made here may nest, and no more',
  'ha-managed': 'high availability is set up by administrators',
  hookscript: 'scripts on the host are for root alone',
  hugepages: 'huge pages of the host are for root alone',
  'intel-tdx': 'encrypted memory is for root alone',
  ivshmem: 'shared memory with the host is for root alone',
  keephugepages: 'huge pages of the host are for root alone',
  'parallel[n]': 'devices of the host are for root alone',
  'serial[n]': 'devices of the host are for root alone',
  spice_enhancements: 'folders of clients are for root alone',
  startup: 'the start order of the host is set up by administrators',
  unprivileged: 'containers made here are unprivileged',
  'usb[n]': 'devices of the host are not passed through here',
  'virtiofs[n]': 'a shared host directory has no limit',
} as const satisfies Readonly<Record<string, string>>;

/** The name of something beyond a guest that a configuration can allow. */
export type BeyondGuest = keyof typeof beyondGuest;

/** Why something cannot be allowed at all: nobody could tell any more what is held, or whose it is. */
export const beyondMeasure = {
  all: 'that is for every guest; name yours',
  dumpdir: 'directories of the host are for root alone',
  exclude: 'that is for every other guest; name yours',
  fleecing: 'its images would lie on another storage, unmetered',
  'hostpci[n]': 'only VMs take devices',
  'import-working-storage': 'what is unpacked there is unmetered',
  'live-restore': 'a guest is restored before it is started here',
  lock: 'locks belong to PVE',
  'prune-backups': 'other backups stay; delete them one by one',
  script: 'scripts on the host are for root alone',
  skiplock: 'locks belong to PVE',
  smp: 'PVE drops cores for it; write sockets and cores',
  template: 'the flag alone converts nothing; use the call that makes a template',
  tmpdir: 'directories of the host are for root alone',
  'unused[n]': 'PVE would lose the volume that is there; attach or delete it instead',
} as const satisfies Readonly<Record<string, string>>;

const forRoot: ReadonlySet<string> = new Set<BeyondGuest>([
  'affinity',
  'amd-sev',
  'args',
  'dev[n]',
  'features',
  'ha-managed',
  'hookscript',
  'hugepages',
  'intel-tdx',
  'ivshmem',
  'keephugepages',
  'parallel[n]',
  'serial[n]',
  'spice_enhancements',
  'startup',
]);

/** How many slots of each family PVE knows. */
const slots: Readonly<Record<string, number>> = {
  ...{ dev: 256, hostpci: 16, ide: 4, ipconfig: 32, mp: 256, net: 32, numa: 8, parallel: 3, sata: 6, scsi: 31 },
  ...{ serial: 4, unused: 256, usb: 14, virtio: 16, virtiofs: 10 },
};

/** A parameter by the name of its family: `net0` is of `net[n]`. What is none of PVE's slots, such as `net32`, is of no family. */
export function familyOf(name: string): string {
  const [, family = '', index = ''] = /^([a-z]+)(0|[1-9]\d{0,2})$/.exec(name) ?? [];
  return Object.hasOwn(slots, family) && Number(index) < (slots[family] ?? 0) ? `${family}[n]` : name;
}

/** What a table says of a parameter, by its name or else by its family's. */
export function entryFor<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  const key = Object.hasOwn(table, name) ? name : familyOf(name);
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

/**
 * Whether PVE takes this from root alone, in whose place no token can stand, or with rights over the hosts that no token
 * of ours should have. Nesting, sockets, mappings and spice are for everybody.
 */
export function isForRoot(type: GuestType, name: string, value: string): boolean {
  if (name === 'unprivileged') return value === '0';
  if (name === 'arch') return type === 'qemu';
  if (familyOf(name) === 'usb[n]') return !/(?:^|,)(?:mapping=|(?:host=)?spice(?:,|$))/.test(value);
  return (forRoot.has(name) || forRoot.has(familyOf(name))) && !/^(?:nesting=[01]|socket|)$/.test(value);
}

/** What of a configuration reaches beyond its guest and is not allowed by name: a copy would hand it on. The host's start order harms nobody. */
export function beyondIn(type: GuestType, config: Config, allowed: readonly string[]): string[] {
  const reaches = ([name, value]: readonly [string, string]) =>
    name !== 'startup' &&
    (name === 'lxc' ||
      isForRoot(type, name, value) ||
      /^virtiofs\d+$/.test(name) ||
      (/^usb\d+$/.test(name) && /mapping=/.test(value)));
  const privileged = type === 'lxc' && config.unprivileged !== '1' ? ['unprivileged'] : [];
  const found = Object.entries(config).filter(reaches);
  return [...new Set([...found.map(([name]) => name), ...privileged])].filter((name) => !isAllowed(allowed, name));
}

/** Whether a list of names has a parameter, by its own name or its family's. */
export function isAllowed(allowed: readonly string[], name: string): boolean {
  return allowed.includes(name) || allowed.includes(familyOf(name));
}
