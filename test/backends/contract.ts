/** What every backend promises, as a suite that runs over each of them. */

import { describe, expect, test, vi } from 'vitest';
import {
  type Backend,
  type BackendData,
  type BackendResult,
  parseUserName,
  type Requester,
  type UserName,
} from '../../src/backends/backend.ts';
import { ApiError } from '../../src/errors.ts';

/** What a backend can do besides telling of users. */
export type Ability = 'signIn' | 'attributes' | 'groups' | 'changeUsers' | 'changeGroups' | 'changePasswords';

/** How the service behind a backend can go wrong: not there, silent, or with answers that are none. */
export type Trouble =
  | 'away'
  | 'never'
  | 'reset'
  | 'half'
  | 'endless'
  | 'failing'
  | 'html'
  | 'nothing'
  | 'redirect'
  | 'nonsense';

/**
 * A backend with the users alice, bob and admin of one realm, each with the password `<name>-secret`, and a group `lab`
 * that alice is in; admin may see and change all of them.
 */
export interface Subject extends AsyncDisposable {
  readonly backend: Backend;
  readonly realm: string;
  /** What makes a new user. */
  readonly newUser?: Readonly<Record<string, unknown>>;
  /** What makes a new password. */
  passwordChange?(current: string, next: string): Readonly<Record<string, unknown>>;
  /** Makes everything go wrong in this way until `recover`. */
  trouble?(kind: Trouble): Promise<void> | void;
  recover?(): Promise<void> | void;
}

export interface BackendSuite {
  readonly name: string;
  readonly can: readonly Ability[];
  readonly troubles?: readonly Trouble[];
  /** Why the suite cannot run here. */
  readonly skip?: string | undefined;
  /** A fresh one; it gives up after `deadline` seconds where no answer comes. */
  start(deadline: number): Promise<Subject>;
}

/** Names that mean something else in a path, a form, an LDAP name or JavaScript, and are nobody's. */
const strangeIds = [
  'nobody',
  '..',
  '.',
  '*',
  '%2e%2e',
  'a/../bob',
  'alice?x=1',
  'alice#',
  'alice,ou=people',
  'bob+sn=Ames',
  'bob"',
  'alice\\',
  ' alice',
  'alice ',
  '<script>',
  'x;DROP',
  '__proto__',
  'constructor',
  'Ünï-☃',
  '\uD800',
];

/** What LDAP compares as equal to a name, and PVE does not. */
const spellings = (name: string): readonly string[] => [
  name.toUpperCase(),
  `${name.charAt(0).toUpperCase()}${name.slice(1)}`,
  `${name} `,
  `\u{ff41}${name.slice(1)}`,
  `${name}\u{ad}`,
  `${name}\u{200b}`,
  `${name.slice(0, -1)}${name.slice(-1)}\u{301}`,
];

/** The errors of troubles in which more is known than that the answer was none. */
const codes: Partial<Record<Trouble, string>> = { away: 'upstream_unreachable', never: 'upstream_deadline' };

