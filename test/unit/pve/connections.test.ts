import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Connection, Connections, type ConnectionsOptions, type Exchange } from '../../../src/pve/connections.ts';
import { type Listening, listening } from '../../support/listening.ts';
import { until } from '../../support/site.ts';

interface Backend extends AsyncDisposable {
  readonly server: Listening;
  /** Paths in the order in which they were asked for. */
  readonly asked: string[];
  /** Connections open now. */
  readonly open: Set<Socket>;
}

/** A server that has each request answered by this, told the path and which request of its connection it is. */
async function backend(answer: (path: string, socket: Socket, nth: number) => void): Promise<Backend> {
  const open = new Set<Socket>();
  const asked: string[] = [];
  const tcp = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    let text = '';
    let nth = 0;
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
        const [, path = ''] = text.split(' ', 2);
        text = text.slice(end + 4);
        asked.push(path);
        nth += 1;
        answer(path, socket, nth);
      }
    });
  });
  const server = await listening(tcp, 'http');
  return { server, asked, open, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

const said = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const echo = (path: string, socket: Socket) => void socket.write(said(path));

const dialled = ({ server }: Backend, ...[onread, done]: Parameters<ConnectionsOptions['dial']>): Socket => {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(server.url).port), onread });
  return socket.once('error', (error) => done(error, null)).once('connect', () => done(null, socket));
};

function connectionsTo(pve: Backend, options: Partial<ConnectionsOptions> = {}): Connections {
  return new Connections({
    dial: (...how) => void dialled(pve, ...how),
    most: 4,
    share: 4,
    patience: 10_000,
    ...options,
  });
}

interface Asking extends Exchange {
  readonly answer: Promise<string>;
  readonly carrier: () => Connection | undefined;
}

/** A request, not asked yet, and the body that answers it. */
function asking(path: string, fresh = false, party = 'alice'): Asking {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  promise.catch(() => {});
  let body = '';
  let carrier: Connection | undefined;
  return {
    request: `GET ${path} HTTP/1.1\r\nhost: here\r\n\r\n`,
    party,
    fresh,
    answer: promise,
    carrier: () => carrier,
    sent: (one) => {
      carrier = one;
    },
    begin: () => {},
    take: (bytes) => {
      body += bytes.toString('latin1');
    },
    end: () => resolve(body),
    fail: reject,
  };
}

function ask(connections: Connections, path: string, fresh = false): Promise<string> {
  const one = asking(path, fresh);
  connections.ask(one);
  return one.answer;
}

test('each of many requests at once gets its own answer, over no more connections than allowed', async () => {
  await using pve = await backend((path, socket, nth) => {
    if (path.includes('never')) socket.destroy();
    else if (path.includes('once')) socket.end(said(path));
    else if (path.includes('late')) setImmediate(() => socket.write(said(path)));
    else if (path.includes('more')) socket.write(said(path) + said('/leaked'));
    else if (nth % 3 === 0) for (const letter of said(path)) socket.write(letter);
    else echo(path, socket);
  });
  const kind = fc.constantFrom('plain', 'late', 'once', 'more', 'never');
  const asked = fc.array(fc.tuple(kind, fc.boolean()), { minLength: 1, maxLength: 30 });
  const made = new Set<Socket>();
  await fc.assert(
    fc.asyncProperty(asked, fc.integer({ min: 1, max: 4 }), async (requests, most) => {
      const connections = connectionsTo(pve, {
        most,
        dial(onread, done) {
          for (const socket of made) if (socket.destroyed) made.delete(socket);
          made.add(dialled(pve, onread, done));
          expect(made.size).toBeLessThanOrEqual(most);
        },
      });
      const answers = await Promise.allSettled(
        requests.map(([what, fresh], index) => ask(connections, `/${index}-${what}`, fresh)),
      );
      for (const [index, answer] of answers.entries()) {
        const path = `/${index}-${requests[index]?.[0]}`;
        if (answer.status === 'fulfilled') expect(answer.value).toBe(path);
        else expect(answer.reason).toBeInstanceOf(Error);
      }
      await connections.close();
      await until('all are closed', () => pve.open.size === 0);
    }),
    { numRuns: 30 },
  );
});

test('a connection is used again and again, a hundred times', async () => {
  await using pve = await backend(echo);
  const connections = connectionsTo(pve);
  for (let n = 1; n <= 101; n += 1) expect(await ask(connections, `/${n}`)).toBe(`/${n}`);
  expect(pve.server.connections).toBe(2);
  await connections.close();
});

test('what comes without being asked for ends the connection and reaches nobody', async () => {
  await using pve = await backend(echo);
  const connections = connectionsTo(pve);
  expect(await ask(connections, '/1')).toBe('/1');
  for (const socket of pve.open) socket.write(said('/leaked'));
  await until('it is closed', () => pve.open.size === 0);
  expect(await ask(connections, '/2')).toBe('/2');
  expect(pve.server.connections).toBe(2);
  await connections.close();
});

test('a request that must have a new connection takes the place of an idle one', async () => {
  await using pve = await backend(echo);
  const connections = connectionsTo(pve, { most: 1 });
  expect(await ask(connections, '/1')).toBe('/1');
  expect(await ask(connections, '/2', true)).toBe('/2');
  expect(pve.server.connections).toBe(2);
  await connections.close();
});

