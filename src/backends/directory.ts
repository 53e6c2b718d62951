/** All configured backends as one: what each knows of a user, merged in the configured order. */

import { dirname } from 'node:path';
import type { BaseLogger } from 'pino';
import {
  ApiError,
  type Fault,
  ForbiddenError,
  UnauthenticatedError,
  UpstreamBrokenError,
  UpstreamDeadlineError,
  UpstreamUnreachableError,
} from '../errors.ts';
import type { UserRecord } from '../quota/record.ts';
import type { Resources } from '../quota/resources.ts';
import { FaultsError, fits } from '../schema.ts';
import {
  type BackendChange,
  type BackendData,
  type BackendResult,
  formatGroupName,
  formatUserName,
  type GroupName,
  parseGroupName,
  parseUserName,
  type Requester,
  server,
  type UserName,
} from './backend.ts';
import { applyAll, type ChangeResult, stateAt } from './changes.ts';
import { saidInVain } from './in-vain.ts';
import { type BackendContext, type BackendEntries, grantKeys, type LoadedBackend, loadBackends } from './index.ts';
import { believedFor, KeptAnswers } from './kept-answers.ts';
import {
  type Ask,
  faultsOfGroups,
  groupsWith,
  isListed,
  type LimitedGroup,
  listedMembers,
  type MembersAt,
  membersOf,
  tellsMembers,
  toldMembers,
} from './memberships.ts';
import { mergeRecords, normaliseRecord, type RecordPatch } from './normalise.ts';
import { type Explained, explain, type Layer, recordOf } from './provenance.ts';
import { stepsFor } from './steps.ts';

/** Which backends answer for whom, by name and in order. */
export interface UserHandlers {
  readonly realm: Readonly<Record<string, readonly string[]>>;
  /** For realms that are not in `realm`. */
  readonly otherwise: readonly string[];
  /** For lists of all users and groups. */
  readonly any: readonly string[];
  /** The groups whose records count for their members, the last one most: `lab` for a group of PVE, `students@ldap`. */
  readonly groups?: readonly string[];
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

/**
 * Makes every configured backend and joins them; module paths are relative to the directory of the configuration.
 * Throws what `loadBackends` throws, and FaultsError for groups whose members nobody can tell.
 */
export async function openDirectory(
  { backends, handlers, defaultuser, resources }: DirectorySettings,
  { configFile, ...context }: Omit<BackendContext, 'resources'> & { readonly configFile: string },
): Promise<Directory> {
  const directory = new Directory({
    backends: await loadBackends(backends, dirname(configFile), { ...context, resources }),
    users: handlers.users,
    pve: handlers.instance.pve,
    defaultuser,
    resources,
    log: context.log,
    now: () => performance.now(),
  });
  const faults = directory.faults();
  if (faults.length > 0) {
    await directory.close();
    throw new FaultsError(configFile, faults);
  }
  return directory;
}

/** Ms for which the members of a group are kept for several users; records that are made of them are kept for the rest. */
const sharedFor = 2000;
const madeFor = believedFor - sharedFor;

/**
 * The users of all backends. A backend that fails is named in an UpstreamBrokenError (or the error that it threw, when
 * that is one of ours) and never left out: a record is either complete or not there.
 */
export class Directory {
  readonly #options: DirectoryOptions;
  readonly #all: readonly LoadedBackend[];
  readonly #groups: readonly LimitedGroup[];
  readonly #answers: KeptAnswers;
  /** Who has just been deleted here, until when (monotonic milliseconds) they may still be believed to be there elsewhere. */
  readonly #gone = new Map<string, number>();
  #lastChange: Promise<unknown> = Promise.resolve();
  /** Asks a backend; what it throws names the backend. */
  readonly #ask: Ask = async ({ name }, ask) => {
    try {
      return await ask();
    } catch (error) {
      throw named(error, name);
    }
  };

