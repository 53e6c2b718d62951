/** Which backend does what of a change: each is given what it holds, and none what it does not. */

import { ConflictError, NotFoundError, NotSupportedError } from '../errors.ts';
import { type Backend, type BackendChange, type BackendData, formatGroupName, formatUserName } from './backend.ts';
import { isRestorable, type Step } from './changes.ts';
import { grantKeys, type LoadedBackend } from './index.ts';

/** A backend that a change concerns, and what it shows before. */
export interface Seen {
  readonly loaded: LoadedBackend;
  readonly before: BackendData | null;
  /** Whether it holds the users or groups of this realm themselves, and not only limits for them. */
  readonly holds: boolean;
  /** Whether the password of the user is kept there. */
  readonly keepsPassword: boolean;
}

type Attributes = Readonly<Record<string, unknown>>;
type AttributesChange = Extract<BackendChange, { readonly attributes: Attributes }>;

/**
 * The steps of a change, in the order in which they can best be taken back: passwords, and removals of more than a
 * backend tells, come last. Throws NotFoundError or ConflictError when the thing is not there or there already, and
 * NotSupportedError when a backend that would have to act cannot.
 */
export function stepsFor(change: BackendChange, seen: readonly Seen[]): readonly Step[] {
  const what = 'group' in change ? `group ${formatGroupName(change.group)}` : `user ${formatUserName(change.user)}`;
  const known = seen.filter(({ before }) => before !== null);
  const adds = change.method === 'addUser' || change.method === 'addGroup';
  if (adds && known[0] !== undefined)
    throw new ConflictError(`${what} is there already, at backend "${known[0].loaded.name}"`);
  if (!adds && known.length === 0) throw new NotFoundError(`${what} does not exist`);
  if ('attributes' in change) return stepsOfAttributes(change, adds ? seen : known, seen, what);
  const acting = change.method === 'delUser' || change.method === 'delGroup' ? known : known.filter(describes);
  if (acting.length === 0) throw new NotSupportedError(`no backend that has ${what} keeps members of it`);
  return acting.map((one) => able(one, change)).toSorted(restorableFirst);
}

function stepsOfAttributes(
  change: AttributesChange,
  describing: readonly Seen[],
  seen: readonly Seen[],
  what: string,
): readonly Step[] {
  const { userpassword, oldpassword, ...others } = change.attributes;
  const adds = change.method === 'addUser' || change.method === 'addGroup';
  const password =
    userpassword === undefined ? {} : { userpassword, ...(oldpassword === undefined ? {} : { oldpassword }) };
  const { true: grants = [], false: texts = [] } = Object.groupBy(Object.entries(others), ([key]) =>
    String(isGrant(key)),
  ) as Partial<Record<'true' | 'false', [string, unknown][]>>;
  const people = describing.filter((one) => describes(one) && one.loaded.backend[change.method] !== undefined);
  const described = Object.fromEntries(texts);
  const describe = (one: Seen): Step =>
    step(one, { ...change, attributes: { ...described, ...(adds && one.keepsPassword ? password : {}) } });
  const wanted = adds || texts.length > 0;
  const steps = [
    ...(wanted ? people.map(describe) : []),
    ...grantSteps(change, grants, seen, what),
    ...(adds || userpassword === undefined
      ? []
      : people
          .filter(({ loaded, keepsPassword }) => loaded.backend.openSession !== undefined && keepsPassword)
          .map((one) => step(one, { ...change, attributes: password }))),
  ];
  const [unheld] = Object.keys(described);
  if (unheld !== undefined && people.length === 0) throw unsupported(unheld, what);
  if (
    userpassword !== undefined &&
    !steps.some(({ change }) => 'attributes' in change && 'userpassword' in change.attributes)
  )
    throw unsupported('userpassword', what);
  if (steps.length > 0) return merged(steps);
  const keeper = keeperOf(grantKeys, seen, change.method);
  if (keeper === undefined) throw new NotSupportedError(`no backend can keep ${what}`);
  return [step(keeper, { ...change, attributes: {} })];
}

/** What may be used is kept by the last backend that decides it, since that one wins. */
function grantSteps(
  change: AttributesChange,
  grants: readonly (readonly [string, unknown])[],
  seen: readonly Seen[],
  what: string,
): readonly Step[] {
  return grants.map(([key, value]) => {
    const keeper = keeperOf([key], seen, change.method);
    if (keeper === undefined) throw unsupported(key, what);
    return step(keeper, { ...change, attributes: { [key]: value } });
  });
}

function keeperOf(keys: readonly string[], seen: readonly Seen[], method: keyof Backend): Seen | undefined {
  return seen.findLast(
    ({ loaded }) =>
      loaded.backend[method] !== undefined && keys.some((key) => (loaded.keys as ReadonlySet<string>).has(key)),
  );
}

/** One step for each backend, but for passwords, which stay apart from what can be taken back. */
function merged(steps: readonly Step[]): readonly Step[] {
  const joined: Step[] = [];
  for (const one of steps) {
    const index = joined.findIndex((other) => other.loaded === one.loaded && !isPassword(one));
    const other = joined[index];
    if (other === undefined || !('attributes' in other.change) || !('attributes' in one.change)) joined.push(one);
    else
      joined[index] = {
        ...other,
        change: { ...other.change, attributes: { ...other.change.attributes, ...one.change.attributes } },
      };
  }
  return joined;
}

function isPassword({ change }: Step): boolean {
  return 'attributes' in change && change.method === 'setUser' && 'userpassword' in change.attributes;
}

/** A backend that knows nothing of a user or group yet is given a new record. */
function step({ loaded, before }: Seen, change: BackendChange): Step {
  if (before === null && change.method === 'setUser')
    return { loaded, before, change: { ...change, method: 'addUser' } };
  if (before === null && change.method === 'setGroup')
    return { loaded, before, change: { ...change, method: 'addGroup' } };
  return { loaded, before, change };
}

function able(one: Seen, change: BackendChange): Step {
  const { name, backend } = one.loaded;
  if (backend[change.method] === undefined)
    throw new NotSupportedError(`Backend "${name}" cannot do this (it has no ${change.method}); nothing is changed`);
  return step(one, change);
}

function restorableFirst(one: Step, other: Step): number {
  return Number(isRestorable(other.loaded)) - Number(isRestorable(one.loaded));
}

function describes({ loaded, holds }: Seen): boolean {
  return holds && loaded.keys.has('attributes');
}

function isGrant(key: string): boolean {
  return (grantKeys as readonly string[]).includes(key);
}

function unsupported(key: string, what: string): NotSupportedError {
  return new NotSupportedError(`${key}: no backend of ${what} can store it; nothing is changed`);
}
