/** The addresses at which connections become WebSockets, of all surfaces. */

import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Credential } from '../pve/call.ts';
import type { AddressOf } from './client-address.ts';
import { reasonPhrase } from './edge.ts';
import type { Held, HeldSockets } from './held-sockets.ts';

/** A request to become a WebSocket. */
export interface Arrival {
  readonly request: IncomingMessage;
  readonly connection: Duplex;
  readonly head: Buffer;
  /** The client's address. */
  readonly ip: string;
}

/** The answer to one that is not granted. */
export interface UpgradeRefusal {
  readonly status: number;
  readonly reason: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: a status line says it all. */
  readonly body: Readonly<Record<string, unknown>> | null;
}

/** One kind of WebSockets, and where they are. */
export interface Door {
  /** Whether this path, without its query, is an address of theirs. */
  isAt(path: string): boolean;
  /** Takes over the connection; throws what is to be answered instead. */
  accept(arrival: Arrival): Promise<void>;
  refusal(error: unknown): UpgradeRefusal;
  readonly held: Pick<HeldSockets<Held>, 'end' | 'endOf'>;
}

/** All WebSockets of a server; requests for other addresses are served as if they offered no upgrade. */
export class WebSockets {
  readonly #doors: Door[] = [];
  readonly #addressOf: AddressOf;

  constructor(addressOf: AddressOf) {
    this.#addressOf = addressOf;
  }

  add(door: Door): void {
    this.#doors.push(door);
  }

  /** Whether the request is for one of the doors; another protocol than WebSocket, such as HTTP/2, is not. */
  isWanted({ method, headers, url }: IncomingMessage): boolean {
    return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' && this.#doorOf(url) !== undefined;
  }

  /** Has the server's upgrade requests answered. */
  serve(server: Server): void {
    server.on('upgrade', (request: IncomingMessage, connection: Duplex, head: Buffer) => {
      // Nobody else listens until the WebSocket stands.
      connection.on('error', () => connection.destroy());
      const door = this.#doorOf(request.url);
      if (door === undefined) {
        connection.destroy();
        return;
      }
      const ip = this.#addressOf(request.socket.remoteAddress ?? '', request.headers['x-forwarded-for']);
      door.accept({ request, connection, head, ip }).catch((error: unknown) => refuse(connection, door.refusal(error)));
    });
  }

  /** Closes all sockets of a session that has ended. */
  end(session: Credential): void {
    for (const { held } of this.#doors) held.end(session);
  }

  /** Closes all sockets of a user who is gone. */
  endOf(user: string): void {
    for (const { held } of this.#doors) held.endOf(user);
  }

  #doorOf(url = ''): Door | undefined {
    const path = url.split('?', 1)[0] ?? '';
    return this.#doors.find((door) => door.isAt(path));
  }
}

/** Answers an upgrade request that is not granted, and ends the connection. */
function refuse(connection: Duplex, { status, reason, headers, body }: UpgradeRefusal): void {
  const text = body === null ? '' : JSON.stringify(body);
  const lines = {
    ...headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(text)),
    connection: 'close',
  };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}`);
  connection.once('finish', () => connection.destroy());
  connection.end([`HTTP/1.1 ${status} ${reasonPhrase(reason)}`, ...head, '', text].join('\r\n'));
}
