/** nginx for the measurements: once as the backend that answers as PVE would, once as a proxy to compare with. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unusedUrl } from '../test/support/listening.ts';
import { findProgram } from '../test/support/programs.ts';
import { until } from '../test/support/site.ts';
import { Running } from './process.ts';

/** The paths that the backend answers itself, and how long the answers are. */
export const answers = {
  small: { path: '/api2/json/nodes/n1/time', bytes: 60 },
  large: { path: '/api2/json/nodes/n1/qemu', bytes: 115_000 },
} as const;

/** Starts a backend: the two answers from memory, all else from the simulator. Gives its plain and its TLS URL. */
export async function startBackend(
  folder: string,
  { simulator, requests }: { readonly simulator: string; readonly requests: number },
): Promise<{ readonly process: Running; readonly plain: string; readonly tls: string }> {
  const [plain, tls] = [await unusedUrl(), (await unusedUrl()).replace('http:', 'https:')];
  writeFileSync(join(folder, 'small.json'), json(answers.small.bytes));
  writeFileSync(join(folder, 'large.json'), json(answers.large.bytes));
  const running = await startNginx(
    folder,
    'backend',
    plain,
    `
    server {
      listen ${hostOf(plain)};
      listen ${hostOf(tls)} ssl;
      ssl_certificate ${folder}/certificate.pem;
      ssl_certificate_key ${folder}/key.pem;
      keepalive_requests ${requests};
      types {}
      default_type 'application/json;charset=UTF-8';
      add_header Cache-Control max-age=0;
      add_header Pragma no-cache;
      location = ${answers.small.path} { alias ${folder}/small.json; }
      location = ${answers.large.path} { alias ${folder}/large.json; }
      location / { proxy_pass ${simulator}; proxy_http_version 1.1; }
    }`,
  );
  return { process: running, plain, tls };
}

/** Starts nginx as a proxy with kept connections in front of `upstream`. */
export async function startProxy(
  folder: string,
  upstream: string,
): Promise<{ readonly process: Running; readonly url: string }> {
  const url = await unusedUrl();
  const name = `proxy-${new URL(upstream).port}`;
  const running = await startNginx(
    folder,
    name,
    url,
    `
    upstream backend { server ${hostOf(upstream)}; keepalive 64; }
    server {
      listen ${hostOf(url)};
      keepalive_requests 1000000000;
      location / {
        proxy_pass ${new URL(upstream).protocol}//backend;
        proxy_http_version 1.1;
        proxy_set_header Connection '';
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_ssl_trusted_certificate ${folder}/certificate.pem;
      }
    }`,
  );
  return { process: running, url };
}

async function startNginx(folder: string, name: string, url: string, site: string): Promise<Running> {
  const home = join(folder, name);
  mkdirSync(home);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${home}/${kind};`,
  );
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  writeFileSync(
    join(home, 'nginx.conf'),
    `${user} daemon off; worker_processes 1; pid ${home}/pid; error_log stderr error;
    events { worker_connections 1024; }
    http { access_log off; sendfile on; tcp_nopush on; open_file_cache max=10; ${temporary.join(' ')} ${site} }`,
  );
  const running = new Running(findProgram('nginx') ?? 'nginx', [
    '-e',
    'stderr',
    '-p',
    home,
    '-c',
    join(home, 'nginx.conf'),
  ]);
  await until(`nginx listens at ${url}`, () =>
    fetch(url).then(
      () => true,
      () => false,
    ),
  );
  return running;
}

function hostOf(url: string): string {
  return new URL(url).host;
}

/** An answer of PVE of so many bytes. */
function json(bytes: number): string {
  return `{"data":"${'x'.repeat(bytes - '{"data":""}'.length)}"}`;
}
