/** Connections that a client of ill will, or none at all, would make: bytes as they are. */

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawConnection extends Disposable {
  readonly socket: Socket;
  /** What came back so far. */
  readonly received: string;
  /** Resolves when the other side has ended the connection. */
  readonly closed: Promise<void>;
}

/** Connects to the server at `url` and sends exactly this. */
export async function rawConnection(url: string, text = ''): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  // A reset is one of the ways in which a connection ends.
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  let received = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    received += chunk;
  });
  await once(socket, 'connect');
  if (text !== '') socket.write(text);
  return {
    socket,
    get received() {
      return received;
    },
    closed,
    [Symbol.dispose]: () => socket.destroy(),
  };
}

/** The head of a POST that promises so many bytes. */
export function postHead(path: string, length: number): string {
  return [
    `POST ${path} HTTP/1.1`,
    'Host: localhost',
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${length}`,
    '',
    '',
  ].join('\r\n');
}
