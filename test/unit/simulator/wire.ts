/** A simulated daemon with methods of the test's own, and a client that sends bytes as they are. */

import { connect, type Socket } from 'node:net';
import { Access } from '../../../simulator/access.ts';
import { createApp } from '../../../simulator/app.ts';
import { Cluster } from '../../../simulator/cluster.ts';
import { Daemon } from '../../../simulator/daemon.ts';
import { Faults } from '../../../simulator/faults.ts';
import type { MethodRow } from '../../../simulator/method.ts';
import { accessMethods } from '../../../simulator/methods/access.ts';
import { realmMethods } from '../../../simulator/methods/realms.ts';
import { taskMethods } from '../../../simulator/methods/tasks.ts';
import { ticketMethods } from '../../../simulator/methods/ticket.ts';
import { userMethods } from '../../../simulator/methods/users.ts';
import { versionMethods } from '../../../simulator/methods/version.ts';
import { RequestLog } from '../../../simulator/request-log.ts';
import { Tasks } from '../../../simulator/tasks.ts';

export interface Heard {
  readonly status: number;
  readonly reason: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  readonly json: unknown;
}

/** Shows what arrives: parameters, node and path, once for each way to reach it. */
const echoed: readonly MethodRow[] = (['GET', 'POST', 'PUT', 'DELETE'] as const).flatMap((method) => [
  {
    method,
    path: '/nodes/{node}/qemu/{vmid}/config',
    permissions: { user: 'all' },
    parameters: {
      cores: { type: 'integer', optional: true, minimum: 1 },
      scsi0: { type: 'string', optional: true },
      onboot: { type: 'boolean', optional: true },
      delete: { type: 'string', optional: true, format: 'pve-configid-list' },
    },
    run: ({ param }) => param,
  },
  {
    method,
    path: '/nodes/{node}/storage/{storage}/content/{volume}',
    permissions: { user: 'all' },
    parameters: {},
    run: ({ param, node }) => ({ ...param, runsOn: node }),
  },
]);

/** A daemon that listens on a port of its own; `now` is the cluster's clock in ms. */
export async function startWire({
  rows = echoed,
  now = () => Date.now(),
}: {
  rows?: readonly MethodRow[];
  now?: () => number;
} = {}) {
  const cluster = new Cluster(new Access(now), new Tasks(now), now);
  for (const name of ['n1', 'n2']) cluster.nodes.set(name, { name, cpus: 8, memory: 2 ** 34, online: true, pci: [] });
  const { access } = cluster;
  access.addUser('alice@pve', { password: 'wonderland' });
  const token = `PVEAPIToken=alice@pve!t=${access.addToken('alice@pve', 't', { privsep: false })}`;
  const [faults, log] = [new Faults(), new RequestLog()];
  const all = [
    ...rows,
    ...versionMethods,
    ...ticketMethods,
    ...accessMethods,
    ...realmMethods,
    ...userMethods,
    ...taskMethods,
  ];
  const app = createApp({ cluster, rows: all, faults, requests: log, unauthorizedDelay: 0 });
  const daemon = new Daemon({ host: '127.0.0.1', port: 0 }, app);
  await daemon.start();
  const send = async (text: string | Buffer) => {
    const { socket, heard } = talk(daemon.port);
    socket.write(text);
    const answers = await heard;
    return answers;
  };
  return {
    ...{ cluster, access, faults, log, daemon, token, send },
    /** One request with the token of alice, on a connection of its own. */
    async ask(line: string, body = '', headers: readonly string[] = []): Promise<Heard> {
      const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
      const head = [
        `${line} HTTP/1.1`,
        'Host: pve',
        'Connection: close',
        `Authorization: ${token}`,
        ...length,
        ...headers,
      ];
      return one(await send(`${head.join('\r\n')}\r\n\r\n${body}`));
    },
    /** One request with exactly these headers. */
    async askPlainly(line: string, headers: readonly string[], body = ''): Promise<Heard> {
      return one(await send(`${[`${line} HTTP/1.1`, 'Host: pve', ...headers].join('\r\n')}\r\n\r\n${body}`));
    },
    async [Symbol.asyncDispose]() {
      await daemon.stop();
      cluster.tasks.close();
    },
  };
}

function one(answers: readonly Heard[]): Heard {
  const [answer] = answers;
  if (answer === undefined) throw new Error('the connection was closed without an answer');
  return answer;
}

/** Connects; `heard` holds every answer once the other side has closed the connection. */
export function talk(port: number): { readonly socket: Socket; readonly heard: Promise<readonly Heard[]> } {
  const socket = connect(port, '127.0.0.1');
  const heard = new Promise<readonly Heard[]>((resolve, reject) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('close', () => resolve(answersIn(Buffer.concat(chunks).toString('latin1'))));
    socket.on('error', reject);
  });
  return { socket, heard };
}

function answersIn(bytes: string): readonly Heard[] {
  if (bytes === '') return [];
  const [head = '', ...rest] = bytes.split('\r\n\r\n');
  const [statusLine = '', ...lines] = head.split('\r\n');
  const [, status = '', reason = ''] = /^HTTP\/1\.1 (\d+) ?(.*)$/.exec(statusLine) ?? [];
  const headers = new Map(
    lines.map((line): [string, string] => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 2),
    ]),
  );
  const all = rest.join('\r\n\r\n');
  const length = Number(headers.get('content-length') ?? all.length);
  const body = Buffer.from(all.slice(0, length), 'latin1').toString('utf8');
  return [{ status: Number(status), reason, headers, body, json: parsed(body) }, ...answersIn(all.slice(length))];
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
