import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  BadRequestError,
  NotReadyError,
  NotSupportedError,
  TooManyRequestsError,
  UpstreamDeadlineError,
} from '../../../src/errors.ts';
import { fieldOf, formOf } from '../../../src/routes/aas/form.ts';
import { logLevelOf, plainText, reasonPhrase, refusalOf } from '../../../src/routes/edge.ts';

test.each<[unknown, object]>([
  [
    new BadRequestError({ field: 'cores', problem: 'expected a number' }),
    { status: 400, message: 'cores: expected a number', headers: {} },
  ],
  [new NotReadyError('not yet', 1.5), { status: 503, message: 'not yet', headers: { 'retry-after': '2' } }],
  [new TooManyRequestsError('slowly', 0), { status: 429, message: 'slowly', headers: { 'retry-after': '1' } }],
  [new UpstreamDeadlineError('late'), { status: 504, message: 'late', headers: {} }],
  [
    Object.assign(new Error('body too large'), { statusCode: 413 }),
    { status: 413, message: 'body too large', headers: {} },
  ],
])('%s is told as it is', (error, refusal) => {
  expect(refusalOf(error)).toEqual(refusal);
});

test.each([
  new TypeError('the secret is 42'),
  Object.assign(new Error('the secret is 42'), { statusCode: 500 }),
  'the secret is 42',
  null,
])('any other error says nothing of itself', (error) => {
  expect(refusalOf(error)).toMatchObject({ status: 500 });
  expect(JSON.stringify(refusalOf(error))).not.toContain('42');
});

test('any text becomes a reason phrase that a status line can carry', () => {
  expect(reasonPhrase("VM 'Größe' läuft\nnicht\u2026 \u{1F600}")).toBe(
    "VM 'Gro?e' lauft nicht... ??".replace('??', '?'),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      expect(reasonPhrase(text)).toMatch(/^[\x20-\x7e]{0,300}$/);
    }),
  );
});

test('a message shown as HTML holds no tag', () => {
  expect(plainText('<script>')).toBe('&lt;script>');
});

test('a form is read field by field; repeated and nested fields are all named', () => {
  expect(formOf(undefined)).toEqual({});
  expect(formOf({ cores: '4', pool: '' })).toEqual({ cores: '4', pool: '' });
  expect(() => formOf({ cores: ['1', '2'], 'a[b]': '1' })).toThrow(
    'cores: it is given more than once; a[b]: nested fields are not understood',
  );
  expect(() => formOf('cores=1')).toThrow(BadRequestError);
});

test.each([
  [{}, null],
  [{ mp: '' }, null],
  [{ mp: 'null' }, null],
  [{ mp: '/srv' }, '/srv'],
])('the field of %j is %j', (form: Readonly<Record<string, string>>, value) => {
  expect(fieldOf(form, 'mp')).toBe(value);
});

test.each([
  [new TypeError('ours'), 'error'],
  [new UpstreamDeadlineError('late'), 'warn'],
  [new NotSupportedError('no such method'), undefined],
  [new NotReadyError('busy', 1), undefined],
  [Object.assign(new Error('too large'), { statusCode: 413 }), undefined],
])('the log is told of %s as %s, and nobody fills it with refusals', (error, level) => {
  expect(logLevelOf(error)).toBe(level);
});
