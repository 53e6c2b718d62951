import { expect, test } from 'vitest';
import { expiredCookies, readCookies, sessionCookies } from '../../../src/routes/cookies.ts';

const ticket = 'PVE:alice@pve:66501A2B::a+b/c=';
const lines = sessionCookies(
  'alice@pve',
  [
    { name: 'PVEAuthCookie', value: ticket, expiresMSFromNow: 7_200_000 },
    { name: 'PAASLDAPAuthTicket', value: 'x', expiresMSFromNow: 3_600_000 },
    { name: 'CSRFPreventionToken', value: '66501A2B:abc', expiresMSFromNow: 7_200_000 },
    { name: 'username', value: 'admin@pve', expiresMSFromNow: 7_200_000 },
  ],
  {},
  0,
);

test('values are percent-encoded, and nothing but the session names the user', () => {
  expect(lines.map((line) => line.split(';')[0])).toEqual([
    'PVEAuthCookie=PVE%3Aalice%40pve%3A66501A2B%3A%3Aa%2Bb%2Fc%3D',
    'PAASLDAPAuthTicket=x',
    'CSRFPreventionToken=66501A2B%3Aabc',
    'username=alice%40pve',
    'auth=1',
  ]);
});

test('all of them end when the first one ends', () => {
  for (const line of lines) expect(line).toContain('; Path=/; Max-Age=3600; Expires=Thu, 01 Jan 1970 01:00:00 GMT');
});

test('they are Secure and SameSite, and scripts read only what dashboards need', () => {
  for (const line of lines) expect(line).toMatch(/; Secure; SameSite=Lax$/);
  const hidden = lines.filter((line) => line.includes('HttpOnly')).map((line) => line.split('=')[0]);
  expect(hidden).toEqual(['PVEAuthCookie', 'PAASLDAPAuthTicket']);
});

test('they have a domain only when one is configured', () => {
  expect(lines.join()).not.toContain('Domain');
  expect(sessionCookies('a@pve', [], { domain: 'example.org' }, 0)[0]).toContain('; Domain=example.org;');
});

test('signing out takes back what was sent, and no name can break out of the line', () => {
  expect(expiredCookies(['auth', 'a b', 'x\r\ny'], { domain: 'example.org' })).toEqual([
    'auth=; Domain=example.org; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; SameSite=Lax',
  ]);
});

test.each([
  `PVEAuthCookie=${encodeURIComponent(ticket)}`,
  `auth=1; PVEAuthCookie=${ticket}`,
  `PVEAuthCookie=${ticket}; bad=%zz`,
])('the ticket of %j is read', (header) => {
  expect(readCookies(header).PVEAuthCookie).toBe(ticket);
});

test('a header of nothing but white space keeps nobody waiting', () => {
  expect(readCookies(`a=b${' '.repeat(400_000)}x`)).toEqual({ a: `b${' '.repeat(400_000)}x` });
  expect(readCookies(' '.repeat(400_000))).toEqual({});
});
