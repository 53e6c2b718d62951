import { beforeEach, expect, test } from 'vitest';
import { runReplication } from '../../../simulator/replication.ts';
import { MiB } from '../../../simulator/sizes.ts';
import { lxc, makeWorld, qemu, type World } from './world.ts';

let world: World;
beforeEach(() => {
  world = makeWorld();
});

test('a cloud-init drive that is gone is made again, by a new writing of it', () => {
  world.vm(100, { ide2: 'ceph:cloudinit', ciuser: 'deb', cipassword: 'secret' });
  const volume = world.cluster.volumes.get('n1', 'ceph:vm-100-cloudinit');
  if (volume) world.cluster.volumes.remove(volume);
  expect(world.call('PUT', `${qemu}/cloudinit`, { vmid: 100 })).toBeNull();
  expect(world.cluster.volumes.get('n1', 'ceph:vm-100-cloudinit')?.bytes).toBe(4 * MiB);
  expect(world.call('PUT', `${qemu}/cloudinit`, { vmid: 100 })).toBeNull();
  const rows = world.call<{ key: string; value: string }[]>('GET', `${qemu}/cloudinit`, { vmid: 100 });
  expect(rows.map(({ key, value }) => [key, value])).toEqual([
    ['ciuser', 'deb'],
    ['cipassword', '**********'],
  ]);
});

test('what stands in the way of a move is told beforehand', () => {
  world.vm(100, { scsi0: 'tank:1', scsi1: 'ceph:1', hostpci0: 'mapping=gpu-a' });
  expect(world.call('GET', `${qemu}/migrate`, { vmid: 100 })).toMatchObject({
    running: 0,
    allowed_nodes: ['n2'],
    not_allowed_nodes: { n3: { unavailable_storages: ['tank'] } },
    local_disks: [{ volid: 'tank:vm-100-disk-0' }],
    'mapped-resources': ['hostpci0'],
  });
  world.container(101, { rootfs: 'ceph:1' });
  expect(world.call('GET', `${lxc}/migrate`, { vmid: 101 })).toMatchObject({ 'allowed-nodes': ['n2', 'n3'] });
});

test('what the volumes of a guest can do is told', () => {
  world.vm(100, { scsi0: 'ceph:1' });
  const has = (feature: string) => world.call('GET', `${qemu}/feature`, { vmid: 100, feature });
  expect(has('snapshot')).toEqual({ hasFeature: 1, nodes: ['n1'] });
  world.vm(101, { scsi0: 'local:1' });
  expect(world.call('GET', `${qemu}/feature`, { vmid: 101, feature: 'snapshot' })).toMatchObject({ hasFeature: 0 });
});

test('replication jobs are kept, and only for guests that exist and have what can be copied', () => {
  world.vm(100, { scsi0: 'ceph:1' });
  const create = (param: Record<string, unknown>) =>
    world.call('POST', '/cluster/replication', { id: '100-0', target: 'n2', type: 'local', ...param });
  expect(() => create({})).toThrow('No replicatable volumes found');
  world.vm(101, { scsi0: 'local:1' });
  expect(() => create({ id: '101-0' })).toThrow("missing replicate feature on volume 'local:101/vm-101-disk-0.raw'");
  world.vm(102, { scsi0: 'tank:1' });
  expect(create({ id: '102-0', schedule: '*/5' })).toBeNull();
  expect(() => create({ id: '102-0', target: 'n3' })).toThrow('already exists');
  expect(() => create({ id: '102-1' })).toThrow("to target 'local/n2' already exists");
  expect(() => create({ id: '999-0' })).toThrow("Guest '999' does not exist");
  expect(() => create({ id: '102-1', target: 'n1' })).toThrow('Source and target must not be identical');
  expect(() => world.task('DELETE', '/nodes/{node}/qemu/{vmid}', { vmid: 102 })).toThrow('There is a replication job');
  world.call('PUT', '/cluster/replication/{id}', { id: '102-0', disable: 1, delete: 'schedule' });
  expect(world.call('GET', '/cluster/replication')).toEqual([
    { id: '102-0', type: 'local', guest: 102, jobnum: 0, source: 'n1', target: 'n2', disable: 1 },
  ]);
  world.call('DELETE', '/cluster/replication/{id}', { id: '102-0' });
  expect(world.call('GET', '/cluster/replication')).toMatchObject([{ id: '102-0', remove_job: 'full' }]);
  runReplication(world.cluster);
  expect(world.call('GET', '/cluster/replication')).toEqual([]);
});

