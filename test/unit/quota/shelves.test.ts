import { expect, test } from 'vitest';
import type { Aim } from '../../../src/quota/ledger.ts';
import { absence, aim, Books, claim } from './ledgers.ts';

const name = { place: 'ceph', volid: 'ceph:iso/a.iso' };
const other = { place: 'ceph', volid: 'ceph:iso/b.iso' };

/** A change that leaves these bytes on a shelf, and a file of them. */
function leaving(shelf: number, bytes: number, file?: Aim['file']): Aim {
  return aim(shelf, { 'storage:ceph': bytes }, file === undefined ? {} : { file });
}

/** What a look at a shelf found. */
const found = (shelf: number, bytes: number, missing: (typeof name)[] = []) => ({
  ...absence(shelf, { 'storage:ceph': bytes }),
  missing,
});

test('a shelf is an account that its user alone pays for, whoever claims whatever', async () => {
  using books = new Books({ alice: { ceph: 10 }, bob: { ceph: 10 } }, [claim('bob', -100, 999)]);
  const shelf = books.ledger.shelfOf('alice', 'n1');
  expect(shelf).toBeLessThan(0);
  expect(books.ledger.shelfOf('alice', 'n1')).toBe(shelf);
  expect(books.ledger.shelfOf('alice', 'n2')).not.toBe(shelf);
  expect(books.ledger.shelfOf('bob', 'n1')).not.toBe(shelf);
  expect(books.ledger.payersOf(shelf)).toEqual(['alice']);
  await expect(books.reserve('alice', leaving(shelf, 11, { ...name, bytes: 11 }))).rejects.toThrow(/Quota exceeded/);
  await books.reserve('alice', leaving(shelf, 10, { ...name, bytes: 10 }));
  expect(books.holds('alice')).toEqual({ 'storage:ceph n1': [0, 10] });
  expect(books.holds('bob')).toEqual({});
  expect([...books.ledger.vmids()]).toEqual([]);
});

test("a file is its maker's from the reservation on, over a crash, until it is seen to be gone", async () => {
  using books = new Books({ alice: { ceph: 10 }, bob: { ceph: 10 } });
  const shelf = books.ledger.shelfOf('alice', 'n1');
  const { id } = await books.reserve('alice', leaving(shelf, 4, { ...name, bytes: 4 }));
  expect(books.ledger.fileOwner(name)).toBe('alice');
  expect(books.ledger.filesOn(shelf)).toEqual([{ ...name, awaited: 4 }]);
  // As long as it is awaited, its not being there says nothing.
  books.see(found(shelf, 0, [name]));
  books.crash();
  expect(books.ledger.fileOwner(name)).toBe('alice');
  const bobs = books.ledger.shelfOf('bob', 'n1', name);
  await expect(books.reserve('bob', leaving(bobs, 1, { ...name, bytes: 1 }))).rejects.toThrow(/another user's/);
  expect(books.settle(id, found(shelf, 4))).toBe(true);
  expect(books.ledger.filesOn(shelf)).toEqual([{ ...name, awaited: undefined }]);
  books.restart();
  expect(books.holds('alice')).toEqual({ 'storage:ceph n1': [4, 4] });
  expect(books.ledger.shelvesAt('ceph')).toEqual(new Set([shelf]));
  expect(books.ledger.shelfOf('alice', 'n2', name)).toBe(shelf);

  books.see(found(shelf, 0, [name]));
  expect(books.ledger.fileOwner(name)).toBeUndefined();
  expect(books.holds('alice')).toEqual({});
  await books.reserve('bob', leaving(bobs, 1, { ...name, bytes: 1 }));
  expect(books.ledger.fileOwner(name)).toBe('bob');
});

test('what comes to nothing leaves no owner behind, unless the file was there before', async () => {
  using books = new Books({ alice: { ceph: 10 } });
  const shelf = books.ledger.shelfOf('alice', 'n1');
  const first = await books.reserve('alice', leaving(shelf, 4, { ...name, bytes: 4 }));
  await expect(books.reserve('alice', leaving(shelf, 4, { ...name, bytes: 4 }))).rejects.toThrow(/being written/);
  const second = await books.reserve('alice', leaving(shelf, 9, { ...other, bytes: 5 }));
  books.ledger.release(second.id, 'the client hung up');
  expect(books.ledger.fileOwner(other)).toBeUndefined();
  books.settle(first.id, found(shelf, 4));
  const again = await books.reserve('alice', leaving(shelf, 6, { ...name, bytes: 6 }));
  books.ledger.release(again.id, 'the client hung up');
  expect(books.ledger.fileOwner(name)).toBe('alice');
  expect(books.holds('alice')).toEqual({ 'storage:ceph n1': [4, 4] });
  books.restart();
  expect(books.ledger.filesOn(shelf)).toEqual([{ ...name, awaited: undefined }]);
});

test('a file that is being copied is not overwritten, nor a guest forgotten that is, over a crash, until the copy has ended', async () => {
  using books = new Books({ alice: { ceph: 10 }, bob: { ceph: 10 } });
  const shelf = books.ledger.shelfOf('bob', 'n1');
  const copied = { copies: [name], sources: [101] };
  const { id } = await books.reserve('alice', aim(100, { 'storage:ceph': 4 }), false, copied);
  books.crash();
  expect(books.ledger.reservations()).toMatchObject([{ id, copies: [name], sources: [101] }]);
  expect([books.ledger.copying(101), books.ledger.copying(100)]).toEqual([[id], []]);
  const overwriting = () => books.reserve('bob', leaving(shelf, 1, { ...name, bytes: 1 }));
  await expect(overwriting()).rejects.toThrow(/being imported/);
  await books.reserve('bob', leaving(shelf, 1, { ...other, bytes: 1 }));
  books.ledger.release(id, 'refused');
  expect(books.ledger.copying(101)).toEqual([]);
  await overwriting();
});

test('a change that failed leaves no owner behind when the look after it finds no file', async () => {
  using books = new Books({ alice: { ceph: 10 } });
  const shelf = books.ledger.shelfOf('alice', 'n1');
  const { id } = await books.reserve('alice', leaving(shelf, 4, { ...name, bytes: 4 }));
  books.settle(id, found(shelf, 0, [name]));
  expect(books.ledger.fileOwner(name)).toBeUndefined();
  expect(books.holds('alice')).toEqual({});
  expect(books.rows('file')).toEqual([]);
});
