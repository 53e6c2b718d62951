/**
 * What forwarding a read costs: nginx, bare @fastify/http-proxy and this server, each a process of its own in front of
 * the same backend, driven by wrk in turn; plain and TLS upstream, answers of 60 bytes and of 115 KB. This server checks
 * who the caller is and finds the row of the policy. Prints requests a second, CPU of the proxy's process from /proc,
 * ratios, and what each adds to the time of an answer at half its load: the medians of the rounds. Needs nginx and wrk, and
 * Linux.
 *
 * node bench/forward.ts [--rounds 5] [--seconds 3] [--prefix /api2/json] [--only plain,small]
 */

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { makeCertificate } from '../simulator/certificate.ts';
import { findProgram } from '../test/support/programs.ts';
import { GiB, startSite, until } from '../test/support/site.ts';
import { answers, startBackend, startProxy } from './nginx.ts';
import { cpuOf, median, nodeOptions, Running } from './process.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    prefix: { type: 'string', default: '/api2/json' },
    only: { type: 'string', default: 'plain,tls,small,large' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);

for (const program of ['wrk', 'nginx']) {
  if (findProgram(program) === undefined) {
    console.error(`${program} is not installed; install it (Debian: apt-get install ${program}) and try again.`);
    process.exit(1);
  }
}

/** PVE closes a connection after so many requests. */
const requestsPerConnection = 100;

/** Seconds that each is driven before anything is measured. */
const warmUp = 8;

/** Connections that wrk holds. */
const connections = 32;

const script = `
local mean = tonumber(os.getenv("MEAN_DELAY") or "0")
if mean > 0 then
  function delay() return math.random(0, 2 * mean) end
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"count":%d,"micros":%d,"errors":%d,"p50":%d,"p99":%d}', summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end`;

interface Driven {
  /** Requests a second. */
  readonly rate: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly count: number;
}

