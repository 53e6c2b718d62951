import { describe, expect, test } from 'vitest';
import { BadRequestError, NotSupportedError } from '../../../src/errors.ts';
import type { Call } from '../../../src/pve/call.ts';
import { readCall, readForm, readJson, requireKnownForm } from '../../../src/routes/reading.ts';

const formType = 'application/x-www-form-urlencoded';

function read(method: string, target: string, body = '', contentType: string | undefined = formType): Call {
  const headers = contentType === undefined ? {} : { 'content-type': contentType };
  return readCall({ method, headers, body: Buffer.from(body, 'latin1') }, target);
}

describe('a form', () => {
  test.each([
    ['', {}],
    ['a=1&b=2', { a: '1', b: '2' }],
    ['a=1&', { a: '1' }],
    ['a=', { a: '' }],
    ['a=x+y%2Bz', { a: 'x y+z' }],
    ['net0=virtio%3Dx%3By%26z', { net0: 'virtio=x;y&z' }],
    ['vms=1&vms=2&vms=3', { vms: ['1', '2', '3'] }],
    ['_dc=123&a=1&_dc', { a: '1' }],
    ['%61=%C3%A9', { a: 'é' }],
    ['constructor=1', { constructor: '1' }],
  ])('%j gives %j', (text, params) => {
    expect(readForm(text)).toEqual(params);
  });

  test.each([
    ['cores=1;cores=64', 'cores', '%3B'],
    ['_dc=1;cores=64', 'parameters', '%3B'],
    ['scsi0=local:10,size=5', 'scsi0', '%3D'],
    ['cores', 'cores', 'no "="'],
    ['a=1&&b=2', 'parameters', 'no name'],
    ['&a=1', 'parameters', 'no name'],
    ['=1', 'parameters', 'no name'],
    ['a%zz=1', 'parameters', 'no name'],
    ['co%20res=1', 'parameters', 'no name'],
    ['__proto__=1', 'parameters', 'no name'],
    ['vms[]=1', 'parameters', 'no name'],
    ['cores=%zz', 'cores', 'percent-encoding'],
    ['cores=%C3', 'cores', 'UTF-8'],
    ['cores=%FF', 'cores', 'UTF-8'],
  ])('%j is refused, and the refusal names %s and says %s', (text, field, problem) => {
    const fault = { field, problem: expect.stringContaining(problem) };
    expect(() => readForm(text)).toThrow(expect.objectContaining({ faults: [fault] }));
  });

  test('has all its faults told at once, and no value is repeated', () => {
    const refused = () => readForm('password=se=cret&cores&%00secret=1;x');
    expect(refused).toThrow(expect.objectContaining({ faults: [1, 2, 3].map(() => expect.anything()) }));
    expect(refused).toThrow(/^(?!.*cret=)/);
  });
});

test('a flood of parameters is refused in few words, and a long list is read in good time', () => {
  const flood = (pair: (index: number) => string) =>
    Array.from({ length: 30_000 }, (_, index) => pair(index)).join('&');
  expect(() => readForm(flood(() => 'a'))).toThrow(
    expect.objectContaining({ message: expect.stringMatching(/^.{0,2000}$/) }),
  );
  expect(() => readForm(flood((index) => `a${index}=1`))).toThrow(/parameters: there are 30000/);
  expect(() => readJson(`{${flood((index) => `"a${index}":1`).replaceAll('&', ',')}}`)).toThrow(
    /parameters: there are/,
  );
  const from = performance.now();
  expect(readForm(flood((index) => `vms=${index}`)).vms).toHaveLength(30_000);
  expect(() => readForm(`${'&'.repeat(500_000)}a=1`)).toThrow(/no name/);
  // Looking at each of them again for every other one would take minutes.
  expect(performance.now() - from).toBeLessThan(15_000);
});

