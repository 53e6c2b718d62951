import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type SecureVersion } from 'node:tls';
import { Agent, fetch } from 'undici';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { openPair, PairWatch } from '../../src/routes/tls.ts';
import { replaceFile, writePair } from '../support/certificates.ts';
import { startSite, until } from '../support/site.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tls-'));
});
afterAll(() => rm(folder, { recursive: true }));

const fingerprintOf = (certificate: string) => new X509Certificate(certificate).fingerprint256;

/** The fingerprint of the certificate that a server shows; rejects when no connection comes about. */
async function shownAt(port: number, maxVersion: SecureVersion = 'TLSv1.3'): Promise<string> {
  const oldest = { minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
  const socket = connect({ host: '127.0.0.1', port, maxVersion, ...oldest, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

test('with a certificate the server speaks TLS 1.2 and newer, and nothing else', async () => {
  const { settings, certificate } = await writePair(folder);
  await using site = await startSite({
    users: { alice: {} },
    config: { application: { hostname: 'localhost', listenPort: 0, tls: settings } },
  });
  expect(site.url).toMatch(/^https:/);
  const port = Number(new URL(site.url).port);

  const dispatcher = new Agent({ connect: { ca: certificate } });
  const health = await fetch(`${site.url}/healthz`, { dispatcher });
  expect(await health.json()).toMatchObject({ ready: true });
  const body = new URLSearchParams({ username: 'alice@pve', password: 'alice-secret' });
  const signedIn = await fetch(`${site.url}/api2/json/access/ticket`, { method: 'POST', body, dispatcher });
  expect(signedIn.status).toBe(200);
  await dispatcher.close();

  const warnings: string[] = [];
  const warned = ({ name }: Error) => void warnings.push(name);
  process.on('warning', warned);
  const ahead = connect({ host: '127.0.0.1', port, ca: certificate });
  let answered = '';
  ahead.setEncoding('latin1').on('data', (text: string) => {
    answered += text;
  });
  ahead.write('GET /api2/json/version HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(12));
  await until('each of many requests sent ahead is answered', () => answered.split('401 No ticket').length === 13);
  ahead.destroy();
  process.off('warning', warned);
  expect(warnings).not.toContain('MaxListenersExceededWarning');

  await expect(shownAt(port, 'TLSv1.2')).resolves.toBe(fingerprintOf(certificate));
  await expect(shownAt(port, 'TLSv1.1')).rejects.toThrow();
  await expect(fetch(`${site.url.replace('https', 'http')}/healthz`)).rejects.toThrow();
});

test('new connections get a new pair; what cannot be used is told once and changes nothing', async () => {
  const first = await writePair(folder);
  const inUse = openPair(first.settings);
  const told: string[] = [];
  const tell = (kind: string) => (about: { problem?: string }, text: string) => {
    told.push(`${kind}: ${text} ${about.problem ?? ''}`.trim());
  };
  const server = createServer(inUse, (_request, response) => response.end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const watch = new PairWatch(server, first.settings, inUse, {
    log: { info: tell('info'), warn: tell('warn') } as never,
    every: 20,
  });
  try {
    const old = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    await once(old, 'secureConnect');

    await replaceFile(first.settings.certificate, 'no certificate');
    await until('the log says so', () => told.length === 1);
    expect(told[0]).toContain(`the file ${first.settings.certificate} does not hold a certificate in PEM form`);
    await expect(shownAt(port)).resolves.toBe(fingerprintOf(first.certificate));

    const other = await writePair(folder);
    await until('it is in use', () => told.at(-1)?.startsWith('info') === true);
    await expect(shownAt(port)).resolves.toBe(fingerprintOf(other.certificate));
    await expect(shownAt(port, 'TLSv1.1')).rejects.toThrow();
    expect(old.destroyed).toBe(false);

    await replaceFile(first.settings.certificate, first.certificate);
    await until('half a pair is told', () => told.at(-1)?.includes('is not that of the certificate') === true);
    await expect(shownAt(port)).resolves.toBe(fingerprintOf(other.certificate));
    await replaceFile(first.settings.key, first.key);
    await until('both halves are in use', async () => (await shownAt(port)) === fingerprintOf(first.certificate));
    expect(told.filter((line) => line.includes('in PEM form'))).toHaveLength(1);
    old.destroy();
  } finally {
    watch.close();
    server.close();
  }
});

test('of a certificate that ends soon the log is told once', async () => {
  const { settings } = await writePair(folder, new Date(Date.now() + 3600_000));
  const told: unknown[] = [];
  const tell = (about: unknown) => told.push(about);
  let looks = 0;
  const server = { setSecureContext: () => (looks += 1) };
  const watch = new PairWatch(server as never, settings, openPair(settings), {
    log: { info: tell, warn: tell } as never,
    every: 5,
  });
  try {
    await until('it is told', () => told.length === 1);
    expect(told).toEqual([{ file: settings.certificate, validTo: expect.any(String) }]);
    await writePair(folder);
    await until('another one is in use', () => looks === 1);
    expect(told.filter((about) => Object.hasOwn(about as object, 'file'))).toHaveLength(1);
  } finally {
    watch.close();
  }
});

test('checking the configuration names the file and what is wrong with it, both files at once', async () => {
  const { settings } = await writePair(folder);
  await using site = await startSite({ users: {} });
  const faults = async (tls: object) => {
    const { default: config } = await import(site.configFile, { with: { type: 'json' } });
    const file = join(folder, 'config.json');
    await writeFile(file, JSON.stringify({ ...config, application: { listenPort: 0, tls } }));
    try {
      loadConfig(file, { secrets: 'unread' });
      return loadConfig(file).application.tls;
    } catch (error) {
      return (error as { faults: unknown }).faults;
    }
  };
  expect(await faults(settings)).toEqual(settings);
  expect(await faults({ certificate: settings.key, key: '/nowhere/key.pem' })).toEqual([
    {
      field: 'application.tls.certificate',
      problem: `the file ${settings.key} does not hold a certificate in PEM form`,
    },
    { field: 'application.tls.key', problem: 'the file /nowhere/key.pem cannot be read (ENOENT)' },
  ]);
  expect(await faults({ certificate: settings.certificate })).toEqual([
    { field: 'application.tls.key', problem: 'expected a text, got nothing' },
  ]);
});

test('the demo plays its tour over TLS too', () => {
  const args = ['scripts/demo.ts', '--check', '--tls'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(stdout).not.toContain('FAIL');
  expect(status, stderr).toBe(0);
});
