/** Ways past a quota through what a configuration can say, each tried in PVE's own words. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addGuest, addVolume, holdings, setConfig } from '../../simulator/administrator.ts';
import { expectRefused, expectTruth, type Metered, metered } from '../support/metered.ts';
import { GiB, type Site, startSite } from '../support/site.ts';

let site: Site;
let alice: Metered;
const vm = '/nodes/n1/qemu/100';
const ct = '/nodes/n1/lxc/101';
const guests = [100, 101];

beforeAll(async () => {
  site = await startSite({
    users: {
      alice: {
        ...{ cores: 8, memory: 8 * GiB, swap: GiB, network: 2e7, ceph: 64 * GiB, fast: 64 * GiB, vmid: [100, 199] },
        pci: [{ match: 'Tesla', max: 1 }],
      },
    },
  });
  for (const vmid of [300, 301]) addGuest(site.cluster, { vmid, config: { scsi0: `ceph:vm-${vmid}-disk-0,size=8G` } });
  await site.refresh();
  alice = await metered(site, 'alice');
});

afterAll(() => site[Symbol.asyncDispose]());

/** Makes the two guests anew, as small as they are described. */
async function anew({ running = false }: { readonly running?: boolean } = {}): Promise<void> {
  for (const vmid of guests) {
    for (const volume of site.cluster.volumes.ofGuest(vmid)) site.cluster.volumes.remove(volume);
    site.cluster.guests.delete(vmid);
  }
  const status = running ? 'running' : 'stopped';
  const card = 'bridge=vmbr0,rate=5';
  addGuest(site.cluster, {
    ...{ vmid: 100, pool: 'alice', status },
    config: { cores: 2, memory: 1024, net0: `virtio=AA:BB:CC:DD:EE:01,${card}`, scsi0: 'ceph:vm-100-disk-0,size=8G' },
  });
  addGuest(site.cluster, {
    ...{ vmid: 101, pool: 'alice', status, type: 'lxc' },
    config: {
      ...{ cores: 2, memory: 1024, swap: 0, unprivileged: 1, net0: `name=eth0,${card}` },
      rootfs: 'ceph:vm-101-disk-0,size=8G',
    },
  });
  await site.refresh();
}

const bytesOf = (vmid: number) =>
  holdings(site.cluster, vmid).volumes.reduce((total, { bytes }) => total + bytes, 0) / GiB;

describe('other words for the same thing', () => {
  beforeAll(() => anew());

  test('the write that waits and the one that does not are judged alike', async () => {
    for (const send of [alice.put, alice.post]) {
      await expectRefused(site, () => send(`${vm}/config`, { cores: 64 }), /cores: 62 more requested/);
      await expectRefused(site, () => send(`${vm}/config`, { scsi1: 'ceph:200' }), /storage ceph/);
    }
    await expectRefused(site, () => alice.post(`${vm}/config`, { cores: 64, background_delay: 5 }), /cores/);
  });

  test.each([
    ['the CD-ROM drive by its old name, as a disk', { cdrom: 'ceph:200,media=disk' }, /storage ceph/],
    ['a drive whose volume is called volume', { scsi1: 'volume=ceph:200' }, /storage ceph/],
    ['a drive whose volume is called file and comes last', { scsi1: 'ssd=1,file=ceph:200' }, /storage ceph/],
    ['sockets by their old name', { smp: 64 }, /smp.*write sockets and cores/],
    ['a card by its model and address', { net1: 'e1000=AA:BB:CC:DD:EE:02,bridge=vmbr0,rate=90' }, /network/],
    ['memory by the name of its key', { memory: 'current=65536' }, /memory/],
    ['memory given twice', { memory: '1024,current=65536' }, /memory/],
  ])('%s does not pass', async (_, params, why) => {
    await expectRefused(site, () => alice.put(`${vm}/config`, params), why);
  });

  test('the CD-ROM drive by its old name is the one that PVE means', async () => {
    expect(await alice.put(`${vm}/config`, { cdrom: 'ceph:cloudinit' })).toMatchObject({ status: 200 });
    expect(site.cluster.guests.get(100)?.config.get('ide2')).toMatch(/^ceph:vm-100-cloudinit,media=cdrom/);
    expectTruth(site, 'alice', guests);
    await alice.put(`${vm}/unlink`, { idlist: 'ide2' });
    expectTruth(site, 'alice', guests);
  });

  test('drives are deleted by one name or the other, and nothing else by the second', async () => {
    await expectRefused(site, () => alice.put(`${vm}/unlink`, { idlist: 'memory' }), /is not a disk slot/);
    expect((await alice.put(`${vm}/unlink`, { idlist: 'scsi0' })).status).toBe(200);
    expect(bytesOf(100)).toBe(8);
    expectTruth(site, 'alice', guests);
  });
});

