import { describe, expect, test } from 'vitest';
import {
  BadRequestError,
  ForbiddenError,
  NotReadyError,
  type Overrun,
  QuotaExceededError,
  UnauthenticatedError,
  UnknownMethodError,
  UpstreamDeadlineError,
} from '../../../../src/errors.ts';
import { formatFor, readTarget } from '../../../../src/routes/pve/reading.ts';
import { spokenAnswer, spokenError } from '../../../../src/routes/pve/reply.ts';

describe('an answer of PVE', () => {
  test('is data, and what PVE puts beside it', () => {
    const answer = { status: 200, reason: 'OK', data: [1], extra: { total: 7 } };
    expect(spokenAnswer('json', answer)).toMatchObject({ status: 200, body: { data: [1], total: 7 } });
    expect(spokenAnswer('extjs', answer).body).toEqual({ data: [1], total: 7, success: 1 });
    expect(spokenAnswer('json', { status: 200, reason: '', data: undefined }).body).toEqual({ data: null });
  });

  test('that says no keeps its status, its reason, its message and its errors', () => {
    const errors = { vmid: 'taken\n' };
    const answer = { status: 400, reason: 'no', data: null, errors, extra: { message: 'no\nand why\n' } };
    const body = { data: null, errors, message: 'no\nand why\n' };
    expect(spokenAnswer('json', answer)).toMatchObject({ status: 400, reason: 'no', body });
    expect(spokenAnswer('extjs', answer)).toMatchObject({ status: 200, body: { ...body, status: 400, success: 0 } });
  });

  test.each([
    [{ status: 500, reason: '' }, 500, 'Internal Server Error'],
    [{ status: 302, reason: 'Found' }, 502, 'Found'],
    [{ status: 595, reason: '' }, 595, 'unknown'],
    [{ status: 700, reason: 'x' }, 502, 'x'],
  ])('with %j comes as %i %s', (answer, status, reason) => {
    expect(spokenAnswer('json', { ...answer, data: null })).toMatchObject({
      status,
      reason,
      body: { message: `${reason}\n` },
    });
  });
});

describe('a refusal', () => {
  const overrun = (resource: string, sentence: string): Overrun => ({
    ...{
      payer: 'alice@pve',
      resource,
      item: '',
      scope: 'global',
      requested: 2,
      used: 1,
      reserved: 0,
      limit: 2,
      available: 1,
    },
    sentence,
  });

  test.each([
    [
      new BadRequestError([
        { field: 'a', problem: 'x' },
        { field: 'a', problem: 'y' },
      ]),
      400,
      { a: 'x; y' },
    ],
    [
      new QuotaExceededError([overrun('cores', 'c'), overrun('memory', 'm')], ({ resource }) =>
        resource === 'cores' ? ['cores', 'sockets'] : ['memory'],
      ),
      403,
      { cores: 'c', sockets: 'c', memory: 'm' },
    ],
    [new ForbiddenError('not yours').at('vmid'), 403, { vmid: 'not yours' }],
    [new ForbiddenError('not yours'), 403, undefined],
    [new UnknownMethodError("Method 'GET /x' not implemented"), 501, undefined],
    [new UpstreamDeadlineError('late'), 504, undefined],
    [new TypeError('a secret'), 500, undefined],
  ])('for %s is a %i', (error, status, errors) => {
    const spoken = spokenError('json', error);
    expect([spoken.status, spoken.body?.errors, spoken.body?.data]).toEqual([status, errors, null]);
    expect(spoken.body?.message).toBe(`${spoken.reason}\n`);
    expect(spoken.reason).not.toContain('secret');
    expect(spokenError('extjs', error)).toMatchObject({ status: 200, body: { status, success: 0 } });
  });

  test('says when to come back, and that nobody is signed in without a body', () => {
    expect(spokenError('json', new NotReadyError('soon', 3)).headers).toEqual({ 'retry-after': '3' });
    for (const format of ['json', 'extjs'] as const)
      expect(spokenError(format, new UnauthenticatedError('No ticket'))).toMatchObject({
        status: 401,
        reason: 'No ticket',
        body: null,
      });
  });
});

test.each([
  ['/api2/json', 'json', ''],
  ['/api2//extjs/nodes?a=/b', 'extjs', '/nodes?a=/b'],
  ['/api2/json?x=1', 'json', '?x=1'],
])('%s asks in %s for %j', (url, format, target) => {
  expect(readTarget(url)).toEqual({ format, target });
  expect(formatFor(url)).toBe(format);
});

test.each([
  '/api2',
  '/api2/',
  '/api2/html/x',
  '/api2/jsonp',
  '/API2/json',
  '/api2/%6ason',
  '/api2/json%2Fx',
  'http://x/api2/json',
  '/x/api2/json',
])('%s asks in no form that is offered', (url) => {
  expect(() => readTarget(url)).toThrow(BadRequestError);
  expect(formatFor(url)).toBe('json');
});
