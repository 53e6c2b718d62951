/** Who exists in the cluster, and who may do what: realms, users, groups, roles, tokens, access control lists. */

import { randomUUID } from 'node:crypto';
import { authUser, type Caller } from './call.ts';
import type { Pool } from './model.ts';
import { PveError } from './pve-error.ts';
import { builtInRoles, privileges } from './roles.ts';
import { fixedCode, type SecondFactor } from './second-factors.ts';
import { Tickets } from './tickets.ts';

export interface Realm {
  readonly realm: string;
  readonly type: 'pve' | 'pam' | 'ldap' | 'ad' | 'openid';
  readonly comment?: string;
  readonly default?: boolean;
  /** false: names are matched whatever their case, and the stored spelling is used. */
  readonly caseSensitive?: boolean;
  /** What else its type needs: servers, names in the directory, secrets. */
  readonly options?: Readonly<Record<string, unknown>>;
}

/** Times are seconds since 1970; 0 means never. */
export interface Token {
  readonly tokenid: string;
  readonly secret: string;
  readonly privsep: boolean;
  readonly expire: number;
  readonly comment?: string;
}

export interface UserProfile {
  enable?: boolean;
  expire?: number;
  firstname?: string;
  lastname?: string;
  email?: string;
  comment?: string;
  keys?: string;
}

export interface User extends UserProfile {
  readonly userid: string;
  enable: boolean;
  expire: number;
  password?: string;
  /** What is asked for after the password, by id. */
  readonly factors: Map<string, SecondFactor>;
  readonly tokens: Map<string, Token>;
}

export interface Group {
  readonly groupid: string;
  comment?: string;
  readonly members: Set<string>;
}

/** To whom a role is given. */
export interface Subjects {
  readonly users?: readonly string[];
  readonly groups?: readonly string[];
  readonly tokens?: readonly string[];
}

export interface AclEntry {
  readonly path: string;
  readonly type: 'user' | 'group' | 'token';
  readonly ugid: string;
  readonly roleid: string;
  readonly propagate: boolean;
}

/** Which guests and storages lie in which pools. */
export interface Membership {
  readonly pools: ReadonlyMap<string, Pool>;
  poolOf(vmid: number): string | undefined;
}

/** Privileges held, each with whether it also holds below the path. */
export type Privileges = ReadonlyMap<string, 0 | 1>;

type Roles = ReadonlyMap<string, boolean>;
type Grants = Map<string, Map<string, boolean>>;
interface AclNode {
  readonly user: Grants;
  readonly group: Grants;
  readonly token: Grants;
}

const administrator = 'root@pam';
const everything: Privileges = new Map([...privileges].map((privilege) => [privilege, 1]));
const topLevelPaths = ['/', '/access', '/access/groups', '/mapping', '/nodes', '/pool', '/sdn', '/storage', '/vms'];

/** Slashes made single and the last one dropped; undefined for what can never be an ACL path. */
export function normalisePath(path: string): string | undefined {
  const normal = `/${path}`.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
  return /^[A-Za-z0-9._/-]+$/.test(normal) ? normal : undefined;
}

/** Splits `user@realm!token` in two; a plain user has no token part. */
export function splitTokenId(authid: string): { readonly user: string; readonly token: string | undefined } {
  const [user = '', token] = authid.split('!', 2);
  return { user, token };
}

/** `403 Permission check failed`, with what was missing where that is known. */
export function permissionError(what?: string): PveError {
  return new PveError(403, `Permission check failed${what === undefined ? '' : ` (${what})`}`);
}

export class Access {
  readonly realms = new Map<string, Realm>();
  readonly users = new Map<string, User>();
  readonly groups = new Map<string, Group>();
  readonly roles = new Map<string, ReadonlySet<string>>(builtInRoles);
  /** The cluster's pools: to be in one gives rights. */
  membership: Membership = { pools: new Map(), poolOf: () => undefined };
  readonly tickets = new Tickets();
  readonly now: () => number;
  readonly #acl = new Map<string, AclNode>();
  /** What each caller holds where the lists differ; emptied whenever lists, roles, groups, tokens change. */
  readonly #held = new Map<string, Map<string, Privileges>>();

  constructor(now: () => number = Date.now) {
    this.now = now;
    this.addRealm({ realm: 'pam', type: 'pam', comment: 'Linux PAM standard authentication' });
    this.addRealm({ realm: 'pve', type: 'pve', comment: 'Proxmox VE authentication server' });
    this.addUser(administrator, { comment: 'built-in Superuser' });
  }

