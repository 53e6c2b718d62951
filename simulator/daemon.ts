/** The listening side of the simulated cluster: it can be stopped, paused and started again while the cluster lives on. */

import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { App } from './app.ts';
import type { Certificate } from './certificate.ts';

export interface Address {
  readonly host: string;
  /** 0: any free one, which is then kept. */
  readonly port: number;
  /** Absent: plain HTTP. */
  readonly certificate?: Certificate;
}

const keepAliveTimeout = 5000;
// PVE's limit is lower; a request over it is to be refused in PVE's words, not in Node's.
const maxHeaderSize = 64 * 1024;

export class Daemon {
  readonly #app: App;
  readonly #address: Address;
  #port: number;
  #server: Server | undefined;
  #paused: PromiseWithResolvers<void> | undefined;
  /** Connections that the server has let go of. */
  readonly #upgraded = new Set<Socket>();

  constructor(address: Address, app: App) {
    this.#address = address;
    this.#port = address.port;
    this.#app = app;
  }

  /** Where it listens; the same after every start. */
  get port(): number {
    return this.#port;
  }

  /** Listens; rejects when the port is taken. */
  async start(): Promise<void> {
    if (this.#server) return;
    const server = this.#newServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(this.#port, this.#address.host, resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Breaks off every connection and listens no more; what has not acted yet never will. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.resume();
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    for (const socket of this.#upgraded) socket.destroy();
    await closed;
  }

  /** Takes requests and answers none, until `resume`. */
  pause(): void {
    this.#paused ??= Promise.withResolvers();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  async #serve(server: Server, request: IncomingMessage, response: ServerResponse): Promise<void> {
    await this.#paused?.promise;
    const isAlive = () => server === this.#server;
    if (isAlive()) await this.#app(request, response, isAlive);
  }

  /** A request that wants another protocol is answered like any other, on a connection that ends with it. */
  #serveUpgrade(server: Server, request: IncomingMessage, socket: Socket, head: Buffer): void {
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket)).on('error', () => socket.destroy());
    if (head.length > 0) socket.unshift(head);
    const response = new ServerResponse(request);
    response.assignSocket(socket);
    response.once('finish', () => socket.end());
    void this.#serve(server, request, response);
  }

  #newServer(): Server {
    const { certificate } = this.#address;
    const options = { keepAliveTimeout, maxHeaderSize };
    const server: Server = certificate
      ? createTlsServer({ ...options, key: certificate.key, cert: certificate.certificate })
      : createServer(options);
    return server
      .on('request', (request, response) => void this.#serve(server, request, response))
      .on('upgrade', (request, socket, head) => this.#serveUpgrade(server, request, socket as Socket, head));
  }
}
