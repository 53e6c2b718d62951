/** `node scripts/fuzz.ts --cases N [--seed S]`: looks for requests that PVE would read in another way than we do. */

import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { compared, requests } from '../test/support/differential.ts';

const { values } = parseArgs({ options: { cases: { type: 'string', default: '1000000' }, seed: { type: 'string' } } });
const counts = { refused: 0, same: 0 };

const details = fc.check(
  fc.property(requests, (sent) => {
    const outcome = compared(sent);
    if (typeof outcome !== 'string') return false;
    counts[outcome] += 1;
    return true;
  }),
  { numRuns: Number(values.cases), ...(values.seed === undefined ? {} : { seed: Number(values.seed) }) },
);

const [example] = details.counterexample ?? [];
console.log(`seed ${details.seed}: ${counts.same} read alike, ${counts.refused} refused`);
if (details.failed) {
  console.log('read in two ways:', example, details.errorInstance ?? '');
  if (example !== undefined) console.log(JSON.stringify(compared(example), null, 2));
  process.exitCode = 1;
}
