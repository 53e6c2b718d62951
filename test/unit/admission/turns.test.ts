import { setTimeout } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Turns } from '../../../src/admission/turns.ts';
import { ConflictError } from '../../../src/errors.ts';

/** Work that goes on until it is told to end, and notes when it began. */
function work(name: string, begun: string[]) {
  const { promise, resolve } = Promise.withResolvers<string>();
  const run = () => {
    begun.push(name);
    return promise;
  };
  return { run, end: () => resolve(name) };
}

const later = () => setTimeout(5);

test('changes of one instance run one after the other, in the order in which they came', async () => {
  const turns = new Turns(1000);
  const begun: string[] = [];
  const [first, second, third] = [work('first', begun), work('second', begun), work('third', begun)] as const;
  const all = [turns.take([100], first.run), turns.take([100], second.run), turns.take([100], third.run)];
  await later();
  expect(begun).toEqual(['first']);
  first.end();
  await later();
  expect(begun).toEqual(['first', 'second']);
  third.end();
  await later();
  expect(begun).toEqual(['first', 'second']);
  second.end();
  expect(await Promise.all(all)).toEqual(['first', 'second', 'third']);
});

test('changes of different instances do not wait for each other', async () => {
  const turns = new Turns(1000);
  const begun: string[] = [];
  const [one, other] = [work('one', begun), work('other', begun)];
  const running = [turns.take([100], one.run), turns.take([101], other.run)];
  expect(begun).toEqual(['one', 'other']);
  one.end();
  other.end();
  await Promise.all(running);
});

test('work that fails gives its turn on, and its error to its caller alone', async () => {
  const turns = new Turns(1000);
  const failing = turns.take([100], () => Promise.reject(new Error('broken')));
  const next = turns.take([100], async () => 'done');
  await expect(failing).rejects.toThrow('broken');
  expect(await next).toBe('done');
});

test('nobody waits longer than the bound, and who gave up holds nobody back', async () => {
  const turns = new Turns(300);
  const begun: string[] = [];
  const [slow, never, after] = [work('slow', begun), work('never', begun), work('after', begun)];
  const running = turns.take([100], slow.run);
  await expect(turns.take([100], never.run)).rejects.toThrow(ConflictError);
  const last = turns.take([100], after.run);
  await later();
  expect(begun).toEqual(['slow']);
  slow.end();
  after.end();
  expect(await Promise.all([running, last])).toEqual(['slow', 'after']);
  expect(begun).toEqual(['slow', 'after']);
});

test('who comes after one that gave up still waits for the one that runs', async () => {
  const turns = new Turns(30);
  const begun: string[] = [];
  const slow = work('slow', begun);
  const running = turns.take([100], slow.run);
  const gaveUp = turns.take([100], async () => begun.push('gave up'));
  await expect(gaveUp).rejects.toThrow('100 is under way');
  await expect(turns.take([100], async () => begun.push('too early'))).rejects.toThrow(ConflictError);
  slow.end();
  await running;
  expect(begun).toEqual(['slow']);
});

test('a change of two instances has both to itself, and two that cross do not lock each other', async () => {
  const turns = new Turns(1000);
  const begun: string[] = [];
  const [left, both, crossing, right] = [
    work('left', begun),
    work('both', begun),
    work('crossing', begun),
    work('right', begun),
  ] as const;
  const all = [
    turns.take([100], left.run),
    turns.take([100, 101], both.run),
    turns.take([101, 100], crossing.run),
    turns.take([101], right.run),
  ];
  await later();
  expect(begun).toEqual(['left']);
  left.end();
  await later();
  expect(begun).toEqual(['left', 'both']);
  both.end();
  await later();
  expect(begun).toEqual(['left', 'both', 'crossing']);
  crossing.end();
  right.end();
  await Promise.all(all);
  expect(begun).toEqual(['left', 'both', 'crossing', 'right']);
});

test('each of the two instances of a change is taken while it runs', async () => {
  const turns = new Turns(1000);
  const begun: string[] = [];
  const [both, left, right] = [work('both', begun), work('left', begun), work('right', begun)] as const;
  const all = [turns.take([100, 101], both.run), turns.take([100], left.run), turns.take([101], right.run)];
  await later();
  expect(begun).toEqual(['both']);
  both.end();
  await later();
  expect(begun).toEqual(['both', 'left', 'right']);
  left.end();
  right.end();
  await Promise.all(all);
});

test('the same instance named twice does not wait for itself', async () => {
  expect(await new Turns(20).take([100, 100], async () => 'done')).toBe('done');
});

test('a long row of changes leaves nothing behind to wait for', async () => {
  const turns = new Turns(1000);
  let running = 0;
  const one = async () => {
    running += 1;
    expect(running).toBe(1);
    await Promise.resolve();
    running -= 1;
  };
  await Promise.all(Array.from({ length: 500 }, () => turns.take([100], one)));
  await later();
  let begun = false;
  const next = turns.take([100], async () => {
    begun = true;
  });
  // A turn that nobody holds is taken at once, without waiting for the past.
  expect(begun).toBe(true);
  await next;
});

test('those that only read an instance run side by side, and not with those that change it', async () => {
  const turns = new Turns(1000);
  const begun: string[] = [];
  const [first, second, change, late] = [
    work('first', begun),
    work('second', begun),
    work('change', begun),
    work('late', begun),
  ] as const;
  const all = [
    turns.take([101], first.run, [100]),
    turns.take([102], second.run, [100]),
    turns.take([100], change.run),
    turns.take([103], late.run, [100]),
  ];
  await later();
  expect(begun).toEqual(['first', 'second']);
  second.end();
  await later();
  expect(begun).toEqual(['first', 'second']);
  first.end();
  await later();
  expect(begun).toEqual(['first', 'second', 'change']);
  change.end();
  await later();
  expect(begun).toEqual(['first', 'second', 'change', 'late']);
  late.end();
  await Promise.all(all);
  expect(await turns.take([100, 101], async () => 'free')).toBe('free');
});