test('a replication job copies what is local and not kept out, keeps the copies like the guest, and leads back after a move', () => {
  const at = (node: string) =>
    world.cluster.volumes
      .ofGuest(100)
      .filter((volume) => volume.node === node)
      .map(({ volid, bytes }) => `${volid} ${bytes / 1024 ** 3}`)
      .sort();
  const job = { id: '100-0' };
  world.vm(100, { scsi0: 'tank:1', scsi1: 'tank:2,replicate=0', scsi2: 'ceph:1', ide2: 'tank:cloudinit' });
  world.call('POST', '/cluster/replication', { ...job, target: 'n2', type: 'local' });
  expect(at('n2')).toEqual([]);
  world.call('POST', '/nodes/{node}/replication/{id}/schedule_now', job);
  expect(at('n2')).toEqual(['tank:vm-100-disk-0 1']);
  expect(() => world.task('PUT', `${qemu}/config`, { vmid: 100, scsi3: 'fast:1' })).toThrow('non-replicatable');
  world.task('PUT', `${qemu}/resize`, { vmid: 100, disk: 'scsi0', size: '3G' });
  world.task('POST', `${qemu}/move_disk`, { vmid: 100, disk: 'scsi1', storage: 'ceph', delete: 1 });
  world.call('PUT', `${qemu}/config`, { vmid: 100, scsi4: 'tank:4' });
  runReplication(world.cluster);
  expect(at('n2')).toEqual(['tank:vm-100-disk-0 3', 'tank:vm-100-disk-1 4']);

  expect(world.task('POST', `${qemu}/migrate`, { vmid: 100, target: 'n2' })).toBe('OK');
  expect(at('n1')).toEqual(['tank:vm-100-disk-0 3', 'tank:vm-100-disk-1 4']);
  expect(at('n2')).toContain('tank:vm-100-cloudinit 0.00390625');
  expect(world.call('GET', '/cluster/replication')).toMatchObject([{ source: 'n2', target: 'n1' }]);
  expect(world.call('GET', '/nodes/{node}/replication', { node: 'n2' })).toMatchObject([{ fail_count: 0 }]);
  const online = world.cluster.nodes.get('n1');
  if (online) online.online = false;
  runReplication(world.cluster);
  expect(world.call('GET', '/nodes/{node}/replication/{id}/status', job)).toMatchObject({
    fail_count: 1,
    error: "node 'n1' is offline",
  });
});

test('a start that is half of a migration is for root alone', () => {
  world.vm(100);
  const caller = { user: 'quota-proxy@pve', token: 'quota-proxy@pve!gate' };
  const start = () => world.task('POST', `${qemu}/status/start`, { vmid: 100, stateuri: 'tcp' }, { caller });
  expect(start).toThrow('Parameter verification failed.');
});

test('a directory can be synchronised, a realm of PVE itself cannot', () => {
  const sync = (realm: string, param: Record<string, unknown> = { scope: 'both' }) =>
    world.task('POST', '/access/domains/{realm}/sync', { realm, ...param });
  expect(sync('ldap')).toBe('OK');
  expect(() => sync('pve')).toThrow('Cannot sync realm type');
  expect(() => sync('ldap', {})).toThrow('Parameter verification failed.');
});

test('the usual settings of a backup can be read', () => {
  const read = (param = {}) => world.call('GET', '/nodes/{node}/vzdump/defaults', param);
  expect(read()).toMatchObject({ mode: 'snapshot', remove: 1, 'prune-backups': 'keep-all=1' });
});
