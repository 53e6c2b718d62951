import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import type { BackendContext } from '../../src/backends/index.ts';
import { backendsSchema, loadBackends } from '../../src/backends/index.ts';
import { backendContract, nobody, type Subject } from './contract.ts';

const log = { info: () => {}, warn: () => {} };
const names = ['alice', 'bob', 'admin'] as const;

/** The example as the server loads it: by its path from a configuration. */
async function load(config: unknown) {
  const entries = backendsSchema.parse({ mine: { import: './backend.ts', config } });
  // A module of one's own is given nothing of the server but its name and the log.
  const loaded = await loadBackends(entries, resolve('examples'), { log } as unknown as BackendContext);
  const mine = loaded.get('mine');
  if (mine === undefined) throw new Error('the example is not loaded');
  return mine.backend;
}

async function start(): Promise<Subject> {
  const directory = mkdtempSync(join(tmpdir(), 'people-'));
  const file = join(directory, 'people.json');
  writeFileSync(file, '{"users":{},"groups":{}}');
  const backend = await load({ file, realm: 'people', cost: 16 });
  const admin = { username: 'admin@people', cookies: {}, admin: true };
  const lab = { id: 'lab', realm: 'people' };
  for (const id of names) await backend.addUser?.({ id, realm: 'people' }, { userpassword: `${id}-secret` }, admin);
  await backend.addGroup?.(lab, {}, admin);
  await backend.addUserToGroup?.({ id: 'alice', realm: 'people' }, lab, admin);
  return {
    backend,
    realm: 'people',
    newUser: { userpassword: 'carol-secret' },
    passwordChange: (current, next) => ({ userpassword: next, oldpassword: current }),
    async [Symbol.asyncDispose]() {
      rmSync(directory, { recursive: true });
    },
  };
}

backendContract({
  name: 'the example of an own backend',
  can: ['signIn', 'attributes', 'groups', 'changeUsers', 'changeGroups', 'changePasswords'],
  start,
});

test('the example says what its settings lack, and throws where its file cannot be read', async () => {
  await expect(load({})).rejects.toThrow(/backend "mine" .* cannot be set up: it needs "file" and "realm"/);
  const backend = await load({ file: '/nowhere/people.json', realm: 'people' });
  expect(() => backend.getUser?.({ id: 'alice', realm: 'people' }, nobody)).toThrow(/ENOENT/);
});
