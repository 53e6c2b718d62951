/** A real OpenLDAP server with the seed in it, on a socket in a temporary folder, driven by OpenLDAP's own programs. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import {
  administrator,
  type Entry,
  groups,
  type LdapConnection,
  LdapError,
  type LdapServer,
  people,
  results,
  seed,
  suffix,
} from './ldap.ts';

const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];

/** The folder of slapd, which is no user's PATH. */
const folder = folders.find((candidate) => existsSync(join(candidate, 'slapd')));

/** Whether slapd and its programs are on this machine. */
export const hasSlapd = folder !== undefined && folders.some((candidate) => existsSync(join(candidate, 'ldapsearch')));

const root = { dn: `cn=root,${suffix}`, password: 'root-secret' };

/** An account that may read and change all entries and passwords, as a program would be given one. */
export const proxyAccount = { dn: `cn=proxy,${suffix}`, password: 'proxy-secret' };

const proxyEntry: Entry = {
  dn: proxyAccount.dn,
  attributes: {
    objectClass: ['organizationalRole', 'simpleSecurityObject'],
    cn: ['proxy'],
    userPassword: [proxyAccount.password],
  },
};

/** A running slapd, for tests that speak LDAP themselves. */
export interface Slapd extends LdapServer {
  /** The path of the socket on which it listens. */
  readonly socket: string;
  /** Everything may be done with this. */
  readonly root: LdapConnection;
  /** Adds entries in one go, which is much faster for many. */
  addAll(entries: readonly Entry[]): Promise<void>;
  /** Brings back the people and groups of the seed, as they were. */
  reset(): Promise<void>;
}

export interface SlapdOptions {
  /** With these, in PEM, clients can have TLS started. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Entries that are in the database from the start; for thousands of them. */
  readonly loaded?: readonly Entry[];
}