  /** Seconds since 1970. */
  get seconds(): number {
    return Math.floor(this.now() / 1000);
  }

  addRealm(realm: Realm): void {
    this.realms.set(realm.realm, realm);
  }

  /** Makes the user and its place in groups; a user of that name is replaced. */
  addUser(
    userid: string,
    { password, groups = [], ...profile }: UserProfile & Pick<User, 'password'> & { groups?: readonly string[] } = {},
  ): User {
    const user: User = {
      enable: true,
      expire: 0,
      ...profile,
      userid,
      ...(password === undefined ? {} : { password }),
      factors: new Map(),
      tokens: new Map(),
    };
    this.users.set(userid, user);
    for (const group of groups) this.addGroup(group, [userid]);
    this.#changed();
    return user;
  }

  /** Removes the user with its tokens, its group memberships and its entries in the lists. */
  removeUser(userid: string): void {
    this.users.delete(userid);
    for (const { members } of this.groups.values()) members.delete(userid);
    for (const node of this.#acl.values()) {
      node.user.delete(userid);
      for (const token of node.token.keys()) if (token.startsWith(`${userid}!`)) node.token.delete(token);
    }
    this.#changed();
  }

  user(userid: string): User {
    const user = this.users.get(userid);
    if (!user) throw new PveError(500, `no such user ('${userid}')`);
    return user;
  }

  setPassword(userid: string, password: string): void {
    this.user(userid).password = password;
  }

  /** From now on the password alone signs nobody in as this user. */
  setTotp(userid: string, code: string): void {
    this.user(userid).factors.set('code', fixedCode(code, this.seconds));
  }

  /** The realm of a user's name. */
  realmOf(userid: string): Realm | undefined {
    return this.realms.get(userid.slice(userid.lastIndexOf('@') + 1));
  }

  disable(userid: string): void {
    this.user(userid).enable = false;
  }

  enable(userid: string): void {
    this.user(userid).enable = true;
  }

  /** Makes the group if need be and puts the members in. */
  addGroup(groupid: string, members: readonly string[] = [], comment?: string): Group {
    const group = this.groups.get(groupid) ?? { groupid, members: new Set() };
    this.groups.set(groupid, group);
    for (const member of members) group.members.add(member);
    if (comment !== undefined) group.comment = comment;
    this.#changed();
    return group;
  }

  removeFromGroup(groupid: string, userid: string): void {
    this.groups.get(groupid)?.members.delete(userid);
    this.#changed();
  }

