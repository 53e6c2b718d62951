import fc from 'fast-check';
import { expect, test } from 'vitest';
import { JsonError, parseJson } from '../../src/json.ts';

test('whatever JSON.stringify writes is read back', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 2), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      expect(parseJson(text)).toEqual(JSON.parse(text));
    }),
  );
});

test('it accepts exactly what JSON.parse accepts, but for keys given twice', () => {
  const text = fc.string({
    unit: fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      'a',
      '\\',
      'u',
      '0',
      '1',
      '-',
      '.',
      'e',
      ' ',
      '\n',
      'true',
      'null',
    ),
  });
  fc.assert(
    fc.property(text, (source) => {
      let accepted = true;
      try {
        parseJson(source);
      } catch (error) {
        if (!(error instanceof JsonError)) throw error;
        accepted = error.message.includes('given twice');
      }
      expect(accepted).toBe(valid(source));
    }),
    { numRuns: 2000 },
  );
});

function valid(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

test.each([
  ['', 'line 1, column 1: expected a value, got the end of the text'],
  ['{"a": 1,}', 'line 1, column 9: expected another entry: JSON has no comma before "}"'],
  ['{"a": 1 "b": 2}', 'line 1, column 9: expected "," or "}"'],
  ['{"a": 1 // x\n}', 'line 1, column 9: expected "," or "}": JSON has no comments'],
  ["{'a': 1}", 'line 1, column 2: expected a key in double quotes: JSON has double quotes only'],
  ['{"a": "x\n"}', 'line 1, column 7: expected a value: a text that does not end'],
  ['[1] 2', 'line 1, column 5: expected nothing more after the end'],
  ['{"a": 01}', 'line 1, column 7: expected a value'],
  ['{"a" 1}', 'line 1, column 6: expected ":"'],
])('%j is refused with its place', (source, message) => {
  expect(() => parseJson(source)).toThrow(message);
});
