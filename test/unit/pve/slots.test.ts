import { expect, test } from 'vitest';
import { Slots } from '../../../src/pve/slots.ts';

test('no more than its width runs at once, the others follow in order', async () => {
  const slots = new Slots(2, 10);
  const begun: number[] = [];
  const ends = Array.from({ length: 4 }, () => Promise.withResolvers<void>());
  const work = ends.map(({ promise }, index) =>
    slots.run(() => {
      begun.push(index);
      return promise;
    }),
  );
  expect(begun).toEqual([0, 1]);
  ends[1]?.resolve();
  await work[1];
  expect(begun).toEqual([0, 1, 2]);
  for (const { resolve } of ends) resolve();
  await Promise.all(work);
  expect(begun).toEqual([0, 1, 2, 3]);
});

test('it is full when the next one would find no place to wait, and free again when work ends, also badly', async () => {
  const slots = new Slots(1, 1);
  const end = Promise.withResolvers<void>();
  const first = slots.run(() => end.promise);
  expect(slots.full).toBe(false);
  const second = slots.run(async () => 'done');
  expect(slots.full).toBe(true);
  end.reject(new Error('failed'));
  await expect(first).rejects.toThrow('failed');
  expect(await second).toBe('done');
  expect(await slots.run(async () => 'again')).toBe('again');
});

test('who gives up waiting never begins and leaves the place to the next', async () => {
  const slots = new Slots(1, 5);
  const end = Promise.withResolvers<void>();
  const impatience = new AbortController();
  const first = slots.run(() => end.promise);
  const second = slots.run(() => Promise.reject(new Error('begun')), impatience.signal);
  const third = slots.run(async () => 'third');
  impatience.abort(new Error('too long'));
  await expect(second).rejects.toThrow('too long');
  end.resolve();
  await first;
  expect(await third).toBe('third');
});

test('of one party no more than its share runs or waits, and who has the least is next', async () => {
  const slots = new Slots(4, 4, 2);
  const ends = new Map<string, PromiseWithResolvers<void>>();
  const begin = (party: string, name: string) =>
    slots.run(
      () => {
        const end = Promise.withResolvers<void>();
        ends.set(name, end);
        return end.promise;
      },
      undefined,
      party,
    );
  const begun = () => [...ends.keys()];
  const ended = async (name: string) => {
    ends.get(name)?.resolve();
    ends.delete(name);
    await new Promise(setImmediate);
  };

  const all = [begin('a', 'a1'), begin('a', 'a2'), begin('a', 'a3'), begin('a', 'a4'), begin('b', 'b1')];
  expect(begun()).toEqual(['a1', 'a2', 'b1']);
  expect([slots.isFullFor('a'), slots.isFullFor('b'), slots.full]).toEqual([true, false, false]);
  all.push(begin('b', 'b2'), begin('b', 'b3'), begin('c', 'c1'));
  expect([begun(), slots.full]).toEqual([['a1', 'a2', 'b1', 'b2'], true]);

  await ended('a1');
  expect(begun()).toEqual(['a2', 'b1', 'b2', 'c1']);
  await ended('b1');
  expect(begun()).toEqual(['a2', 'b2', 'c1', 'a3']);
  for (const name of ['c1', 'a2', 'a3', 'b2', 'a4', 'b3']) await ended(name);
  await Promise.all(all);
});

test.each([3, 4, 9])('who waits for nothing yet finds a place, however many others fill the queue (%d)', (parties) => {
  const slots = new Slots(8, 256, 3);
  for (const party of Array.from({ length: parties }, (_, n) => `crowd ${n}`))
    while (!slots.isFullFor(party)) void slots.run(() => new Promise(() => {}), undefined, party);
  expect(slots.isFullFor('somebody else')).toBe(false);
  expect(slots.isFullFor('crowd 0')).toBe(true);
});
