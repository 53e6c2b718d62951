/** `/access/domains`: where users come from. */

import { createHash } from 'node:crypto';
import type { Access, Realm } from '../access.ts';
import type { Context, MethodRow, Permissions, Schema } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { digest, flag, integer, named, oneOf, required, text, textOf } from '../parameters.ts';
import { PveError, parameterError } from '../pve-error.ts';

const list = '/access/domains';
const one = `${list}/{realm}`;
const allocates: Permissions = { check: ['perm', '/access/realm', ['Realm.Allocate']] };
const realm: Schema = { type: 'string', format: 'pve-realm', maxLength: 32 };
const short: Schema = { ...text, maxLength: 256 };
const plain: Schema = { ...text, pattern: '[^\\x00-\\x1F\\x7F <>#"]*' };

const common = {
  comment: { ...text, maxLength: 4096 },
  default: flag,
  tfa: { ...text, maxLength: 128 },
} satisfies Record<string, Schema>;

const ofDirectory = {
  capath: text,
  'case-sensitive': flag,
  cert: text,
  certkey: text,
  'check-connection': flag,
  filter: { ...text, maxLength: 2048 },
  group_classes: text,
  group_dn: short,
  group_filter: { ...text, maxLength: 2048 },
  group_name_attr: short,
  mode: oneOf('ldap', 'ldaps', 'ldap+starttls'),
  password: text,
  port: integer(1, 65535),
  secure: flag,
  server1: short,
  server2: short,
  sslversion: oneOf('tlsv1', 'tlsv1_1', 'tlsv1_2', 'tlsv1_3'),
  'sync-defaults-options': text,
  sync_attributes: { ...text, pattern: '\\w+=[^,]+(,\\s*\\w+=[^,]+)*' },
  user_classes: text,
  verify: flag,
} satisfies Record<string, Schema>;

const ofLdap = { base_dn: short, bind_dn: short, user_attr: { ...short, pattern: '\\S{2,}' } } satisfies Record<
  string,
  Schema
>;
const ofAd = { bind_dn: short, domain: { ...short, pattern: '\\S+' } } satisfies Record<string, Schema>;
const ofOpenid = {
  'acr-values': plain,
  audiences: plain,
  autocreate: flag,
  'client-id': short,
  'client-key': short,
  'groups-autocreate': flag,
  'groups-claim': { ...short, pattern: '[A-Za-z0-9.\\-_]+' },
  'groups-overwrite': flag,
  'issuer-url': short,
  prompt: { ...text, pattern: '\\S+' },
  'query-userinfo': flag,
  scopes: text,
} satisfies Record<string, Schema>;

/** How a provider tells names apart is fixed when the realm is made. */
const atFirst = { 'username-claim': text } satisfies Record<string, Schema>;

const options = { ...common, ...ofDirectory, ...ofLdap, ...ofAd, ...ofOpenid };

interface Kind {
  readonly options: Readonly<Record<string, Schema>>;
  readonly required: readonly string[];
}

const kinds: Readonly<Record<Realm['type'], Kind>> = {
  pam: { options: common, required: [] },
  pve: { options: common, required: [] },
  ldap: { options: { ...common, ...ofDirectory, ...ofLdap }, required: ['server1', 'base_dn', 'user_attr'] },
  ad: { options: { ...common, ...ofDirectory, ...ofAd }, required: ['server1', 'domain'] },
  openid: { options: { ...common, ...ofOpenid, ...atFirst }, required: ['issuer-url', 'client-id'] },
};

function existing(access: Access, name: string): Realm {
  const found = access.realms.get(name);
  if (found === undefined) throw new PveError(500, `domain '${name}' does not exist`);
  return found;
}

const ownFields = ['comment', 'default', 'case-sensitive'];

/** The realm with what the parameters say; what is not of its type is a 400, and secrets are not kept among what is shown. */
function changed(before: Realm, param: Context['param'], removed: readonly string[] = []): Realm {
  const { options: known, required: needed } = kinds[before.type];
  const given = Object.keys({ ...options, ...atFirst }).filter((key) => param[key] !== undefined);
  const foreign = given.find((key) => !(key in known));
  if (foreign !== undefined) throw parameterError({ [foreign]: `unexpected property '${foreign}'` });
  const values = given.filter((key) => !ownFields.includes(key)).map((key) => [key, param[key]] as const);
  const kept = Object.entries(before.options ?? {}).filter(([key]) => !removed.includes(key));
  const all = { ...Object.fromEntries(kept), ...Object.fromEntries(values) };
  const missing = needed.find((key) => all[key] === undefined);
  if (missing !== undefined) throw parameterError({ [missing]: 'property is missing and it is not optional' });
  const comment = removed.includes('comment') ? undefined : (textOf(param.comment) ?? before.comment);
  const isDefault = removed.includes('default')
    ? false
    : param.default === undefined
      ? before.default
      : param.default === 1;
  const caseSensitive = param['case-sensitive'] === undefined ? before.caseSensitive : param['case-sensitive'] === 1;
  return {
    ...{ realm: before.realm, type: before.type, options: all },
    ...(comment === undefined ? {} : { comment }),
    ...(isDefault ? { default: true } : {}),
    ...(caseSensitive === undefined ? {} : { caseSensitive }),
  };
}

