import { describe, expect, test } from 'vitest';
import type { Backend, BackendChange, BackendData, BackendResult, RecordKey } from '../../../src/backends/backend.ts';
import { applyAll, type ChangeResult } from '../../../src/backends/changes.ts';
import type { LoadedBackend } from '../../../src/backends/index.ts';
import type { Ask } from '../../../src/backends/memberships.ts';
import { stepsFor } from '../../../src/backends/steps.ts';
import { UpstreamBrokenError, UpstreamDeadlineError } from '../../../src/errors.ts';

const done: BackendResult = { ok: true, status: 200, message: '' };
const refused: BackendResult = { ok: false, status: 403, message: 'not today' };
const carol = { id: 'carol', realm: 'ldap' };
const lab = { id: 'lab', realm: 'ldap' };
const ask: Ask = async (_, question) => question();
const admin = { username: 'root@ldap', cookies: {}, admin: true };

/** How a backend goes wrong: at which of its calls, and how. */
type Failure = 'refuses to check' | 'refuses' | 'fails before it acts' | 'fails after it has acted' | 'dies';

interface Memory extends LoadedBackend {
  readonly users: Map<string, BackendData>;
  readonly passwords: Map<string, unknown>;
  failure: Failure | undefined;
  /** Its users cannot be put back, since every change but the first fails. */
  stubborn: boolean;
}

/** A backend that keeps users in memory, as somebody might write it, and goes wrong when told. */
function memory(name: string, keys: readonly RecordKey[]): Memory {
  const users = new Map<string, BackendData>();
  const passwords = new Map<string, unknown>();
  let changes = 0;
  const act = (work: () => void): BackendResult => {
    if (self.failure === 'refuses') return refused;
    if (self.failure === 'fails before it acts') throw new UpstreamBrokenError(`Backend "${name}": broken`);
    changes += 1;
    if (self.stubborn && changes > 1) return refused;
    work();
    if (self.failure === 'fails after it has acted' && changes === 1)
      throw new UpstreamBrokenError(`Backend "${name}": lost`);
    if (self.failure === 'dies') throw new UpstreamBrokenError(`Backend "${name}": gone`);
    return done;
  };
  const put = (id: string, { userpassword, ...attributes }: Readonly<Record<string, unknown>>) => {
    if (userpassword !== undefined) passwords.set(id, userpassword);
    const before = users.get(id) ?? {};
    const given = Object.entries(attributes).filter(([, value]) => value !== null);
    const gone = Object.keys(attributes).filter((key) => attributes[key] === null);
    const kept = keys.includes('attributes') ? before.attributes : before;
    const now = Object.fromEntries([...Object.entries(Object(kept)), ...given].filter(([key]) => !gone.includes(key)));
    users.set(id, keys.includes('attributes') ? { attributes: now } : now);
  };
  const backend: Backend = {
    keys,
    check: () => (self.failure === 'refuses to check' ? refused : null),
    openSession: () => done,
    getUser({ id }) {
      if (self.failure === 'dies' && changes > 0) throw new UpstreamBrokenError(`Backend "${name}": gone`);
      return users.get(id) ?? null;
    },
    addUser: ({ id }, attributes) => act(() => put(id, attributes)),
    setUser: ({ id }, attributes) => act(() => put(id, attributes)),
    delUser: ({ id }) => act(() => users.delete(id)),
  };
  const self: Memory = { name, backend, keys: new Set(keys), users, passwords, failure: undefined, stubborn: false };
  return self;
}

const threeBackends = () => [
  memory('pve', ['attributes']),
  memory('ldap', ['attributes']),
  memory('localdb', ['cluster']),
];

function make(backends: readonly Memory[], change: BackendChange): Promise<ChangeResult> {
  const seen = backends.map((loaded) => ({ loaded, holds: true, before: loaded.users.get(carol.id) ?? null }));
  return applyAll(stepsFor(change, seen), admin, ask);
}