  readonly #membersAt: MembersAt = (loaded, group) => {
    const { name, backend } = loaded;
    const shared = <T>(what: string, load: () => Promise<T>) =>
      this.#answers.get(`${what} ${name}`, [loaded], load, sharedFor);
    if (backend.membersOf !== undefined)
      return shared(`members of ${formatGroupName(group)} at`, () => toldMembers(loaded, group, this.#ask));
    const listed = () => shared('all users at', () => this.#ask(loaded, async () => backend.getAllUsers?.(server)));
    return listedMembers(loaded, group, this.#ask, listed);
  };

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.#answers = new KeptAnswers(() => this.version(), options.now);
    this.#all = [...options.backends.values()];
    this.#groups = distinct((options.users.groups ?? []).map((text) => formatGroupName(parseGroupName(text)))).map(
      (name) => {
        const group = parseGroupName(name);
        return { name, group, told: this.#holding(group).filter(({ backend }) => tellsMembers(backend)) };
      },
    );
  }

  /** What is wrong with the configured groups. */
  faults(): Fault[] {
    return faultsOfGroups(this.#groups);
  }

  /** Whether the configuration has the limits of this group count. */
  counts(group: GroupName): boolean {
    return isListed(group, this.#options.users.groups);
  }

  /** Which backends cannot tell who may go on, and what is configured or recorded to no effect, as far as they all tell now. */
  async hints(): Promise<readonly string[]> {
    const [pve] = this.#named([this.#options.pve]);
    const troubles = askAll(Object.keys(this.#options.users.realm), (realm) =>
      this.mustAdmit({ id: 'nobody', realm }).then(
        () => [],
        (error: Error) =>
          error instanceof UnauthenticatedError ? [] : [`nobody of the realm ${realm} is let in: ${error.message}`],
      ),
    );
    return [
      ...(await troubles).flat(),
      ...(await saidInVain({ groups: this.#groups, deciding: granting(this.#all), pve })),
    ];
  }

  /** Grows whenever a backend that can tell has told of a change. */
  version(): number {
    return this.#all.reduce((total, { backend }) => total + (backend.version?.() ?? 0), 0);
  }

  /**
   * What a user whom PVE has authenticated may do and use: at least what `defaultuser` says, then what their groups say,
   * then what is said of themselves. Only the backends that decide such things are asked, on nobody's behalf, so that
   * no session and no directory attribute matters here; and those that tell who is in the groups.
   */
  record(user: UserName): Promise<UserRecord> {
    const asked = granting(this.#of(user.realm));
    const groups = this.#groupsFor(user);
    const make = async () => {
      const [shared, own] = await Promise.all([this.#layersOfGroups(user), this.#layers(asked, user, server)]);
      return recordOf([this.#base, ...shared, ...own]);
    };
    return this.#answers.get(
      formatUserName(user),
      [...asked, ...tellers(groups)],
      make,
      groups.length > 0 ? madeFor : believedFor,
    );
  }

  /**
   * The record of a user who acts now. Throws UnauthenticatedError when a backend of the realm says that the user is
   * gone or disabled, which it is asked at most 5 s before.
   */
  async admit(user: UserName): Promise<UserRecord> {
    await this.mustAdmit(user);
    return this.record(user);
  }

  /** Whether any backend has a word in who of a realm may go on, besides PVE. */
  asksAbout(realm: string): boolean {
    return this.#of(realm).some(({ backend }) => backend.admits !== undefined);
  }

  /** Throws UnauthenticatedError for a user whom a backend of theirs does not let go on, asked at most 5 s ago. */
  async mustAdmit(user: UserName): Promise<void> {
    const asked = this.#of(user.realm).filter(({ backend }) => backend.admits !== undefined);
    const isGone = (this.#gone.get(formatUserName(user)) ?? 0) > this.#options.now();
    const admitted =
      asked.length === 0 ||
      (await this.#answers.get(`admits ${formatUserName(user)}`, asked, async () => {
        const answers = await askAll(asked, (loaded) => this.#ask(loaded, () => loaded.backend.admits?.(user)));
        return answers.every((answer) => answer !== false);
      }));
    if (isGone || !admitted)
      throw new UnauthenticatedError(`The user ${formatUserName(user)} is disabled or does not exist any more`);
  }

  /** The records of all users for whom a backend decides what they may do and use, by themselves or in a group. */
  records(): Promise<ReadonlyMap<string, UserRecord>> {
    const { any, realm, otherwise } = this.#options.users;
    const asked = granting(this.#named([...any, ...Object.values(realm).flat(), ...otherwise]));
    const make = async () => {
      const [lists, groups] = await Promise.all([this.#lists(asked, server), this.#allInGroups()]);
      return this.#together(lists, groups.layers, groups.names);
    };
    return this.#answers.get(
      '',
      [...asked, ...tellers(this.#groups)],
      make,
      this.#groups.length > 0 ? madeFor : believedFor,
    );
  }

  /**
   * What all backends say of a user, with what their groups give them, or null when none knows them; given to
   * administrators and to the user alone, who is known by having signed in.
   */
  async getUser(user: UserName, requester: Requester): Promise<UserRecord | null> {
    const layers = await this.#seen(user, requester);
    return layers === null ? null : recordOf(layers);
  }

  /** Every value of what `getUser` gives, with its source; null where that gives null. */
  async explain(user: UserName, requester: Requester): Promise<readonly Explained[] | null> {
    const layers = await this.#seen(user, requester);
    return layers === null ? null : explain(layers, this.#options.resources);
  }

  /** What is said of the user alone under the keys that a change replaces; null where `getUser` gives null. */
  async ownOf(user: UserName, requester: Requester): Promise<Omit<RecordPatch, 'dn' | 'attributes'> | null> {
    const layers = await this.#seen(user, requester);
    if (layers === null) return null;
    const {
      dn: _,
      attributes: __,
      ...own
    } = layers.flatMap(({ source, patch }) => (source.from === 'user' ? [patch] : [])).reduce(mergeRecords, {});
    return own;
  }

  /** All users by name, for administrators; nobody for others. */
  async getAllUsers(requester: Requester): Promise<ReadonlyMap<string, UserRecord>> {
    if (!(await this.#isAdmin(requester))) return new Map();
    const any = this.#named(this.#options.users.any);
    const [lists, groups] = await Promise.all([this.#lists(any, requester), this.#allInGroups()]);
    return this.#together(lists, groups.layers);
  }

  /** A group as those backends for lists see it that hold it or decide what it gives, or null; for administrators. */
  async getGroup(group: GroupName, requester: Requester): Promise<RecordPatch | null> {
    if (!(await this.#isAdmin(requester))) return null;
    const any = this.#named(this.#options.users.any);
    const asked = new Set([...this.#holding(group), ...granting(any)]);
    const patches = await askAll(
      any.filter((loaded) => asked.has(loaded)),
      (loaded) => this.#patchFrom(loaded, `group ${group.id}`, () => loaded.backend.getGroup?.(group, requester)),
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

  /**
   * Signs out wherever users of this realm are signed in, at all such backends at once; gives the names of those that
   * did not do it, where a session may live on for its time.
   */
  async closeSession(requester: Requester): Promise<readonly string[]> {
    const user = parseUserName(requester.username ?? '');
    return this.#close(user === null ? this.#all : this.#signingIn(user.realm), requester);
  }

  /**
   * Has the backends store a new password that sign in the user's realm, in order; PVE is asked where no other one does,
   * and so knows the password. All of them check it before any stores it. One that has stored it keeps it when the next
   * one fails, and the answer says so.
   */
  async setPassword(
    user: UserName,
    password: string,
    { oldpassword }: { readonly oldpassword?: string },
    requester: Requester,
  ): Promise<ChangeResult> {
    const own = this.#of(user.realm);
    const asked = own.some(({ backend }) => backend.openSession !== undefined) ? own : this.#signingIn(user.realm);
    const able = asked.filter(({ backend }) => backend.openSession !== undefined && backend.setUser !== undefined);
    const keeps = await askAll(able, (loaded) => this.#keepsPassword(loaded, user));
    const keepers = able.filter((_, index) => keeps[index]);
    if (keepers.length === 0) {
      const message = `The passwords of the realm ${user.realm} are kept where this server cannot change them`;
      return { ok: false, status: 501, message, allResponses: [] };
    }
    const attributes = { userpassword: password, ...(oldpassword === undefined ? {} : { oldpassword }) };
    const change = { method: 'setUser', user, attributes } as const;
    return applyAll(
      keepers.map((loaded) => ({ loaded, change, before: null })),
      requester,
      this.#ask,
    );
  }

  /**
   * Changes users, groups or members for an administrator at all backends that it concerns: everywhere, or nowhere.
   * One change at a time, so that what is put back is nobody else's change.
   * Throws ForbiddenError for anybody else, and the errors of backends that cannot be asked before anything is changed.
   */
  change(change: BackendChange, requester: Requester): Promise<ChangeResult> {
    const result = this.#lastChange.then(() => this.#change(change, requester));
    this.#lastChange = result.catch(() => {});
    return result;
  }

  /** Ends every backend, in no order. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map(({ backend }) => backend.close?.()));
  }

  async #close(opened: readonly LoadedBackend[], requester: Requester): Promise<readonly string[]> {
    const failed = await askAll(opened, async (loaded) => {
      const error = await this.#ask(loaded, () => loaded.backend.closeSession?.(requester)).then(
        (result) => (result?.ok === false ? new Error(result.message) : null),
        (thrown: Error) => thrown,
      );
      if (error === null) return [];
      this.#options.log.warn(error, `backend "${loaded.name}" could not close a session`);
      return [loaded.name];
    });
    return failed.flat();
  }

  async #change(change: BackendChange, requester: Requester): Promise<ChangeResult> {
    if (!(await this.#isAdmin(requester))) throw new ForbiddenError('Only administrators change users and groups');
    const admin = { ...requester, admin: true };
    const holding = 'group' in change ? this.#holding(change.group) : this.#concerned(change);
    const others = 'group' in change ? granting(this.#named(this.#options.users.any)) : [];
    const seen = await askAll(distinct([...holding, ...others]), async (loaded) => ({
      loaded,
      holds: holding.includes(loaded),
      keepsPassword: !setsPassword(change) || (await this.#keepsPassword(loaded, change.user)),
      before: await this.#ask(loaded, () => stateAt(loaded, change, admin)),
    }));
    const result = await applyAll(stepsFor(change, seen), admin, this.#ask);
    if (change.method === 'delUser' && result.ok) this.#cutOff(change.user);
    if (change.method === 'addUser' && result.ok) this.#gone.delete(formatUserName(change.user));
    return result;
  }

  async #keepsPassword(loaded: LoadedBackend, user: UserName): Promise<boolean> {
    return (await this.#ask(loaded, () => loaded.backend.keepsPassword?.(user))) ?? true;
  }

  /** Who is deleted is deleted in PVE as well, which ends their tickets and tokens, and first there: it may refuse the requester. */
  #concerned({ method, user }: Exclude<BackendChange, { readonly group: GroupName }>): readonly LoadedBackend[] {
    const own = this.#of(user.realm);
    return method === 'delUser' ? distinct([...this.#named([this.#options.pve]), ...own]) : own;
  }

  /** For as long as an earlier word about them may be believed. */
  #cutOff(user: UserName): void {
    const now = this.#options.now();
    for (const [name, until] of this.#gone) if (until <= now) this.#gone.delete(name);
    this.#gone.set(formatUserName(user), now + believedFor);
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

  /** The backends that hold a group itself; whatever else names it, only they say who is in it. PVE's belong to no realm. */
  #holding({ realm }: GroupName): readonly LoadedBackend[] {
    const pve = this.#named([this.#options.pve]);
    return realm === undefined ? pve : this.#of(realm).filter((loaded) => !pve.includes(loaded));
  }

  /** The groups that the user can be in: those of PVE, and those of the user's realm. */
  #groupsFor({ realm }: UserName): readonly LimitedGroup[] {
    return this.#groups.filter(({ group }) => group.realm === undefined || group.realm === realm);
  }

  get #base(): Layer {
    return { source: { from: 'default' }, patch: this.#options.defaultuser };
  }

  /** What the backends say of a user who may be seen by the requester, and what the user's groups give. */
  async #seen(user: UserName, requester: Requester): Promise<readonly Layer[] | null> {
    const isSelf = requester.username === formatUserName(user);
    if (!isSelf && !(await this.#isAdmin(requester))) return null;
    const [own, shared] = await Promise.all([
      this.#layers(this.#of(user.realm), user, requester),
      this.#layersOfGroups(user),
    ]);
    return isSelf || own.length + shared.length > 0 ? [this.#base, ...shared, ...own] : null;
  }

  async #layers(asked: readonly LoadedBackend[], user: UserName, requester: Requester): Promise<readonly Layer[]> {
    const found = await askAll(asked, async (loaded) => {
      const what = `user ${formatUserName(user)}`;
      const patch = await this.#patchFrom(loaded, what, () => loaded.backend.getUser?.(user, requester));
      return patch === null ? [] : [{ source: { from: 'user', backend: loaded.name } as const, patch }];
    });
    return found.flat();
  }

  /** What the groups give that the user is in, by the backends that decide for the user's realm. */
  async #layersOfGroups(user: UserName): Promise<readonly Layer[]> {
    const groups = await groupsWith(user, this.#groupsFor(user), this.#ask, this.#membersAt);
    return (await askAll(groups, (limited) => this.#layersOfGroup(limited, granting(this.#of(user.realm))))).flat();
  }

  async #layersOfGroup({ group, name }: LimitedGroup, asked: readonly LoadedBackend[]): Promise<readonly GroupLayer[]> {
    const found = await askAll(asked, async (loaded) => {
      const patch = await this.#patchFrom(loaded, `group ${name}`, () => loaded.backend.getGroup?.(group, server));
      if (patch === null) return [];
      // Who the group is, is not who its members are.
      const { dn: _, attributes: __, ...granted } = patch;
      return [{ source: { from: 'group', group: name, backend: loaded.name } as const, patch: granted }];
    });
    return found.flat();
  }

  /** Everybody who is in a group that carries limits, and what the groups of a user give. */
  async #allInGroups(): Promise<{
    readonly names: readonly string[];
    readonly layers: (user: UserName) => readonly Layer[];
  }> {
    const [members, said] = await Promise.all([
      membersOf(this.#groups, this.#membersAt),
      askAll(this.#groups, (limited) => this.#layersOfGroup(limited, granting(this.#all))),
    ]);
    const names = [...members.values()].flatMap((group) => [...group]);
    const layers = (user: UserName): readonly Layer[] => {
      const own = this.#of(user.realm).map(({ name }) => name);
      return this.#groupsFor(user)
        .filter((limited) => members.get(limited)?.has(formatUserName(user)))
        .flatMap((limited) => said[this.#groups.indexOf(limited)] ?? [])
        .filter(({ source }) => own.includes(source.backend));
    };
    return { names, layers };
  }

  #lists(asked: readonly LoadedBackend[], requester: Requester): Promise<readonly UserList[]> {
    return askAll(asked, async (loaded) => ({
      loaded,
      users: new Map(Object.entries((await this.#ask(loaded, () => loaded.backend.getAllUsers?.(requester))) ?? {})),
    }));
  }

  /** The records of all who are listed, and of these others. */
  #together(
    lists: readonly UserList[],
    shared: (user: UserName) => readonly Layer[],
    others: readonly string[] = [],
  ): ReadonlyMap<string, UserRecord> {
    const names = new Set([...lists.flatMap(({ users }) => [...users.keys()]), ...others]);
    return new Map(
      [...names].flatMap((name) => {
        const user = parseUserName(name);
        if (user === null) return [];
        const own = this.#of(user.realm).flatMap((loaded): Layer[] => {
          const data = lists.find((list) => list.loaded === loaded)?.users.get(name);
          if (data === undefined) return [];
          return [{ source: { from: 'user', backend: loaded.name }, patch: this.#patch(loaded, `user ${name}`, data) }];
        });
        return [[name, recordOf([this.#base, ...shared(user), ...own])] as const];
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
}

type MaybeAsync<T> = T | Promise<T>;

type GroupLayer = Layer & { readonly source: { readonly from: 'group'; readonly backend: string } };

/** All users as one backend tells of them. */
interface UserList {
  readonly loaded: LoadedBackend;
  readonly users: ReadonlyMap<string, BackendData>;
}

/** A change with a new password in it. */
function setsPassword(change: BackendChange): change is Extract<BackendChange, { readonly user: UserName }> {
  return 'attributes' in change && 'user' in change && change.attributes.userpassword !== undefined;
}

/** The backends that tell who is in these groups. */
function tellers(groups: readonly LimitedGroup[]): readonly LoadedBackend[] {
  return groups.flatMap(({ told }) => told);
}

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
