/** All configured backends as one: what each knows of a user, merged in the configured order. */

import { dirname } from 'node:path';
import type { BaseLogger } from 'pino';
import { ApiError, UpstreamBrokenError, UpstreamDeadlineError, UpstreamUnreachableError } from '../errors.ts';
import type { UserRecord } from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';
import { fits } from '../schema.ts';
import {
  type BackendData,
  type BackendResult,
  formatUserName,
  type GroupName,
  parseUserName,
  type Requester,
  type UserName,
} from './backend.ts';
import { type BackendContext, type BackendEntries, grantKeys, type LoadedBackend, loadBackends } from './index.ts';
import { completeRecord, mergeRecords, normaliseRecord, type RecordPatch } from './normalise.ts';

/** Which backends answer for whom, by name and in order. */
export interface UserHandlers {
  readonly realm: Readonly<Record<string, readonly string[]>>;
  /** For realms that are not in `realm`. */
  readonly otherwise: readonly string[];
  /** For lists of all users and groups. */
  readonly any: readonly string[];
}

export interface DirectoryOptions {
  readonly backends: ReadonlyMap<string, LoadedBackend>;
  readonly users: UserHandlers;
  /** The backend that signs in after all others: PVE itself. */
  readonly pve: string;
  /** What every user starts from. */
  readonly defaultuser: RecordPatch;
  readonly resources: Resources;
  readonly log: Pick<BaseLogger, 'warn'>;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

/** The sections of the configuration that say who the users are. */
export interface DirectorySettings {
  readonly backends: BackendEntries;
  readonly handlers: { readonly instance: { readonly pve: string }; readonly users: UserHandlers };
  readonly defaultuser: RecordPatch;
  readonly resources: Resources;
}

/** Makes every configured backend and joins them; module paths are relative to the directory of the configuration. Throws what `loadBackends` throws. */
export async function openDirectory(
  { backends, handlers, defaultuser, resources }: DirectorySettings,
  { configFile, ...context }: Omit<BackendContext, 'resources'> & { readonly configFile: string },
): Promise<Directory> {
  return new Directory({
    backends: await loadBackends(backends, dirname(configFile), { ...context, resources }),
    users: handlers.users,
    pve: handlers.instance.pve,
    defaultuser,
    resources,
    log: context.log,
    now: () => performance.now(),
  });
}

/** What a backend that cannot tell of changes has said is believed for so many milliseconds. */
const believedFor = 5000;

/** Answers kept at most; beyond it all are asked for again. */
const keptAtMost = 20_000;

interface Kept {
  readonly value: Promise<unknown>;
  readonly version: number;
  readonly until: number;
}

/** The server itself, which asks on nobody's behalf. */
const server: Requester = { cookies: {} };

/**
 * The users of all backends. A backend that fails is named in an UpstreamBrokenError (or the error that it threw, when
 * that is one of ours) and never left out: a record is either complete or not there.
 */
export class Directory {
  readonly #options: DirectoryOptions;
  readonly #all: readonly LoadedBackend[];
  readonly #kept = new Map<string, Kept>();

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.#all = [...options.backends.values()];
  }

  /** Grows whenever a backend that can tell has told of a change. */
  version(): number {
    return this.#all.reduce((total, { backend }) => total + (backend.version?.() ?? 0), 0);
  }

