/** How dashboards learn that there is something new to show. */

import { hash } from 'node:crypto';
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { admit } from '../../admission/admit.ts';
import { NotFoundError } from '../../errors.ts';
import { type Credential, call } from '../../pve/call.ts';
import { type Origins, requireSameOrigin } from '../caller.ts';
import { dataOf, errorReply, type SpokenError } from './reply.ts';
import type { Surface } from './surface.ts';
import { SyncSockets } from './sync-sockets.ts';

type Row = Readonly<Record<string, unknown>>;

/** `/sync/schemes`, `/sync/hash` and the WebSocket `/sync/interrupt`; gives what closes the sockets of a session that ends. */
export function syncRoutes(
  { app, rooms, identify }: Surface,
  origins: Origins,
): { readonly end: (session: Credential) => void } {
  const { clientsync, resources } = rooms.config;
  const { schemes, resourcetypes } = clientsync;
  const { enabled, 'min-rate': min, 'max-rate': max } = schemes.interrupt;

  app.get('/sync/schemes', async () => schemes);

  app.get('/sync/hash', async (request, reply) => {
    if (!schemes.hash.enabled) throw new NotFoundError('The sync scheme hash is not enabled here');
    const { answer } = await admit(rooms.gate, call('GET', '/cluster/resources'), await identify(request));
    return reply.type('text/html').send(fingerprintOf(dataOf(answer) as readonly Row[], resourcetypes));
  });

  app.get('/sync/interrupt', async (_request, reply) => {
    mustBeEnabled();
    const error =
      'This address speaks WebSocket alone; a web server in front must pass the headers Upgrade and Connection';
    return reply.code(426).headers({ upgrade: 'websocket', connection: 'Upgrade' }).send({ error });
  });

  const sockets = new SyncSockets({ watch: rooms.watch, rates: { min, max } });
  const path = `${app.prefix}/sync/interrupt`;
  app.server.on('upgrade', (request, connection, head) => {
    // Nobody else listens until the WebSocket stands.
    connection.on('error', () => connection.destroy());
    accept(request, connection, head).catch((error) =>
      refuse(connection, errorReply(error, { params: {} }, resources)),
    );
  });
  app.addHook('preClose', () => sockets.close());

  async function accept(request: IncomingMessage, connection: Duplex, head: Buffer): Promise<void> {
    const { headers, url = '', socket } = request;
    if (!isPath(url, path)) throw new NotFoundError('There is no such WebSocket');
    mustBeEnabled();
    // Whatever else browsers say of a WebSocket's page, they always say its origin.
    requireSameOrigin({ origin: headers.origin, host: headers.host }, origins);
    const ip = socket.remoteAddress ?? '';
    await sockets.accept(request, connection, head, () => identify({ method: 'GET', headers, ip }));
  }

  function mustBeEnabled(): void {
    if (!enabled) throw new NotFoundError('The sync scheme interrupt is not enabled here');
  }

  return { end: (session) => sockets.end(session) };
}

/** As the routes take paths: in any case, with or without a slash at the end. */
function isPath(url: string, path: string): boolean {
  return url.split('?', 1)[0]?.toLowerCase().replace(/\/$/, '') === path.toLowerCase();
}

/** Answers an upgrade request that is not granted, and ends the connection. */
function refuse(connection: Duplex, { status, headers, body }: SpokenError): void {
  const text = JSON.stringify(body);
  const lines = {
    ...headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(text)),
    connection: 'close',
  };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}`);
  connection.once('finish', () => connection.destroy());
  connection.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...head, '', text].join('\r\n'));
}

/** A text that differs when, and only when, one of these resources is another, or its name, state, node or pool. */
export function fingerprintOf(rows: readonly Row[], types: readonly string[]): string {
  const shown = rows
    .filter(({ type }) => types.includes(String(type)))
    .map(({ id, type, name, status, node, pool }) => JSON.stringify([id, type, name, status, node, pool]));
  return hash('sha256', shown.toSorted().join('\n'));
}