test('no party has more than its share under way, and what is left to others serves them at once', async () => {
  const held: [string, Socket][] = [];
  await using pve = await backend((path, socket) => void held.push([path, socket]));
  const connections = connectionsTo(pve, { most: 3, share: 2 });
  const asked = ['/1', '/2', '/3'].map((path) => asking(path));
  for (const one of asked) connections.ask(one);
  await until('two are there', () => held.length === 2);
  const other = asking('/other', false, 'bob');
  connections.ask(other);
  await until('the other is there', () => held.length === 3);
  const answerTo = (...paths: readonly string[]) => {
    for (const [path, socket] of held) if (paths.includes(path)) echo(path, socket);
  };
  answerTo('/other');
  expect(await other.answer).toBe('/other');
  // One of hers is given up: the connection that has become idle serves her next one.
  asked[0]?.carrier()?.close(new Error('nobody waits'));
  await until('the third is there', () => held.length === 4);
  answerTo('/2', '/3');
  expect([await asked[1]?.answer, await asked[2]?.answer]).toEqual(['/2', '/3']);
  expect(pve.server.connections).toBe(3);
  await connections.close();
});

test('a request that is taken back while it waits is never sent, and the others are', async () => {
  const held: Socket[] = [];
  await using pve = await backend((path, socket) => (path === '/held' ? held.push(socket) : echo(path, socket)));
  const connections = connectionsTo(pve, { most: 1 });
  const first = ask(connections, '/held');
  const second = asking('/taken-back');
  connections.ask(second);
  const third = ask(connections, '/third');
  await until('the first is there', () => held.length === 1);
  connections.withdraw(second);
  held[0]?.write(said('/first'));
  expect([await first, await third]).toEqual(['/first', '/third']);
  expect(pve.asked).toEqual(['/held', '/third']);
  await connections.close();
});

test('whoever gives up closes the connection, and a paused one can be used again', async () => {
  const held: Socket[] = [];
  await using pve = await backend((path, socket) => (path === '/held' ? held.push(socket) : echo(path, socket)));
  const connections = connectionsTo(pve, { most: 1 });
  const slow = asking('/held');
  connections.ask(slow);
  await until('it is there', () => held.length === 1);
  slow.carrier()?.pause();
  held[0]?.write(said('/held'));
  slow.carrier()?.resume();
  expect(await slow.answer).toBe('/held');
  const given = asking('/held');
  connections.ask(given);
  await until('it is there too', () => held.length === 2);
  given.carrier()?.close(new Error('nobody waits'));
  await expect(given.answer).rejects.toThrow('nobody waits');
  expect(await ask(connections, '/next')).toBe('/next');
  expect(pve.server.connections).toBe(2);
  await connections.close();
});

test('all that wait are told when no connection can be made', async () => {
  const connections = new Connections({
    dial: (_, done) => void setImmediate(() => done(new Error('nobody is there'), null)),
    most: 2,
    share: 2,
    patience: 1000,
  });
  const answers = await Promise.allSettled([1, 2, 3, 4, 5].map((n) => ask(connections, `/${n}`)));
  expect(answers.map(({ status }) => status)).toEqual(Array(5).fill('rejected'));
  await connections.close();
});

test('it closes when what is under way has ended, not before', async () => {
  const held: Socket[] = [];
  await using pve = await backend((_, socket) => void held.push(socket));
  const connections = connectionsTo(pve);
  const answer = ask(connections, '/held');
  await until('it is there', () => held.length === 1);
  const order: string[] = [];
  const closed = connections.close().then(() => order.push('closed'));
  const answered = answer.then(() => order.push('answered'));
  held[0]?.write(said('1'));
  await Promise.all([closed, answered]);
  await until('it is closed', () => pve.open.size === 0);
  expect(order.sort()).toEqual(['answered', 'closed']);
});

test('silence ends a connection: when nothing is asked, and in the middle of an answer', async () => {
  await using pve = await backend((_, socket) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12'));
  const limits = { idleFor: 4000, patience: 10_000 };
  const gone: string[] = [];
  const opened = async (name: string): Promise<Connection> => {
    let made: Connection | undefined;
    const onread = {
      buffer: Buffer.alloc(1024),
      callback: (count: number, bytes: Uint8Array) => {
        made?.read(Buffer.from(bytes.buffer, bytes.byteOffset, count));
        return true;
      },
    };
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(pve.server.url).port), onread });
    await once(socket, 'connect');
    made = new Connection(socket, { ended: () => {}, free: () => {}, gone: () => gone.push(name) });
    return made;
  };
  const idle = await opened('idle');
  idle.grow(3500, limits);
  expect(gone).toEqual([]);
  idle.grow(500, limits);
  expect(gone).toEqual(['idle']);

  const busy = await opened('busy');
  const half = Promise.withResolvers<void>();
  const stuck = { ...asking('/stuck'), take: () => half.resolve() };
  busy.carry(stuck);
  await half.promise;
  busy.pause();
  busy.grow(60_000, limits);
  busy.resume();
  for (const _ of [1, 2]) busy.grow(5000, limits);
  expect(gone).toEqual(['idle']);
  busy.grow(5000, limits);
  expect(gone).toEqual(['idle', 'busy']);
  await expect(stuck.answer).rejects.toThrow('silent');
});
