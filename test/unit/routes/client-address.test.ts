import fc from 'fast-check';
import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { addressBehind, isAmong } from '../../../src/routes/client-address.ts';

const trusted = ['127.0.0.1', '::1', '10.0.0.0/8', '2001:db8::/32'];
const addressOf = addressBehind(isAmong(trusted));

test.each([
  ['198.51.100.7', undefined, '198.51.100.7'],
  ['198.51.100.7', '203.0.113.1', '198.51.100.7'],
  ['127.0.0.1', '203.0.113.1', '203.0.113.1'],
  ['::ffff:127.0.0.1', '203.0.113.1', '203.0.113.1'],
  ['127.0.0.1', '192.0.2.66, 203.0.113.1, 10.1.2.3', '203.0.113.1'],
  ['127.0.0.1', 'unknown', 'unknown'],
  ['127.0.0.1', '10.1.1.1, 10.2.2.2', '10.1.1.1'],
  ['127.0.0.1', ' , ', '127.0.0.1'],
])('behind %s, told %j, the client is %s', (remote, told, client) => {
  expect(addressOf(remote, told)).toBe(client);
});

test('it is the one that Fastify finds', async () => {
  const app = Fastify({ trustProxy: trusted });
  app.get('/', async ({ ip }) => ip);
  const address = fc.constantFrom('127.0.0.1', '10.9.8.7', '192.0.2.1', '::1', '2001:db8::5', '2001:db9::5', 'x');
  const told = fc.array(fc.oneof(address, fc.constant('')), { maxLength: 4 }).map((parts) => parts.join(', '));
  await fc.assert(
    fc.asyncProperty(address, told, async (remote, forwarded) => {
      fc.pre(remote !== 'x');
      const { body } = await app.inject({ url: '/', remoteAddress: remote, headers: { 'x-forwarded-for': forwarded } });
      expect(addressOf(remote, forwarded)).toBe(body);
    }),
    { numRuns: 200 },
  );
  await app.close();
});
