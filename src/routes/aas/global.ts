/** What holds for all users. */

import type { Resource } from '../../quota/resources.ts';
import type { Surface } from './surface.ts';

/** `/global/config/resources`: the kinds of resources, as clients draw them. */
export function globalRoutes({ app, rooms, identify }: Surface): void {
  const resources = Object.fromEntries(
    Object.entries(rooms.config.resources).map(([name, resource]): [string, Resource] => [name, { name, ...resource }]),
  );

  app.get<{ Params: { key: string } }>('/global/config/:key', async (request, reply) => {
    await identify(request);
    if (request.params.key === 'resources') return { resources };
    return reply.code(401).send({ auth: false, error: 'This part of the configuration is not public' });
  });
}
