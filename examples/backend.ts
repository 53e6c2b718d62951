/**
 * A backend of one's own: the users and groups of one realm in a JSON file, with hashed passwords.
 * `"import": "./backend.ts", "config": { "file": "/var/lib/people.json", "realm": "people" }`; the file begins as
 * `{"users": {}, "groups": {}}`. `cost` is the work of scrypt for each password, a power of two.
 */

import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type {
  Backend,
  BackendChange,
  BackendData,
  BackendResult,
  GroupName,
  Requester,
  UserName,
} from '../src/backends/backend.ts';

interface Person {
  readonly cn: string;
  readonly sn: string;
  readonly mail: string;
  /** Salt and hash, in hexadecimal digits. */
  readonly password: string;
}

/** What the file holds; the members of a group by their names without realm. */
interface People {
  readonly users: Readonly<Record<string, Person>>;
  readonly groups: Readonly<Record<string, readonly string[]>>;
}

type Attributes = Readonly<Record<string, unknown>>;

const done: BackendResult = { ok: true, status: 200, message: '' };
const refusal = (status: number, message: string): BackendResult => ({ ok: false, status, message });
const hash = promisify<string, string, number, ScryptOptions, Buffer>(scrypt);

/** Makes the backend; throws when its settings are wrong, which ends the start of the server with that message. */
export default function createBackend(config: unknown): Backend {
  const { file, realm, cost = 16_384 } = Object(config);
  if (typeof file !== 'string' || typeof realm !== 'string') throw new Error('it needs "file" and "realm"');

  // Throws when the file cannot be read: "there is no such user" would be a guess.
  const load = (): People => JSON.parse(readFileSync(file, 'utf8'));
  const store = (people: People): BackendResult => {
    writeFileSync(`${file}.new`, JSON.stringify(people, null, 2), { mode: 0o600 });
    renameSync(`${file}.new`, file);
    return done;
  };
  const personIn = ({ users }: People, user: UserName) => (user.realm === realm ? own(users, user.id) : undefined);
  const membersIn = ({ groups }: People, group: GroupName) =>
    group.realm === undefined || group.realm === realm ? own(groups, group.id) : undefined;
  const describeUser = ({ groups }: People, id: string, { cn, sn, mail }: Person): BackendData => {
    const memberOf = Object.keys(groups).flatMap((group) => (groups[group]?.includes(id) ? [`cn=${group}`] : []));
    return { attributes: { uid: id, cn, sn, mail, memberOf } };
  };
  const describeGroup = (id: string, members: readonly string[]): BackendData => ({
    attributes: { cn: id, member: members.map((member) => `uid=${member}`) },
  });

  return {
    keys: ['attributes'],

    async openSession(user, password) {
      const person = personIn(load(), user);
      // Somebody who is not there takes as long as a wrong password.
      const right = await isRight(password, cost, person?.password ?? `${'00'.repeat(16)}:${'00'.repeat(32)}`);
      return person !== undefined && right ? done : refusal(401, 'Authentication failed: wrong name or password');
    },

    admits: (user) => personIn(load(), user) !== undefined,

    groupsOf({ id, realm: of }) {
      const { groups } = load();
      const names = Object.keys(groups).filter((group) => of === realm && groups[group]?.includes(id));
      return names.map((name) => ({ id: name, realm }));
    },

    membersOf: (group) => (membersIn(load(), group) ?? []).map((id) => ({ id, realm })),

    getUser(user) {
      const people = load();
      const person = personIn(people, user);
      return person === undefined ? null : describeUser(people, user.id, person);
    },

    getAllUsers() {
      const people = load();
      const rows = Object.entries(people.users);
      return Object.fromEntries(rows.map(([id, person]) => [`${id}@${realm}`, describeUser(people, id, person)]));
    },

    getGroup(group) {
      const members = membersIn(load(), group);
      return members === undefined ? null : describeGroup(group.id, members);
    },

    getAllGroups() {
      const rows = Object.entries(load().groups);
      return Object.fromEntries(rows.map(([id, members]) => [`${id}@${realm}`, describeGroup(id, members)]));
    },

    /** What can be told before anything is changed anywhere. */
    check(change: BackendChange) {
      if (change.method === 'addUser' && typeof change.attributes.userpassword !== 'string')
        return refusal(400, 'A new user needs userpassword');
      return null;
    },

    async addUser(user, attributes, requester) {
      const { userpassword } = attributes;
      if (typeof userpassword !== 'string') return refusal(400, 'A new user needs userpassword');
      const password = await hashed(userpassword, cost);
      const people = load();
      if (personIn(people, user) !== undefined) return refusal(409, `${user.id} is there already`);
      const person = { cn: user.id, sn: '', mail: '', password, ...textsIn(attributes) };
      return (
        refusalTo(requester) ??
        unnameable(user.id, user.realm === realm) ??
        store({ ...people, users: { ...people.users, [user.id]: person } })
      );
    },

    async setUser(user, attributes, requester) {
      const { userpassword, oldpassword } = attributes;
      const texts = textsIn(attributes);
      const isOwn = requester.username === `${user.id}@${user.realm}` && Object.keys(texts).length === 0;
      const refused = isOwn ? null : refusalTo(requester);
      if (refused !== null) return refused;
      const known = personIn(load(), user);
      if (known === undefined) return refusal(404, `${user.id} does not exist`);
      if (isOwn && requester.admin !== true && !(await isRight(String(oldpassword), cost, known.password)))
        return refusal(403, 'The current password is wrong');
      const change = {
        ...texts,
        ...(typeof userpassword === 'string' ? { password: await hashed(userpassword, cost) } : {}),
      };
      const people = load();
      return store({ ...people, users: { ...people.users, [user.id]: { ...known, ...change } } });
    },

    delUser(user, requester) {
      const people = load();
      const refused = refusalTo(requester);
      if (refused !== null) return refused;
      if (personIn(people, user) === undefined) return refusal(404, `${user.id} does not exist`);
      const { [user.id]: _, ...users } = people.users;
      const groups = Object.entries(people.groups).map(([id, members]) => [id, without(members, user.id)]);
      return store({ users, groups: Object.fromEntries(groups) });
    },

    addGroup(group, _attributes, requester) {
      const people = load();
      if (membersIn(people, group) !== undefined) return refusal(409, `${group.id} is there already`);
      return (
        refusalTo(requester) ??
        unnameable(group.id, group.realm === realm) ??
        store({ ...people, groups: { ...people.groups, [group.id]: [] } })
      );
    },

    // A group has its name and its members, and nothing that could be set.
    setGroup: () => done,

    delGroup(group, requester) {
      const people = load();
      const refused = refusalTo(requester);
      if (refused !== null) return refused;
      if (membersIn(people, group) === undefined) return refusal(404, `${group.id} does not exist`);
      const { [group.id]: _, ...groups } = people.groups;
      return store({ ...people, groups });
    },

    addUserToGroup: (user, group, requester) => changeMembers(user, group, requester, true),
    delUserFromGroup: (user, group, requester) => changeMembers(user, group, requester, false),
  };

  function changeMembers(user: UserName, group: GroupName, requester: Requester, joins: boolean): BackendResult {
    const people = load();
    const members = membersIn(people, group);
    const refused = refusalTo(requester);
    if (refused !== null) return refused;
    if (members === undefined) return refusal(404, `${group.id} does not exist`);
    if (personIn(people, user) === undefined) return refusal(404, `${user.id} does not exist`);
    if (members.includes(user.id) === joins)
      return joins ? refusal(409, `${user.id} is a member already`) : refusal(404, `${user.id} is no member`);
    const changed = joins ? [...members, user.id] : without(members, user.id);
    return store({ ...people, groups: { ...people.groups, [group.id]: changed } });
  }
}

