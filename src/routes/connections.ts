/** How many connections there may be, and how many of them from one place. */

import type { Server } from 'node:net';
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
  server.on('connection', (socket) => {
    // Each request that a client sends ahead of the answers watches it.
    socket.setMaxListeners(0);
    const { remoteAddress = '' } = socket;
    if (isExempt(remoteAddress)) return;
    const network = networkOf(remoteAddress);
    if ((byNetwork.get(network) ?? 0) >= most / 4) {
      socket.destroy();
      return;
    }
    count(byNetwork, network, 1);
    socket.once('close', () => count(byNetwork, network, -1));
  });
}
