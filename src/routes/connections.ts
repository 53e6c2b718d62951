/** How many connections there may be, and how many of them from one place. */

import type { Server, Socket } from 'node:net';
import { count } from './load.ts';
import { networkOf } from './sign-in-limit.ts';

/**
 * Has the server keep so many connections at a time, idle ones and WebSockets included, and a quarter of them from one
 * network, so that none can keep the others out; further ones are closed at once. `isExempt` tells web servers in front,
 * whose connections are everybody's.
 */
export function shareConnections(server: Server, most: number, isExempt: (address: string) => boolean): void {
  server.maxConnections = most;
  const byNetwork = new Map<string, number>();
  // Each request that a client sends ahead of the answers watches it; over TLS it has a socket of its own.
  for (const event of ['connection', 'secureConnection'])
    server.on(event, (socket: Socket) => socket.setMaxListeners(0));
  server.on('connection', (socket) => {
    const { remoteAddress = '' } = socket;
    if (isExempt(remoteAddress)) return;
    const network = networkOf(remoteAddress);
    // One that was reset before it was taken comes from nowhere, and could still bring a request.
    if (remoteAddress === '' || (byNetwork.get(network) ?? 0) >= most / 4) {
      socket.destroy();
      return;
    }
    count(byNetwork, network, 1);
    socket.once('close', () => count(byNetwork, network, -1));
  });
}
