/** What the simulated cluster really holds, measured by the plainest code possible and by nothing of the server. */

import { holdings } from '../../simulator/administrator.ts';
import type { Cluster } from '../../simulator/cluster.ts';

/** Amounts by resource in base units; `<resource> unlimited` counts cards and volumes without a limit. Zero amounts are left out. */
export type Amounts = Readonly<Record<string, number>>;

const MiB = 1024 * 1024;

/** What one vmid holds: the larger of its present and its coming configuration, and every volume that bears its name. */
function truthOf(cluster: Cluster, vmid: number): Amounts {
  const held = holdings(cluster, vmid);
  const guest = cluster.guests.get(vmid);
  const totals: Record<string, number> = {};
  const add = (key: string, amount: number) => {
    if (amount > 0) totals[key] = (totals[key] ?? 0) + amount;
  };
  for (const { storage, content, bytes } of held.volumes) {
    if (content !== 'images' && content !== 'rootdir') continue;
    if (bytes > 0) add(`storage:${storage}`, bytes);
    else add(`storage:${storage} unlimited`, 1);
  }
  if (guest === undefined) return totals;
  const coming: Record<string, string> = { ...held.config };
  for (const [key, { value }] of Object.entries(held.pending)) {
    if (value === undefined) delete coming[key];
    else coming[key] = value;
  }
  const cpus = cluster.nodes.get(guest.node)?.cpus ?? 0;
  const both = [held.config, coming].map((config) => amountsOf(guest.type, config, cpus));
  for (const key of new Set(both.flatMap((amounts) => Object.keys(amounts))))
    add(key, Math.max(...both.map((amounts) => amounts[key] ?? 0)));
  return totals;
}

function amountsOf(
  type: 'qemu' | 'lxc',
  config: Readonly<Record<string, string>>,
  cpus: number,
): Record<string, number> {
  // A VM's memory may be written with the name of its key.
  const number = (key: string, otherwise: number) => Number(config[key]?.replace(/^current=/, '') ?? otherwise);
  const amounts: Record<string, number> = {
    cores: type === 'qemu' ? number('sockets', 1) * number('cores', 1) : number('cores', cpus),
    memory: number('memory', 512) * MiB,
    swap: type === 'lxc' ? number('swap', 0) * MiB : 0,
  };
  for (const [key, text] of Object.entries(config)) {
    if (/^net\d+$/.test(key)) {
      const rate = /(?:^|,)rate=([\d.]+)/.exec(text)?.[1];
      const limited = rate !== undefined && Number(rate) > 0 && /(?:^|,)bridge=/.test(text);
      const name = limited ? 'network' : 'network unlimited';
      amounts[name] = (amounts[name] ?? 0) + (limited ? Math.ceil(Number(rate) * 1e6) : 1);
    }
    const type = key === 'cpu' ? (/^(?:cputype=)?([^,]+)/.exec(text)?.[1] ?? '') : '';
    if (type !== '') amounts[`cpu ${type}`] = 1;
  }
  return amounts;
}

/** What several vmids hold together. */
export function truthOfAll(cluster: Cluster, vmids: Iterable<number>): Amounts {
  const totals: Record<string, number> = {};
  for (const vmid of vmids)
    for (const [key, amount] of Object.entries(truthOf(cluster, vmid))) totals[key] = (totals[key] ?? 0) + amount;
  return totals;
}
