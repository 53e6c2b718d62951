import { hasSlapd, startSlapd } from '../support/slapd.ts';
import { backendContract, type Trouble } from './contract.ts';
import { localSubject, paasLdapSubject, pveSubject } from './subjects.ts';

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
  start: () => paasLdapSubject({ deadline: 0.5 }),
});

backendContract({
  name: 'paasldap over OpenLDAP',
  can: everything,
  skip: hasSlapd || process.env.CI === 'true' ? undefined : 'slapd is not installed',
  start: async () => paasLdapSubject({ ldap: await startSlapd(), deadline: 10 }),
});
