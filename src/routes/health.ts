/** Whether the server can do its work, for whoever watches over it. */

import type { FastifyInstance } from 'fastify';

/** What is known of the server itself; asking costs nothing and asks nobody. */
export interface Health {
  /** Why nothing can be decided yet, or any more. */
  readonly unready: string | undefined;
  /** What keeps it from doing all of its work, though it serves. */
  readonly problem: string | undefined;
}

/** `GET /healthz`, for anybody: 200 when the server decides about changes, else 503 with the reason. */
export function healthRoute(app: FastifyInstance, health: () => Health): void {
  app.get('/healthz', async (_request, reply) => {
    const { unready, problem } = health();
    reply.header('cache-control', 'no-store');
    if (unready === undefined)
      return problem === undefined ? { status: 'ok', ready: true } : { status: 'degraded', ready: true, problem };
    reply.code(503).header('retry-after', '2');
    return { status: 'unready', ready: false, error: unready };
  });
}
