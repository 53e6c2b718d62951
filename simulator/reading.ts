/** How PVE reads a request: its path, its query, its body, with all their oddities. Bytes are kept as Latin-1 characters until they become values. */

import type { RawParameters, Verb } from './call.ts';
import { PveError } from './pve-error.ts';

export interface Target {
  /** Percent-decoded once, as a whole. */
  readonly path: string;
  /** As it was sent. */
  readonly query: string;
  /** The whole URL stood in the request line. */
  readonly isAbsolute: boolean;
}

/** Takes the target of a request line apart; undefined where no path can be found in it. */
export function readTarget(target: string): Target | undefined {
  const [, origin, path = '', query = ''] = /^(https?:\/\/[^/?#@]*)?(\/[^?#]*)(?:\?([^#]*))?/.exec(target) ?? [];
  if (path === '') return undefined;
  return { path: percentDecode(path), query, isAbsolute: origin !== undefined };
}

/** The format and what follows it; undefined for anything that is not below `/api2`. */
export function readApiPath(path: string): { readonly format: string; readonly rest: string } | undefined {
  const [, format, rest = '/'] = /^\/api2\/+([a-z][a-z0-9]+)(\/.*)?$/s.exec(path) ?? [];
  return format === undefined ? undefined : { format, rest };
}

/** The components of a path; empty ones do not count, dots mean nothing. */
export function componentsOf(path: string): readonly string[] {
  return path.split('/').filter((component) => component !== '');
}

/**
 * Reads `a=1&b=2`: split at `&` and `;`, the value lies between the first and the second `=`, a repeated name gives an
 * array, and a name alone is undefined and erases what came before.
 */
export function readForm(text: string): RawParameters {
  const parameters = new Map<string, unknown>();
  const pairs = text.replace(/[&;]+$/, '');
  for (const pair of pairs === '' ? [] : pairs.split(/[&;]/)) {
    const [name = '', given] = pair.split('=');
    const key = percentDecode(name.replaceAll('+', ' '));
    const value = given === undefined ? undefined : utf8(percentDecode(given.replaceAll('+', ' ')));
    const earlier = parameters.get(key);
    const isRepeated = value !== undefined && earlier !== undefined;
    parameters.set(key, isRepeated ? [earlier, value].flat() : value);
  }
  return parameters;
}

/** The media type, cut at `;` or `,`; its case is kept, since PVE compares exactly. */
export function mediaType(contentType: string | undefined): string | undefined {
  return contentType?.split(/\s*[;,]/, 1)[0];
}

export interface Sent {
  readonly method: Verb;
  readonly contentType: string | undefined;
  readonly body: Buffer;
  readonly query: string;
}

/** All parameters of a call: those of the query take the place of those in the body, and `_dc` is nobody's. */
export function readParameters({ method, contentType, body, query }: Sent): RawParameters {
  const hasBody = method === 'POST' || method === 'PUT';
  const parameters = new Map([...(hasBody ? readBody(contentType, body) : []), ...readForm(query)]);
  parameters.delete('_dc');
  return parameters;
}

function readBody(contentType: string | undefined, body: Buffer): RawParameters {
  return mediaType(contentType) === 'application/json'
    ? new Map(Object.entries(readJson(body)).map(([name, value]) => [name, value ?? undefined]))
    : readForm(body.toString('latin1'));
}

function readJson(body: Buffer): object {
  const text = body.toString('utf8');
  // Perl makes an object of what is undefined.
  const parsed = parseJson(text) ?? {};
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed;
  throw new PveError(500, 'Not a HASH reference');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const near = text === '' ? '(end of string)' : text.slice(0, 20);
    throw new PveError(
      500,
      `malformed JSON string, neither tag, array, object, number, string or atom (before "${near}")`,
    );
  }
}

/** Decodes `%41`; what is not two hex digits stays as it is. */
export function percentDecode(text: string): string {
  return text.replace(/%([0-9a-fA-F]{2})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}

function utf8(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
