/** An LDAP server that answers as a test wants: for what no LDAP server on this machine does, such as Active Directory's ways. */

import { BerReader, BerWriter, type Control, FilterParser, PagedResultsControl } from 'ldapts';
import { type Listening, tcpServer } from './listening.ts';

export interface LdapRequest {
  readonly kind: 'bind' | 'search' | 'modify' | 'add' | 'delete' | 'extended' | 'unbind';
  /** The name of the entry it is about, or the extended operation. */
  readonly name: string;
  readonly password?: string;
  readonly filter?: string;
  readonly attributes?: readonly string[];
  /** The message as it was sent. */
  readonly bytes: Buffer;
}

export interface LdapReply {
  /** LDAP's result; 0 when absent. */
  readonly code?: number;
  /** What is said beside a result that is not 0. */
  readonly message?: string;
  readonly entries?: readonly {
    readonly dn: string;
    readonly attributes: Readonly<Record<string, readonly string[]>>;
  }[];
  /** URLs of other servers that a search refers to. */
  readonly references?: readonly string[];
  /** With which the next page is to be asked for. */
  readonly cookie?: string;
  /** What an extended operation gives. */
  readonly value?: string;
}

export interface LdapDouble extends Listening {
  readonly requests: readonly LdapRequest[];
}

const kinds: Readonly<Record<number, readonly [kind: LdapRequest['kind'], reply: number]>> = {
  96: ['bind', 0x61],
  66: ['unbind', 0],
  99: ['search', 0x65],
  102: ['modify', 0x67],
  104: ['add', 0x69],
  74: ['delete', 0x6b],
  119: ['extended', 0x78],
};

/** Starts a server that replies to each request so. */
export async function startLdapDouble(reply: (request: LdapRequest) => LdapReply): Promise<LdapDouble> {
  const requests: LdapRequest[] = [];
  const server = await tcpServer((socket) => {
    let held = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      for (let end = endOf(held); end !== null; end = endOf(held)) {
        const { id, answer, request } = parse(held.subarray(0, end));
        held = held.subarray(end);
        requests.push(request);
        if (request.kind === 'unbind') socket.end();
        else socket.write(written(id, answer, reply(request)));
      }
    });
  });
  return Object.assign(Object.create(server), { url: server.url.replace('http:', 'ldap:'), requests });
}

/** Where the first message ends, or null when it is not whole. */
function endOf(bytes: Buffer): number | null {
  const reader = new BerReader(bytes);
  return reader.readSequence() !== null && reader.remain >= reader.length ? reader.offset + reader.length : null;
}

function parse(bytes: Buffer): { readonly id: number; readonly answer: number; readonly request: LdapRequest } {
  const reader = new BerReader(bytes);
  reader.readSequence();
  const id = reader.readInt() ?? 0;
  const [kind, answer] = kinds[reader.peek() ?? 0] ?? ['unbind', 0];
  if (kind === 'delete') return { id, answer, request: { kind, name: reader.readString(0x4a) ?? '', bytes } };
  reader.readSequence();
  if (kind === 'extended') return { id, answer, request: { kind, name: reader.readString(0x80) ?? '', bytes } };
  if (kind === 'bind') reader.readInt();
  if (kind === 'unbind') return { id, answer, request: { kind, name: '', bytes } };
  const name = reader.readString() ?? '';
  if (kind === 'bind') return { id, answer, request: { kind, name, password: reader.readString(0x80) ?? '', bytes } };
  if (kind !== 'search') return { id, answer, request: { kind, name, bytes } };
  reader.readEnumeration();
  reader.readEnumeration();
  reader.readInt();
  reader.readInt();
  reader.readBoolean();
  const filter = FilterParser.parse(reader).toString();
  const attributes: string[] = [];
  reader.readSequence();
  for (const end = reader.offset + reader.length; reader.offset < end; ) attributes.push(reader.readString() ?? '');
  return { id, answer, request: { kind, name, filter, attributes, bytes } };
}

function written(id: number, answer: number, reply: LdapReply): Buffer {
  const { code = 0, message: words = 'as the test wants it', entries = [], references = [], cookie, value } = reply;
  const message = (tag: number, write: (writer: BerWriter) => void, control?: Control): Buffer => {
    const writer = new BerWriter();
    writer.startSequence();
    writer.writeInt(id);
    writer.startSequence(tag);
    write(writer);
    writer.endSequence();
    if (control !== undefined) {
      writer.startSequence(0xa0);
      control.write(writer);
      writer.endSequence();
    }
    writer.endSequence();
    return writer.buffer;
  };
  const shown = entries.map(({ dn, attributes }) =>
    message(0x64, (writer) => {
      writer.writeString(dn);
      writer.startSequence();
      for (const [type, values] of Object.entries(attributes)) {
        writer.startSequence();
        writer.writeString(type);
        writer.startSequence(0x31);
        for (const text of values) writer.writeString(text);
        writer.endSequence();
        writer.endSequence();
      }
      writer.endSequence();
    }),
  );
  const elsewhere = references.map((url) => message(0x73, (writer) => writer.writeString(url)));
  const page =
    cookie === undefined ? undefined : new PagedResultsControl({ value: { size: 0, cookie: Buffer.from(cookie) } });
  const result = message(
    answer,
    (writer) => {
      writer.writeEnumeration(code);
      writer.writeString('');
      writer.writeString(code === 0 ? '' : words);
      if (value !== undefined) writer.writeString(value, 0x8b);
    },
    page,
  );
  return Buffer.concat([...shown, ...elsewhere, result]);
}
