import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writePair } from '../support/certificates.ts';
import { GiB, type Site, startSite } from '../support/site.ts';

/** Debian's own Python, which finds Debian's own packages. */
const python = '/usr/bin/python3';
const installed = spawnSync(python, ['-c', 'import proxmoxer']).status === 0;
const skip = !installed && process.env.CI !== 'true';
const reason = skip ? ' (python3-proxmoxer not installed)' : '';

let folder: string;
let site: Site | undefined;
beforeAll(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), 'proxmoxer-'));
  const { settings } = await writePair(folder);
  site = await startSite({
    users: {
      alice: {
        cores: 8,
        memory: 8 * GiB,
        swap: GiB * 2,
        network: 'unlimited',
        ceph: 60 * GiB,
        vmid: [100, 199],
      },
    },
    config: { application: { hostname: 'localhost', listenPort: 0, tls: settings } },
  });
});
afterAll(async () => {
  await site?.[Symbol.asyncDispose]();
  if (folder !== undefined) await rm(folder, { recursive: true });
});

/** Runs the session; what it saw, or throws what it died of. */
async function session(secret: Readonly<Record<string, string>>): Promise<unknown> {
  const child = spawn(python, ['test/support/proxmoxer-session.py'], { stdio: 'pipe' });
  const given = { host: new URL(site?.url ?? '').host, user: 'alice@pve', pool: 'alice', secret };
  child.stdin.end(JSON.stringify(given));
  const [output, errors] = await Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
  const text = Buffer.concat(output).toString();
  if (text === '') throw new Error(Buffer.concat(errors).toString());
  return JSON.parse(text);
}

const overQuota = {
  status: 403,
  text: expect.stringMatching(/^403 Forbidden: Quota exceeded: cores: \d+ more requested, \d left \(\d used/),
};
const aLife = {
  create: 'OK',
  configured: [3, 2048],
  size: ['size=10G'],
  snapshot: 'OK',
  clone: 'OK',
  start: 'OK',
  running: 'running',
  'over quota': overQuota,
  'new one over quota': overQuota,
  stop: 'OK',
  delete: ['OK', 'OK'],
  vmids: [100, 101],
  listed: [100, 101],
};

test.skipIf(skip).each(['a password', 'an API token'])(
  `proxmoxer works with %s as with PVE itself, up to the quota${reason}`,
  async (shown) => {
    if (site === undefined) throw new Error('there is no site');
    const secret =
      shown === 'a password'
        ? { password: 'alice-secret' }
        : { token_name: 'ci', token_value: site.cluster.access.addToken('alice@pve', 'ci', { privsep: false }) };
    expect(await session(secret)).toEqual({
      version: expect.stringMatching(/^\d/),
      nodes: ['n1', 'n2', 'n3'],
      qemu: aLife,
      lxc: aLife,
    });
    await site.settled();
    await site.refresh();
    expect(Object.values(site.booked('alice')).filter((amount) => amount !== 0)).toEqual([]);
  },
);

test.skipIf(skip)(`proxmoxer says of a wrong password what it says of it at PVE${reason}`, async () => {
  await expect(session({ password: 'wrong' })).rejects.toThrow(/AuthenticationError: Couldn't authenticate user/);
});
