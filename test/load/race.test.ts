import { expect, test } from 'vitest';
import { range, scale } from '../support/scale.ts';
import { type Client, GiB, type Reply, startSite } from '../support/site.ts';

const roomy = { memory: 4096 * GiB, swap: 1024 * GiB, network: 'unlimited', ceph: 64 * GiB } as const;

/** A refusal is right only when what it says was held, with what was asked, is above the limit. */
function expectJustified(refusals: readonly Reply[]): void {
  for (const { status, body } of refusals) {
    expect([status, body.error]).toEqual([403, expect.stringContaining('Quota exceeded: ')]);
    for (const { used, reserved, requested, limit } of body.overruns)
      expect(used + reserved + requested).toBeGreaterThan(limit);
  }
}

test('of 200 parallel creates of one core exactly 8 succeed where the limit leaves room for 8', async () => {
  await using site = await startSite({ users: { alice: { ...roomy, cores: 8, vmid: [100, 999] } } });
  const alice = await site.signIn('alice');

  const replies = await Promise.all(range(200).map((n) => alice.createVm(100 + n)));

  const refused = replies.filter(({ status }) => status !== 200);
  expect(refused).toHaveLength(192);
  expectJustified(refused);
  expect(site.cluster.guests.size).toBe(8);
  await site.settled();
  expect(site.booked('alice').cores).toBe(8);
});

test('creates, growth and deletes at once never exceed the limit, and are not refused while there is room', {
  timeout: 300_000,
}, async () => {
  const limit = 24;
  await using site = await startSite({
    users: { alice: { ...roomy, cores: limit, vmid: [100, 999] } },
    refresh: { resources: 0.05, storage: 0.1, sweep: 1 },
    simulator: { taskPace: 3 },
  });
  const alice = await site.signIn('alice');
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, site.truth(site.cluster.guests.keys()).cores ?? 0);
  }, 2);
  try {
    for (const round of range(scale(3, 20))) {
      const replies = await Promise.all(range(40).map((n) => act(alice, 100 + ((round * 7 + n) % 60), n)));
      expectJustified(replies.filter(({ status, body }) => status === 403 && String(body.error).startsWith('Quota')));
      expect(replies.map(({ status }) => status)).not.toContain(500 + 3);
    }
  } finally {
    clearInterval(watch);
  }
  await site.settled();
  await site.refresh();
  expect(most).toBeGreaterThan(limit / 2);
  expect(most).toBeLessThanOrEqual(limit);
  expect(site.booked('alice')).toEqual(site.truth(site.cluster.guests.keys()));
});

function act(client: Client, vmid: number, n: number): Promise<Reply> {
  if (n % 3 === 0) return client.createVm(vmid, { cores: 1 + (n % 4) });
  if (n % 3 === 1)
    return client.post(`/cluster/n1/qemu/${vmid}/resources`, {
      cores: 1 + (n % 5),
      memory: 512,
      proctype: 'host',
      boot: '',
    });
  return client.delete(`/cluster/n1/qemu/${vmid}/delete`);
}
