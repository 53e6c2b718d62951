/** What an instance uses: a pure function of what PVE holds for it. */

import {
  type Config,
  drivesOf,
  type Host,
  type Instance,
  passedThrough,
  pciBus,
  propertiesOf,
  volumeOwner,
} from '../pve/instance.ts';
import { replicaNodes } from '../pve/replication.ts';
import type { Resources } from './resources.ts';

/**
 * So much of one resource. `resource` is `cores`, `memory`, `swap`, `network`, `cpu`, `pci`, `storage:<id>` or the name of
 * another numeric configuration key. Amounts are integers in base units: CPUs, bytes, bytes per second, pieces.
 * `item` tells things of one resource apart: a CPU type, a device name; `unlimited` counts network cards and volumes
 * without a limit of their own; '' for plain amounts.
 */
export interface Line {
  readonly resource: string;
  readonly item: string;
  readonly amount: number;
  /** Where it is held, when that is not the instance's own node. */
  readonly node?: string;
}

/** A resource whose use cannot be told, and why. */
export interface Unknown {
  readonly resource: string;
  readonly reason: string;
}

export interface Usage {
  readonly lines: readonly Line[];
  readonly unknown: readonly Unknown[];
}

export const nothing: Usage = { lines: [], unknown: [] };

/** The item that counts what has no limit of its own. */
export const unlimited = 'unlimited';

const mib = 1024 * 1024;

/** The resource whose items are whole PCI devices by bus id: each is one guest's in the cluster. */
export const device = 'device';

/** One kind of resource: what a configuration takes of it; a string says why that cannot be told. */
type Measure = (config: Config, instance: Instance) => readonly Line[] | string;

/** What a configuration uses, one row for each kind of resource; absent keys have PVE's defaults. */
const measures: Readonly<Record<string, Measure>> = {
  cores: (config, { type, host }) => {
    if (type === 'lxc' && config.cores === undefined) {
      return host.cpus === undefined ? `the CPUs of node ${host.node} are not known` : plain('cores', host.cpus);
    }
    const cores = count(config.cores ?? '1');
    // `smp` is the old name of `sockets`; PVE reads it where that is absent.
    const sockets = type === 'qemu' ? count(config.sockets ?? config.smp ?? '1') : 1;
    if (cores === null || sockets === null) return 'cores, sockets or smp is not a whole number';
    return plain('cores', cores * sockets);
  },

  memory: (config, { type }) => {
    const text = config.memory ?? '512';
    const amount = count(
      type === 'qemu' ? (propertiesOf(text, { defaultKey: 'current' })?.get('current') ?? '') : text,
    );
    return amount === null ? `memory "${text}" is not understood` : plain('memory', amount * mib);
  },

  swap: (config, { type }) => {
    const amount = count(type === 'lxc' ? (config.swap ?? '0') : '0');
    return amount === null ? `swap "${config.swap}" is not understood` : plain('swap', amount * mib);
  },

  network: (config) => {
    let bytesPerSecond = 0;
    let withoutLimit = 0;
    for (const [key, text] of family(config, networkCard)) {
      const rate = networkRate(text);
      if (rate === null) return `${key} "${text}" is not understood`;
      if (rate === Infinity) withoutLimit += 1;
      else bytesPerSecond += rate;
    }
    return [
      ...plain('network', bytesPerSecond),
      ...(withoutLimit > 0 ? [{ resource: 'network', item: unlimited, amount: withoutLimit }] : []),
    ];
  },

  cpu: (config) => {
    if (config.cpu === undefined) return [];
    const type = cpuType(config.cpu);
    return type === null ? `cpu "${config.cpu}" is not understood` : [{ resource: 'cpu', item: type, amount: 1 }];
  },

  pci: (config, { host }) => {
    const lines: Line[] = [];
    for (const [key, text] of family(config, passedDevice)) {
      const names = deviceNames(text, host);
      if (names === null) return `${key} "${text}" names a device that node ${host.node} does not list`;
      for (const item of names) lines.push({ resource: 'pci', item, amount: 1 });
    }
    return lines;
  },

  // Not a matter of quota: a device belongs to one guest at a time, whoever pays.
  [device]: (config, { host }) => {
    const buses = family(config, passedDevice).flatMap(([, text]) => (passedThrough(text, host) ?? []).map(pciBus));
    return [...new Set(buses)].flatMap((item) => (item === null ? [] : [{ resource: device, item, amount: 1 }]));
  },

  backups: (_config, instance) => backupLines(instance),
};

const rows = Object.entries(measures);

