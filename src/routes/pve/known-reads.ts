/** Reads of callers whom PVE has just confirmed, taken before Fastify sees them: nothing of it is needed on their way. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { withoutRepeats } from '../answering.ts';
import { credentialOf } from '../caller.ts';
import type { AddressOf } from '../client-address.ts';
import { type Load, onceOver } from '../load.ts';
import { readCall } from '../reading.ts';
import { remembering } from '../remembering.ts';
import type { Rooms } from '../rooms.ts';
import { readTarget } from './reading.ts';
import { handOver, isLifted, plainRead, type Read, takesGzip } from './relay.ts';
import { linesOfEveryAnswer } from './reply.ts';

/** Fastify matches no longer ones. */
const longestUrl = 1024;

/** Addresses whose reading is kept. */
const most = 1000;

/**
 * Answers what needs no more than a place, a credential that PVE has confirmed in the last seconds, and a row that passes
 * the read on. All else goes on to Fastify untouched; so does what PVE refuses, with the refusal, for it to be said there.
 */
export function takeKnownReads(
  server: Server,
  rooms: Pick<Rooms, 'directory' | 'gate' | 'relay' | 'sessions' | 'stopping'>,
  load: Load,
  addressOf: AddressOf,
): void {
  const readFor = remembering(most, readOf);
  const asksAbout = remembering(most, (realm) => rooms.directory.asksAbout(realm));
  const onward = server.listeners('request') as ((request: IncomingMessage, response: ServerResponse) => void)[];
  server.removeAllListeners('request');
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const goOn = () => {
      for (const listener of onward) listener.call(server, request, response);
    };
    const known = knownRead(request);
    if (known === undefined) return goOn();
    const { read, user, credential, leave } = known;
    const stay = onceOver(request, response, leave);
    const outcome = rooms.relay.read(
      { call: read.call, user, as: credential, format: 'json', gzip: takesGzip(request.headers['accept-encoding']) },
      { response, begin: (headers) => void response.writeHead(200, 'OK', [...headers, ...linesOfEveryAnswer()]) },
    );
    const refused = () => {
      stay();
      leave();
      handOver(request, outcome);
      goOn();
    };
    outcome.then((answer) => answer === null || refused(), refused);
  });

  function knownRead({ method, url = '', headers, socket }: IncomingMessage) {
    if (method !== 'GET' || !url.startsWith('/api2/json/') || url.length > longestUrl || rooms.stopping.aborted)
      return undefined;
    if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) return undefined;
    const credential = credentialOf(headers);
    const user = credential === null ? undefined : rooms.sessions.known(credential);
    if (credential === null || credential.kind === 'service' || user === undefined) return undefined;
    // Another backend than PVE may have cut the user off.
    if (asksAbout(user.slice(user.lastIndexOf('@') + 1))) return undefined;
    const read = url.includes('?') ? readOf(url) : readFor(url);
    if (read === undefined || isLifted(rooms.gate, read, user)) return undefined;
    const leave = load.place(addressOf(socket.remoteAddress ?? '', headers['x-forwarded-for']), user);
    return leave && { read, user, credential, leave };
  }
}

/** The read that an address asks for; undefined when it is another call, or none. */
function readOf(url: string): Read | undefined {
  try {
    const { target } = readTarget(url);
    return plainRead(withoutRepeats(readCall({ method: 'GET', headers: {}, body: undefined }, target)));
  } catch {
    // Said by the route that finds the same fault.
    return undefined;
  }
}
