import { request } from 'node:https';
import { expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { openBrowser, type Page } from '../support/chromium.ts';
import { startNginx } from '../support/nginx.ts';
import { missingPrograms } from '../support/programs.ts';
import { GiB, startSite, until } from '../support/site.ts';

const skip = missingPrograms('nginx', 'chromium');
const reason = skip === undefined ? '' : ` (${skip})`;

const hostname = 'paas.quota.test';

const aSite = () =>
  startSite({
    users: { alice: { cores: 4, memory: 8 * GiB, vmid: [100, 199] } },
    refresh: { resources: 0.2 },
    config: { application: { hostname, domain: 'quota.test', listenPort: 0 } },
  });

/** Fills in a form, sends it, and waits for what the page says. */
async function submit(
  page: Page,
  form: string,
  fields: Readonly<Record<string, string | number>> = {},
): Promise<string> {
  for (const [name, value] of Object.entries(fields)) await page.fill(`#${form} [name=${name}]`, value);
  await page.click(`#${form} button`);
  await until(`${form} is done`, async () => (await page.text('#said')) !== '');
  return page.text('#said');
}

test.skipIf(skip !== undefined)(
  `a dashboard in a browser works through nginx and TLS as it always did${reason}`,
  async () => {
    await using site = await aSite();
    await using nginx = await startNginx({ server: site.url, hostname, pages: 'test/support/dashboard' });
    expect(nginx.verdict).not.toContain('[warn]');
    await using page = await openBrowser({ hostname, keyHash: nginx.keyHash });
    await page.open(`${nginx.url}/`);

    expect(await submit(page, 'sign-in', { username: 'alice', password: 'wrong' })).toMatch(/^refused: \S/);
    expect(await submit(page, 'sign-in', { username: 'alice', password: 'alice-secret' })).toBe(
      'signed in as alice@pve',
    );
    expect(await page.evaluate('document.cookie')).not.toContain('PVEAuthCookie');

    expect(await submit(page, 'follow')).toBe('following');
    const created = await submit(page, 'create', { vmid: 100, name: 'web', cores: 2, memory: 1024 });
    expect(created).toBe('created 100');
    expect(await page.text('#guests')).toBe('100 web stopped');

    const larger = { vmid: 100, cores: 4, memory: 2048 };
    expect(await submit(page, 'resources', larger)).toBe('100 has 4 cores');
    expect(await submit(page, 'start', { vmid: 100 })).toBe('started 100: OK');
    await until('it is seen to run', async () => (await page.text('#guests')) === '100 web running');

    const refusal = await submit(page, 'create', { vmid: 101, name: 'more', cores: 1, memory: 512 });
    expect(refusal).toMatch(/^refused: Quota exceeded: .*Cores/i);
    expect(site.cluster.guests.has(101)).toBe(false);

    addGuest(site.cluster, { vmid: 150, pool: 'alice', config: { name: 'new', cores: 1 } });
    await until('the page heard of it', async () => (await page.text('#guests')).includes('150 new'));
    expect(Number(await page.text('#syncs'))).toBeGreaterThan(0);

    expect(await submit(page, 'sign-out')).toBe('signed out, cookies left: ');
    await until('the socket ended with the session', async () => (await page.text('#syncs')) === 'closed');
    expect(await submit(page, 'start', { vmid: 100 })).toMatch(/^refused: /);
    expect(page.complaints.filter((text) => !/status of 40[13]/.test(text))).toEqual([]);
  },
);

test.skipIf(missingPrograms('nginx') !== undefined)(
  `behind nginx the server sees who really asks, and nobody can claim to be another${reason}`,
  async () => {
    await using site = await aSite();
    await using nginx = await startNginx({ server: site.url, hostname, pages: 'test/support/dashboard' });
    const signIn = (claimed: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        const { port } = new URL(nginx.url);
        const asked = request({
          host: '127.0.0.1',
          port,
          servername: hostname,
          ca: nginx.certificate,
          path: '/api/access/ticket',
          method: 'POST',
          headers: {
            host: `${hostname}:${port}`,
            'content-type': 'application/x-www-form-urlencoded',
            'x-forwarded-for': claimed,
          },
        });
        asked.on('error', reject).on('response', (response) => {
          response.resume().on('end', () => resolve(response.statusCode));
        });
        asked.end('username=alice@pve&password=wrong');
      });
    const statuses: (number | undefined)[] = [];
    for (let n = 1; n <= 11; n += 1) statuses.push(await signIn(`198.51.100.${n}`));
    expect(statuses.slice(0, 10)).toEqual(Array(10).fill(401));
    expect(statuses[10]).toBe(429);
  },
);
