import { expect, test } from 'vitest';
import { type Config, hintsOf } from '../../src/config.ts';

type Part = Parameters<typeof hintsOf>[0];

const backends = { pve: {}, localdb: {} } as unknown as Config['backends'];
const users: Config['handlers']['users'] = { realm: { pve: ['localdb'] }, otherwise: [], any: ['localdb'] };
const right: Part = { backends, handlers: { instance: { pve: 'pve' }, users }, hold: 30 };

const withUsers = (more: Partial<typeof users>): Part => ({
  ...right,
  handlers: { instance: { pve: 'pve' }, users: { ...users, ...more } },
});

test.each<[string, Part, readonly string[]]>([
  ['nothing of what is right', right, []],
  ['a time in which PVE may still act', { ...right, hold: 29 }, ['hold: 29 is less than the 30 seconds']],
  [
    'a backend that nobody asks',
    { ...right, backends: { ...backends, crm: {} } as unknown as Config['backends'] },
    ['backends: "crm" is used by no realm and no list: name it in handlers.users'],
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
