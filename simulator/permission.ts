/** PVE's published permission expressions. */

import { type Access, normalisePath, permissionError, splitTokenId } from './access.ts';
import { authUser, type Caller, type RawParameters } from './call.ts';
import type { Check, Permissions } from './method.ts';
import { splitList } from './named-formats.ts';

interface Question {
  readonly access: Access;
  readonly caller: Caller;
  readonly parameters: RawParameters;
}

type Refusal = string | undefined;
type Verdict = { readonly refused: false } | { readonly refused: true; readonly missing: Refusal };
type Test = (check: Check, question: Question) => Verdict;

const passed: Verdict = { refused: false };
const refused = (missing?: string): Verdict => ({ refused: true, missing });

/** Throws PVE's 403 unless the caller may run a method that demands this. */
export function demandPermission(
  permissions: Permissions,
  access: Access,
  caller: Caller | undefined,
  parameters: RawParameters,
): void {
  if (permissions !== 'root@pam' && 'user' in permissions && permissions.user === 'world') return;
  if (caller === undefined) throw permissionError('user != null');
  if (authUser(caller) === 'root@pam') return;
  if (permissions === 'root@pam') throw permissionError('user != root@pam');
  if ('user' in permissions) return;
  const verdict = evaluate(permissions.check, { access, caller, parameters });
  if (verdict.refused) throw permissionError(verdict.missing);
}

/** Whether the caller may change the entries of an access control list: with Permissions.Modify, or as master of the object. */
export function mayModifyPermissions(access: Access, caller: Caller, path: string): boolean {
  return access.check(caller, path, privilegesToModify(path), true);
}

function evaluate(check: Check, question: Question): Verdict {
  const test = tests[String(check[0])];
  if (test === undefined) throw new Error(`unknown permission test '${check[0]}'`);
  return test(check, question);
}

const tests: Readonly<Record<string, Test>> = {
  perm([, template, privileges, ...rest], { access, caller, parameters }) {
    const options = optionsOf(rest);
    const required = options.get('require_param');
    if (required !== undefined && parameters.get(String(required)) === undefined) return refused();
    return held(access, caller, fill(String(template), parameters), listed(privileges), Boolean(options.get('any')));
  },

  'perm-modify'([, template], { access, caller, parameters }) {
    const path = fill(String(template), parameters);
    return held(access, caller, path, privilegesToModify(path), true);
  },

  or([, ...checks], question) {
    return checks.some((check) => !evaluate(listed(check), question).refused) ? passed : refused();
  },

  and([, ...checks], question) {
    const verdicts = checks.map((check) => evaluate(listed(check), question));
    return verdicts.find((verdict) => verdict.refused) ?? passed;
  },

  /** `self` compares with the full id of the caller, so a token is never itself. */
  'userid-param'([, subtest], { access, caller, parameters }) {
    const userid = String(parameters.get('userid'));
    if (subtest === 'self') return access.users.has(userid) && authUser(caller) === userid ? passed : refused();
    const realm = userid.slice(userid.lastIndexOf('@') + 1);
    return held(access, caller, `/access/realm/${realm}`, [String(subtest)], false);
  },

  /** The privileges on all groups, or on every group named and on one that the user is in. */
  'userid-group'([, privileges, ...rest], { access, caller, parameters }) {
    const wanted = listed(privileges).map(String);
    const groupsParameter = optionsOf(rest).get('groups_param');
    const userid = String(parameters.get('userid'));
    const mustExist = groupsParameter !== 'create';
    if (mustExist && !access.users.has(userid)) return refused();
    if (access.check(caller, '/access/groups', wanted, true)) return passed;

    const mayUse = (group: string) => access.check(caller, `/access/groups/${group}`, wanted, true);
    if (groupsParameter !== undefined) {
      const named = splitList(parameters.get('groups'));
      if (named.length === 0) return refused(`/access/groups, ${wanted.join(', ')}`);
      const forbidden = named.find((group) => !mayUse(group));
      if (forbidden !== undefined) return refused(`/access/groups/${forbidden}, ${wanted.join(', ')}`);
    }
    return !mustExist || access.groupsOf(userid).some(mayUse) ? passed : refused();
  },
};

function held(access: Access, caller: Caller, path: string, wanted: readonly unknown[], any: boolean): Verdict {
  const normal = normalisePath(path);
  const names = wanted.map(String);
  if (normal !== undefined && access.check(caller, normal, names, any)) return passed;
  const has = normal === undefined ? new Map() : access.privileges(caller, normal);
  return refused(`${normal ?? path}, ${any ? names.join('|') : names.find((name) => !has.has(name))}`);
}

/** A parameter that was not sent leaves a dash, which no object is called. */
function fill(template: string, parameters: RawParameters): string {
  return template.replace(/\{([^}]+)\}/g, (_, name: string) => String(parameters.get(name) ?? '-'));
}

function privilegesToModify(path: string): readonly string[] {
  const [, kind] = /^\/(storage|vms|pool)\/./.exec(path) ?? [];
  const masters: Readonly<Record<string, string>> = {
    storage: 'Datastore.Allocate',
    vms: 'VM.Allocate',
    pool: 'Pool.Allocate',
  };
  return ['Permissions.Modify', ...[masters[kind ?? ''] ?? []].flat()];
}

/** Whose permissions one may ask for: one's own, a user its tokens' too, any with Sys.Audit on /access. */
export function demandRightToAsk(access: Access, caller: Caller, authid: string): void {
  const asking = authUser(caller);
  if (asking === authid || asking === splitTokenId(authid).user) return;
  access.demand(caller, '/access', ['Sys.Audit']);
}

function listed(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function optionsOf(rest: readonly unknown[]): ReadonlyMap<unknown, unknown> {
  return new Map(rest.flatMap((key, index) => (index % 2 === 0 ? [[key, rest[index + 1]] as const] : [])));
}
