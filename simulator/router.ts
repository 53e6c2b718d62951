/** Finds the method of a call, the way PVE walks its tree: fixed words first, then a parameter. */

import type { Verb } from './call.ts';
import type { MethodRow } from './method.ts';
import { componentsOf } from './reading.ts';

export interface Route {
  readonly row: MethodRow;
  /** The parameters in the path, as text. */
  readonly parameters: ReadonlyMap<string, string>;
}

interface Branch {
  readonly words: Map<string, Branch>;
  readonly rows: Map<Verb, MethodRow>;
  parameter?: { readonly name: string; readonly branch: Branch };
}

/** Answers the method for a decoded path; undefined where PVE has none. */
export type Router = (method: Verb, path: string) => Route | undefined;

export function createRouter(rows: readonly MethodRow[]): Router {
  const root = newBranch();
  for (const row of rows) branchFor(root, componentsOf(row.path)).rows.set(row.method, row);
  return (method, path) => {
    const found = walk(root, componentsOf(path), new Map());
    const row = found?.branch.rows.get(method);
    return found && row && { row, parameters: found.parameters };
  };
}

function newBranch(): Branch {
  return { words: new Map(), rows: new Map() };
}

function branchFor(root: Branch, template: readonly string[]): Branch {
  return template.reduce((branch, component) => {
    const name = /^\{(.+)\}$/.exec(component)?.[1];
    const child = (name === undefined ? branch.words.get(component) : branch.parameter?.branch) ?? newBranch();
    if (name === undefined) branch.words.set(component, child);
    else branch.parameter ??= { name, branch: child };
    return child;
  }, root);
}

function walk(
  branch: Branch,
  path: readonly string[],
  parameters: ReadonlyMap<string, string>,
): { readonly branch: Branch; readonly parameters: ReadonlyMap<string, string> } | undefined {
  const [component, ...rest] = path;
  if (component === undefined) return { branch, parameters };
  const word = branch.words.get(component);
  if (word) return walk(word, rest, parameters);
  if (!branch.parameter) return undefined;
  const { name, branch: child } = branch.parameter;
  // A volume's name may hold slashes, so it takes all that is left.
  const isVolume = name === 'volume';
  const value = parameterOf(isVolume ? path.join('/') : component);
  return value === undefined ? undefined : walk(child, isVolume ? [] : rest, new Map([...parameters, [name, value]]));
}

/** Anything without white space; one newline at the end is dropped. */
function parameterOf(component: string): string | undefined {
  return /^(\S+)\n?$/.exec(component)?.[1];
}
