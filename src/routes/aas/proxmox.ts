/** PVE's own API for the dashboards: the same calls and the same gate as everywhere, in the dashboards' words. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Answer, type Call, succeeded } from '../../pve/call.ts';
import { rowsIn } from '../../pve/rows.ts';
import { answerTo } from '../answering.ts';
import type { Origins } from '../caller.ts';
import { plainText } from '../edge.ts';
import { readCall, requireKnownForm } from '../reading.ts';
import { answerToUpload, readUploadCall, uploadRoute } from '../upload.ts';
import { reasonOf, refusedStatus } from './reply.ts';
import type { Surface } from './surface.ts';

/** `/proxmox/*`. */
export function proxmoxRoutes({ app, rooms, identify }: Surface, origins: Origins): void {
  app.register(async (proxmox) => {
    proxmox.removeAllContentTypeParsers();
    proxmox.addContentTypeParser('*', { parseAs: 'buffer' }, async (_request: FastifyRequest, body: Buffer) => body);
    proxmox.addHook('onRequest', async (request) => requireKnownForm(request));
    uploadRoute(proxmox, '/proxmox', async (request, reply) => {
      const call = readUploadCall(request, targetOf(request));
      return sayAnswer(call, await answerToUpload(rooms, call, request, identify), reply);
    });
    proxmox.route({
      method: ['GET', 'POST', 'PUT', 'DELETE'],
      url: '/proxmox/*',
      handler: async (request, reply) => {
        const call = readCall(request, targetOf(request));
        return sayAnswer(call, await answerTo(rooms, call, request, { origins, identify }), reply);
      },
    });
  });
}

function targetOf({ url }: FastifyRequest): string {
  return /^.*?\/proxmox(\/.*)$/is.exec(url)?.[1] ?? '';
}

function sayAnswer(asked: Call, answer: Answer, reply: FastifyReply): FastifyReply {
  const { data = null, extra, errors } = answer;
  if (succeeded(answer)) return reply.code(200).send({ ...extra, data: shown(asked, data) });
  const body = { ...extra, ...(errors === undefined ? {} : { errors }), data };
  return reply.code(refusedStatus(answer)).send({ ...body, error: plainText(reasonOf(answer)) });
}

/** In the list of tasks dashboards take every id for a vmid, and show nothing at all when one is another thing. */
function shown({ segments }: Call, data: unknown): unknown {
  if (segments.join('/') !== 'cluster/tasks') return data;
  return rowsIn(data)?.filter(({ id }) => /^\d+$/.test(String(id))) ?? data;
}
