/** The backends of this program, each as the suite wants it. */

import { mkdtempSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSimulator } from '../../simulator/index.ts';
import { createLdapBackend } from '../../src/backends/ldap.ts';
import { type LdapSettings, ldapSettings } from '../../src/backends/ldap-settings.ts';
import { LocalBackend } from '../../src/backends/local.ts';
import { PaasLdapBackend, type PaasLdapOptions, paasldapSettings } from '../../src/backends/paasldap.ts';
import { createPveBackend } from '../../src/backends/pve.ts';
import { createUpstream } from '../../src/pve/upstream.ts';
import { upstreamSettings } from '../../src/pve/upstream-settings.ts';
import { openDatabase } from '../../src/store/database.ts';
import { groups, people } from '../support/ldap.ts';
import { type LdapRelay, type RelayTrouble, startLdapRelay } from '../support/ldap-relay.ts';
import { type PaasLdapService, type PaasLdapOptions as ServiceOptions, startPaasLdap } from '../support/paas-ldap.ts';
import { proxyAccount, type Slapd } from '../support/slapd.ts';
import type { Subject, Trouble } from './contract.ts';

const log = { warn: () => {} };
const names = ['alice', 'bob', 'admin'] as const;

/** Bytes; enough for every honest answer here. */
const maxAnswer = 1024 ** 2;

/** PVE's own users, in the simulator. */
export async function pveSubject(deadline = 20): Promise<Subject> {
  const serviceSecret = '11111111-2222-4333-8444-555555555555';
  const simulator = await startSimulator({ serviceSecret });
  const { access } = simulator.cluster;
  for (const name of names) access.addUser(`${name}@pve`, { password: `${name}-secret` });
  access.addGroup('lab', ['alice@pve']);
  access.setAcl('/', { users: ['quota-proxy@pve'] }, 'Administrator');
  const token = { user: 'quota-proxy', realm: 'pve', id: 'gate', uuid: serviceSecret };
  const deadlines = { read: deadline, write: deadline };
  const upstream = createUpstream(upstreamSettings.parse({ url: simulator.url, token, deadlines }), { log, maxAnswer });
  const plans = {
    never: { kind: 'hang' },
    reset: { kind: 'resetAfter' },
    half: { kind: 'wrongJson' },
    endless: { kind: 'endlessAnswer' },
    failing: { kind: 'refuse', status: 500, reason: 'out of order' },
  } as const;
  return {
    backend: createPveBackend(upstream, { log }),
    realm: 'pve',
    passwordChange: (current, next) => ({ userpassword: next, oldpassword: current }),
    async trouble(kind) {
      if (kind === 'away') await simulator.stop();
      else if (!Object.hasOwn(plans, kind)) throw new Error(`the simulator has no ${kind}`);
      else simulator.faults.add({ ...plans[kind as keyof typeof plans], times: 100 });
    },
    recover: () => {
      simulator.faults.clear();
      return simulator.start();
    },
    async [Symbol.asyncDispose]() {
      simulator.faults.clear();
      await upstream.close();
      await simulator[Symbol.asyncDispose]();
    },
  };
}

/** Records in a database of their own. */
export async function localSubject(): Promise<Subject> {
  const directory = mkdtempSync(join(tmpdir(), 'localdb-'));
  const database = openDatabase(join(directory, 'local.db'));
  const backend = new LocalBackend(database, {});
  for (const id of names) backend.addUser({ id, realm: 'pve' }, { cluster: { admin: id === 'admin' } });
  return {
    backend,
    realm: 'pve',
    newUser: { cluster: { pools: { lab: true } } },
    async [Symbol.asyncDispose]() {
      database.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** A PAAS-LDAP backend and the service that it talks to. */
export interface PaasLdapSubject extends Subject {
  readonly backend: PaasLdapBackend;
  readonly service: PaasLdapService;
}

/** A directory behind the PAAS-LDAP service; in memory unless another is given. */
export async function paasLdapSubject({
  deadline = 20,
  options = {},
  ...serviceOptions
}: ServiceOptions & {
  readonly deadline?: number;
  readonly options?: Partial<PaasLdapOptions>;
} = {}): Promise<PaasLdapSubject> {
  const service = await startPaasLdap(serviceOptions);
  const settings = paasldapSettings.parse({ url: service.url, realm: 'ldap', deadline });
  const backend = new PaasLdapBackend(settings, { log, maxAnswer, ...options });
  return {
    backend,
    service,
    realm: 'ldap',
    newUser: { cn: 'Carol', sn: 'Cole', mail: 'carol@example.org', userpassword: 'carol-secret' },
    passwordChange: (_, next) => ({ userpassword: next }),
    async trouble(kind) {
      if (kind === 'away') return service.stop();
      service.intervene = (_, response) => {
        oddAnswers[kind](response);
        return true;
      };
    },
    recover: () => {
      service.intervene = undefined;
      return service.start();
    },
    async [Symbol.asyncDispose]() {
      await backend.close();
      await service[Symbol.asyncDispose]();
    },
  };
}

/** A backend in front of an LDAP server, and the port between them. */
export interface LdapSubject extends Subject {
  readonly relay: LdapRelay;
}

/** What an `ldap` backend for the seed is configured with, but for the servers. */
export const ldapConfig = {
  realm: 'ldap',
  starttls: false,
  bind: proxyAccount,
  users: { base: people },
  groups: { base: groups },
};

/** These settings, each in place of the usual one; one that is undefined is left out. */
export function settingsOf(changed: object): LdapSettings {
  return ldapSettings.parse(given({ ...ldapConfig, ...changed }));
}

/** Without what is undefined, as a file would have it. */
export function given(settings: object): unknown {
  return JSON.parse(JSON.stringify(settings));
}

/** The seed in a running slapd, as it was before anything was changed. */
export async function ldapSubject(slapd: Slapd, config: object = {}): Promise<LdapSubject> {
  await slapd.reset();
  const relay = await startLdapRelay({ socket: slapd.socket });
  const settings = settingsOf({ url: relay.url, deadline: 20, ...config });
  const backend = createLdapBackend(settings, { log, maxAnswer });
  return {
    backend,
    relay,
    realm: 'ldap',
    newUser: { cn: 'Carol', sn: 'Cole', mail: 'carol@example.org', userpassword: 'carol-secret' },
    passwordChange: (current, next) => ({ userpassword: next, oldpassword: current }),
    async trouble(kind) {
      if (kind === 'away') await relay.stop();
      else relay.trouble = kind as RelayTrouble;
    },
    recover() {
      relay.trouble = undefined;
      return relay.start();
    },
    async [Symbol.asyncDispose]() {
      await backend.close?.();
      await relay[Symbol.asyncDispose]();
    },
  };
}

const oddAnswers: Readonly<Record<Exclude<Trouble, 'away'>, (response: ServerResponse) => unknown>> = {
  never: () => {},
  reset: (response) => response.destroy(),
  half: (response) => {
    response.writeHead(200, { 'content-length': 100 }).write('{"ok":true,');
    setTimeout(() => response.destroy(), 20);
  },
  endless: (response) => {
    const go = (): void => {
      while (!response.destroyed && response.write(' '.repeat(65_536)));
    };
    response.on('drain', go);
    go();
  },
  failing: (response) => response.writeHead(500).end(),
  html: (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Welcome to nginx!</h1>'),
  nothing: (response) => response.writeHead(204).end(),
  redirect: (response) => response.writeHead(302, { location: '/version' }).end(),
  nonsense: (response) => response.writeHead(200).end('{"ok":true,"auth":true,"user":[],"users":{}}'),
};
