/** `import FILE`: takes over the users of a `localdb.json` of any age. */

import { readLocalFile } from '../backends/local-file.ts';
import { faultsOfNames, type RecordPatch } from '../backends/normalise.ts';
import { type Command, UsageError } from './command.ts';
import { differences } from './difference.ts';
import { withLocalUsers } from './local.ts';

export const importCommand: Command = {
  name: 'import',
  usage: 'FILE [--dry-run]',
  summary: 'take over the users of a localdb.json of any age; users that it does not name stay as they are',
  run: ({ args, configFile, dryRun, print }) => {
    const [file, ...more] = args;
    if (file === undefined || more.length > 0) throw new UsageError('Expected: import FILE');
    return withLocalUsers(configFile, (local, { resources }) => {
      const wanted = readLocalFile(file, resources);
      const present = local.records('user');
      const changed = [...wanted].filter(([name, record]) => changesOf(present.get(name), record).length > 0);
      for (const [name, record] of wanted) {
        print(describe(name, present.get(name), record));
        for (const { field, problem } of faultsOfNames(record, resources))
          print(`  note: ${field} has no effect: ${problem}`);
      }
      if (!dryRun) local.takeOver(file, new Map(changed), new Date());
      const same = wanted.size - changed.length;
      print(`${dryRun ? 'Would import' : 'Imported'} ${changed.length} of ${wanted.size} users; ${same} unchanged.`);
      return 0;
    });
  },
};

function changesOf(before: RecordPatch | undefined, after: RecordPatch): string[] {
  return before === undefined ? ['new'] : differences(before, after);
}

function describe(name: string, before: RecordPatch | undefined, after: RecordPatch): string {
  if (before === undefined) return `${name}: new`;
  const changes = differences(before, after);
  return changes.length === 0
    ? `${name}: unchanged`
    : [`${name}: changed`, ...changes.map((change) => `  ${change}`)].join('\n');
}
