/** The schema of its API that PVE publishes: which methods there are, and what they take. */

import { isObject } from '../json.ts';

/** One method, with the names of its parameters; `net[n]` stands for `net0`, `net1`, ... */
export interface PublishedMethod {
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly string[];
}

/**
 * The methods in the text of a schema: PVE's own `apidoc.js`, the tree in it as JSON, or a JSON list of `method`,
 * `path` and `parameters`. Throws a SyntaxError for any other text.
 */
export function readPublishedSchema(text: string): PublishedMethod[] {
  const data: unknown = JSON.parse(arrayIn(text));
  const methods = Array.isArray(data) ? data.flatMap(methodsOf) : [];
  if (methods.length === 0) throw new SyntaxError('it lists no method of an API');
  return methods;
}

/** The array that the script assigns; what follows it is the program that shows it. */
function arrayIn(text: string): string {
  const script = /\b(?:apiSchema|pveapi)\s*=\s*(?=\[)/.exec(text);
  if (script === null) return text;
  const from = text.slice(script.index + script[0].length);
  let depth = 0;
  for (const { 0: token, index } of from.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/gs)) {
    if (token === '[' || token === '{') depth += 1;
    if (token === ']' || token === '}') depth -= 1;
    if (depth === 0) return from.slice(0, index + 1);
  }
  throw new SyntaxError('it ends within the schema');
}

/** The methods of one entry: of a list, or of a node of the tree with all below it. */
function methodsOf(entry: unknown): PublishedMethod[] {
  if (!isObject(entry) || typeof entry.path !== 'string') return [];
  const { method, path, parameters, info, children } = entry;
  if (typeof method === 'string') return [{ method, path, parameters: namesIn(parameters) }];
  const here = Object.entries(isObject(info) ? info : {}).map(([name, about]) => ({
    method: name,
    path,
    parameters: namesIn(isObject(about) && isObject(about.parameters) ? about.parameters.properties : undefined),
  }));
  return [...here, ...(Array.isArray(children) ? children.flatMap(methodsOf) : [])];
}

function namesIn(parameters: unknown): string[] {
  if (Array.isArray(parameters)) return parameters.filter((name) => typeof name === 'string');
  return Object.keys(isObject(parameters) ? parameters : {});
}
