import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../simulator/index.ts';
import type { Backend, BackendChange, BackendResult, GroupName, Requester } from '../../src/backends/backend.ts';
import type { ChangeResult } from '../../src/backends/changes.ts';
import { Directory } from '../../src/backends/directory.ts';
import { createLdapBackend } from '../../src/backends/ldap.ts';
import { LocalBackend } from '../../src/backends/local.ts';
import { PaasLdapBackend, paasldapSettings } from '../../src/backends/paasldap.ts';
import { createPveBackend } from '../../src/backends/pve.ts';
import { UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../../src/errors.ts';
import { createUpstream } from '../../src/pve/upstream.ts';
import { upstreamSettings } from '../../src/pve/upstream-settings.ts';
import { openDatabase } from '../../src/store/database.ts';
import { startLdapRelay } from '../support/ldap-relay.ts';
import { startPaasLdap } from '../support/paas-ldap.ts';
import { scale } from '../support/scale.ts';
import { hasSlapd, startSlapd } from '../support/slapd.ts';
import { settingsOf } from './subjects.ts';

const skip = !hasSlapd && process.env.CI !== 'true';
const log = { warn: () => {} };
const secret = '11111111-2222-4333-8444-555555555555';

type Name = 'pve' | 'localdb' | 'ldap' | 'paasldap';

/** A realm, and the backends that the configuration names for it. */
const configured: readonly { readonly realm: string; readonly names: readonly Name[] }[] = [
  { realm: 'pve', names: ['pve', 'localdb'] },
  { realm: 'ldap', names: ['pve', 'localdb', 'ldap'] },
  { realm: 'paas', names: ['pve', 'paasldap', 'localdb'] },
  { realm: 'ldap', names: ['ldap', 'localdb'] },
  { realm: 'paas', names: ['localdb', 'paasldap'] },
];

/** How a backend that is asked to check, to act or to put back goes wrong. */
const failures = [
  'refuses to check',
  'cannot check',
  'refuses',
  'is away',
  'loses its answer',
  'answers too late',
  'cannot put it back',
] as const;
type Failure = (typeof failures)[number];

const methods = [
  'addUser',
  'setUser',
  'password',
  'delUser',
  'addGroup',
  'setGroup',
  'delGroup',
  'addUserToGroup',
  'delUserFromGroup',
] as const;

const texts = { cn: 'Eve Ede', sn: 'Ede', mail: 'eve@example.org' };
const limits = { cluster: { pools: { lab: true } } };
const first = 'first-secret';

/** A change of the realm's eve, or of the group `club`, and what has to be there for it. */
function changeOf(method: (typeof methods)[number], realm: string): BackendChange {
  const user = { id: 'eve', realm };
  const group = groupOf(realm);
  switch (method) {
    case 'addUser':
      return { method, user, attributes: { ...texts, ...limits, userpassword: first } };
    case 'setUser':
      return { method, user, attributes: { cn: 'Eve Ode', sn: 'Ode', mail: 'ode@example.org', cluster: {} } };
    case 'password':
      return {
        method: 'setUser',
        user,
        attributes: { userpassword: 'second-secret', oldpassword: 'root-secret', cluster: {} },
      };
    case 'addGroup':
    case 'setGroup':
      return { method, group, attributes: { cluster: method === 'setGroup' ? {} : limits.cluster } };
    case 'delUser':
      return { method, user };
    case 'delGroup':
      return { method, group };
    default:
      return { method, user, group };
  }
}

const groupOf = (realm: string): GroupName => (realm === 'pve' ? { id: 'club' } : { id: 'club', realm });

describe.skipIf(skip)('over PVE, localdb, PAAS-LDAP and OpenLDAP', () => {
  const opened = new AsyncDisposableStack();
  let simulator: Simulator;
  let backends: Readonly<Record<Name, Backend>>;
  let root: Requester;
  /** What goes wrong, and where; and how often each was asked to change something. */
  let faults: ReadonlyMap<Name, Failure> = new Map();
  const changes = new Map<Name, number>();

  beforeAll(async () => {
    simulator = opened.use(await startSimulator({ serviceSecret: secret }));
    const { access } = simulator.cluster;
    access.addRealm({ realm: 'paas', type: 'ldap' });
    access.addUser('root@pve', { password: 'root-secret' });
    access.setAcl('/', { users: ['quota-proxy@pve', 'root@pve'] }, 'Administrator');
    const token = { user: 'quota-proxy', realm: 'pve', id: 'gate', uuid: secret };
    const upstream = createUpstream(upstreamSettings.parse({ url: simulator.url, token }), { log });
    opened.defer(() => upstream.close());
    const folder = mkdtempSync(join(tmpdir(), 'changes-'));
    opened.defer(() => rmSync(folder, { recursive: true }));
    const database = openDatabase(join(folder, 'local.db'));
    opened.defer(() => void database.close());
    const slapd = opened.use(await startSlapd());
    const relay = opened.use(await startLdapRelay({ socket: slapd.socket }));
    const service = opened.use(await startPaasLdap());
    backends = {
      pve: createPveBackend(upstream, { log }),
      localdb: new LocalBackend(database, {}),
      ldap: createLdapBackend(settingsOf({ url: relay.url }), { log }),
      paasldap: new PaasLdapBackend(paasldapSettings.parse({ url: service.url, realm: 'paas' }), { log }),
    };
    opened.defer(() => backends.ldap.close?.());
    opened.defer(() => backends.paasldap.close?.());
    backends.localdb.addUser?.({ id: 'root', realm: 'pve' }, { cluster: { admin: true } }, { cookies: {} });
    const sessions = [
      await backends.pve.openSession?.({ id: 'root', realm: 'pve' }, 'root-secret'),
      await backends.paasldap.openSession?.({ id: 'admin', realm: 'paas' }, 'admin-secret'),
    ];
    const cookies = sessions.flatMap((session) => session?.cookies ?? []).map(({ name, value }) => [name, value]);
    root = { username: 'root@pve', cookies: Object.fromEntries(cookies), admin: true };
  });

  afterAll(() => opened.disposeAsync());

  /** The backend, going wrong as `faults` say. */
  function faulty(name: Name): Backend {
    const writes = new Set<PropertyKey>([...methods, 'setUser']);
    return new Proxy(backends[name], {
      get(backend, key) {
        const method: unknown = Reflect.get(backend, key);
        const failure = faults.get(name);
        if (key === 'check' && failure === 'refuses to check') return () => refusal;
        if (key === 'check' && failure === 'cannot check')
          return () => Promise.reject(new UpstreamUnreachableError('connection refused'));
        if (typeof method !== 'function') return method;
        const run = (...given: unknown[]): Promise<BackendResult> => method.apply(backend, given);
        return writes.has(key) ? (...given: unknown[]) => failing(name, () => run(...given)) : run;
      },
    });
  }

  const refusal = { ok: false, status: 403, message: 'not today' };

  async function failing(name: Name, work: () => Promise<BackendResult>): Promise<BackendResult> {
    const failure = faults.get(name);
    const before = changes.get(name) ?? 0;
    changes.set(name, before + 1);
    if (failure === 'refuses') return refusal;
    if (failure === 'is away') throw new UpstreamUnreachableError('connection refused');
    if (failure === 'cannot put it back' && before > 0) return refusal;
    const done = await work();
    if (before > 0) return done;
    if (failure === 'loses its answer') throw new UpstreamBrokenError('its answer was lost');
    if (failure === 'answers too late') throw new UpstreamDeadlineError('no answer in time');
    return done;
  }

  function directoryOf({ realm, names }: (typeof configured)[number]): Directory {
    const loaded = Object.keys(backends).map((name) => {
      const backend = faulty(name as Name);
      return [name, { name, backend, keys: new Set(backend.keys) }] as const;
    });
    return new Directory({
      backends: new Map(loaded),
      users: { realm: { pve: ['pve', 'localdb'], [realm]: names }, otherwise: [], any: names },
      ...{ pve: 'pve', defaultuser: {}, resources: {}, log, now: () => performance.now() },
    });
  }

  /** Eve and her club at every backend that holds them, as they are told of; and her password, where it is kept. */
  async function state(realm: string, names: readonly Name[]): Promise<ReadonlyMap<Name, unknown>> {
    const eve = { id: 'eve', realm };
    const passwordAt = async (name: Name) => {
      if (name === 'pve') return simulator.cluster.access.users.get(`eve@${realm}`)?.password;
      return (await backends[name].openSession?.(eve, first))?.ok;
    };
    const seen = names.map(async (name) => {
      const { getUser, getGroup } = backends[name];
      const user = await getUser?.call(backends[name], eve, root);
      const group = await getGroup?.call(backends[name], groupOf(realm), root);
      return [name, { user, group, password: user === null ? undefined : await passwordAt(name) }] as const;
    });
    return new Map(await Promise.all(seen));
  }

  /** Has eve, and her club with her in it or without, at these backends, or none of it. */
  async function prepare(realm: string, names: readonly Name[], change: BackendChange): Promise<void> {
    const [eve, club] = [{ id: 'eve', realm }, groupOf(realm)];
    const prepareAt = async (name: Name): Promise<void> => {
      const backend = backends[name];
      await backend.delUserFromGroup?.(eve, club, root);
      await backend.delUser?.(eve, root);
      await backend.delGroup?.(club, root);
      const keeps = backend.openSession !== undefined && (await backend.keepsPassword?.(eve)) !== false;
      if (change.method !== 'addUser')
        await backend.addUser?.(
          eve,
          name === 'localdb' ? limits : { ...texts, ...(keeps ? { userpassword: first } : {}) },
          root,
        );
      if (change.method === 'addGroup') return;
      await backend.addGroup?.(club, name === 'localdb' ? limits : {}, root);
      if (change.method === 'delUserFromGroup') await backend.addUserToGroup?.(eve, club, root);
    };
    await Promise.all(names.map(prepareAt));
  }

  const concerned = ({ names }: (typeof configured)[number]) => [...new Set<Name>(['pve', ...names])];

  // Those that name PVE as well have all that is in the others.
  const telling = configured.slice(0, scale(3, configured.length));
  test.each(telling.flatMap((one) => methods.map((method) => ({ ...one, method }))))(
    'a change is made everywhere ($method, $realm, $names)',
    async ({ method, ...one }) => {
      const { realm } = one;
      const change = changeOf(method, realm);
      await prepare(realm, concerned(one), change);
      const before = await state(realm, concerned(one));
      const result = await directoryOf(one).change(change, root);
      expect(result).toMatchObject({ ok: true, status: 200 });
      const after = await state(realm, concerned(one));
      const changed = concerned(one).filter(
        (name) => JSON.stringify(after.get(name)) !== JSON.stringify(before.get(name)),
      );
      expect(result.allResponses.map(({ backend }) => backend).toSorted()).toEqual(changed.toSorted());
    },
  );

  /** Outcomes that say that nothing has changed, and those that say that something may have. */
  const [same, other]: readonly (readonly (string | undefined)[])[] = [
    [undefined, 'refused', 'failed', 'undone', 'untouched', 'unknown'],
    ['kept', 'unknown'],
  ];

  function mustBeTrue(result: ChangeResult, name: Name, isSame: boolean): void {
    const { outcome } = result.allResponses.find(({ backend }) => backend === name) ?? { outcome: undefined };
    expect(isSame ? same : other, name).toContain(outcome);
    if (outcome === 'kept' || outcome === 'unknown') expect(result.message).toContain(`"${name}"`);
  }

  test('when any of them fails at any step of any change, it is nowhere, or reported where it is', async () => {
    const all = configured.flatMap((one) =>
      methods.flatMap((method) =>
        concerned(one).flatMap((at) =>
          failures.flatMap((failure) => {
            // What is to be put back is what was done before another one refused.
            const others = failure === 'cannot put it back' ? concerned(one).filter((name) => name !== at) : [at];
            return others.map((also) => ({ one, method, at, failure, also }));
          }),
        ),
      ),
    );
    const property = fc.asyncProperty(fc.constantFrom(...all), async ({ one, method, at, failure, also }) => {
      const { realm } = one;
      const names = concerned(one);
      const change = changeOf(method, realm);
      await prepare(realm, names, change);
      const before = await state(realm, names);
      changes.clear();
      faults = new Map<Name, Failure>([
        [also, 'refuses'],
        [at, failure],
      ]);
      const result = await directoryOf(one)
        .change(change, root)
        .finally(() => {
          faults = new Map();
        });
      const after = await state(realm, names);
      const changed = names.filter((name) => JSON.stringify(after.get(name)) !== JSON.stringify(before.get(name)));
      expect(result.ok).toBe(!result.allResponses.some(({ backend }) => backend === also));
      if (result.ok) {
        expect(result.allResponses.map(({ backend }) => backend).toSorted()).toEqual(changed.toSorted());
        return;
      }
      for (const name of names) mustBeTrue(result, name, !changed.includes(name));
      // What stays is only a password, and what is removed by those who alone remember it.
      const removes = method === 'delUser' || method === 'delGroup' || method === 'password';
      const allowed = (name: Name) =>
        (removes && name !== 'localdb') || (failure === 'cannot put it back' && name === at);
      expect(changed.filter((name) => !allowed(name))).toEqual([]);
    });
    await fc.assert(property, { numRuns: scale(15, 800), endOnFailure: true });
  }, 600_000);
});
