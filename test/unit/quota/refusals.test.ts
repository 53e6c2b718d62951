import { expect, test } from 'vitest';
import { Refusals } from '../../../src/quota/refusals.ts';

const hour = 3600_000;
const refusal = { address: '192.0.2.7', call: 'PUT /nodes/n1/qemu/100/config', vmid: 100, verdict: 'forbidden' };

test('of a user who is refused over and over so many are kept in an hour, and the last line says that there were more', () => {
  const refusals = new Refusals();
  for (let n = 0; n < 1000; n += 1) refusals.add({ ...refusal, user: 'mallory@pve', detail: n, at: n });
  refusals.add({ ...refusal, user: 'alice@pve', detail: 'hers', at: 1000 });
  expect(refusals.waiting).toHaveLength(201);
  expect(refusals.waiting.at(199)).toMatchObject({
    user: 'mallory@pve',
    verdict: 'not_recorded',
    detail: expect.stringContaining('refused 200 times since 1970-01-01T00:00:00.000Z; more until 1970-01-01T01:00:00'),
  });
  expect(refusals.waiting.at(200)).toMatchObject({ user: 'alice@pve', detail: 'hers' });

  refusals.written();
  refusals.add({ ...refusal, user: 'mallory@pve', detail: 'within the hour', at: hour - 1 });
  expect(refusals.waiting).toEqual([]);
  refusals.add({ ...refusal, user: 'mallory@pve', detail: 'after it', at: hour });
  expect(refusals.waiting).toMatchObject([{ detail: 'after it' }]);
});

test('a clock that has been set back an hour does not silence anybody', () => {
  const refusals = new Refusals();
  for (let n = 0; n < 300; n += 1) refusals.add({ ...refusal, user: 'alice@pve', detail: n, at: 10 * hour });
  refusals.written();
  refusals.add({ ...refusal, user: 'alice@pve', detail: 'now', at: 0 });
  expect(refusals.waiting).toHaveLength(1);
});

test('what a client wrote is kept at a length that fits the record', () => {
  const refusals = new Refusals();
  const long = 'x'.repeat(500_000);
  refusals.add({ ...refusal, user: 'alice@pve', call: `POST /${long}`, detail: long, at: 0 });
  expect(JSON.stringify(refusals.waiting).length).toBeLessThan(5000);
});
