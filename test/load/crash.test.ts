import { expect, test } from 'vitest';
import { range, scale } from '../support/scale.ts';
import { type Client, GiB, type Site, startSite, until } from '../support/site.ts';

const limits = { cores: 40, memory: 200 * GiB, swap: 50 * GiB, network: 'unlimited', ceph: 200 * GiB } as const;
const vmids = range(12).map((n) => 100 + n);

test('killed at any moment of a mixed load, the server finds back to what the cluster holds', {
  timeout: 900_000,
}, async () => {
  await using site = await startSite({
    as: 'process',
    hold: 0.3,
    users: { alice: { ...limits, vmid: [100, 199] } },
    simulator: { taskPace: 20 },
  });
  for (const round of range(scale(4, 50))) {
    const alice = await site.signIn('alice');
    const load = new AbortController();
    const running = range(6).map((lane) => keepChanging(alice, lane, load.signal));
    await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 400));
    await site.kill();
    load.abort();
    await Promise.all(running);

    await site.startServer();
    const again = await site.signIn('alice');
    await until(
      `round ${round} is settled`,
      async () => site.storedReservations() === 0 && (await agrees(site, again)),
    );
    expect(site.storedReservations()).toBe(0);
  }
});

async function keepChanging(client: Client, lane: number, signal: AbortSignal): Promise<void> {
  for (let n = lane; !signal.aborted; n += 1) {
    const vmid = vmids[(n * 5 + lane) % vmids.length] ?? 100;
    const vm = `/cluster/n1/qemu/${vmid}`;
    const act = [
      () => client.createVm(vmid, { cores: 1 + (n % 4) }),
      () => client.post(`${vm}/disk/scsi0/create`, { storage: 'ceph', size: 1 + (n % 5) }),
      () =>
        client.post(`${vm}/resources`, { cores: 1 + (n % 6), memory: 512 + 128 * (n % 4), proctype: 'host', boot: '' }),
      () => client.post(`${vm}/disk/scsi0/resize`, { size: 1 }),
      () => client.delete(`${vm}/delete`),
    ][n % 5];
    await act?.().catch(() => {});
  }
}

async function agrees(site: Site, client: Client): Promise<boolean> {
  const { status, body } = await client.get('/user/dynamic/resources');
  if (status !== 200) return false;
  const truth = site.truth(vmids);
  return (
    ['cores', 'memory'].every((key) => body[key].total.used === (truth[key] ?? 0)) &&
    body.ceph.total.used === (truth['storage:ceph'] ?? 0)
  );
}
