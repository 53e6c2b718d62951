/** The HTTP server as a whole: what holds for every surface. */

import type { IncomingMessage } from 'node:http';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Config } from './config.ts';
import { aasRoutes } from './routes/aas/index.ts';
import { plainText, refusalOf } from './routes/edge.ts';
import { type Health, healthRoute } from './routes/health.ts';
import type { Load } from './routes/load.ts';
import type { Rooms } from './routes/rooms.ts';

/** How long a client may take to send a request, and its headers, in ms; and how often that is looked after. */
const requestTimeout = 30_000;
const headersTimeout = 10_000;
const connectionsCheckingInterval = 2000;

/** Connections at a time, idle ones and WebSockets included; further ones are closed at once. */
const maxConnections = 4096;

/** How long, in ms beyond the longest wait for a task, a connection may stand still before it counts as dead. */
const stillness = 90_000;

/** UPIDs and volume ids are longer than what Fastify takes for a parameter. */
const maxParamLength = 1024;

/** What the server knows of itself. */
export interface Condition {
  readonly load: Load;
  readonly health: () => Health;
}

/** The server with all its surfaces; it does not listen yet. */
export function buildApp(
  { application, limits, taskWait }: Config,
  rooms: Rooms,
  { load, health }: Condition,
): FastifyInstance {
  const loggerInstance: FastifyBaseLogger = rooms.log;
  const app = Fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytes,
    trustProxy: [...application.trustedProxies],
    requestTimeout,
    connectionTimeout: taskWait * 1000 + stillness,
    http: { headersTimeout, connectionsCheckingInterval, shouldUpgradeCallback: wantsWebSocket },
    // The guard says it in our words.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    routerOptions: { caseSensitive: false, ignoreTrailingSlash: true, maxParamLength },
    frameworkErrors: sayError,
  });
  app.server.maxConnections = maxConnections;
  app.setErrorHandler(sayError);
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ error: plainText(`There is no ${request.method} ${pathOf(request)}`) }),
  );
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
  });
  app.addHook('onResponse', async (request, reply) => {
    const ms = Math.round(reply.elapsedTime);
    request.log.debug({ method: request.method, path: pathOf(request), status: reply.statusCode, ms }, 'answered');
  });
  allowOrigins(app, application.corsOrigins);
  healthRoute(app, health);
  app.register(async (surfaces) => {
    load.guard(surfaces, rooms.stopping);
    surfaces.register((api) => aasRoutes(api, rooms), { prefix: '/api' });
  });
  return app;
}

/** Requests that offer another protocol than WebSocket, such as HTTP/2, are served as if they did not. */
function wantsWebSocket({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket';
}

function sayError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const { status, message, headers } = refusalOf(error);
  if (status === 500) request.log.error({ err: error }, 'an error of ours');
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
