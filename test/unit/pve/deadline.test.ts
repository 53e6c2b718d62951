import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Deadline } from '../../../src/pve/deadline.ts';

test('it ends when its time is over, and says so', async () => {
  const deadline = new Deadline(0.01);
  expect(deadline.signal.aborted).toBe(false);
  const ended = new Promise((resolve) => deadline.signal.addEventListener('abort', resolve));
  // A timer that keeps no process alive; this one does.
  const kept = setInterval(() => {}, 1000);
  await ended;
  clearInterval(kept);
  expect(deadline.signal.reason).toMatchObject({ name: 'TimeoutError' });
});

test('it ends sooner with what it depends on, for the same reason', () => {
  const sooner = new AbortController();
  const [before, after] = [new Deadline(60, sooner.signal), new Deadline(60)];
  sooner.abort(new Error('the server is ending'));
  expect(before.signal.reason).toEqual(new Error('the server is ending'));
  expect(after.signal.aborted).toBe(false);
  expect(new Deadline(60, sooner.signal).signal.aborted).toBe(true);
  for (const deadline of [before, after]) deadline.end();
});

test('what has ended before is not told of either', async () => {
  const sooner = new AbortController();
  const deadline = new Deadline(0.01, sooner.signal);
  deadline.end();
  sooner.abort();
  await delay(30);
  expect(deadline.signal.aborted).toBe(false);
});
