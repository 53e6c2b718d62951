import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AnswerReader, type Head } from '../../../src/pve/answer-reader.ts';

interface Read {
  readonly head: Head | undefined;
  readonly body: string;
  readonly isOver: boolean;
  readonly keeps: boolean;
}

/** What is read from these pieces, after which the connection ends. */
function read(pieces: readonly Buffer[]): Read {
  let head: Head | undefined;
  let body = '';
  const reader = new AnswerReader({
    begin(one) {
      if (head !== undefined) throw new Error('begun twice');
      head = one;
    },
    take(bytes) {
      body += bytes.toString('latin1');
      // As the next read from the connection would.
      bytes.fill('#');
    },
  });
  for (const piece of pieces) reader.take(Buffer.from(piece));
  const { isOver } = reader;
  reader.end();
  return { head, body, isOver, keeps: reader.keeps };
}

const whole = (text: string) => [Buffer.from(text, 'latin1')];
const bytewise = (text: string) => {
  const step = text.length > 1000 ? 100 : 1;
  return Array.from({ length: Math.ceil(text.length / step) }, (_, at) =>
    Buffer.from(text.slice(at * step, (at + 1) * step), 'latin1'),
  );
};

const ok = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n';

/** Bodies, with the lines that announce them, as PVE or a server in front of it would send them. */
const framed = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }).map((text) => {
    const body = Buffer.from(text).toString('latin1');
    return { body, sent: `Content-Length: ${body.length}\r\n\r\n${body}`, isClosed: false };
  }),
  fc
    .record({ parts: fc.array(fc.string({ minLength: 1, maxLength: 80 }), { maxLength: 6 }), extension: fc.boolean() })
    .map(({ parts, extension }) => {
      const bodies = parts.map((part) => Buffer.from(part).toString('latin1'));
      const pieces = bodies.map((body) => `${body.length.toString(16)}${extension ? ';a="b"' : ''}\r\n${body}\r\n`);
      return {
        body: bodies.join(''),
        sent: `Transfer-Encoding: chunked\r\n\r\n${pieces.join('')}0\r\n\r\n`,
        isClosed: false,
      };
    }),
  fc.string({ maxLength: 300 }).map((text) => {
    const body = Buffer.from(text).toString('latin1');
    return { body, sent: `\r\n${body}`, isClosed: true };
  }),
);

test('an answer reads the same however it is cut', () => {
  fc.assert(
    fc.property(
      framed,
      fc.array(fc.nat(), { maxLength: 20 }),
      fc.boolean(),
      ({ body, sent, isClosed }, cuts, interim) => {
        const text = Buffer.from(`${interim ? 'HTTP/1.1 100 Continue\r\n\r\n' : ''}${ok}${sent}`, 'latin1');
        const places = [0, ...cuts.map((cut) => cut % text.length), text.length].sort((a, b) => a - b);
        const pieces = places.slice(1).map((end, index) => text.subarray(places[index], end));
        const fields = expect.objectContaining({ 'content-type': 'application/json' });
        expect(read(pieces)).toEqual({
          head: { status: 200, reason: 'OK', fields },
          body,
          isOver: !isClosed,
          keeps: !isClosed,
        });
      },
    ),
  );
});

test.each([
  [
    'a reason of several words',
    'HTTP/1.1 403 Permission check failed (/, Sys.Audit)',
    'Permission check failed (/, Sys.Audit)',
  ],
  ['a reason in UTF-8', 'HTTP/1.1 500 Größe', 'Größe'],
  ['an empty reason', 'HTTP/1.1 500 ', ''],
  ['no reason', 'HTTP/1.1 500', ''],
])('%s is understood', (_, line, reason) => {
  const sent = Buffer.from(`${line}\r\ncontent-length: 0\r\n\r\n`);
  expect(read([sent])).toMatchObject({ head: { reason }, isOver: true, keeps: true });
});

