/** The PCI devices of the nodes. */

import { call, succeeded, type Upstream } from '../pve/call.ts';
import type { Host } from '../pve/instance.ts';
import { type PciFunction, readMappings, readPciFunctions } from '../pve/listing.ts';

interface Reading {
  readonly at: number;
  readonly functions: readonly PciFunction[];
  readonly known: Pick<Host, 'devices' | 'mappings'>;
}

/** How long a node's list of devices is believed, in ms. */
const believedFor = 600_000;

/** What PVE says of the devices of each node, kept for ten minutes. */
export class Devices {
  readonly #upstream: Upstream;
  readonly #readings = new Map<string, Reading>();

  constructor(upstream: Upstream) {
    this.#upstream = upstream;
  }

  /** The PCI functions of a node; none when PVE does not tell. */
  async of(node: string): Promise<readonly PciFunction[]> {
    const known = this.#readings.get(node);
    if (known !== undefined && performance.now() - known.at < believedFor) return known.functions;
    const [listed, mapped] = await Promise.all([
      this.#upstream.send(call('GET', '/nodes/{}/hardware/pci', [node], { 'pci-class-blacklist': '' }), service),
      this.#upstream.send(call('GET', '/cluster/mapping/pci'), service),
    ]);
    if (!succeeded(listed)) return [];
    const functions = readPciFunctions(listed.data);
    const devices = new Map(functions.map(({ id, device_name }) => [id, device_name]));
    // PVE 7 knows no mappings.
    const mappings = succeeded(mapped) ? readMappings(mapped.data, node) : new Map();
    this.#readings.set(node, { at: performance.now(), functions, known: { devices, mappings } });
    return functions;
  }

  /** What was last read of a node's devices, by id and by mapping. */
  lastOf(node: string): Pick<Host, 'devices' | 'mappings'> {
    return this.#readings.get(node)?.known ?? {};
  }
}

const service = { kind: 'service' } as const;