/** Starts slapd with the seed in its database. */
export async function startSlapd({ tls, loaded = [] }: SlapdOptions = {}): Promise<Slapd> {
  if (folder === undefined) throw new Error('there is no slapd on this machine');
  const directory = await mkdtemp(join(tmpdir(), 'slapd-'));
  const socket = join(directory, 'socket');
  const url = `ldapi://${encodeURIComponent(socket)}`;
  const file = join(directory, 'slapd.conf');
  await mkdir(join(directory, 'data'));
  await writeFile(file, settings(join(folder, '..', '..'), directory, tls !== undefined));
  for (const [name, pem] of Object.entries(tls ?? {})) await writeFile(join(directory, `${name}.pem`), pem);
  if (loaded.length > 0) await load(join(folder, 'slapadd'), file, [...seed.slice(0, 3), ...loaded]);
  const daemon = spawn(join(folder, 'slapd'), ['-d', '0', '-h', url, '-f', file], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const bind = async (dn: string, password: string): Promise<LdapConnection> => {
    await run('ldapwhoami', url, { dn, password });
    return connection(url, { dn, password });
  };
  const server: Slapd = {
    bind,
    socket,
    root: connection(url, root),
    async addAll(entries) {
      if (entries.length > 0) await run('ldapmodify', url, root, ['-a'], ldifOf(entries));
    },
    async reset() {
      const present = await server.root.search(suffix, 'sub', '*');
      const changed = present.filter(({ dn }) => dn.endsWith(`,${people}`) || dn.endsWith(`,${groups}`));
      const removals = changed.map(({ dn }) => `${line('dn', dn)}\nchangetype: delete\n`).join('\n');
      await run('ldapmodify', url, root, ['-a'], `${removals}\n${ldifOf(seed.slice(3))}`);
    },
    async [Symbol.asyncDispose]() {
      const ended = daemon.exitCode === null ? once(daemon, 'exit') : undefined;
      daemon.kill();
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
  try {
    await patiently(() => bind(root.dn, root.password));
    await server.addAll([...seed.slice(loaded.length > 0 ? 3 : 0), proxyEntry]);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** Writes entries into the database of a server that does not run yet. */
async function load(program: string, file: string, entries: readonly Entry[]): Promise<void> {
  const child = spawn(program, ['-q', '-f', file], { stdio: ['pipe', 'ignore', 'inherit'] });
  child.stdin.end(ldifOf(entries));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`slapadd ended with ${status}`);
}

function ldifOf(entries: readonly Entry[]): string {
  return entries
    .map(({ dn, attributes }) => {
      const lines = Object.entries(attributes).flatMap(([name, values]) => values.map((value) => line(name, value)));
      return [line('dn', dn), ...lines, ''].join('\n');
    })
    .join('\n');
}

function settings(prefix: string, directory: string, tls: boolean): string {
  const schemas = ['core', 'cosine', 'nis', 'inetorgperson'].map(
    (name) => `include ${prefix}/etc/ldap/schema/${name}.schema`,
  );
  return `${schemas.join('\n')}
modulepath ${join(prefix, 'usr', 'lib', 'ldap')}
moduleload back_mdb
moduleload memberof
${tls ? `TLSCertificateFile ${join(directory, 'cert.pem')}\nTLSCertificateKeyFile ${join(directory, 'key.pem')}` : ''}
database mdb
maxsize 268435456
dbnosync
suffix "${suffix}"
rootdn "${root.dn}"
rootpw ${root.password}
directory ${join(directory, 'data')}
index objectClass,uid,cn,member,uniqueMember,memberUid eq
limits dn.exact="${proxyAccount.dn}" size.prtotal=unlimited
access to attrs=userPassword by dn.exact="${administrator}" write by dn.exact="${proxyAccount.dn}" write by self write by anonymous auth by * none
access to * by dn.exact="${administrator}" write by dn.exact="${proxyAccount.dn}" write by self write by users read by anonymous auth
overlay memberof
`;
}

interface Bound {
  readonly dn: string;
  readonly password: string;
}

function connection(url: string, as: Bound): LdapConnection {
  return {
    async search(base, scope, objectClass = '*') {
      const options = ['-LLL', '-o', 'ldif-wrap=no', '-b', base, '-s', scope, `(objectClass=${objectClass})`];
      return parseLdif(await run('ldapsearch', url, as, [...options, '*', 'memberOf']));
    },
    async add(entry) {
      await run('ldapmodify', url, as, ['-a'], ldifOf([entry]));
    },
    async modify(dn, modifications) {
      const lines = modifications.flatMap(({ operation, attribute, values }) => [
        `${operation}: ${attribute}`,
        ...values.map((value) => line(attribute, value)),
        '-',
      ]);
      await run('ldapmodify', url, as, [], [line('dn', dn), 'changetype: modify', ...lines].join('\n'));
    },
    async remove(dn) {
      await run('ldapdelete', url, as, [dn]);
    },
  };
}

const line = (name: string, value: string): string =>
  value === '' ? `${name}:` : `${name}:: ${Buffer.from(value).toString('base64')}`;

/** The entries of an LDIF text whose lines are not wrapped. */
function parseLdif(ldif: string): Entry[] {
  return ldif
    .split('\n\n')
    .filter((block) => block.trim() !== '')
    .map((block) => {
      const pairs = [...block.matchAll(/^([\w-]+):(:?) ?(.*)$/gm)].map(([, name = '', encoded, value = '']) => ({
        name,
        value: encoded === ':' ? Buffer.from(value, 'base64').toString() : value,
      }));
      const byName = Map.groupBy(pairs, ({ name }) => name);
      const attributes = [...byName].map(([name, values]) => [name, values.map(({ value }) => value)]);
      const { dn: [dn = ''] = [], ...others } = Object.fromEntries(attributes) as Record<string, string[]>;
      return { dn, attributes: others };
    });
}

/** Runs one of OpenLDAP's programs, whose exit status is LDAP's result. */
async function run(
  program: string,
  url: string,
  { dn, password }: Bound,
  options: readonly string[] = [],
  input = '',
): Promise<string> {
  const child = spawn(program, ['-x', '-H', url, '-D', dn, '-w', password, ...options], { stdio: 'pipe' });
  child.stdin.on('error', () => {}).end(input);
  const [output, complaint, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  if (status === 0) return output;
  if (status !== null && Object.hasOwn(results, status)) throw new LdapError(status);
  throw new Error(`${program} ended with ${status}: ${complaint.trim()}`);
}

/** Tries again until it works: a server takes a moment to listen. */
async function patiently<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 100; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
