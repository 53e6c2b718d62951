import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

/** The known ways to take more of PVE than a quota allows, and the tests that try them: by file and by title. */
const ways: readonly (readonly [way: string, file: string, ...titles: readonly string[]])[] = [
  ['a query string that overrides the body', 'ways-transport', 'a query that overrides the body'],
  ['separators that only PVE knows', 'ways-transport', 'a form that others split elsewhere than PVE'],
  ['other formats of the answer', 'ways-transport', 'another format of the answer'],
  ['paths that one side normalises', 'ways-transport', 'a path that is cut elsewhere'],
  ['the node localhost', 'ways-transport', 'the node that answers, instead of one by name'],
  ['a credential beside the token', 'ways-transport', 'two credentials in one request'],
  ['other ways to write a value', 'ways-transport', 'a value that PVE reads as more'],
  ['aliases of keys and methods', 'ways-config', 'other words for the same thing'],
  [
    "a root disk's size by word of the configuration",
    'ways-config',
    "a container's root disk counts as its storage has it",
  ],
  ['a root disk that is exchanged', 'ways-config', 'a root disk that the configuration forgets for another one'],
  ['an image attached as a CD-ROM', 'ways-config', 'an image that was attached as a CD-ROM and then deleted'],
  [
    'unused volumes overwritten or forgotten',
    'ways-config',
    'an unused volume cannot be overwritten',
    "a container's unused volume that a snapshot needs",
  ],
  ['a volume of size zero', 'ways-config', 'a mount point of size'],
  ['limits that are left out', 'ways-config', 'limits that are left out'],
  ['changes that stay pending', 'ways-config', 'changes that wait for the next start'],
  ['processors and memory to be plugged later', 'ways-config', 'processors and memory that come later count now'],
  ['devices and directories of the host', 'ways-config', 'things of the host'],
  ['a guest that calls itself a template', 'ways-config', 'a guest does not count less by calling itself a template'],
  ['volumes of others by name', 'ways-volumes', 'volumes of others'],
  ['a small file with a huge disk in it', 'ways-volumes', 'images that are larger than they look'],
  [
    'a disk that is detached, or moved and kept',
    'ways-volumes',
    'one that is detached still counts',
    'one that is moved and kept counts twice',
  ],
  [
    'a disk that is handed over',
    'ways-volumes',
    'one that is handed over is paid for by the other guest',
    "one cannot be handed over to another's guest",
  ],
  ['a large snapshot of a guest that is small by now', 'ways-lifecycle', 'what a guest once was'],
  ['memory saved to a storage', 'ways-volumes', 'memory that is saved counts on the storage where it goes'],
  ['snapshots that are whole volumes', 'ways-volumes', 'a snapshot that would be a volume of the whole size'],
  ['what a destroyed guest leaves', 'ways-volumes', 'what a destroyed guest has left is paid for'],
  ['volumes allocated for any vmid', 'ways-volumes', 'volumes by their own names'],
  ['backups in numbers', 'ways-volumes', 'backups'],
  [
    'files of no guest',
    'uploads',
    'an upload beyond the quota is refused',
    'nobody overwrites, uses or deletes the file of another',
    'a node fetches for a tenant what the configuration opens',
    'a container template of PVE is fetched as large as it is announced to be',
    'images of registries, whose size PVE tells in no call',
  ],
  [
    'replicas on other nodes',
    'ways-replication',
    'a replica counts on its node from the moment that its job is set up',
    'a job beyond the quota is refused',
    'what grows on a guest with a job grows twice',
    'a job that is removed counts until its replicas are gone',
  ],
  ['a restore of a larger backup', 'ways-lifecycle', 'a restore'],
  ['a clone of something larger, or to elsewhere', 'ways-lifecycle', 'a copy'],
  ['a migration to other storages, or out of the cluster', 'ways-lifecycle', 'a move'],
  [
    'a vmid that has just become free',
    'ways-lifecycle',
    'a vmid that has just become free',
    'of backups that an earlier guest of a free vmid has left',
  ],
  [
    'time: races, tasks, lost answers',
    'ways-doors',
    'requests that fit alone',
    'a task',
    'an answer that says nothing about the outcome',
  ],
  ['calls for all guests, and side doors', 'ways-doors', 'a side door'],
  ["what the token's rights allow", 'ways-doors', "what the token's rights would allow and the tenant's do not"],
  ["reads with the token's rights", 'ways-doors', 'a read'],
];

test('each of the 38 ways past a quota is named once', () => {
  expect(new Set(ways.map(([way]) => way)).size).toBe(38);
});

describe.each(ways)('%s', (_, file, ...titles) => {
  test.each(titles)('is tried: %s', (title) => {
    const text = readFileSync(`test/api/${file}.test.ts`, 'utf8');
    const declared = [...text.matchAll(/(?:\b(?:test|describe)|\])\)?\(\s*(['"`])(.*?)\1,/gs)].map(
      ([, , words = '']) => words,
    );
    expect(declared.filter((words) => words.startsWith(title))).not.toEqual([]);
  });
});
