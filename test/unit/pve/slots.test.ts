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
