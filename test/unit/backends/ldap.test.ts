import { connect } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  allGroupsOf,
  type Entry,
  entryOf,
  listedGroups,
  nameIn,
  valuesOf,
} from '../../../src/backends/ldap-entries.ts';
import { dnKey, escapeDnValue, parseDn } from '../../../src/backends/ldap-names.ts';
import { LdapStream } from '../../../src/backends/ldap-stream.ts';
import { tcpServer } from '../../support/listening.ts';

const anyText = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.array(fc.constantFrom(...' ,+"\\<>;=#\0\n/\u00e4a'), { maxLength: 6 }).map((characters) => characters.join('')),
);

describe('a distinguished name', () => {
  test('keeps any value in its place: it is read as it was written', () => {
    fc.assert(
      fc.property(anyText, anyText, (one, other) => {
        const text = `uid=${escapeDnValue(one)}+cn=${escapeDnValue(other)},ou=people,dc=example`;
        expect(parseDn(text)).toEqual([
          [
            { type: 'uid', value: one },
            { type: 'cn', value: other },
          ],
          [{ type: 'ou', value: 'people' }],
          [{ type: 'dc', value: 'example' }],
        ]);
      }),
    );
  });

  test.each([
    ['UID=Alice, OU=People ,DC=example', 'uid=alice,ou=people,dc=example'],
    ['cn=a+sn=b,dc=x', 'SN=B + CN=A,DC=X'],
    ['cn=M\\C3\\BCller\\2C A,dc=x', 'cn=müller\\, a,dc=x'],
    ['cn=a\\ ,dc=x', 'cn=a\\20,dc=x'],
  ])('%j is another spelling of %j', (one, other) => {
    expect(dnKey(one)).toBe(dnKey(other));
    expect(dnKey(one)).not.toBeNull();
  });

  test.each([
    ['cn=a,dc=x', 'cn=a\\,dc\\=x'],
    ['cn=a\\ ,dc=x', 'cn=a,dc=x'],
    ['cn=a,dc=x', 'dc=x,cn=a'],
    ['cn=a+sn=b', 'cn=a,sn=b'],
  ])('%j is not that of %j', (one, other) => {
    expect(dnKey(one)).not.toBe(dnKey(other));
  });

  test.each(['alice', 'uid', '=x', 'uid=a,', ',uid=a', 'uid=a"b', 'uid=a\\', 'uid=\\C3', 'uid=a,,dc=x'])(
    '%j is none',
    (text) => {
      expect(parseDn(text)).toBeNull();
    },
  );
});

const entry = (dn: string, attributes: Readonly<Record<string, string | string[]>> = {}): Entry =>
  entryOf({ dn, ...attributes });

describe('an entry', () => {
  test('is read without regard to case, single or not, and without values that are no text', () => {
    const read = entryOf({ dn: 'uid=a,dc=x', MemberOf: 'cn=g', mail: [], photo: [Buffer.from([255])] });
    expect([valuesOf(read, 'memberof'), valuesOf(read, 'mail'), valuesOf(read, 'photo'), valuesOf(read, 'x')]).toEqual([
      ['cn=g'],
      [],
      [],
      [],
    ]);
  });

  test('says from where on the values are missing that the server has cut off', () => {
    const cut = entry('cn=g', { member: [], 'member;range=0-1': ['a', 'b'] });
    expect([valuesOf(cut, 'member'), [...cut.more]]).toEqual([['a', 'b'], [['member', 2]]]);
    expect(entry('cn=g', { 'member;range=2-*': ['c'] }).more.size).toBe(0);
  });

  test.each([
    ['uid=alice,dc=x', { uid: ['alice', 'bob'] }, 'alice'],
    ['cn=Alice,dc=x', { uid: 'alice' }, 'alice'],
    ['cn=Alice,dc=x', { uid: ['alice', 'bob'] }, null],
    ['cn=Alice,dc=x', {}, null],
    ['ou=x,uid=bob,dc=x', { uid: 'alice' }, 'alice'],
  ])('%s with %j is named %j', (dn, attributes, name) => {
    expect(nameIn(entry(dn, attributes), 'uid')).toBe(name);
  });

  test.each(['member', 'memberOf'] as const)('is in groups within groups up to a level, by %s', async (membership) => {
    const names = ['a', 'b', 'c', 'd'];
    const groups = names.map((name, index) =>
      entry(`cn=${name}`, {
        member: index === 0 ? 'UID=Alice' : `cn=${names[index - 1]}`,
        memberOf: `CN=${names[(index + 1) % 4]}`,
      }),
    );
    groups[0] = entry('cn=a', { member: ['uid=alice', 'cn=d'], memberOf: 'cn=b' });
    const alice = entry('uid=alice', { memberOf: ['cn=a', 'cn=unknown'] });
    const of = async (levels: number) =>
      (await allGroupsOf(alice, levels, listedGroups(groups, { member: 'member', membership }))).map(({ dn }) => dn);
    expect(await of(0)).toEqual(['cn=a']);
    expect(await of(2)).toEqual(['cn=a', 'cn=b', 'cn=c']);
    expect(await of(10)).toEqual(['cn=a', 'cn=b', 'cn=c', 'cn=d']);
  });
});