/** Runs the suite over a backend. */
export function backendContract({ name, can, troubles = [], skip, ...suite }: BackendSuite): void {
  const start = (deadline = 20) => suite.start(deadline);
  const having = (ability: Ability, title: string, tests: () => void): void => {
    if (can.includes(ability)) describe(title, tests);
  };

  describe.skipIf(skip !== undefined)(`a backend: ${name}${skip === undefined ? '' : ` (${skip})`}`, () => {
    having('signIn', 'at sign-in', () => {
      test('gives a session for the right password, whose cookies a browser can keep', async () => {
        await using subject = await start();
        const result = await openSession(subject, 'alice', 'alice-secret');
        expect(result).toMatchObject({ ok: true, status: 200 });
        for (const cookie of result.cookies ?? []) {
          expect(cookie.name).toMatch(/^[\w-]+$/);
          expect(cookie.value).not.toBe('');
          expect(cookie.expiresMSFromNow).toBeGreaterThan(0);
        }
      });

      test.each([
        ['alice', 'bob-secret'],
        ['alice', ''],
        ['alice', 'alice-secret '],
        ['nobody', 'alice-secret'],
        ['nobody', ''],
      ])('refuses %j with the password %j, and gives nothing', async (id, password) => {
        await using subject = await start();
        const result = await openSession(subject, id, password);
        expect(result).toMatchObject({ ok: false, status: 401, message: expect.stringMatching(/\w/) });
        expect(result.cookies ?? []).toEqual([]);
      });

      test('takes no strange name for the one that it resembles', async () => {
        await using subject = await start();
        for (const id of strangeIds)
          expect(await openSession(subject, id, 'alice-secret'), id).toMatchObject({ ok: false, status: 401 });
      });

      test('can be undone, more than once and without ever having been', async () => {
        await using subject = await start();
        const alice = await signIn(subject, 'alice');
        for (const requester of [alice, alice, nobody])
          expect((await subject.backend.closeSession?.(requester))?.ok ?? true).toBe(true);
      });
    });

    describe('of its users', () => {
      test('tells what it declares, and no more', async () => {
        await using subject = await start();
        const data = await getUser(subject, 'alice', await signIn(subject, 'admin'));
        expect(data).not.toBeNull();
        expect(subject.backend.keys).toEqual(expect.arrayContaining(Object.keys(data ?? {})));
        expect(JSON.stringify(data)).not.toContain('alice-secret');
      });

      test('tells a user of themselves', async () => {
        await using subject = await start();
        expect(await getUser(subject, 'alice', await signIn(subject, 'alice'))).not.toBeNull();
      });

      test('tells nothing of strange names', async () => {
        await using subject = await start();
        const admin = await signIn(subject, 'admin');
        for (const id of strangeIds) expect(await getUser(subject, id, admin), id).toBeNull();
      });

      test('tells in a list what it tells of each', async () => {
        await using subject = await start();
        const admin = await signIn(subject, 'admin');
        const all = (await subject.backend.getAllUsers?.(admin)) ?? {};
        expect(Object.keys(all)).toEqual(
          expect.arrayContaining(['alice', 'bob', 'admin'].map((id) => `${id}@${subject.realm}`)),
        );
        for (const [user, data] of Object.entries(all)) {
          expect(await subject.backend.getUser?.(parsed(user), admin)).toEqual(data);
        }
      });
    });

    having('attributes', 'of its users', () => {
      test('tells uid, name and groups', async () => {
        await using subject = await start();
        const admin = await signIn(subject, 'admin');
        expect(await getUser(subject, 'alice', admin)).toMatchObject({
          attributes: { uid: 'alice', cn: expect.any(String), memberOf: [expect.stringMatching(/^cn=lab/)] },
        });
        expect(await getUser(subject, 'bob', admin)).toMatchObject({ attributes: { memberOf: [] } });
      });
    });

    having('groups', 'of its groups', () => {
      test('tells name and members', async () => {
        await using subject = await start();
        const admin = await signIn(subject, 'admin');
        expect(await subject.backend.getGroup?.({ id: 'lab' }, admin)).toMatchObject({
          attributes: { cn: 'lab', member: expect.arrayContaining([expect.stringMatching(/^uid=alice/)]) },
        });
      });

      test('tells in a list what it tells of each', async () => {
        await using subject = await start();
        const admin = await signIn(subject, 'admin');
        const all = Object.entries((await subject.backend.getAllGroups?.(admin)) ?? {});
        expect(all).not.toHaveLength(0);
        for (const [group, data] of all) {
          const [id = '', realm] = group.split('@');
          const asked = realm === undefined ? { id } : { id, realm };
          expect(await subject.backend.getGroup?.(asked, admin)).toEqual(data);
        }
      });

      test('tells who is in one from both sides, where it tells without a session', async () => {
        await using subject = await start();
        const { backend, realm } = subject;
        if (backend.membersOf === undefined) return;
        const [lab] = (await backend.groupsOf?.({ id: 'alice', realm })) ?? [{ id: 'lab' }];
        expect(lab).toMatchObject({ id: 'lab' });
        expect(await backend.membersOf(lab ?? { id: '' })).toEqual([{ id: 'alice', realm }]);
        expect((await backend.groupsOf?.({ id: 'bob', realm })) ?? []).toEqual([]);
        for (const id of strangeIds) expect(await backend.membersOf({ id, realm }), id).toEqual([]);
      });

      test('tells nothing of strange names', async () => {
        await using subject = await start();
        const admin = await signIn(subject, 'admin');
        const getGroup = async (id: string) => subject.backend.getGroup?.({ id }, admin);
        for (const id of strangeIds) expect(await getGroup(id), id).toBeNull();
      });
    });

    test('takes another spelling of a name for nobody, and changes nobody by it', async () => {
      await using subject = await start();
      const { backend, realm } = subject;
      const admin = await signIn(subject, 'admin');
      const state = async () => [await backend.getAllUsers?.(admin), await backend.getAllGroups?.(admin)];
      const before = await state();
      const [alice, lab] = [{ id: 'alice', realm }, { id: 'lab' }];
      for (const id of spellings('alice')) {
        const user = { id, realm };
        expect(await backend.getUser?.(user, admin), id).toBeNull();
        expect((await backend.delUser?.(user, admin))?.ok ?? false, id).toBe(false);
        expect((await backend.addUserToGroup?.(user, lab, admin))?.ok ?? false, id).toBe(false);
        expect((await backend.delUserFromGroup?.(user, lab, admin))?.ok ?? false, id).toBe(false);
        await backend.setUser?.(user, { cn: 'X', sn: 'X', mail: 'x@example.org', userpassword: 'x' }, admin);
      }
      for (const id of spellings('lab')) {
        const group = { id };
        expect((await backend.getGroup?.(group, admin)) ?? null, id).toBeNull();
        expect((await backend.delGroup?.(group, admin))?.ok ?? false, id).toBe(false);
        expect((await backend.addUserToGroup?.(alice, group, admin))?.ok ?? false, id).toBe(false);
        expect((await backend.delUserFromGroup?.(alice, group, admin))?.ok ?? false, id).toBe(false);
      }
      expect(await state()).toEqual(before);
      if (can.includes('signIn'))
        expect(await openSession(subject, 'alice', 'alice-secret')).toMatchObject({ ok: true });
    });

    having('changeUsers', 'changing users', () => {
      test('adds one once, and removes it once', async () => {
        await using subject = await start();
        const { backend, realm, newUser = {} } = subject;
        const admin = await signIn(subject, 'admin');
        const carol = { id: 'carol', realm };
        expect(await backend.addUser?.(carol, newUser, admin)).toMatchObject({ ok: true });
        expect(await getUser(subject, 'carol', admin)).not.toBeNull();
        expect(await backend.addUser?.(carol, newUser, admin)).toMatchObject({ ok: false, status: 409 });
        expect(await backend.delUser?.(carol, admin)).toMatchObject({ ok: true });
        expect(await getUser(subject, 'carol', admin)).toBeNull();
        expect(await backend.delUser?.(carol, admin)).toMatchObject({ ok: false, status: 404 });
      });
    });

    having('changeGroups', 'changing groups', () => {
      test('adds one once, takes members in and out, and removes it once', async () => {
        await using subject = await start();
        const { backend, realm } = subject;
        const admin = await signIn(subject, 'admin');
        const bob = { id: 'bob', realm };
        const web = { id: 'web', realm };
        const membership = async () => [
          (await backend.getGroup?.(web, admin))?.attributes,
          (await getUser(subject, 'bob', admin))?.attributes,
        ];

        expect(await backend.addGroup?.(web, {}, admin)).toMatchObject({ ok: true });
        expect(await backend.addGroup?.(web, {}, admin)).toMatchObject({ ok: false, status: 409 });
        expect(await backend.setGroup?.(web, {}, admin)).toMatchObject({ ok: true });
        expect(await backend.addUserToGroup?.(bob, web, admin)).toMatchObject({ ok: true });
        expect(await membership()).toMatchObject([
          { member: expect.arrayContaining([expect.stringMatching(/^uid=bob/)]) },
          { memberOf: [expect.stringMatching(/^cn=web/)] },
        ]);
        expect(await backend.addUserToGroup?.(bob, web, admin)).toMatchObject({ ok: false, status: 409 });
        expect(await backend.delUserFromGroup?.(bob, web, admin)).toMatchObject({ ok: true });
        expect(await membership()).toMatchObject([{ cn: 'web' }, { memberOf: [] }]);
        expect(await backend.delUserFromGroup?.(bob, web, admin)).toMatchObject({ ok: false, status: 404 });
        expect(await backend.delGroup?.(web, admin)).toMatchObject({ ok: true });
        expect(await backend.getGroup?.(web, admin)).toBeNull();
        expect(await backend.delGroup?.(web, admin)).toMatchObject({ ok: false, status: 404 });
      });

      test('leaves those alone that a strange name resembles', async () => {
        await using subject = await start();
        const { backend, realm } = subject;
        const admin = await signIn(subject, 'admin');
        const all = async () => [await backend.getAllGroups?.(admin), await backend.getAllUsers?.(admin)];
        const before = await all();
        for (const id of strangeIds) {
          expect(await backend.addUserToGroup?.({ id, realm }, { id, realm }, admin), id).toMatchObject({ ok: false });
          expect(await backend.delGroup?.({ id, realm }, admin), id).toMatchObject({ ok: false });
          expect(await backend.delUser?.({ id, realm }, admin), id).toMatchObject({ ok: false });
        }
        expect(await all()).toEqual(before);
      });
    });

    having('changePasswords', 'changing a password', () => {
      test('makes the new one the only one', async () => {
        await using subject = await start();
        const change = subject.passwordChange?.('alice-secret', 'tr&p+=% ü') ?? {};
        const result = await subject.backend.setUser?.(named(subject, 'alice'), change, await signIn(subject, 'alice'));
        expect(result).toMatchObject({ ok: true });
        expect(await openSession(subject, 'alice', 'alice-secret')).toMatchObject({ ok: false, status: 401 });
        expect(await openSession(subject, 'alice', 'tr&p+=% ü')).toMatchObject({ ok: true });
      });

      test("is refused for somebody else's", async () => {
        await using subject = await start();
        const change = subject.passwordChange?.('alice-secret', 'another-one') ?? {};
        const result = await subject.backend.setUser?.(named(subject, 'bob'), change, await signIn(subject, 'alice'));
        expect(result).toMatchObject({ ok: false, status: 403, message: expect.stringMatching(/\w/) });
        expect(await openSession(subject, 'bob', 'bob-secret')).toMatchObject({ ok: true });
      });

      test('is refused without a session', async () => {
        await using subject = await start();
        const change = subject.passwordChange?.('alice-secret', 'another-one') ?? {};
        const result = await subject.backend.setUser?.(named(subject, 'alice'), change, nobody);
        expect(result).toMatchObject({ ok: false, status: 401 });
      });
    });

    if (troubles.length > 0)
      describe('when the service behind it', () => {
        test.each(troubles)(
          'is in trouble (%s), says so soon, takes it for no answer, and recovers by itself',
          async (kind) => {
            await using subject = await start(1);
            const admin = await signIn(subject, 'admin');
            await subject.trouble?.(kind);
            const code = codes[kind] ?? 'upstream_broken';
            const begun = performance.now();
            await expect(getUser(subject, 'bob', admin)).rejects.toSatisfy(isApiError(code));
            if (can.includes('signIn'))
              await expect(openSession(subject, 'alice', 'alice-secret')).rejects.toSatisfy(isApiError(code));
            expect(performance.now() - begun).toBeLessThan(15_000);
            await subject.recover?.();
            await vi.waitFor(async () => expect(await getUser(subject, 'bob', admin)).not.toBeNull(), 30_000);
            if (can.includes('signIn'))
              expect(await openSession(subject, 'alice', 'alice-secret')).toMatchObject({ ok: true });
          },
        );
      });
  });
}

