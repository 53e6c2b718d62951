/** Texts that nobody may read in a log, an error or a printed configuration. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { z } from 'zod';

const mask = '[secret]';

/** A text that shows itself as `[secret]` however it is printed; only `reveal()` gives it away. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return mask;
  }

  toJSON(): string {
    return mask;
  }

  [inspect.custom](): string {
    return mask;
  }
}

const name = z.string().min(1);

const reference = z.union([
  z.strictObject({ env: name }),
  z.strictObject({ file: name }),
  z.strictObject({ credential: name }),
]);

const source = z.union([name, reference], {
  error: 'expected a text, {"env": "NAME"}, {"file": "/path"} or {"credential": "name"}',
});

/**
 * A secret of the configuration: written out, or taken from an environment variable, a file or a systemd credential.
 * It is read when the configuration is loaded; one that is missing or empty is a fault that names its source.
 */
export const secret = source.transform((value, context): Secret => {
  try {
    return new Secret(read(value));
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

/** A copy whose references to secrets are plain texts, for commands that need no secrets and may not read them. */
export function withoutReferences(input: unknown): unknown {
  if (typeof input !== 'object' || input === null) return input;
  if (Array.isArray(input)) return input.map(withoutReferences);
  if (reference.safeParse(input).success) return 'unread';
  return Object.fromEntries(Object.entries(input).map(([key, item]) => [key, withoutReferences(item)]));
}

function read(value: z.output<typeof source>): string {
  if (typeof value === 'string') return value;
  if ('env' in value) {
    const text = process.env[value.env];
    if (text === undefined) throw new Error(`the environment variable ${value.env} is not set`);
    return filled(text, `the environment variable ${value.env} is empty`);
  }
  if ('file' in value) return readSecretFile(value.file);
  const directory = process.env.CREDENTIALS_DIRECTORY;
  if (directory === undefined) {
    throw new Error(
      `the credential ${value.credential} needs systemd's LoadCredential=: CREDENTIALS_DIRECTORY is not set`,
    );
  }
  if (/^\.\.?$|[/\0]/.test(value.credential)) throw new Error('a credential is a plain name without a slash');
  return readSecretFile(
    join(directory, value.credential),
    `: the unit needs LoadCredential=${value.credential}:/path/of/the/file`,
  );
}

function readSecretFile(file: string, remedy = ''): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code = 'unknown reason' } = error as NodeJS.ErrnoException;
    throw new Error(`the file ${file} cannot be read (${code})${remedy}`);
  }
  // An editor leaves a newline at the end, which is no part of the secret.
  return filled(text.replace(/\r?\n$/, ''), `the file ${file} is empty`);
}

function filled(text: string, problem: string): string {
  if (text === '') throw new Error(problem);
  return text;
}

/** Names of keys whose values are secrets, also in settings that this program does not know. */
export const secretKey = /pass|secret|token|uuid|credential|private|apikey|api_key/i;

/**
 * A copy fit to be printed: every secret is masked, also those in the free-form settings of backends,
 * which are known by the names of their keys, and passwords within URLs.
 */
export function masked(value: unknown, key = ''): unknown {
  if (value instanceof Secret) return mask;
  if (Array.isArray(value)) return value.map((item) => masked(item, key));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, masked(item, name)]));
  }
  if (typeof value === 'string')
    return secretKey.test(key) ? mask : value.replace(/(:\/\/[^/@\s]*?):[^/@\s]*@/g, `$1:${mask}@`);
  return typeof value === 'number' && secretKey.test(key) ? mask : value;
}
