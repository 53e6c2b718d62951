import type { RequestListener } from 'node:http';
import { describe, expect, test } from 'vitest';
import { holds, mustBeOwnPlace, poolFor } from '../../../src/admission/access.ts';
import type { Caller } from '../../../src/admission/gate.ts';
import { completeRecord, type RecordPatch } from '../../../src/backends/normalise.ts';
import { BadRequestError, UnauthenticatedError, UpstreamBrokenError } from '../../../src/errors.ts';
import { createUpstream } from '../../../src/pve/upstream.ts';
import { upstreamSettings } from '../../../src/pve/upstream-settings.ts';
import type { UserRecord } from '../../../src/quota/record.ts';
import { httpServer } from '../../support/listening.ts';

function record(cluster: RecordPatch['cluster'] = {}): UserRecord {
  return completeRecord({ cluster });
}

describe('a privilege in PVE', () => {
  async function ask(answer: RequestListener): Promise<boolean> {
    await using server = await httpServer(answer);
    const upstream = createUpstream(
      upstreamSettings.parse({ url: server.url, token: { user: 'svc', realm: 'pve', id: 'gate', uuid: 'secret' } }),
      { log: { warn: () => {} } },
    );
    const caller: Caller = {
      user: 'alice@pve',
      credential: { kind: 'ticket', ticket: 'PVE:alice@pve:0' },
      record: record(),
      address: '192.0.2.7',
    };
    try {
      return await holds(upstream, caller, '/vms/100', 'VM.PowerMgmt');
    } finally {
      await upstream.close();
    }
  }
  const says =
    (body: unknown, status = 200): RequestListener =>
    (_, response) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));

  test.each([
    [{ 'VM.PowerMgmt': 1 }, true],
    [{ 'VM.PowerMgmt': 0, 'VM.Audit': 1 }, true],
    [{ 'VM.Audit': 1 }, false],
    [{ toString: 1 }, false],
    [{}, false],
  ])("%j on the path is asked with the caller's own credential: %s", async (privileges, held) => {
    let asked = '';
    const answer: RequestListener = (request, response) => {
      asked = `${request.url} ${request.headers.cookie} ${request.headers.authorization}`;
      says({ data: { '/vms/100': privileges } })(request, response);
    };
    expect(await ask(answer)).toBe(held);
    expect(asked).toBe('/api2/json/access/permissions?path=%2Fvms%2F100 PVEAuthCookie=PVE%3Aalice%40pve%3A0 undefined');
  });

  test.each([
    ['a refused ticket', says({ data: null }, 401), UnauthenticatedError],
    ['a failure', says({ data: null }, 500), UpstreamBrokenError],
    ['an answer about another path', says({ data: { '/': { 'VM.PowerMgmt': 1 } } }), UpstreamBrokenError],
    ['no answer', says({ data: null }), UpstreamBrokenError],
  ] as const)('is not taken from %s', async (_, answer, error) => {
    await expect(ask(answer)).rejects.toThrow(error);
  });
});

describe('the pool of a new instance', () => {
  test.each([
    [{ a: true }, undefined, 'a'],
    [{ a: true, b: false }, undefined, 'a'],
    [{ a: true, b: true }, 'b', 'b'],
    [{}, 'x', 'x'],
  ])('of a user with %j who asks for %s is %s', (pools, asked, pool) => {
    expect(poolFor(record({ pools }), asked)).toBe(pool);
  });

  test.each([
    [{}, /you have none/],
    [{ a: true, b: true }, /choose one of a, b/],
  ])('has to be said by a user with %j', (pools, reason) => {
    expect(() => poolFor(record({ pools }), undefined)).toThrow(BadRequestError);
    expect(() => poolFor(record({ pools }), undefined)).toThrow(reason);
  });
});

describe('the place of a new instance', () => {
  const own = record({ nodes: { n1: true, n2: false }, pools: { a: true }, vmid: { min: 100, max: 199 } });
  const place = { node: 'n1', pool: 'a', vmid: 100 };

  test.each([100, 150, 199])("may be vmid %d of the user's range", (vmid) => {
    expect(() => mustBeOwnPlace(own, { ...place, vmid })).not.toThrow();
  });

  test.each([
    [{ vmid: 99 }, 'vmid: 99 is not in your range 100 to 199'],
    [{ vmid: 200 }, 'vmid: 200 is not in your range 100 to 199'],
    [{ node: 'n2' }, 'node: n2 is not one of your nodes (n1)'],
    [{ node: 'constructor' }, 'node: constructor is not one of your nodes (n1)'],
    [{ pool: 'b' }, 'pool: b is not one of your pools (a)'],
    [
      { node: 'n9', pool: 'b', vmid: 1 },
      'vmid: 1 is not in your range 100 to 199; node: n9 is not one of your nodes (n1); pool: b is not one of your pools (a)',
    ],
  ])('that differs by %j is refused with every reason', (wrong, message) => {
    expect(() => mustBeOwnPlace(own, { ...place, ...wrong })).toThrow(
      expect.objectContaining({ name: 'ForbiddenError', message }),
    );
  });

  test('is nowhere for somebody to whom nothing is granted', () => {
    expect(() => mustBeOwnPlace(record(), place)).toThrow(
      'vmid: 100 is not yours: you have no range of vmids; node: n1 is not one of your nodes (you have none); pool: a is not one of your pools (you have none)',
    );
  });
});
