/** The networks that a change would join a guest to: PVE would let the privileged token join any. */

import type { Fault } from '../errors.ts';
import { isObject } from '../json.ts';
import { call, succeeded } from '../pve/call.ts';
import { type Config, isNetSlot, propertiesOf } from '../pve/instance.ts';
import { holds } from './access.ts';
import { isAmong } from './allowances.ts';
import type { Caller, Gate } from './gate.ts';
import type { Change, ChangePolicy } from './policy.ts';

/** What a card is joined to: `vmbr0`, or `vmbr0/10` with its VLAN; null for a card without a bridge. */
export function networkOf(text: string): string | null {
  const card = propertiesOf(text, { defaultKey: 'model' });
  const bridge = card?.get('bridge');
  if (bridge === undefined) return null;
  const [tag, trunks] = [card?.get('tag'), card?.get('trunks')];
  return [bridge, ...(tag === undefined ? [] : [tag]), ...(trunks === undefined ? [] : [`trunks ${trunks}`])].join('/');
}

/**
 * The network cards by which a change would join its guest to a network that is not the caller's to join, be they named
 * or brought along by a copy or a backup. Theirs is what the guest has already, what their templates say, what the
 * configuration opens to all, and where PVE gives them SDN.Use, as it would ask of themselves.
 */
export async function strangeNetworks(
  gate: Gate,
  { brings }: ChangePolicy,
  change: Change,
  caller: Caller,
): Promise<Fault[]> {
  const { before, params } = change;
  const had = new Set([before.current, before.next].flatMap(networksIn));
  const templates = templatesOf(caller, before.type);
  const brought = brings?.(change);
  const cards = [
    ...Object.entries(params).map(([slot, text]) => ({ slot, text, field: slot })),
    ...Object.entries(brought?.config ?? {}).flatMap(([slot, text]) =>
      slot in params ? [] : [{ slot, text, field: brought?.field ?? slot }],
    ),
  ];
  const faults: Fault[] = [];
  for (const { slot, text, field } of cards.filter((card) => isNetSlot(card.slot))) {
    const network = networkOf(text);
    const isTheirs =
      network === null || had.has(network) || templates.has(network) || isAmong(gate.allowances.networks, network);
    if (isTheirs || (await mayUse(gate, caller, network))) continue;
    const problem = `not allowed: ${slot === field ? '' : `${slot} is on ${network}, and `}${network} is no network of yours; it would take SDN.Use there in PVE, or an administrator who opens it (tenants.networks)`;
    faults.push({ field, problem });
  }
  return faults;
}

function networksIn(config: Config): string[] {
  return Object.entries(config).flatMap(([key, text]) => (isNetSlot(key) ? (networkOf(text) ?? []) : []));
}

function templatesOf({ record: { templates } }: Caller, type: 'qemu' | 'lxc'): ReadonlySet<string> {
  const card = templates.network[type];
  const own = card === undefined ? [] : [card.vlan === undefined ? card.bridge : `${card.bridge}/${card.vlan}`];
  const entries = Object.entries(templates.instances[type]).map(([key, { value }]) => [key, String(value)] as const);
  return new Set([...own, ...networksIn(Object.fromEntries(entries))]);
}

/** PVE asks for the privilege on the bridge, or on the VLAN of it, below the zone; plain bridges are in a zone of their own. */
async function mayUse({ upstream }: Gate, caller: Caller, network: string): Promise<boolean> {
  // Several VLANs at once would be as many questions, and no other text is the name of a network.
  if (!/^[A-Za-z][\w.-]*(?:\/\d+)?$/.test(network)) return false;
  const grantedIn = (zone: string) => holds(upstream, caller, `/sdn/zones/${zone}/${network}`, 'SDN.Use');
  if (await grantedIn('localnetwork')) return true;
  const [bridge = ''] = network.split('/');
  const answer = await upstream.send(call('GET', '/cluster/sdn/vnets/{}', [bridge]), caller.credential);
  const zone = succeeded(answer) && isObject(answer.data) ? answer.data.zone : undefined;
  return typeof zone === 'string' && grantedIn(zone);
}