/** Backups are counted for each vmid, also when its guest is gone. */
function backupLines({ vmid, backups = [], leftBackups = [] }: Instance): Line[] {
  const amount = backups.length + leftBackups.length;
  return amount === 0 ? [] : [{ resource: 'backups', item: String(vmid), amount }];
}

/** The numeric resources that have no meaning of their own here: each counts the configuration key of its name. */
export function countedKeys(resources: Resources): string[] {
  return Object.keys(resources).filter((name) => resources[name]?.type === 'numeric' && !Object.hasOwn(measures, name));
}

const nothingMore: readonly string[] = [];

/** What instances that are still looked at use: a decision asks several times. */
const found = new WeakMap<Instance, { readonly extra: readonly string[]; readonly usage: Usage }>();

/**
 * What an instance uses: of each resource the larger of what it runs with and what it will have, and every volume.
 * `extra` names further numeric configuration keys that are to be counted.
 */
export function usageOf(instance: Instance, extra = nothingMore): Usage {
  const known = found.get(instance);
  if (known?.extra === extra) return known.usage;
  const usage = measured(instance, extra);
  found.set(instance, { extra, usage });
  return usage;
}

function measured(instance: Instance, extra: readonly string[]): Usage {
  const volumes = volumesOf(instance);
  if (instance.absent) return { lines: [...backupLines(instance), ...volumes.lines], unknown: volumes.unknown };
  const unknown: Unknown[] = [];
  const all = [...rows, ...extra.map((key) => [key, numericKey(key)] as const)];
  const taken = (config: Config): readonly Line[] => {
    const lines: Line[] = [];
    for (const [resource, measure] of all) {
      const outcome = countable(resource, measure(config, instance));
      if (typeof outcome === 'string') unknown.push({ resource, reason: outcome });
      else lines.push(...outcome);
    }
    return sum(lines);
  };
  const now = taken(instance.current);
  const lines = instance.next === instance.current ? now : larger(now, taken(instance.next));
  return { lines: [...lines, ...volumes.lines], unknown: dedupe([...unknown, ...volumes.unknown]) };
}

/** Amounts beyond what adds up exactly are none. */
function countable(resource: string, outcome: readonly Line[] | string): readonly Line[] | string {
  if (typeof outcome === 'string' || outcome.every(({ amount }) => Number.isSafeInteger(amount))) return outcome;
  return `${resource} is too large to be counted`;
}

/**
 * Every volume of an instance: those that storages list, those on their way, those that only a configuration knows, and
 * the replicas of each on other nodes, those to come as large as what they are to be copies of.
 */
function volumesOf(instance: Instance): Usage {
  const held = new Map<string, Line>();
  const unknown: Unknown[] = [];
  const replicas = replicaNodes(instance);
  const add = (name: string, storage: string, bytes: number, node?: string) => {
    const resource = `storage:${storage}`;
    const line = bytes > 0 ? { resource, item: '', amount: bytes } : { resource, item: unlimited, amount: 1 };
    const key = `${node ?? ''} ${name}`;
    held.set(key, mostOf(held.get(key), node === undefined ? line : { ...line, node }));
  };
  const addWithReplicas = (name: string, storage: string, bytes: number, text?: string) => {
    add(name, storage, bytes);
    for (const node of replicas(storage, text === undefined ? name : { text })) add(name, storage, bytes, node);
  };
  for (const { volid, storage, bytes, node } of instance.volumes.values()) {
    if (!Number.isSafeInteger(bytes) || bytes < 0)
      unknown.push({ resource: `storage:${storage}`, reason: `the size of ${volid} is not understood` });
    else if (node === undefined) addWithReplicas(volid, storage, bytes);
    else add(volid, storage, bytes, node);
  }

  const counted = new Set(instance.volumes.keys());
  for (const config of new Set([instance.current, instance.next])) {
    for (const [slot, drive] of drivesOf(instance.type, config)) {
      const text = config[slot] ?? '';
      if (drive === null || drive.kind === 'opaque' || drive.kind === 'import') {
        // Only the text names the storage, and it is not understood: any storage may be meant.
        unknown.push({
          resource: `storage:${/^(?:(?:file|volume)=)?([A-Za-z][\w.-]*):/.exec(text)?.[1] ?? '*'}`,
          reason: `${slot} "${text}" is not understood`,
        });
      } else if (drive.kind === 'allocation') {
        addWithReplicas(`${slot}=${text}`, drive.storage, drive.bytes, text);
      } else if (drive.kind === 'volume' && !counted.has(drive.volid) && isOwn(drive.volid, instance.vmid)) {
        counted.add(drive.volid);
        if (drive.size !== undefined && drive.size > 0) addWithReplicas(drive.volid, drive.storage, drive.size);
        else
          unknown.push({
            resource: `storage:${drive.storage}`,
            reason: `${slot}: storage ${drive.storage} does not list ${drive.volid}`,
          });
      }
    }
  }
  return { lines: sum([...held.values()]), unknown };
}