describe('sizes that a configuration can lie about', () => {
  beforeAll(() => anew());

  test("a container's root disk counts as its storage has it, whatever size the configuration is given", async () => {
    const rootfs = 'ceph:vm-101-disk-0,size=1G';
    await expectRefused(site, () => alice.put(`${ct}/config`, { rootfs }), /has size/);
    setConfig(site.cluster, 101, { rootfs });
    await site.refresh();
    expect(site.booked('alice')['storage:ceph']).toBe(16 * GiB);
  });

  test('a root disk that the configuration forgets for another one still counts', async () => {
    await alice.put(`${ct}/config`, { mp0: 'ceph:4,mp=/data' });
    const mp0 = site.cluster.guests.get(101)?.config.get('mp0')?.split(',')[0] ?? '';
    await alice.put(`${ct}/config`, { delete: 'mp0' });
    await alice.put(`${ct}/config`, { rootfs: mp0 });
    await site.refresh();
    expect(site.booked('alice')['storage:ceph']).toBe(20 * GiB);
    expectTruth(site, 'alice', guests);
  });

  test.each(['ceph:0', 'ceph:0.0005', 'ceph:0.0009'])(
    'a mount point of size %s is one without a limit',
    async (text) => {
      await expectRefused(site, () => alice.put(`${ct}/config`, { mp1: `${text},mp=/x` }), /needs an unlimited quota/);
    },
  );
});

describe('volumes that no configuration names', () => {
  beforeAll(() => anew());

  test('an image that was attached as a CD-ROM and then deleted still counts', async () => {
    await alice.put(`${vm}/config`, { scsi1: 'ceph:10' });
    await alice.put(`${vm}/config`, { delete: 'scsi1' });
    const unused = site.cluster.guests.get(100)?.config.get('unused0') ?? '';
    await alice.put(`${vm}/config`, { ide0: `${unused},media=cdrom` });
    expect(site.booked('alice')['storage:ceph']).toBe(26 * GiB);
    await alice.put(`${vm}/config`, { delete: 'ide0' });
    await site.refresh();
    expect(bytesOf(100)).toBe(18);
    expectTruth(site, 'alice', guests);
  });

  test('an unused volume cannot be overwritten with another one', async () => {
    const unused0 = 'ceph:vm-100-disk-0';
    await expectRefused(site, () => alice.put(`${vm}/config`, { unused0 }), /unused0: not allowed: PVE would lose/);
    await expectRefused(site, () => alice.put(`${ct}/config`, { unused0 }), /unused0: not allowed: PVE would lose/);
  });

  test("a container's unused volume that a snapshot needs counts after its entry has gone", async () => {
    await alice.put(`${ct}/config`, { mp0: 'ceph:4,mp=/data' });
    await alice.post(`${ct}/snapshot`, { snapname: 'before' });
    await alice.put(`${ct}/config`, { delete: 'mp0' });
    await alice.put(`${ct}/config`, { delete: 'unused0' });
    await site.refresh();
    expect(bytesOf(101)).toBe(12);
    expectTruth(site, 'alice', guests);
  });
});

describe('limits that are left out', () => {
  beforeAll(() => anew());

  test.each<[string, string, Record<string, string | number>, RegExp]>([
    ['the cores of a container', ct, { delete: 'cores' }, /cores: 14 more requested/],
    ['the rate of a card', vm, { net0: 'virtio,bridge=vmbr0' }, /network.*unlimited/],
    ['the rate of a card, as 0', ct, { net0: 'name=eth0,bridge=vmbr0,rate=0' }, /network.*unlimited/],
    ['the bridge, without which no rate works', vm, { net0: 'virtio,rate=1' }, /network.*unlimited/],
    ['a rate below zero', ct, { net1: 'name=eth1,bridge=vmbr0,rate=-100' }, /rate must not be negative/],
  ])('%s cannot be', async (_, guest, params, why) => {
    await expectRefused(site, () => alice.put(`${guest}/config`, params), why);
  });

  test('processors and memory that come later count now', async () => {
    await expectRefused(site, () => alice.put(`${vm}/config`, { cores: 32, vcpus: 1 }), /cores/);
    await expectRefused(site, () => alice.put(`${vm}/config`, { memory: 65_536, balloon: 512 }), /memory/);
  });
});