const held = (backends: readonly Memory[]) => backends.map(({ users }) => structuredClone(Object.fromEntries(users)));
const pools = { pools: { lab: true } };
const added = {
  method: 'addUser',
  user: carol,
  attributes: { cn: 'Carol', userpassword: 'secret', cluster: pools },
} as const;
const set = {
  method: 'setUser',
  user: carol,
  attributes: { cn: 'Caroline', mail: 'c@example.org', cluster: {} },
} as const;
const removed = { method: 'delUser', user: carol } as const;

const failures: readonly Failure[] = [
  'refuses to check',
  'refuses',
  'fails before it acts',
  'fails after it has acted',
  'dies',
];
const cases = ([added, set, removed] as const).flatMap((change) =>
  [0, 1, 2].flatMap((index) => failures.map((failure) => ({ change, method: change.method, index, failure }))),
);

describe('a change at several backends', () => {
  test.each([added, set, removed])('is made at each of them ($method)', async (change) => {
    const backends = threeBackends();
    if (change !== added) await make(backends, added);
    const result = await make(backends, change);
    expect(result).toMatchObject({
      ok: true,
      allResponses: [{ outcome: 'done' }, { outcome: 'done' }, { outcome: 'done' }],
    });
    const wanted = {
      addUser: [{ attributes: { cn: 'Carol' } }, { attributes: { cn: 'Carol' } }, { cluster: pools }],
      setUser: [{ attributes: { cn: 'Caroline' } }, { attributes: { cn: 'Caroline' } }, { cluster: {} }],
      delUser: [undefined, undefined, undefined],
    }[change.method];
    expect(backends.map(({ users }) => users.get('carol'))).toMatchObject(wanted);
  });

  test.each(cases)(
    'is nowhere, or is reported, when backend $index $failure ($method)',
    async ({ change, index, failure }) => {
      const backends = threeBackends();
      for (const { keys, users } of backends)
        if (change !== added)
          users.set('carol', keys.has('attributes') ? { attributes: { cn: 'Carol' } } : { cluster: pools });
      const before = held(backends);
      const failing = backends[index];
      if (failing !== undefined) failing.failure = failure;

      const result = await make(backends, change);
      const after = held(backends);
      expect(result).toMatchObject({ ok: false, status: expect.any(Number), message: expect.stringMatching(/\w/) });
      expect(result.status).toBeGreaterThanOrEqual(400);
      expect(result.allResponses.map(({ backend }) => backend).toSorted()).toEqual(['ldap', 'localdb', 'pve']);
      for (const [at, { name }] of backends.entries()) {
        const { outcome } = result.allResponses.find(({ backend }) => backend === name) ?? {};
        const isSame = JSON.stringify(after[at]) === JSON.stringify(before[at]);
        // Whatever differs is said to, and what is said to be as before is.
        if (isSame) expect(['refused', 'failed', 'undone', 'untouched', 'unknown'], name).toContain(outcome);
        else {
          expect(['kept', 'unknown'], name).toContain(outcome);
          expect(result.message).toContain(`"${name}"`);
        }
      }
      const changed = backends.filter((_, at) => JSON.stringify(after[at]) !== JSON.stringify(before[at]));
      // Left is only who alone remembered what was removed, and who is gone for good.
      for (const one of changed) {
        const isGone = one === failing && failure === 'dies';
        expect(isGone || (change === removed && one.keys.has('attributes')), one.name).toBe(true);
      }
      if (changed.length === 0 && failure !== 'dies') expect(result.message).toMatch(/nothing is changed$/);
    },
  );

  test('that cannot be undone says so for the backend, and why', async () => {
    const backends = threeBackends();
    const [pve, ldap] = backends;
    if (pve === undefined || ldap === undefined) throw new Error('there are three');
    pve.stubborn = true;
    ldap.failure = 'refuses';
    const result = await make(backends, added);
    expect(result).toMatchObject({
      status: 403,
      message: 'not today; backend "pve" is changed all the same (not today)',
      allResponses: [{ outcome: 'kept' }, { outcome: 'refused' }, { backend: 'localdb', outcome: 'untouched' }],
    });
  });

  test('is not known to have failed where the answer came too late: it may still be made', async () => {
    const backends = threeBackends();
    const [, , localdb] = backends;
    if (localdb === undefined) throw new Error('there are three');
    const late = { ...localdb.backend, addUser: () => Promise.reject(new UpstreamDeadlineError('no answer in 1 s')) };
    const seen = [...backends.slice(0, 2), { ...localdb, backend: late }];
    const result = await make(seen, added);
    expect(result).toMatchObject({
      status: 504,
      message: expect.stringContaining('backend "localdb" may be changed or not'),
      allResponses: [{ outcome: 'undone' }, { outcome: 'undone' }, { outcome: 'unknown' }],
    });
  });

  test('stores passwords last, and says when one cannot be put back', async () => {
    const backends = threeBackends();
    await make(backends, added);
    const change = { method: 'setUser', user: carol, attributes: { userpassword: 'other', cluster: {} } } as const;
    const [, ldap, localdb] = backends;
    if (ldap === undefined || localdb === undefined) throw new Error('there are three');
    ldap.failure = 'refuses';
    const result = await make(backends, change);
    expect(result.allResponses.map(({ backend, outcome }) => [backend, outcome])).toEqual([
      ['localdb', 'undone'],
      ['pve', 'kept'],
      ['ldap', 'refused'],
    ]);
    expect(localdb.users.get('carol')).toEqual({ cluster: pools });
  });
});

