/** The options of a guest's configuration: their schema, who may set them, and whether a running guest takes them at once. */

import type { Schema } from './method.ts';
import { flag, integer, named, number, oneOf, text } from './parameters.ts';

export interface Option {
  readonly schema: Schema;
  /** Any of these on the guest; `root` is root@pam alone; `by value` is checked where the value is known. */
  readonly privileges: readonly string[] | 'root' | 'by value';
  /** Takes effect on a running guest without its being asked. */
  readonly instant?: true;
}

export type OptionTable = Readonly<Record<string, Option>>;

type Rights = Option['privileges'];

const described: Schema = { type: 'string', optional: true, maxLength: 8192 };

function options(privileges: Rights, schemas: Readonly<Record<string, Schema>>, instant?: true): OptionTable {
  const more = instant ? { instant } : {};
  return Object.fromEntries(Object.entries(schemas).map(([key, schema]) => [key, { schema, privileges, ...more }]));
}

function families(privileges: Rights, counts: Readonly<Record<string, number>>): OptionTable {
  return Object.fromEntries(
    Object.entries(counts).map(([name, count]) => [`${name}[n]`, { schema: { ...text, count }, privileges }]),
  );
}

export const qemuOptions: OptionTable = {
  ...options(['VM.Config.CPU'], {
    cores: integer(1),
    sockets: integer(1),
    smp: integer(1),
    vcpus: integer(1),
    cpu: text,
    cpulimit: number(0, 128),
    cpuunits: integer(1, 262144),
    numa: flag,
  }),
  ...families(['VM.Config.CPU'], { numa: 8 }),
  ...options(['VM.Config.Memory'], { memory: text, balloon: integer(0), 'allow-ksm': flag }),
  ...options(['VM.Config.Memory'], { shares: integer(0, 50000) }, true),
  ...options(['VM.Config.HWType'], {
    acpi: flag,
    hotplug: text,
    kvm: flag,
    machine: text,
    scsihw: oneOf('lsi', 'lsi53c810', 'virtio-scsi-pci', 'virtio-scsi-single', 'megasas', 'pvscsi'),
    smbios1: { type: 'string', optional: true, maxLength: 512 },
    tablet: flag,
    vga: text,
    watchdog: text,
    audio0: text,
    rng0: text,
  }),
  ...options(['VM.Config.Options'], {
    agent: text,
    autostart: flag,
    bios: oneOf('seabios', 'ovmf'),
    keyboard: oneOf(
      ...['de', 'de-ch', 'da', 'en-gb', 'en-us', 'es', 'fi', 'fr', 'fr-be', 'fr-ca', 'fr-ch', 'hu', 'is', 'it'],
      ...['ja', 'lt', 'mk', 'nl', 'no', 'pl', 'pt', 'pt-br', 'sv', 'sl', 'tr'],
    ),
    localtime: flag,
    migrate_downtime: number(0),
    migrate_speed: integer(0),
    ostype: oneOf(
      ...['other', 'wxp', 'w2k', 'w2k3', 'w2k8', 'wvista', 'win7', 'win8', 'win10', 'win11', 'l24', 'l26', 'solaris'],
    ),
    reboot: flag,
    startdate: text,
    tdf: flag,
    template: flag,
  }),
  ...options(
    ['VM.Config.Options'],
    { name: named('dns-name'), description: described, onboot: flag, protection: flag, startup: text, tags: text },
    true,
  ),
  ...options(['VM.PowerMgmt'], { freeze: flag }),
  ...options(['VM.Config.Disk'], { boot: text, bootdisk: text }),
  ...options(['VM.Config.Disk'], { vmstatestorage: named('pve-storage-id') }, true),
  ...families(['VM.Config.Disk'], { virtiofs: 10 }),
  ...families(['VM.Config.Network'], { net: 32 }),
  ...options(
    ['VM.Config.Cloudinit', 'VM.Config.Network'],
    {
      cicustom: text,
      cipassword: text,
      citype: oneOf('configdrive2', 'nocloud', 'opennebula'),
      ciupgrade: flag,
      ciuser: text,
      nameserver: text,
      searchdomain: text,
      sshkeys: text,
    },
    true,
  ),
  'ipconfig[n]': {
    schema: { ...text, count: 32 },
    privileges: ['VM.Config.Cloudinit', 'VM.Config.Network'],
    instant: true,
  },
  ...families('by value', {
    ide: 4,
    sata: 6,
    scsi: 31,
    virtio: 16,
    unused: 256,
    serial: 4,
    usb: 14,
    hostpci: 16,
  }),
  ...options('by value', { efidisk0: text, tpmstate0: text, cdrom: text }),
  ...options('root', {
    affinity: text,
    'amd-sev': text,
    arch: oneOf('x86_64', 'aarch64'),
    args: text,
    hookscript: text,
    hugepages: oneOf('any', '2', '1024'),
    'intel-tdx': text,
    ivshmem: text,
    keephugepages: flag,
    lock: oneOf(
      ...['backup', 'clone', 'create', 'migrate', 'rollback', 'snapshot', 'snapshot-delete', 'suspending', 'suspended'],
    ),
    spice_enhancements: text,
    vmgenid: text,
  }),
  ...families('root', { parallel: 3 }),
};

