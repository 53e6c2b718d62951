import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import template from '../../template.config.json' with { type: 'json' };

const unit = readFileSync('systemd/pve-quota-proxy.service', 'utf8');
const settings = new Map(
  [...unit.matchAll(/^([A-Za-z]+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value] as const),
);

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

/** Runs systemd-analyze on the unit, as if the program were installed from this checkout. */
function analyze(...args: readonly string[]): { readonly status: number | null; readonly said: string } {
  const folder = mkdtempSync(join(tmpdir(), 'unit-'));
  try {
    const file = join(folder, 'pve-quota-proxy.service');
    writeFileSync(
      file,
      unit.replace(/\/opt\/\S*\/bin\/node/, process.execPath).replaceAll('/opt/pve-quota-proxy', process.cwd()),
    );
    const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, '--no-pager', file], {
      encoding: 'utf8',
    });
    return { status, said: `${stdout}${stderr}`.trim() };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('the systemd unit', () => {
  test.skipIf(!hasSystemd && process.env.CI !== 'true')(
    'is what systemd understands, without a word of complaint',
    () => {
      expect(analyze('verify', '--man=no')).toEqual({ status: 0, said: '' });
    },
  );

  test.skipIf(!hasSystemd && process.env.CI !== 'true')('keeps the process in a narrow sandbox', () => {
    const { status, said } = analyze('security', '--offline=yes', '--threshold=15');
    expect([status, said.match(/Overall exposure.*/)?.[0]]).toEqual([0, expect.stringContaining('OK')]);
  });

  test('lets V8 compile', () => {
    expect(settings.has('MemoryDenyWriteExecute')).toBe(false);
  });

  test('waits for the end longer than the server takes for it', () => {
    expect(Number(settings.get('TimeoutStopSec'))).toBeGreaterThan(10);
  });

  test('hands over the credential that the template names, and uses files that are there', () => {
    expect(settings.get('LoadCredential')?.split(':')[0]).toBe(template.backends.pve.config.token.uuid.credential);
    const named = [...unit.matchAll(/\/opt\/pve-quota-proxy\/((?:src|docs)\/\S+)/g)].map(([, file]) => file);
    expect(named).toEqual(named.flatMap((file) => globSync(file ?? '')));
    expect(named).toContain('src/main.ts');
  });
});

describe('the container image', () => {
  const dockerfile = readFileSync('Dockerfile', 'utf8');
  const ignored = readFileSync('.dockerignore', 'utf8');

  test('is made of files that are there and that the build may see', () => {
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, files = '']) =>
      files.split(' '),
    );
    expect(copied).toContain('src');
    for (const file of copied.filter((name) => !name.includes('*'))) {
      expect(globSync(file)).toEqual([file]);
      expect(ignored).toContain(`!${file}\n`);
    }
  });

  test('runs as nobody in particular, and tells its health', () => {
    expect(dockerfile.match(/^USER (.*)$/m)?.[1]).toMatch(/^[1-9]\d+:[1-9]\d+$/);
    expect(dockerfile).toMatch(/^HEALTHCHECK .*\\\n.*\/healthz/m);
    expect(dockerfile).not.toMatch(/^(?:ADD|ENV .*(?:TOKEN|PASSWORD|SECRET))/m);
  });
});
