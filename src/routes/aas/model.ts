/** The instance as dashboards draw it: sizes in bytes, all numbers whole, every map present. */

import { type Config, drivesOf, type Instance, propertiesOf, type Volume } from '../../pve/instance.ts';
import { deviceIn, type ShownDevice } from './devices.ts';

const mib = 1024 * 1024;

interface ShownVolume {
  readonly volume_id: string;
  /** The slot without its number. */
  readonly type: string;
  readonly storage: string;
  readonly format: string;
  readonly size: number;
  /** The volume id, or what stands in its place (`none`, `cdrom`). */
  readonly file: string;
  /** Where a container mounts it. */
  readonly mp: string;
}

interface ShownNet {
  readonly net_id: string;
  readonly value: string;
  /** 0 for a card without a limit, or without a VLAN. */
  readonly rate: number;
  readonly vlan: number;
}

export interface InstanceModel {
  readonly type: 'VM' | 'CT';
  readonly name: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memory: number;
  readonly swap: number;
  readonly volumes: Readonly<Record<string, ShownVolume>>;
  readonly nets: Readonly<Record<string, ShownNet>>;
  readonly devices: Readonly<Record<string, ShownDevice>> | null;
  readonly boot: {
    readonly enabled: readonly (ShownVolume | ShownNet)[];
    readonly disabled: readonly (ShownVolume | ShownNet)[];
  };
}

/**
 * An instance with every pending change applied, absent keys at PVE's defaults. `media` are the CD-ROM images it may
 * refer to; `listedName` is what PVE calls a guest without a name.
 */
export function modelOf(
  instance: Instance,
  media: ReadonlyMap<string, Volume>,
  listedName: string | undefined,
): InstanceModel {
  const { type, next, host } = instance;
  const isVm = type === 'qemu';
  const volumes = volumesOf(instance, media);
  const nets = netsOf(next);
  return {
    type: isVm ? 'VM' : 'CT',
    name: next.name ?? next.hostname ?? listedName ?? '',
    cpu: isVm ? (next.cpu ?? '') : '',
    cores: count(next.cores ?? (isVm ? '1' : String(host.cpus ?? 0))),
    memory: count(propertiesOf(next.memory ?? '512', { defaultKey: 'current' })?.get('current')) * mib,
    swap: isVm ? 0 : count(next.swap) * mib,
    volumes,
    nets,
    devices: devicesOf(instance),
    boot: isVm ? bootOf(next.boot, volumes, nets) : { enabled: [], disabled: [] },
  };
}

const shownSlots = /^(ide|sata|scsi|virtio|rootfs|mp|unused)\d*$/;

function volumesOf({ type, next, volumes }: Instance, media: ReadonlyMap<string, Volume>): InstanceModel['volumes'] {
  const defaultKey = type === 'qemu' ? 'file' : 'volume';
  const shown = [...drivesOf(type, next)].flatMap(([slot, drive]): [string, ShownVolume][] => {
    const prefix = shownSlots.exec(slot)?.[1];
    if (prefix === undefined) return [];
    const properties = propertiesOf(next[slot] ?? '', { defaultKey, aliases: { volume: defaultKey } });
    const file = properties?.get(defaultKey) ?? '';
    const held = volumes.get(file) ?? media.get(file);
    const stated = drive?.kind === 'volume' ? drive.size : undefined;
    const volume = {
      volume_id: slot,
      type: prefix,
      storage: file.includes(':') ? file.slice(0, file.indexOf(':')) : '',
      format: held?.format ?? '',
      size: held?.bytes ?? stated ?? 0,
      file,
      mp: properties?.get('mp') ?? '',
    };
    return [[slot, volume]];
  });
  return Object.fromEntries(shown);
}

function netsOf(config: Config): InstanceModel['nets'] {
  const cards = family(config, 'net').map(([net_id, value]): [string, ShownNet] => {
    const card = propertiesOf(value, { defaultKey: 'model' });
    const rate = Math.ceil(Number(card?.get('rate') ?? 0));
    return [net_id, { net_id, value, rate: rate > 0 ? rate : 0, vlan: count(card?.get('tag')) }];
  });
  return Object.fromEntries(cards);
}

/** The devices of a VM by slot; null for a container. */
export function devicesOf({ type, next, host }: Instance): InstanceModel['devices'] {
  if (type === 'lxc') return null;
  return Object.fromEntries(family(next, 'hostpci').map(([slot, text]) => [slot, deviceIn(slot, text, host)]));
}

/** Devices in boot order, and those that could boot and are not in it. */
function bootOf(
  boot: string | undefined,
  volumes: InstanceModel['volumes'],
  nets: InstanceModel['nets'],
): InstanceModel['boot'] {
  const order =
    propertiesOf(boot ?? '', { defaultKey: 'legacy' })
      ?.get('order')
      ?.split(';') ?? [];
  const devices: ReadonlyMap<string, ShownVolume | ShownNet> = new Map<string, ShownVolume | ShownNet>([
    ...Object.entries(volumes).filter(([, { type }]) => type !== 'unused'),
    ...Object.entries(nets),
  ]);
  return {
    enabled: order.flatMap((name) => devices.get(name) ?? []),
    disabled: [...devices].flatMap(([name, device]) => (order.includes(name) ? [] : [device])),
  };
}

function family(config: Config, prefix: string): readonly (readonly [string, string])[] {
  const name = new RegExp(`^${prefix}\\d+$`);
  return Object.entries(config).filter(([key]) => name.test(key));
}

function count(text: string | undefined): number {
  return /^\d{1,15}$/.test(text ?? '') ? Number(text) : 0;
}
