/** How calls reach PVE: which host, which connection, and what is known when no answer comes. */

import { UpstreamUnreachableError } from '../errors.ts';
import { type Answer, type Call, type Credential, describeCall, type Upstream } from './call.ts';
import { Deadline } from './deadline.ts';
import { ConnectError, failure, type Host, Hosts, type HostsOptions } from './hosts.ts';
import { inTurn, ownClient } from './in-turn.ts';
import { type WireRequest, wireRequest } from './request.ts';
import { Slots } from './slots.ts';
import { partyOf } from './ticket.ts';
import type { UpstreamSettings } from './upstream-settings.ts';

export interface UpstreamOptions extends HostsOptions {
  /** When it aborts, every call under way is given up; whether PVE acted on it is unknown. */
  readonly giveUp?: AbortSignal;
}

const never = new AbortController().signal;

/** What PVE has for download: an answer, but none to be read as a whole. */
const files = /^(?:text\/plain|application\/octet-stream)/;

/** Calls of a kind that may wait for a connection before further ones are refused. */
const queue = 1000;

/** Starts to talk to PVE by these hosts; throws when the file of the certificate authority cannot be read. */
export function createUpstream(
  settings: UpstreamSettings,
  options: UpstreamOptions,
  hosts: Hosts = new Hosts(settings, options),
): Upstream {
  return new PveUpstream(settings, options, hosts);
}

class PveUpstream implements Upstream {
  readonly #hosts: Hosts;
  readonly #deadlines: UpstreamSettings['deadlines'];
  /** Nobody who calls may take more than half of the connections, however slowly PVE answers them. */
  readonly #reads: Slots;
  readonly #writes: Slots;
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #giveUp: AbortSignal;

  constructor({ deadlines, connections }: UpstreamSettings, { giveUp = never }: UpstreamOptions, hosts: Hosts) {
    this.#hosts = hosts;
    this.#deadlines = deadlines;
    const share = Math.ceil(connections / 2);
    this.#reads = new Slots(connections, queue, share);
    this.#writes = new Slots(connections, queue, share);
    this.#giveUp = giveUp;
  }

  async send(call: Call, as: Credential): Promise<Answer> {
    const answer = this.#send(call, wireRequest(call, as, this.#hosts.serviceToken), partyOf(as));
    this.#underWay.add(answer);
    try {
      return await answer;
    } finally {
      this.#underWay.delete(answer);
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    await this.#hosts.close();
  }

  async #send(call: Call, request: WireRequest, party: string | undefined): Promise<Answer> {
    const isRead = call.method === 'GET';
    const slots = isRead ? this.#reads : this.#writes;
    const time = isRead ? this.#deadlines.read : this.#deadlines.write;
    const deadline = new Deadline(time, this.#giveUp);
    // A write that has waited half its time is not sent any more, since PVE would have too little left to answer.
    const patience = isRead ? deadline : new Deadline(time / 2);
    const busy = `PVE is busy with other ${isRead ? 'reads' : 'changes'}; ${describeCall(call)} was not sent. Try again later.`;
    try {
      if (slots.isFullFor(party)) throw new UpstreamUnreachableError(busy);
      return await slots.run(() => this.#inTurn(call, request, deadline.signal), patience.signal, party);
    } catch (error) {
      throw error === patience.signal.reason ? new UpstreamUnreachableError(busy) : error;
    } finally {
      deadline.end();
      patience.end();
    }
  }

  #inTurn(call: Call, request: WireRequest, deadline: AbortSignal): Promise<Answer> {
    return inTurn(this.#hosts, {
      repeatable: call.method === 'GET',
      isOver: () => deadline.aborted,
      attempt: (host, repeated) => this.#attempt(host, call, request, deadline, repeated),
    });
  }

  /** One request to one host. Writes and repeated reads have a connection of their own, since a kept one may be closing. */
  async #attempt(
    host: Host,
    call: Call,
    request: WireRequest,
    deadline: AbortSignal,
    repeated: boolean,
  ): Promise<Answer> {
    const fresh = call.method !== 'GET' || repeated;
    let connected = false;
    const dispatcher = fresh
      ? ownClient(this.#hosts, host, this.#hosts.client, () => {
          connected = true;
        })
      : host.pool;
    try {
      const asked = { ...request, signal: deadline, reset: fresh };
      const { statusCode: status, statusText, headers, body } = await dispatcher.request(asked);
      if (call.method === 'GET' && status === 200 && files.test(String(headers['content-type']))) {
        await body.dump();
        return { status: 501, reason: 'PVE answers with a file, which is passed on below /api2 alone', data: null };
      }
      const answer = readAnswer(status, statusText, await body.text());
      this.#hosts.consoles.note(call, answer, host);
      return answer;
    } catch (error) {
      const sent = fresh ? connected : !(error instanceof ConnectError);
      throw failure(error, `${describeCall(call)} at ${host.address}`, { sent, late: deadline.aborted });
    } finally {
      if (fresh) await dispatcher.destroy();
    }
  }
}

/** What an HTTP response says; throws an Error when it is not what PVE would send. */
export function readAnswer(status: number, phrase: string, text: string): Answer {
  const body = text === '' && status >= 400 ? {} : parseObject(text);
  if (body === null) throw new Error(`it answered ${status} with something else than PVE's JSON`);
  const { data = null, errors, ...extra } = body;
  const said = typeof extra.message === 'string' ? extra.message.trim() : '';
  return {
    status,
    // A phrase that is not UTF-8 has lost its letters; PVE repeats it in the body since 8.3.
    reason: (phrase === '' || phrase.includes('\uFFFD')) && said !== '' ? said : phrase,
    data,
    ...(isTexts(errors) ? { errors } : {}),
    ...(Object.keys(extra).length > 0 ? { extra } : {}),
  };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

function isTexts(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && Object.values(value).every((item) => typeof item === 'string');
}
