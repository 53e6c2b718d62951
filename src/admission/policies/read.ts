/** Calls that only look: PVE's own access control decides what the caller sees. */

import { lowestFreeVmid } from '../answers/free-vmid.ts';
import { ownPermissions } from '../answers/permissions.ts';
import { poolOfTheirs } from '../answers/pools.ts';
import { clusterTasks, nodeTasks } from '../answers/tasks.ts';
import type { OwnPolicy } from '../policy.ts';
import { ownRows } from './rows.ts';

/** Reads by which PVE would mislead a tenant, as it knows nothing of what is done for them here. */
const otherwise: readonly OwnPolicy[] = [
  // Before PVE's access control covers a new guest, its creator may already look at it.
  ...ownRows(
    'read',
    `
    GET /nodes/{node}/qemu|lxc/{vmid}/config
    GET /nodes/{node}/qemu|lxc/{vmid}/pending
    GET /nodes/{node}/qemu|lxc/{vmid}/status/current
    `,
    { ofGuest: true },
  ),
  ...ownRows(
    'read',
    `
    GET /nodes/{node}/tasks/{upid}/log
    GET /nodes/{node}/tasks/{upid}/status
    `,
    { ofTask: true },
  ),
  ...ownRows('read', 'GET /access/permissions', { answer: ownPermissions }),
  ...ownRows('read', 'GET /cluster/nextid', { answer: lowestFreeVmid }),
  ...ownRows('read', 'GET /cluster/tasks', { answer: clusterTasks }),
  ...ownRows('read', 'GET /nodes/{node}/tasks', { answer: nodeTasks }),
  ...ownRows('read', 'GET /pools', { answer: poolOfTheirs }),
];

const access = `
  GET /
  GET /version
  GET /access
  GET /access/acl
  GET /access/domains
  GET /access/domains/{realm}
  GET /access/groups
  GET /access/groups/{groupid}
  GET /access/openid
  GET /access/roles
  GET /access/roles/{roleid}
  GET /access/tfa
  GET /access/tfa/{userid}
  GET /access/tfa/{userid}/{id}
  GET /access/ticket
  GET /access/users
  GET /access/users/{userid}
  GET /access/users/{userid}/tfa
  GET /access/users/{userid}/token
  GET /access/users/{userid}/token/{tokenid}
`;