describe('changes that wait for the next start', () => {
  beforeAll(() => anew({ running: true }));

  test('give nothing back while the guest runs as large as it was', async () => {
    expect((await alice.put(`${vm}/config`, { cores: 1, memory: 512 })).status).toBe(200);
    expect(site.booked('alice')).toMatchObject({ cores: 4, memory: 2 * GiB });
    await expectRefused(site, () => alice.put(`${ct}/config`, { cores: 7 }), /cores: 5 more requested, 4 left/);
    expectTruth(site, 'alice', guests);
  });

  test('are judged when they are taken back', async () => {
    expect((await alice.put(`${vm}/config`, { revert: 'cores' })).status).toBe(200);
    expect(site.booked('alice').cores).toBe(4);
    // Somebody at the cluster has made it larger meanwhile, and the tenant has made it small again.
    setConfig(site.cluster, 100, { cores: 8 });
    await alice.put(`${vm}/config`, { cores: 2 });
    expectTruth(site, 'alice', guests);
  });

  test('free no disk that is still in use', async () => {
    await alice.put(`${vm}/config`, { sata0: 'ceph:4' });
    const before = site.booked('alice')['storage:ceph'];
    await alice.put(`${vm}/config`, { delete: 'sata0', force: 1 });
    expectTruth(site, 'alice', guests);
    expect(site.booked('alice')['storage:ceph']).toBeLessThanOrEqual(before ?? 0);
  });
});

describe('things of the host', () => {
  beforeAll(() => anew());

  test.each([
    ['several devices in one slot', { hostpci0: '0000:41:00;0000:81:00' }, /hostpci0/],
    ['a part of a device', { hostpci0: '0000:41:00,mdev=nvidia-1' }, /hostpci0/],
    ['a shared directory', { virtiofs0: 'data' }, /virtiofs0: not allowed: a shared host directory has no limit/],
    ['a USB device by a mapping', { usb0: 'mapping=stick' }, /usb0/],
    ['a USB device by its port', { usb0: 'host=1-2' }, /usb0/],
    ['a serial device', { serial0: '/dev/ttyS0' }, /serial0/],
    ['raw arguments', { args: '-drive file=/dev/sda' }, /args: not allowed/],
    ['a script', { hookscript: 'local:snippets/x.pl' }, /hookscript: not allowed/],
    ['a lock', { lock: 'backup' }, /lock: not allowed/],
  ])('%s cannot be had', async (_, params, why) => {
    await expectRefused(site, () => alice.put(`${vm}/config`, params), why);
    await expectRefused(site, () => alice.post('/nodes/n1/qemu', { vmid: 110, ...params }), why);
  });

  test('a display that the client brings can', async () => {
    expect((await alice.put(`${vm}/config`, { usb0: 'spice,usb3=1' })).status).toBe(200);
  });

  test('a guest does not count less by calling itself a template', async () => {
    for (const template of [1, 0])
      await expectRefused(site, () => alice.put(`${vm}/config`, { template }), /template: not allowed/);
    await expectRefused(site, () => alice.post('/nodes/n1/qemu', { vmid: 110, template: 1 }), /template: not allowed/);
    expect((await alice.post(`${vm}/template`)).status).toBe(200);
    expectTruth(site, 'alice', guests);
    await expectRefused(
      site,
      () => alice.put(`${vm}/config`, { delete: 'template' }),
      /is not a key that may be changed/,
    );
  });

  test("volumes of others are no use under any slot's name", async () => {
    addVolume(site.cluster, { volid: 'ceph:vm-300-disk-9', content: 'images', bytes: GiB });
    for (const slot of ['scsi3', 'ide1', 'efidisk0', 'tpmstate0'])
      await expectRefused(site, () => alice.put(`${vm}/config`, { [slot]: 'ceph:vm-300-disk-9' }), /not allowed/);
  });
});
