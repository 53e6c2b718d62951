/** How a value that does not fit its schema is told: where, what it is, what was expected. */

import { closest, distance } from 'fastest-levenshtein';
import type { z } from 'zod';
import type { Fault } from './errors.ts';
import { masked } from './secret.ts';

/** A file (or other input) of the administrator's cannot be used; the message lists every fault on a line of its own. */
export class FaultsError extends Error {
  override readonly name = 'FaultsError';
  readonly faults: readonly Fault[];

  constructor(what: string, faults: readonly Fault[]) {
    const count = faults.length === 1 ? '1 fault' : `${faults.length} faults`;
    super(
      [
        `${what} has ${count}:`,
        ...faults.map(({ field, problem }) => `  ${field === '' ? '' : `${field}: `}${problem}`),
      ].join('\n'),
    );
    this.faults = faults;
  }
}

/** Either the value as its schema gives it, or every fault in it. */
export type Checked<T> = { readonly value: T; readonly faults: readonly [] } | { readonly faults: readonly Fault[] };

/** Holds `input` against the schema; all faults are found at once, and none of them shows a secret. */
export function check<T>(schema: z.ZodType<T>, input: unknown, at: Path = []): Checked<T> {
  const result = schema.safeParse(input, { error: tell });
  if (result.success) return { value: result.data, faults: [] };
  return { faults: result.error.issues.flatMap((issue) => faultsOf(issue, at, input)) };
}

/** Whether the value fits; narrows what `check` gave. */
export function fits<T>(checked: Checked<T>): checked is { readonly value: T; readonly faults: readonly [] } {
  return checked.faults.length === 0;
}

type Path = readonly PropertyKey[];

/** A path as a person writes it: `handlers.users.realm.pve[0]`. */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const name = String(part);
    if (!/^[\w$@+-]+$/.test(name)) return `${text}[${JSON.stringify(name)}]`;
    return text === '' ? name : `${text}.${name}`;
  }, '');
}

/** ` (did you mean "x"?)` when one of the known names is near enough to be what was meant, else nothing. */
export function didYouMean(text: string, known: readonly string[]): string {
  if (known.length === 0) return '';
  const near = closest(text.toLowerCase(), known);
  return distance(text.toLowerCase(), near.toLowerCase()) <= Math.max(2, text.length / 3)
    ? ` (did you mean "${near}"?)`
    : '';
}

/** A refusal of one's own wording for a schema: what was found, then what is expected there. */
export function expected(what: string): (issue: { readonly input?: unknown }) => string {
  return ({ input }) => `expected ${what}, got ${show(input)}`;
}

function tell(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'custom') return undefined;
  if (issue.code === 'unrecognized_keys') {
    const shape = (issue.inst as z.core.$ZodObject | undefined)?._zod.def.shape ?? {};
    return issue.keys.map((key) => `unknown key${didYouMean(key, Object.keys(shape))}`).join('\n');
  }
  const input =
    issue.code === 'invalid_union' && issue.discriminator !== undefined
      ? Object(issue.input)[issue.discriminator]
      : issue.input;
  return `expected ${expectation(issue)}, got ${show(input, issue.path ?? [])}`;
}

function expectation(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return described(issue.expected);
    case 'invalid_value':
      return issue.values.map((value) => JSON.stringify(value)).join(' or ');
    case 'invalid_union':
      return (
        (issue.options as readonly unknown[] | undefined)?.map((value) => JSON.stringify(value)).join(' or ') ??
        'another form'
      );
    case 'too_small':
      return `${measure(issue.origin, 'at least', 'more than', issue.inclusive)} ${issue.minimum}${unitOf(issue.origin, issue.minimum)}`;
    case 'too_big':
      return `${measure(issue.origin, 'at most', 'less than', issue.inclusive)} ${issue.maximum}${unitOf(issue.origin, issue.maximum)}`;
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_format':
      return issue.format === 'regex' ? `a text that matches ${issue.pattern}` : `a valid ${issue.format}`;
    case 'invalid_key':
      return 'another name';
    default:
      return 'another value';
  }
}

function described(type: string): string {
  const articles: Readonly<Record<string, string>> = {
    string: 'a text',
    number: 'a number',
    int: 'a whole number',
    boolean: 'true or false',
    array: 'a list',
    object: 'an object',
    record: 'an object',
  };
  return articles[type] ?? type;
}

function measure(origin: string, inclusive: string, exclusive: string, isInclusive: boolean | undefined): string {
  const words = isInclusive === false ? exclusive : inclusive;
  return origin === 'number' || origin === 'int' ? `a number of ${words}` : words;
}

function unitOf(origin: string, count: number | bigint): string {
  if (origin === 'string') return count === 1 ? ' character' : ' characters';
  if (origin === 'array') return count === 1 ? ' entry' : ' entries';
  return '';
}

function show(value: unknown, path: Path = []): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(masked(value, String(path.at(-1) ?? '')) ?? null);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function faultsOf(issue: z.core.$ZodIssue, before: Path, input: unknown): Fault[] {
  const path = [...before, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    const problems = issue.message.split('\n');
    return issue.keys.map((key, index) => ({ field: formatPath([...path, key]), problem: problems[index] ?? '' }));
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0 && issue.message.startsWith('expected another form')) {
    return faultsOfUnion(issue.errors, path, input);
  }
  if (issue.code === 'invalid_key' || issue.code === 'invalid_element') {
    return issue.issues.flatMap((inner) => faultsOf(inner, path, input));
  }
  return [{ field: formatPath(path), problem: issue.message }];
}

/** When no form fits, the one that was meant (by its fixed values), or that comes nearest, says why; when none comes near, all are named. */
function faultsOfUnion(errors: readonly (readonly z.core.$ZodIssue[])[], path: Path, input: unknown): Fault[] {
  const near = errors.filter((issues) => !issues.some(refusesWhole));
  const [best] = near.toSorted((a, b) => mismatches(a) - mismatches(b) || a.length - b.length || depth(b) - depth(a));
  if (best !== undefined) return best.flatMap((issue) => faultsOf(issue, path, input));
  const [first, ...others] = errors.flatMap((issues) => issues.filter(refusesWhole).map(({ message }) => message));
  const wanted = [first ?? '', ...others].map((message) => /^expected (.*?), got /.exec(message)?.[1] ?? message);
  const got = /, got .*$/s.exec(first ?? '')?.[0] ?? '';
  return [{ field: formatPath(path), problem: `expected ${[...new Set(wanted)].join(' or ')}${got}` }];
}

/** Properties that tell forms apart and are another form's. */
function mismatches(issues: readonly z.core.$ZodIssue[]): number {
  return issues.filter(({ code, path }) => path.length === 1 && (code === 'invalid_value' || code === 'invalid_format'))
    .length;
}

function depth(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(...issues.map(({ path }) => path.length));
}

function refusesWhole(issue: z.core.$ZodIssue): boolean {
  return issue.path.length === 0 && issue.code !== 'unrecognized_keys';
}
