/** Calls that may take resources: what they may carry, what they would make of the instance, and what speaks against them. */

import type { Fault } from '../../errors.ts';
import { type Config, drivesOf, type GuestType, type Host, type Instance, isDiskSlot } from '../../pve/instance.ts';
import { configured, created, driveOf, moved, resized, sizeAfter, volumeIn } from '../../pve/projections.ts';
import { formatSize } from '../../pve/size.ts';
import type { Change, ChangePolicy, ParameterTable } from '../policy.ts';
import * as values from './values.ts';

const { flag, line, lines, wholeNumber, decimalNumber, matching, oneOf, propertyString } = values;

/** The keys of a VM's configuration that a tenant may write. */
const qemuKeys: ParameterTable = {
  ...Object.fromEntries(
    ['ide[n]', 'sata[n]', 'scsi[n]', 'virtio[n]'].map((slot) => [slot, values.drive('qemu', slot)]),
  ),
  efidisk0: values.drive('qemu', 'efidisk0'),
  tpmstate0: values.drive('qemu', 'tpmstate0'),
  'net[n]': values.networkCard,
  'ipconfig[n]': propertyString,
  'numa[n]': propertyString,
  'serial[n]': oneOf('socket'),
  acpi: flag,
  agent: propertyString,
  audio0: propertyString,
  autostart: flag,
  balloon: wholeNumber(0, 2 ** 40),
  bios: oneOf('seabios', 'ovmf'),
  boot: line(),
  bootdisk: line(),
  ciupgrade: flag,
  cipassword: line(),
  citype: oneOf('configdrive2', 'nocloud', 'opennebula'),
  ciuser: line(),
  cores: wholeNumber(1, 8192),
  cpu: propertyString,
  cpulimit: decimalNumber(0, 128),
  cpuunits: wholeNumber(1, 262144),
  description: lines,
  freeze: flag,
  hotplug: line(),
  keyboard: line(32),
  kvm: flag,
  localtime: flag,
  machine: propertyString,
  memory: matching(/^(?:current=)?[1-9]\d{1,11}$/, 'a whole number of MiB from 16'),
  name: line(255),
  nameserver: line(),
  numa: flag,
  onboot: flag,
  ostype: line(32),
  protection: flag,
  reboot: flag,
  rng0: matching(/^(?:source=)?\/dev\/u?random(?:,.*)?$/, '/dev/urandom or /dev/random'),
  scsihw: line(64),
  searchdomain: line(),
  shares: wholeNumber(0, 50000),
  smbios1: propertyString,
  sockets: wholeNumber(1, 8192),
  sshkeys: lines,
  startdate: line(64),
  tablet: flag,
  tags: line(),
  tdf: flag,
  vcpus: wholeNumber(1, 8192),
  vga: propertyString,
  vmgenid: line(64),
  watchdog: propertyString,
};

/** The keys of a container's configuration that a tenant may write. */
const lxcKeys: ParameterTable = {
  'mp[n]': values.drive('lxc', 'mp'),
  'net[n]': values.networkCard,
  rootfs: values.drive('lxc', 'rootfs'),
  cmode: oneOf('shell', 'console', 'tty'),
  console: flag,
  cores: wholeNumber(1, 8192),
  cpulimit: decimalNumber(0, 8192),
  cpuunits: wholeNumber(0, 500000),
  description: lines,
  features: matching(/^(?:nesting=[01])?$/, 'nesting=1 or nesting=0'),
  hostname: matching(/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?$/, 'a host name'),
  memory: wholeNumber(16, 2 ** 40),
  nameserver: line(),
  onboot: flag,
  ostype: line(32),
  protection: flag,
  searchdomain: line(),
  swap: wholeNumber(0, 2 ** 40),
  tags: line(),
  timezone: line(64),
  tty: wholeNumber(0, 6),
};

const keysOf: Readonly<Record<GuestType, ParameterTable>> = { qemu: qemuKeys, lxc: lxcKeys };

/** What a create call takes beside configuration keys. */
const creating: Readonly<Record<GuestType, ParameterTable>> = {
  qemu: { vmid: values.vmid, pool: values.poolId, storage: values.storageId, start: flag },
  lxc: {
    vmid: values.vmid,
    pool: values.poolId,
    storage: values.storageId,
    start: flag,
    ostemplate: values.volumeId,
    password: line(255),
    'ssh-public-keys': lines,
    unprivileged: oneOf('1'),
    arch: oneOf('amd64', 'i386', 'arm64', 'armhf'),
  },
};

/** What a configuration write takes beside configuration keys. */
const writing = (type: GuestType): ParameterTable => {
  const removable: ParameterTable = { ...keysOf[type], 'unused[n]': line() };
  return {
    delete: values.keys(removable),
    revert: values.keys(removable),
    digest: values.digest,
    ...(type === 'qemu' ? { force: flag } : {}),
  };
};

/** The disk slots that a call writes, with what they would hold. */
function writtenDrives(type: GuestType, params: Config) {
  return [...drivesOf(type, params)];
}

/** The storages on which a call allocates volumes. */
function allocates(type: GuestType, params: Config): string[] {
  return [
    ...new Set(
      writtenDrives(type, params).flatMap(([, drive]) => (drive?.kind === 'allocation' ? [drive.storage] : [])),
    ),
  ];
}

/** Media of nobody that a call puts into drives, or builds a container from. */
function mediaOf(type: GuestType, params: Config): ReturnType<ChangePolicy['media']> {
  const isos = writtenDrives(type, params).flatMap(([field, drive]) =>
    drive?.kind === 'medium' && drive.volid !== undefined
      ? [{ field, volid: drive.volid, content: 'iso' as const }]
      : [],
  );
  return params.ostemplate === undefined
    ? isos
    : [...isos, { field: 'ostemplate', volid: params.ostemplate, content: 'vztmpl' }];
}