/** Of what is there and what is to come of one volume, the larger; what has no limit is more than what has one. */
function mostOf(known: Line | undefined, line: Line): Line {
  if (known === undefined || line.item === unlimited) return line;
  return known.item === unlimited || known.amount >= line.amount ? known : line;
}

/** A volume that another guest owns by name is counted there. */
function isOwn(volid: string, vmid: number): boolean {
  const owner = volumeOwner(volid);
  return owner === null || owner === vmid;
}

/** `rate` of a network card in bytes per second, rounded up (PVE's number counted as 10^6); Infinity without one, null when not understood. */
export function networkRate(text: string): number | null {
  const card = propertiesOf(text, { defaultKey: 'model' });
  if (card === null) return null;
  // Without a bridge a VM's card has no tap device, so PVE cannot apply its rate.
  if (!card.has('bridge')) return Infinity;
  const rate = card.get('rate');
  if (rate === undefined) return Infinity;
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(rate)) return null;
  // PVE cuts the rate to whole bytes per second, of which 2^20 make one of its MB, and takes 0 for no limit.
  return Number(rate) * 2 ** 20 >= 1 ? Math.ceil(Number(rate) * 1e6) : Infinity;
}

/** The CPU type named in a `cpu` text; null when there is none. */
export function cpuType(text: string): string | null {
  return propertiesOf(text, { defaultKey: 'cputype' })?.get('cputype') ?? null;
}

/** The names of the devices that one `hostpciN` passes through; a mapping whose device cannot be told counts by its own name. */
function deviceNames(text: string, host: Host): string[] | null {
  const mapping = propertiesOf(text, { defaultKey: 'host' })?.get('mapping');
  const ids = passedThrough(text, host);
  if (ids === null) return mapping === undefined ? null : [mapping];
  const names: string[] = [];
  for (const id of mapping === undefined ? ids : ids.slice(0, 1)) {
    const full = /^[0-9a-f]{4}:/i.test(id) ? id : `0000:${id}`;
    const name = host.devices?.get(full) ?? host.devices?.get(`${full}.0`);
    if (name === undefined) return mapping === undefined ? null : [mapping];
    names.push(name);
  }
  return names;
}

function numericKey(key: string): Measure {
  return (config) => {
    const amount = count(config[key] ?? '0');
    return amount === null ? `${key} "${config[key]}" is not a whole number` : plain(key, amount);
  };
}

function plain(resource: string, amount: number): Line[] {
  return amount === 0 ? [] : [{ resource, item: '', amount }];
}

function count(text: string): number | null {
  return /^\+?\d{1,15}$/.test(text) ? Number(text) : null;
}

const networkCard = /^net\d+$/;
const passedDevice = /^hostpci\d+$/;

function family(config: Config, name: RegExp): [string, string][] {
  return Object.entries(config).filter(([key]) => name.test(key));
}

function keyOf({ resource, item, node = '' }: Line): string {
  return `${node} ${resource} ${item}`;
}

/** Lines of the same resource and item added up; zero amounts are left out. */
export function sum(lines: readonly Line[]): Line[] {
  const totals = new Map<string, Line>();
  for (const line of lines) {
    const key = keyOf(line);
    totals.set(key, { ...line, amount: (totals.get(key)?.amount ?? 0) + line.amount });
  }
  return [...totals.values()].filter(({ amount }) => amount !== 0);
}

/** What two together use. */
export function both(a: Usage, b: Usage): Usage {
  return { lines: sum([...a.lines, ...b.lines]), unknown: dedupe([...a.unknown, ...b.unknown]) };
}

/** Line by line the larger of two usages. */
export function larger(a: readonly Line[], b: readonly Line[]): Line[] {
  const all = new Map(a.map((line) => [keyOf(line), line]));
  for (const line of b) {
    const other = all.get(keyOf(line));
    if (other === undefined || other.amount < line.amount) all.set(keyOf(line), line);
  }
  return [...all.values()];
}

function dedupe(unknown: readonly Unknown[]): Unknown[] {
  return [...new Map(unknown.map((one) => [`${one.resource} ${one.reason}`, one])).values()];
}
