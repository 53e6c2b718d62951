import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Params } from '../../../src/pve/call.ts';
import { boundaryOf, readUploadForm } from '../../../src/routes/multipart.ts';

const boundary = 'b';

function field(name: string, value: string): string {
  return `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
}

const opening = '--b\r\nContent-Disposition: form-data; name="filename"; filename="a.iso"\r\nContent-Type: x/y\r\n\r\n';

interface Read {
  readonly params: Params;
  readonly bytes: number;
  readonly file: string;
}

/** Reads a form that comes in these pieces. */
async function read(pieces: readonly Uint8Array[]): Promise<Read> {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const source = (async function* () {
    yield* pieces;
  })();
  const { params, bytes, content } = await readUploadForm(source, boundary, length);
  const found: Uint8Array[] = [];
  for await (const piece of content) found.push(piece);
  return { params, bytes, file: Buffer.concat(found).toString('latin1') };
}

const readText = (text: string) => read([Buffer.from(text, 'latin1')]);

/** The bytes cut where the numbers say. */
function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const ends = [...new Set(at.map((one) => one % (bytes.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...ends].map((start, index) => bytes.subarray(start, ends[index] ?? bytes.length));
}

test('however a form is cut into pieces, its fields and its file are the same', async () => {
  // Files that are full of what looks like the end of a form.
  const fragment = fc.constantFrom('\r\n', '--b', '\r\n--', '--', '\r', 'b', 'x', '\0', '\n--b--', 'ÿ');
  const file = fc.array(fragment, { maxLength: 40 }).map((parts) => parts.join('').replaceAll('\r\n--b', '\r\n--c'));
  const ends = fc.constantFrom('\r\n--b--', '\r\n--b--\r\n');
  await fc.assert(
    fc.asyncProperty(file, ends, fc.array(fc.nat(400), { maxLength: 60 }), async (content, end, at) => {
      // The line break before the delimiter could join a file's own ending.
      fc.pre(!`${content}\r\n`.includes('\r\n--b'));
      const text = field('content', 'iso') + field('checksum', ' 00 ') + opening + content + end;
      const found = await read(cut(Buffer.from(text, 'latin1'), at));
      expect(found.params).toEqual({ content: 'iso', checksum: '00', filename: 'a.iso' });
      expect(found.file).toBe(content);
      expect(found.bytes - content.length).toBe(end.endsWith('\r\n') ? 2 : 0);
    }),
    { numRuns: 300 },
  );
});

test.each(['binary', '8bit', '7bit'])('a part may say that its bytes are as they are: %s', async (coding) => {
  const text = `${opening.replace('Content-Type: x/y', `Content-Transfer-Encoding: ${coding}`)}f\r\n--b--`;
  expect((await readText(text)).file).toBe('f');
});

describe('refused, since PVE would read it otherwise or not at all', () => {
  test.each([
    ['something before the form', `x${opening}f\r\n--b--`],
    ['no file', `${field('content', 'iso').slice(0, -2)}\r\n--b--\r\n`],
    ['an end without its dashes', `${opening}f\r\n--b`],
    ['something behind the end', `${opening}f\r\n--b--\r\nx`],
    ['another field behind the file', `${opening}f\r\n${field('content', 'iso')}--b--\r\n`],
    ['a second file', `${opening}f\r\n${opening}g\r\n--b--\r\n`],
    ['an unknown field', `${field('url', 'x')}${opening}f\r\n--b--`],
    ['a field given twice', `${field('content', 'iso')}${field('content', 'iso')}${opening}f\r\n--b--`],
    ['a field that is too long', `${field('content', 'i'.repeat(2000))}${opening}f\r\n--b--`],
    ['headers that are too long', `--b\r\nContent-Type: ${'x'.repeat(5000)}\r\n${opening.slice(5)}f\r\n--b--`],
    ['a file in another field', `${opening.replace('name="filename"', 'name="content"')}f\r\n--b--`],
    ['a name that is encoded', `${opening.replace('filename="a.iso"', "filename*=UTF-8''a.iso")}f\r\n--b--`],
    ['a name with an escape', `${opening.replace('a.iso', 'a\\".iso')}f\r\n--b--`],
    ['a name with a control character', `${opening.replace('a.iso', 'a\0.iso')}f\r\n--b--`],
    [
      'two dispositions',
      `${opening.replace('Content-Type: x/y', 'Content-Disposition: form-data; name="content"')}f\r\n--b--`,
    ],
    ['another disposition', `${opening.replace('form-data', 'attachment')}f\r\n--b--`],
    ['an encoded file', `${opening.replace('Content-Type: x/y', 'Content-Transfer-Encoding: base64')}f\r\n--b--`],
    ['lines that end without CR', `${opening.replaceAll('\r\n', '\n')}f\r\n--b--`],
    ['a field that is not UTF-8', `${field('content', '\xff')}${opening}f\r\n--b--`],
  ])('%s', async (_what, text) => {
    await expect(readText(text)).rejects.toMatchObject({ code: 'bad_request' });
  });

  test('a form without room for its end, before its file is judged', async () => {
    const source = (async function* () {
      yield Buffer.from(opening);
    })();
    await expect(readUploadForm(source, boundary, opening.length)).rejects.toMatchObject({ code: 'bad_request' });
  });

  test.each([
    undefined,
    'multipart/form-data',
    'multipart/mixed; boundary=b',
    'Multipart/Form-Data; boundary=b',
    'multipart/form-data; boundary=',
    'multipart/form-data; boundary="b',
    'multipart/form-data; boundary=b; boundary=c',
    `multipart/form-data; boundary=${'b'.repeat(71)}`,
  ])('the content type %s', (type) => {
    expect(() => boundaryOf(type)).toThrow(/expected multipart\/form-data/);
  });
});

test.each([
  ['multipart/form-data; boundary=----WebKitFormBoundaryAbC1', '----WebKitFormBoundaryAbC1'],
  ['multipart/form-data;boundary="a-b"', 'a-b'],
  ['multipart/form-data; boundary=b; charset=UTF-8', 'b'],
  ['multipart/form-data; charset=utf-8; boundary=b', 'b'],
])('the boundary of %s', (type, found) => {
  expect(boundaryOf(type)).toBe(found);
});
