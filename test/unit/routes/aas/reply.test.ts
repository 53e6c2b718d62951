import { expect, test } from 'vitest';
import {
  BadRequestError,
  NotReadyError,
  type Overrun,
  QuotaExceededError,
  UnauthenticatedError,
} from '../../../../src/errors.ts';
import type { Answer } from '../../../../src/pve/call.ts';
import { resourcesSchema } from '../../../../src/quota/resources.ts';
import { dataOf, errorReply, PveRefusal, reasonOf, refusedStatus } from '../../../../src/routes/aas/reply.ts';

const resources = resourcesSchema.parse({
  memory: { type: 'numeric', multiplier: 1048576 },
  fast: { type: 'storage' },
  pci: { type: 'list' },
});
const instance = { node: 'n1', type: 'qemu', vmid: '100' };

function answer(status: number, reason = '', errors?: Record<string, string>): Answer {
  return { status, reason, data: null, ...(errors === undefined ? {} : { errors }) };
}

test.each([
  [400, 400],
  [401, 401],
  [500, 500],
  [595, 595],
  [599, 599],
  [302, 502],
  [100, 502],
])('a refusal with status %i leaves as %i', (status, shown) => {
  expect(refusedStatus(answer(status))).toBe(shown);
});

test("PVE's reason comes with what it says of each parameter", () => {
  expect(reasonOf(answer(400, 'Parameter verification failed.', { cores: 'too many\n', memory: 'odd' }))).toBe(
    'Parameter verification failed. cores: too many memory: odd',
  );
  expect(reasonOf(answer(500))).toBe('PVE answered 500');
});

test('data of a success is given, and a refusal thrown', () => {
  expect(dataOf({ ...answer(200), data: 'UPID' })).toBe('UPID');
  expect(() => dataOf(answer(403, 'no'))).toThrow(PveRefusal);
});

test.each<[unknown, unknown, number, object]>([
  [new PveRefusal(answer(403, 'no <b>')), instance, 403, { error: 'no &lt;b>' }],
  [
    new PveRefusal(answer(401, 'No ticket')),
    instance,
    401,
    { auth: false, path: '/nodes/n1/qemu/100/config', error: 'No ticket' },
  ],
  [new UnauthenticatedError('Sign in'), {}, 401, { auth: false, path: '/version', error: 'Sign in' }],
  [new BadRequestError({ field: 'a', problem: '<i>' }), {}, 400, { error: 'a: &lt;i>' }],
  [new TypeError('secret detail'), {}, 500, { error: 'Internal error; the log of the server says more' }],
])('%s on %j is said with status %i', (error, params, status, body) => {
  expect(errorReply(error, { params }, resources)).toEqual({ status, headers: {}, body });
});

test('one may come back when the server is ready', () => {
  expect(errorReply(new NotReadyError('not yet', 3), { params: {} }, resources).headers).toEqual({
    'retry-after': '3',
  });
});

test('an exceeded quota gives the amounts in quota units, the items of lists, and everything in base units', () => {
  const overrun = (resource: string, requested: number, item = ''): Overrun => ({
    payer: 'alice@pve',
    resource,
    item,
    scope: 'global',
    requested,
    used: 0,
    reserved: 0,
    limit: 1,
    available: 1,
    sentence: `${resource} is short`,
  });
  const overruns = [
    overrun('memory', 1048577),
    overrun('storage:fast', 5),
    overrun('pci', 1, 'Tesla'),
    overrun('odd', 2),
  ];
  const { status, body } = errorReply(new QuotaExceededError(overruns), { params: instance }, resources);
  expect(status).toBe(403);
  expect(body.request).toEqual({ memory: 2, fast: 5, pci: 'Tesla', odd: 2 });
  expect(body.reason).toMatchObject({ fast: { approved: false, reason: 'storage:fast is short' } });
  expect(body.overruns).toBe(overruns);
  expect(body.error).toMatch(/^Quota exceeded: /);
});
