/** The simulated API daemon: from a request on the wire to a method of the cluster and back. */

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { splitTokenId } from './access.ts';
import {
  type Answer,
  answerOf,
  bareAnswer,
  downloadAnswer,
  errorOf,
  isFormat,
  reset,
  type Sending,
  send,
  sendLong,
} from './answer.ts';
import { authenticate, type Identity } from './authentication.ts';
import { authUser, type RawParameters, type Verb } from './call.ts';
import type { Cluster } from './cluster.ts';
import type { Fault, Faults } from './faults.ts';
import { Download, type MethodRow, Reply, Tunnel } from './method.ts';
import { demandPermission } from './permission.ts';
import { HttpRefusal, PveError } from './pve-error.ts';
import { mediaType, readApiPath, readTarget, type Target } from './reading.ts';
import { knownMethod, type Payload, readPayload } from './receiving.ts';
import type { LoggedRequest, RequestLog } from './request-log.ts';
import { createRouter, type Route } from './router.ts';
import { verifyParameters } from './schema.ts';
import { acceptance } from './web-socket.ts';

export interface AppOptions {
  readonly cluster: Cluster;
  readonly rows: readonly MethodRow[];
  readonly faults: Faults;
  readonly requests: RequestLog;
  /** How long a 401 takes, in ms: 3000 in PVE. */
  readonly unauthorizedDelay: number;
}

/** Answers one request and never rejects; `isAlive` tells whether the daemon that took it still runs. */
export type App = (request: IncomingMessage, response: ServerResponse, isAlive: () => boolean) => Promise<void>;

/** What becomes of a request: an answer, or one of the ways to fail a client. */
type Ending = Answer | Upgraded | { readonly instead: 'reset' | 'nothing' } | { readonly bytes: number };

/** The connection becomes a WebSocket. */
interface Upgraded {
  readonly acceptance: string;
  readonly serve: Tunnel['serve'];
}

/** A request that is well-formed and comes from somebody known, or from anybody where no login is asked for. */
interface Received extends Payload {
  readonly method: Verb;
  readonly format: string;
  /** What follows the format in the path. */
  readonly path: string;
  readonly identity: Identity;
  readonly headers: IncomingHttpHeaders;
  readonly isAlive: () => boolean;
}

const mostRequests = 100;

export function createApp({ cluster, rows, faults, requests, unauthorizedDelay }: AppOptions): App {
  const route = createRouter(rows);
  const served = new WeakMap<Socket, number>();

  return async (request, response, isAlive) => {
    const count = (served.get(request.socket) ?? 0) + 1;
    served.set(request.socket, count);
    const keepsOn = !/\b(close|upgrade)\b/i.test(request.headers.connection ?? '');
    const isForm = mediaType(request.headers['content-type']) === 'multipart/form-data';
    const sending: Sending = {
      acceptsGzip: /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? '')),
      keepAlive: count < mostRequests && keepsOn && !isForm,
    };
    const target = readTarget(request.url ?? '');
    const path = target === undefined ? '' : (readApiPath(target.path)?.rest ?? target.path);
    const logged = requests.add(cluster.now(), request.method ?? '', path);
    const ending = await endingOf(request, target, logged, isAlive);
    if ('status' in ending && ending.status === 401) await pause(unauthorizedDelay);
    if (response.destroyed) return;
    await finish(response, ending, sending);
    requests.update(logged, { status: statusOf(ending) });
  };

  async function endingOf(
    request: IncomingMessage,
    target: Target | undefined,
    logged: LoggedRequest,
    isAlive: () => boolean,
  ): Promise<Ending> {
    try {
      const method = knownMethod(request);
      if (target === undefined) throw new HttpRefusal(400, 'Bad Request');
      const api = readApiPath(target.path);
      if (api === undefined) return pageOutsideApi(method, target.path);
      const identity = authenticate(cluster.access, method, api.rest, request.headers);
      requests.update(logged, identityForLog(identity));
      const payload = await readPayload(request, method, identity, target);
      if (!isFormat(api.format)) throw new HttpRefusal(501, 'no such uri');
      // What runs as root is forwarded between the daemons, and that needs a path in the request line.
      if (target.isAbsolute && method !== 'GET') throw new HttpRefusal(400, 'Bad Request');
      requests.update(logged, { params: Object.fromEntries(payload.parameters) });
      const { headers } = request;
      return await act({ ...payload, method, format: api.format, path: api.rest, identity, headers, isAlive });
    } catch (error) {
      request.resume();
      return bareAnswer(error instanceof HttpRefusal ? error.status : 500, errorOf(error).message);
    }
  }

  async function act(received: Received): Promise<Ending> {
    const { method, format, path } = received;
    const found = route(method, path);
    if (found === undefined) {
      return answerOf(format, { error: new PveError(501, `Method '${method} ${path}' not implemented`) });
    }
    const fault = faults.take({ method, template: found.row.path, path, node: found.parameters.get('node') });
    const early = await beforeActing(fault, received);
    return early ?? afterActing(fault, format, await run(found, received, fault));
  }

  async function beforeActing(fault: Fault | undefined, { format, isAlive }: Received): Promise<Ending | undefined> {
    switch (fault?.kind) {
      case 'hang':
        return { instead: 'nothing' };
      case 'resetBefore':
        return { instead: 'reset' };
      case 'refuse':
        return answerOf(format, { error: new PveError(fault.status, fault.reason, fault.errors) });
      case 'delay':
        await pause(fault.ms);
        return isAlive() ? undefined : { instead: 'nothing' };
      default:
        return undefined;
    }
  }

  async function run(
    { row, parameters }: Route,
    received: Received,
    fault: Fault | undefined,
  ): Promise<Answer | Upgraded> {
    try {
      const { identity } = received;
      const all = withPath(received.parameters, parameters);
      demandTicket(row, identity);
      demandPermission(row.permissions, cluster.access, identity.caller, all);
      const node = nodeOf(row, parameters.get('node'), fault);
      const param = { ...verifyParameters(row, all), ...(parameters.has('node') && { node }) };
      const caller = identity.caller ?? { user: '' };
      const { upload } = received;
      const execute = () =>
        row.run({ cluster, caller, param, node, ...(upload && { upload }), ...(fault && { fault }) });
      const result = await cluster.tasks.failing(fault?.kind === 'taskFails' ? fault : undefined, execute);
      if (result instanceof Download) return downloadAnswer(result);
      if (result instanceof Tunnel) return tunnelEnding(result, received);
      return answerOf(received.format, { reply: result instanceof Reply ? result : new Reply(result, {}) });
    } catch (error) {
      if (error instanceof HttpRefusal) return bareAnswer(error.status, error.message);
      if (!(error instanceof PveError)) console.error(error);
      return answerOf(received.format, { error: errorOf(error) });
    }
  }

  /** The node that runs the call; every call for a node is forwarded to it, `localhost` being the one that was asked. */
  function nodeOf(row: MethodRow, named: string | undefined, fault: Fault | undefined): string {
    const asked = [...cluster.nodes.values()].find(({ online }) => online)?.name ?? '';
    const name = named === undefined || named === 'localhost' ? asked : named;
    if (!row.path.startsWith('/nodes/{node}/')) return name;
    const node = cluster.nodes.get(name);
    if (!node) throw new PveError(500, `hostname lookup '${name}' failed - failed to get address info for: ${name}`);
    if (!node.online || fault?.kind === 'nodeGone') throw new HttpRefusal(595, 'No route to host');
    return name;
  }
}

