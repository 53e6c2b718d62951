import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import template from '../../template.config.json' with { type: 'json' };

const guide = readFileSync('docs/administration.md', 'utf8');

/** The privileges that the server demands of its token, as its source says. */
const demanded = [
  ...(readFileSync('src/admission/token-rights.ts', 'utf8').split('tooWide')[0] ?? '').matchAll(
    /'([A-Z][A-Za-z]*(?:\.[A-Z][A-Za-z]*)+)'/g,
  ),
].map(([, privilege = '']) => privilege);

const roles = [...guide.matchAll(/pveum role add QuotaProxy --privs "([^"]+)"/g)].map(([, text = '']) =>
  text.split(' '),
);

test("the guide's roles hold what the server demands, for each version of PVE, and nothing else", () => {
  expect(demanded.length).toBeGreaterThan(10);
  const [current, old] = roles.map((role) => role.toSorted());
  const [, latest = ''] = /^PVE 9 [\s\S]*?pveum role modify QuotaProxy --append --privs "([^"]+)"/m.exec(guide) ?? [];
  expect([...(current ?? []), ...latest.split(' ')].toSorted()).toEqual(demanded.toSorted());
  expect(old).toEqual(current?.filter((privilege) => !/^(?:SDN|Mapping)\./.test(privilege)));
});

test("the tenants' role is none that the guide warns of", () => {
  const [, tenant = ''] = /pveum role add QuotaTenant --privs "([^"]+)"/.exec(guide) ?? [];
  const warned = [...guide.matchAll(/^\| (`.*) \| \S/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([A-Z]\w+\.[\w.*]+)`/g)].map(([, name = '']) => name.replace('*', '')),
  );
  expect(warned).toContain('VM.Config.');
  for (const privilege of tenant.split(' ')) expect(warned.filter((name) => privilege.startsWith(name))).toEqual([]);
});

test('the commands and files that the guide names are there', () => {
  const named = [...guide.matchAll(/(?:^quota|^\S+ node \.|`quota) ([a-z]+)(?: ([a-z]+))?/gm)].map(
    ([, first = '', second = '']) => [first, `${first} ${second}`],
  );
  expect(named.length).toBeGreaterThan(4);
  for (const names of named) expect(commands.some(({ name }) => names.includes(name))).toBe(true);
  for (const [, file = ''] of guide.matchAll(/`((?:nginx|systemd|docs|config)\/[\w./-]+|Dockerfile|README\.md)`/g))
    expect([file, existsSync(file)]).toEqual([file, true]);
  for (const [, link = ''] of guide.matchAll(/\]\(([^)#:]+)\)/g)) expect(existsSync(join('docs', link))).toBe(true);
});

test("the guide's tenant gets limits of the template's resources, in its units", () => {
  const [, tenant = ''] = /^quota user set ((?:.*\\\n)*.*)$/m.exec(guide) ?? [];
  const limits = [...tenant.matchAll(/resources\.(\w+)\.global(?:\.max=(\d+))?/g)].map(([, name = '', max]) => {
    const { multiplier = 1 } = { ...template.resources[name as keyof typeof template.resources] } as Multiplied;
    return [name, max && Number(max) * multiplier];
  });
  expect(Object.fromEntries(limits)).toEqual({
    ...{ cpu: undefined, cores: 16, memory: 32 * 2 ** 30, swap: 4 * 2 ** 30, local: 100 * 2 ** 30, network: 10 ** 9 },
  });
});

interface Multiplied {
  readonly multiplier?: number;
}