describe('a JSON object', () => {
  test.each([
    ['{}', {}],
    ['null', {}],
    [
      '{"cores":4,"onboot":true,"kvm":false,"name":"a;b=c&d","gone":null}',
      { cores: '4', onboot: '1', kvm: '0', name: 'a;b=c&d' },
    ],
    [
      '{"cpulimit":0.5,"n":-3,"z":-0,"big":999999999999999}',
      { cpulimit: '0.5', n: '-3', z: '0', big: '999999999999999' },
    ],
    ['{"vms":["1",2,true]}', { vms: ['1', '2', '1'] }],
    ['{"_dc":1}', {}],
  ])('%s gives %j', (text, params) => {
    expect(readJson(text)).toEqual(params);
  });

  test.each([
    ['', 'body'],
    ['[]', 'body'],
    ['"x"', 'body'],
    ['\ufeff{}', 'body'],
    ['{"a":1,}', 'body'],
    ['{"cores":1,"cores":64}', 'body'],
    ['{"cores":1,"c\\u006fres":64}', 'body'],
    [`${'['.repeat(200_000)}`, 'body'],
    ['{"cores":{"a":1}}', 'cores'],
    ['{"cores":[[1]]}', 'cores'],
    ['{"cores":[null]}', 'cores'],
    ['{"vms":[]}', 'vms'],
    ['{"cores":1e400}', 'cores'],
    ['{"cores":1e21}', 'cores'],
    ['{"cores":1e-7}', 'cores'],
    ['{"cores":12345678901234567890}', 'cores'],
    ['{"cores":0.30000000000000004}', 'cores'],
    ['{"name":"\\ud800"}', 'name'],
    ['{"__proto__":1}', 'parameters'],
    ['{"":1}', 'parameters'],
    ['{"é":1}', 'parameters'],
  ])('%.60s is refused, and the refusal names %s', (text, field) => {
    expect(() => readJson(text)).toThrow(expect.objectContaining({ faults: [expect.objectContaining({ field })] }));
  });
});

describe('a request', () => {
  test('has the parameters of its query and its body, whatever the method', () => {
    expect(read('PUT', '/a?x=1', 'y=2')).toEqual({ method: 'PUT', segments: ['a'], params: { x: '1', y: '2' } });
    expect(read('DELETE', '/a?purge=1')).toEqual({ method: 'DELETE', segments: ['a'], params: { purge: '1' } });
    expect(read('POST', '/a', '{"y":2}', 'application/json; charset=utf-8').params).toEqual({ y: '2' });
    expect(read('POST', '/a', 'y=2', undefined).params).toEqual({ y: '2' });
    expect(read('GET', '', '', 'application/json')).toEqual({ method: 'GET', segments: [], params: {} });
  });

  test.each([
    ['PUT', '/a?cores=64', 'cores=1', formType, 'cores'],
    ['PUT', '/a?cores=64', '{"cores":64}', 'application/json', 'cores'],
    ['PUT', '/a', 'a=1', 'text/plain', 'content-type'],
    ['PUT', '/a', '{"a":1}', 'Application/JSON', 'content-type'],
    ['PUT', '/a', '', 'application/json', 'body'],
    ['PUT', '/a', 'a=\xff', formType, 'body'],
    ['PUT', '/a', '{"a":"\xff"}', 'application/json', 'body'],
    ['GET', '/a#b', '', formType, 'path'],
    ['GET', '/\xe9', '', formType, 'path'],
    ['GET', '/a?b=\xe9', '', formType, 'path'],
    ['GET', '/a?b=1?c=2;d', '', formType, 'b'],
  ])('%s %s with %j as %s is refused because of its %s', (method, target, body, type, field) => {
    expect(() => read(method, target, body, type)).toThrow(
      expect.objectContaining({ faults: [expect.objectContaining({ field })] }),
    );
    expect(() => read(method, target, body, type)).toThrow(BadRequestError);
  });

  test.each([
    ['HEAD', {}],
    ['OPTIONS', {}],
    ['PATCH', {}],
    ['PROPFIND', {}],
    ['POST', { 'transfer-encoding': 'chunked' }],
    ['GET', { 'content-length': '1' }],
    ['DELETE', { 'content-length': '1' }],
    ['DELETE', { 'content-length': 'x' }],
  ])('%s with %j is a form that PVE does not know', (method, headers) => {
    expect(() => requireKnownForm({ method, headers })).toThrow(NotSupportedError);
  });

  test.each([
    ['GET', {}],
    ['GET', { 'content-length': '0' }],
    ['PUT', { 'content-length': '7' }],
  ])('%s with %j is one that it knows', (method, headers) => {
    expect(() => requireKnownForm({ method, headers })).not.toThrow();
  });
});