/** Volumes of others, host paths and imports: the privileged token could use them all, so this server has to refuse them. */
function driveObjections({ before, params }: Change): Fault[] {
  return writtenDrives(before.type, params).flatMap(([field, drive]): Fault[] => {
    if (drive?.kind === 'path') return [{ field, problem: `not allowed: ${drive.path} is a path of the host` }];
    if (drive?.kind === 'opaque')
      return [{ field, problem: `not allowed: what ${drive.text} would take cannot be told` }];
    if (drive?.kind === 'volume' && !before.volumes.has(drive.volid)) {
      return [
        { field, problem: `not allowed: no storage lists ${drive.volid} as a volume of instance ${before.vmid}` },
      ];
    }
    return [];
  });
}

/** The guest that a create call starts from: nothing but what storages may still hold under its vmid. */
export function blankInstance(type: GuestType, vmid: number, host: Host, leftovers: Instance['volumes']): Instance {
  return { type, vmid, host, current: {}, next: {}, volumes: leftovers };
}

function create(type: GuestType): ChangePolicy {
  return {
    kind: 'create',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}`,
    params: { ...keysOf[type], ...creating[type] },
    takesDigest: false,
    storages: () => [],
    media: (params) => mediaOf(type, params),
    objections: driveObjections,
    project: ({ before, params }) => created(type, before.vmid, before.host, params, before.volumes),
  };
}

function configure(type: GuestType, method: 'POST' | 'PUT'): ChangePolicy {
  return {
    kind: 'change',
    type,
    method,
    path: `/nodes/{node}/${type}/{vmid}/config`,
    params: { ...keysOf[type], ...writing(type) },
    takesDigest: true,
    storages: ({ params }) => allocates(type, params),
    media: (params) => mediaOf(type, params),
    objections: driveObjections,
    project: ({ before, params }) => configured(before, params),
  };
}

const slotOf = (type: GuestType) => (value: string) =>
  isDiskSlot(type, value) ? null : `${JSON.stringify(value)} is not a disk slot`;

/** The storage that holds what a slot names. */
function storageOf(before: Instance, slot: string | undefined): string[] {
  const drive = driveOf(before, slot ?? '');
  return drive?.kind === 'volume' ? [drive.storage] : [];
}

/** Growing, copying: only what lies in one of the instance's slots and is its own by the storage's word. */
function mustHoldVolume(field: string) {
  return ({ before, params }: Change): Fault[] => {
    const slot = params[field] ?? '';
    return volumeIn(before, slot) === null
      ? [{ field, problem: `instance ${before.vmid} has no volume of its own in ${slot}` }]
      : [];
  };
}

/** The size in bytes that a volume is to be grown to; null when there is no such volume or size. */
function bytesAfter({ before, params }: Change): number | null {
  const volume = volumeIn(before, params.disk ?? '');
  return volume === null ? null : sizeAfter(volume, params.size ?? '');
}

function resize(type: GuestType): ChangePolicy {
  return {
    kind: 'change',
    type,
    method: 'PUT',
    path: `/nodes/{node}/${type}/{vmid}/resize`,
    params: { disk: slotOf(type), size: values.sizeText, digest: values.digest },
    takesDigest: true,
    storages: ({ before, params }) => storageOf(before, params.disk),
    media: () => [],
    objections: (change) => {
      const faults = mustHoldVolume('disk')(change);
      return faults.length > 0 || bytesAfter(change) !== null
        ? faults
        : [{ field: 'size', problem: 'must be a size that can be told, such as +8G or 40G' }];
    },
    project: ({ before, params }) => {
      const volume = volumeIn(before, params.disk ?? '');
      const bytes = bytesAfter({ before, params });
      return volume === null || bytes === null ? before : resized(before, volume, bytes);
    },
    // An absolute size cannot add up twice, whatever became of an earlier call.
    forward: ({ before, params }) => {
      const bytes = bytesAfter({ before, params });
      return bytes === null ? params : { ...params, size: formatSize(bytes) };
    },
  };
}

function move(type: GuestType, path: string, slot: 'disk' | 'volume'): ChangePolicy {
  return {
    kind: 'change',
    type,
    method: 'POST',
    path,
    params: {
      [slot]: slotOf(type),
      storage: values.storageId,
      delete: flag,
      digest: values.digest,
      ...(type === 'qemu' ? { format: oneOf('raw', 'qcow2', 'vmdk') } : {}),
    },
    takesDigest: true,
    storages: ({ before, params }) => storageOf(before, params[slot]),
    media: () => [],
    objections: (change) => [
      ...mustHoldVolume(slot)(change),
      ...(change.params.storage === undefined ? [{ field: 'storage', problem: 'is required: to which storage?' }] : []),
    ],
    project: ({ before, params }) => {
      const volume = volumeIn(before, params[slot] ?? '');
      return volume === null ? before : moved(before, volume, params.storage ?? volume.storage);
    },
  };
}

export const consumingPolicies: readonly ChangePolicy[] = [
  create('qemu'),
  create('lxc'),
  configure('qemu', 'POST'),
  configure('qemu', 'PUT'),
  configure('lxc', 'PUT'),
  resize('qemu'),
  resize('lxc'),
  move('qemu', '/nodes/{node}/qemu/{vmid}/move_disk', 'disk'),
  move('lxc', '/nodes/{node}/lxc/{vmid}/move_volume', 'volume'),
];
