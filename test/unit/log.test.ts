import { expect, test } from 'vitest';
import { NotReadyError } from '../../src/errors.ts';
import { makeLog } from '../../src/log.ts';

/** A log whose clock stands still, and what was written to it. */
function kept() {
  const lines: Record<string, unknown>[] = [];
  const clock = { now: 0 };
  const log = makeLog({ write: (line: string) => void lines.push(JSON.parse(line)) }, () => clock.now);
  return { log, lines, clock };
}

test('a warning that comes again and again is written once in five minutes, with how often it came', () => {
  const { log, lines, clock } = kept();
  const warn = () => log.warn({ vmid: 100, err: new Error('no route') }, 'the instance could not be looked at');
  warn();
  clock.now = 299_999;
  warn();
  clock.now = 300_000;
  warn();
  expect(lines).toMatchObject([{ vmid: 100 }, { vmid: 100, times: 2 }]);
  expect(lines[0]).not.toHaveProperty('times');
});

test('an error that comes again is told with its message, also when it was given alone', () => {
  const { log, lines, clock } = kept();
  for (const now of [0, 300_000]) {
    clock.now = now;
    log.warn(new NotReadyError('the disk is full', 10), 'one');
  }
  expect(lines).toMatchObject([{ err: { message: 'the disk is full' } }, { err: { message: 'the disk is full' } }]);
});

test('whatever differs in message, error or fields is written, and so is all but warnings', () => {
  const { log, lines } = kept();
  log.warn({ vmid: 100, err: new Error('no route') }, 'one');
  log.warn({ vmid: 100, err: new Error('no route') }, 'two');
  log.warn({ vmid: 101, err: new Error('no route') }, 'one');
  log.warn({ vmid: 100, err: new Error('too late') }, 'one');
  log.warn('one');
  for (const _ of 'xy') log.error({ err: new Error('no route') }, 'one');
  for (const _ of 'xy') log.info('one');
  expect(lines).toHaveLength(9);
});

test('an error that was foreseen has no stack, and any other has', () => {
  const { log, lines } = kept();
  log.warn({ err: new NotReadyError('the disk is full', 10) }, 'a');
  log.error({ err: new TypeError('undefined is not a function') }, 'b');
  expect(lines).toMatchObject([
    { err: { type: 'NotReadyError', message: 'the disk is full' } },
    { err: { type: 'TypeError', stack: expect.stringContaining('log.test.ts') } },
  ]);
  expect(lines[0]?.err).not.toHaveProperty('stack');
});
