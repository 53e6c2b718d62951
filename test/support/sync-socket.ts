/** A dashboard's sync socket, as far as a test looks at it. */

import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { Client, Site } from './site.ts';

export interface SyncSocket extends AsyncDisposable {
  readonly socket: WebSocket;
  /** Every text that came, in order. */
  readonly heard: readonly string[];
  /** The close code, once the socket is closed. */
  readonly code: number | undefined;
}

/** The server's answer to an upgrade request that it did not grant. */
export class NotUpgraded extends Error {
  override readonly name = 'NotUpgraded';
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    super(`the upgrade was answered with ${status} ${JSON.stringify(body)}`);
    this.status = status;
    this.body = body;
  }
}

/** Opens a sync socket with the client's cookies; throws NotUpgraded. */
export async function openSync(
  site: Pick<Site, 'url'>,
  client: Client | undefined,
  { path = '/api/sync/interrupt', headers = {} }: { path?: string; headers?: Readonly<Record<string, string>> } = {},
): Promise<SyncSocket> {
  const cookie = [...(client?.cookies ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
  const socket = new WebSocket(`${site.url.replace(/^http/, 'ws')}${path}`, {
    headers: { ...(cookie === '' ? {} : { cookie }), ...headers },
  });
  const heard: string[] = [];
  let code: number | undefined;
  socket.on('message', (data) => heard.push(String(data)));
  socket.on('close', (given) => {
    code = given;
  });
  await new Promise<void>((resolve, reject) => {
    socket.on('open', resolve).on('error', reject);
    socket.on('unexpected-response', async (_request, response) => {
      const chunks = await response.toArray();
      reject(new NotUpgraded(response.statusCode ?? 0, JSON.parse(Buffer.concat(chunks).toString() || 'null')));
    });
  });
  return {
    socket,
    heard,
    get code() {
      return code;
    },
    async [Symbol.asyncDispose]() {
      if (socket.readyState === WebSocket.CLOSED) return;
      socket.terminate();
      await once(socket, 'close');
    },
  };
}
