/** PVE's own API for the dashboards: reads and power actions, with the caller's own rights. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import { admit } from '../../admission/admit.ts';
import { policyFor } from '../../admission/policies/index.ts';
import { BadRequestError, ForbiddenError } from '../../errors.ts';
import { type Answer, type Call, describeCall, type Method, type Params, succeeded } from '../../pve/call.ts';
import { plainText } from '../edge.ts';
import { reasonOf, refusedStatus } from './reply.ts';
import type { Surface } from './surface.ts';

/** `/proxmox/*`. */
export function proxmoxRoutes({ app, rooms, identify }: Surface): void {
  app.route({
    method: ['GET', 'POST', 'PUT', 'DELETE'],
    url: '/proxmox/*',
    handler: async (request, reply) => {
      const asked = callOf(request);
      // PVE looks at no credential here, so a stale one must not stand in the way of signing in.
      if (isPublic(asked)) return sayAnswer(asked, await rooms.upstream.send(asked, { kind: 'none' }), reply);
      const caller = await identify(request);
      const kind = policyFor(asked)?.policy.class;
      if (kind !== 'read' && kind !== 'power')
        throw new ForbiddenError(
          `${describeCall(asked)} is not offered here yet: only reads, starting and stopping pass through`,
        );
      const { answer } = await admit(rooms.gate, asked, caller);
      return sayAnswer(asked, answer, reply);
    },
  });
}

/** Paths that PVE answers before anybody has signed in. */
function isPublic({ method, segments }: Call): boolean {
  return method === 'GET' && segments.join('/') === 'access/domains';
}

/** The call in a request. PVE decodes the path before it splits it and lets the query override the body: so does this. */
function callOf({ method, url, query, body }: FastifyRequest): Call {
  const [, path = ''] = /^[^?]*?\/proxmox\/([^?]*)/i.exec(url) ?? [];
  const segments = decoded(path)
    .split('/')
    .filter((part) => part !== '');
  if (segments.some((part) => part === '.' || part === '..' || /\p{Cc}/u.test(part)))
    throw new BadRequestError({ field: 'path', problem: 'dot segments and control characters are not understood' });
  return { method: method as Method, segments, params: { ...paramsOf(body), ...paramsOf(query) } };
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new BadRequestError({ field: 'path', problem: 'its percent-encoding is broken' });
  }
}

function paramsOf(fields: unknown): Params {
  return Object.fromEntries(Object.entries(Object(fields ?? {}))) as Params;
}

function sayAnswer(asked: Call, answer: Answer, reply: FastifyReply): FastifyReply {
  const { data = null, extra, errors } = answer;
  if (succeeded(answer)) return reply.code(200).send({ ...extra, data: shown(asked, data) });
  const body = { ...extra, ...(errors === undefined ? {} : { errors }), data };
  return reply.code(refusedStatus(answer)).send({ ...body, error: plainText(reasonOf(answer)) });
}

/** In the list of tasks dashboards take every id for a vmid, and show nothing at all when one is another thing. */
function shown({ segments }: Call, data: unknown): unknown {
  if (segments.join('/') !== 'cluster/tasks' || !Array.isArray(data)) return data;
  return data.filter((task: { readonly id?: unknown }) => /^\d+$/.test(String(task.id)));
}
