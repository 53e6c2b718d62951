/** The WebSockets of consoles: the caller's own, joined to the one at PVE. */

import type { createConnection } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { WebSocket } from 'ws';
import { policyFor } from '../../admission/policies/index.ts';
import { BadRequestError, ForbiddenError } from '../../errors.ts';
import { type Answer, type Call, type Credential, describeCall, succeeded } from '../../pve/call.ts';
import { subprotocol } from '../../pve/console.ts';
import { ConnectError, failure, type Host, type Hosts } from '../../pve/hosts.ts';
import { wireRequest } from '../../pve/request.ts';
import { identifyAsPve, nameOf, type Origins, requireSameOrigin } from '../caller.ts';
import { readCall } from '../reading.ts';
import type { Rooms } from '../rooms.ts';
import type { Arrival } from '../web-sockets.ts';
import { ConsoleSockets, type OpenUpstream } from './console-sockets.ts';
import { spokenAnswer, spokenError } from './reply.ts';

/** How long PVE may take to open its side, in ms. */
const handshakeTimeout = 10_000;

/** PVE's ports for consoles. */
const ports = { first: 5900, last: 5999 } as const;

/** Where a call's path begins when it may be that of a console's WebSocket. */
const address = /^\/(?:api2\/(?:json|extjs)|api\/proxmox)(?=\/\S*\/vncwebsocket$)/;

/** PVE did not open its side; its answer is the caller's. */
class ConsoleRefusal extends Error {
  override readonly name = 'ConsoleRefusal';
  readonly answer: Answer;

  constructor(answer: Answer) {
    super(answer.reason);
    this.answer = answer;
  }
}

/** `.../vncwebsocket` of guests and nodes, below each prefix at which PVE's own API is offered. */
export function consoleRoutes(app: FastifyInstance, rooms: Rooms, origins: Origins): void {
  const { config, sessions, directory, hosts, log } = rooms;
  /** Whom PVE takes them for, if their own backend lets them go on. */
  const identify = async (credential: Credential) => {
    const user = await sessions.identify(credential);
    await directory.mustAdmit(nameOf(user));
    return user;
  };
  const consoles = new ConsoleSockets({ limits: config.limits.consoles, sessions: { identify } });
  rooms.sockets.add({
    isAt: (path) => address.test(path),
    accept,
    refusal: (error) => {
      if (error instanceof ConsoleRefusal) return spokenAnswer('json', error.answer);
      const spoken = spokenError('json', error);
      if (spoken.status >= 500) log.warn({ err: error }, 'a console was not opened');
      return spoken;
    },
    held: consoles,
  });
  app.addHook('preClose', () => consoles.close());

  async function accept(arrival: Arrival): Promise<void> {
    const { headers, url = '' } = arrival.request;
    const asked = readCall(
      { method: 'GET', headers, body: undefined },
      url.replace(/^\/(?:api2\/[a-z]+|api\/proxmox)/, ''),
    );
    const ticket = ticketOf(asked);
    // Whatever else browsers say of a WebSocket's page, they always say its origin; without cookies it has no rights.
    if (headers.cookie !== undefined) requireSameOrigin({ origin: headers.origin, host: headers.host }, origins);
    const caller = await identifyAsPve({ method: 'GET', headers, ip: arrival.ip }, rooms, origins);
    await consoles.accept(arrival, caller, openerAt(hosts, hostOf(hosts, ticket), asked, caller.credential));
    log.info({ user: caller.user, call: describeCall(asked) }, 'a console was opened');
  }
}

/** The ticket that a call for a console's WebSocket shows; throws what is wrong with the call. */
function ticketOf(asked: Call): string {
  if (policyFor(asked)?.policy.class !== 'console')
    throw new ForbiddenError(`${describeCall(asked)} is not the address of a console`);
  const { port, vncticket } = asked.params;
  const isPort =
    typeof port === 'string' && /^\d{4}$/.test(port) && Number(port) >= ports.first && Number(port) <= ports.last;
  const faults = [
    ...(isPort
      ? []
      : [{ field: 'port', problem: `expected the port that POST .../vncproxy gave, ${ports.first} to ${ports.last}` }]),
    ...(typeof vncticket === 'string' && vncticket !== ''
      ? []
      : [{ field: 'vncticket', problem: 'expected the ticket that POST .../vncproxy gave' }]),
  ];
  if (faults.length > 0 || typeof vncticket !== 'string') throw new BadRequestError(faults);
  return vncticket;
}

/** The host that made the ticket; where there is one host alone, that one, and PVE says what it thinks of the ticket. */
function hostOf(hosts: Hosts, ticket: string): Host {
  const [first, second] = hosts.inOrder();
  const host = hosts.consoles.hostOf(ticket) ?? (second === undefined ? first : undefined);
  if (host !== undefined) return host;
  const problem =
    'it was not made through this server within the last minute; ask for a new one with POST .../vncproxy or .../termproxy';
  throw new BadRequestError({ field: 'vncticket', problem });
}

/** Node lets a request open its connection in its own time. */
type Dial = (options: unknown, done: Parameters<Hosts['dial']>[1]) => void;

/** Opens the WebSocket at that host, with the caller's own credential. */
function openerAt(hosts: Hosts, host: Host, asked: Call, as: Credential): OpenUpstream {
  const { path, headers } = wireRequest(asked, as, hosts.serviceToken);
  return (side, gone) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`${host.origin.replace(/^http/, 'ws')}${path}`, subprotocol, {
        ...side,
        headers,
        handshakeTimeout,
        createConnection: ((_, done) => hosts.dial(host, done)) satisfies Dial as unknown as typeof createConnection,
      });
      const where = `${describeCall(asked)} at ${host.address}`;
      const giveUp = () => socket.terminate();
      gone.addEventListener('abort', giveUp);
      // Once it stands, an error is followed by its end.
      socket.on('error', (error) => {
        const sent = !(error instanceof ConnectError);
        if (!sent) hosts.avoid(host, error);
        reject(failure(error, where, { sent, late: false }));
      });
      socket.once('unexpected-response', (request, { statusCode = 0, statusMessage = '' }) => {
        request.destroy();
        const answer = { status: statusCode, reason: statusMessage, data: null };
        reject(
          succeeded(answer)
            ? failure(new Error('it did not become a WebSocket'), where, { sent: true, late: false })
            : new ConsoleRefusal(answer),
        );
      });
      socket.once('open', () => {
        gone.removeEventListener('abort', giveUp);
        socket.pause();
        resolve(socket);
      });
    });
}
