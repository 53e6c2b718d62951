import { expect, test } from 'vitest';
import { claimOf, Payers } from '../../../src/admission/payers.ts';
import { Directory } from '../../../src/backends/directory.ts';
import { LocalBackend } from '../../../src/backends/local.ts';
import { completeRecord, type RecordPatch } from '../../../src/backends/normalise.ts';
import { resourcesSchema } from '../../../src/quota/resources.ts';
import { Books, sighting } from '../quota/ledgers.ts';

const alice = { id: 'alice', realm: 'pve' };
const resources = resourcesSchema.parse({ memory: { type: 'numeric', multiplier: 1024 } });

const claim = (cluster: RecordPatch['cluster']) => claimOf('alice@pve', completeRecord({ cluster: cluster ?? {} }));

test('a user claims what their range and their pools cover', () => {
  expect(claim({ vmid: { min: 100, max: 199 }, pools: { a: true, b: false } })).toEqual([
    { user: 'alice@pve', vmid: { min: 100, max: 199 }, pools: new Set(['a']) },
  ]);
});

test('an administrator claims nothing', () => {
  expect(claim({ admin: true, vmid: { min: 100, max: 199 }, pools: { a: true } })).toEqual([]);
});

/** Payers of a ledger, by the records of one local backend. */
function payersOf(site: Books) {
  const local = new LocalBackend(site.database, resources);
  const directory = new Directory({
    backends: new Map([['local', { name: 'local', backend: local, keys: new Set(local.keys) }]]),
    users: { realm: { pve: ['local'] }, otherwise: [], any: ['local'] },
    pve: 'pve',
    defaultuser: { resources: { memory: { global: { max: 2 }, nodes: {} } } },
    resources,
    log: { warn: () => {} },
    now: () => performance.now(),
  });
  return { local, payers: new Payers(directory, site.ledger, resources, { warn: () => {} }) };
}

test('who pays follows the records of users as soon as they change', async () => {
  using site = new Books({});
  const { local, payers } = payersOf(site);
  site.see(sighting(100, { cores: 1 }));
  await payers.refresh();
  expect(site.ledger.payersOf(100)).toEqual([]);
  local.addUser(alice, { cluster: { vmid: { min: 100, max: 199 } } });
  await Promise.all([payers.refresh(), payers.refresh()]);
  expect(site.ledger.payersOf(100)).toEqual(['alice@pve']);
  local.delUser(alice);
  await payers.refresh();
  expect(site.ledger.payersOf(100)).toEqual([]);
});

test('a quota is in real amounts, and that of the default user for somebody of whom nothing is said', async () => {
  using site = new Books({});
  const { local, payers } = payersOf(site);
  local.addUser(alice, { resources: { memory: { global: { max: 8 } } } });
  expect((await payers.quota('alice@pve')).limits.get('memory')).toMatchObject({ global: 8192 });
  expect((await payers.quota('zoe@pve')).limits.get('memory')).toMatchObject({ global: 2048 });
  await expect(payers.quota('nobody')).rejects.toThrow(TypeError);
});

test('while a backend is away the payers of before stand, and nobody waits for it', async () => {
  using site = new Books({});
  const { local } = payersOf(site);
  local.addUser(alice, { cluster: { vmid: { min: 100, max: 199 } } });
  let version = 0;
  let answer: () => Promise<Readonly<Record<string, object>>> = async () => ({});
  const remote = { keys: ['cluster'] as const, version: () => version, getAllUsers: () => answer() };
  const directory = new Directory({
    backends: new Map([
      ['local', { name: 'local', backend: local, keys: new Set(local.keys) }],
      ['remote', { name: 'remote', backend: remote, keys: new Set(remote.keys) }],
    ]),
    users: { realm: { pve: ['local'] }, otherwise: ['remote'], any: ['local', 'remote'] },
    pve: 'pve',
    defaultuser: {},
    resources,
    log: { warn: () => {} },
    now: () => performance.now(),
  });
  const warnings: string[] = [];
  const warn = (_: unknown, message?: string) => void warnings.push(message ?? '');
  const payers = new Payers(directory, site.ledger, resources, { warn });
  site.see(sighting(100, { cores: 1 }));
  await payers.refresh();

  answer = () => Promise.reject(new Error('away'));
  version += 1;
  await payers.refresh();
  await payers.refresh();
  expect(site.ledger.payersOf(100)).toEqual(['alice@pve']);
  expect(warnings).toEqual(['a backend is away: who pays for which guest stays as it was last known']);

  answer = () => new Promise(() => {});
  version += 1;
  await payers.refresh();
  expect(site.ledger.payersOf(100)).toEqual(['alice@pve']);
});

test('before the payers were known once, a backend that is away is an error', async () => {
  using site = new Books({});
  const { payers, local } = payersOf(site);
  local.getAllUsers = () => {
    throw new Error('away');
  };
  await expect(payers.refresh()).rejects.toThrow('Backend "local" failed');
});
