import { expect, test } from 'vitest';
import { awaitTokenRights, readTokenRights, remedyFor } from '../../../src/admission/token-rights.ts';
import type { Upstream } from '../../../src/pve/call.ts';
import { createUpstream } from '../../../src/pve/upstream.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import { keepLog } from '../../support/kept-log.ts';
import { httpServer } from '../../support/listening.ts';
import { until } from '../../support/site.ts';

const everything = [
  ...['VM.Allocate', 'VM.Audit', 'VM.Backup', 'VM.Clone', 'VM.Migrate', 'VM.PowerMgmt', 'VM.Replicate', 'VM.Snapshot'],
  ...['CDROM', 'CPU', 'Cloudinit', 'Disk', 'HWType', 'Memory', 'Network', 'Options'].map((key) => `VM.Config.${key}`),
  ...['VM.Snapshot.Rollback', 'Datastore.Allocate', 'Datastore.AllocateSpace', 'Datastore.AllocateTemplate'],
  ...['Datastore.Audit', 'Pool.Allocate', 'Pool.Audit', 'Sys.Audit', 'SDN.Use', 'Mapping.Use', 'User.Modify'],
];

const token = { user: 'svc', realm: 'pve', id: 'gate' };

/** What speaks to that URL as the token. */
function upstreamAt(url: string): Upstream {
  const settings = upstreamSettings.parse({ url, token: { ...token, uuid: 'secret' } });
  return createUpstream(settings, { log: { warn: () => {} } });
}

/** Asks about a token that holds these everywhere; also gives the paths that were asked about. */
async function rightsWith<T>(version: string, held: readonly string[], read: (upstream: Upstream) => Promise<T>) {
  const paths: string[] = [];
  await using server = await httpServer((request, response) => {
    const path = new URL(request.url ?? '', 'http://x').searchParams.get('path');
    if (path !== null) paths.push(path);
    const privileges = Object.fromEntries(held.map((name) => [name, 1]));
    const data = path === null ? { version } : { [path]: privileges };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ data }));
  });
  const upstream = upstreamAt(server.url);
  try {
    return { rights: await read(upstream), paths };
  } finally {
    await upstream.close();
  }
}

test('a token with all that is wanted lacks nothing', async () => {
  const { rights } = await rightsWith('9.2.3', everything, readTokenRights);
  expect(rights).toEqual({ missing: [], lacking: [], excess: [] });
});

test('what only some calls need is told apart from what all need, and both are in the remedy', async () => {
  const held = everything.filter((name) => name !== 'VM.Clone' && name !== 'VM.Audit');
  const { rights } = await rightsWith('9.2.3', held, readTokenRights);
  expect(rights.missing).toEqual([{ path: '/vms', privilege: 'VM.Audit' }]);
  expect(rights.lacking).toEqual([{ path: '/vms', privilege: 'VM.Clone', for: 'clones' }]);
  expect(remedyFor(rights, token)).toContain('"VM.Audit VM.Clone"');
});

test.each([
  ['7.4-16', /^(?:SDN|Mapping)\.|^VM\.Replicate$/],
  ['8.4.5', /^VM\.Replicate$/],
])('PVE %s is not asked for what it does not know', async (version, unknown) => {
  const held = everything.filter((name) => !unknown.test(name));
  const { rights, paths } = await rightsWith(version, held, readTokenRights);
  expect(rights).toEqual({ missing: [], lacking: [], excess: [] });
  expect(paths.includes('/mapping')).toBe(!unknown.test('Mapping.Use'));
});

test('a token that could own the cluster is said to', async () => {
  const { rights } = await rightsWith('8.4.5', [...everything, 'Permissions.Modify'], readTokenRights);
  expect(rights.excess).toEqual(['Permissions.Modify']);
});

test('while the token cannot be asked about, the log says why, also when the reason changes', async () => {
  const refusals = [503, 401];
  await using server = await httpServer((_request, response) => {
    const [status = 500] = refusals.splice(0, 1);
    response.writeHead(status, { 'content-type': 'application/json' }).end('{"data":null}');
  });
  const upstream = upstreamAt(server.url);
  const { log, lines } = keepLog();
  const controller = new AbortController();
  const ended = awaitTokenRights(upstream, token, { log, signal: controller.signal, pauseMs: 1 });
  await until('it was asked three times', () => lines.length >= 3);
  controller.abort();
  await ended;
  await upstream.close();
  expect(lines[0]).toMatch(/503.*Check that \\"url\\" names a PVE host/);
  expect(lines[1]).toMatch(/401.*Check user, realm, id and uuid/);
});