describe('a connection', () => {
  const message = (size: number) => {
    const value = Buffer.alloc(size, 'x');
    const header = (tag: number, length: number) => Buffer.from([tag, 0x82, length >> 8, length & 0xff]);
    const inner = Buffer.concat([header(0x04, size), value]);
    return Buffer.concat([header(0x30, inner.length), inner]);
  };

  /** What comes out of a stream when these chunks go in, and the words that it ends with. */
  async function through(chunks: readonly Buffer[], maxAnswer = 100_000) {
    const { promise: finished, resolve: finish } = Promise.withResolvers<void>();
    await using server = await tcpServer(async (socket) => {
      for (const chunk of chunks) {
        socket.write(chunk);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await finished;
      socket.end();
    });
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname).setNoDelay(true);
    const stream = new LdapStream(socket, maxAnswer);
    const got: Buffer[] = [];
    let size = 0;
    const total = chunks.reduce((sum, { length }) => sum + length, 0);
    stream.on('data', (piece: Buffer) => {
      got.push(piece);
      size += piece.length;
      if (size === total) finish();
    });
    stream.on('error', () => finish());
    await new Promise((resolve) => stream.once('close', resolve));
    return { got, words: stream.errored?.message ?? '' };
  }

  test('gives messages one at a time and whole, however they come', async () => {
    const cuts = fc.array(fc.nat({ max: 2000 }), { maxLength: 4 });
    const sizes = fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(sizes, cuts, async (lengths, at) => {
        const messages = lengths.map(message);
        const whole = Buffer.concat(messages);
        const edges = [0, ...at.filter((edge) => edge < whole.length).toSorted((a, b) => a - b), whole.length];
        const chunks = edges.slice(1).map((edge, index) => whole.subarray(edges[index], edge));
        expect((await through(chunks)).got).toEqual(messages);
      }),
      { numRuns: 25 },
    );
  });

  test.each([
    ['HTTP', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), 'does not speak LDAP'],
    ['an indefinite length', Buffer.from([0x30, 0x80, 0, 0]), 'does not speak LDAP'],
    ['a length of eight bytes', Buffer.from([0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, 1]), 'does not speak LDAP'],
    ['a part that is longer than the whole', Buffer.from([0x30, 3, 0x30, 9, 1]), 'does not speak LDAP as it should'],
    ['parts within parts without an end', Buffer.from('3018'.concat('30'.repeat(24)), 'hex'), 'as it should'],
    ['more than it may', Buffer.from([0x30, 0x83, 0xff, 0xff, 0xff]), 'longer than 100000 bytes'],
  ])('ends on %s', async (_, bytes, words) => {
    const { got, words: said } = await through([bytes]);
    expect(got).toEqual([]);
    expect(said).toContain(words);
  });

  test('ends when what it is told has no end', async () => {
    const { words } = await through(Array.from({ length: 300 }, () => message(500)));
    expect(words).toContain('longer than 100000 bytes');
  });
});
