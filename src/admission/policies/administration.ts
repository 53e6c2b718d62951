/**
 * Running the cluster: PVE asks for privileges that no tenant has, so it refuses tenants and lets administrators. What
 * is set up here takes nothing of what is metered.
 */

import type { OwnPolicy } from '../policy.ts';
import { ownRows } from './rows.ts';

const cluster = `
  POST /cluster/acme/account
  PUT DELETE /cluster/acme/account/{name}
  POST /cluster/acme/plugins
  PUT DELETE /cluster/acme/plugins/{id}
  POST /cluster/backup
  PUT DELETE /cluster/backup/{id}
  PUT /cluster/ceph/flags
  PUT /cluster/ceph/flags/{flag}
  POST /cluster/config
  POST /cluster/config/join
  POST DELETE /cluster/config/nodes/{node}
  POST /cluster/ha/groups
  PUT DELETE /cluster/ha/groups/{group}
  POST /cluster/ha/resources
  PUT DELETE /cluster/ha/resources/{sid}
  POST /cluster/ha/resources/{sid}/migrate
  POST /cluster/ha/resources/{sid}/relocate
  POST /cluster/ha/rules
  PUT DELETE /cluster/ha/rules/{rule}
  POST /cluster/ha/status/arm-ha
  POST /cluster/ha/status/disarm-ha
  POST /cluster/mapping/dir|pci|usb
  PUT DELETE /cluster/mapping/dir|pci|usb/{id}
  POST PUT DELETE /cluster/metrics/server/{id}
  POST /cluster/notifications/endpoints/gotify|sendmail|smtp|webhook
  PUT DELETE /cluster/notifications/endpoints/gotify|sendmail|smtp|webhook/{name}
  POST /cluster/notifications/matchers
  PUT DELETE /cluster/notifications/matchers/{name}
  POST /cluster/notifications/targets/{name}/test
  PUT /cluster/options
  POST /cluster/qemu/custom-cpu-models
  PUT DELETE /cluster/qemu/custom-cpu-models/{cputype}
  POST /pools
  DELETE /pools
  DELETE /pools/{poolid}
  POST /storage
  PUT DELETE /storage/{storage}
`;

const network = `
  PUT /cluster/sdn
  POST /cluster/sdn/controllers
  PUT DELETE /cluster/sdn/controllers/{controller}
  POST /cluster/sdn/dns
  PUT DELETE /cluster/sdn/dns/{dns}
  POST /cluster/sdn/fabrics/fabric
  PUT DELETE /cluster/sdn/fabrics/fabric/{id}
  POST /cluster/sdn/fabrics/node/{fabric_id}
  PUT DELETE /cluster/sdn/fabrics/node/{fabric_id}/{node_id}
  POST /cluster/sdn/ipams
  PUT DELETE /cluster/sdn/ipams/{ipam}
  POST DELETE /cluster/sdn/lock
  POST /cluster/sdn/prefix-lists
  PUT DELETE /cluster/sdn/prefix-lists/{id}
  POST /cluster/sdn/prefix-lists/{id}/entries
  PUT DELETE /cluster/sdn/prefix-lists/{id}/entries/{url_seq}
  POST /cluster/sdn/rollback
  POST /cluster/sdn/route-maps/entries
  PUT DELETE /cluster/sdn/route-maps/entries/{route-map-id}/entry/{order}
  POST /cluster/sdn/vnets
  PUT DELETE /cluster/sdn/vnets/{vnet}
  PUT /cluster/sdn/vnets/{vnet}/firewall/options
  POST /cluster/sdn/vnets/{vnet}/firewall/rules
  PUT DELETE /cluster/sdn/vnets/{vnet}/firewall/rules/{pos}
  POST PUT DELETE /cluster/sdn/vnets/{vnet}/ips
  POST /cluster/sdn/vnets/{vnet}/subnets
  PUT DELETE /cluster/sdn/vnets/{vnet}/subnets/{subnet}
  POST /cluster/sdn/zones
  PUT DELETE /cluster/sdn/zones/{zone}

  POST PUT DELETE /nodes/{node}/network
  PUT DELETE /nodes/{node}/network/{iface}
`;

