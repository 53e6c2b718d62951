/** The HTTP server as a whole: what holds for every surface. */

import type { ServerOptions } from 'node:http';
import { Server as TlsServer } from 'node:tls';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Config } from './config.ts';
import { aasRoutes } from './routes/aas/index.ts';
import { addressBehind, isAmong } from './routes/client-address.ts';
import { shareConnections } from './routes/connections.ts';
import { logLevelOf, plainText, refusalOf } from './routes/edge.ts';
import { type Health, healthRoute } from './routes/health.ts';
import { pveRoutes, sayPveError } from './routes/pve/index.ts';
import { takeKnownReads } from './routes/pve/known-reads.ts';
import type { Rooms } from './routes/rooms.ts';
import { minVersion, openPair, PairWatch } from './routes/tls.ts';

/** How long a client may take to send a request, and its headers, in ms; and how often that is looked after. */
const requestTimeout = 30_000;
const headersTimeout = 10_000;
const handshakeTimeout = 10_000;
const connectionsCheckingInterval = 2000;

/** Connections at a time. */
const maxConnections = 4096;

/** How long, in ms beyond the longest wait for a task, a connection may stand still before it counts as dead. */
const stillness = 90_000;

/** UPIDs and volume ids are longer than what Fastify takes for a parameter. */
const maxParamLength = 1024;

/** The server with all its surfaces; it does not listen yet. */
export function buildApp(
  { application, limits, taskWait }: Config,
  rooms: Rooms,
  health: () => Health,
): FastifyInstance {
  const { load, log, sockets } = rooms;
  const loggerInstance: FastifyBaseLogger = log;
  const { tls } = application;
  const pair = tls === undefined ? undefined : openPair(tls);
  const http: ServerOptions = {
    headersTimeout,
    connectionsCheckingInterval,
    // Requests that offer another protocol, such as HTTP/2, are served as if they did not.
    shouldUpgradeCallback: (request) => sockets.isWanted(request),
  };
  const app = Fastify({
    ...(pair === undefined ? { http } : { https: { ...http, ...pair, minVersion, handshakeTimeout } }),
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    // A logger for each request would cost more than finding its route.
    childLoggerFactory: (logger) => logger,
    bodyLimit: limits.bodyBytes,
    trustProxy: [...application.trustedProxies],
    // Uploads take their time; for all else the hook below keeps it.
    requestTimeout: 0,
    connectionTimeout: taskWait * 1000 + stillness,
    // The guard says it in our words.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    routerOptions: { caseSensitive: false, ignoreTrailingSlash: true, maxParamLength },
    frameworkErrors: sayError,
  });
  shareConnections(app.server, maxConnections, isAmong(application.trustedProxies));
  sockets.serve(app.server);
  // What Fastify would add to every answer, or write down of it.
  if (application.corsOrigins.length === 0 && !log.isLevelEnabled('debug'))
    takeKnownReads(app.server, rooms, load, addressBehind(isAmong(application.trustedProxies)));
  if (tls !== undefined && pair !== undefined && app.server instanceof TlsServer) {
    const watch = new PairWatch(app.server, tls, pair, { log });
    app.addHook('onClose', async () => watch.close());
  }
  app.setErrorHandler(sayError);
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ error: plainText(`There is no ${request.method} ${pathOf(request)}`) }),
  );
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
  app.addHook('onRequest', (request, _reply, done) => {
    limitBody(request);
    done();
  });
  if (log.isLevelEnabled('debug'))
    app.addHook('onResponse', async (request, reply) => {
      const ms = Math.round(reply.elapsedTime);
      log.debug({ method: request.method, path: pathOf(request), status: reply.raw.statusCode, ms }, 'answered');
    });
  allowOrigins(app, application.corsOrigins);
  healthRoute(app, health);
  app.register(async (surfaces) => {
    load.guard(surfaces, rooms.stopping);
    surfaces.register((api) => aasRoutes(api, rooms), { prefix: '/api' });
    surfaces.register((api) => pveRoutes(api, rooms), { prefix: '/api2' });
  });
  return app;
}

/** Ends a connection whose request has not arrived in time. */
function limitBody(request: FastifyRequest): void {
  const { raw, headers } = request;
  if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) return;
  if (request.routeOptions.config?.streams === true) return;
  const late = setTimeout(() => {
    if (!raw.complete) raw.socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n');
  }, requestTimeout);
  raw.once('close', () => clearTimeout(late));
}

function sayError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  if (request.url.startsWith('/api2/')) {
    sayPveError(error, request, reply);
    return;
  }
  const { status, message, headers } = refusalOf(error);
  const level = logLevelOf(error);
  if (level !== undefined) request.log[level]({ err: error }, 'a request failed');
  reply
    .code(status)
    .headers(headers)
    .send({ error: plainText(message) });
}

/** Queries may hold secrets, so they are never logged or repeated. */
function pathOf({ url }: FastifyRequest): string {
  return url.split('?', 1)[0] ?? '';
}

/** Lets pages of exactly these origins call with the user's cookies. */
function allowOrigins(app: FastifyInstance, origins: readonly string[]): void {
  if (origins.length === 0) return;
  app.addHook('onRequest', async (request, reply) => {
    const { origin } = request.headers;
    reply.header('vary', 'origin');
    if (origin === undefined || !origins.includes(origin)) return;
    reply.headers({ 'access-control-allow-origin': origin, 'access-control-allow-credentials': 'true' });
    if (request.method !== 'OPTIONS') return;
    const allowed = {
      'access-control-allow-methods': 'GET, POST, PUT, DELETE',
      'access-control-allow-headers': 'Content-Type, CSRFPreventionToken',
      'access-control-max-age': '600',
    };
    await reply.code(204).headers(allowed).send();
  });
}
