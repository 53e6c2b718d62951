/**
 * A proxy that only forwards, to compare with, as a process of its own: `node bench/bare.ts fastify|node UPSTREAM [CA]`.
 * `fastify` is @fastify/http-proxy as it comes; `node` is node:http with undici and nothing else, the least that a proxy
 * in Node costs.
 */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import httpProxy from '@fastify/http-proxy';
import Fastify from 'fastify';
import { type Dispatcher, Pool } from 'undici';

const [kind = 'fastify', upstream = '', caFile] = process.argv.slice(2);
const connect = caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') };

if (kind === 'fastify') {
  const app = Fastify();
  app.register(httpProxy, { upstream, undici: { connect } });
  say(await app.listen({ host: '127.0.0.1', port: 0 }));
} else {
  const pool = new Pool(upstream, { connections: 32, connect });
  const server = createServer(({ method, url = '/', headers: { cookie = '' } }, response) => {
    pool.dispatch({ method: method as Dispatcher.HttpMethod, path: url, headers: { cookie } }, answering(response));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  say(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

function answering(response: ServerResponse): Dispatcher.DispatchHandler {
  return {
    onRequestStart(controller) {
      response.on('close', () => controller.abort(new Error('the client has gone')));
    },
    onResponseStart(controller, status, headers) {
      response.writeHead(status, {
        'content-type': String(headers['content-type']),
        'content-length': String(headers['content-length']),
      });
      response.on('drain', () => controller.resume());
    },
    onResponseData(controller, chunk) {
      if (!response.write(chunk)) controller.pause();
    },
    onResponseEnd() {
      response.end();
    },
    onResponseError() {
      response.destroy();
    },
  };
}

function say(url: string): void {
  console.log(`"url":"${url}"`);
}
