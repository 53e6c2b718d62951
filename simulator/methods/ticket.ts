/** Signing in, and changing passwords. */

import { type Access, normalisePath, permissionError } from '../access.ts';
import type { Context, MethodRow } from '../method.ts';
import { splitList } from '../named-formats.ts';
import { flag, text, textOf } from '../parameters.ts';
import { PveError, parameterError } from '../pve-error.ts';
import { demandOwnPasswords, newPassword, userid } from './users.ts';

export const ticketMethods: readonly MethodRow[] = [
  { method: 'GET', path: '/access/ticket', permissions: { user: 'world' }, parameters: {}, run: () => null },
  {
    method: 'POST',
    path: '/access/ticket',
    allowToken: false,
    permissions: { user: 'world' },
    parameters: {
      'new-format': flag,
      otp: text,
      password: { type: 'string' },
      path: { type: 'string', optional: true, maxLength: 64, requires: 'privs' },
      privs: { type: 'string', optional: true, format: 'pve-priv-list', maxLength: 64, requires: 'path' },
      realm: { type: 'string', optional: true, format: 'pve-realm', maxLength: 32 },
      'tfa-challenge': text,
      username: { type: 'string', maxLength: 64 },
    },
    run: signIn,
  },
  {
    method: 'PUT',
    path: '/access/password',
    allowToken: false,
    permissions: {
      check: [
        'or',
        ['userid-param', 'self'],
        ['and', ['userid-param', 'Realm.AllocateUser'], ['userid-group', ['User.Modify']]],
      ],
    },
    parameters: {
      'confirmation-password': { type: 'string', optional: true, minLength: 5, maxLength: 64 },
      password: newPassword,
      userid,
    },
    run: changePassword,
  },
];

/** Every cause of a failure reads the same, so that nobody learns which users exist. */
function signIn({ cluster: { access }, param }: Context): unknown {
  const userid = access.canonicalUser(
    param.realm === undefined ? String(param.username) : `${param.username}@${param.realm}`,
  );
  const challenge = textOf(param['tfa-challenge']);
  const [secret, path] = [String(param.password), textOf(param.path)];
  const opensConsole = path !== undefined && access.tickets.verifyVnc(secret, { authid: userid, path }, access.seconds);
  const proof = opensConsole ? 'ticket' : proofOf(access, userid, secret, challenge);
  if (proof === undefined) throw authenticationFailure();
  if (path !== undefined) return verifyRights(access, userid, path, splitList(param.privs));

  const now = access.seconds;
  const needsSecondFactor = proof === 'password' && enabledFactors(access, userid).length > 0;
  const session = {
    username: userid,
    CSRFPreventionToken: access.tickets.issueCsrf(userid, now),
    ticket: needsSecondFactor ? access.tickets.issueChallenge(userid, now) : access.tickets.issue(userid, now),
  };
  return needsSecondFactor ? { ...session, NeedTFA: 1 } : { ...session, ...overview(access, userid) };
}

/** How the caller shows to be that user; undefined when it does not. */
function proofOf(
  access: Access,
  userid: string,
  secret: string,
  challenge: string | undefined,
): 'password' | 'ticket' | 'second factor' | undefined {
  if (!access.isActive(userid)) return undefined;
  const user = access.user(userid);
  if (challenge !== undefined) {
    const isFresh = access.tickets.verifyChallenge(challenge, userid, access.seconds);
    return isFresh && opensFactor(access, userid, secret) ? 'second factor' : undefined;
  }
  const ticketOf = access.tickets.verify(secret, access.seconds);
  if (ticketOf === userid || ticketOf === 'root@pam') return 'ticket';
  return user.password !== undefined && user.password === secret ? 'password' : undefined;
}

function enabledFactors(access: Access, userid: string) {
  return [...access.user(userid).factors.values()].filter(({ enable }) => enable);
}

/** `totp:123456` or `recovery:<key>`. */
function opensFactor(access: Access, userid: string, proof: string): boolean {
  const [, type, value = ''] = /^(totp|recovery):(.*)$/.exec(proof) ?? [];
  const factors = enabledFactors(access, userid).filter((factor) => factor.type === type);
  return factors.some(({ accepts }) => accepts(value, access.seconds));
}

function verifyRights(access: Access, userid: string, path: string, wanted: readonly string[]): unknown {
  const normal = normalisePath(path);
  if (normal === undefined || !access.check({ user: userid }, normal, wanted)) throw authenticationFailure();
  return { username: userid, ...overview(access, userid) };
}

function authenticationFailure(): PveError {
  return new PveError(401, 'authentication failure');
}

const classes: readonly [string, RegExp][] = [
  ['vms', /^(VM\.|Permissions\.Modify$)/],
  ['access', /^(User\.|Group\.|Permissions\.Modify$)/],
  ['storage', /^(Datastore\.|Permissions\.Modify$)/],
  ['nodes', /^(Sys\.|Permissions\.Modify$)/],
  ['sdn', /^(SDN\.|Permissions\.Modify$)/],
  ['dc', /^(Sys\.Audit$|Sys\.Modify$|SDN\.)/],
  ['mapping', /^(Mapping\.|Permissions\.Modify$)/],
];

/** A coarse summary for the web interface: held anywhere counts as held. */
function overview(access: Access, userid: string) {
  const held = new Set([...access.allPrivileges(userid).values()].flatMap((here) => [...here.keys()]));
  const cap = classes.map(([name, members]) => [
    name,
    Object.fromEntries([...held].filter((privilege) => members.test(privilege)).map((privilege) => [privilege, 1])),
  ]);
  const seesCluster = access.check({ user: userid }, '/', ['Sys.Audit']);
  return { cap: Object.fromEntries(cap), ...(seesCluster ? { clustername: 'simulated' } : {}) };
}

/** Who changes a password in PVE's own realms must know the present one of the account it is signed in with. */
function changePassword({ cluster: { access }, caller, param }: Context): void {
  const user = access.user(String(param.userid));
  const confirmed = access.users.get(caller.user)?.password === param['confirmation-password'];
  if (caller.user !== 'root@pam' && !confirmed) {
    throw parameterError({ 'confirmation-password': 'wrong or missing confirmation password' });
  }
  if (user.userid === 'root@pam' && caller.user !== 'root@pam') throw permissionError();
  demandOwnPasswords(access, user.userid);
  access.setPassword(user.userid, String(param.password));
}
