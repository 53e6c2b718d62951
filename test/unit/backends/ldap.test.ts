import { connect } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Entry, entryOf, nameIn, valuesOf } from '../../../src/backends/ldap-entries.ts';
import { groupsAmong } from '../../../src/backends/ldap-groups.ts';
import { dnKey, escapeDnValue, parseDn } from '../../../src/backends/ldap-names.ts';
import { ldapSettings } from '../../../src/backends/ldap-settings.ts';
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

  /** The names of the groups of alice among these. */
  async function groupsOf(alice: Entry, listed: readonly Entry[], settings: object): Promise<readonly string[]> {
    const bind = { dn: 'cn=proxy,dc=x', password: 'x' };
    const given = {
      url: 'ldap://x',
      realm: 'ldap',
      bind,
      users: { base: 'dc=x' },
      groups: { base: 'dc=x', ...settings },
    };
    const { groups } = ldapSettings.parse(given);
    if (groups === null) throw new Error('there are groups');
    return (await groupsAmong(listed, groups)({ entry: alice, name: 'alice' })).map(({ dn }) => dn);
  }

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
    const of = (nested: number) => groupsOf(alice, groups, { member: 'member', membership, nested });
    expect(await of(0)).toEqual(['cn=a']);
    expect(await of(2)).toEqual(['cn=a', 'cn=b', 'cn=c']);
    expect(await of(10)).toEqual(['cn=a', 'cn=b', 'cn=c', 'cn=d']);
  });

  test.each<[string, Readonly<Record<string, string | string[]>>, boolean]>([
    ['a groupOfNames by member', { objectClass: ['top', 'GroupOfNames'], member: ['', 'uid=alice'] }, true],
    ['a groupOfUniqueNames by uniqueMember', { objectClass: 'groupOfUniqueNames', uniqueMember: 'uid=alice' }, true],
    ['one of an earlier alice', { objectClass: 'groupOfUniqueNames', uniqueMember: "uid=alice#'0101'B" }, false],
    ['a posixGroup by memberUid', { objectClass: 'posixGroup', memberUid: 'alice' }, true],
    ['a posixGroup by another spelling', { objectClass: 'posixGroup', memberUid: ['Alice', 'uid=alice'] }, false],
    ['a posixGroup by member', { objectClass: 'posixGroup', member: 'uid=alice' }, false],
    ['a groupOfNames by memberUid', { objectClass: ['posixGroup', 'groupOfNames'], memberUid: 'alice' }, false],
    ['a class of its own by member', { objectClass: 'club', member: 'uid=alice', memberUid: 'bob' }, true],
    ['a class of its own by memberUid', { objectClass: 'club', memberUid: 'alice' }, false],
  ])('is in %s: %j is %j', async (_, attributes, isIn) => {
    expect(await groupsOf(entry('uid=alice'), [entry('cn=g', attributes)], {})).toEqual(isIn ? ['cn=g'] : []);
  });

  test('is in no group by a posixGroup that is in it', async () => {
    const groups = [
      entry('cn=posix', { objectClass: 'posixGroup', memberUid: 'alice', memberOf: 'cn=outer' }),
      entry('cn=outer', { objectClass: 'groupOfNames', member: 'cn=posix' }),
    ];
    for (const membership of ['member', 'memberOf'])
      expect(await groupsOf(entry('uid=alice'), groups, { membership, nested: 5 })).toEqual(['cn=posix']);
  });

  test('is not in a group by a name that a group within it seems to have', async () => {
    const groups = [
      entry('cn=inner', { objectClass: 'groupOfNames', member: 'uid=alice' }),
      entry('cn=odd', { objectClass: 'posixGroup', memberUid: ['null', 'undefined', 'uid=alice', 'cn=inner'] }),
      entry('cn=text', { objectClass: 'groupOfNames', member: 'alice' }),
    ];
    expect(await groupsOf(entry('uid=alice'), groups, { nested: 3 })).toEqual(['cn=inner']);
  });

  test('is in groups by the attribute that the configuration names, whatever their class', async () => {
    const club = entry('cn=g', { objectClass: 'groupOfNames', keeper: 'alice', memberUid: 'alice' });
    expect(await groupsOf(entry('uid=alice'), [club], { member: 'memberUid' })).toEqual(['cn=g']);
    expect(await groupsOf(entry('uid=alice'), [club], { member: 'keeper', holds: 'name' })).toEqual(['cn=g']);
    expect(await groupsOf(entry('uid=alice'), [club], { member: 'keeper' })).toEqual([]);
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
