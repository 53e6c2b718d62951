/** The parameters that tenants' calls may carry, with what each may hold. */

import { beyondMeasure } from '../../pve/beyond.ts';
import { type GuestType, isDiskSlot } from '../../pve/instance.ts';
import type { ParameterTable, ValueCheck } from '../policy.ts';
import { hostDevice } from './devices.ts';
import * as values from './values.ts';

const { flag, line, lines, wholeNumber, decimalNumber, matching, oneOf, propertyString } = values;

export const hostName = matching(/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?$/, 'a host name');

/** Off, as some clients say of what they do not use. */
const off =
  (reason: string): ValueCheck =>
  (value) =>
    value === '0' ? null : `not allowed: ${reason}`;

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
  'hostpci[n]': hostDevice,
  'serial[n]': oneOf('socket'),
  'usb[n]': matching(/^(?:host=)?spice(?:,usb3=[01])?$/, 'spice, as devices of the host are not passed through here'),
  acpi: flag,
  agent: propertyString,
  'allow-ksm': flag,
  audio0: propertyString,
  autostart: flag,
  balloon: wholeNumber(0, 2 ** 40),
  bios: oneOf('seabios', 'ovmf'),
  boot: line(),
  bootdisk: line(),
  cdrom: values.drive('qemu', 'ide2'),
  cicustom: values.snippets,
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
  migrate_downtime: decimalNumber(0, 3600),
  migrate_speed: wholeNumber(0, 2 ** 40),
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
  vmstatestorage: values.storageId,
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
  entrypoint: line(),
  // PVE separates the variables by a null character.
  env: (value) => lines(value.replaceAll('\0', '\n')),
  features: matching(/^(?:nesting=[01])?$/, 'nesting=1 or nesting=0'),
  hostname: hostName,
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

const placing: ParameterTable = {
  vmid: values.vmid,
  pool: values.poolId,
  storage: values.storageId,
  start: flag,
  template: off(beyondMeasure.template),
};

/** What a create call takes besides configuration keys. */
const creating: Readonly<Record<GuestType, ParameterTable>> = {
  qemu: { ...placing },
  lxc: {
    ...placing,
    ostemplate: values.volumeId,
    force: off('an instance that is there is deleted first, or restored over from a backup'),
    restore: off('a container is made from a template, or from a backup that ostemplate names'),
    'ignore-unpack-errors': flag,
    password: line(255),
    'ssh-public-keys': lines,
    unprivileged: oneOf('1'),
    arch: oneOf('amd64', 'i386', 'arm64', 'armhf'),
  },
};

/** What a create call may carry. */
export function createParameters(type: GuestType): ParameterTable {
  return { ...keysOf[type], ...creating[type] };
}

/** What may be said of a guest that is made from a backup: all but its disks, which the backup has. */
export function restoreParameters(type: GuestType): ParameterTable {
  const { password: _, ...table } = createParameters(type);
  return Object.fromEntries(Object.entries(table).filter(([name]) => !isDiskName(type, name)));
}

function isDiskName(type: GuestType, name: string): boolean {
  return isDiskSlot(type, name.replace('[n]', '0')) || name === 'cdrom' || name === 'ostemplate';
}

/** What a configuration write may carry. */
export function configParameters(type: GuestType): ParameterTable {
  const removable: ParameterTable = { ...keysOf[type], 'unused[n]': line() };
  return {
    ...keysOf[type],
    delete: values.keys(removable),
    revert: values.keys(removable),
    digest: values.digest,
    ...(type === 'qemu' ? { force: flag } : {}),
  };
}
