/** The demo: a simulated cluster and the server in front of it, two processes that can be stopped alone. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeCertificate } from '../simulator/certificate.ts';
import { tour } from './tour.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const usage = 'usage: npm run demo -- [--port N] [--pve-port N] [--guests N] [--tls] [--check]   (0 picks a free port)';

/** What the demo's records grant, for the person who reads. */
const users = [
  [
    'alice@pve',
    'alice-demo',
    '8 cores, 16 GiB memory, 200 GiB on fast, 100 GiB on ceph; pools alice, lab; vmids 100 to 199',
  ],
  ['bob@pve', 'bob-demo', '4 cores, 8 GiB memory, 50 GiB on ceph; pool bob; vmids 200 to 299; nodes n2, n3'],
  ['admin@pve', 'admin-demo', 'cluster administrator: sees and changes everything, pays for nothing'],
] as const;

class UsageError extends Error {}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: 'string' },
        'pve-port': { type: 'string' },
        guests: { type: 'string', default: '0' },
        tls: { type: 'boolean', default: false },
        check: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    // A tour needs no fixed addresses, so it runs beside anything.
    const free = values.check ? '0' : undefined;
    return {
      port: number('--port', values.port ?? free ?? '8081', 65535),
      pvePort: number('--pve-port', values['pve-port'] ?? free ?? '8006', 65535),
      guests: number('--guests', values.guests, 1_000_000),
      tls: values.tls,
      check: values.check,
      help: values.help,
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function number(option: string, text: string, most: number): number {
  if (/^\d+$/.test(text) && Number(text) <= most) return Number(text);
  throw new UsageError(`${option} takes a whole number from 0 to ${most}, not "${text}"`);
}

/** A process of the demo, and what it found out when it was ready. */
interface Part {
  readonly child: ChildProcess;
  readonly found: string;
}

/** Starts a process and waits for the line that says that it is ready; its error lines go out with its name before them. */
async function start(
  name: string,
  args: readonly string[],
  ready: (line: string) => string | undefined,
): Promise<Part> {
  // A group of their own, so that Ctrl-C reaches them through us alone.
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  createInterface({ input: child.stderr }).on('line', (line) => console.error(`${name}: ${line}`));
  const found = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) =>
      reject(new Error(`the ${name} did not start (exit code ${code}); its messages are above`)),
    );
    createInterface({ input: child.stdout }).on('line', (line) => {
      const what = ready(line);
      if (what !== undefined) resolve(what);
      else tell(name, line);
    });
  });
  child.removeAllListeners('exit');
  return { child, found };
}

/** Of the server's log only what a person should know: warnings and errors. */
function tell(name: string, line: string): void {
  if (!line.startsWith('{')) {
    console.log(`${name}: ${line}`);
    return;
  }
  const { level, msg, err } = JSON.parse(line) as { level: number; msg: string; err?: { message: string } };
  if (level >= 40) console.error(`${name}: ${msg}${err === undefined ? '' : ` (${err.message})`}`);
}

async function stop({ child }: Part): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}

/** A self-signed certificate of the server's, and the settings that name its files. */
interface Identity {
  readonly settings: { readonly certificate: string; readonly key: string };
  readonly fingerprint: string;
}

/** Makes a certificate for localhost, which this process trusts from then on. */
async function makeIdentity(directory: string): Promise<Identity> {
  const { certificate, key, fingerprint } = await makeCertificate('localhost');
  const settings = { certificate: join(directory, 'server.pem'), key: join(directory, 'server.key') };
  writeFileSync(settings.certificate, certificate);
  writeFileSync(settings.key, key, { mode: 0o600 });
  setDefaultCACertificates([...getCACertificates('default'), certificate]);
  return { settings, fingerprint };
}

/** The demo's configuration with these addresses and a database that is thrown away. */
function writeConfig(directory: string, pveUrl: string, port: number, identity: Identity | undefined): string {
  const config = JSON.parse(readFileSync(join(root, 'config', 'demo.json'), 'utf8'));
  config.$schema = join(root, 'config', 'config.schema.json');
  config.backends.pve.config.url = pveUrl;
  config.backends.localdb.config.dbfile = join(root, 'config', 'demo-users.json');
  config.application.listenPort = port;
  if (identity !== undefined) config.application.tls = identity.settings;
  config.database = join(directory, 'demo.db');
  const file = join(directory, 'config.json');
  writeFileSync(file, JSON.stringify(config, null, 2));
  return file;
}

