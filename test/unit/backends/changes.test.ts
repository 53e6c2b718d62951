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
type Failure = (typeof failures)[number];
const failures = [
  'refuses to check',
  'cannot be asked to check',
  'refuses',
  'fails before it acts',
  'fails after it has acted',
  'answers too late',
  'acts when it was given up',
  'dies',
] as const;

type Attributes = Readonly<Record<string, unknown>>;

interface Memory extends LoadedBackend {
  /** Users and groups, by `user carol`. */
  readonly things: Map<string, BackendData>;
  readonly passwords: Map<string, unknown>;
  failure: Failure | undefined;
  /** What it has done cannot be put back, since every change but the first is refused. */
  stubborn: boolean;
  /** What it does when nobody waits for it any more. */
  readonly late: (() => void)[];
}

/** A backend that keeps users and groups in memory, as somebody might write it, and goes wrong when told. */
function memory(name: string, keys: readonly RecordKey[]): Memory {
  const things = new Map<string, BackendData>();
  const passwords = new Map<string, unknown>();
  const describes = keys.includes('attributes');
  const broken = (what: string) => new UpstreamBrokenError(`Backend "${name}": ${what}`);
  let changes = 0;
  const act = (work: () => void): BackendResult => {
    const { failure } = self;
    if (failure === 'refuses') return refused;
    if (failure === 'fails before it acts') throw broken('broken');
    changes += 1;
    if (self.stubborn && changes > 1) return refused;
    if (failure === 'acts when it was given up' && changes === 1) {
      self.late.push(work);
      throw new UpstreamDeadlineError('no answer in 1 s');
    }
    work();
    if (failure === 'fails after it has acted' && changes === 1) throw broken('lost');
    if (failure === 'answers too late' && changes === 1) throw new UpstreamDeadlineError('no answer in 1 s');
    if (failure === 'dies') throw broken('gone');
    return done;
  };
  const tell = (what: string): BackendData | null => {
    if (self.failure === 'dies' && changes > 0) throw broken('gone');
    return things.get(what) ?? null;
  };
  const put = (what: string, { userpassword, oldpassword: _, ...attributes }: Attributes): void => {
    if (userpassword !== undefined) passwords.set(what, userpassword);
    const before = things.get(what) ?? {};
    const now = { ...(describes ? (before.attributes as object) : before), ...attributes };
    const kept = Object.fromEntries(Object.entries(now).filter(([, value]) => value !== null));
    things.set(what, describes ? { attributes: kept } : kept);
  };
  const setMember = (id: string, user: string, joins: boolean): void => {
    const { member = [] } = Object(things.get(`group ${id}`)?.attributes) as { member?: readonly string[] };
    put(`group ${id}`, { member: [...member.filter((one) => one !== user), ...(joins ? [user] : [])] });
  };
  const backend: Backend = {
    keys,
    check() {
      if (self.failure === 'cannot be asked to check') throw broken('silent');
      return self.failure === 'refuses to check' ? refused : null;
    },
    getUser: ({ id }) => tell(`user ${id}`),
    addUser: ({ id }, attributes) => act(() => put(`user ${id}`, attributes)),
    setUser: ({ id }, attributes) => act(() => put(`user ${id}`, attributes)),
    delUser: ({ id }) =>
      act(() => {
        things.delete(`user ${id}`);
        passwords.delete(`user ${id}`);
      }),
    getGroup: ({ id }) => tell(`group ${id}`),
    addGroup: ({ id }, attributes) =>
      act(() => put(`group ${id}`, describes ? { member: [], ...attributes } : attributes)),
    setGroup: ({ id }, attributes) => act(() => put(`group ${id}`, attributes)),
    delGroup: ({ id }) => act(() => things.delete(`group ${id}`)),
    ...(describes
      ? {
          openSession: () => done,
          addUserToGroup: (user, { id }) => act(() => setMember(id, user.id, true)),
          delUserFromGroup: (user, { id }) => act(() => setMember(id, user.id, false)),
        }
      : {}),
  };
  const late: (() => void)[] = [];
  const self: Memory = {
    name,
    backend,
    keys: new Set(keys),
    things,
    passwords,
    failure: undefined,
    stubborn: false,
    late,
  };
  return self;
}

const threeBackends = () => [
  memory('pve', ['attributes']),
  memory('ldap', ['attributes']),
  memory('localdb', ['cluster']),
];

/** A name that is one of a user or of a group. */
const nameIn = (change: BackendChange) => ('group' in change ? `group ${change.group.id}` : `user ${change.user.id}`);

function make(backends: readonly Memory[], change: BackendChange): Promise<ChangeResult> {
  const seen = backends.map((loaded) => ({
    loaded,
    holds: true,
    keepsPassword: true,
    before: structuredClone(loaded.things.get(nameIn(change)) ?? null),
  }));
  return applyAll(stepsFor(change, seen), admin, ask);
}

