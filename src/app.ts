/** The HTTP server as a whole: what holds for every surface. */

import { finished } from 'node:stream';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import type { Gate } from './admission/admit.ts';
import type { Inventory } from './admission/inventory.ts';
import type { Payers } from './admission/payers.ts';
import type { Directory } from './backends/directory.ts';
import type { Sessions } from './backends/sessions.ts';
import type { Config } from './config.ts';
import { NotReadyError } from './errors.ts';
import type { Upstream } from './pve/call.ts';
import type { Ledger } from './quota/ledger.ts';
import { aasRoutes } from './routes/aas/index.ts';
import { plainText, refusalOf } from './routes/edge.ts';
import type { SignInLimit } from './routes/sign-in-limit.ts';

/** What the surfaces work with. */
export interface Rooms {
  readonly config: Config;
  readonly version: string;
  readonly directory: Directory;
  readonly sessions: Sessions;
  readonly signInLimit: SignInLimit;
  readonly gate: Gate;
  readonly upstream: Upstream;
  readonly inventory: Inventory;
  readonly ledger: Ledger;
  readonly payers: Payers;
  readonly log: Logger;
  /** Aborts when the server begins to end: nobody waits for a task any more. */
  readonly stopping: AbortSignal;
}

/** How long a client may take to send one request, in ms. */
const requestTimeout = 30_000;

/** UPIDs and volume ids are longer than what Fastify takes for a parameter. */
const maxParamLength = 1024;

/** The server with all its surfaces; it does not listen yet. */
export function buildApp(rooms: Rooms): FastifyInstance {
  const { config, log } = rooms;
  const { application, limits } = config;
  const loggerInstance: FastifyBaseLogger = log;
  const app = Fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytes,
    trustProxy: [...application.trustedProxies],
    requestTimeout,
    exposeHeadRoutes: false,
    routerOptions: { caseSensitive: false, ignoreTrailingSlash: true, maxParamLength },
    frameworkErrors: sayError,
  });
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
  limitConcurrency(app, limits.concurrentRequests);
  app.register((api) => aasRoutes(api, rooms), { prefix: '/api' });
  return app;
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

/** Refuses requests beyond so many at a time, before anything is done for them. */
function limitConcurrency(app: FastifyInstance, most: number): void {
  let running = 0;
  app.addHook('onRequest', async (_request, reply) => {
    if (running >= most) throw new NotReadyError('The server is busy; try again in a moment', 1);
    running += 1;
    finished(reply.raw, () => {
      running -= 1;
    });
  });
}