function introduce(url: string, pveUrl: string, identity: Identity | undefined): string {
  const jar = 'demo-cookies.txt';
  const curl = identity === undefined ? 'curl' : `curl --cacert ${identity.settings.certificate}`;
  const csrf = `-H "CSRFPreventionToken: $(awk '/CSRF/ {print $7}' ${jar})"`;
  return [
    '',
    `Server:  ${url}/api/   (in front of the simulated cluster at ${pveUrl})`,
    ...(identity === undefined ? [] : [`         its certificate, SHA-256: ${identity.fingerprint}`]),
    '',
    ...users.map(([name, password, grants]) => `  ${name.padEnd(10)} password ${password.padEnd(10)}  ${grants}`),
    '',
    'Sign in, see the quota, create a guest, be refused:',
    '',
    `  ${curl} -c ${jar} ${url}/api/access/ticket -d username=alice@pve -d password=alice-demo`,
    `  ${curl} -b ${jar} ${url}/api/user/dynamic/resources`,
    `  ${curl} -b ${jar} ${csrf} ${url}/api/cluster/n1/qemu/150/create -d name=web -d cores=2 -d memory=1024 -d pool=alice`,
    `  ${curl} -b ${jar} ${csrf} ${url}/api/cluster/n1/qemu/151/create -d name=huge -d cores=64 -d memory=1024 -d pool=alice`,
    '',
    `PVE's own API is at ${url}/api2/json/, for any PVE client${identity === undefined ? '; most insist on TLS: --tls' : ''}.`,
    'Ctrl-C stops both.',
  ].join('\n');
}

async function main(): Promise<number> {
  const { port, pvePort, guests, tls, check, help } = options();
  if (help) {
    console.log(usage);
    return 0;
  }
  const directory = mkdtempSync(join(tmpdir(), 'pve-quota-proxy-demo-'));
  const parts: Part[] = [];
  try {
    const cluster = await start(
      'cluster',
      ['simulator/main.ts', '--port', String(pvePort), '--guests', String(guests)],
      (line) => /^simulated PVE cluster: (\S+)/.exec(line)?.[1],
    );
    parts.push(cluster);
    const pveUrl = cluster.found;
    const identity = tls ? await makeIdentity(directory) : undefined;
    const server = await start(
      'server',
      ['src/main.ts', '--config', writeConfig(directory, pveUrl, port, identity)],
      (line) => /"url":"([^"]+)"/.exec(line)?.[1],
    );
    parts.push(server);
    // curl and browsers send secure cookies to localhost, not to its address.
    const url = server.found.replace('127.0.0.1', 'localhost');
    await ready(url);
    if (check) return (await tour(url)) ? 0 : 1;
    console.log(introduce(url, pveUrl, identity));
    await interrupted(parts);
    return 0;
  } finally {
    await Promise.all(parts.map(stop));
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Waits until the server has read the cluster; before that it admits nothing. */
async function ready(url: string): Promise<void> {
  for (let tries = 0; tries < 600; tries += 1) {
    if ((await fetch(`${url}/healthz`)).ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('the server did not become ready within a minute; its messages are above');
}

/** Resolves on Ctrl-C or SIGTERM, or when both processes have ended; one that ends alone is only told. */
function interrupted(parts: readonly Part[]): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        asked = true;
        resolve();
      });
    }
    for (const { child } of parts) {
      child.once('exit', () => {
        if (asked) return;
        console.log(`${child.spawnargs[1]} has ended; the other goes on`);
        if (parts.every((part) => part.child.exitCode !== null || part.child.signalCode !== null)) resolve();
      });
    }
  });
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(
      error instanceof UsageError ? `${error.message}\n${usage}` : error instanceof Error ? error.message : error,
    );
    process.exitCode = error instanceof UsageError ? 2 : 1;
  },
);