const cluster = `
  GET /cluster
  GET /cluster/acme
  GET /cluster/acme/account
  GET /cluster/acme/account/{name}
  GET /cluster/acme/challenge-schema
  GET /cluster/acme/directories
  GET /cluster/acme/meta
  GET /cluster/acme/plugins
  GET /cluster/acme/plugins/{id}
  GET /cluster/acme/tos
  GET /cluster/backup
  GET /cluster/backup-info
  GET /cluster/backup-info/not-backed-up
  GET /cluster/backup/{id}
  GET /cluster/backup/{id}/included_volumes
  GET /cluster/bulk-action
  GET /cluster/bulk-action/guest
  GET /cluster/ceph
  GET /cluster/ceph/flags
  GET /cluster/ceph/flags/{flag}
  GET /cluster/ceph/metadata
  GET /cluster/ceph/status
  GET /cluster/config
  GET /cluster/config/apiversion
  GET /cluster/config/join
  GET /cluster/config/nodes
  GET /cluster/config/qdevice
  GET /cluster/config/totem
  GET /cluster/firewall
  GET /cluster/firewall/aliases
  GET /cluster/firewall/aliases/{name}
  GET /cluster/firewall/groups
  GET /cluster/firewall/groups/{group}
  GET /cluster/firewall/groups/{group}/{pos}
  GET /cluster/firewall/ipset
  GET /cluster/firewall/ipset/{name}
  GET /cluster/firewall/ipset/{name}/{cidr}
  GET /cluster/firewall/macros
  GET /cluster/firewall/options
  GET /cluster/firewall/refs
  GET /cluster/firewall/rules
  GET /cluster/firewall/rules/{pos}
  GET /cluster/ha
  GET /cluster/ha/groups
  GET /cluster/ha/groups/{group}
  GET /cluster/ha/resources
  GET /cluster/ha/resources/{sid}
  GET /cluster/ha/rules
  GET /cluster/ha/rules/{rule}
  GET /cluster/ha/status
  GET /cluster/ha/status/current
  GET /cluster/ha/status/manager_status
  GET /cluster/jobs
  GET /cluster/jobs/realm-sync
  GET /cluster/jobs/realm-sync/{id}
  GET /cluster/jobs/schedule-analyze
  GET /cluster/log
  GET /cluster/mapping
  GET /cluster/mapping/dir
  GET /cluster/mapping/dir/{id}
  GET /cluster/mapping/pci
  GET /cluster/mapping/pci/{id}
  GET /cluster/mapping/usb
  GET /cluster/mapping/usb/{id}
  GET /cluster/metrics
  GET /cluster/metrics/export
  GET /cluster/metrics/server
  GET /cluster/metrics/server/{id}
  GET /cluster/notifications
  GET /cluster/notifications/endpoints
  GET /cluster/notifications/endpoints/gotify
  GET /cluster/notifications/endpoints/gotify/{name}
  GET /cluster/notifications/endpoints/sendmail
  GET /cluster/notifications/endpoints/sendmail/{name}
  GET /cluster/notifications/endpoints/smtp
  GET /cluster/notifications/endpoints/smtp/{name}
  GET /cluster/notifications/endpoints/webhook
  GET /cluster/notifications/endpoints/webhook/{name}
  GET /cluster/notifications/matcher-field-values
  GET /cluster/notifications/matcher-fields
  GET /cluster/notifications/matchers
  GET /cluster/notifications/matchers/{name}
  GET /cluster/notifications/targets
  GET /cluster/options
  GET /cluster/qemu
  GET /cluster/qemu/cpu-flags
  GET /cluster/qemu/custom-cpu-models
  GET /cluster/qemu/custom-cpu-models/{cputype}
  GET /cluster/replication
  GET /cluster/replication/{id}
  GET /cluster/resources
  GET /cluster/sdn
  GET /cluster/sdn/controllers
  GET /cluster/sdn/controllers/{controller}
  GET /cluster/sdn/dns
  GET /cluster/sdn/dns/{dns}
  GET /cluster/sdn/dry-run
  GET /cluster/sdn/fabrics
  GET /cluster/sdn/fabrics/all
  GET /cluster/sdn/fabrics/fabric
  GET /cluster/sdn/fabrics/fabric/{id}
  GET /cluster/sdn/fabrics/node
  GET /cluster/sdn/fabrics/node/{fabric_id}
  GET /cluster/sdn/fabrics/node/{fabric_id}/{node_id}
  GET /cluster/sdn/ipams
  GET /cluster/sdn/ipams/{ipam}
  GET /cluster/sdn/ipams/{ipam}/status
  GET /cluster/sdn/prefix-lists
  GET /cluster/sdn/prefix-lists/{id}
  GET /cluster/sdn/prefix-lists/{id}/entries
  GET /cluster/sdn/prefix-lists/{id}/entries/{url_seq}
  GET /cluster/sdn/route-maps
  GET /cluster/sdn/route-maps/entries
  GET /cluster/sdn/route-maps/entries/{route-map-id}
  GET /cluster/sdn/route-maps/entries/{route-map-id}/entry/{order}
  GET /cluster/sdn/vnets
  GET /cluster/sdn/vnets/{vnet}
  GET /cluster/sdn/vnets/{vnet}/firewall
  GET /cluster/sdn/vnets/{vnet}/firewall/options
  GET /cluster/sdn/vnets/{vnet}/firewall/rules
  GET /cluster/sdn/vnets/{vnet}/firewall/rules/{pos}
  GET /cluster/sdn/vnets/{vnet}/subnets
  GET /cluster/sdn/vnets/{vnet}/subnets/{subnet}
  GET /cluster/sdn/zones
  GET /cluster/sdn/zones/{zone}
  GET /cluster/status
`;

