/** Files named `localdb.json`, as ProxmoxAAS has written them over the years. */

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { JsonError, parseJson } from '../json.ts';
import type { Resources } from '../quota/resources.ts';
import { check, FaultsError, fits } from '../schema.ts';
import { parseUserName } from './backend.ts';
import { normaliseRecord, type RecordPatch } from './normalise.ts';

/** The first files also held the server's settings, under `global`; those belong to the configuration now. */
const fileSchema = z.strictObject({ users: z.record(z.string(), z.unknown()), global: z.unknown().optional() });

/** Reads all users of a file of any age, in today's form; throws FaultsError with everything that is wrong in it. */
export function readLocalFile(file: string, resources: Resources): ReadonlyMap<string, RecordPatch> {
  const checked = check(fileSchema, parse(file));
  if (!fits(checked)) throw new FaultsError(file, checked.faults);
  const users = Object.entries(checked.value.users).map(([name, data]) => {
    const faults =
      parseUserName(name) === null ? [{ field: name, problem: 'expected a user name such as alice@pve' }] : [];
    return { name, faults, record: normaliseRecord(data, resources, ['users', name]) };
  });
  const faults = users.flatMap(({ faults, record }) => [...faults, ...record.faults]);
  if (faults.length > 0) throw new FaultsError(file, faults);
  return new Map(users.flatMap(({ name, record }) => (fits(record) ? [[name, onlyLocal(record.value)] as const] : [])));
}

/** What PVE or LDAP say about a user is theirs to say, also when a file has kept a copy. */
function onlyLocal({ resources, cluster, templates }: RecordPatch): RecordPatch {
  return {
    ...(resources === undefined ? {} : { resources }),
    ...(cluster === undefined ? {} : { cluster }),
    ...(templates === undefined ? {} : { templates }),
  };
}

function parse(file: string): unknown {
  try {
    return parseJson(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof JsonError) throw new FaultsError(file, [{ field: '', problem: error.message }]);
    const code = (error as NodeJS.ErrnoException).code;
    throw new FaultsError(file, [
      { field: '', problem: code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code})` },
    ]);
  }
}
