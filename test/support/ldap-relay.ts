/** A TCP port in front of an LDAP server's socket, which can go wrong in every way that a network or a server can. */

import { connect, createServer as createTcpServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { type Listening, listening } from './listening.ts';

export type RelayTrouble = 'never' | 'reset' | 'half' | 'endless' | 'html' | 'nothing' | 'nonsense';

export interface LdapRelay extends AsyncDisposable {
  readonly url: string;
  /** Connections so far. */
  readonly connections: number;
  /** What is done to whoever says something, instead of passing it on. */
  trouble: RelayTrouble | undefined;
  /** Ends all connections, and listens on. */
  cut(): void;
  /** Stops listening, and listens again at the same port. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

export interface RelayOptions {
  /** Where an LDAP server listens. */
  readonly socket: string;
  /** Speaks TLS with its clients, as `ldaps` does. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export async function startLdapRelay({ socket, tls }: RelayOptions): Promise<LdapRelay> {
  const accept = (client: Socket): void => {
    const server = connect(socket).on('error', () => client.destroy());
    server.on('data', (chunk) => client.write(chunk)).on('close', () => client.destroy());
    client.on('close', () => server.destroy()).on('error', () => {});
    client.on('data', (chunk) => {
      if (relay.trouble === undefined) server.write(chunk);
      else troubles[relay.trouble](client);
    });
  };
  const scheme = tls === undefined ? 'ldap' : 'ldaps';
  const listen = (port?: number): Promise<Listening> => {
    const server = tls === undefined ? createTcpServer(accept) : createTlsServer(tls, accept);
    return listening(server, scheme, port);
  };
  let listens: Listening | undefined = await listen();
  let before = 0;
  const { url } = listens;
  const relay: LdapRelay = {
    url,
    get connections() {
      return before + (listens?.connections ?? 0);
    },
    trouble: undefined,
    cut: () => listens?.cut(),
    async stop() {
      before += listens?.connections ?? 0;
      await listens?.[Symbol.asyncDispose]();
      listens = undefined;
    },
    async start() {
      listens ??= await listen(Number(new URL(url).port));
    },
    [Symbol.asyncDispose]: () => relay.stop(),
  };
  return relay;
}

const troubles: Readonly<Record<RelayTrouble, (client: Socket) => void>> = {
  never: () => {},
  reset: (client) => client.destroy(),
  half: (client) => {
    client.write(Buffer.from([0x30, 0x20, 0x02, 0x01]));
    setTimeout(() => client.destroy(), 20);
  },
  endless: (client) => {
    client.write(Buffer.from([0x30, 0x84, 0x00, 0x0f, 0xff, 0xff]));
    const go = (): void => {
      while (!client.destroyed && client.write(Buffer.from('30050201ff6100'.repeat(4096), 'hex')));
    };
    client.on('drain', go);
    go();
  },
  html: (client) => client.write('<h1>Welcome to nginx!</h1>'),
  nothing: (client) => client.end(),
  nonsense: (client) => client.write(Buffer.from([0x30, 0x05, 0x30, 0x7f, 0x02, 0x01, 0x01])),
};