const nodes = `
  GET /nodes
  GET /nodes/{node}
  GET /nodes/{node}/aplinfo
  GET /nodes/{node}/apt
  GET /nodes/{node}/apt/changelog
  GET /nodes/{node}/apt/repositories
  GET /nodes/{node}/apt/update
  GET /nodes/{node}/apt/versions
  GET /nodes/{node}/capabilities
  GET /nodes/{node}/capabilities/qemu
  GET /nodes/{node}/capabilities/qemu/cpu
  GET /nodes/{node}/capabilities/qemu/cpu-flags
  GET /nodes/{node}/capabilities/qemu/machines
  GET /nodes/{node}/capabilities/qemu/migration
  GET /nodes/{node}/ceph
  GET /nodes/{node}/ceph/cfg
  GET /nodes/{node}/ceph/cfg/db
  GET /nodes/{node}/ceph/cfg/raw
  GET /nodes/{node}/ceph/cfg/value
  GET /nodes/{node}/ceph/cmd-safety
  GET /nodes/{node}/ceph/config
  GET /nodes/{node}/ceph/configdb
  GET /nodes/{node}/ceph/crush
  GET /nodes/{node}/ceph/fs
  GET /nodes/{node}/ceph/log
  GET /nodes/{node}/ceph/mds
  GET /nodes/{node}/ceph/mgr
  GET /nodes/{node}/ceph/mon
  GET /nodes/{node}/ceph/osd
  GET /nodes/{node}/ceph/osd/{osdid}
  GET /nodes/{node}/ceph/osd/{osdid}/lv-info
  GET /nodes/{node}/ceph/osd/{osdid}/metadata
  GET /nodes/{node}/ceph/pool
  GET /nodes/{node}/ceph/pool/{name}
  GET /nodes/{node}/ceph/pool/{name}/status
  GET /nodes/{node}/ceph/pools
  GET /nodes/{node}/ceph/pools/{name}
  GET /nodes/{node}/ceph/rules
  GET /nodes/{node}/ceph/status
  GET /nodes/{node}/certificates
  GET /nodes/{node}/certificates/acme
  GET /nodes/{node}/certificates/info
  GET /nodes/{node}/config
  GET /nodes/{node}/disks
  GET /nodes/{node}/disks/directory
  GET /nodes/{node}/disks/list
  GET /nodes/{node}/disks/lvm
  GET /nodes/{node}/disks/lvmthin
  GET /nodes/{node}/disks/smart
  GET /nodes/{node}/disks/zfs
  GET /nodes/{node}/disks/zfs/{name}
  GET /nodes/{node}/dns
  GET /nodes/{node}/firewall
  GET /nodes/{node}/firewall/log
  GET /nodes/{node}/firewall/options
  GET /nodes/{node}/firewall/rules
  GET /nodes/{node}/firewall/rules/{pos}
  GET /nodes/{node}/hardware
  GET /nodes/{node}/hardware/pci
  GET /nodes/{node}/hardware/pci/{pci-id-or-mapping}
  GET /nodes/{node}/hardware/pci/{pci-id-or-mapping}/mdev
  GET /nodes/{node}/hardware/usb
  GET /nodes/{node}/hosts
  GET /nodes/{node}/journal
  GET /nodes/{node}/lxc/{vmid}/interfaces
  GET /nodes/{node}/netstat
  GET /nodes/{node}/network
  GET /nodes/{node}/network/{iface}
  GET /nodes/{node}/query-oci-repo-tags
  GET /nodes/{node}/query-url-metadata
  GET /nodes/{node}/replication
  GET /nodes/{node}/replication/{id}
  GET /nodes/{node}/replication/{id}/log
  GET /nodes/{node}/replication/{id}/status
  GET /nodes/{node}/report
  GET /nodes/{node}/rrd
  GET /nodes/{node}/rrddata
  GET /nodes/{node}/scan
  GET /nodes/{node}/scan/cifs
  GET /nodes/{node}/scan/glusterfs
  GET /nodes/{node}/scan/iscsi
  GET /nodes/{node}/scan/lvm
  GET /nodes/{node}/scan/lvmthin
  GET /nodes/{node}/scan/nfs
  GET /nodes/{node}/scan/pbs
  GET /nodes/{node}/scan/zfs
  GET /nodes/{node}/sdn
  GET /nodes/{node}/sdn/fabrics/{fabric}
  GET /nodes/{node}/sdn/fabrics/{fabric}/interfaces
  GET /nodes/{node}/sdn/fabrics/{fabric}/neighbors
  GET /nodes/{node}/sdn/fabrics/{fabric}/routes
  GET /nodes/{node}/sdn/vnets/{vnet}
  GET /nodes/{node}/sdn/vnets/{vnet}/mac-vrf
  GET /nodes/{node}/sdn/zones
  GET /nodes/{node}/sdn/zones/{zone}
  GET /nodes/{node}/sdn/zones/{zone}/bridges
  GET /nodes/{node}/sdn/zones/{zone}/content
  GET /nodes/{node}/sdn/zones/{zone}/ip-vrf
  GET /nodes/{node}/services
  GET /nodes/{node}/services/{service}
  GET /nodes/{node}/services/{service}/state
  GET /nodes/{node}/status
  GET /nodes/{node}/subscription
  GET /nodes/{node}/syslog
  GET /nodes/{node}/tasks/{upid}
  GET /nodes/{node}/time
  GET /nodes/{node}/version
`;

