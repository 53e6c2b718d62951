import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { range, scale } from '../support/scale.ts';
import { GiB, startSite } from '../support/site.ts';

const plenty = {
  cores: 'unlimited',
  memory: 'unlimited',
  swap: 'unlimited',
  network: 'unlimited',
  ceph: 'unlimited',
  fast: 'unlimited',
  local: 'unlimited',
} as const;

test('a change costs at most 3 reads before it is forwarded, however many instances there are, and looking at the quota none', async () => {
  const own = scale(100, 1000);
  await using site = await startSite({
    users: { carol: { ...plenty, vmid: [100_000, 199_999] } },
    simulator: { seed: 'demo', guests: scale(900, 9000) },
  });
  for (const n of range(own)) {
    addGuest(site.cluster, {
      vmid: 100_000 + n,
      pool: 'carol',
      config: { cores: 2, memory: 1024, scsi0: `ceph:vm-${100_000 + n}-disk-0,size=8G` },
    });
  }
  await site.refresh();
  const carol = await site.signIn('carol');
  await carol.get('/user/dynamic/resources');

  const reads = async (change: () => Promise<{ status: number }>) => {
    const from = site.simulator.requests.length;
    expect((await change()).status).toBe(200);
    const asked = site.simulator.requests.slice(from);
    const forwarded = asked.findIndex(({ method, path }) => method !== 'GET' && path !== '/version');
    return asked.slice(0, forwarded).filter(({ method, path }) => method === 'GET' && path !== '/version').length;
  };
  const vm = '/cluster/n1/qemu/100050';
  expect(
    await reads(() => carol.post(`${vm}/resources`, { cores: 4, memory: 2048, proctype: 'host', boot: '' })),
  ).toBeLessThanOrEqual(3);
  expect(await reads(() => carol.post(`${vm}/disk/scsi0/resize`, { size: 4 }))).toBeLessThanOrEqual(3);
  expect(await reads(() => carol.post(`${vm}/disk/scsi1/create`, { storage: 'ceph', size: 4 }))).toBeLessThanOrEqual(3);
  expect(await reads(() => carol.post(`${vm}/disk/scsi1/move`, { storage: 'fast', delete: 1 }))).toBeLessThanOrEqual(3);
  expect(await reads(() => carol.createVm(150_000))).toBeLessThanOrEqual(3);
  expect(await reads(() => carol.delete(`${vm}/delete`))).toBeLessThanOrEqual(3);

  await site.settled();
  const from = site.simulator.requests.length;
  const quota = await carol.get('/user/dynamic/resources');
  expect(quota.body.cores.global.used).toBe((own - 1) * 2 + 1);
  expect(quota.body.ceph.global.used).toBe((own - 1) * 8 * GiB);
  expect(site.simulator.requests.slice(from).filter(({ path }) => path !== '/version')).toEqual([]);
});
