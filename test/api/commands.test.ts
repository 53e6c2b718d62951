import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { commands } from '../../src/cli/commands.ts';
import { GiB, startSite, until } from '../support/site.ts';

test('an administrator sees who uses and did what, and moves a guest to another payer, while the server runs', async () => {
  const limits = { cores: 8, memory: 8 * GiB, ceph: 64 * GiB, network: 'unlimited' } as const;
  await using site = await startSite({
    users: { alice: { ...limits, vmid: [100, 199] }, bob: { ...limits, vmid: [200, 299] } },
  });
  const type = async (line: string): Promise<string> => {
    const command = commands.find(({ name }) => line === name || line.startsWith(`${name} `));
    const args = line.slice(command?.name.length).split(' ').slice(1);
    const lines: string[] = [];
    const print = (text: string) => void lines.push(text);
    expect(await command?.run({ args, configFile: site.configFile, dryRun: false, print })).toBe(0);
    return lines.join('\n');
  };
  addGuest(site.cluster, { vmid: 100, pool: 'alice', config: { cores: 3, memory: 1024, scsi0: 'ceph:32' } });
  addGuest(site.cluster, { vmid: 500, config: { cores: 1, memory: 512 } });
  await site.refresh();
  const alice = await site.signIn('alice');
  await alice.createVm(101, { cores: 2 });
  await alice.createVm(102, { cores: 64 });
  await site.settled();

  await until('all of it is written down', async () => {
    const decisions = await type('decisions');
    return decisions.includes('quota_exceeded') && !decisions.includes('not settled');
  });
  const decisions = (await type('decisions alice@pve')).split('\n');
  expect(decisions).toEqual([
    expect.stringMatching(/^20\S+Z alice@pve \S+ POST \/nodes\/n1\/qemu \(101\): allowed, OK, UPID:n1:/),
    expect.stringMatching(/ \(102\): quota_exceeded, cores: 64 more requested, 3 left/),
  ]);
  expect(await type('decisions 102')).toBe(decisions[1]);
  expect(await type('decisions bob@pve')).toBe('');

  expect(await type('usage')).toMatch(/^alice@pve +cores +global +5 Cores +8 Cores$/m);
  expect(await type('usage alice@pve')).toMatch(/^100 +n1 +cores +3 Cores$/m);

  expect(await type('owner list')).toMatch(/^500 .* NOBODY +no user claims its vmid or pool$/m);
  expect(await type('owner set 100 bob@pve')).toBe('100: paid for by bob@pve');
  expect(await type('usage bob@pve')).toMatch(/^100 +n1 +cores +3 Cores$/m);
  await until('the server knows it too', async () => {
    const { body } = await alice.get('/user/dynamic/resources');
    return body.cores.global.used === 2;
  });
});
