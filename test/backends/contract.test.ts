import { afterAll } from 'vitest';
import { hasSlapd, type Slapd, startSlapd } from '../support/slapd.ts';
import { backendContract, type Trouble } from './contract.ts';
import { ldapSubject, localSubject, paasLdapSubject, pveSubject } from './subjects.ts';

backendContract({
  name: 'pve',
  can: ['signIn', 'attributes', 'groups', 'changePasswords'],
  troubles: ['away', 'never', 'reset', 'half', 'endless', 'failing'],
  start: pveSubject,
});

backendContract({ name: 'localdb', can: ['changeUsers'], start: localSubject });

const everything = ['signIn', 'attributes', 'groups', 'changeUsers', 'changeGroups', 'changePasswords'] as const;
const everyTrouble: readonly Trouble[] = [
  'away',
  'never',
  'reset',
  'half',
  'endless',
  'failing',
  'html',
  'nothing',
  'redirect',
  'nonsense',
];

backendContract({
  name: 'paasldap',
  can: everything,
  troubles: everyTrouble,
  start: (deadline) => paasLdapSubject({ deadline }),
});

const skip = hasSlapd || process.env.CI === 'true' ? undefined : 'slapd is not installed';

let slapd: Promise<Slapd> | undefined;

/** The one OpenLDAP of this file. */
function running(): Promise<Slapd> {
  slapd ??= startSlapd();
  return slapd;
}

afterAll(async () => (await slapd)?.[Symbol.asyncDispose]());

backendContract({
  name: 'paasldap over OpenLDAP',
  can: everything,
  skip,
  start: async (deadline) => {
    const { bind, reset } = await running();
    await reset();
    return paasLdapSubject({ ldap: { bind, [Symbol.asyncDispose]: async () => {} }, deadline });
  },
});

backendContract({
  name: 'ldap',
  can: everything,
  skip,
  troubles: ['away', 'never', 'reset', 'half', 'endless', 'html', 'nothing', 'nonsense'],
  start: async (deadline) => ldapSubject(await running(), { deadline }),
});
