import { expect, test } from 'vitest';
import { TooManyRequestsError } from '../../../src/errors.ts';
import { networkOf, SignInLimit } from '../../../src/routes/sign-in-limit.ts';

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:DB8:1:2::6', '2001:db8:1:2::/64'],
  ['2001:0db8::1', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['64:ff9b::192.0.2.7', '64:ff9b:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['unknown', 'unknown'],
])('the network of %s is %s', (address, network) => {
  expect(networkOf(address)).toBe(network);
});

test('after the allowed failures a user is asked to wait until the first one is forgotten', () => {
  let now = 0;
  const limit = new SignInLimit({ perUser: 3, window: 60_000, now: () => now });
  for (now of [0, 1000, 2000]) limit.attempt('alice@pve', '192.0.2.7');
  now = 10_000;
  expect(() => limit.attempt('Alice@pve', '192.0.2.7')).toThrow(
    new TooManyRequestsError('Too many failed sign-ins; try again in 50 s', 50),
  );
  now = 60_000;
  limit.attempt('alice@pve', '192.0.2.7');
  expect(() => limit.attempt('alice@pve', '192.0.2.7')).toThrow(TooManyRequestsError);
});

test('failing on purpose from elsewhere locks nobody out', () => {
  const limit = new SignInLimit({ perUser: 2, perNetwork: 1000 });
  for (let turn = 0; turn < 2; turn += 1) limit.attempt('alice@pve', '2001:db8::bad');
  expect(() => limit.attempt('alice@pve', '2001:db8::beef')).toThrow(TooManyRequestsError);
  limit.attempt('alice@pve', '192.0.2.7');
});

test('one network cannot try many users', () => {
  const limit = new SignInLimit({ perNetwork: 5 });
  for (let user = 0; user < 5; user += 1) limit.attempt(`user${user}@pve`, '192.0.2.7');
  expect(() => limit.attempt('alice@pve', '192.0.2.7')).toThrow(TooManyRequestsError);
});

test('what did not fail is not counted, however often; what is under way is', () => {
  const limit = new SignInLimit({ perUser: 2 });
  for (let turn = 0; turn < 50; turn += 1) limit.attempt('alice@pve', '192.0.2.7')();
  const [forgive] = [limit.attempt('alice@pve', '192.0.2.7'), limit.attempt('alice@pve', '192.0.2.7')];
  expect(() => limit.attempt('alice@pve', '192.0.2.7')).toThrow(TooManyRequestsError);
  forgive();
  limit.attempt('alice@pve', '192.0.2.7');
});

test('memory is bounded, and the networks that still fail are the ones remembered', () => {
  const limit = new SignInLimit({ perUser: 1, capacity: 10 });
  for (let host = 0; host < 100; host += 1) limit.attempt('alice@pve', `192.0.2.${host}`);
  expect(() => limit.attempt('alice@pve', '192.0.2.99')).toThrow(TooManyRequestsError);
  limit.attempt('alice@pve', '192.0.2.1');
});
