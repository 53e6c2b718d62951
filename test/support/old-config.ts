const amount = { type: 'numeric', multiplier: 1, base: 1024, compact: true, unit: 'B', display: true } as const;
const storage = { ...amount, type: 'storage', disks: ['rootfs', 'mp', 'sata', 'unused'] } as const;

/** What every configuration file of ProxmoxAAS said, besides where its backends and dashboards are. */
export const oldSections = {
  resources: {
    cpu: { type: 'list', whitelist: true, display: false },
    cores: { ...amount, name: 'vCPU', compact: false, unit: 'Cores' },
    memory: { ...amount, name: 'RAM', multiplier: 1048576 },
    local: { ...storage, name: 'local' },
    ceph: { ...storage, name: 'Ceph' },
    network: { ...amount, name: 'Network', multiplier: 1000000, base: 1000, unit: 'B/s' },
    pci: { type: 'list', whitelist: true, display: true },
  },
  clientsync: {
    resourcetypes: ['lxc', 'qemu', 'node'],
    schemes: {
      always: { enabled: true },
      hash: { enabled: true },
      interrupt: { 'min-rate': 1, 'max-rate': 60, enabled: true },
    },
  },
  defaultuser: {
    resources: { cpu: { global: [], nodes: {} }, cores: { global: { max: 0 }, nodes: {} } },
    nodes: [],
    cluster: { vmid: { min: -1, max: -1 }, pool: '' },
    templates: { instances: { lxc: {}, qemu: {} } },
    network: { lxc: { type: 'veth', bridge: 'vmbr0', vlan: 10, ip: 'dhcp', ip6: 'dhcp' } },
  },
} as const;
