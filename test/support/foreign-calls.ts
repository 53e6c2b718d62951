/** For every row of the policy table, the calls with which one tenant would reach for what is another's. */

import { readFileSync } from 'node:fs';
import { policies } from '../../src/admission/policies/index.ts';
import type { Policy } from '../../src/admission/policy.ts';
import { readPublishedSchema } from '../../src/pve/published-schema.ts';
import type { PveClient } from './pve-client.ts';
import type { Said } from './refusals.ts';
import type { Site } from './site.ts';
import { uploadIso } from './two-tenants.ts';

/** What a tenant has, by which calls could name it. */
export interface Belongings {
  /** `name@pve` */
  readonly user: string;
  readonly pool: string;
  readonly group: string;
  readonly tokenid: string;
  readonly qemu: number;
  readonly lxc: number;
  /** Volume ids. */
  readonly qemuDisk: string;
  readonly lxcDisk: string;
  readonly qemuBackup: string;
  readonly lxcBackup: string;
  readonly iso: string;
  readonly snapshot: string;
  /** Of a task that was started for them with the privileged token. */
  readonly upid: string;
}

export interface ForeignCall {
  readonly row: Policy;
  readonly method: Policy['method'];
  readonly path: string;
  readonly params: Readonly<Record<string, string>>;
}

const published = new Map(
  ['7.4', '8.4', '9.2']
    .flatMap((version) => readPublishedSchema(readFileSync(`test/contract/pve-api/${version}.json`, 'utf8')))
    .map(({ method, path, parameters }) => [shapeOf(method, path), parameters]),
);

function shapeOf(method: string, path: string): string {
  return `${method} ${path.replace(/\{[^}]+\}/g, '{}')}`;
}

/**
 * Calls of a tenant (`his`), each of which names something of another (`hers`): once in the path, where the row has
 * braces for it, and once for each parameter that could name it, all else being the tenant's own.
 */
export function foreignCalls(hers: Belongings, his: Belongings): ForeignCall[] {
  return policies.flatMap((row) => {
    const { method } = row;
    const usual = usualParameters(row, his);
    const inPath = { row, method, path: pathOf(row, hers), params: usual };
    const named = [...new Set([...parametersOf(row), ...Object.keys(usual)])].flatMap((name) =>
      valuesOf(name, row, hers, his).map((value) => ({
        row,
        method,
        path: pathOf(row, his),
        params: { ...usual, [name.replace('[n]', '1')]: value },
      })),
    );
    return pathOf(row, his) === inPath.path && named.length > 0 ? named : [inPath, ...named];
  });
}

/** Makes the call as the tenant; what the answer says in its status line and its body. */
export async function sendForeign(
  site: Site,
  client: PveClient,
  { row, method, path, params }: ForeignCall,
): Promise<Said & { readonly text: string }> {
  if (row.path.endsWith('/upload')) return uploadIso(site, client, params.filename ?? '');
  const query = Object.keys(params).length === 0 ? '' : `?${new URLSearchParams(params)}`;
  const { status, reason, body } =
    method === 'GET' || method === 'DELETE'
      ? await client.send(method, `${path}${query}`, undefined)
      : await client.send(method, path, params);
  return { status, reason, body, text: `${reason} ${JSON.stringify(body)}` };
}

function parametersOf(row: Policy): readonly string[] {
  const inPath = new Set([...row.path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name));
  const taken = 'params' in row ? Object.keys(row.params) : [];
  return [...(published.get(shapeOf(row.method, row.path)) ?? []), ...taken].filter((name) => !inPath.has(name));
}

function typeOf({ path }: Policy): 'qemu' | 'lxc' {
  return path.includes('/lxc') ? 'lxc' : 'qemu';
}

