import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addGuest, addVolume, destroyGuest, resizeVolume, setConfig } from '../../simulator/administrator.ts';
import { scale } from '../support/scale.ts';
import { type Client, GiB, type Site, startSite } from '../support/site.ts';

const plenty = {
  cores: 64,
  memory: 256 * GiB,
  swap: 64 * GiB,
  network: 'unlimited',
  ceph: 512 * GiB,
  fast: 256 * GiB,
  local: 'unlimited',
} as const;
const vms = [100, 101, 102];
const containers = [110, 111];

/** One step: an operation by the tenant through the server, or by an administrator at the cluster itself. */
interface Step {
  readonly vmid: number;
  readonly what: keyof typeof tenant | keyof typeof administrator;
  readonly amount: number;
}

const slots = ['scsi0', 'scsi1', 'sata0', 'ide0'] as const;
const slotOf = (amount: number) => slots[amount % slots.length] ?? 'scsi0';

const tenant = {
  createVm: (alice: Client, vmid: number, amount: number) =>
    alice.createVm(vmid, { cores: amount, memory: 256 * amount }),
  createContainer: (alice: Client, vmid: number, amount: number) =>
    alice.createContainer(vmid, { cores: amount, rootfssize: amount }),
  destroy: async (alice: Client, vmid: number) => {
    await alice.delete(`/cluster/n1/qemu/${vmid}/delete`);
    return alice.delete(`/cluster/n1/lxc/${vmid}/delete`);
  },
  resources: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/qemu/${vmid}/resources`, {
      cores: amount,
      memory: 256 * amount,
      proctype: 'host',
      boot: '',
    }),
  containerResources: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/lxc/${vmid}/resources`, { cores: amount, memory: 256 * amount, swap: 128 * amount }),
  addDisk: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/qemu/${vmid}/disk/${slotOf(amount)}/create`, {
      storage: amount % 2 === 0 ? 'ceph' : 'fast',
      size: amount,
    }),
  addMount: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/lxc/${vmid}/disk/mp${amount % 3}/create`, { storage: 'ceph', size: amount }),
  growDisk: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/qemu/${vmid}/disk/${slotOf(amount)}/resize`, { size: amount }),
  growRoot: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/lxc/${vmid}/disk/rootfs/resize`, { size: amount }),
  moveDisk: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/qemu/${vmid}/disk/${slotOf(amount)}/move`, {
      storage: amount % 2 === 0 ? 'fast' : 'ceph',
      delete: amount % 3 === 0 ? 0 : 1,
    }),
  detach: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/qemu/${vmid}/disk/${slotOf(amount)}/detach`),
  attach: (alice: Client, vmid: number, amount: number) =>
    alice.post(`/cluster/n1/qemu/${vmid}/disk/${slotOf(amount)}/attach`, { source: amount % 2 }),
  deleteUnused: (alice: Client, vmid: number, amount: number) =>
    alice.delete(`/cluster/n1/qemu/${vmid}/disk/unused${amount % 2}/delete`),
  start: (alice: Client, vmid: number) => alice.post(`/proxmox/nodes/n1/qemu/${vmid}/status/start`),
  stop: (alice: Client, vmid: number) => alice.post(`/proxmox/nodes/n1/qemu/${vmid}/status/stop`),
};

const administrator = {
  hiddenCreate: ({ cluster }: Site, vmid: number, amount: number) => {
    if (!cluster.guests.has(vmid))
      addGuest(cluster, {
        vmid,
        pool: 'alice',
        config: { cores: amount, memory: 128 * amount, scsi0: `ceph:vm-${vmid}-disk-9,size=${amount}G` },
      });
  },
  hiddenChange: ({ cluster }: Site, vmid: number, amount: number) => {
    if (cluster.guests.has(vmid)) setConfig(cluster, vmid, { cores: amount, memory: 128 * amount });
  },
  hiddenDestroy: ({ cluster }: Site, vmid: number) => {
    if (cluster.guests.has(vmid)) destroyGuest(cluster, vmid);
  },
  hiddenGrowth: ({ cluster }: Site, vmid: number, amount: number) => {
    const [volume] = cluster.guests.has(vmid) ? cluster.volumes.ofGuest(vmid) : [];
    if (volume !== undefined && volume.bytes > 0)
      resizeVolume(cluster, vmid, volume.volid, volume.bytes + amount * GiB);
  },
  orphan: ({ cluster }: Site, vmid: number, amount: number) => {
    const volid = `ceph:vm-${vmid}-disk-${20 + amount}`;
    if (cluster.volumes.get('n1', volid) === undefined)
      addVolume(cluster, { volid, content: 'images', bytes: amount * GiB });
  },
};

const onVms = [
  'createVm',
  'createVm',
  'resources',
  'addDisk',
  'addDisk',
  'growDisk',
  'moveDisk',
  'detach',
  'attach',
  'deleteUnused',
  'start',
  'stop',
  'destroy',
] as const;
const onContainers = [
  'createContainer',
  'createContainer',
  'containerResources',
  'addMount',
  'growRoot',
  'destroy',
] as const;
const hidden = Object.keys(administrator) as (keyof typeof administrator)[];

function stepOn(vmids: readonly number[], names: readonly Step['what'][]): fc.Arbitrary<Step> {
  return fc.record({
    vmid: fc.constantFrom(...vmids),
    what: fc.constantFrom(...names),
    amount: fc.integer({ min: 1, max: 12 }),
  });
}

const step = fc.oneof(
  { weight: 4, arbitrary: stepOn(vms, onVms) },
  { weight: 2, arbitrary: stepOn(containers, onContainers) },
  { weight: 1, arbitrary: stepOn([...vms, ...containers], hidden) },
);

test('after any operations, through the server and past it, the ledger holds exactly what the cluster holds', {
  timeout: 1_800_000,
}, async () => {
  const stepsInAll = scale(200, 10_000);
  const stepsEach = 100;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: stepsEach, maxLength: stepsEach, size: 'max' }), async (steps) => {
      await using site = await startSite({ users: { alice: { ...plenty, vmid: [100, 199] } } });
      const alice = await site.signIn('alice');
      for (const { what, vmid, amount } of steps) {
        if (what in tenant) {
          const reply = await tenant[what as keyof typeof tenant](alice, vmid, amount);
          expect([200, 400, 403, 404, 409, 500], JSON.stringify(reply.body)).toContain(reply.status);
        } else {
          administrator[what as keyof typeof administrator](site, vmid, amount);
          await site.refresh();
        }
        await site.settled();
        if (what === 'start' || what === 'stop') await site.refresh();
        expect(site.booked('alice')).toEqual(site.truth([...vms, ...containers]));
      }
    }),
    { numRuns: stepsInAll / stepsEach, endOnFailure: true },
  );
});
