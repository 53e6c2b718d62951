/** Programs of the system that tests talk to. */

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The full path of the first of these programs that is on this machine, also where only root looks. */
export function findProgram(...names: readonly string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
}

/** Why a test that needs these programs is skipped: never where `CI` is set, so that it fails there without them. */
export function missingPrograms(...names: readonly string[]): string | undefined {
  const missing = names.filter((name) => findProgram(name) === undefined);
  return missing.length === 0 || process.env.CI === 'true' ? undefined : `${missing.join(' and ')} not installed`;
}
