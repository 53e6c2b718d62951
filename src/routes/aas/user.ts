/** What a user may use, and what is on offer to all of them. */

import { NotReadyError } from '../../errors.ts';
import { call } from '../../pve/call.ts';
import { type Row, rowsOf } from '../../pve/rows.ts';
import type { ClusterGrants } from '../../quota/record.ts';
import type { Rooms } from '../rooms.ts';
import { quotaTable, shownMax, usageTable } from './quota-table.ts';
import { dataOf } from './reply.ts';
import type { Surface } from './surface.ts';

/** `/user/config/...`, `/user/dynamic/resources`, `/user/vm-isos` and `/user/ct-templates`. */
export function userRoutes({ app, rooms, identify }: Surface): void {
  const { config, ledger, payers, inventory } = rooms;

  app.get<{ Params: { key: string } }>('/user/config/:key', async (request, reply) => {
    const { record } = await identify(request);
    if (request.params.key === 'cluster') return grantsOf(record.cluster);
    if (request.params.key === 'resources') return quotaTable(record, config.resources);
    return reply.code(401).send({ auth: false, error: 'This part of a user is not public' });
  });

  app.get('/user/dynamic/resources', async (request) => {
    const { user, record } = await identify(request);
    if (!inventory.ready)
      throw new NotReadyError('the server is still reading what the cluster holds; try again in a moment', 2);
    await payers.refresh();
    return usageTable(record, config.resources, ledger.holdings(user));
  });

  app.get('/user/vm-isos', async (request) => {
    const { user } = await identify(request);
    return offered(rooms, 'iso', user);
  });

  app.get('/user/ct-templates', async (request) => {
    const { user } = await identify(request);
    return offered(rooms, 'vztmpl', user);
  });
}

/** What a record grants in the cluster, as clients read it. */
export function grantsOf({ admin, nodes, pools, vmid, backups }: ClusterGrants): Readonly<Record<string, unknown>> {
  return { admin, nodes, pools, vmid, backups: shownMax(backups.max) };
}

/** What the configured storage holds for everybody and for the user, with a `name` to show; nothing where none is configured. */
async function offered(
  { config, upstream, inventory, ledger }: Rooms,
  content: 'iso' | 'vztmpl',
  user: string,
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  if (config.useriso === undefined) return [];
  const { node, storage } = config.useriso;
  const asked = call('GET', '/nodes/{}/storage/{}/content', [node, storage], { content });
  const rows = rowsOf(dataOf(await upstream.send(asked, { kind: 'service' })), 'the list of media');
  const prefix = `${storage}:${content}/`;
  const place = inventory.placeOf(storage, node);
  const isOffered = ({ volid }: Row) => [undefined, user].includes(ledger.fileOwner({ place, volid: String(volid) }));
  return rows.filter(isOffered).map((row) => ({ ...row, name: String(row.volid).replace(prefix, '') }));
}
