/** Consoles of guests and nodes: a port that waits for one connection, and what is spoken over it. */

import type { Duplex } from 'node:stream';
import type { Access } from './access.ts';
import { authUser, type Caller } from './call.ts';
import type { Guest } from './model.ts';
import { PveError } from './pve-error.ts';
import type { Tasks } from './tasks.ts';
import { converse } from './web-socket.ts';

const firstPort = 5900;
const lastPort = 5999;
/** How long a port waits for its connection, in ms. */
const patience = 10_000;

interface Console {
  readonly kind: 'vnc' | 'terminal';
  /** The guest; absent: the node itself. */
  readonly vmid: number | undefined;
  readonly upid: string;
  /** What a terminal has to be told first. */
  readonly login: string;
  readonly timer: NodeJS.Timeout;
  socket?: Duplex;
}

/** What consoles need of their cluster. */
interface Surroundings {
  readonly access: Access;
  readonly tasks: Tasks;
  readonly guests: ReadonlyMap<number, Guest>;
}

/** Who asks for a console, and the node that it is on. */
interface Asker {
  readonly cluster: Surroundings;
  readonly node: string;
  readonly caller: Caller;
}

/** What a client needs to connect. */
export interface Offer {
  readonly user: string;
  readonly ticket: string;
  readonly port: number;
  readonly upid: string;
}

export class Consoles {
  readonly #byPort = new Map<number, Console>();

  /** How many connections are open. */
  get open(): number {
    return [...this.#byPort.values()].filter(({ socket }) => socket !== undefined).length;
  }

  /**
   * Lets a port wait for one connection to the guest, or to the node where none is given. A task runs from now until
   * that connection ends or has not come in time; who stops the task cuts the connection.
   */
  offer({ cluster, node, caller }: Asker, kind: Console['kind'], vmid?: number): Offer {
    const port = this.#freePort();
    const user = authUser(caller);
    const { access, tasks } = cluster;
    const path = vmid === undefined ? `/nodes/${node}` : `/vms/${vmid}`;
    const ticket = access.tickets.issueVnc({ authid: user, path, port }, access.seconds);
    const upid = tasks.start({
      node,
      type: vmid === undefined ? 'vncshell' : 'vncproxy',
      id: vmid === undefined ? '' : String(vmid),
      caller,
      pace: 'by hand',
      run: () => {
        const { socket } = this.#take(port) ?? {};
        if (socket === undefined) throw new PveError(500, 'connection timed out');
        socket.destroy();
      },
      abandon: () => this.#take(port)?.socket?.destroy(),
    });
    const timer = setTimeout(() => this.#giveUp(cluster, port), patience).unref();
    this.#byPort.set(port, { kind, vmid, upid, login: `${user}:${ticket}\n`, timer });
    return { user, ticket, port, upid };
  }

  /** Connects a WebSocket to the port; one that nobody waits at, or whose guest does not run, is closed. */
  connect({ tasks, guests }: Surroundings, port: number, socket: Duplex): void {
    const waiting = this.#byPort.get(port);
    const isUp = waiting?.vmid === undefined || guests.get(waiting.vmid)?.status === 'running';
    if (waiting === undefined || waiting.socket !== undefined || !isUp) {
      socket.destroy();
      return;
    }
    waiting.socket = socket;
    const ended = () => tasks.finish(waiting.upid);
    if (waiting.kind === 'vnc') {
      converse(socket, { greeting: Buffer.from('RFB 003.008\n'), answer: (data) => data, ended });
    } else {
      converse(socket, { answer: terminal(waiting.login), ended });
    }
  }

  #giveUp({ tasks }: Pick<Surroundings, 'tasks'>, port: number): void {
    const waiting = this.#byPort.get(port);
    if (waiting !== undefined && waiting.socket === undefined) tasks.finish(waiting.upid);
  }

  #freePort(): number {
    for (let port = firstPort; port <= lastPort; port++) if (!this.#byPort.has(port)) return port;
    throw new PveError(500, `unable to find free port (${firstPort}-${lastPort})`);
  }

  #take(port: number): Console | undefined {
    const taken = this.#byPort.get(port);
    clearTimeout(taken?.timer);
    this.#byPort.delete(port);
    return taken;
  }
}

/** Wants to be told user and ticket first; from then on it says what it hears. */
function terminal(login: string): (data: Buffer) => Buffer | undefined {
  let isLoggedIn = false;
  return (data) => {
    if (isLoggedIn) return data;
    isLoggedIn = data.toString() === login;
    return isLoggedIn ? Buffer.from('OK') : undefined;
  };
}
