/** WebSockets as PVE's proxy daemon speaks them: whole, masked frames of at most 128 KiB, and no goodbye. */

import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Duplex } from 'node:stream';

const mostPayload = 128 * 1024;
const opcodes = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const known: ReadonlySet<number> = new Set(Object.values(opcodes));

/** The status line and headers that accept the client's handshake; throws what PVE says against it. */
export function acceptance(headers: IncomingHttpHeaders): string {
  const protocol = headers.upgrade?.toLowerCase();
  if (protocol !== 'websocket') throw new Error(`unable to upgrade to protocol '${protocol}'`);
  const version = headers['sec-websocket-version'];
  if (version !== '13') throw new Error(`unsupported websocket-version '${version ?? ''}'`);
  const key = headers['sec-websocket-key'];
  if (!key) throw new Error('missing websocket-key');
  const proof = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  const spoken = headers['sec-websocket-protocol'];
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: upgrade',
    `Sec-WebSocket-Accept: ${proof}`,
    ...(spoken === undefined ? [] : [`Sec-WebSocket-Protocol: ${spoken}`]),
  ];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

export interface Conversation {
  /** What is said first. */
  readonly greeting?: Buffer;
  /** What is answered to the data of a frame; undefined ends the conversation. */
  answer(data: Buffer): Buffer | undefined;
  /** It has ended, whichever side ended it. */
  ended(): void;
}

/** Talks until either side ends it; a frame that PVE does not take ends it as well. */
export function converse(socket: Duplex, { greeting, answer, ended }: Conversation): void {
  let held: Buffer = Buffer.alloc(0);
  for (const event of ['end', 'error'] as const) socket.on(event, () => socket.destroy());
  socket.once('close', ended);
  if (greeting !== undefined) socket.write(frame(opcodes.binary, greeting));
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    for (let next = firstFrame(held); next !== undefined; next = firstFrame(held)) {
      if (next === 'unacceptable') return void socket.destroy();
      held = held.subarray(next.length);
      if (next.opcode === opcodes.close) return void socket.end();
      if (next.opcode === opcodes.ping) socket.write(frame(opcodes.pong, next.payload));
      if (next.opcode === opcodes.ping || next.opcode === opcodes.pong) continue;
      const said = answer(next.payload);
      if (said === undefined) return void socket.end();
      // Data that nobody reads is not read on either.
      if (!socket.write(frame(opcodes.binary, said))) {
        socket.pause();
        socket.once('drain', () => socket.resume());
      }
    }
  });
}

interface Frame {
  readonly opcode: number;
  readonly payload: Buffer;
  /** Of the whole frame. */
  readonly length: number;
}

/** The first frame; undefined while it is not all there. */
function firstFrame(bytes: Buffer): Frame | 'unacceptable' | undefined {
  if (bytes.length < 2) return undefined;
  const [head = 0, size = 0] = bytes;
  const opcode = head & 0x0f;
  const isWhole = (head & 0xf0) === 0x80;
  const isMasked = (size & 0x80) !== 0;
  if (!isWhole || !isMasked || !known.has(opcode)) return 'unacceptable';
  const width = { 126: 2, 127: 8 }[size & 0x7f] ?? 0;
  if (bytes.length < 2 + width) return undefined;
  const length = width === 0 ? size & 0x7f : width === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (length > mostPayload) return 'unacceptable';
  const from = 2 + width + 4;
  if (bytes.length < from + length) return undefined;
  const mask = bytes.subarray(from - 4, from);
  const payload = Buffer.from(bytes.subarray(from, from + length));
  for (let index = 0; index < length; index++) payload[index] = (payload[index] ?? 0) ^ (mask[index % 4] ?? 0);
  return { opcode, payload, length: from + length };
}

function frame(opcode: number, payload: Buffer): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}