/** Who has no session and no name. */
export const nobody: Requester = { cookies: {} };

/** Somebody with a session at the backend, where it has sessions. */
export async function signIn(subject: Subject, id: string, password = `${id}-secret`): Promise<Requester> {
  const opened = await subject.backend.openSession?.(named(subject, id), password);
  if (opened?.ok === false) throw new Error(`${id} could not sign in: ${opened.message}`);
  const cookies = Object.fromEntries((opened?.cookies ?? []).map(({ name, value }) => [name, value]));
  return { username: `${id}@${subject.realm}`, cookies, admin: id === 'admin' };
}

async function openSession(subject: Subject, id: string, password: string): Promise<BackendResult> {
  const result = await subject.backend.openSession?.(named(subject, id), password);
  if (result === undefined) throw new Error('the backend has no sessions');
  return result;
}

async function getUser(subject: Subject, id: string, requester: Requester): Promise<BackendData | null> {
  return (await subject.backend.getUser?.(named(subject, id), requester)) ?? null;
}

function named({ realm }: Pick<Subject, 'realm'>, id: string): UserName {
  return { id, realm };
}

function parsed(text: string): UserName {
  const user = parseUserName(text);
  if (user === null) throw new Error(`${text} is no user name`);
  return user;
}

function isApiError(code: string): (error: unknown) => boolean {
  return (error) => error instanceof ApiError && error.code === code;
}
