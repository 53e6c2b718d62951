import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  formatPropertyString,
  type PropertyFormat,
  PropertyStringError,
  parsePropertyString,
} from '../../../src/pve/property-string.ts';

const drive: PropertyFormat = { defaultKey: 'file', aliases: { volume: 'file' } };
const net: PropertyFormat = { defaultKey: 'model', aliases: { virtio: { key: 'model', value: 'macaddr' } } };

test.each<[string, PropertyFormat, Record<string, string>]>([
  ['local:32', drive, { file: 'local:32' }],
  ['size=1G,local:32', drive, { size: '1G', file: 'local:32' }],
  [',4096', { defaultKey: 'current' }, { current: '4096' }],
  ['4096,,', { defaultKey: 'current' }, { current: '4096' }],
  ['', drive, {}],
  ['volume=a:b,ssd=1', drive, { file: 'a:b', ssd: '1' }],
  ['bridge=vmbr0,e1000', net, { bridge: 'vmbr0', model: 'e1000' }],
  ['virtio=AA:BB,rate=3', net, { model: 'virtio', macaddr: 'AA:BB', rate: '3' }],
  ['args=a=b', {}, { args: 'a=b' }],
  ['constructor=1', net, { constructor: '1' }],
])('%j is read as PVE reads it', (text, format, values) => {
  expect(Object.fromEntries(parsePropertyString(text, format))).toEqual(values);
});

test.each<[string, PropertyFormat]>([
  ['file=0,local:500', drive],
  ['current=0,4096', { defaultKey: 'current' }],
  ['a=1,a=1', {}],
  ['volume=a,file=b', drive],
  ['virtio=AA,e1000', net],
  ['local:32', {}],
  ['size=', drive],
  ['=1G', drive],
  ['file=a\nsize=1G', drive],
  ['a=1\0', {}],
])('%j is refused, since it could be read in more than one way', (text, format) => {
  expect(() => parsePropertyString(text, format)).toThrow(PropertyStringError);
});

const key = fc.stringMatching(/^[a-z][a-z0-9_-]{0,8}$/);
const value = fc.stringMatching(/^[^,\p{Cc}]+$/u);

test('what is printed reads back as the same values, with a default key and without', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(key, value), { selector: ([name]) => name }),
      fc.option(key, { nil: undefined }),
      (entries, defaultKey) => {
        const format = defaultKey === undefined ? {} : { defaultKey };
        expect(new Map(parsePropertyString(formatPropertyString(entries, format), format))).toEqual(new Map(entries));
      },
    ),
  );
});

test.each([[['a', '1,b=2']], [['a', '']], [['a=b', '1']], [['a', '1\n']], [['', '1']]] as [string, string][][])(
  '%j cannot be smuggled into a property string',
  (...entries) => {
    expect(() => formatPropertyString(entries)).toThrow(PropertyStringError);
  },
);
