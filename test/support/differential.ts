/** Requests of ill will, and whether we and PVE read the same call in them. */

import fc from 'fast-check';
import type { Verb } from '../../simulator/call.ts';
import type { MethodRow } from '../../simulator/method.ts';
import { methods } from '../../simulator/methods/index.ts';
import { componentsOf, readApiPath, readParameters, readTarget as readPveTarget } from '../../simulator/reading.ts';
import { createRouter } from '../../simulator/router.ts';
import { ApiError } from '../../src/errors.ts';
import { wireRequest } from '../../src/pve/request.ts';
import { readTarget } from '../../src/routes/pve/reading.ts';
import { readCall, requireKnownForm } from '../../src/routes/reading.ts';

/** A request as it stands on the wire; header names are lower case. */
export interface Sent {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** A call in the terms of both sides: components of the path, and values as texts. */
interface Reading {
  readonly method: string;
  readonly path: readonly string[];
  readonly params: Readonly<Record<string, string | readonly string[]>>;
}

const ipsets: readonly MethodRow[] = [
  '/cluster/firewall/ipset/{name}/{cidr}',
  '/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}/{cidr}',
].map((path) => ({ method: 'GET', path, permissions: { user: 'all' }, parameters: {}, run: () => null }));

const rows = [...methods, ...ipsets];
const route = createRouter(rows);

/** What we make of a request; null when we refuse it. Errors that are not refusals come through. */
function ours({ method, url, headers, body }: Sent): ReturnType<typeof readCall> | null {
  try {
    requireKnownForm({ method, headers });
    return readCall({ method, headers, body }, readTarget(url).target);
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}

/** What PVE makes of a request; throws where it would refuse to read it. */
function pves({ method, url, headers, body }: Sent): Reading & { readonly row: unknown } {
  const target = readPveTarget(url);
  const api = target === undefined ? undefined : readApiPath(target.path);
  if (target === undefined || api === undefined) throw new Error('no such uri');
  const verb = method as Verb;
  const contentType = headers['content-type'];
  const raw = readParameters({ method: verb, contentType, body, query: target.query });
  const found = route(verb, api.rest);
  return {
    method,
    path: componentsOf(api.rest).map((part) => Buffer.from(part, 'latin1').toString('utf8')),
    params: Object.fromEntries(
      [...raw]
        .filter(([, value]) => value !== undefined && value !== null)
        .map(([name, value]) => [name, texts(value)]),
    ),
    row: found && [found.row.path, [...found.parameters]],
  };
}

function texts(value: unknown): string | readonly string[] {
  if (Array.isArray(value)) return value.flatMap((item) => texts(item));
  return typeof value === 'boolean' ? String(Number(value)) : String(value);
}

/** `refused`, or `same`, or what differs between PVE's reading of a request, ours, and PVE's of what we would forward. */
export function compared(sent: Sent): 'refused' | 'same' | { readonly [Who in 'pve' | 'ours' | 'forwarded']: unknown } {
  const call = ours(sent);
  if (call === null) return 'refused';
  const { path, body, method } = wireRequest(call, { kind: 'none' }, '');
  const pve = attempt(() => pves(sent));
  const forwarded = attempt(() =>
    pves({
      ...{ method, url: path, body: Buffer.from(body ?? '') },
      headers: body === null ? {} : { 'content-type': 'application/x-www-form-urlencoded' },
    }),
  );
  const read: Reading = { method: call.method, path: call.segments.join('/').split('/'), params: call.params };
  const { row: _, ...understood } = pve as { readonly row?: unknown };
  const agree = text(understood) === text({ ...read, path: call.segments.length === 0 ? [] : read.path });
  return agree && text(singles(pve)) === text(singles(forwarded)) ? 'same' : { pve, ours: call, forwarded };
}

function attempt(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return { error: String(error) };
  }
}

/** A list of one is written like a text, which PVE takes for a list of one wherever it takes lists. */
function singles(reading: unknown): unknown {
  const { params = {}, ...rest } = Object(reading) as Partial<Reading>;
  const plain = Object.entries(params).map(([name, value]) => [name, value.length === 1 ? value[0] : value]);
  return { ...rest, params: Object.fromEntries(plain.map(([name, value]) => [name, value])) };
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([left], [right]) => (left < right ? -1 : 1)))
      : part,
  );
}

const words = [
  'n1',
  '100',
  'localhost',
  'alice',
  'ceph',
  'a@pve',
  'UPID:n1:0001:',
  'vm-100-disk-0',
  'content',
  'ipset',
];
const volumes = ['ceph:vm-100-disk-0', 'shared:iso/d.iso', 'local:100/vm-100-disk-0.qcow2', '10.0.0.0/8', 'a/b/c'];
const nasty = [
  ...['', '.', '..', '%2F', '%2f', '%2e%2e', '%0A', '%00', '%20', '%252F', '%zz', '%', '%C3%A9', '%C3', '%FF'],
  ...[
    '+',
    ';',
    '&',
    '=',
    '?',
    '#',
    '@',
    '\\',
    '\u00e9',
    '\u0000',
    ' ',
    '"',
    '//',
    '/./',
    '/../',
    '%3B',
    '%26',
    '%3D',
    '%2B',
  ],
];

