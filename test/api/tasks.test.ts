import { expect, test } from 'vitest';
import { GiB, startSite } from '../support/site.ts';

const limits = { cores: 8, memory: 64 * GiB, network: 'unlimited' } as const;

test('a task that runs longer than the request waits can be followed by the user who asked for it, and by nobody else', async () => {
  await using site = await startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, vmid: [200, 299] } },
    simulator: { taskPace: 'by hand' },
    taskWait: 0.1,
  });
  const [alice, bob] = [await site.signIn('alice'), await site.signIn('bob')];

  const { status, body } = await alice.createVm(100);

  expect([status, body.status]).toEqual([200, 'running']);
  const task = `/proxmox/nodes/n1/tasks/${body.upid}/status`;
  expect((await alice.get(task)).body.data.status).toBe('running');
  expect((await bob.get(task)).status).toBe(403);

  expect((await alice.get('/proxmox/nodes/n1/qemu/100/status/current')).status).toBe(200);
  expect((await bob.get('/proxmox/nodes/n1/qemu/100/status/current')).status).toBe(403);

  site.cluster.tasks.finish(body.upid);
  await site.settled();
  expect((await alice.get(task)).body.data.exitstatus).toBe('OK');
  expect((await alice.get(`/proxmox/nodes/n1/tasks/${body.upid}/log`)).status).toBe(200);
});
