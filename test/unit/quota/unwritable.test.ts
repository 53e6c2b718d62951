import { describe, expect, test } from 'vitest';
import { NotReadyError } from '../../../src/errors.ts';
import { aim, Books, sighting } from './ledgers.ts';

const alice = 'alice@pve';

const someBooks = () => new Books({ [alice]: { cores: 100_000, memory: 1000 } });
const hinder = ({ database }: Books) => database.pragma('query_only = ON');
const mend = ({ database }: Books) => database.pragma('query_only = OFF');

describe('while the database cannot be written', () => {
  test('nothing is reserved, and it says why', async () => {
    using books = someBooks();
    hinder(books);
    const reserving = books.create(alice, 100, { cores: 4 });
    await expect(reserving).rejects.toThrow(NotReadyError);
    await expect(reserving).rejects.toThrow('read-only');
    expect([books.ledger.reservations(), books.holds(alice)]).toEqual([[], {}]);

    mend(books);
    await expect(books.create(alice, 100, { cores: 4 })).resolves.toMatchObject({ by: alice });
  });

  test('what was begun before is settled, and written when that is possible again', async () => {
    using books = someBooks();
    const { id } = await books.create(alice, 100, { cores: 4 });
    hinder(books);
    books.ledger.setUpid(id, 'UPID:n1:00000001:00000001:65000000:qmcreate:100:quota-proxy@pve!gate:');
    expect(books.settle(id, sighting(100, { cores: 2 }))).toBe(true);
    expect(books.holds(alice)).toEqual({ 'cores n1': [2, 2] });
    expect(() => books.ledger.save()).toThrow(NotReadyError);

    mend(books);
    books.ledger.save();
    expect(books.rows('reservation')).toEqual([]);
    expect(books.rows('decision')).toMatchObject([{ outcome: 'OK', upid: expect.stringContaining('qmcreate') }]);
    books.crash();
    expect(books.holds(alice)).toEqual({ 'cores n1': [2, 2] });
  });

  test('a crash before it was written leaves the reservation open, as if nothing had been seen', async () => {
    using books = someBooks();
    const { id } = await books.create(alice, 100, { cores: 4 });
    hinder(books);
    books.settle(id, sighting(100, { cores: 2 }));

    books.crash();
    expect(books.ledger.reservations()).toMatchObject([{ id }]);
    expect(books.holds(alice)).toEqual({ 'cores n1': [0, 4] });
  });

  test('refusals wait to be written, but not without end', () => {
    using books = someBooks();
    hinder(books);
    const refusal = { address: '192.0.2.7', call: 'POST', vmid: 100, verdict: 'forbidden' };
    for (let n = 1; n <= 10_050; n += 1) books.ledger.refused({ ...refusal, user: `user${n % 100}@pve`, detail: n });

    mend(books);
    books.ledger.save();
    expect(books.rows('decision')).toHaveLength(10_000);
    expect(books.rows('decision').at(-1)).toMatchObject({ detail: '10050' });
  });
});

test('a full disk refuses the first change that it has no room for, and forgets none that it took', async () => {
  using books = someBooks();
  books.database.pragma('max_page_count = 1');
  let taken = 0;
  let refusal: unknown;
  while (refusal === undefined && taken < 1000) {
    try {
      await books.create(alice, 100 + taken, { cores: 1, memory: 0 });
      taken += 1;
    } catch (error) {
      refusal = error;
    }
  }
  expect(refusal).toBeInstanceOf(NotReadyError);
  expect(String(refusal)).toContain('the disk is full');

  books.crash();
  expect(books.ledger.reservations()).toHaveLength(taken);
});

test('a change of an instance is not undone by the disk', async () => {
  using books = someBooks();
  books.see(sighting(100, { cores: 2 }));
  books.ledger.assign(100, [alice]);
  const { id } = await books.reserve(alice, aim(100, { cores: 8 }));
  hinder(books);
  books.ledger.release(id, 'PVE refused');
  expect(books.holds(alice)).toEqual({ 'cores n1': [2, 2] });
});