/** All that a backend holds. */
const held = ({ things, passwords }: Memory) => JSON.stringify([[...things], [...passwords]]);

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
const password = { method: 'setUser', user: carol, attributes: { userpassword: 'other', cluster: {} } } as const;

/** Changes, each with what becomes of the thing at pve, at ldap and at localdb; undefined where it is not concerned. */
const changes: Readonly<Record<string, readonly [BackendChange, ...unknown[]]>> = {
  'an added user': [added, { attributes: { cn: 'Carol' } }, { attributes: { cn: 'Carol' } }, { cluster: pools }],
  'a changed user': [set, { attributes: { cn: 'Caroline' } }, { attributes: { cn: 'Caroline' } }, { cluster: {} }],
  'a new password': [password, { attributes: { cn: 'Before' } }, { attributes: { cn: 'Before' } }, { cluster: {} }],
  'a removed user': [removed, null, null, null],
  'an added group': [
    { method: 'addGroup', group: lab, attributes: { cluster: pools } },
    ...[{ attributes: { member: [] } }, { attributes: { member: [] } }, { cluster: pools }],
  ],
  'a changed group': [
    { method: 'setGroup', group: lab, attributes: { cluster: {} } },
    undefined,
    undefined,
    { cluster: {} },
  ],
  'a removed group': [{ method: 'delGroup', group: lab }, null, null, null],
  'an added member': [
    { method: 'addUserToGroup', user: carol, group: lab },
    ...[{ attributes: { member: ['dora', 'carol'] } }, { attributes: { member: ['dora', 'carol'] } }, undefined],
  ],
  'a removed member': [
    { method: 'delUserFromGroup', user: { id: 'dora', realm: 'ldap' }, group: lab },
    ...[{ attributes: { member: [] } }, { attributes: { member: [] } }, undefined],
  ],
};
const names = Object.keys(changes);
const changeNamed = (name: string): BackendChange => changes[name]?.[0] ?? added;

/** Three backends that know all that the change needs to be there. */
function prepared(change: BackendChange): Memory[] {
  const backends = threeBackends();
  const adds = change.method === 'addUser' || change.method === 'addGroup';
  for (const { keys, things, passwords } of adds ? [] : backends) {
    if (!keys.has('attributes')) things.set(nameIn(change), { cluster: pools });
    else if ('group' in change) things.set('group lab', { attributes: { member: ['dora'] } });
    else {
      things.set('user carol', { attributes: { cn: 'Before' } });
      passwords.set('user carol', 'before');
    }
  }
  return backends;
}

const cases = names.flatMap((name) => {
  const concerned = [0, 1, 2].filter((index) => changes[name]?.[index + 1] !== undefined);
  return concerned.flatMap((index) => failures.map((failure) => ({ name, index, failure })));
});

/** Whatever differs is said to, and what is said to be as before is. */
function mustBeTrue(result: ChangeResult, backends: readonly Memory[], before: readonly string[]): void {
  for (const [index, one] of backends.entries()) {
    const { outcome } = result.allResponses.find(({ backend }) => backend === one.name) ?? { outcome: undefined };
    if (held(one) === before[index])
      expect([undefined, 'refused', 'failed', 'undone', 'untouched', 'unknown'], one.name).toContain(outcome);
    else expect(['kept', 'unknown'], one.name).toContain(outcome);
    if (outcome === 'kept' || outcome === 'unknown') expect(result.message).toContain(`"${one.name}"`);
  }
}

