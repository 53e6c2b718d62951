/** What a request asks of PVE, read as PVE reads it; what could be read in two ways is refused. */

import type { FastifyRequest } from 'fastify';
import { BadRequestError, type Fault, NotSupportedError } from '../errors.ts';
import { isObject, JsonError, parseJson } from '../json.ts';
import type { Call, Method, Params } from '../pve/call.ts';
import { readPath } from '../pve/path.ts';

const methods: ReadonlySet<string> = new Set(['GET', 'POST', 'PUT', 'DELETE'] satisfies Method[]);

/** Faults told of one request, so that no answer is longer than what it answers. */
export const mostFaults = 20;

/** Parameters taken: a call of PVE has some hundreds at most. */
const mostNames = 1000;

/** What a request says, as far as it is about a call. */
export type Written = Pick<FastifyRequest, 'method' | 'headers' | 'body'>;

/** Throws NotSupportedError, before anything of the body is read, for the ways to send a request that PVE does not know. */
export function requireKnownForm({ method, headers }: Pick<FastifyRequest, 'method' | 'headers'>): void {
  if (!methods.has(method)) throw new NotSupportedError(`method '${method}' not available`);
  if (headers['transfer-encoding'] !== undefined)
    throw new NotSupportedError('Transfer-Encoding is not supported; send the body in one piece with Content-Length');
  if (method !== 'POST' && method !== 'PUT' && Number(headers['content-length'] ?? 0) !== 0)
    throw new NotSupportedError(`Unexpected content for method '${method}'; its parameters belong in the query`);
}

/**
 * The call in a request: `target` is the request target behind the prefix and the format, as it was sent. Its body, where
 * there is one, has been read as bytes.
 */
export function readCall({ method, headers, body }: Written, target: string): Call {
  if (!/^[\x21\x22\x24-\x7e]*$/.test(target))
    throw new BadRequestError({ field: 'path', problem: 'other characters than printable ASCII must be encoded' });
  const [, path = '', query = ''] = /^([^?]*)\??(.*)$/.exec(target) ?? [];
  const segments = readPath(path);
  const bytes = body instanceof Uint8Array ? body : new Uint8Array();
  const inBody = method === 'POST' || method === 'PUT' ? readBody(headers['content-type'], bytes) : {};
  return { method: method as Method, segments, params: merged(readForm(query), inBody) };
}

/** PVE lets the query override the body; a reader who looks at one of them sees another call than a reader of the other. */
function merged(query: Params, body: Params): Params {
  const twice = Object.keys(query).filter((name) => Object.hasOwn(body, name));
  if (twice.length > 0)
    throw new BadRequestError(twice.map((field) => ({ field, problem: 'it is in the query and in the body' })));
  return { ...body, ...query };
}

function readBody(contentType: string | undefined, bytes: Uint8Array): Params {
  const type = contentType?.split(/[;,]/, 1)[0]?.trimEnd();
  // PVE compares exactly, and takes a body without a type for a form.
  if (type === 'application/json') return readJson(textOf(bytes));
  if (type === undefined || type === 'application/x-www-form-urlencoded' || bytes.length === 0)
    return readForm(textOf(bytes));
  const taken = 'application/x-www-form-urlencoded or application/json';
  throw bad('content-type', `expected ${taken}, got ${JSON.stringify(type.slice(0, 80))}`);
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw bad('body', 'it is not UTF-8');
  }
}

