/** Clusters to start from: an empty one, and one with tenants and guests for the demo. */

import { addGuest, addPciMapping, addVolume, type GuestSketch, publish } from './administrator.ts';
import type { Cluster } from './cluster.ts';
import type { PciDevice, StorageDefinition } from './model.ts';
import { GiB, MiB } from './sizes.ts';

export interface SeedOptions {
  /** The secret of the service token `quota-proxy@pve!gate`; made up when absent. */
  readonly serviceSecret?: string;
}

export interface DemoOptions extends SeedOptions {
  /** Guests in all; never fewer than those that the demo tells of. */
  readonly guests?: number;
}

/** What the demo's configuration shows the cluster. */
const demoServiceSecret = '00000000-0000-4000-8000-00000000de30';

const serviceUser = 'quota-proxy@pve';
const debianIso = 'shared:iso/debian-13.iso';
const alpineAppliance = 'alpine-3.22-default_20250617_amd64.tar.xz';
const debianTemplate = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

/** What the proxy's role holds: enough to act for tenants, not enough to change the hosts. */
const proxyPrivileges = [
  ...['VM.Allocate', 'VM.Audit', 'VM.Backup', 'VM.Clone', 'VM.Console', 'VM.Migrate', 'VM.PowerMgmt', 'VM.Replicate'],
  ...['VM.Snapshot', 'VM.Snapshot.Rollback'],
  ...['CDROM', 'CPU', 'Cloudinit', 'Disk', 'HWType', 'Memory', 'Network', 'Options'].map((name) => `VM.Config.${name}`),
  ...['Audit', 'FileRead', 'FileSystemMgmt', 'FileWrite', 'Unrestricted'].map((name) => `VM.GuestAgent.${name}`),
  ...['Datastore.Allocate', 'Datastore.AllocateSpace', 'Datastore.AllocateTemplate', 'Datastore.Audit'],
  ...['Pool.Allocate', 'Pool.Audit', 'Sys.AccessNetwork', 'Sys.Audit', 'SDN.Use', 'User.Modify', 'Mapping.Use'],
];

const tenantPrivileges = ['VM.Audit', 'VM.Console', 'VM.PowerMgmt', 'Datastore.Audit', 'Pool.Audit'];

const storages: readonly StorageDefinition[] = [
  {
    storage: 'local',
    type: 'dir',
    content: ['iso', 'vztmpl', 'backup', 'snippets', 'import', 'images', 'rootdir'],
    shared: false,
    total: 512 * GiB,
  },
  { storage: 'fast', type: 'lvmthin', content: ['images', 'rootdir'], shared: false, total: 16_384 * GiB },
  {
    storage: 'tank',
    type: 'zfspool',
    content: ['images', 'rootdir'],
    shared: false,
    nodes: ['n1', 'n2'],
    total: 4096 * GiB,
  },
  { storage: 'ceph', type: 'rbd', content: ['images', 'rootdir'], shared: true, total: 65_536 * GiB },
  {
    storage: 'shared',
    type: 'nfs',
    content: ['iso', 'vztmpl', 'backup', 'import', 'images'],
    shared: true,
    total: 16_384 * GiB,
  },
];

const nic: PciDevice = {
  ...{ id: '0000:03:00.0', class: '0x020000', vendor: '0x8086', device: '0x1572', iommugroup: 20 },
  ...{ vendor_name: 'Intel Corporation', device_name: 'Ethernet Controller X710 for 10GbE SFP+' },
};
const bridge: PciDevice = {
  ...{ id: '0000:00:01.0', class: '0x060400', vendor: '0x1022', device: '0x1483', iommugroup: 1 },
  ...{ vendor_name: 'Advanced Micro Devices, Inc. [AMD]', device_name: 'Starship/Matisse GPP Bridge' },
};

/** A graphics card is two functions of one device: picture and sound. */
function graphicsCard(slot: string, iommugroup: number): readonly PciDevice[] {
  const own = { vendor: '0x10de', vendor_name: 'NVIDIA Corporation', iommugroup };
  return [
    { ...own, id: `${slot}.0`, class: '0x030000', device: '0x1eb8', device_name: 'TU104GL [Tesla T4]' },
    { ...own, id: `${slot}.1`, class: '0x040300', device: '0x10f8', device_name: 'TU104 HD Audio Controller' },
  ];
}

/** Three nodes with storages of several kinds, an image and a template, a mapped device, the service user, and no guests. */
export function seedEmpty(cluster: Cluster, { serviceSecret }: SeedOptions = {}): void {
  for (const name of ['n1', 'n2', 'n3']) {
    const cards = name === 'n1' ? [...graphicsCard('0000:41:00', 40), ...graphicsCard('0000:81:00', 80)] : [];
    const pci = [bridge, nic, { ...nic, id: '0000:03:00.1', iommugroup: 21 }, ...cards];
    cluster.nodes.set(name, { name, cpus: 16, memory: 64 * GiB, online: true, pci });
  }
  for (const definition of storages) cluster.storages.set(definition.storage, definition);
  addVolume(cluster, { volid: debianIso, content: 'iso', bytes: 784 * MiB });
  addVolume(cluster, { volid: debianTemplate, content: 'vztmpl', bytes: 124 * MiB });

  publish(cluster, alpineAppliance, {
    bytes: 3 * MiB,
    appliance: { package: 'alpine-3.22-default', version: '20250617', section: 'system' },
  });

  addPciMapping(cluster, 'gpu-a', ['id=10de:1eb8,node=n1,path=0000:41:00,iommugroup=40']);

  const { access } = cluster;
  access.addRealm({ realm: 'ldap', type: 'ldap', comment: 'directory' });
  access.addRole('QuotaProxy', proxyPrivileges);
  access.addRole('QuotaTenant', tenantPrivileges);
  access.addUser(serviceUser, { comment: 'acts for tenants' });
  access.addToken(serviceUser, 'gate', {
    privsep: false,
    ...(serviceSecret === undefined ? {} : { secret: serviceSecret }),
  });
  access.setAcl('/', { users: [serviceUser] }, 'QuotaProxy');
}