/** The row's path with the braces filled in from one tenant's belongings; what belongs to nobody is something that is there. */
function pathOf(row: Policy, whose: Belongings): string {
  const { path } = row;
  const volume = path.includes('{backup}') ? whose.qemuBackup : path.includes('{file}') ? whose.iso : whose.qemuDisk;
  const values: Readonly<Record<string, string>> = {
    node: 'n1',
    vmid: String(whose[typeOf(row)]),
    upid: whose.upid,
    snapshot: whose.snapshot,
    snapname: whose.snapshot,
    storage: /\{(?:backup|file|image|volume)\}/.test(path) ? volume.slice(0, volume.indexOf(':')) : 'local',
    backup: whose.qemuBackup,
    file: whose.iso,
    image: whose.qemuDisk,
    // What has rows of its own is not what the general one is for; reading has no other.
    volume: row.method === 'GET' ? whose.qemuDisk : 'ceph:made-by-hand',
    poolid: whose.pool,
    userid: whose.user,
    tokenid: whose.tokenid,
    groupid: whose.group,
    group: whose.group,
    realm: 'ldap',
    roleid: 'QuotaTenant',
    sid: `vm:${whose.qemu}`,
    id: path.includes('replication') ? `${whose.qemu}-0` : 'x1',
    cidr: '10.0.0.0/24',
    pos: '0',
    osdid: '0',
  };
  return path.replace(/\{([^}]+)\}/g, (_, name: string) => values[name] ?? 'x1');
}

/** Parameters without which a row is not meant, or would refuse whatever else is said. */
function usualParameters(row: Policy, his: Belongings): Readonly<Record<string, string>> {
  const { method, path } = row;
  const end = path.slice(path.lastIndexOf('/') + 1);
  const guest = String(his.qemu);
  const both = [his.qemu, his.lxc].join(',');
  const key = `${method} ${end}`;
  if (key === 'POST qemu' || key === 'POST lxc') return newGuest(row, his);
  if ('when' in row && end.startsWith('move_')) return { ...slots(row), 'target-vmid': guest };
  const usual: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    'POST vzdump': { vmid: guest, storage: 'shared', remove: '0' },
    'DELETE prunebackups': { vmid: guest, 'prune-backups': 'keep-last=1' },
    'POST upload': { content: 'iso', filename: 'new.iso' },
    'POST download-url': { content: 'iso', filename: 'new.iso', url: 'https://images.example.org/new.iso' },
    'POST aplinfo': { storage: 'local', template: templateOf(his) },
    'POST replication': { id: `${guest}-0`, target: 'n2', type: 'local' },
    'POST snapshot': { snapname: 'later' },
    'POST suspend': { todisk: '1' },
    'POST clone': { newid: String(his.qemu + 50), pool: his.pool },
    'PUT resize': { disk: typeOf(row) === 'qemu' ? 'scsi0' : 'rootfs', size: '+1G' },
    'POST move_disk': { ...slots(row), storage: 'ceph' },
    'POST move_volume': { ...slots(row), storage: 'ceph' },
    'POST migrate': path.includes('{vmid}') ? { target: 'n2' } : { target: 'n2', vms: both },
    'POST migrateall': { target: 'n2', vms: both },
    'POST suspendall': { vms: both },
    'POST startall': { vms: both },
    'POST stopall': { vms: both },
    'PUT unlink': { idlist: 'unused0' },
    'PUT config': {},
    'POST content': { vmid: guest, filename: `vm-${guest}-disk-7`, size: '1G' },
    'PUT {poolid}': { vms: guest },
    'PUT pools': { poolid: his.pool, vms: guest },
    'PUT password': { userid: his.user, password: 'a-new-password', 'confirmation-password': 'bob-secret' },
    'PUT acl': { path: '/vms', roles: 'QuotaTenant', users: his.user },
    'POST execute': { commands: '[]' },
  };
  if (path === '/cluster/bulk-action/guest/suspend' && 'project' in row) return { vms: both, 'to-disk': '1' };
  if (key === 'POST suspend' && !('project' in row)) return {};
  return usual[key] ?? {};
}

