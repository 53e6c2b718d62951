/** The network cards of an instance. */

import type { FastifyRequest } from 'fastify';
import { BadRequestError, ConflictError, ForbiddenError, NotFoundError } from '../../errors.ts';
import type { Draft } from '../../pve/call.ts';
import { type Instance, isNetSlot, propertiesOf } from '../../pve/instance.ts';
import { formatPropertyString } from '../../pve/property-string.ts';
import type { NetworkTemplate, Templates } from '../../quota/record.ts';
import { change, configure } from './change.ts';
import { interfaceName, networkRate, optional, readForm } from './fields.ts';
import type { Surface } from './surface.ts';
import { type Target, targetOf } from './target.ts';

/** A network card of an instance. */
export interface NetTarget extends Target {
  /** `net0` to `net31`. */
  readonly net: string;
}

/** `/cluster/:node/:type/:vmid/net/:netid/...`: `create`, `modify` and `delete`. */
export function netRoutes({ app, rooms, identify }: Surface): void {
  const route = (
    method: 'POST' | 'DELETE',
    action: string,
    translate: (target: NetTarget, body: unknown, templates: Templates['network']) => Draft,
  ) =>
    app.route({
      method,
      url: `/cluster/:node/:type/:vmid/net/:netid/${action}`,
      handler: async (request) => {
        const caller = await identify(request);
        const { network } = caller.record.templates;
        return change(rooms, translate(netTargetOf(request), request.body, network), caller);
      },
    });

  route('POST', 'create', createNet);
  route('POST', 'modify', modifyNet);
  route('DELETE', 'delete', deleteNet);
}

/** The card may be named `net0`, or by its bare number. */
function netTargetOf({ params }: FastifyRequest): NetTarget {
  const { netid = '' }: Readonly<Record<string, string>> = Object(params);
  const net = /^\d+$/.test(netid) ? `net${netid}` : netid;
  if (!isNetSlot(net))
    throw new BadRequestError({ field: 'netid', problem: `expected net0 to net31, got ${JSON.stringify(netid)}` });
  return { ...targetOf(params), net };
}

/** PVE's text of a card: the model of a VM's card is the part without a key. */
function card(properties: Iterable<readonly [string, string]>): string {
  return formatPropertyString(properties, { defaultKey: 'model' });
}

/** Puts a new card into a free slot: on the bridge and in the VLAN that the user's template says, at so many MB/s. */
function createNet(target: NetTarget, body: unknown, templates: Templates['network']): Draft {
  const { type, vmid, net } = target;
  // VMs do not name their cards, whatever the form says.
  const { rate, name } =
    type === 'qemu'
      ? { ...readForm(body, { rate: networkRate }, ['name']), name: null }
      : readForm(body, { rate: networkRate, name: optional(interfaceName) });
  const template = templates[type];
  if (template === undefined)
    throw new ForbiddenError(
      `net: no network is set up for your ${type} instances; ask an administrator for a template`,
    );
  return configure(target, (before) => {
    if (before.next[net] !== undefined) throw new ConflictError(`instance ${vmid} has a network card ${net} already`);
    const own = type === 'qemu' ? modelOf(template) : interfaceOf(template, newName(before, net, name));
    return { [net]: card([...own, ['rate', rate]]) };
  });
}

type Properties = readonly (readonly [string, string])[];

function modelOf({ type, bridge, vlan }: NetworkTemplate): Properties {
  return stated({ model: type, bridge, tag: vlan });
}

function interfaceOf({ type, bridge, vlan, ip, ip6 }: NetworkTemplate, name: string): Properties {
  return stated({ name, bridge, ip, ip6, tag: vlan, type });
}

function stated(values: Readonly<Record<string, string | number | undefined>>): Properties {
  return Object.entries(values).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)] as const]));
}

/** The name inside the container: the wanted one when no other card bears it, else the first free `ethN` from the slot's number on. */
function newName({ vmid, next }: Instance, net: string, wanted: string | null): string {
  const taken = new Set(
    Object.entries(next).flatMap(([key, text]) => (isNetSlot(key) ? (propertiesOf(text, {})?.get('name') ?? []) : [])),
  );
  if (wanted !== null) {
    if (taken.has(wanted)) throw new ConflictError(`instance ${vmid} has a network card named ${wanted} already`);
    return wanted;
  }
  let number = Number(net.slice('net'.length));
  while (taken.has(`eth${number}`)) number += 1;
  return `eth${number}`;
}

/** Gives a card another rate; its address and everything else stay. */
function modifyNet(target: NetTarget, body: unknown): Draft {
  const { rate } = readForm(body, { rate: networkRate }, ['name']);
  return configure(target, (before) => {
    const properties = propertiesOf(existing(target, before), { defaultKey: 'model' });
    if (properties === null)
      throw new ConflictError(`the network card ${target.net} of instance ${target.vmid} is not understood`);
    return { [target.net]: card(new Map(properties).set('rate', rate)) };
  });
}

/** Takes a card away. */
function deleteNet(target: NetTarget, body: unknown): Draft {
  readForm(body, {});
  return configure(target, (before) => {
    existing(target, before);
    return { delete: target.net };
  });
}

function existing({ vmid, net }: NetTarget, { next }: Instance): string {
  const text = next[net];
  if (text === undefined) throw new NotFoundError(`instance ${vmid} has no network card ${net}`);
  return text;
}
