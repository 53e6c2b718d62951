import { expect, test } from 'vitest';
import { UpstreamDeadlineError, UpstreamUnreachableError } from '../../../src/errors.ts';
import { Hosts } from '../../../src/pve/hosts.ts';
import { inTurn } from '../../../src/pve/in-turn.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';

const url = ['https://pve1.example.org:8006', 'https://pve2.example.org:8006'];
const token = { user: 'svc', realm: 'pve', id: 'gate', uuid: 'top-secret' };

test.each([
  ['did not answer in time', new UpstreamDeadlineError('late'), [1, 0]],
  ['had no connection left for a request until its time was over', new UpstreamUnreachableError('busy'), [0, 1]],
])('when a host %s, the hosts are asked in this order from then on', async (_what, error, order) => {
  await using closing = new AsyncDisposableStack();
  const hosts = new Hosts(upstreamSettings.parse({ url, token }), { log: { warn: () => {} } });
  closing.defer(() => hosts.close());
  const attempt = async () => {
    throw error;
  };
  await expect(inTurn(hosts, { repeatable: true, isOver: () => true, attempt })).rejects.toBe(error);
  expect(hosts.inOrder().map(({ origin }) => url.indexOf(origin))).toEqual(order);
});
