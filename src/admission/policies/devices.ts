/** PCI devices in configuration writes: by a mapping where the administrator has made one, else as root. */

import { isAllowed, isForRoot } from '../../pve/beyond.ts';
import type { Params } from '../../pve/call.ts';
import { type Host, isDeviceSlot, pciBus, propertiesOf } from '../../pve/instance.ts';
import { parseList } from '../../pve/projections.ts';
import { formatPropertyString } from '../../pve/property-string.ts';
import type { Change } from '../policy.ts';
import { matching } from './values.ts';

/** A whole device of the node by bus id, or a mapping, and how the guest sees it; nothing that makes a guest more than a user of the device. */
export const hostDevice = matching(
  /^(?:(?:host=)?[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}|mapping=[A-Za-z][A-Za-z0-9_-]+)(?:,(?:pcie|rombar|x-vga)=[01])*$/,
  'a device such as 0000:41:00,pcie=1, or mapping=<name>,pcie=1',
);

/** The parameters with every device that a mapping stands for written as that mapping. */
export function withMappings({ before, params }: Change): Params {
  return Object.fromEntries(
    Object.entries(params).map(([key, text]) => [key, isDeviceSlot(key) ? asMapping(text, before.host) : text]),
  );
}

function asMapping(text: string, host: Host): string {
  const { host: bus, ...options } = Object.fromEntries(propertiesOf(text, { defaultKey: 'host' }) ?? []);
  const mapping = [...(host.mappings ?? [])].find(
    ([, ids]) => bus !== undefined && ids.every((id) => pciBus(id) === pciBus(bus)),
  );
  return mapping === undefined ? text : formatPropertyString([['mapping', mapping[0]], ...Object.entries(options)]);
}

/** Whether a call passes devices of the node through. */
export function passesDevices({ params }: Change): boolean {
  return Object.keys(params).some(isDeviceSlot);
}

/** Whether a write holds what PVE takes from root alone: devices that are not behind a mapping, and what the configuration allows of that kind. */
export function needsRoot(change: Change, forwarded: Params): boolean {
  const { before, allowances } = change;
  const { type } = before;
  const removed = parseList(String(forwarded.delete ?? ''));
  return (
    changesRawDevice(change, forwarded) ||
    removed.some((name) => isAllowed(allowances.parameters, name) && isForRoot(type, name, 'some')) ||
    Object.entries(forwarded).some(([name, value]) => isForRoot(type, name, String(value)))
  );
}

function changesRawDevice({ before }: Change, forwarded: Params): boolean {
  const isRaw = (text: unknown) =>
    text !== undefined && !propertiesOf(String(text), { defaultKey: 'host' })?.has('mapping');
  const removed = parseList(String(forwarded.delete ?? '')).filter(isDeviceSlot);
  const set = Object.keys(forwarded).filter(isDeviceSlot);
  return (
    set.some((key) => isRaw(forwarded[key])) ||
    [...removed, ...set].some((key) => isRaw(before.current[key] ?? before.next[key]))
  );
}
