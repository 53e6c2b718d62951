import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseUpid, taskSucceeded } from '../../../src/pve/task.ts';

test('a UPID says node, times, type, guest, user and token', () => {
  expect(parseUpid('UPID:node1:000003A1:000001F2:66501A2B:qmconfig:100:svc@pam!t:')).toEqual({
    upid: 'UPID:node1:000003A1:000001F2:66501A2B:qmconfig:100:svc@pam!t:',
    node: 'node1',
    pid: 929,
    pstart: 498,
    starttime: 1716525611,
    type: 'qmconfig',
    id: '100',
    user: 'svc@pam',
    tokenid: 't',
  });
});

test.each([
  null,
  7,
  '',
  'UPID:',
  'UPID:n1:000003A1:000001F2:66501A2B:qmconfig:100:svc@pam',
  'UPID:n1/../x:000003A1:000001F2:66501A2B:a:b:c@d:',
  'UPID:n1:000003A1:000001F2:66501A2B:a:b:c@d:\n',
])('%j is no UPID', (value) => {
  expect(parseUpid(value)).toBeNull();
});

test('a UPID of any task says what it was made of', () => {
  const hex = fc.integer({ min: 0, max: 0xffffffff });
  const word = fc.stringMatching(/^[a-z0-9@.]{1,8}$/);
  const task = fc.record({
    node: fc.stringMatching(/^[a-z0-9]{1,8}$/),
    pid: hex,
    pstart: hex,
    starttime: hex,
    type: word,
    id: fc.oneof(word, fc.constant('')),
    user: word,
  });
  fc.assert(
    fc.property(task, (parts) => {
      const { node, pid, pstart, starttime, type, id, user } = parts;
      const [first, second, third] = [pid, pstart, starttime].map((one) =>
        one.toString(16).toUpperCase().padStart(8, '0'),
      );
      const upid = `UPID:${node}:${first}:${second}:${third}:${type}:${id}:${user}:`;
      expect(parseUpid(upid)).toEqual({ upid, ...parts });
    }),
  );
});

test.each([
  ['OK', true],
  ['WARNINGS: 2', true],
  ['WARNINGS: many', false],
  ['unable to create VM 100', false],
  ['', false],
])('a task that ends with %j succeeded: %s', (exitstatus, succeeded) => {
  expect(taskSucceeded(exitstatus)).toBe(succeeded);
});