/** The parameters of `a=1&b=2`; a repeated name gives an array. Where PVE would lose or split a value, a BadRequestError. */
export function readForm(text: string): Params {
  const values = new Map<string, string[]>();
  const faults: Fault[] = [];
  const pairs = text.split('&');
  while (pairs.at(-1) === '') pairs.pop();
  for (const pair of pairs) {
    if (faults.length === mostFaults) break;
    const [name = '', value, ...more] = pair.split('=').map(decodedText);
    const field = name === null || !isName(name) ? undefined : name;
    const earlier = values.get(field ?? '');
    if (pair.includes(';')) faults.push({ field: field ?? 'parameters', problem: 'PVE splits at ";": write %3B' });
    else if (name === '_dc') continue;
    else if (field === undefined) faults.push(namelessFault(name));
    else if (value === undefined) faults.push({ field, problem: 'it has no "=" and no value' });
    else if (more.length > 0) faults.push({ field, problem: 'PVE drops what follows a second "=": write %3D' });
    else if (value === null) faults.push({ field, problem: 'its percent-encoding is broken, or is not UTF-8' });
    else if (earlier === undefined) values.set(field, [value]);
    else earlier.push(value);
  }
  return paramsOf(
    [...values].map(([name, [first = '', ...others]]) => [name, others.length === 0 ? first : [first, ...others]]),
    faults,
  );
}

/** The parameters of a JSON object: texts, numbers, booleans as PVE's 1 and 0, arrays of these; null is as good as absent. */
export function readJson(text: string): Params {
  const values: [string, string | readonly string[]][] = [];
  const faults: Fault[] = [];
  for (const [name, value] of Object.entries(parsedObject(text))) {
    if (name === '_dc' || value === null) continue;
    const read = Array.isArray(value) ? listOf(value) : scalarText(value);
    if (!isName(name)) faults.push(namelessFault(name));
    else if (read === null) faults.push({ field: name, problem: expectedScalar });
    else values.push([name, read]);
  }
  return paramsOf(values, faults);
}

const expectedScalar =
  'expected a text, a boolean, a plain number of at most 15 digits, or a list with some of these; write other numbers as texts';

function parsedObject(text: string): Readonly<Record<string, unknown>> {
  if (text.startsWith('\uFEFF')) throw bad('body', 'JSON begins without a byte order mark');
  try {
    // Clients that have no parameters to give may write `null`.
    const value = parseJson(text) ?? {};
    if (isObject(value)) return value;
  } catch (error) {
    const [line = ''] = error instanceof JsonError ? error.message.split('\n') : ['it is nested too deeply'];
    throw bad('body', `it is not JSON: ${line}`);
  }
  throw bad('body', 'a JSON object is expected');
}

/** PVE cannot be told of an empty list in a form, where it looks like no list at all. */
function listOf(values: readonly unknown[]): readonly string[] | null {
  const texts = values.map(scalarText);
  return texts.length > 0 && texts.every((text) => text !== null) ? texts : null;
}

function scalarText(value: unknown): string | null {
  if (typeof value === 'string') return value.isWellFormed() ? value : null;
  if (typeof value === 'boolean') return value ? '1' : '0';
  return typeof value === 'number' && isPlainNumber(value) ? String(value) : null;
}

/** Whether PVE writes the number with the same digits: it knows 15 of them, and has an exponent of its own form. */
function isPlainNumber(value: number): boolean {
  return Number(value.toPrecision(15)) === value && /^-?\d+(?:\.\d+)?$/.test(String(value));
}

function paramsOf(
  values: readonly (readonly [string, string | readonly string[]])[],
  faults: readonly Fault[],
): Params {
  if (faults.length > 0) throw new BadRequestError(faults.slice(0, mostFaults));
  if (values.length > mostNames) throw bad('parameters', `there are ${values.length}; no call takes ${mostNames}`);
  return Object.fromEntries(values);
}

/** No parameter of PVE is called otherwise, and only such names mean the same in whatever encoding. */
function isName(text: string): boolean {
  return /^[A-Za-z][\w-]{0,99}$/.test(text);
}

/** The text of an encoded one; null when it has none. */
function decodedText(text: string): string | null {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return null;
  }
}

function namelessFault(name: string | null): Fault {
  return { field: 'parameters', problem: `${JSON.stringify(name?.slice(0, 80) ?? '')} is no name of a parameter` };
}

function bad(field: string, problem: string): BadRequestError {
  return new BadRequestError({ field, problem });
}