  removeGroup(groupid: string): void {
    this.groups.delete(groupid);
    for (const { group } of this.#acl.values()) group.delete(groupid);
    this.#changed();
  }

  groupsOf(userid: string): readonly string[] {
    return [...this.groups.values()].filter(({ members }) => members.has(userid)).map(({ groupid }) => groupid);
  }

  /** Makes or replaces a role of one's own. */
  addRole(roleid: string, held: readonly string[]): void {
    for (const privilege of held) verifyPrivilege(privilege);
    this.roles.set(roleid, new Set(held));
    this.#changed();
  }

  removeRole(roleid: string): void {
    this.roles.delete(roleid);
    this.#changed();
  }

  /** Gives a role on a path; one that was given there before is kept beside it. */
  setAcl(path: string, subjects: Subjects, roleid: string, propagate = true): void {
    if (!this.roles.has(roleid)) throw new PveError(500, `role '${roleid}' does not exist`);
    const node = this.#node(path);
    for (const [grants, id] of grantees(node, subjects)) {
      grants.set(id, new Map(grants.get(id)).set(roleid, propagate));
    }
    this.#changed();
  }

  /** Takes a role away again; what was not given is not missed. */
  removeAcl(path: string, subjects: Subjects, roleid: string): void {
    for (const [grants, id] of grantees(this.#node(path), subjects)) {
      const roles = grants.get(id);
      roles?.delete(roleid);
      if (roles?.size === 0) grants.delete(id);
    }
    this.#changed();
  }

  /** Forgets all entries of exactly this path, as the end of a guest does. */
  dropAcl(path: string): void {
    if (this.#acl.delete(path)) this.#changed();
  }

  /** All entries of the lists, by path. */
  acl(): readonly AclEntry[] {
    return [...this.#acl]
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .flatMap(([path, node]) =>
        (['user', 'group', 'token'] as const).flatMap((type) =>
          [...node[type]].flatMap(([ugid, roles]) =>
            [...roles].map(([roleid, propagate]) => ({ path, type, ugid, roleid, propagate })),
          ),
        ),
      );
  }

  /** Makes a token, or makes it anew, and answers its secret. */
  addToken(
    userid: string,
    tokenid: string,
    { privsep = true, expire = 0, secret = randomUUID(), comment }: Partial<Omit<Token, 'tokenid'>> = {},
  ): string {
    const token = { tokenid, secret, privsep, expire, ...(comment === undefined ? {} : { comment }) };
    this.user(userid).tokens.set(tokenid, token);
    this.#changed();
    return secret;
  }

  /** Removes the token and its entries in the lists. */
  removeToken(userid: string, tokenid: string): void {
    this.user(userid).tokens.delete(tokenid);
    for (const { token } of this.#acl.values()) token.delete(`${userid}!${tokenid}`);
    this.#changed();
  }

  /** Whether the user may sign in or act at all. */
  isActive(userid: string): boolean {
    const user = this.users.get(userid);
    return user?.enable === true && !this.#isOver(user.expire);
  }

  /** The caller behind `user@realm!id` and its secret; undefined when any of it does not hold. */
  callerOfToken(authid: string, secret: string): Caller | undefined {
    const { user, token: tokenid = '' } = splitTokenId(authid);
    const token = this.users.get(user)?.tokens.get(tokenid);
    const valid = token?.secret === secret && !this.#isOver(token.expire) && this.isActive(user);
    return valid ? { user, token: authid } : undefined;
  }

  /** The stored spelling of a name, in realms that do not look at case. */
  canonicalUser(userid: string): string {
    const realm = this.realmOf(userid);
    if (realm?.caseSensitive !== false || this.users.has(userid)) return userid;
    const wanted = userid.toLowerCase();
    return [...this.users.keys()].find((name) => name.toLowerCase() === wanted) ?? userid;
  }

  /** What the caller may do on a path. The path is taken as it is: pools count for `/vms/100`, not for `/vms/100/`. */
  privileges(caller: Caller, path: string): Privileges {
    return this.privilegesOf(authUser(caller), path);
  }

  /** The same for a user or token id, whether or not it may act at present. */
  privilegesOf(authid: string, path: string): Privileges {
    const { user, token: tokenid } = splitTokenId(authid);
    const token = tokenid === undefined ? undefined : this.users.get(user)?.tokens.get(tokenid);
    if (tokenid !== undefined && !token) return new Map();
    if (token?.privsep) return intersection(this.#effective(authid, path), this.#effective(user, path));
    return this.#effective(user, path);
  }

  /** Whether the caller holds all of the privileges on the path, or one of them with `any`. */
  check(caller: Caller, path: string, wanted: readonly string[], any = false): boolean {
    for (const privilege of wanted) verifyPrivilege(privilege);
    const held = this.privileges(caller, path);
    return any ? wanted.some((privilege) => held.has(privilege)) : wanted.every((privilege) => held.has(privilege));
  }

  /** Throws PVE's 403, which names path and privilege, unless `check` holds. */
  demand(caller: Caller, path: string, wanted: readonly string[], any = false): void {
    if (this.check(caller, path, wanted, any)) return;
    const held = this.privileges(caller, path);
    const missing = any ? wanted.join('|') : wanted.find((privilege) => !held.has(privilege));
    throw permissionError(`${path}, ${missing}`);
  }

  /** What one holds everywhere it could matter; paths without any privilege are left out. */
  allPrivileges(authid: string): ReadonlyMap<string, Privileges> {
    const members = [...this.membership.pools.values()].flatMap(({ poolid, vms, storages }) => [
      `/pool/${poolid}`,
      ...[...vms].map((vmid) => `/vms/${vmid}`),
      ...[...storages].map((storage) => `/storage/${storage}`),
    ]);
    const paths = new Set([...topLevelPaths, ...this.#acl.keys(), ...members]);
    return new Map(
      [...paths].map((path) => [path, this.privilegesOf(authid, path)] as const).filter(([, held]) => held.size > 0),
    );
  }

  /**
   * What the entries and pools give on a path. Paths that end at the same entry and lie in the same pools share one
   * result, so a list of ten thousand guests costs a few evaluations.
   */
  #effective(subject: string, path: string): Privileges {
    if (subject === administrator) return everything;
    const place = path.replace(/\/{2,}/g, '/').replace(/(.)\/$/, '$1');
    const entry = this.#nearestEntry(place);
    const pools = this.#poolsAt(path);
    const key = `${entry} ${entry === place} ${pools.join(' ')}`;
    const held = this.#held.get(subject) ?? new Map<string, Privileges>();
    this.#held.set(subject, held);
    const known = held.get(key);
    if (known) return known;
    const privilegesHere = this.#privilegesOfRoles(this.#rolesWithPools(subject, trailOf(place), pools));
    held.set(key, privilegesHere);
    return privilegesHere;
  }

  /** The deepest path with entries on the way to this one. */
  #nearestEntry(place: string): string {
    let at = place;
    while (at !== '/' && at !== '' && !this.#acl.has(at)) at = at.slice(0, at.lastIndexOf('/')) || '/';
    return at;
  }

  #rolesWithPools(subject: string, trail: readonly string[], pools: readonly string[]): Roles {
    const own = this.#rolesAt(subject, trail);
    if (own.has('NoAccess')) return own;
    const byPool = pools.flatMap((pool) => [...this.#rolesAt(subject, trailOf(`/pool/${pool}`)).keys()]);
    if (byPool.includes('NoAccess')) return new Map([['NoAccess', false]]);
    return new Map([...byPool.map((role) => [role, false] as const), ...own]);
  }

  /** Walks down: a level that says anything about the subject replaces all that was said above it. */
  #rolesAt(subject: string, trail: readonly string[]): Roles {
    let roles: Roles = new Map();
    for (const [index, step] of trail.entries()) {
      const node = this.#acl.get(step);
      if (node) roles = this.#rolesOfNode(node, subject, index === trail.length - 1) ?? roles;
    }
    return roles.has('NoAccess') ? new Map([['NoAccess', roles.get('NoAccess') === true]]) : roles;
  }

  #rolesOfNode(node: AclNode, subject: string, isFinal: boolean): Roles | undefined {
    const inForce = (grants: Roles | undefined) => [...(grants ?? [])].filter(([, propagate]) => isFinal || propagate);
    const direct = subject.includes('!') ? node.token.get(subject) : node.user.get(subject);
    const byGroup = subject.includes('!')
      ? []
      : [...node.group].filter(([id]) => this.groups.get(id)?.members.has(subject));
    for (const roles of [inForce(direct), byGroup.flatMap(([, grants]) => inForce(grants))]) {
      if (roles.length > 0) return new Map(roles);
    }
    return undefined;
  }

  #privilegesOfRoles(roles: Roles): Privileges {
    const held = new Map<string, 0 | 1>();
    for (const [role, propagate] of roles) {
      for (const privilege of this.roles.get(role) ?? []) {
        held.set(privilege, propagate || held.get(privilege) === 1 ? 1 : 0);
      }
    }
    return held;
  }

  #poolsAt(path: string): readonly string[] {
    const [, kind, id, ...below] = path.split('/');
    if (id === undefined || id === '' || below.length > 0) return [];
    if (kind === 'vms') return [this.membership.poolOf(Number(id)) ?? []].flat();
    if (kind !== 'storage') return [];
    return [...this.membership.pools.values()].filter(({ storages }) => storages.has(id)).map(({ poolid }) => poolid);
  }

  #node(path: string): AclNode {
    const normal = normalisePath(path);
    if (normal === undefined) throw new PveError(500, `invalid ACL path '${path}'`);
    const node = this.#acl.get(normal) ?? { user: new Map(), group: new Map(), token: new Map() };
    this.#acl.set(normal, node);
    return node;
  }

  #isOver(expire: number): boolean {
    return expire > 0 && expire < this.seconds;
  }

  #changed(): void {
    this.#held.clear();
  }
}

function grantees(node: AclNode, { users = [], groups = [], tokens = [] }: Subjects): readonly [Grants, string][] {
  return [
    ...users.map((id): [Grants, string] => [node.user, id]),
    ...groups.map((id): [Grants, string] => [node.group, id]),
    ...tokens.map((id): [Grants, string] => [node.token, id]),
  ];
}

/** `/vms/100` is reached by way of `/`, `/vms`, `/vms/100`. */
function trailOf(path: string): readonly string[] {
  const steps = ['/'];
  let step = '';
  for (const part of path.split('/')) {
    if (part === '') continue;
    step += `/${part}`;
    steps.push(step);
  }
  return steps;
}

function intersection(left: Privileges, right: Privileges): Privileges {
  return new Map(
    [...left].filter(([key]) => right.has(key)).map(([key, down]) => [key, down && right.get(key) ? 1 : 0]),
  );
}

function verifyPrivilege(privilege: string): void {
  if (!privileges.has(privilege)) throw new PveError(500, `no such privilege '${privilege}'`);
}
