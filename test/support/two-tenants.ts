/** A site with two tenants who have one of everything each, alice's marked so that a test can tell when it is shown. */

import { addBackup, addGuest, publish } from '../../simulator/administrator.ts';
import { type Belongings, templateOf } from './foreign-calls.ts';
import { PveClient } from './pve-client.ts';
import type { Said } from './refusals.ts';
import { GiB, MiB, type Site, type SiteOptions, startSite } from './site.ts';

/** Stands in everything of alice's that has a text: whoever is shown it was shown something of hers. */
export const mark = 'kept-by-alice';

/** Whether a guest of that vmid would be bob's. */
export function isHis(vmid: number): boolean {
  return vmid >= 200 && vmid < 300;
}

const limits = {
  cores: 8,
  memory: 8 * GiB,
  swap: 8 * GiB,
  network: 'unlimited',
  ceph: 64 * GiB,
  local: 64 * MiB,
} as const;

/** Starts the site; nothing of PVE's is looked at again by itself, so what is read later was asked for. */
export async function startTwoTenants(options: SiteOptions = {}): Promise<{
  readonly site: Site;
  readonly hers: Belongings;
  readonly his: Belongings;
}> {
  const site = await startSite({
    users: {
      alice: { ...limits, vmid: [100, 199] },
      bob: { ...limits, vmid: [200, 299] },
      // Both work with bob's guests. PVE makes carol an operator everywhere; our records give alice's pool and vmids to dave.
      carol: { ...limits, vmid: [200, 299], pools: ['bob'] },
      dave: { ...limits, vmid: [100, 299], pools: ['bob', 'alice'] },
      root: { admin: true },
    },
    refresh: { resources: 3600, storage: 3600, sweep: 3600 },
    ...options,
    config: {
      backups: { storage: 'shared' },
      tenants: { urls: ['https://images.example.org/*'] },
      ...options.config,
    },
  });
  publish(site.cluster, 'https://images.example.org/new.iso', { bytes: MiB });
  const { access } = site.cluster;
  access.addRole('QuotaImages', ['Datastore.Audit']);
  access.setAcl('/', { users: ['carol@pve'] }, 'QuotaTenant');
  access.removeAcl('/pool/alice', { users: ['dave@pve'] }, 'QuotaTenant');
  for (const name of ['alice', 'bob']) access.setAcl('/storage', { users: [`${name}@pve`] }, 'QuotaImages');
  const hers = await settle(site, 'alice', 100, `${mark} `);
  const his = await settle(site, 'bob', 200, '');
  const appliance = { package: 'own', version: '1', section: 'system' };
  publish(site.cluster, templateOf(hers), { bytes: MiB, appliance });
  const alice = await PveClient.signIn(site, 'alice');
  const fetched = await alice.post('/nodes/n1/aplinfo', { storage: 'local', template: templateOf(hers) });
  if (fetched.status !== 200) throw new Error(`${fetched.reason}: ${JSON.stringify(fetched.body)}`);
  await site.refresh();
  await site.settled();
  return { site, hers, his };
}

/** One of everything for a user whose vmids begin at `first`. */
async function settle(site: Site, name: string, first: number, text: string): Promise<Belongings> {
  const { cluster } = site;
  const user = `${name}@pve`;
  const qemuDisk = `ceph:vm-${first}-disk-0`;
  const lxcDisk = `ceph:vm-${first + 1}-disk-0`;
  const common = { cores: 1, memory: 512, description: `${text}notes`, tags: text.trim() || 'none' };
  const vm = {
    ...common,
    name: text.trim() || 'web',
    scsi0: `${qemuDisk},size=1G`,
    unused0: `ceph:vm-${first}-disk-1,size=1G`,
  };
  const container = {
    ...common,
    ...{ hostname: text.trim() || 'db', swap: 512, unprivileged: 1, rootfs: `${lxcDisk},size=1G`, ostype: 'debian' },
  };
  addGuest(cluster, { vmid: first, pool: name, status: 'running', config: vm });
  addGuest(cluster, { vmid: first + 1, type: 'lxc', pool: name, config: container });
  for (const vmid of [first, first + 1]) {
    const guest = cluster.guests.get(vmid);
    const snapshot = { name: 'before', config: new Map(guest?.config), snaptime: 1, description: `${text}snapshot` };
    guest?.snapshots.set('before', snapshot);
  }
  const backups = [
    addBackup(cluster, { vmid: first, config: vm, notes: `${text}backup` }),
    addBackup(cluster, { vmid: first + 1, type: 'lxc', config: container, notes: `${text}backup` }),
  ];
  const pool = cluster.pools.get(name);
  if (pool !== undefined) pool.comment = `${text}pool`;
  cluster.access.addGroup(`${name}s`, [user], `${text}group`);
  cluster.access.addToken(user, 'ci', { comment: `${text}token` });
  cluster.access.user(user).comment = `${text}person`;
  await site.refresh();
  const client = await PveClient.signIn(site, name);
  const upload = await uploadIso(site, client, `${name}.iso`);
  if (upload.status !== 200) throw new Error(upload.text);
  const made = await client.post('/nodes/n1/qemu', {
    vmid: first + 2,
    cores: 1,
    memory: 512,
    name: text.trim() || 'made',
  });
  if (made.status !== 200) throw new Error(`${made.reason}: ${JSON.stringify(made.body)}`);
  await site.settled();
  return {
    ...{ user, pool: name, group: `${name}s`, tokenid: 'ci', qemu: first, lxc: first + 1, qemuDisk, lxcDisk },
    ...{ qemuBackup: backups[0]?.volid ?? '', lxcBackup: backups[1]?.volid ?? '', iso: `local:iso/${name}.iso` },
    ...{ snapshot: 'before', upid: made.body.data },
  };
}

/** Sends a small image as the user; what the answer says in its status line and its body. */
export async function uploadIso(
  site: Site,
  client: PveClient,
  filename: string,
): Promise<Said & { readonly text: string }> {
  const form = new FormData();
  form.append('content', 'iso');
  form.append('filename', new Blob([new Uint8Array(1024)]), filename);
  const path = '/api2/json/nodes/n1/storage/local/upload';
  const response = await fetch(site.url + path, { method: 'POST', headers: client.headers, body: form });
  const [reason, text] = [response.statusText, await response.text()];
  return { status: response.status, reason, body: JSON.parse(text), text: `${reason} ${text}` };
}
