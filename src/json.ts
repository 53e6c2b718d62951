/** JSON: what a parsed value is, and texts that people write by hand, in which a key given twice is wrong. */

import { secretKey } from './secret.ts';

/** Whether a value has keys of its own: neither null nor a list. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A text is not JSON; the message gives line, column and the line itself. */
export class JsonError extends Error {
  override readonly name = 'JsonError';

  constructor(text: string, index: number, problem: string) {
    const before = text.slice(0, index).split('\n');
    const column = (before.at(-1) ?? '').length + 1;
    super(
      `line ${before.length}, column ${column}: ${problem}\n${excerpt(text.split('\n'), before.length - 1, column)}`,
    );
  }
}

/** Parses a JSON text or throws JsonError. */
export function parseJson(source: string): unknown {
  const text = source.replace(/^\uFEFF/, '');
  const end = scanValue(text, 0);
  const rest = skipBlanks(text, end);
  if (rest < text.length) throw new JsonError(text, rest, 'expected nothing more after the end');
  return JSON.parse(text);
}

/** The line, cut to what is near the column and marked; one that may hold a secret is not shown. */
function excerpt(lines: readonly string[], line: number, column: number): string {
  const text = (lines[line] ?? '').replaceAll(/[\t\r]/g, ' ');
  const before = lines[line - 1] ?? '';
  if (secretKey.test(text) || (/:\s*$/.test(before) && secretKey.test(before)))
    return '  (not shown: it may hold a secret)';
  const from = Math.max(0, column - 60);
  return `  ${text.slice(from, column + 40)}\n  ${' '.repeat(column - 1 - from)}^`;
}

const blanks = /[ \t\r\n]*/y;
const quoted = /"[^"\\\p{Cc}]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\p{Cc}]*)*"/uy;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])/y;
const word = /(?:true|false|null)(?!\w)/y;

function skipBlanks(text: string, at: number): number {
  blanks.lastIndex = at;
  blanks.test(text);
  return blanks.lastIndex;
}

/** Each `scan...` returns where the thing that begins at (or after blanks behind) `start` ends. */
function scanValue(text: string, start: number): number {
  const at = skipBlanks(text, start);
  if (text[at] === '{') return scanMembers(text, at, '}');
  if (text[at] === '[') return scanMembers(text, at, ']');
  for (const token of [quoted, number, word]) {
    token.lastIndex = at;
    if (token.test(text)) return token.lastIndex;
  }
  throw new JsonError(text, at, `expected a value${hint(text, at)}`);
}

function scanMembers(text: string, open: number, close: '}' | ']'): number {
  const keys = new Set<string>();
  let at = skipBlanks(text, open + 1);
  if (text[at] === close) return at + 1;
  for (;;) {
    at = scanValue(text, close === '}' ? scanKey(text, at, keys) : at);
    at = skipBlanks(text, at);
    if (text[at] === close) return at + 1;
    if (text[at] !== ',') throw new JsonError(text, at, `expected "," or "${close}"${hint(text, at)}`);
    at = skipBlanks(text, at + 1);
    if (text[at] === close)
      throw new JsonError(text, at, `expected another entry: JSON has no comma before "${close}"`);
  }
}

function scanKey(text: string, at: number, keys: Set<string>): number {
  quoted.lastIndex = at;
  if (!quoted.test(text)) throw new JsonError(text, at, `expected a key in double quotes${hint(text, at)}`);
  const end = quoted.lastIndex;
  const key = String(JSON.parse(text.slice(at, end)));
  if (keys.has(key)) throw new JsonError(text, at, `the key ${JSON.stringify(key)} is given twice`);
  keys.add(key);
  const colon = skipBlanks(text, end);
  if (text[colon] !== ':') throw new JsonError(text, colon, `expected ":"${hint(text, colon)}`);
  return colon + 1;
}

function hint(text: string, at: number): string {
  if (at >= text.length) return ', got the end of the text';
  if (/^(\/[/*]|#)/.test(text.slice(at, at + 2))) return ': JSON has no comments';
  if (text[at] === "'") return ': JSON has double quotes only';
  if (text[at] === '"') return ': a text that does not end, or with a character that must be escaped';
  return '';
}