/** One of the proxies that are compared. */
interface Contestant {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
  /** Where it has PVE's API. */
  readonly prefix: string;
}

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'bench-'));
try {
  await compare();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function compare(): Promise<void> {
  const certificate = await makeCertificate('localhost');
  writeFileSync(join(folder, 'certificate.pem'), certificate.certificate);
  writeFileSync(join(folder, 'key.pem'), certificate.key);
  writeFileSync(join(folder, 'script.lua'), script);
  await using site = await startSite({ users: { alice: { cores: 8, memory: 8 * GiB } } });
  const alice = await site.signIn('alice');
  const cookie = `PVEAuthCookie=${alice.cookies.get('PVEAuthCookie')}`;
  const backend = await startBackend(folder, { simulator: site.simulator.url, requests: requestsPerConnection });
  await using _backend = backend.process;

  for (const kind of ['plain', 'tls'] as const) {
    if (!values.only.includes(kind)) continue;
    const upstream = backend[kind];
    const nginx = await startProxy(folder, upstream);
    await using _nginx = nginx.process;
    await using bare = new Running(process.execPath, bareArgs('fastify', upstream));
    await using least = new Running(process.execPath, bareArgs('node', upstream));
    await using ours = new Running(
      process.execPath,
      [...nodeOptions, 'src/main.ts', '--config', configFor(site.configFile, upstream)],
      {
        NODE_ENV: 'production',
      },
    );
    const contestants: readonly Contestant[] = [
      { name: 'nginx', url: nginx.url, pid: nginx.process.pid, prefix: '/api2/json' },
      { name: '@fastify/http-proxy', url: await bare.says(/"url":"([^"]+)"/), pid: bare.pid, prefix: '/api2/json' },
      { name: 'node:http + undici', url: await least.says(/"url":"([^"]+)"/), pid: least.pid, prefix: '/api2/json' },
      { name: 'pve-quota-proxy', url: await ours.says(/"url":"([^"]+)"/), pid: ours.pid, prefix: values.prefix },
    ];
    await until('the server is ready', async () => (await fetch(`${contestants.at(-1)?.url}/healthz`)).ok);
    for (const [size, { path, bytes }] of Object.entries(answers)) {
      if (!values.only.includes(size)) continue;
      console.log(`\n${kind} upstream, ${size} answers (${bytes} bytes), medians of ${rounds} rounds of ${seconds} s`);
      await measure(contestants, path, cookie, backend.plain);
    }
  }
}

function bareArgs(kind: string, upstream: string): string[] {
  return ['bench/bare.ts', kind, upstream, ...(upstream.startsWith('https:') ? [join(folder, 'certificate.pem')] : [])];
}

/** The site's configuration with the backend in place of the simulator, and a database of its own. */
function configFor(siteConfig: string, upstream: string): string {
  const config = JSON.parse(readFileSync(siteConfig, 'utf8'));
  config.backends.pve.config.url = upstream;
  config.backends.pve.config.deadlines = { read: 10, write: 35 };
  if (upstream.startsWith('https:')) config.backends.pve.config.ca = join(folder, 'certificate.pem');
  config.database = join(folder, `${new URL(upstream).port}.db`);
  const file = join(folder, `${new URL(upstream).port}.json`);
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** Drives all in turn, round by round, so that what else the machine does meets all of them. */
async function measure(
  contestants: readonly Contestant[],
  path: string,
  cookie: string,
  backend: string,
): Promise<void> {
  const urlOf = ({ url, prefix }: Contestant) => url + path.replace('/api2/json', prefix);
  const full = new Map(contestants.map(({ name }) => [name, { rate: [] as number[], cpu: [] as number[] }]));
  // Compilers need some thousands of requests.
  for (const each of contestants) await drive(urlOf(each), cookie, warmUp);
  for (let round = 0; round < rounds; round += 1) {
    for (const each of contestants) {
      const before = cpuOf(each.pid);
      const { rate, count } = await drive(urlOf(each), cookie, seconds);
      full.get(each.name)?.rate.push(rate);
      full.get(each.name)?.cpu.push(((cpuOf(each.pid) - before) / count) * 1e6);
    }
  }
  const middle = (of: 'rate' | 'cpu') => new Map([...full].map(([name, seen]) => [name, median(seen[of])]));
  const rates = middle('rate');
  const cpus = middle('cpu');

  const added = new Map<string, { readonly p50: number; readonly p99: number }>();
  for (const each of contestants) {
    const half = (rates.get(each.name) ?? 0) / 2;
    const direct: Driven[] = [];
    const through: Driven[] = [];
    for (let round = 0; round < rounds; round += 1) {
      direct.push(await drive(backend + path, cookie, seconds, half));
      through.push(await drive(urlOf(each), cookie, seconds, half));
    }
    const more = (of: 'p50' | 'p99') =>
      (median(through.map((one) => one[of])) - median(direct.map((one) => one[of]))) / 1000;
    added.set(each.name, { p50: more('p50'), p99: more('p99') });
  }
  const over = (of: ReadonlyMap<string, number>, name: string, other: string) =>
    ((of.get(name) ?? 0) / (of.get(other) ?? 0)).toFixed(2);
  console.log('| | requests/s | of nginx | CPU µs/request | of nginx | of http-proxy | added p50 ms | added p99 ms |');
  console.log('|---|---|---|---|---|---|---|---|');
  for (const { name } of contestants) {
    const cells = [
      name,
      Math.round(rates.get(name) ?? 0),
      over(rates, name, 'nginx'),
      (cpus.get(name) ?? 0).toFixed(1),
      over(cpus, name, 'nginx'),
      over(cpus, name, '@fastify/http-proxy'),
      (added.get(name)?.p50 ?? 0).toFixed(2),
      (added.get(name)?.p99 ?? 0).toFixed(2),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}

/** Has wrk ask for a while, as fast as it can or about `rate` times a second. */
async function drive(url: string, cookie: string, forSeconds: number, rate?: number): Promise<Driven> {
  const held = rate === undefined ? connections : 2 * connections;
  const mean = rate === undefined ? 0 : Math.max(1, Math.round((held / rate) * 1000));
  const { stdout } = await run(
    'wrk',
    ['-t1', `-c${held}`, `-d${forSeconds}s`, '-H', `Cookie: ${cookie}`, '-s', join(folder, 'script.lua'), url],
    { env: { ...process.env, MEAN_DELAY: String(mean) } },
  );
  const { count, micros, errors, p50, p99 } = JSON.parse(/\{"count".*\}/.exec(stdout)?.[0] ?? '{}');
  if (errors > 0) console.error(`${errors} of ${count} requests to ${url} failed`);
  return { rate: (count / micros) * 1e6, count, p50, p99 };
}
