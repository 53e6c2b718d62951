/** What a backend says of what an LDAP directory said. */

import { ResultCodeError } from 'ldapts';
import { UpstreamBrokenError } from '../errors.ts';
import type { BackendResult } from './backend.ts';
import { wordsOf } from './ldap-servers.ts';

export const done: BackendResult = { ok: true, status: 200, message: '' };

export function refusal(status: number, message: string): BackendResult {
  return { ok: false, status, message };
}

/** The same for whatever was wrong, so that nobody can try out which names there are. */
export const signInRefused = refusal(
  401,
  'Authentication failed: the user name or the password is wrong, or the user is disabled',
);

/** Constraint violation, no such entry, inappropriate authentication, invalid credentials, no right, unwilling: of a bind, these are the user's fault. */
const signInResults: ReadonlySet<number> = new Set([19, 32, 48, 49, 50, 53]);

/** By these Active Directory tells whoever has given the right password that it has expired, or that it is the first one. */
const expired = /\bdata (?:532|773)\b/;

/** The answer of a bind that the server refused; throws when that says nothing of name and password. */
export function refusalOfBind(error: unknown, refused: BackendResult): BackendResult {
  if (!(error instanceof ResultCodeError)) throw error;
  if (error.code === 49 && expired.test(error.message))
    return refusal(
      refused.status,
      'The password has expired: set a new one in the directory itself, then sign in with that',
    );
  if (signInResults.has(error.code)) return refused;
  throw new UpstreamBrokenError(`The LDAP server refuses sign-ins: ${wordsOf(error)}`, { cause: error });
}

/** HTTP's number for an LDAP result: only elsewhere, no such attribute or entry, no right, there already. */
const statuses: Readonly<Record<number, number>> = { 10: 501, 16: 404, 32: 404, 50: 403, 20: 409, 68: 409 };

/** The answer of a change that the server refused. */
export function refusalOfChange(error: unknown): BackendResult {
  if (!(error instanceof ResultCodeError)) throw error;
  const message =
    error.code === 10
      ? 'The LDAP server takes no changes. Name the one that does first in "url".'
      : `The directory refused: ${wordsOf(error)}`;
  return refusal(statuses[error.code] ?? 400, message);
}

/** What an entry of a user stores, besides their name. */
export interface UserTexts {
  readonly cn?: string;
  readonly sn?: string;
  readonly mail?: string;
}

/** What is changed of a user: an empty text is none, and what other backends store is nothing here. */
export interface UserChange {
  readonly texts: UserTexts;
  readonly password: string | undefined;
  readonly old: string | undefined;
}

export function userChangeIn(attributes: Readonly<Record<string, unknown>>): UserChange {
  const text = (key: string): string | undefined => {
    const value = Object.hasOwn(attributes, key) ? attributes[key] : undefined;
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const texts = ['cn', 'sn', 'mail'].flatMap((key) => {
    const value = text(key);
    return value === undefined ? [] : [[key, value]];
  });
  return { texts: Object.fromEntries(texts), password: text('userpassword'), old: text('oldpassword') };
}
