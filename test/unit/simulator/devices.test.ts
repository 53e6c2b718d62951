import { describe, expect, test } from 'vitest';
import { addPciMapping } from '../../../simulator/administrator.ts';
import { alice, makeWorld, proxy, qemu, root, type World } from './world.ts';

const list = '/cluster/mapping/pci';
const one = `${list}/{id}`;
type Rows = readonly Readonly<Record<string, unknown>>[];

const first = 'id=10de:1eb8,node=n1,path=0000:41:00,iommugroup=40';
const second = 'id=10de:1eb8,node=n1,path=0000:81:00,iommugroup=80';
const start = (world: World, vmid: number) => world.task('POST', `${qemu}/status/start`, { vmid });

describe('mapped devices', () => {
  test('are listed to those who may use them, with what is wrong with them on a node', () => {
    const world = makeWorld();
    addPciMapping(world.cluster, 'wrong', [
      'id=10de:ffff,node=n1,path=0000:41:00.0',
      'id=8086:1572,node=n1,path=0000:99:00',
    ]);
    const seen = (param = {}, caller = root) => world.call<Rows>('GET', list, param, { caller });
    expect(seen()).toMatchObject([{ id: 'gpu-a', type: 'pci', map: [first] }, { id: 'wrong' }]);
    expect(seen({}, proxy)).toHaveLength(2);
    expect(seen({}, alice)).toEqual([]);
    world.cluster.access.setAcl('/mapping/pci/gpu-a', { users: ['alice@pve'] }, 'PVEMappingUser');
    expect(seen({}, alice).map(({ id }) => id)).toEqual(['gpu-a']);
    expect(seen({ 'check-node': 'n1' }).map(({ checks }) => checks)).toEqual([
      [],
      [
        { severity: 'error', message: expect.stringContaining("'id' does not match") },
        { severity: 'error', message: expect.stringContaining('not found') },
      ],
    ]);
    expect(seen({ 'check-node': 'n2' })[0]?.checks).toEqual([
      { severity: 'warning', message: 'No mapping for node n2.' },
    ]);
  });

  test('are made, changed and taken away by those who may', () => {
    const world = makeWorld();
    const make = { id: 'gpu-b', map: ['path=0000:81:00,node=n1,id=10de:1eb8'], description: 'the other' };
    expect(() => world.call('POST', list, make, { caller: proxy })).toThrow('/mapping/pci, Mapping.Modify');
    world.call('POST', list, make);
    expect(() => world.call('POST', list, make)).toThrow("pci ID 'gpu-b' already defined");
    const { digest, ...shown } = world.call<Record<string, unknown>>('GET', one, { id: 'gpu-b' });
    expect(shown).toEqual({ map: ['id=10de:1eb8,node=n1,path=0000:81:00'], description: 'the other' });
    world.call('PUT', one, { id: 'gpu-b', map: [second, first], delete: 'description', digest });
    expect(world.cluster.pciMappings.get('gpu-b')).toEqual({ id: 'gpu-b', map: [second, first] });
    expect(() => world.call('PUT', one, { id: 'gpu-b', mdev: 1, digest })).toThrow('detected modified configuration');
    world.call('DELETE', one, { id: 'gpu-b' });
    expect(() => world.call('GET', one, { id: 'gpu-b' })).toThrow('does not exist');
  });

  test.each(['node=n1,path=0000:81:00', 'id=10de:1eb8,node=n1,path=81:00', 'id=10de:1eb8,node=n1,path=0000:81:00,x=1'])(
    'are not made of %s',
    (map) => {
      const world = makeWorld();
      expect(() => world.call('POST', list, { id: 'gpu-b', map: [map] })).toThrow('Parameter verification failed.');
    },
  );
});

describe('giving a device to a VM', () => {
  test('by its name needs Mapping.Use, by its place a ticket of root@pam itself', () => {
    const world = makeWorld();
    world.vm(100, { pool: 'alice' });
    world.cluster.access.addToken('root@pam', 'ci', { privsep: false });
    world.cluster.access.setAcl('/pool/alice', { users: ['alice@pve'] }, 'PVEVMAdmin');
    const put = (hostpci0: string, caller = proxy) =>
      world.call('PUT', `${qemu}/config`, { vmid: 100, hostpci0 }, { caller });
    const rootToken = { user: 'root@pam', token: 'root@pam!ci' };
    for (const caller of [alice, proxy, rootToken]) {
      expect(() => put('0000:41:00', caller)).toThrow("only root can set 'hostpci0' config for non-mapped devices");
    }
    expect(() => put('mapping=gpu-a', alice)).toThrow('/mapping/pci/gpu-a, Mapping.Use');
    expect(() => put('pcie=1')).toThrow("either 'host' or 'mapping' must be set.");
    put('mapping=gpu-a,pcie=1');
    expect(world.config(100).hostpci0).toBe('mapping=gpu-a,pcie=1');
    put('0000:41:00', root);
    const remove = { vmid: 100, delete: 'hostpci0' };
    expect(() => world.call('PUT', `${qemu}/config`, remove, { caller: proxy })).toThrow('only root can set');
    world.call('PUT', `${qemu}/config`, remove);
    expect(world.config(100)).not.toHaveProperty('hostpci0');
  });

  test('does not take it: only the VM that runs has it', () => {
    const world = makeWorld();
    for (const vmid of [100, 101]) world.vm(vmid, { hostpci0: 'mapping=gpu-a' });
    world.vm(102, { hostpci0: '41:00.1' });
    expect(start(world, 100)).toBe('OK');
    expect(world.cluster.guests.get(100)?.devices).toEqual(['0000:41:00.0', '0000:41:00.1']);
    expect(start(world, 101)).toBe("PCI device '0000:41:00.0' already in use by VMID '100'");
    expect(start(world, 102)).toBe("PCI device '0000:41:00.1' already in use by VMID '100'");
    world.task('POST', `${qemu}/status/stop`, { vmid: 100 });
    expect(start(world, 102)).toBe('OK');
  });

  test('by a name of several gives the first that is free', () => {
    const world = makeWorld();
    addPciMapping(world.cluster, 'gpu', [first, second]);
    for (const vmid of [100, 101, 102]) {
      world.vm(vmid, { hostpci0: 'mapping=gpu' });
      start(world, vmid);
    }
    const devices = [100, 101, 102].map((vmid) => world.cluster.guests.get(vmid)?.devices[0]);
    expect(devices).toEqual(['0000:41:00.0', '0000:81:00.0', undefined]);
  });

  test('that its node does not have leaves the VM as it is', () => {
    const world = makeWorld();
    expect(
      world.task('POST', '/nodes/{node}/qemu', { vmid: 100, node: 'n2', hostpci0: 'mapping=gpu-a', start: 1 }),
    ).toBe('WARNINGS: 1');
    expect(world.cluster.guests.get(100)?.status).toBe('stopped');
    world.vm(101, { hostpci0: '0000:99:00' });
    expect(start(world, 101)).toBe("no PCI device found for '0000:99:00'");
    addPciMapping(world.cluster, 'stale', ['id=10de:0001,node=n1,path=0000:41:00']);
    world.vm(102, { hostpci0: 'mapping=stale' });
    expect(start(world, 102)).toMatch(/^PCI device mapping invalid/);
  });
});