/** A guest's own rules are for whoever has VM.Config.Network on it in PVE. */
const firewall = `
  POST /cluster/firewall/aliases
  PUT DELETE /cluster/firewall/aliases/{name}
  POST /cluster/firewall/groups
  POST DELETE /cluster/firewall/groups/{group}
  PUT DELETE /cluster/firewall/groups/{group}/{pos}
  POST /cluster/firewall/ipset
  POST DELETE /cluster/firewall/ipset/{name}
  PUT DELETE /cluster/firewall/ipset/{name}/{cidr}
  PUT /cluster/firewall/options
  POST /cluster/firewall/rules
  PUT DELETE /cluster/firewall/rules/{pos}

  PUT /nodes/{node}/firewall/options
  POST /nodes/{node}/firewall/rules
  PUT DELETE /nodes/{node}/firewall/rules/{pos}

  POST /nodes/{node}/qemu|lxc/{vmid}/firewall/aliases
  PUT DELETE /nodes/{node}/qemu|lxc/{vmid}/firewall/aliases/{name}
  POST /nodes/{node}/qemu|lxc/{vmid}/firewall/ipset
  POST DELETE /nodes/{node}/qemu|lxc/{vmid}/firewall/ipset/{name}
  PUT DELETE /nodes/{node}/qemu|lxc/{vmid}/firewall/ipset/{name}/{cidr}
  PUT /nodes/{node}/qemu|lxc/{vmid}/firewall/options
  POST /nodes/{node}/qemu|lxc/{vmid}/firewall/rules
  PUT DELETE /nodes/{node}/qemu|lxc/{vmid}/firewall/rules/{pos}
`;

const nodes = `
  POST PUT /nodes/{node}/apt/repositories
  POST /nodes/{node}/apt/update
  POST DELETE /nodes/{node}/ceph/fs/{name}
  POST /nodes/{node}/ceph/init
  POST DELETE /nodes/{node}/ceph/mds/{name}
  POST DELETE /nodes/{node}/ceph/mgr/{id}
  POST DELETE /nodes/{node}/ceph/mon/{monid}
  POST /nodes/{node}/ceph/osd
  DELETE /nodes/{node}/ceph/osd/{osdid}
  POST /nodes/{node}/ceph/osd/{osdid}/in
  POST /nodes/{node}/ceph/osd/{osdid}/out
  POST /nodes/{node}/ceph/osd/{osdid}/scrub
  POST /nodes/{node}/ceph/pool|pools
  PUT DELETE /nodes/{node}/ceph/pool|pools/{name}
  POST /nodes/{node}/ceph/restart
  POST /nodes/{node}/ceph/start
  POST /nodes/{node}/ceph/stop
  POST PUT DELETE /nodes/{node}/certificates/acme/certificate
  POST DELETE /nodes/{node}/certificates/custom
  PUT /nodes/{node}/config
  POST /nodes/{node}/disks/directory|lvm|lvmthin|zfs
  DELETE /nodes/{node}/disks/directory|lvm|lvmthin|zfs/{name}
  POST /nodes/{node}/disks/initgpt
  PUT /nodes/{node}/disks/wipedisk
  PUT /nodes/{node}/dns
  POST /nodes/{node}/hosts
  POST /nodes/{node}/qemu/{vmid}/dbus-vmstate
  POST /nodes/{node}/services/{service}/reload
  POST /nodes/{node}/services/{service}/restart
  POST /nodes/{node}/services/{service}/start
  POST /nodes/{node}/services/{service}/stop
  POST /nodes/{node}/status
  POST PUT DELETE /nodes/{node}/subscription
  PUT /nodes/{node}/time
  POST /nodes/{node}/wakeonlan
`;

export const administrationPolicies: readonly OwnPolicy[] = [cluster, network, firewall, nodes].flatMap((lines) =>
  ownRows('administration', lines),
);
