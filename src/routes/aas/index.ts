/** The ProxmoxAAS API: each route checks its fields, makes one PVE call of them and hands it to the gate. */

import formbody from '@fastify/formbody';
import type { FastifyInstance } from 'fastify';
import type { Origins } from '../caller.ts';
import { logLevelOf, plainText } from '../edge.ts';
import type { Rooms } from '../rooms.ts';
import { accessRoutes } from './access.ts';
import { backupRoutes } from './backup.ts';
import { clusterRoutes } from './cluster.ts';
import { diskRoutes } from './disk.ts';
import { globalRoutes } from './global.ts';
import { instanceRoutes } from './instance.ts';
import { netRoutes } from './net.ts';
import { pciRoutes } from './pci.ts';
import { peopleRoutes } from './people.ts';
import { peopleChangeRoutes } from './people-changes.ts';
import { proxmoxRoutes } from './proxmox.ts';
import { errorReply, PveRefusal, TaskFailure } from './reply.ts';
import { identify, type Surface } from './surface.ts';
import { syncRoutes } from './sync.ts';
import { userRoutes } from './user.ts';

/** Everything below `/api`. */
export async function aasRoutes(app: FastifyInstance, rooms: Rooms): Promise<void> {
  const { config, directory, sessions, signInLimit, sockets, version } = rooms;
  const { hostname, domain, corsOrigins } = config.application;
  const origins: Origins = { hostname, corsOrigins };

  app.removeAllContentTypeParsers();
  await app.register(formbody);
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });
  app.setErrorHandler((error, request, reply) => {
    const { status, headers, body } = errorReply(error, request, config.resources);
    const level = error instanceof PveRefusal || error instanceof TaskFailure ? undefined : logLevelOf(error);
    if (level !== undefined) request.log[level]({ err: error }, 'a request failed');
    reply.code(status).headers(headers).send(body);
  });
  app.setNotFoundHandler(({ method, url }, reply) =>
    reply.code(404).send({ error: plainText(`There is no ${method} ${url.split('?', 1)[0]}`) }),
  );

  const surface: Surface = { app, rooms, identify: (request) => identify(request, rooms, origins) };
  syncRoutes(surface, origins);
  accessRoutes(app, {
    directory,
    sessions,
    signedOut: (session) => sockets.end(session),
    limit: signInLimit,
    origins,
    cookies: domain === undefined ? {} : { domain },
    version,
  });
  globalRoutes(surface);
  userRoutes(surface);
  clusterRoutes(surface);
  instanceRoutes(surface);
  diskRoutes(surface);
  netRoutes(surface);
  pciRoutes(surface);
  backupRoutes(surface);
  peopleRoutes(surface);
  peopleChangeRoutes(surface);
  proxmoxRoutes(surface, origins);
}