/** There is one default realm at most. */
function store(access: Access, changedRealm: Realm): null {
  if (changedRealm.default) {
    for (const { default: _default, ...other } of access.realms.values()) access.addRealm(other);
  }
  access.addRealm(changedRealm);
  return null;
}

function digestOf(access: Access): string {
  return createHash('sha1')
    .update(JSON.stringify([...access.realms.values()]))
    .digest('hex');
}

function createRealm({ cluster: { access }, param }: Context): null {
  const [name, type] = [String(param.realm), param.type as Realm['type']];
  if (access.realms.has(name)) throw new PveError(500, `domain '${name}' already exists`);
  if (type === 'pam' || type === 'pve') throw new PveError(500, `unable to create builtin type '${type}'`);
  return store(access, changed({ realm: name, type }, param));
}

function updateRealm({ cluster: { access }, param }: Context): null {
  const before = existing(access, String(param.realm));
  if (param.digest !== undefined && param.digest !== digestOf(access)) {
    throw new PveError(500, 'detected modified configuration - file changed by other user? Try again.');
  }
  const removed = splitList(param.delete);
  const unknown = removed.find((key) => !(key in kinds[before.type].options));
  if (unknown !== undefined) throw parameterError({ delete: `no such property '${unknown}'` });
  return store(access, changed(before, param, removed));
}

function deleteRealm({ cluster: { access }, param }: Context): null {
  const { realm: name, type } = existing(access, String(param.realm));
  if (type === 'pam' || type === 'pve') throw new PveError(500, `unable to delete builtin type '${type}'`);
  access.realms.delete(name);
  return null;
}

function showRealm({ cluster: { access }, param }: Context): unknown {
  const found = existing(access, String(param.realm));
  const { password: _password, 'client-key': _key, ...shown } = found.options ?? {};
  return {
    ...shown,
    type: found.type,
    digest: digestOf(access),
    ...(found.comment === undefined ? {} : { comment: found.comment }),
    ...(found.default ? { default: 1 } : {}),
    ...(found.caseSensitive === undefined ? {} : { 'case-sensitive': found.caseSensitive ? 1 : 0 }),
  };
}

function listRealms({ cluster }: Context): unknown {
  return [...cluster.access.realms.values()].map(
    ({ realm: name, type, comment, default: isDefault, options: more }) => {
      const tfa = /(?:^|,)type=(\w+)/.exec(String(more?.tfa ?? ''))?.[1];
      return {
        ...{ realm: name, type },
        ...(comment === undefined ? {} : { comment }),
        ...(isDefault ? { default: 1 } : {}),
        ...(tfa === undefined ? {} : { tfa }),
      };
    },
  );
}

/** Brings over users and groups of a directory; here it has none, so the task finds nothing to do. */
function syncRealm({ cluster, node, caller, param }: Context): string {
  const { realm: name, type, options: more } = existing(cluster.access, String(param.realm));
  if (type !== 'ldap' && type !== 'ad')
    throw new PveError(500, `Cannot sync realm type '${type}'! Only LDAP/AD realms can be synced.`);
  if (param.scope === undefined && !/\bscope=/.test(String(more?.['sync-defaults-options'] ?? ''))) {
    throw parameterError({ scope: 'Not passed as parameter and not defined in realm default sync options.' });
  }
  const run = (log: (line: string) => void) => log(`starting sync for realm ${name}`);
  return cluster.tasks.start({
    node,
    type: `auth-realm-sync${param['dry-run'] ? '-test' : ''}`,
    id: name,
    caller,
    run,
  });
}

export const realmMethods: readonly MethodRow[] = [
  { method: 'GET', path: list, permissions: { user: 'world' }, parameters: {}, run: listRealms },
  {
    method: 'POST',
    path: list,
    permissions: allocates,
    parameters: { ...options, ...atFirst, realm, type: required(oneOf('ad', 'ldap', 'openid', 'pam', 'pve')) },
    run: createRealm,
  },
  {
    method: 'GET',
    path: one,
    permissions: { check: ['perm', '/access/realm', ['Realm.Allocate', 'Sys.Audit'], 'any', 1] },
    parameters: { realm },
    run: showRealm,
  },
  {
    method: 'PUT',
    path: one,
    permissions: allocates,
    parameters: {
      ...options,
      realm,
      delete: { ...named('pve-configid-list'), maxLength: 4096 },
      digest: { ...digest, maxLength: 64 },
    },
    run: updateRealm,
  },
  { method: 'DELETE', path: one, permissions: allocates, parameters: { realm }, run: deleteRealm },
  {
    method: 'POST',
    path: `${one}/sync`,
    permissions: {
      check: [
        'and',
        ['perm', '/access/realm/{realm}', ['Realm.AllocateUser']],
        ['perm', '/access/groups', ['User.Modify']],
      ],
    },
    parameters: {
      realm,
      ...{ 'dry-run': flag, 'enable-new': flag, full: flag, purge: flag },
      'remove-vanished': { ...text, pattern: '(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none' },
      scope: oneOf('users', 'groups', 'both'),
    },
    run: syncRealm,
  },
];