const guests = `
  GET /nodes/{node}/qemu|lxc
  GET /nodes/{node}/qemu|lxc/{vmid}
  GET /nodes/{node}/qemu|lxc/{vmid}/feature
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/aliases
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/aliases/{name}
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/ipset
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/ipset/{name}
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/ipset/{name}/{cidr}
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/log
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/options
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/refs
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/rules
  GET /nodes/{node}/qemu|lxc/{vmid}/firewall/rules/{pos}
  GET /nodes/{node}/qemu|lxc/{vmid}/migrate
  GET /nodes/{node}/qemu|lxc/{vmid}/rrd
  GET /nodes/{node}/qemu|lxc/{vmid}/rrddata
  GET /nodes/{node}/qemu|lxc/{vmid}/snapshot
  GET /nodes/{node}/qemu|lxc/{vmid}/snapshot/{snapname}
  GET /nodes/{node}/qemu|lxc/{vmid}/snapshot/{snapname}/config
  GET /nodes/{node}/qemu|lxc/{vmid}/status
  GET /nodes/{node}/qemu/{vmid}/agent
  GET /nodes/{node}/qemu/{vmid}/agent/exec-status
  GET /nodes/{node}/qemu/{vmid}/agent/file-read
  GET /nodes/{node}/qemu/{vmid}/agent/get-fsinfo
  GET /nodes/{node}/qemu/{vmid}/agent/get-host-name
  GET /nodes/{node}/qemu/{vmid}/agent/get-memory-block-info
  GET /nodes/{node}/qemu/{vmid}/agent/get-memory-blocks
  GET /nodes/{node}/qemu/{vmid}/agent/get-osinfo
  GET /nodes/{node}/qemu/{vmid}/agent/get-time
  GET /nodes/{node}/qemu/{vmid}/agent/get-timezone
  GET /nodes/{node}/qemu/{vmid}/agent/get-users
  GET /nodes/{node}/qemu/{vmid}/agent/get-vcpus
  GET /nodes/{node}/qemu/{vmid}/agent/info
  GET /nodes/{node}/qemu/{vmid}/agent/network-get-interfaces
  GET /nodes/{node}/qemu/{vmid}/cloudinit
  GET /nodes/{node}/qemu/{vmid}/cloudinit/dump
`;

const storage = `
  GET /nodes/{node}/storage
  GET /nodes/{node}/storage/{storage}
  GET /nodes/{node}/storage/{storage}/content
  GET /nodes/{node}/storage/{storage}/content/{volume}
  GET /nodes/{node}/storage/{storage}/file-restore/download
  GET /nodes/{node}/storage/{storage}/file-restore/list
  GET /nodes/{node}/storage/{storage}/identity
  GET /nodes/{node}/storage/{storage}/import-metadata
  GET /nodes/{node}/storage/{storage}/prunebackups
  GET /nodes/{node}/storage/{storage}/rrd
  GET /nodes/{node}/storage/{storage}/rrddata
  GET /nodes/{node}/storage/{storage}/status
  GET /nodes/{node}/vzdump/defaults
  GET /nodes/{node}/vzdump/extractconfig
  GET /pools/{poolid}
  GET /storage
  GET /storage/{storage}
`;

export const readPolicies: readonly OwnPolicy[] = [
  ...otherwise,
  ...[access, cluster, nodes, guests, storage].flatMap((lines) => ownRows('read', lines)),
];