/** The name of a container template that a tenant has had the node fetch. */
export function templateOf({ iso }: Pick<Belongings, 'iso'>): string {
  return `${iso.slice(iso.lastIndexOf('/') + 1).replace('.iso', '')}.tar.gz`;
}

function slots(row: Policy): Readonly<Record<string, string>> {
  return typeOf(row) === 'qemu' ? { disk: 'scsi0' } : { volume: 'rootfs' };
}

/** What makes a guest, by the row: anew, from a backup, or over one that is there. */
function newGuest(row: Policy, his: Belongings): Readonly<Record<string, string>> {
  const type = typeOf(row);
  const place = { vmid: String(his.qemu + 50), cores: '1', memory: '512', pool: his.pool };
  if (!('params' in row) || row.params.unique === undefined)
    return type === 'qemu' ? place : { ...place, ostemplate: template, rootfs: 'ceph:1' };
  const over: Readonly<Record<string, string>> =
    row.kind === 'create' ? place : { vmid: String(his[type]), force: '1' };
  return type === 'qemu'
    ? { ...over, archive: his.qemuBackup, storage: 'ceph' }
    : { ...over, restore: '1', ostemplate: his.lxcBackup, storage: 'ceph' };
}

const template = 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';

/** The values with which a parameter of that name would name something of hers. */
function valuesOf(name: string, row: Policy, hers: Belongings, his: Belongings): readonly string[] {
  const type = typeOf(row);
  const disk = type === 'qemu' ? hers.qemuDisk : hers.lxcDisk;
  const both = `${his[type]},${hers[type]}`;
  const lists: Readonly<Record<string, readonly string[]>> = {
    vmid: row.path.endsWith('/vzdump') ? [String(hers.qemu), both] : [String(hers[type])],
    vms: [String(hers[type]), both],
    newid: [String(hers[type])],
    'target-vmid': [String(hers[type])],
    exclude: [String(hers.qemu)],
    guest: [String(hers.qemu)],
    pool: [hers.pool],
    poolid: [hers.pool],
    id: row.path === '/cluster/replication' ? [`${hers.qemu}-0`] : [],
    template: row.path.endsWith('/aplinfo') ? [templateOf(hers)] : [],
    archive: [hers.qemuBackup, hers.lxcBackup],
    ostemplate: [hers.lxcBackup, hers.qemuBackup],
    volume: /move_/.test(row.path) ? [] : [hers.qemuBackup, hers.qemuDisk],
    filename: row.path.endsWith('/content')
      ? [`vm-${hers.qemu}-disk-7`]
      : [hers.iso.slice(hers.iso.lastIndexOf('/') + 1)],
    'scsi[n]': [disk, `${disk},media=cdrom`, `ceph:0,import-from=${disk}`],
    'ide[n]': [disk, `${hers.iso},media=cdrom`],
    'sata[n]': [disk],
    'virtio[n]': [disk],
    efidisk0: [disk],
    tpmstate0: [disk],
    cdrom: [hers.iso, disk],
    'mp[n]': [`${disk},mp=/hers`],
    rootfs: [disk],
    'unused[n]': [disk],
    cicustom: ['user=local:snippets/hers.yaml'],
    path: [`/vms/${hers.qemu}`, `/pool/${hers.pool}`],
    userid: [hers.user, `${hers.user}!${hers.tokenid}`],
    users: [hers.user],
    authid: [hers.user],
    username: [hers.user],
    userfilter: [hers.user],
    tokens: [`${hers.user}!${hers.tokenid}`],
    groups: [hers.group],
    groupid: [hers.group],
    sid: [`vm:${hers.qemu}`],
    commands: [`[{"method":"DELETE","path":"nodes/n1/qemu/${hers.qemu}"}]`],
  };
  return Object.hasOwn(lists, name) ? (lists[name] ?? []) : [];
}