  /**
   * What a user whom PVE has authenticated may do and use: at least what `defaultuser` says. Only the backends that
   * decide such things are asked, on nobody's behalf, so that no session and no directory attribute matters here.
   */
  record(user: UserName): Promise<UserRecord> {
    const asked = granting(this.#of(user.realm));
    return this.#keep(formatUserName(user), asked, async () => {
      const patches = await this.#patches(asked, user, server);
      return this.#complete(patches.filter((patch) => patch !== null));
    });
  }

  /** The records of all users for whom a backend decides what they may do and use. */
  records(): Promise<ReadonlyMap<string, UserRecord>> {
    const { any, realm, otherwise } = this.#options.users;
    const asked = granting(this.#named([...any, ...Object.values(realm).flat(), ...otherwise]));
    return this.#keep('', asked, () => this.#allRecords(asked, server));
  }

  /** What all backends say of a user, or null when none knows them; given to administrators and to the user alone. */
  async getUser(user: UserName, requester: Requester): Promise<UserRecord | null> {
    if (requester.username !== formatUserName(user) && !(await this.#isAdmin(requester))) return null;
    const patches = (await this.#patches(this.#of(user.realm), user, requester)).filter((patch) => patch !== null);
    return patches.length === 0 ? null : this.#complete(patches);
  }

  /** All users by name, for administrators; nobody for others. */
  async getAllUsers(requester: Requester): Promise<ReadonlyMap<string, UserRecord>> {
    if (!(await this.#isAdmin(requester))) return new Map();
    return this.#allRecords(this.#named(this.#options.users.any), requester);
  }

  /** A group as the backends for lists see it, or null; for administrators. */
  async getGroup(group: GroupName, requester: Requester): Promise<RecordPatch | null> {
    if (!(await this.#isAdmin(requester))) return null;
    const patches = await askAll(this.#named(this.#options.users.any), (loaded) =>
      this.#patchFrom(loaded, `group ${group.id}`, () => loaded.backend.getGroup?.(group, requester)),
    );
    const known = patches.filter((patch) => patch !== null);
    return known.length === 0 ? null : known.reduce(mergeRecords, {});
  }

  /** All groups by name, for administrators; none for others. */
  async getAllGroups(requester: Requester): Promise<ReadonlyMap<string, RecordPatch>> {
    if (!(await this.#isAdmin(requester))) return new Map();
    const groups = new Map<string, RecordPatch>();
    for (const loaded of this.#named(this.#options.users.any)) {
      const listed = await this.#ask(loaded, () => loaded.backend.getAllGroups?.(requester));
      for (const [name, data] of Object.entries(listed ?? {})) {
        groups.set(name, mergeRecords(groups.get(name) ?? {}, this.#patch(loaded, `group ${name}`, data)));
      }
    }
    return groups;
  }

  /**
   * Signs in at the backends of the user's realm in order, then at PVE, at each once. The first refusal is the answer,
   * and closes what was opened before it. `username` is the user's name as PVE writes it.
   */
  async openSession(user: UserName, password: string): Promise<BackendResult & { readonly username: string }> {
    const opened: LoadedBackend[] = [];
    let username: string = formatUserName(user);
    let cookies: NonNullable<BackendResult['cookies']> = [];
    const rollBack = () =>
      this.#close(opened, { username, cookies: Object.fromEntries(cookies.map(({ name, value }) => [name, value])) });
    for (const loaded of this.#signingIn(user.realm)) {
      const result = await this.#ask(loaded, () => loaded.backend.openSession?.(user, password)).catch(
        async (error: unknown) => {
          await rollBack();
          throw error;
        },
      );
      if (result === undefined) continue;
      if (!result.ok) {
        await rollBack();
        return { ...result, cookies: [], username };
      }
      opened.push(loaded);
      username = result.username ?? username;
      cookies = [...cookies, ...(result.cookies ?? [])];
    }
    return { ok: true, status: 200, message: '', cookies, username };
  }

  /** Signs out wherever the user was signed in; a backend that fails is logged, since the session ends here anyway. */
  async closeSession(requester: Requester): Promise<void> {
    const user = parseUserName(requester.username ?? '');
    await this.#close(user === null ? this.#all : this.#signingIn(user.realm), requester);
  }

  /**
   * Has the backends of the user's realm store a new password, in order and no further than the first that refuses;
   * gives what each of them said. PVE is asked where no other backend signs the user in, and so knows the password.
   */
  async setPassword(
    user: UserName,
    password: string,
    { oldpassword }: { readonly oldpassword?: string },
    requester: Requester,
  ): Promise<readonly BackendResult[]> {
    const own = this.#of(user.realm);
    const asked = own.some(({ backend }) => backend.openSession !== undefined) ? own : this.#signingIn(user.realm);
    if (!asked.some(({ backend }) => backend.openSession !== undefined && backend.setUser !== undefined)) {
      const message = `The passwords of the realm ${user.realm} are kept where this server cannot change them`;
      return [{ ok: false, status: 501, message }];
    }
    const attributes = { userpassword: password, ...(oldpassword === undefined ? {} : { oldpassword }) };
    const results: BackendResult[] = [];
    for (const loaded of asked) {
      const result = await this.#ask(loaded, () => loaded.backend.setUser?.(user, attributes, requester));
      if (result !== undefined) results.push(result);
      if (result?.ok === false) break;
    }
    return results;
  }

  /** Ends every backend, in no order. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map(({ backend }) => backend.close?.()));
  }

  async #close(opened: readonly LoadedBackend[], requester: Requester): Promise<void> {
    for (const loaded of opened) {
      await this.#ask(loaded, () => loaded.backend.closeSession?.(requester)).catch((error: unknown) =>
        this.#options.log.warn(error, `backend "${loaded.name}" could not close a session`),
      );
    }
  }

  async #isAdmin(requester: Requester): Promise<boolean> {
    const user = parseUserName(requester.username ?? '');
    return user !== null && (await this.record(user)).cluster.admin;
  }

  #of(realm: string): readonly LoadedBackend[] {
    const { realm: realms, otherwise } = this.#options.users;
    return this.#named((Object.hasOwn(realms, realm) ? realms[realm] : undefined) ?? otherwise);
  }

  #signingIn(realm: string): readonly LoadedBackend[] {
    const pve = this.#named([this.#options.pve]);
    return [...this.#of(realm).filter((loaded) => !pve.includes(loaded)), ...pve];
  }

  #named(names: readonly string[]): readonly LoadedBackend[] {
    return distinct(names.flatMap((name) => this.#options.backends.get(name) ?? []));
  }

  #patches(asked: readonly LoadedBackend[], user: UserName, requester: Requester): Promise<(RecordPatch | null)[]> {
    return askAll(asked, (loaded) =>
      this.#patchFrom(loaded, `user ${formatUserName(user)}`, () => loaded.backend.getUser?.(user, requester)),
    );
  }

  async #allRecords(asked: readonly LoadedBackend[], requester: Requester): Promise<ReadonlyMap<string, UserRecord>> {
    const lists = await askAll(asked, async (loaded) => ({
      loaded,
      users: new Map(Object.entries((await this.#ask(loaded, () => loaded.backend.getAllUsers?.(requester))) ?? {})),
    }));
    const names = new Set(lists.flatMap(({ users }) => [...users.keys()]));
    return new Map(
      [...names].flatMap((name) => {
        const user = parseUserName(name);
        if (user === null) return [];
        const patches = this.#of(user.realm).flatMap((loaded) => {
          const data = lists.find((list) => list.loaded === loaded)?.users.get(name);
          return data === undefined ? [] : [this.#patch(loaded, `user ${name}`, data)];
        });
        return [[name, this.#complete(patches)] as const];
      }),
    );
  }

  async #patchFrom(
    loaded: LoadedBackend,
    what: string,
    ask: () => MaybeAsync<BackendData | null | undefined>,
  ): Promise<RecordPatch | null> {
    const data = await this.#ask(loaded, ask);
    return data === null || data === undefined ? null : this.#patch(loaded, what, data);
  }

  #patch({ name, keys }: LoadedBackend, what: string, data: BackendData): RecordPatch {
    const supplied = Object.fromEntries(Object.entries(data).filter(([key]) => (keys as ReadonlySet<string>).has(key)));
    const checked = normaliseRecord(supplied, this.#options.resources);
    if (fits(checked)) return checked.value;
    const problems = checked.faults.map(({ field, problem }) => `${field}: ${problem}`).join('; ');
    throw new UpstreamBrokenError(`Backend "${name}" has a faulty record of ${what}: ${problems}`);
  }

  #complete(patches: readonly RecordPatch[]): UserRecord {
    return completeRecord(patches.reduce(mergeRecords, this.#options.defaultuser));
  }

  async #ask<T>({ name }: LoadedBackend, ask: () => MaybeAsync<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      throw named(error, name);
    }
  }

  /** One question at a time for each key; the answer holds until a backend tells of a change or, where one cannot tell, its time is up. */
  #keep<T>(key: string, asked: readonly LoadedBackend[], load: () => Promise<T>): Promise<T> {
    const version = this.version();
    const now = this.#options.now();
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.version === version && now < kept.until) return kept.value as Promise<T>;
    const telling = asked.every(({ backend }) => backend.version !== undefined);
    if (this.#kept.size >= keptAtMost) this.#kept.clear();
    const entry: Kept = { value: load(), version, until: telling ? Infinity : now + believedFor };
    this.#kept.set(key, entry);
    entry.value.catch(() => {
      if (this.#kept.get(key) === entry) this.#kept.delete(key);
    });
    return entry.value as Promise<T>;
  }
}

type MaybeAsync<T> = T | Promise<T>;

/** Those that decide what users may do and use. */
function granting(backends: readonly LoadedBackend[]): readonly LoadedBackend[] {
  return backends.filter(({ keys }) => grantKeys.some((key) => keys.has(key)));
}

function distinct<T>(items: readonly T[]): readonly T[] {
  return [...new Set(items)];
}

function askAll<T, R>(items: readonly T[], ask: (item: T) => Promise<R>): Promise<R[]> {
  return Promise.all(items.map(ask));
}

const rethrown = [UpstreamUnreachableError, UpstreamDeadlineError, UpstreamBrokenError] as const;

function named(error: unknown, backend: string): Error {
  const ours = rethrown.find((kind) => error instanceof kind);
  if (ours !== undefined) return new ours(`Backend "${backend}": ${(error as Error).message}`, { cause: error });
  if (error instanceof ApiError) return error;
  return new UpstreamBrokenError(`Backend "${backend}" failed`, { cause: error });
}
