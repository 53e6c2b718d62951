import { expect, test } from 'vitest';
import { type Config, hintsOf, strangersIn } from '../../src/config.ts';
import { resourcesSchema } from '../../src/quota/resources.ts';

type Part = Parameters<typeof hintsOf>[0];

const backends = { pve: {}, localdb: {} } as unknown as Config['backends'];
const users: Config['handlers']['users'] = { realm: { pve: ['localdb'] }, otherwise: [], any: ['localdb'] };
const resources = resourcesSchema.parse({ cores: { type: 'numeric' } });
const right: Part = { backends, handlers: { instance: { pve: 'pve' }, users }, hold: 30, defaultuser: {}, resources };

const withUsers = (more: Partial<typeof users>): Part => ({
  ...right,
  handlers: { instance: { pve: 'pve' }, users: { ...users, ...more } },
});

test.each<[string, Part, readonly string[]]>([
  ['nothing of what is right', right, []],
  ['a time in which PVE may still act', { ...right, hold: 29 }, ['hold: 29 is less than the 30 seconds']],
  [
    'a limit of nothing that is declared',
    { ...right, defaultuser: { resources: { coers: { global: { max: 1 }, nodes: {} } } } },
    [
      'defaultuser.resources.coers: it has no effect, since the configuration declares no such resource (did you mean "cores"?)',
    ],
  ],
  [
    'a backend that nobody asks',
    { ...right, backends: { ...backends, crm: {} } as unknown as Config['backends'] },
    ['backends: "crm" is used by no realm and no list: name it in handlers.users'],
  ],
  [
    'a directory of another realm',
    {
      ...withUsers({ realm: { ...users.realm, ad: ['ldap'] } }),
      backends: { ...backends, ldap: { import: 'ldap', config: { realm: 'ldap' } } } as unknown as Config['backends'],
    },
    ['handlers.users.realm: "ad" names "ldap", which has the users of the realm "ldap"'],
  ],
  ['a backend that is asked for lists alone', withUsers({ realm: {} }), []],
  [
    'a realm without backends',
    withUsers({ realm: { ...users.realm, pam: [] } }),
    ['handlers.users.realm: "pam" has no'],
  ],
])('%s is hinted at with the key, the value and what to do', (_, config, hints) => {
  expect(hintsOf(config)).toEqual(hints.map((hint) => expect.stringContaining(hint)));
});

test('what PVE does not list is hinted at, with what was nearly meant', () => {
  const resources = resourcesSchema.parse({ cores: { type: 'numeric' }, locl: { type: 'storage' } });
  const found = { nodes: ['n1'], storages: ['local', 'nfs'] };
  const [useriso, backups] = [{ node: 'node1', storage: 'nfs' }, { storage: 'tape' }];
  expect(strangersIn({ resources, useriso, backups }, found)).toEqual([
    'resources.locl: PVE lists no storage "locl" (did you mean "local"?): see how it is written, or leave it out',
    'useriso.node: PVE lists no node "node1": see how it is written, or leave it out',
    'backups.storage: PVE lists no storage "tape": see how it is written, or leave it out',
  ]);
  expect(strangersIn({ resources: {} }, found)).toEqual([]);
});
