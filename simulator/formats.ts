/** What each of PVE's property strings may hold. */

import type { Property, PropertyFormat } from './property-string.ts';

const text: Property = { type: 'string' };
const flag: Property = { type: 'boolean' };
const size: Property = { type: 'size' };
const key: Property = { type: 'string', defaultKey: true };
const number: Property = { type: 'number' };
const integer = (minimum?: number, maximum?: number): Property => ({
  type: 'integer',
  ...(minimum === undefined ? {} : { minimum }),
  ...(maximum === undefined ? {} : { maximum }),
});
const oneOf = (...values: readonly string[]): Property => ({ type: 'string', enum: values });
const mac: Property = { type: 'string', pattern: /^[a-f0-9][02468ace](:[a-f0-9]{2}){5}$/i };
const action = (...more: readonly string[]) => oneOf('ignore', 'report', 'stop', ...more);

const throttles = Object.fromEntries(
  ['', '_rd', '_wr'].flatMap((way): [string, Property][] => [
    [`bps${way}`, integer()],
    [`bps${way}_max_length`, integer(1)],
    [`mbps${way}`, number],
    [`mbps${way}_max`, number],
    [`iops${way}`, integer()],
    [`iops${way}_max`, integer()],
    [`iops${way}_max_length`, integer(1)],
  ]),
);

const imageFormat = oneOf('raw', 'qcow', 'qed', 'qcow2', 'vmdk', 'cloop');

const drive = {
  file: key,
  format: imageFormat,
  size,
  'import-from': text,
  media: oneOf('cdrom', 'disk'),
  aio: oneOf('native', 'threads', 'io_uring'),
  backup: flag,
  cache: oneOf('none', 'writethrough', 'writeback', 'unsafe', 'directsync'),
  detect_zeroes: flag,
  discard: oneOf('ignore', 'on'),
  replicate: flag,
  rerror: action(),
  werror: action('enospc'),
  serial: text,
  shared: flag,
  snapshot: flag,
  ...throttles,
} satisfies Record<string, Property>;

const wwn: Property = { type: 'string', pattern: /^0x[0-9a-fA-F]{16}$/ };
const perDrive: Readonly<Record<string, Record<string, Property>>> = {
  ide: { ssd: flag, wwn, model: text },
  sata: { ssd: flag, wwn },
  scsi: {
    ssd: flag,
    wwn,
    iothread: flag,
    ro: flag,
    queues: integer(2),
    scsiblock: flag,
    vendor: text,
    product: text,
  },
  virtio: { iothread: flag, ro: flag },
};

const volumeAlias = { volume: 'file' };
const lengthAliases = Object.fromEntries(
  ['bps_rd', 'bps_wr', 'iops_rd', 'iops_wr'].map((name) => [`${name}_length`, `${name}_max_length`]),
);

/** A drive of `ide`, `sata`, `scsi`, `virtio`, `efidisk` or `tpmstate`. */
export const driveFormats: Readonly<Record<string, PropertyFormat>> = {
  ...Object.fromEntries(
    Object.entries(perDrive).map(([bus, own]) => [
      bus,
      {
        properties: { ...drive, ...own },
        aliases: { ...volumeAlias, ...lengthAliases },
        ignored: ['cyls', 'heads', 'secs', 'trans'],
      },
    ]),
  ),
  efidisk: {
    properties: {
      file: key,
      format: imageFormat,
      size,
      'import-from': text,
      efitype: oneOf('2m', '4m'),
      'ms-cert': oneOf('2011', '2023', '2023w', '2023k'),
      'pre-enrolled-keys': flag,
    },
    aliases: volumeAlias,
  },
  tpmstate: {
    properties: { file: key, format: imageFormat, size, 'import-from': text, version: oneOf('v1.2', 'v2.0') },
    aliases: volumeAlias,
  },
  unused: { properties: { file: { ...key, required: true } }, aliases: volumeAlias },
};

const models = [
  'e1000',
  'e1000-82540em',
  'e1000-82544gc',
  'e1000-82545em',
  'e1000e',
  'i82551',
  'i82557b',
  'i82559er',
  'ne2k_isa',
  'ne2k_pci',
  'pcnet',
  'rtl8139',
  'virtio',
  'vmxnet3',
];

/** A VM's `netN`. */
export const qemuNet: PropertyFormat = {
  properties: {
    model: { type: 'string', enum: models, defaultKey: true, required: true },
    macaddr: mac,
    bridge: text,
    firewall: flag,
    link_down: flag,
    mtu: integer(1, 65520),
    queues: integer(0, 64),
    rate: { type: 'number', minimum: 0 },
    tag: integer(1, 4094),
    trunks: { type: 'string', pattern: /^\d+(-\d+)?(;\d+(-\d+)?)*$/ },
  },
  keyAlias: { names: models, key: 'model', value: 'macaddr' },
};

