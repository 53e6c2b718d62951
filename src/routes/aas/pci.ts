/** The PCI devices of nodes and VMs. */

import type { Caller } from '../../admission/gate.ts';
import { BadRequestError, ConflictError, NotFoundError } from '../../errors.ts';
import type { Draft } from '../../pve/call.ts';
import { pciBus } from '../../pve/instance.ts';
import { grants } from '../../quota/record.ts';
import { change, configure } from './change.ts';
import { isPartOfHost, type ShownDevice, wholeDevices } from './devices.ts';
import { type Field, flag, readForm } from './fields.ts';
import { devicesOf } from './model.ts';
import { type CountedEntry, usageTable } from './quota-table.ts';
import type { Surface } from './surface.ts';
import { type Target, targetOf, visibleInstance } from './target.ts';

/** `/cluster/:node/pci` and `/cluster/:node/:type/:vmid/pci/...`: `create`, `:hostpci`, and its `create`, `modify` and `delete`. */
export function pciRoutes({ app, rooms, identify }: Surface): void {
  app.get<{ Params: { node: string } }>('/cluster/:node/pci', async (request, reply) => {
    const caller = await identify(request);
    const { node } = request.params;
    if (!grants(caller.record.cluster.nodes, node))
      return reply.code(401).send({ auth: false, path: node, error: 'This is not one of your nodes' });
    await rooms.payers.refresh();
    const devices = await devicesOn(node);
    const mayTake = roomFor(caller, node);
    return devices.filter(({ reserved, device_name }) => !reserved && mayTake(device_name));
  });

  app.get('/cluster/:node/:type/:vmid/pci/:hostpci', async (request) => {
    const caller = await identify(request);
    const target = deviceTargetOf(request.params);
    const instance = await visibleInstance(rooms, caller, target, []);
    const device = devicesOf(instance)?.[target.hostpci];
    if (device === undefined) throw new NotFoundError(`instance ${target.vmid} has no device ${target.hostpci}`);
    const listed = (await devicesOn(target.node)).find(({ id }) => id === device.id);
    return { ...device, ...listed, device_id: device.device_id, reserved: true, Value: device.Value };
  });

  const route = (method: 'POST' | 'DELETE', path: string, translate: (params: unknown, body: unknown) => Draft) =>
    app.route({
      method,
      url: `/cluster/:node/:type/:vmid/pci/${path}`,
      handler: async (request) => {
        const caller = await identify(request);
        return change(rooms, translate(request.params, request.body), caller);
      },
    });

  route('POST', 'create', (params, body) => addDevice(vmOf(params), body));
  route('POST', ':hostpci/create', (params, body) => createDevice(deviceTargetOf(params), body));
  route('POST', ':hostpci/modify', (params, body) => modifyDevice(deviceTargetOf(params), body));
  route('DELETE', ':hostpci/delete', (params, body) => deleteDevice(deviceTargetOf(params), body));

  async function devicesOn(node: string): Promise<readonly ShownDevice[]> {
    const functions = (await rooms.inventory.devices.of(node)).filter((part) => !isPartOfHost(part));
    return wholeDevices(functions, (bus) => rooms.ledger.deviceHolder(node, bus) !== undefined);
  }

  /** Whether the user's list has room for a device of this name on the node; the gate decides when one is taken. */
  function roomFor({ user, record }: Caller, node: string): (name: string) => boolean {
    const { resources } = rooms.config;
    const list = usageTable(record, resources, rooms.ledger.holdings(user)).pci;
    const entries = (Object.hasOwn(list?.nodes ?? {}, node) ? list?.nodes[node] : list?.global) ?? [];
    const whitelist = resources.pci?.type !== 'list' || resources.pci.whitelist;
    return (name) => {
      const entry = (entries as readonly CountedEntry[]).find(({ match }) => name.includes(match));
      const room = whitelist ? entry?.avail : entry?.max;
      return (room !== undefined && room > 0) === whitelist;
    };
  }
}

/** A slot of a VM for a device. */
interface DeviceTarget extends Target {
  /** `hostpci0` to `hostpci15`. */
  readonly hostpci: string;
}

const slots = Array.from({ length: 16 }, (_, number) => `hostpci${number}`);

function vmOf(params: unknown): Target {
  const target = targetOf(params);
  if (target.type === 'qemu') return target;
  throw new BadRequestError({ field: 'type', problem: 'only VMs (qemu) take PCI devices' });
}

/** The slot may be named `hostpci0`, or by its bare number. */
function deviceTargetOf(params: unknown): DeviceTarget {
  const { hostpci: given = '' }: Readonly<Record<string, string>> = Object(params);
  const hostpci = /^\d+$/.test(given) ? `hostpci${given}` : given;
  if (slots.includes(hostpci)) return { ...vmOf(params), hostpci };
  throw new BadRequestError({
    field: 'hostpci',
    problem: `expected hostpci0 to hostpci15, got ${JSON.stringify(given)}`,
  });
}

/** A whole device, by any of its functions; or a mapping, which some pages know a device by. */
const device: Field<string> = {
  expected: 'the bus id of a PCI device such as 0000:41:00',
  read: (text) => pciBus(text) ?? (/^mapping=[A-Za-z][\w-]+$/.test(text) ? text : undefined),
};

const form = { device, pcie: flag };

function textIn(body: unknown): string {
  const { device, pcie } = readForm(body, form);
  return `${device},pcie=${pcie}`;
}

/** Puts a device into the first free slot. */
function addDevice(target: Target, body: unknown): Draft {
  const text = textIn(body);
  return configure(target, ({ vmid, next }) => {
    const free = slots.find((slot) => next[slot] === undefined);
    if (free === undefined) throw new ConflictError(`instance ${vmid} has no slot left for a device`);
    return { [free]: text };
  });
}

/** Puts a device into a free slot. */
function createDevice(target: DeviceTarget, body: unknown): Draft {
  const text = textIn(body);
  return configure(target, ({ vmid, next }) => {
    if (next[target.hostpci] !== undefined)
      throw new ConflictError(`instance ${vmid} has a device ${target.hostpci} already`);
    return { [target.hostpci]: text };
  });
}

/** Puts another device into a slot, or the same one in another way. */
function modifyDevice(target: DeviceTarget, body: unknown): Draft {
  const text = textIn(body);
  return occupied(target, { [target.hostpci]: text });
}

/** Takes a device away. */
function deleteDevice(target: DeviceTarget, body: unknown): Draft {
  readForm(body, {});
  return occupied(target, { delete: target.hostpci });
}

function occupied(target: DeviceTarget, params: Readonly<Record<string, string>>): Draft {
  return configure(target, ({ vmid, next }) => {
    if (next[target.hostpci] === undefined) throw new NotFoundError(`instance ${vmid} has no device ${target.hostpci}`);
    return params;
  });
}
