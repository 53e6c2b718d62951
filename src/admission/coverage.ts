/** How the policy table meets a version of PVE: which row each of its methods has, and what of it is not taken. */

import type { PublishedMethod } from '../pve/published-schema.ts';
import type { Policy } from './policy.ts';

export interface Coverage {
  readonly method: string;
  readonly path: string;
  /** The classes of its rows, each once; none: every call of it is refused. */
  readonly classes: readonly Policy['class'][];
  /** Of a call that is judged, the parameters that no row of it names, so that they are refused for tenants. */
  readonly refused: readonly string[];
}

/** For each method that PVE has, the rows that are there for it, whatever the braces in its path are called. */
export function coverageOf(published: readonly PublishedMethod[], rows: readonly Policy[]): Coverage[] {
  const byShape = Map.groupBy(rows, shapeOf);
  return published.map(({ method, path, parameters }) => {
    const found = byShape.get(shapeOf({ method, path })) ?? [];
    const tables = found.flatMap((row) => ('params' in row ? [row.params] : []));
    const isTaken = (name: string) => path.includes(`{${name}}`) || tables.some((table) => Object.hasOwn(table, name));
    return {
      method,
      path,
      classes: [...new Set(found.map((row) => row.class))],
      refused: tables.length === 0 ? [] : parameters.filter((name) => !isTaken(name)),
    };
  });
}

function shapeOf({ method, path }: { readonly method: string; readonly path: string }): string {
  return `${method} ${path.replace(/\{[^}]*\}/g, '{}')}`;
}