/** A container's `netN`; its rate has no lower bound in PVE, so a negative one passes. */
export const lxcNet: PropertyFormat = {
  properties: {
    name: { type: 'string', pattern: /^[-_.\w]+$/, required: true },
    bridge: { type: 'string', pattern: /^[-_.\w]+$/ },
    firewall: flag,
    gw: text,
    gw6: text,
    'host-managed': flag,
    hwaddr: mac,
    ip: text,
    ip6: text,
    link_down: flag,
    mtu: integer(64, 65535),
    rate: number,
    tag: integer(1, 4094),
    trunks: { type: 'string', pattern: /^\d+(;\d+)*$/ },
    type: oneOf('veth'),
  },
};

const rootfs = {
  volume: { ...key, required: true },
  size,
  acl: flag,
  idmap: text,
  mountoptions: text,
  quota: flag,
  replicate: flag,
  ro: flag,
  shared: flag,
} satisfies Record<string, Property>;

/** A container's `rootfs`, `mpN` and `unusedN`. */
export const mountFormats: Readonly<Record<'rootfs' | 'mp' | 'unused', PropertyFormat>> = {
  rootfs: { properties: rootfs },
  mp: { properties: { ...rootfs, mp: { ...text, required: true }, backup: flag, keepattrs: flag } },
  unused: { properties: { volume: { ...key, required: true } } },
};

const hex: Property = { type: 'string', pattern: /^0x[0-9a-fA-F]{4}$/ };

/** Values that PVE checks and then keeps as they were written, by option or family. */
export const checkedFormats: Readonly<Record<string, PropertyFormat>> = {
  memory: { properties: { current: { type: 'integer', minimum: 16, defaultKey: true } } },
  agent: {
    properties: {
      enabled: { type: 'boolean', defaultKey: true, required: true },
      'freeze-fs': flag,
      fstrim_cloned_disks: flag,
      type: oneOf('virtio', 'isa'),
    },
    aliases: { 'freeze-fs-on-backup': 'freeze-fs', 'guest-fsfreeze': 'freeze-fs' },
  },
  cpu: {
    properties: {
      cputype: key,
      flags: text,
      hidden: flag,
      'hv-vendor-id': text,
      level: integer(),
      'phys-bits': { type: 'string', pattern: /^(host|[89]|[1-5]\d|6[0-4])$/ },
      'guest-phys-bits': integer(32, 64),
      'reported-model': text,
    },
  },
  boot: { properties: { legacy: { type: 'string', pattern: /^[acdn]{1,4}$/, defaultKey: true }, order: text } },
  vga: { properties: { type: key, clipboard: oneOf('vnc'), memory: integer(4, 512) } },
  audio0: {
    properties: {
      device: { ...oneOf('ich9-intel-hda', 'intel-hda', 'AC97'), required: true },
      driver: oneOf('spice', 'none'),
    },
  },
  rng0: { properties: { source: { ...key, required: true }, max_bytes: integer(), period: integer() } },
  watchdog: { properties: { model: key, action: text } },
  machine: {
    properties: {
      type: key,
      viommu: oneOf('intel', 'virtio'),
      'aw-bits': number,
      'enable-s3': flag,
      'enable-s4': flag,
    },
  },
  cicustom: { properties: { user: text, network: text, meta: text, vendor: text } },
  'ipconfig[n]': { properties: { ip: text, gw: text, ip6: text, gw6: text } },
  'numa[n]': { properties: { cpus: { ...text, required: true }, hostnodes: text, memory: number, policy: text } },
  'hostpci[n]': {
    properties: {
      host: key,
      mapping: text,
      mdev: text,
      pcie: flag,
      rombar: flag,
      romfile: text,
      'x-vga': flag,
      'legacy-igd': flag,
      'vendor-id': hex,
      'device-id': hex,
      'sub-vendor-id': hex,
      'sub-device-id': hex,
      driver: oneOf('vfio', 'keep'),
    },
  },
  'usb[n]': { properties: { host: key, mapping: text, usb3: flag } },
  'virtiofs[n]': {
    properties: {
      dirid: { ...key, required: true },
      cache: oneOf('auto', 'always', 'metadata', 'never'),
      'direct-io': flag,
      'expose-xattr': flag,
      'expose-acl': flag,
    },
  },
  features: {
    properties: { nesting: flag, keyctl: flag, fuse: flag, mknod: flag, force_rw_sys: flag, mount: text },
  },
};