export const lxcOptions: OptionTable = {
  ...options(
    ['VM.Config.CPU'],
    { cores: integer(1, 8192), cpulimit: number(0, 8192), cpuunits: integer(0, 500000) },
    true,
  ),
  ...options(['VM.Config.Memory'], { memory: integer(16), swap: integer(0) }, true),
  ...options(['VM.Config.Network'], {
    hostname: { ...named('dns-name'), maxLength: 255 },
    nameserver: text,
    searchdomain: text,
  }),
  ...families(['VM.Config.Network'], { net: 32 }),
  ...options('by value', { rootfs: text, features: text, hookscript: text }),
  ...families('by value', { mp: 256, dev: 256 }),
  // PVE asks for VM.Config.Options only: whoever has it may name any volume here.
  ...families(['VM.Config.Options'], { unused: 256 }),
  ...options(['VM.Config.Options'], {
    arch: oneOf('amd64', 'i386', 'arm64', 'armhf', 'riscv32', 'riscv64'),
    cmode: oneOf('shell', 'console', 'tty'),
    console: flag,
    debug: flag,
    entrypoint: text,
    env: text,
    lock: oneOf(
      ...['backup', 'create', 'destroyed', 'disk', 'fstrim', 'migrate', 'mounted', 'rollback', 'snapshot'],
      'snapshot-delete',
    ),
    ostype: oneOf(
      ...['debian', 'devuan', 'ubuntu', 'centos', 'fedora', 'opensuse', 'archlinux', 'alpine', 'gentoo', 'nixos'],
      'unmanaged',
    ),
    template: flag,
    tty: integer(0, 6),
    unprivileged: flag,
  }),
  ...options(
    ['VM.Config.Options'],
    { description: described, onboot: flag, protection: flag, startup: text, tags: text, timezone: text },
    true,
  ),
};

/** The option that a key belongs to: itself, or its family when the number is within it. */
export function optionOf(table: OptionTable, key: string): Option | undefined {
  if (Object.hasOwn(table, key) && !key.endsWith('[n]')) return table[key];
  const [, name, index] = /^([a-z]+)(0|[1-9]\d*)$/.exec(key) ?? [];
  const family = name === undefined ? undefined : table[`${name}[n]`];
  return Number(index) < (family?.schema.count ?? 0) ? family : undefined;
}

/** The parameters of a method that takes every option of the table. */
export function parametersOf(table: OptionTable): Readonly<Record<string, Schema>> {
  return Object.fromEntries(Object.entries(table).map(([key, { schema }]) => [key, schema]));
}

/** `scsi` of `scsi3`. */
export function familyOf(key: string): string {
  return key.replace(/\d+$/, '');
}

/** A value as GET shows it: schema integers and booleans as numbers, all else as text. */
export function shownValue(table: OptionTable, key: string, value: string): string | number {
  const type = optionOf(table, key)?.schema.type;
  return type === 'integer' || type === 'boolean' ? Number(value) : value;
}
