/** The instance as dashboards draw it: sizes in bytes, all numbers whole, every map present. */

import { type Config, drivesOf, type Instance, propertiesOf, type Volume } from '../../pve/instance.ts';

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

interface ShownDevice {
  readonly device_id: string;
  readonly device_bus: string;
  readonly device_name: string;
  readonly vendor_name: string;
  readonly functions: Readonly<Record<string, never>>;
  readonly reserved: true;
  readonly Value: string;
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
    devices: isVm ? devicesOf(instance) : null,
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

function devicesOf({ next, host }: Instance): Readonly<Record<string, ShownDevice>> {
  const devices = family(next, 'hostpci').map(([device_id, Value]): [string, ShownDevice] => {
    const properties = propertiesOf(Value, { defaultKey: 'host' });
    const mapping = properties?.get('mapping');
    const [first = ''] = properties?.get('host')?.split(';') ?? [];
    const id = first === '' || /^[0-9a-f]{4}:/i.test(first) ? first : `0000:${first}`;
    const device = {
      device_id,
      device_bus: id.replace(/\.\d$/, ''),
      device_name: mapping ?? host.devices?.get(id) ?? host.devices?.get(`${id}.0`) ?? '',
      vendor_name: '',
      functions: {},
      reserved: true as const,
      Value,
    };
    return [device_id, device];
  });
  return Object.fromEntries(devices);
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