describe('a change at several backends', () => {
  test.each(names)('is made at each of them (%s)', async (name) => {
    const [change = added, ...wanted] = changes[name] ?? [];
    const backends = prepared(change as BackendChange);
    const result = await make(backends, change as BackendChange);
    expect(result).toMatchObject({ ok: true, status: 200, message: '' });
    expect(result.allResponses.map(({ outcome }) => outcome)).toEqual(result.allResponses.map(() => 'done'));
    for (const [index, expected] of wanted.entries()) {
      if (expected === undefined) continue;
      const found = backends[index]?.things.get(nameIn(change as BackendChange)) ?? null;
      if (expected === null) expect(found).toBeNull();
      else expect(found).toMatchObject(expected as object);
    }
    if (name === 'a new password') expect(backends[1]?.passwords.get('user carol')).toBe('other');
  });

  test.each(cases)(
    'is nowhere, or is reported, when backend $index $failure ($name)',
    async ({ name, index, failure }) => {
      const change = changeNamed(name);
      const backends = prepared(change);
      const before = backends.map(held);
      const failing = backends[index];
      if (failing === undefined) throw new Error('there are three');
      failing.failure = failure;

      const result = await make(backends, change);
      expect(result).toMatchObject({ ok: false, message: expect.stringMatching(/\w/) });
      expect(result.status).toBeGreaterThanOrEqual(400);
      mustBeTrue(result, backends, before);
      const removes = change.method === 'delUser' || change.method === 'delGroup' || name === 'a new password';
      for (const [at, one] of backends.entries()) {
        if (held(one) === before[at]) continue;
        // Left is only who alone remembered what was removed, a password, and who is gone for good.
        expect((one === failing && failure === 'dies') || (removes && one.keys.has('attributes')), one.name).toBe(true);
      }
      const outcomes = result.allResponses.map(({ outcome }) => outcome);
      if (!outcomes.some((outcome) => outcome === 'kept' || outcome === 'unknown') && outcomes.length > 1)
        expect(result.message).toMatch(/nothing is changed$/);
      if (failure === 'acts when it was given up')
        expect(result.allResponses.find(({ backend }) => backend === failing.name)?.outcome).toBe('unknown');
      for (const work of failing.late) work();
      mustBeTrue(result, backends, before);
    },
  );

  test.each(names.flatMap((name) => [0, 1, 2].map((index) => ({ name, index }))))(
    'says where it stays when backend $index cannot put it back ($name)',
    async ({ name, index }) => {
      const change = changeNamed(name);
      const backends = prepared(change);
      const before = backends.map(held);
      const stubborn = backends[index];
      if (stubborn !== undefined) stubborn.stubborn = true;
      const order = (await make(prepared(change), change)).allResponses.map(({ backend }) => backend);
      const last = backends.find((one) => one.name === order.at(-1));
      if (last !== undefined) last.failure = 'refuses';
      const result = await make(backends, change);
      expect(result.ok).toBe(false);
      mustBeTrue(result, backends, before);
      if (stubborn !== last && order.includes(stubborn?.name ?? ''))
        expect(result.allResponses.find(({ backend }) => backend === stubborn?.name)?.outcome).toBe('kept');
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

  test('is put back where it was made last first, and not where nothing was to be seen of it', async () => {
    const backends = prepared(set);
    const [pve, ldap, localdb] = backends;
    if (pve === undefined || ldap === undefined || localdb === undefined) throw new Error('there are three');
    const change = { ...set, attributes: { cn: 'Before', cluster: {} } } as const;
    const asked: string[] = [];
    for (const [name, one] of Object.entries({ ldap, localdb })) {
      const { setUser } = one.backend;
      one.backend.setUser = (...given) => {
        asked.push(name);
        return setUser?.apply(one.backend, given) ?? refused;
      };
    }
    ldap.things.set('user carol', { attributes: { cn: 'Other' } });
    const last = memory('last', ['attributes']);
    last.things.set('user carol', { attributes: {} });
    last.failure = 'refuses';
    const seen = [pve, ldap, localdb, last].map((loaded) => ({
      ...{ loaded, holds: true, keepsPassword: true, before: structuredClone(loaded.things.get('user carol') ?? null) },
    }));
    const steps = stepsFor(change, seen).toSorted((one) => (one.loaded === last ? 1 : -1));
    const made = steps.map(({ loaded }) => loaded.name).filter((name) => name === 'ldap' || name === 'localdb');
    const result = await applyAll(steps, admin, ask);
    expect(asked).toEqual([...made, ...made.toReversed()]);
    expect(result.allResponses.find(({ backend }) => backend === 'pve')).toMatchObject({
      ok: false,
      outcome: 'undone',
    });
    expect(result.message).toBe('not today; nothing is changed');
  });

  test('stores passwords last, and says when one cannot be put back', async () => {
    const backends = threeBackends();
    await make(backends, added);
    const [, ldap, localdb] = backends;
    if (ldap === undefined || localdb === undefined) throw new Error('there are three');
    ldap.failure = 'refuses';
    const result = await make(backends, password);
    expect(result.allResponses.map(({ backend, outcome }) => [backend, outcome])).toEqual([
      ['localdb', 'undone'],
      ['pve', 'kept'],
      ['ldap', 'refused'],
    ]);
    expect(localdb.things.get('user carol')).toEqual({ cluster: pools });
  });
});

describe('the steps of a change', () => {
  const seen = (backends: readonly Memory[], ...before: (BackendData | null)[]) =>
    backends.map((loaded, index) => ({ loaded, holds: true, keepsPassword: true, before: before[index] ?? null }));

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
      'what nobody stores',
      { method: 'addUser', user: carol, attributes: { templates: {} } } as const,
      [],
      /templates: no backend of user carol@ldap can store it/,
    ],
  ] as const)('are none for %s', (_, change, before, message) => {
    expect(() => stepsFor(change, seen(threeBackends(), ...before))).toThrow(message);
  });

  test('are none for a group that nobody keeps', () => {
    const change = { method: 'addGroup', group: lab, attributes: {} } as const;
    const backends = threeBackends().map((one) => ({ ...one, backend: { keys: one.backend.keys } }));
    expect(() => stepsFor(change, seen(backends))).toThrow(/no backend can keep group lab@ldap/);
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