test.each([
  ['204', 'HTTP/1.1 204 No Content\r\n\r\n'],
  ['304 with the length of what it stands for', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n'],
])('%s has no body', (_, text) => {
  expect(read(whole(text))).toMatchObject({ body: '', isOver: true, keeps: true });
});

test.each([
  ['it says so', `${ok}Connection: close\r\nContent-Length: 1\r\n\r\n1`],
  ['it says so among others', `${ok}Connection: Keep-Alive , Close\r\nContent-Length: 1\r\n\r\n1`],
  ['it is of HTTP/1.0', 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n1'],
  ['more came than its length', `${ok}Content-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\n\r\n`],
  [
    'more came than its last piece',
    `${ok}Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n`,
  ],
])('no further answer is read from a connection when %s', (_, text) => {
  for (const pieces of [whole(text), bytewise(text)])
    expect(read(pieces)).toMatchObject({ body: '1', isOver: true, keeps: false });
});

test.each([
  ['a length and pieces', `${ok}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['two lengths', `${ok}Content-Length: 1\r\nContent-Length: 2\r\n\r\n12`],
  ['the same length twice', `${ok}Content-Length: 1\r\ncontent-length: 1\r\n\r\n1`],
  ['two lengths in one line', `${ok}Content-Length: 1, 1\r\n\r\n1`],
  ['a signed length', `${ok}Content-Length: +1\r\n\r\n1`],
  ['a hexadecimal length', `${ok}Content-Length: 0x1\r\n\r\n1`],
  ['an empty length', `${ok}Content-Length:\r\n\r\n1`],
  ['a length beyond counting', `${ok}Content-Length: 9999999999999999\r\n\r\n1`],
  ['another coding', `${ok}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
  ['pieces in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['two types', `${ok}Content-Type: text/html\r\nContent-Length: 0\r\n\r\n`],
  ['a folded line', `${ok}X-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n`],
  ['a folded line first', 'HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 0\r\n\r\n'],
  ['a blank before the colon', `${ok}Content-Length : 0\r\n\r\n`],
  ['a line without a colon', `${ok}Content-Length 0\r\nContent-Length: 0\r\n\r\n`],
  ['a NUL', `${ok}X-A: a\0b\r\nContent-Length: 0\r\n\r\n`],
  ['a NUL in the reason', 'HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n'],
  ['a single CR', `${ok}X-A: a\rContent-Length: 5\r\nContent-Length: 0\r\n\r\n`],
  ['a single LF', `${ok}X-A: a\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n`],
  ['LF alone at the ends of lines', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n'],
  ['another protocol', 'HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a switch to another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n'],
  ['something before it', '\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['too long a head', `${ok}X-A: ${'a'.repeat(17_000)}\r\nContent-Length: 0\r\n\r\n`],
  ['a head that does not end', `${ok}X-A: ${'a'.repeat(17_000)}`],
  ['a piece without a size', `${ok}Transfer-Encoding: chunked\r\n\r\n\r\n`],
  ['a piece of a negative size', `${ok}Transfer-Encoding: chunked\r\n\r\n-1\r\n`],
  ['a piece with too large a size', `${ok}Transfer-Encoding: chunked\r\n\r\n100000000\r\n`],
  ['a piece longer than its size', `${ok}Transfer-Encoding: chunked\r\n\r\n1\r\n12\r\n0\r\n\r\n`],
  ['too long a line before a piece', `${ok}Transfer-Encoding: chunked\r\n\r\n1;${'a'.repeat(300)}\r\n1\r\n0\r\n\r\n`],
  ['trailers', `${ok}Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\n\r\n`],
  ['an end before its length', `${ok}Content-Length: 5\r\n\r\n1234`],
  ['an end before its last piece', `${ok}Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n`],
  ['an end within its head', ok],
])('an answer with %s is refused, in one piece or in many', (_, text) => {
  expect(() => read(whole(text))).toThrow();
  expect(() => read(bytewise(text))).toThrow();
});

test('whatever comes is read to an end or refused, and never more than was announced', () => {
  const line = fc.oneof(
    fc.constantFrom(
      'content-length: 3',
      'Transfer-Encoding: chunked',
      'connection: close',
      'X: y',
      '3',
      '0',
      'abc',
      '',
    ),
    fc.string({ maxLength: 12 }),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), fc.constantFrom('\r\n', '\n'), (lines, mark) => {
      const text = ['HTTP/1.1 200 OK', ...lines].join(mark);
      try {
        const { head, body } = read(whole(text));
        const { 'content-length': length } = head?.fields ?? {};
        if (length !== undefined) expect(body).toHaveLength(Number(length));
      } catch (error) {
        if (!(error instanceof Error) || 'matcherResult' in error) throw error;
      }
    }),
  );
});
