/** What the PAAS-LDAP service says, read into what a backend says. */

import { z } from 'zod';
import { isObject } from '../json.ts';
import type { BackendCookie, BackendData, BackendResult } from './backend.ts';

/** One answer of the service, whatever its status. */
export interface ServiceAnswer {
  readonly status: number;
  /** The Set-Cookie lines. */
  readonly cookies: readonly string[];
  /** The JSON object in the body; empty when there is none. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** The JSON object in a text; an empty one when it holds none. */
export function objectIn(text: string): ServiceAnswer['body'] {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

/** As long as PVE's ticket, for a cookie of which the service does not say how long it lives. */
const usualLifetime = 7_200_000;

/** Names that are the server's own: a service that set them would end somebody's session. */
const ours: ReadonlySet<string> = new Set(['PVEAuthCookie', 'CSRFPreventionToken', 'username', 'auth']);

const cookieForm = /^\s*(?<name>[\w!#$%&'*.^`|~+-]+)\s*=\s*(?<value>[^;]*?)\s*(?:;(?<rest>.*))?$/s;

/** The cookies that Set-Cookie lines bring, their values as they stand; one that has ended by `now` is none. */
export function cookiesIn(lines: readonly string[], now: number): readonly BackendCookie[] {
  return lines.flatMap((line) => {
    const { name = '', value = '', rest = '' } = cookieForm.exec(line)?.groups ?? {};
    const expiresMSFromNow = lifetimeIn(rest, now);
    return name === '' || ours.has(name) || !isCookieValue(value) || expiresMSFromNow <= 0
      ? []
      : [{ name, value, expiresMSFromNow }];
  });
}

/** Max-Age before Expires, as browsers have it: it does not depend on two clocks that agree. */
function lifetimeIn(attributes: string, now: number): number {
  const attribute = (name: string) =>
    new RegExp(`(?:^|;)\\s*${name}\\s*=\\s*([^;]*)`, 'i').exec(attributes)?.[1]?.trim();
  const seconds = attribute('max-age');
  if (seconds !== undefined && /^-?\d+$/.test(seconds)) return Number(seconds) * 1000;
  const end = Date.parse(attribute('expires') ?? '');
  return Number.isNaN(end) ? usualLifetime : end - now;
}

/** Whether the text can stand in a Cookie header as one value. */
export function isCookieValue(text: string): boolean {
  return /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/.test(text);
}

/**
 * Whether the text can be a user's or a group's id here: the service puts it into a path and, as it is, into the name
 * of an LDAP entry, so what has a meaning there is no part of an id.
 */
export function isEntryId(text: string): boolean {
  return (
    /^[^,+"\\<>;=#/\p{Cc}]{1,256}$/u.test(text) && text === text.trim() && !/^\.\.?$/.test(text) && text.isWellFormed()
  );
}

const texts = z.union([z.array(z.string()), z.string().transform((one) => [one])]).default([]);

/** LDAP attributes can have several values. */
const value = z.union([z.string(), z.array(z.string())]).exactOptional();

const userEntry = z.object({
  dn: z.string(),
  attributes: z.object({ cn: value, sn: value, mail: value, uid: value, memberOf: texts }),
});

const groupEntry = z.object({ dn: z.string(), attributes: z.object({ cn: value, member: texts }) });

/** The entry of a user, with only those attributes that a record has; null when it is not what the service would send. */
export function userIn({ user }: ServiceAnswer['body']): BackendData | null {
  return userEntry.safeParse(user).data ?? null;
}

/** Likewise the entry of a group, with its members. */
export function groupIn({ group }: ServiceAnswer['body']): BackendData | null {
  return groupEntry.safeParse(group).data ?? null;
}

/** Whether an entry is written with this name, and not only found by it. */
export function isNamed({ attributes }: BackendData, id: string): boolean {
  const { uid, cn } = isObject(attributes) ? attributes : {};
  return [uid ?? cn].flat().includes(id);
}

/** All users by `uid@realm`; an entry without a uid has no name and is left out. Null when the list is none. */
export function usersIn({ users }: ServiceAnswer['body'], realm: string): Readonly<Record<string, BackendData>> | null {
  return labelled(z.array(userEntry).safeParse(users).data, realm, ({ attributes }) => attributes.uid);
}

/** All groups by `cn@realm`. */
export function groupsIn(
  { groups }: ServiceAnswer['body'],
  realm: string,
): Readonly<Record<string, BackendData>> | null {
  return labelled(z.array(groupEntry).safeParse(groups).data, realm, ({ attributes }) => attributes.cn);
}

function labelled<Entry extends BackendData>(
  entries: readonly Entry[] | undefined,
  realm: string,
  idOf: (entry: Entry) => string | readonly string[] | undefined,
): Readonly<Record<string, BackendData>> | null {
  if (entries === undefined) return null;
  return Object.fromEntries(
    entries.flatMap((entry) => {
      const [id] = [idOf(entry) ?? []].flat();
      return id === undefined ? [] : [[`${id}@${realm}`, entry]];
    }),
  );
}

/** What the service calls the problem: LDAP's result code when it is LDAP's, and words; the words are empty when it has none. */
export interface Problem {
  readonly code?: number;
  readonly words: string;
}

/** The problem in an answer, be it a text, an LDAP result, or nothing at all. */
export function problemIn({ error }: ServiceAnswer['body']): Problem {
  if (typeof error === 'string') return { words: brief(error) };
  const { code, result, message } = ldapResult.safeParse(error).data ?? {};
  const words = brief([result, message].filter((text) => text !== undefined && text !== '').join(': '));
  return { ...(code === undefined ? {} : { code }), words };
}

const ldapResult = z.object({
  code: z.int().optional().catch(undefined),
  result: z.string().optional().catch(undefined),
  message: z.string().optional().catch(undefined),
});

function brief(text: string): string {
  return text.replace(/\s+/gu, ' ').trim().slice(0, 300);
}

/** LDAP: there is no such entry, or the asking user may not see it. */
export function isInvisible({ code }: Problem): boolean {
  return code === 32 || code === 50;
}

/** HTTP's number for an LDAP result: no such attribute or entry, no right, there already; anything else is a bad request. */
const statuses: Readonly<Record<number, number>> = { 16: 404, 32: 404, 50: 403, 20: 409, 68: 409 };

/** The result of a change that LDAP refused. */
export function refusalIn(answer: ServiceAnswer): BackendResult {
  const { code = 0, words } = problemIn(answer.body);
  const message =
    words === '' ? 'The directory refused the change without a reason' : `The directory refused: ${words}`;
  return { ok: false, status: statuses[code] ?? 400, message };
}
