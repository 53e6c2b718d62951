/** A real nginx with the example configuration of this repository, adapted as an administrator would. */

import { spawn, spawnSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { generate } from 'selfsigned';
import { unusedUrl } from './listening.ts';
import { findProgram } from './programs.ts';
import { until } from './site.ts';

const example = readFileSync('nginx/pve-quota-proxy.conf', 'utf8');

export interface NginxOptions {
  /** The server behind it, `http://127.0.0.1:port`. */
  readonly server: string;
  readonly hostname: string;
  /** The folder of the dashboard's pages. */
  readonly pages: string;
}

export interface Nginx extends AsyncDisposable {
  /** `https://hostname:port` */
  readonly url: string;
  /** `http://hostname:port`, which leads to the other. */
  readonly plainUrl: string;
  /** The certificate, PEM. */
  readonly certificate: string;
  /** SHA-256 of the certificate's public key, as Chromium takes it. */
  readonly keyHash: string;
  /** What `nginx -t` says of the configuration. */
  readonly verdict: string;
}

/** Starts nginx on free ports of the loopback with a certificate of its own. */
export async function startNginx({ server, hostname, pages }: NginxOptions): Promise<Nginx> {
  const program = findProgram('nginx') ?? 'nginx';
  const folder = await mkdtemp(join(tmpdir(), 'nginx-'));
  const made = await generate([{ name: 'commonName', value: hostname }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: hostname }] }],
  });
  const [secure, plain] = [new URL(await unusedUrl()).host, new URL(await unusedUrl()).host];
  const settings = adapted(example, {
    'server 127.0.0.1:8081;': `server ${new URL(server).host};`,
    'listen 80;': `listen ${plain};`,
    'listen [::]:80;': '',
    'listen 443 ssl;': `listen ${secure} ssl;`,
    'listen [::]:443 ssl;': '',
    'server_name paas.mydomain.example;': `server_name ${hostname};`,
    '/etc/ssl/certs/paas.pem': join(folder, 'certificate.pem'),
    '/etc/ssl/private/paas.key': join(folder, 'key.pem'),
    '/var/www/dashboard': resolve(pages),
  });
  await writeFile(join(folder, 'certificate.pem'), made.cert);
  await writeFile(join(folder, 'key.pem'), made.private);
  await writeFile(join(folder, 'site.conf'), settings);
  await writeFile(join(folder, 'nginx.conf'), around(folder));

  const args = ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')];
  const { status, stderr } = spawnSync(program, ['-t', ...args], { encoding: 'utf8' });
  if (status !== 0) {
    await rm(folder, { recursive: true });
    throw new Error(`nginx does not take the example: ${stderr}`);
  }
  const daemon = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const nginx: Nginx = {
    url: `https://${hostname}:${portOf(secure)}`,
    plainUrl: `http://${hostname}:${portOf(plain)}`,
    certificate: made.cert,
    keyHash: keyHashOf(made.cert),
    verdict: stderr,
    async [Symbol.asyncDispose]() {
      const ended = daemon.exitCode === null ? once(daemon, 'exit') : undefined;
      daemon.kill();
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await until('nginx listens', () => listens(portOf(secure)));
    return nginx;
  } catch (error) {
    await nginx[Symbol.asyncDispose]();
    throw error;
  }
}

/** The example with other values; every value must be there. */
function adapted(text: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values).reduce((settings, [from, to]) => {
    if (!settings.includes(from)) throw new Error(`the example has no ${from}`);
    return settings.replaceAll(from, to);
  }, text);
}

/** What Debian's own file would say around the site. */
function around(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return [
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    'daemon off;',
    'worker_processes 1;',
    `pid ${folder}/nginx.pid;`,
    'error_log stderr error;',
    'events { worker_connections 512; }',
    'http {',
    'types { text/html html; text/javascript js; }',
    'access_log off;',
    ...temporary.map((kind) => `${kind}_temp_path ${folder}/${kind};`),
    `include ${folder}/site.conf;`,
    '}',
  ].join('\n');
}

const portOf = (host: string): number => Number(host.split(':')[1]);

function keyHashOf(certificate: string): string {
  const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}

function listens(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => done(true)).once('error', () => done(false));
    socket.once('connect', () => socket.destroy());
  });
}
