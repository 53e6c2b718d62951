/** Finding the row of the policy table for a call: the path's fixed words first, then what its braces take. */

import type { Call, Method } from '../pve/call.ts';
import type { Policy, Resolved } from './policy.ts';

/** Whatever may follow: PVE joins all remaining parts of the path with slashes, and a call holds them as one. */
const rest = /^(?!\.{1,2}(?:\/|$))[^\s\p{Cc}/]+(?:\/(?!\.{1,2}(?:\/|$))[^\s\p{Cc}/]+)*$/u;

/** What braces take whose name says no more: one part of a path. */
const part = /^(?!\.{1,2}$)[^\s\p{Cc}/]+$/u;

const storage = '(?:[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:)?';
const volumeName = '[A-Za-z0-9][A-Za-z0-9._:+@%~=,-]*';

/**
 * What braces of these names take: only what PVE would understand as such a thing. Of several braces in one place the
 * one that is listed first here is tried first, and all of these before any other. A volume may be written with or
 * without its storage, as PVE takes it.
 */
const forms: Readonly<Record<string, RegExp>> = {
  node: /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/,
  vmid: /^[1-9][0-9]{2,8}$/,
  upid: /^UPID:[^\s/]+:$/,
  snapshot: /^[A-Za-z][A-Za-z0-9_-]{1,39}$/,
  storage: /^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$/,
  backup: new RegExp(`^${storage}backup/[A-Za-z0-9._:+/-]+$`),
  /** Files that belong to no guest. */
  file: new RegExp(`^${storage}(?:iso|vztmpl|import|snippets)(?:/${volumeName})+$`),
  /** Any other volume that has a guest's vmid in its name. */
  image: new RegExp(
    `^${storage}(?:[1-9][0-9]{2,8}/|base(?:vol)?-[1-9][0-9]{2,8}-${volumeName}/)*(?:vm|base|subvol|basevol)-[1-9][0-9]{2,8}-${volumeName}$`,
  ),
};
const ranks = Object.keys(forms);
const last: Readonly<Record<string, RegExp>> = { volume: rest, cidr: rest };

interface Brace {
  readonly name: string;
  readonly form: RegExp;
  readonly branch: Branch;
}

/** The rows whose paths have begun alike. Most branches lack most of this, so it is made when needed. */
interface Branch {
  words?: Map<string, Branch>;
  braces?: Brace[];
  rows?: Policy[];
}

/** What finding a row looks at: parameters as far as they are known. */
export type Sought = Pick<Call, 'method' | 'segments' | 'params'>;

/**
 * Makes the function that finds the row for a call; undefined when no row admits it. Fixed words come before braces,
 * strict braces before others; of several rows of one path the first that fits is taken.
 */
export function policyTable(rows: readonly Policy[]): (sought: Sought) => Resolved | undefined {
  const root: Branch = {};
  for (const row of rows) {
    let branch = root;
    for (const word of partsOf(row.path)) branch = grown(branch, word);
    branch.rows ??= [];
    branch.rows.push(row);
  }
  return (sought) => find(root, sought, 0);
}

/** The parts of a row's path: fixed words, and names in braces. */
export function partsOf(path: string): string[] {
  return path.split('/').filter((word) => word !== '');
}

/** The name in the braces; undefined for a fixed word. */
export function braceName(word: string): string | undefined {
  return word.startsWith('{') && word.endsWith('}') ? word.slice(1, -1) : undefined;
}

function grown(branch: Branch, word: string): Branch {
  const name = braceName(word);
  if (name === undefined) {
    branch.words ??= new Map();
    const next = branch.words.get(word) ?? {};
    branch.words.set(word, next);
    return next;
  }
  branch.braces ??= [];
  const known = branch.braces.find((brace) => brace.name === name);
  if (known !== undefined) return known.branch;
  const brace = { name, form: forms[name] ?? last[name] ?? part, branch: {} };
  branch.braces.push(brace);
  branch.braces.sort((one, other) => rankOf(one.name) - rankOf(other.name));
  return brace.branch;
}

function rankOf(name: string): number {
  if (name in last) return ranks.length + 1;
  const rank = ranks.indexOf(name);
  return rank < 0 ? ranks.length : rank;
}

interface Found extends Resolved {
  readonly named: Record<string, string>;
}

function find({ words, braces, rows }: Branch, sought: Sought, depth: number): Found | undefined {
  const segment = sought.segments[depth];
  if (segment === undefined) {
    const policy = rows?.find((row) => fits(row, sought));
    return policy && { policy, named: {} };
  }
  const word = words?.get(segment);
  const found = word && find(word, sought, depth + 1);
  if (found !== undefined) return found;
  for (const { name, form, branch } of braces ?? []) {
    const deeper = form.test(segment) ? find(branch, sought, depth + 1) : undefined;
    if (deeper === undefined) continue;
    deeper.named[name] = segment;
    return deeper;
  }
  return undefined;
}

function fits(
  row: Policy,
  { method, params }: { readonly method: Method; readonly params: Sought['params'] },
): boolean {
  return row.method === method && (!('when' in row) || row.when?.(params) !== false);
}
