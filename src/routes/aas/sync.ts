/** How dashboards learn that there is something new to show. */

import { hash } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { admit } from '../../admission/admit.ts';
import { NotFoundError } from '../../errors.ts';
import { call } from '../../pve/call.ts';
import { type Row, rowsOf } from '../../pve/rows.ts';
import { type Origins, requireSameOrigin } from '../caller.ts';
import type { Arrival } from '../web-sockets.ts';
import { dataOf, errorReply } from './reply.ts';
import type { Surface } from './surface.ts';
import { SyncSockets } from './sync-sockets.ts';

/** `/sync/schemes`, `/sync/hash` and the WebSocket `/sync/interrupt`. */
export function syncRoutes({ app, rooms, identify }: Surface, origins: Origins): void {
  const { clientsync, resources } = rooms.config;
  const { schemes, resourcetypes } = clientsync;
  const { enabled, 'min-rate': min, 'max-rate': max } = schemes.interrupt;

  app.get('/sync/schemes', async () => schemes);

  app.get('/sync/hash', async (request, reply) => {
    if (!schemes.hash.enabled) throw new NotFoundError('The sync scheme hash is not enabled here');
    const { answer } = await admit(rooms.gate, call('GET', '/cluster/resources'), await identify(request));
    const rows = rowsOf(dataOf(answer), 'the list of resources');
    return reply.type('text/html').send(fingerprintOf(rows, resourcetypes));
  });

  app.get('/sync/interrupt', async (_request, reply) => {
    mustBeEnabled();
    const error =
      'This address speaks WebSocket alone; a web server in front must pass the headers Upgrade and Connection';
    return reply.code(426).headers({ upgrade: 'websocket', connection: 'Upgrade' }).send({ error });
  });

  const sockets = new SyncSockets({ watch: rooms.watch, rates: { min, max } });
  const path = `${app.prefix}/sync/interrupt`;
  rooms.sockets.add({
    // As the routes take paths: in any case, with or without a slash at the end.
    isAt: (asked) => asked.toLowerCase().replace(/\/$/, '') === path.toLowerCase(),
    accept,
    refusal: (error) => {
      const { status, headers, body } = errorReply(error, { params: {} }, resources);
      return { status, reason: STATUS_CODES[status] ?? '', headers, body };
    },
    held: sockets,
  });
  app.addHook('preClose', () => sockets.close());

  async function accept({ request, connection, head, ip }: Arrival): Promise<void> {
    const { headers } = request;
    mustBeEnabled();
    // Whatever else browsers say of a WebSocket's page, they always say its origin.
    requireSameOrigin({ origin: headers.origin, host: headers.host }, origins);
    await sockets.accept(request, connection, head, () => identify({ method: 'GET', headers, ip }));
  }

  function mustBeEnabled(): void {
    if (!enabled) throw new NotFoundError('The sync scheme interrupt is not enabled here');
  }
}

/** A text that differs when, and only when, one of these resources is another, or its name, state, node or pool. */
export function fingerprintOf(rows: readonly Row[], types: readonly string[]): string {
  const shown = rows
    .filter(({ type }) => types.includes(String(type)))
    .map(({ id, type, name, status, node, pool }) => JSON.stringify([id, type, name, status, node, pool]));
  return hash('sha256', shown.toSorted().join('\n'));
}
