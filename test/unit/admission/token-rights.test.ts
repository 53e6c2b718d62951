import { expect, test } from 'vitest';
import { readTokenRights, remedyFor } from '../../../src/admission/token-rights.ts';
import type { Upstream } from '../../../src/pve/call.ts';
import { createUpstream } from '../../../src/pve/upstream.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import { httpServer } from '../../support/listening.ts';

const everything = [
  ...['VM.Allocate', 'VM.Audit', 'VM.Backup', 'VM.Clone', 'VM.Migrate', 'VM.PowerMgmt', 'VM.Replicate', 'VM.Snapshot'],
  ...['CDROM', 'CPU', 'Cloudinit', 'Disk', 'HWType', 'Memory', 'Network', 'Options'].map((key) => `VM.Config.${key}`),
  ...['VM.Snapshot.Rollback', 'Datastore.Allocate', 'Datastore.AllocateSpace', 'Datastore.AllocateTemplate'],
  ...['Datastore.Audit', 'Pool.Allocate', 'Pool.Audit', 'Sys.Audit', 'SDN.Use', 'Mapping.Use', 'User.Modify'],
];

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
  const token = { user: 'svc', realm: 'pve', id: 'gate', uuid: 'secret' };
  const settings = upstreamSettings.parse({ url: server.url, token });
  const upstream = createUpstream(settings, { log: { warn: () => {} } });
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
  expect(remedyFor(rights, { user: 'svc', realm: 'pve', id: 'gate' })).toContain('"VM.Audit VM.Clone"');
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