/** The web interface and its files. */
function pageOutsideApi(method: Verb, path: string): Answer {
  if (method !== 'GET' || path !== '/') return bareAnswer(404, `no such file '${path}'`);
  const body = Buffer.from('<!DOCTYPE html><title>simulated Proxmox VE</title>\n');
  return { status: 200, reason: 'OK', contentType: 'text/html', body };
}

/** A parameter in the path may be said again, in the same words. */
function withPath(sent: RawParameters, inPath: ReadonlyMap<string, string>): RawParameters {
  for (const [name, value] of inPath) {
    if (sent.get(name) !== undefined && sent.get(name) !== value) {
      throw new PveError(400, 'Parameter verification failed.', { [name]: 'duplicate parameter in request path' });
    }
  }
  return new Map([...sent, ...inPath]);
}

function demandTicket({ allowToken, method, path }: MethodRow, { hasToken }: Identity): void {
  if (allowToken !== false || !hasToken) return;
  throw new PveError(403, `Permission check failed ('${method} ${path}' needs a proper ticket, not an API token)`);
}

function identityForLog({ caller }: Identity): Pick<LoggedRequest, 'caller' | 'viaToken'> {
  const id = caller ? authUser(caller) : '';
  return { caller: id, viaToken: splitTokenId(id).token !== undefined };
}

/** Only a request for a WebSocket gets one; any other gets the data. */
function tunnelEnding({ data, serve }: Tunnel, { headers, format }: Received): Answer | Upgraded {
  if (headers.upgrade === undefined) return answerOf(format, { reply: new Reply(data, {}) });
  try {
    return { acceptance: acceptance(headers), serve };
  } catch (error) {
    throw new HttpRefusal(501, errorOf(error).message);
  }
}

function statusOf(ending: Ending): number {
  if ('status' in ending) return ending.status;
  if ('serve' in ending) return 101;
  return 'bytes' in ending ? 200 : 0;
}

function afterActing(fault: Fault | undefined, format: string, answer: Answer | Upgraded): Ending {
  if ('serve' in answer) return fault?.kind === 'resetAfter' ? { instead: 'reset' } : answer;
  switch (fault?.kind) {
    case 'refuseAfter':
      return answer.status >= 400
        ? answer
        : answerOf(format, { error: new PveError(fault.status, fault.reason, fault.errors) });
    case 'resetAfter':
      return { instead: 'reset' };
    case 'wrongJson':
      return { ...answer, body: Buffer.from('{"data":{"') };
    case 'otherData': {
      if (answer.status >= 400) return answer;
      const { data, ...more } = JSON.parse(answer.body.toString());
      return { ...answer, body: Buffer.from(JSON.stringify({ ...more, data: fault.data(data) })) };
    }
    case 'hugeAnswer':
      return { bytes: fault.bytes };
    case 'endlessAnswer':
      return { bytes: Number.POSITIVE_INFINITY };
    default:
      return answer;
  }
}

/** Takes the connection out of HTTP's hands. */
function hand(response: ServerResponse, { acceptance: head, serve }: Upgraded): void {
  const { socket } = response;
  if (socket === null) return;
  response.detachSocket(socket);
  socket.write(head);
  serve(socket);
}

async function finish(response: ServerResponse, ending: Ending, sending: Sending): Promise<void> {
  if ('status' in ending) send(response, ending, sending);
  else if ('bytes' in ending) await sendLong(response, ending.bytes);
  else if ('serve' in ending) hand(response, ending);
  else if (ending.instead === 'reset' && response.socket) reset(response.socket);
}
