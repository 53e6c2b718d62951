/** PVE's own API, as any PVE client speaks it: every call is read as PVE reads it and passes the gate. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { NotFoundError } from '../../errors.ts';
import { answerTo, withoutRepeats } from '../answering.ts';
import { identifyAsPve, type Origins, type Sender } from '../caller.ts';
import { logLevelOf } from '../edge.ts';
import { readCall, requireKnownForm } from '../reading.ts';
import type { Rooms } from '../rooms.ts';
import { answerToUpload, readUploadCall, uploadRoute } from '../upload.ts';
import { consoleRoutes } from './console.ts';
import { formatFor, readTarget } from './reading.ts';
import { plainRead, relay } from './relay.ts';
import { say, spokenAnswer, spokenError } from './reply.ts';

/** Everything below `/api2`. */
export async function pveRoutes(app: FastifyInstance, rooms: Rooms): Promise<void> {
  const { hostname, corsOrigins } = rooms.config.application;
  const origins: Origins = { hostname, corsOrigins };
  const identify = (sender: Sender) => identifyAsPve(sender, rooms, origins);

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (_request: FastifyRequest, body: Buffer) => body);
  app.addHook('onRequest', (request, _reply, done) => {
    requireKnownForm(request);
    done();
  });
  app.setErrorHandler(sayPveError);
  app.setNotFoundHandler((request, reply) => sayPveError(new NotFoundError('no such uri'), request, reply));

  consoleRoutes(app, rooms, origins);
  uploadRoute(app, '/:format', async (request, reply) => {
    const { format, target } = readTarget(request.url);
    return say(
      reply,
      spokenAnswer(format, await answerToUpload(rooms, readUploadCall(request, target), request, identify)),
    );
  });
  app.all('/*', async (request, reply) => {
    const { format, target } = readTarget(request.url);
    const call = withoutRepeats(readCall(request, target));
    const read = plainRead(call);
    const answer =
      read === undefined
        ? await answerTo(rooms, call, request, { origins, identify })
        : await relay(rooms, read, format, request, reply);
    return answer === null ? reply : say(reply, spokenAnswer(format, answer));
  });
}

/** Says an error to a PVE client, in the format that it asked for. */
export function sayPveError(error: unknown, { url }: Pick<FastifyRequest, 'url'>, reply: FastifyReply): FastifyReply {
  const spoken = spokenError(formatFor(url), error);
  const level = logLevelOf(error);
  if (level !== undefined) reply.log[level]({ err: error }, 'a call failed');
  return say(reply, spoken);
}