export function addPool(cluster: Cluster, poolid: string, comment = ''): void {
  cluster.pools.set(poolid, { poolid, comment, vms: new Set(), storages: new Set() });
}

/** Two tenants with pools and guests of their own, an administrator, guests of nobody, and as many more as wanted. */
export function seedDemo(cluster: Cluster, { guests = 0, serviceSecret = demoServiceSecret }: DemoOptions = {}): void {
  seedEmpty(cluster, { serviceSecret });
  const { access } = cluster;
  access.addRole('QuotaImages', ['Datastore.Audit']);
  for (const name of ['alice', 'bob']) {
    const userid = `${name}@pve`;
    access.addUser(userid, { password: `${name}-demo` });
    addPool(cluster, name, `guests of ${name}`);
    access.setAcl(`/pool/${name}`, { users: [userid] }, 'QuotaTenant');
    access.setAcl('/storage/shared', { users: [userid] }, 'QuotaImages');
  }
  access.addUser('admin@pve', { password: 'admin-demo' });
  access.setAcl('/', { users: ['admin@pve'] }, 'Administrator');
  addPool(cluster, 'lab', 'guests of nobody in particular');

  for (const sketch of demoGuests) addGuest(cluster, sketch);
  fillUp(cluster, guests);
}

const demoGuests: readonly GuestSketch[] = [
  vm(100, 'web', {
    node: 'n1',
    pool: 'alice',
    status: 'running',
    cores: 2,
    memory: 4096,
    storage: 'ceph',
    gigabytes: 32,
  }),
  container(101, 'tools', { node: 'n1', pool: 'alice', cores: 1, memory: 1024, storage: 'ceph', gigabytes: 8 }),
  vm(200, 'database', { node: 'n2', pool: 'bob', cores: 2, memory: 2048, storage: 'ceph', gigabytes: 16 }),
  vm(900, 'firewall', { node: 'n3', status: 'running', cores: 2, memory: 2048, storage: 'fast', gigabytes: 16 }),
  container(901, 'resolver', {
    node: 'n3',
    pool: 'lab',
    status: 'running',
    cores: 1,
    memory: 512,
    storage: 'fast',
    gigabytes: 4,
  }),
];

interface Build extends Omit<GuestSketch, 'vmid' | 'type' | 'config'> {
  readonly cores: number;
  readonly memory: number;
  readonly storage: string;
  readonly gigabytes: number;
}

/** The same address for the same guest every time. */
function addressOf(vmid: number): string {
  const digits = vmid.toString(16).toUpperCase().padStart(6, '0');
  return `BC:24:11:${digits.slice(-6, -4)}:${digits.slice(-4, -2)}:${digits.slice(-2)}`;
}

function vm(vmid: number, name: string, { cores, memory, storage, gigabytes, ...place }: Build): GuestSketch {
  return {
    ...place,
    vmid,
    config: {
      ...{
        boot: 'order=scsi0;net0',
        cores,
        cpu: 'x86-64-v2-AES',
        memory,
        name,
        ostype: 'l26',
        scsihw: 'virtio-scsi-single',
      },
      meta: 'creation-qemu=10.1.2,ctime=1763000000',
      net0: `virtio=${addressOf(vmid)},bridge=vmbr0,rate=100`,
      scsi0: `${storage}:vm-${vmid}-disk-0,size=${gigabytes}G`,
      smbios1: `uuid=00000000-0000-4000-8000-${String(vmid).padStart(12, '0')}`,
    },
  };
}

function container(
  vmid: number,
  hostname: string,
  { cores, memory, storage, gigabytes, ...place }: Build,
): GuestSketch {
  return {
    ...place,
    vmid,
    type: 'lxc',
    config: {
      ...{ arch: 'amd64', cores, hostname, memory, ostype: 'debian', swap: 512, unprivileged: 1 },
      net0: `name=eth0,bridge=vmbr0,hwaddr=${addressOf(vmid)},ip=dhcp,rate=100,type=veth`,
      rootfs: `${storage}:vm-${vmid}-disk-0,size=${gigabytes}G`,
    },
  };
}

const firstOfMany = 1000;
const guestsPerTeam = 100;

/** Every third is a container, every tenth in no pool. */
function fillUp(cluster: Cluster, wanted: number): void {
  for (let vmid = firstOfMany; cluster.guests.size < wanted; vmid++) {
    const index = vmid - firstOfMany;
    const team = `team-${Math.floor(index / guestsPerTeam) + 1}`;
    if (!cluster.pools.has(team)) addPool(cluster, team);
    const build: Build = {
      node: `n${(index % 3) + 1}`,
      status: index % 4 === 0 ? 'stopped' : 'running',
      ...(index % 10 === 9 ? {} : { pool: team }),
      cores: 1 + (index % 4),
      memory: 512 * (1 + (index % 8)),
      storage: index % 2 === 0 ? 'ceph' : 'fast',
      gigabytes: 1 + (index % 8),
    };
    addGuest(cluster, index % 3 === 2 ? container(vmid, `ct-${vmid}`, build) : vm(vmid, `vm-${vmid}`, build));
  }
}
