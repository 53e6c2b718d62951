/** Host devices that a VM takes for itself: by their place on the host, or by a name that the cluster gives them. */

import type { Cluster } from './cluster.ts';
import { checkedFormats } from './formats.ts';
import type { ClusterNode, Guest, PciMapping } from './model.ts';
import { type Properties, type PropertyFormat, parseProperties } from './property-string.ts';
import { PveError } from './pve-error.ts';

const identity = /^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$/;
const place = '[a-f0-9]{4,}:[a-f0-9]{2}:[a-f0-9]{2}(?:\\.[a-f0-9])?';

/** One alternative of a mapping: `node=n1,path=0000:41:00,id=10de:1eb8`. */
export const mappingFormat: PropertyFormat = {
  properties: {
    id: { type: 'string', pattern: identity, required: true },
    node: { type: 'string', pattern: /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/i, required: true },
    path: { type: 'string', pattern: new RegExp(`^(?:${place};)*${place}$`), required: true },
    description: { type: 'string' },
    iommugroup: { type: 'integer' },
    'subsystem-id': { type: 'string', pattern: identity },
  },
};

/** The alternatives of a mapping on a node. */
export function alternativesOn({ map }: PciMapping, node: string): readonly Properties[] {
  return map.map((text) => parseProperties(mappingFormat, text)).filter((entry) => entry.node === node);
}

/** What is wrong with an alternative on its node; undefined when its devices are there and are what it says. */
export function faultOfAlternative(node: ClusterNode, { path = '', id, iommugroup }: Properties): string | undefined {
  for (const part of path.split(';')) {
    const [device] = devicesAt(node, part);
    if (device === undefined) return `PCI device '${part}' not found`;
    const found = `${device.vendor}:${device.device}`.replaceAll('0x', '');
    if (found !== id?.toLowerCase()) return `'id' does not match for '${part}' (${found} != ${id})`;
    if (iommugroup !== undefined && Number(iommugroup) !== device.iommugroup) {
      return `'iommugroup' does not match for '${part}' (${device.iommugroup} != ${iommugroup})`;
    }
  }
  return undefined;
}

/** The devices at a place; without a function all functions of it. The domain may be left out. */
function devicesAt({ pci }: ClusterNode, text: string) {
  const full = /^[0-9a-f]{4,}:[0-9a-f]{2}:/i.test(text) ? text.toLowerCase() : `0000:${text.toLowerCase()}`;
  return pci.filter(({ id }) => (full.includes('.') ? id === full : id.startsWith(`${full}.`)));
}

/** The devices that a VM has when it starts: all that its keys name, and of each mapping the first alternative that is free. */
export function takeDevices(cluster: Cluster, guest: Guest): readonly string[] {
  const node = cluster.nodes.get(guest.node);
  const keys = [...guest.config].filter(([key]) => guest.type === 'qemu' && /^hostpci\d+$/.test(key));
  if (node === undefined || keys.length === 0) return [];
  const users = deviceUsers(cluster, guest);
  const taken = new Set<string>();
  for (const [, value] of keys) {
    const { host, mapping } = parseProperties(checkedFormats['hostpci[n]'] ?? { properties: {} }, value);
    const wanted = mapping === undefined ? [host?.split(';') ?? []] : mappedPaths(cluster, node, mapping);
    const sets = wanted.map((paths) => paths.flatMap((path) => existing(node, path)));
    const free = sets.find((ids) => ids.every((id) => !users.has(id) && !taken.has(id)));
    const [busy = ''] = (sets[0] ?? []).filter((id) => users.has(id) || taken.has(id));
    if (free === undefined) {
      throw new PveError(500, `PCI device '${busy}' already in use by VMID '${users.get(busy) ?? guest.vmid}'`);
    }
    for (const id of free) taken.add(id);
  }
  return [...taken];
}

function existing(node: ClusterNode, path: string): readonly string[] {
  const ids = devicesAt(node, path).map(({ id }) => id);
  if (ids.length === 0) throw new PveError(500, `no PCI device found for '${path}'`);
  return ids;
}

function mappedPaths(cluster: Cluster, node: ClusterNode, id: string): readonly (readonly string[])[] {
  const mapping = cluster.pciMappings.get(id);
  const here = mapping === undefined ? [] : alternativesOn(mapping, node.name);
  if (here.length === 0) throw new PveError(500, `PCI device mapping not found for '${id}'`);
  for (const alternative of here) {
    const fault = faultOfAlternative(node, alternative);
    if (fault !== undefined)
      throw new PveError(500, `PCI device mapping invalid (hardware probably changed): ${fault}`);
  }
  return here.map(({ path = '' }) => path.split(';'));
}

/** Which running VM of the node has which device. */
function deviceUsers(cluster: Cluster, { node, vmid }: Guest): ReadonlyMap<string, number> {
  const others = [...cluster.guests.values()].filter(
    (guest) => guest.node === node && guest.status === 'running' && guest.vmid !== vmid,
  );
  return new Map(others.flatMap((guest) => guest.devices.map((device) => [device, guest.vmid] as const)));
}