/** `admin` is set by the server, which has asked who they are. */
function refusalTo({ username, admin }: Requester): BackendResult | null {
  if (username === undefined) return refusal(401, 'Sign in to change users and groups');
  return admin === true ? null : refusal(403, 'Only administrators change users and groups');
}

function unnameable(id: string, isHere: boolean): BackendResult | null {
  return isHere && /^[a-z][a-z0-9._-]{0,31}$/.test(id)
    ? null
    : refusal(400, `${JSON.stringify(id)} cannot be a name here`);
}

function textsIn(attributes: Attributes): Partial<Omit<Person, 'password'>> {
  const keys = ['cn', 'sn', 'mail'].filter((key) => Object.hasOwn(attributes, key));
  return Object.fromEntries(keys.map((key) => [key, String(attributes[key] ?? '')]));
}

async function hashed(password: string, N: number): Promise<string> {
  const salt = randomBytes(16).toString('hex');
  return `${salt}:${(await hash(password, salt, 32, { N })).toString('hex')}`;
}

async function isRight(password: string, N: number, stored: string): Promise<boolean> {
  const [salt = '', digest = ''] = stored.split(':');
  return timingSafeEqual(await hash(password, salt, 32, { N }), Buffer.from(digest, 'hex'));
}

/** Only what the file really holds: no name of JavaScript's own is anybody's. */
function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

function without(names: readonly string[], name: string): readonly string[] {
  return names.filter((other) => other !== name);
}
