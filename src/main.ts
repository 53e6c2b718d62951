/** The entry of every process that serves or administers: the server itself, or one of the commands. */

import module from 'node:module';

// Everything else is loaded behind this line, so that its compiled form is kept and start takes half the time.
module.enableCompileCache();
const { run } = await import('./cli/run.ts');
const code = await run(process.argv.slice(2));
if (code !== 0) process.exitCode = code;
