import { defineConfig } from 'vitest/config';

const heavy = 'test/load/**/*.test.ts';

export default defineConfig({
  test: {
    // Nothing promised is shown by how long a test takes: these end what hangs, also where the machine is busy.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // A worker reads the modules once for all of its files: none replaces a module, and each closes what it opened.
    isolate: false,
    projects: [
      {
        extends: true,
        test: { name: 'stories', include: ['test/**/*.test.ts'], exclude: [heavy], sequence: { groupOrder: 0 } },
      },
      // What keeps every core busy by itself runs alone, so that it starves no other test of its time.
      {
        extends: true,
        test: { name: 'load', include: [heavy], fileParallelism: false, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
