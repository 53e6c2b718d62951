import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, test } from 'vitest';
import { ForbiddenError, UnauthenticatedError } from '../../../src/errors.ts';
import { credentialOf, requireCsrf, requireSameOrigin } from '../../../src/routes/caller.ts';

const ticket = 'PVE:alice@pve:66501A2B::c2ln';
const cookie = `PVEAuthCookie=${encodeURIComponent(ticket)}; CSRFPreventionToken=66501A2B%3AYWJj`;

test.each<[IncomingHttpHeaders, object | null]>([
  [{}, null],
  [{ cookie: 'username=admin@pve; auth=1' }, null],
  [{ cookie }, { kind: 'ticket', ticket }],
  [{ cookie, csrfpreventiontoken: 'x' } as IncomingHttpHeaders, { kind: 'ticket', ticket, csrf: 'x' }],
  [
    { cookie, authorization: 'PVEAPIToken=bob@pve!ci=1' },
    { kind: 'ticket', ticket },
  ],
  [
    { cookie: 'PVEAuthCookie=', authorization: 'PVEAPIToken=bob@pve!ci=1' },
    { kind: 'token', token: 'bob@pve!ci=1' },
  ],
  [{ authorization: `PVEAuthCookie=${encodeURIComponent(ticket)}` }, { kind: 'ticket', ticket }],
  [{ authorization: 'PVEAPIToken bob@pve!ci=1' }, { kind: 'token', token: 'bob@pve!ci=1' }],
  [{ authorization: 'Bearer x' }, null],
  // PVE sees the cookie where the header begins, or after white space.
  [
    { cookie: `a=b;PVEAuthCookie=${ticket}`, authorization: 'PVEAPIToken=bob@pve!ci=1' },
    { kind: 'token', token: 'bob@pve!ci=1' },
  ],
  [{ cookie: `PVEAuthCookie=${ticket}; PVEAuthCookie=other` }, { kind: 'ticket', ticket }],
])('the credential of %j is the one that PVE would use', (headers, credential) => {
  expect(credentialOf(headers)).toEqual(credential);
});

const origins = { hostname: 'paas.example.org', corsOrigins: ['https://other.example.org'] };

describe('the origin of a request', () => {
  test.each<IncomingHttpHeaders>([
    {},
    { host: 'paas.example.org' },
    { host: 'paas.example.org', origin: 'https://paas.example.org' },
    { host: 'localhost:8081', origin: 'http://localhost:8081' },
    { host: '127.0.0.1:8081', origin: 'https://paas.example.org' },
    { host: '127.0.0.1:8081', origin: 'https://alias.example.org', 'sec-fetch-site': 'same-origin' },
    { host: 'paas.example.org', origin: 'https://other.example.org', 'sec-fetch-site': 'same-site' },
    { host: 'paas.example.org', 'sec-fetch-site': 'none' },
  ])('%j may make changes', (headers) => {
    expect(() => requireSameOrigin(headers, origins)).not.toThrow();
  });

  test.each<IncomingHttpHeaders>([
    { host: 'paas.example.org', origin: 'https://evil.example' },
    { host: 'paas.example.org', origin: 'null' },
    { host: 'paas.example.org', origin: 'https://paas.example.org.evil.example' },
    { host: 'paas.example.org', origin: 'https://paas.example.org:8443' },
    { host: 'paas.example.org', origin: 'http://other.example.org' },
    { host: 'paas.example.org', 'sec-fetch-site': 'same-site' },
    { host: 'paas.example.org', 'sec-fetch-site': 'cross-site' },
  ])('%j may not', (headers) => {
    expect(() => requireSameOrigin(headers, origins)).toThrow(ForbiddenError);
  });
});

describe('a change with a cookie', () => {
  const asked: string[] = [];
  const sessions = {
    async verifyCsrf(_: string, csrf: string): Promise<void> {
      asked.push(csrf);
      if (csrf !== '66501A2B:YWJj') throw new UnauthenticatedError('refused');
    },
  };
  const send = (headers: object): Promise<void> =>
    requireCsrf({ host: 'paas.example.org', ...headers }, sessions, origins);

  test('passes when the header repeats the cookie and PVE accepts it', async () => {
    await send({ cookie, csrfpreventiontoken: '66501A2B:YWJj' });
    expect(asked.splice(0)).toEqual(['66501A2B:YWJj']);
  });

  test.each([
    { cookie },
    { cookie, csrfpreventiontoken: '' },
    { cookie, csrfpreventiontoken: '66501A2B:other' },
    { cookie: `PVEAuthCookie=${ticket}`, csrfpreventiontoken: '66501A2B:YWJj' },
  ])('does not pass with %j, and PVE is not asked', async (headers) => {
    await expect(send(headers)).rejects.toThrow(UnauthenticatedError);
    expect(asked).toEqual([]);
  });

  test('does not pass when cookie and header agree on a token that PVE refuses', async () => {
    const tossed = { cookie: `PVEAuthCookie=${ticket}; CSRFPreventionToken=1:1`, csrfpreventiontoken: '1:1' };
    await expect(send(tossed)).rejects.toThrow('refused');
  });

  test('does not pass from another site', async () => {
    await expect(
      send({ cookie, csrfpreventiontoken: '66501A2B:YWJj', origin: 'https://evil.example' }),
    ).rejects.toThrow(ForbiddenError);
  });
});

test('a change with an API token needs no CSRF token', async () => {
  await requireCsrf(
    { authorization: 'PVEAPIToken=bob@pve!ci=1' },
    { verifyCsrf: () => Promise.reject(new Error('asked')) },
    origins,
  );
});
