/** A viewer's end of a console, as far as a test looks at it. */

import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { Site } from './site.ts';

/** What a call for a console gave. */
export interface ConsoleOffer {
  readonly port: string | number;
  readonly ticket: string;
  readonly user: string;
}

export interface ConsoleSocket extends AsyncDisposable {
  readonly socket: WebSocket;
  /** Everything that came, in order. */
  readonly heard: Buffer;
  /** How it was closed, once it is. */
  readonly closed: { readonly code: number; readonly reason: string } | undefined;
}

/** The server's answer to an upgrade request that it did not grant. */
export class NotUpgraded extends Error {
  override readonly name = 'NotUpgraded';
  readonly status: number;
  /** What its status line says. */
  readonly reason: string;

  constructor(status: number, reason: string) {
    super(`the upgrade was answered with ${status} ${reason}`);
    this.status = status;
    this.reason = reason;
  }
}

export interface ConsoleRequest {
  readonly headers: Readonly<Record<string, string>>;
  readonly prefix?: string;
  readonly protocols?: readonly string[];
  /** The certificate to expect, PEM. */
  readonly ca?: string;
}

/** Opens the WebSocket of the console of `guest`, such as `/nodes/n1/qemu/100`; throws NotUpgraded. */
export async function openConsole(
  site: Pick<Site, 'url'>,
  guest: string,
  { port, ticket }: Pick<ConsoleOffer, 'port' | 'ticket'>,
  { headers, prefix = '/api2/json', protocols = ['binary'], ca }: ConsoleRequest,
): Promise<ConsoleSocket> {
  const query = new URLSearchParams({ port: String(port), vncticket: ticket });
  const url = `${site.url.replace(/^http/, 'ws')}${prefix}${guest}/vncwebsocket?${query}`;
  const socket = new WebSocket(url, [...protocols], {
    headers,
    perMessageDeflate: false,
    ...(ca === undefined ? {} : { ca }),
  });
  const parts: Buffer[] = [];
  let closed: ConsoleSocket['closed'];
  socket.on('message', (data) => parts.push(data as Buffer));
  socket.on('close', (code, reason) => {
    closed = { code, reason: String(reason) };
  });
  await new Promise<void>((resolve, reject) => {
    socket.on('open', resolve).on('error', reject);
    socket.on('unexpected-response', (_request, { statusCode = 0, statusMessage = '' }) =>
      reject(new NotUpgraded(statusCode, statusMessage)),
    );
  });
  return {
    socket,
    get heard() {
      return Buffer.concat(parts);
    },
    get closed() {
      return closed;
    },
    async [Symbol.asyncDispose]() {
      if (socket.readyState === WebSocket.CLOSED) return;
      socket.terminate();
      await once(socket, 'close');
    },
  };
}
