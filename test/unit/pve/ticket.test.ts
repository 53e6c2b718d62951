import { expect, test } from 'vitest';
import { parseApiToken, parseCsrfToken, parseTicket, withinLifetime } from '../../../src/pve/ticket.ts';

test('a ticket names its user and the time it was made', () => {
  expect(parseTicket('PVE:alice@pve:66501A2B::c2ln+/8=')).toEqual({ user: 'alice@pve', madeAt: 0x66501a2b });
});

test.each([
  '',
  'PVE:alice@pve:66501A2B:c2ln',
  'PVE:!tfa!%7B%7D:66501A2B::c2ln',
  'PVE:a:b:66501A2B::c2ln',
  'PVE:alice@pve:66501A2B::c2ln\n',
  'PVEVNC:66501A2B::c2ln',
  `PVE:alice@pve:66501A2B::${'A'.repeat(1401)}`,
  `PVE:${'a'.repeat(129)}:66501A2B::c2ln`,
])('%j is no login ticket', (text) => {
  expect(parseTicket(text)).toBeNull();
});

test.each([
  ['66501A2B:YWJj', 0x66501a2b],
  ['66501A2B:', null],
  ['YWJj', null],
  ['66501A2B:YWJj\r\nX: y', null],
  [`66501A2B:${'A'.repeat(1401)}`, null],
])('the CSRF token %j was made at %s', (text, madeAt) => {
  expect(parseCsrfToken(text)).toBe(madeAt);
});

test.each([
  ['alice@pve!ci=0f1e', 'alice@pve'],
  ['alice%40pve!ci=0f1e', 'alice@pve'],
  ['al=ice@pve!ci=0f1e', 'al=ice@pve'],
  ['alice@pve=0f1e', null],
  ['alice@pve!ci', null],
  ['alice@pve!ci=', null],
  ['alice@pve!ci=%zz', null],
  ['alice@pve!ci=a b', null],
])('the API token %j belongs to %s', (text, user) => {
  expect(parseApiToken(text)).toBe(user);
});

test.each([
  [0, true],
  [7199, true],
  [7200, false],
  [-299, true],
  [-300, false],
])('what is %d s old is within its life: %s', (age, within) => {
  expect(withinLifetime(1000, 1000 + age)).toBe(within);
});

test('clocks that differ are allowed for', () => {
  expect(withinLifetime(1000, 1000 + 7300, 300)).toBe(true);
});
