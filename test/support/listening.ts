/** Small servers on a free port of the loopback, closed with all their connections when disposed. */

import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer, type ServerOptions } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';

export interface Listening extends AsyncDisposable {
  readonly url: string;
  /** Connections accepted so far. */
  readonly connections: number;
  /** Closes every open connection and keeps listening. */
  cut(): void;
}

export async function listening(server: Server, scheme: string, port = 0): Promise<Listening> {
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on('connection', (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket)).on('error', () => {});
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return connections;
    },
    cut,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      cut();
      await closed;
    },
  };
}

export const httpServer = (answer: RequestListener, port?: number): Promise<Listening> =>
  listening(createHttpServer(answer), 'http', port);

export const httpsServer = (options: ServerOptions, answer: RequestListener, port?: number): Promise<Listening> =>
  listening(createHttpsServer(options, answer), 'https', port);

export const tcpServer = (answer: (socket: Socket) => void): Promise<Listening> =>
  listening(createTcpServer(answer), 'http');

/** A URL at which nothing listens. */
export async function unusedUrl(): Promise<string> {
  await using server = await httpServer(() => {});
  return server.url;
}