const bad = fc.constantFrom(...nasty);
const word = fc.oneof(
  { weight: 18, arbitrary: fc.constantFrom(...words) },
  { weight: 4, arbitrary: fc.constantFrom(...volumes) },
  { weight: 1, arbitrary: bad },
  { weight: 1, arbitrary: fc.string({ maxLength: 6 }) },
);

/** Mostly the text as it is; now and then something inserted where it hurts. */
const spoilt = (arbitrary: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(arbitrary, fc.nat(9), bad, fc.nat(200)).map(([given, when, what, where]) => {
    if (when > 0) return given;
    const at = where % (given.length + 1);
    return `${given.slice(0, at)}${what}${given.slice(at)}`;
  });

const knownPath = fc
  .tuple(fc.constantFrom(...rows.map(({ path }) => path)), fc.array(word, { minLength: 5, maxLength: 5 }))
  .map(([path, values]) => {
    const rest = [...values];
    return path.replace(/\{[^}]+\}/g, () => rest.pop() ?? 'x');
  });
const path = fc.oneof(
  { weight: 4, arbitrary: knownPath },
  { weight: 1, arbitrary: fc.array(word, { maxLength: 7 }).map((parts) => `/${parts.join('/')}`) },
);
const prefix = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom('/api2/json', '/api2/extjs') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('/api2//json', '/api2/html', '/api2/JSON', '/%61pi2/json', '/api2/json%2F', '/api2'),
  },
);

const name = fc.oneof(
  {
    weight: 24,
    arbitrary: fc.constantFrom('cores', 'memory', 'scsi0', 'delete', 'vmid', 'node', 'vms', '_dc', 'net0'),
  },
  {
    weight: 1,
    arbitrary: fc.oneof(bad, fc.constantFrom('__proto__', 'constructor', 'cores%20', '%63ores', 'a[]', 'c+')),
  },
);
const value = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.constantFrom('4', '', '+4', '1e3', '0', 'ceph:10', 'order%3Dscsi0%3Bnet0', 'a%26b', 'x+y', '%C3%A9'),
  },
  { weight: 1, arbitrary: fc.constantFrom('ceph:10,size=5', 'order=scsi0;net0', 'a b') },
  { weight: 6, arbitrary: fc.string({ unit: 'grapheme', maxLength: 8 }).map(encodeURIComponent) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 5 }) },
  { weight: 1, arbitrary: bad },
);
const pair = fc
  .tuple(name, fc.oneof({ weight: 20, arbitrary: fc.constant('=') }, fc.constantFrom('', '==')), value)
  .map((parts) => parts.join(''));
const separator = fc.oneof({ weight: 30, arbitrary: fc.constant('&') }, fc.constantFrom(';', '&&', '?', '', '+'));
const form = fc.array(fc.tuple(pair, separator), { maxLength: 4 }).map((pairs) =>
  pairs
    .map((parts) => parts.join(''))
    .join('')
    .replace(/&$/, ''),
);

const scalar = fc.oneof(
  fc.constantFrom<unknown>(4, 1.5, -0, 0, 1e21, 1e-7, 2 ** 60, true, false, null, '4', '', 'a;b=c&d', '\ud800'),
  fc.double(),
  fc.string({ unit: 'binary', maxLength: 5 }),
);
const jsonValue = fc.oneof(
  { weight: 12, arbitrary: fc.oneof(fc.integer(), fc.boolean(), fc.string({ maxLength: 6 })) },
  { weight: 3, arbitrary: scalar },
  { weight: 2, arbitrary: fc.array(scalar, { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.jsonValue() },
);
const json = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .array(fc.tuple(name, jsonValue), { maxLength: 4 })
      .map((members) => `{${members.map((member) => member.map((part) => JSON.stringify(part)).join(':')).join(',')}}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', '[]', 'null', '"x"', '\ufeff{}', '{"cores":1e400}', '{"a":1,"\\u0061":2}', '{,}'),
  },
);

const formType = 'application/x-www-form-urlencoded';
const content = fc.oneof(
  { weight: 4, arbitrary: form.map((body) => ({ type: formType, body })) },
  { weight: 3, arbitrary: spoilt(json).map((body) => ({ type: 'application/json', body })) },
  { weight: 1, arbitrary: form.map((body) => ({ type: undefined, body })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.constantFrom(
          'Application/JSON',
          'application/json ; charset=utf-8',
          'text/plain',
          `${formType}, text/plain`,
          '',
        ),
        fc.oneof(form, json),
      )
      .map(([type, body]) => ({ type, body })),
  },
);

/** Requests as a client might send them, one in ten with something in a place where readers of HTTP disagree. */
export const requests: fc.Arbitrary<Sent> = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'POST', 'PUT', 'PATCH'),
    target: fc.tuple(prefix, spoilt(path)).map((parts) => parts.join('')),
    query: fc.oneof(
      { weight: 2, arbitrary: fc.constant('') },
      form.map((text) => `?${text}`),
    ),
    content,
    latin1: fc.nat(19).map((number) => number === 0),
  })
  .map(({ method, target, query, content: { type, body }, latin1 }) => {
    const hasBody = method === 'POST' || method === 'PUT';
    const bytes = Buffer.from(hasBody ? body : '', latin1 ? 'latin1' : 'utf8');
    const headers = { ...(type === undefined ? {} : { 'content-type': type }), 'content-length': String(bytes.length) };
    return { method, url: `${target}${query}`, headers, body: bytes };
  });
