/** PCI devices as dashboards draw them: whole ones by bus id, whatever functions they are made of. */

import { type Host, passedThrough, pciBus, propertiesOf } from '../../pve/instance.ts';
import type { PciFunction } from '../../pve/listing.ts';

interface ShownFunction {
  readonly function_id: string;
  readonly subsystem_device_name: string;
  readonly subsystem_vendor_name: string;
  readonly reserved: boolean;
}

/** A whole device; of each of its two names for the bus id one dashboard reads the one and another the other. */
export interface ShownDevice {
  readonly id: string;
  readonly device_bus: string;
  /** The slot of the VM that it is shown in; '' in a node's list. */
  readonly device_id: string;
  readonly device_name: string;
  readonly vendor_name: string;
  readonly functions: Readonly<Record<string, ShownFunction>>;
  readonly reserved: boolean;
  /** The text in the slot, by bus id also where a mapping stands for the device. */
  readonly Value: string;
}

/** The whole devices of a node, each named and described by its first function. */
export function wholeDevices(
  functions: readonly PciFunction[],
  isTaken: (bus: string) => boolean,
): readonly ShownDevice[] {
  const buses = Map.groupBy(functions, ({ id }) => pciBus(id) ?? id);
  return [...buses].flatMap(([bus, parts]) => {
    const [first] = parts.toSorted((a, b) => a.id.localeCompare(b.id));
    return first === undefined ? [] : [deviceOf(bus, first, parts, isTaken(bus))];
  });
}

function deviceOf(bus: string, first: PciFunction, parts: readonly PciFunction[], reserved: boolean): ShownDevice {
  const functions = parts.map(({ id, row }): [string, ShownFunction] => {
    const function_id = id.slice(id.indexOf('.') + 1);
    const of = (name: string) => String(row[name] ?? '');
    const [subsystem_device_name, subsystem_vendor_name] = [of('subsystem_device_name'), of('subsystem_vendor_name')];
    return [function_id, { function_id, subsystem_device_name, subsystem_vendor_name, reserved }];
  });
  const { device_name, vendor_name, row } = first;
  const shown = { id: bus, device_bus: bus, device_id: '', device_name, vendor_name, reserved, Value: '' };
  return { ...row, ...shown, functions: Object.fromEntries(functions) };
}

/** The device in a slot of a VM, as far as the slot's text and what is known of the node tell. */
export function deviceIn(slot: string, text: string, host: Host): ShownDevice {
  const { mapping, ...options } = Object.fromEntries(propertiesOf(text, { defaultKey: 'host' }) ?? []);
  const [id = ''] = passedThrough(text, host) ?? [];
  const bus = pciBus(id) ?? '';
  const device_name = host.devices?.get(id) ?? host.devices?.get(`${bus}.0`) ?? mapping ?? '';
  const byBus = [bus, ...Object.entries(options).map((option) => option.join('='))].join(',');
  const Value = mapping === undefined || bus === '' ? text : byBus;
  const shown = { id: bus, device_bus: bus, device_id: slot, device_name, vendor_name: '', Value };
  return { ...shown, functions: {}, reserved: true };
}

/** Bridges, processors and memory controllers, which PVE does not offer either. */
export function isPartOfHost({ row }: PciFunction): boolean {
  return /^0x(?:05|06|0b)/i.test(String(row.class ?? ''));
}
