import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { methods } from '../../../simulator/methods/index.ts';

interface Published {
  readonly method: string;
  readonly path: string;
  readonly parameters?: readonly string[];
}

const nameOf = ({ method, path }: Published) => `${method} ${path}`;

test("every simulated method is one of PVE's, with the same parameters", () => {
  const schema = new URL('../../contract/pve-api/9.2.json', import.meta.url);
  const published = JSON.parse(readFileSync(schema, 'utf8')) as readonly Published[];
  // What PVE publishes begins below its root.
  const root = { method: 'GET', path: '/' };
  const parameters = new Map([root, ...published].map((entry: Published) => [nameOf(entry), entry.parameters ?? []]));
  const outsideThePath = (path: string, names: readonly string[]) =>
    names.filter((name) => !path.includes(`{${name}}`)).sort();
  for (const { method, path, parameters: own } of methods) {
    const name = nameOf({ method, path });
    expect(parameters.has(name), name).toBe(true);
    const theirs = outsideThePath(path, parameters.get(name) ?? []);
    expect({ name, parameters: outsideThePath(path, Object.keys(own)) }).toEqual({ name, parameters: theirs });
  }
});