describe('the steps of a change', () => {
  const seen = (backends: readonly Memory[], ...before: (BackendData | null)[]) =>
    backends.map((loaded, index) => ({ loaded, holds: true, before: before[index] ?? null }));

  test('give a record to whom another backend knows already', () => {
    const steps = stepsFor(
      { method: 'setUser', user: carol, attributes: { cluster: pools } },
      seen(threeBackends(), null, { attributes: {} }, null),
    );
    expect(steps.map(({ loaded, change }) => [loaded.name, change.method])).toEqual([['localdb', 'addUser']]);
  });

  test('remove first what can be brought back', () => {
    const known = [{ attributes: {} }, { attributes: {} }, { cluster: {} }];
    expect(stepsFor(removed, seen(threeBackends(), ...known)).map(({ loaded }) => loaded.name)).toEqual([
      ...['localdb', 'pve', 'ldap'],
    ]);
  });

  test.each([
    [
      'a user who is there already',
      added,
      [null, { attributes: {} }],
      /carol@ldap is there already, at backend "ldap"/,
    ],
    ['a user who is not there', set, [], /carol@ldap does not exist/],
    [
      'a member of a group that nobody has',
      { method: 'addUserToGroup', user: carol, group: lab } as const,
      [],
      /lab@ldap does not exist/,
    ],
    [
      'a group that nobody keeps',
      { method: 'addGroup', group: lab, attributes: {} } as const,
      [],
      /no backend can keep group lab@ldap/,
    ],
    [
      'what nobody stores',
      { method: 'addUser', user: carol, attributes: { templates: {} } } as const,
      [],
      /templates: no backend of user carol@ldap can store it/,
    ],
  ] as const)('are none for %s', (_, change, before, message) => {
    expect(() => stepsFor(change, seen(threeBackends(), ...before))).toThrow(message);
  });

  test('are none when a backend that knows the user cannot remove them', () => {
    const backends = threeBackends();
    const [pve, ldap] = backends;
    if (pve === undefined || ldap === undefined) throw new Error('there are three');
    const { delUser: _, ...readable } = ldap.backend;
    const known = [{ attributes: {} }, { attributes: {} }, null];
    expect(() => stepsFor(removed, seen([pve, { ...ldap, backend: readable }], ...known))).toThrow(
      /Backend "ldap" cannot do this .* nothing is changed/,
    );
  });
});
