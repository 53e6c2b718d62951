import { once } from 'node:events';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { expect, test } from 'vitest';
import { shareConnections } from '../../../src/routes/connections.ts';
import { until } from '../../support/site.ts';

test('a connection that was reset before it was taken, and so has no address, is closed unread', () => {
  const server = createServer();
  shareConnections(server, 8, () => false);
  const gone = new Socket();
  server.emit('connection', gone);
  expect(gone.destroyed).toBe(true);
});

test('one place has a quarter of the connections, and gets new ones when old ones end; web servers in front have all', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  shareConnections(server, 8, (address) => address === '127.0.0.9');
  const { port } = server.address() as AddressInfo;
  const all: Socket[] = [];
  const open = (localAddress: string) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress }).on('error', () => {});
    all.push(socket);
    return socket;
  };
  const isClosed = async (socket: Socket) => {
    await new Promise((resolve) => socket.once('close', resolve).resume());
    return true;
  };
  const connections = () =>
    new Promise<number>((resolve, reject) => server.getConnections((error, n) => (error ? reject(error) : resolve(n))));
  try {
    const first = open('127.0.0.1');
    open('127.0.0.1');
    await until('both are there', async () => (await connections()) === 2);
    expect(await isClosed(open('127.0.0.1'))).toBe(true);
    for (const _ of [1, 2, 3]) open('127.0.0.9');
    open('127.0.0.2');
    await until('all others are there', async () => (await connections()) === 6);

    first.destroy();
    await until('it has gone', async () => (await connections()) === 5);
    open('127.0.0.1');
    await until('another has come', async () => (await connections()) === 6);
  } finally {
    for (const socket of all) socket.destroy();
    server.close();
  }
});
