import fc from 'fast-check';
import { expect, test } from 'vitest';
import { call } from '../../../src/pve/call.ts';
import { wireRequest } from '../../../src/pve/request.ts';

const service = 'svc@pve!gate=secret';

test('a read has its parameters in the query and no body', () => {
  const request = wireRequest(
    call('GET', '/nodes/{}/tasks/{}/log', ['n1', 'UPID:n1:0:'], { start: '0' }),
    { kind: 'service' },
    service,
  );
  expect(request).toMatchObject({ path: '/api2/json/nodes/n1/tasks/UPID%3An1%3A0%3A/log?start=0', body: null });
  expect(request.headers).toMatchObject({ authorization: 'PVEAPIToken=svc@pve!gate=secret' });
});

test('a deletion has its parameters in the query, since PVE refuses a body there', () => {
  expect(wireRequest(call('DELETE', '/a', [], { purge: '1' }), { kind: 'none' }, service)).toMatchObject({
    path: '/api2/json/a?purge=1',
    body: null,
  });
});

test('what PVE would take for a separator is encoded', () => {
  const { body } = wireRequest(
    call('PUT', '/a', [], { scsi0: 'local:10,size=5', boot: 'order=a;b&c', vms: ['1', '2'], none: [] }),
    { kind: 'none' },
    service,
  );
  expect(body).toBe('scsi0=local%3A10%2Csize%3D5&boot=order%3Da%3Bb%26c&vms=1&vms=2');
});

test('every value survives the way to PVE', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }), (name, value) => {
      const { body } = wireRequest(
        { method: 'POST', segments: ['a'], params: { [name]: value } },
        { kind: 'none' },
        service,
      );
      const [first = '', second = '', ...more] = (body ?? '').split(/[&;]/).flatMap((pair) => pair.split('='));
      expect(more).toEqual([]);
      expect([decodeURIComponent(first), decodeURIComponent(second)]).toEqual([
        name.toWellFormed(),
        value.toWellFormed(),
      ]);
    }),
  );
});

test.each(['', '.', '..', 'a/b', '100\n', 'a\0', '\ud800'])('the path part %j is never sent', (part) => {
  expect(() =>
    wireRequest({ method: 'GET', segments: ['nodes', part], params: {} }, { kind: 'none' }, service),
  ).toThrow(TypeError);
});

test('a percent sign stays one', () => {
  expect(wireRequest(call('GET', '/nodes/{}', ['%2e%2e%2f']), { kind: 'none' }, service).path).toBe(
    '/api2/json/nodes/%252e%252e%252f',
  );
});

test('a volume id keeps its slashes', () => {
  expect(
    wireRequest(call('GET', '/nodes/n1/storage/s/content/{}', ['s:iso/d.iso']), { kind: 'none' }, service).path,
  ).toBe('/api2/json/nodes/n1/storage/s/content/s%3Aiso%2Fd.iso');
  expect(() =>
    wireRequest(call('GET', '/nodes/n1/storage/s/content/{}', ['s:iso/../../x']), { kind: 'none' }, service),
  ).toThrow(TypeError);
});

test('a ticket goes as a cookie, and its CSRF token only with changes', () => {
  const as = { kind: 'ticket', ticket: 'PVE:a@pve:0::+/=', csrf: '0:x' } as const;
  expect(wireRequest(call('GET', '/a'), as, service).headers).toEqual({
    accept: 'application/json',
    cookie: 'PVEAuthCookie=PVE%3Aa%40pve%3A0%3A%3A%2B%2F%3D',
  });
  expect(wireRequest(call('PUT', '/a'), as, service).headers).toMatchObject({ csrfpreventiontoken: '0:x' });
});

test('a token that would add a header is never sent', () => {
  expect(() => wireRequest(call('GET', '/a'), { kind: 'token', token: 'a\r\nx: y' }, service)).toThrow(TypeError);
});
