/** What the cluster holds, as far as it concerns the caller. */

import { admit } from '../../admission/admit.ts';
import { call, succeeded } from '../../pve/call.ts';
import { drivesOf, type Instance, type Volume } from '../../pve/instance.ts';
import { rowsIn, rowsOf } from '../../pve/rows.ts';
import { grantedNames } from '../../quota/record.ts';
import type { Rooms } from '../rooms.ts';
import { modelOf } from './model.ts';
import { dataOf } from './reply.ts';
import type { Surface } from './surface.ts';
import { targetOf, visibleInstance } from './target.ts';

/** `/cluster/pools`, `/cluster/nodes` and `/cluster/:node/:type/:vmid`. */
export function clusterRoutes({ app, rooms, identify }: Surface): void {
  app.get('/cluster/pools', async (request) => {
    const { record } = await identify(request);
    if (!record.cluster.admin) return { pools: grantedNames(record.cluster.pools) };
    const data = dataOf(await rooms.upstream.send(call('GET', '/pools'), { kind: 'service' }));
    return { pools: rowsOf(data, 'the list of pools').map(({ poolid }) => poolid) };
  });

  app.get('/cluster/nodes', async (request) => {
    const { answer } = await admit(rooms.gate, call('GET', '/nodes'), await identify(request));
    return { nodes: rowsOf(dataOf(answer), 'the list of nodes').map(({ node }) => node) };
  });

  app.get('/cluster/:node/:type/:vmid', async (request) => {
    const caller = await identify(request);
    const target = targetOf(request.params);
    const instance = await visibleInstance(rooms, caller, target, 'all');
    return modelOf(instance, await mediaOf(rooms, instance), rooms.inventory.guests.get(target.vmid)?.name);
  });
}

/** The images of nobody in an instance's CD-ROM drives, with their sizes; those that no storage lists are left out. */
async function mediaOf({ upstream }: Rooms, { type, next, host }: Instance): Promise<ReadonlyMap<string, Volume>> {
  const volids = [...drivesOf(type, next).values()].flatMap((drive) =>
    drive?.kind === 'medium' && drive.volid !== undefined ? [drive.volid] : [],
  );
  const storages = new Set(volids.map((volid) => volid.slice(0, volid.indexOf(':'))));
  const found = await Promise.all(
    [...storages].map(async (storage) => {
      const asked = call('GET', '/nodes/{}/storage/{}/content', [host.node, storage], { content: 'iso' });
      const answer = await upstream.send(asked, { kind: 'service' });
      const rows = (succeeded(answer) ? rowsIn(answer.data) : null) ?? [];
      return rows.map(({ volid, size, format }): [string, Volume] => [
        String(volid),
        { volid: String(volid), storage, bytes: Number(size ?? 0), format: String(format ?? '') },
      ]);
    }),
  );
  return new Map(found.flat());
}
