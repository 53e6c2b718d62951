/** The `ldap` backend: users and groups of an LDAP directory, OpenLDAP or Active Directory. */

import { readFileSync } from 'node:fs';
import { getCACertificates } from 'node:tls';
import { FilterParser } from 'ldapts';
import type { BaseLogger } from 'pino';
import type { Backend } from './backend.ts';
import { LdapAccountBackend } from './ldap-account.ts';
import { LdapOwnBindBackend } from './ldap-own-bind.ts';
import { LdapServers } from './ldap-servers.ts';
import type { LdapSettings } from './ldap-settings.ts';

export interface LdapOptions {
  readonly log: Pick<BaseLogger, 'warn'>;
  /** Bytes; a longer answer counts as broken. */
  readonly maxAnswer?: number;
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
}

/** Makes the backend; throws an Error when the authority cannot be read or a filter is none. Connects when it is first asked. */
export function createLdapBackend(
  settings: LdapSettings,
  { log, maxAnswer = 32 * 1024 ** 2, clock = Date.now }: LdapOptions,
): Backend {
  const { urls, bind, users, groups, ca } = settings;
  for (const filter of [users.filter, users.disabled, groups?.filter]) if (filter) checkFilter(filter);
  const secure = settings.starttls || urls.some((url) => /^ldaps:/i.test(url));
  const authorities = ca !== undefined ? [read(ca)] : secure ? trusted() : [];
  for (const url of urls) if (!settings.starttls && isOpen(url)) log.warn(`passwords are sent to ${url} as plain text`);
  const account = bind === undefined ? undefined : { dn: bind.dn, password: bind.password.reveal() };
  const servers = new LdapServers({ ...settings, authorities, maxAnswer, log }, account);
  if (account !== undefined) return new LdapAccountBackend(settings, servers);
  if (users.boundAs === undefined) throw new TypeError('there is neither an account nor a name to bind as');
  return new LdapOwnBindBackend(settings, users.boundAs, servers, clock);
}

function checkFilter(filter: string): void {
  try {
    FilterParser.parseString(filter);
  } catch (error) {
    throw new Error(`${filter} is no LDAP filter: ${(error as Error).message}`, { cause: error });
  }
}

/** Whether what is said to a server can be read on the way to it. */
function isOpen(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'ldap:' && !/^(localhost|127\.[\d.]+|\[::1\])$/i.test(hostname);
}

/** The authorities that Node and the system trust. */
function trusted(): readonly string[] {
  return [...getCACertificates('default'), ...getCACertificates('system')];
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown reason';
    throw new Error(`the certificate authority ${file} of the LDAP servers cannot be read (${code})`, { cause: error });
  }
}
