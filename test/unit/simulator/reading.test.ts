import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  componentsOf,
  mediaType,
  readApiPath,
  readForm,
  readParameters,
  readTarget,
} from '../../../simulator/reading.ts';

describe('a form', () => {
  test.each<[string, [string, unknown][]]>([
    [
      'a=1&b=2',
      [
        ['a', '1'],
        ['b', '2'],
      ],
    ],
    [
      'a=1;b=2',
      [
        ['a', '1'],
        ['b', '2'],
      ],
    ],
    ['scsi0=local:10,size=5', [['scsi0', 'local:10,size']]],
    ['scsi0=local:10,size%3D5', [['scsi0', 'local:10,size=5']]],
    ['a=', [['a', '']]],
    ['a', [['a', undefined]]],
    ['a=1&a', [['a', undefined]]],
    ['a=1&a&a=2', [['a', '2']]],
    ['a=1&a=2', [['a', ['1', '2']]]],
    ['a=1&a=2&a=3', [['a', ['1', '2', '3']]]],
    ['a=x+y%2Bz', [['a', 'x y+z']]],
    ['a=%zz%4', [['a', '%zz%4']]],
    ['a=%C3%BC', [['a', 'ü']]],
    ['%61=1', [['a', '1']]],
    [
      'a=1&&b=2',
      [
        ['a', '1'],
        ['', undefined],
        ['b', '2'],
      ],
    ],
    ['a=1&', [['a', '1']]],
    ['&;', []],
    ['', []],
  ])('%j is read as PVE reads it', (text, expected) => {
    expect([...readForm(text)]).toEqual(expected);
  });

  test('of plain words in pairs comes back as it was', () => {
    const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(word, word), { selector: ([name]) => name }), (pairs) => {
        const text = pairs.map(([name, value]) => `${name}=${value}`).join('&');
        expect([...readForm(text)]).toEqual(pairs);
      }),
    );
  });
});

describe('parameters', () => {
  const form = 'application/x-www-form-urlencoded';
  const json = 'application/json';
  const read = (method: 'GET' | 'PUT', contentType: string | undefined, body: string, query = '') =>
    Object.fromEntries(readParameters({ method, contentType, body: Buffer.from(body), query }));

  test('of the query take the place of those in the body', () => {
    expect(read('PUT', form, 'cores=1&memory=512', 'cores=64')).toEqual({ cores: '64', memory: '512' });
    expect(read('PUT', json, '{"cores":1}', 'cores=64')).toEqual({ cores: '64' });
    expect(read('PUT', form, 'cores=1', 'cores')).toEqual({ cores: undefined });
  });

  test('_dc belongs to no method', () => {
    expect(read('GET', undefined, '', '_dc=123&a=1')).toEqual({ a: '1' });
  });

  test('without a content type are a form', () => {
    expect(read('PUT', undefined, 'a=1')).toEqual({ a: '1' });
  });

  test('in JSON keep their kinds; null is undefined and the last of a name wins', () => {
    expect(read('PUT', `${json}; charset=utf-8`, '{"a":1,"b":true,"c":null,"d":["x"],"a":2}')).toEqual({
      ...{ a: 2, b: true, d: ['x'] },
      c: undefined,
    });
  });

  test('in JSON may be left out as null', () => {
    expect(read('PUT', json, 'null')).toEqual({});
  });

  test.each(['', '[]', '1', '{'])('JSON that is no object (%j) is a 500', (body) => {
    expect(() => read('PUT', json, body)).toThrow(expect.objectContaining({ status: 500 }));
  });

  test.each([
    ['application/json;charset=utf-8', 'application/json'],
    ['application/json , x', 'application/json'],
    ['Application/JSON', 'Application/JSON'],
    [undefined, undefined],
  ])('the content type %j is %j', (header, type) => {
    expect(mediaType(header)).toBe(type);
  });
});

describe('a path', () => {
  test.each<[string, string]>([
    ['/api2/json/nodes%2Fn1%2Fqemu', '/api2/json/nodes/n1/qemu'],
    ['/a%252Fb', '/a%2Fb'],
    ['/a/%2e%2e/b', '/a/../b'],
    ['/a%0A', '/a\n'],
    ['/a?b=1', '/a'],
    ['/a#b?c=1', '/a'],
    ['http://pve:8006/a?b', '/a'],
  ])('%s is decoded once, as a whole', (target, path) => {
    expect(readTarget(target)?.path).toBe(path);
  });

  test.each(['user@host/a', '*', ''])('%j is none', (target) => {
    expect(readTarget(target)).toBeUndefined();
  });

  test('has no empty components and knows no dots', () => {
    expect(componentsOf('//nodes///n1/../qemu/')).toEqual(['nodes', 'n1', '..', 'qemu']);
  });

  test.each<[string, ReturnType<typeof readApiPath>]>([
    ['/api2/json/version', { format: 'json', rest: '/version' }],
    ['/api2//extjs//version', { format: 'extjs', rest: '//version' }],
    ['/api2/json', { format: 'json', rest: '/' }],
    ['/api2/', undefined],
    ['/api3/json/version', undefined],
    ['/api2/j-son/version', undefined],
  ])('%s has a format and the rest', (path, expected) => {
    expect(readApiPath(path)).toEqual(expected);
  });
});
