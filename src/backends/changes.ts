/** One change at several backends: checked at all of them first, then made in order, and taken back when one fails. */

import { isDeepStrictEqual } from 'node:util';
import { ApiError, type ErrorCode } from '../errors.ts';
import { isObject } from '../json.ts';
import type { Backend, BackendChange, BackendData, BackendResult, Requester } from './backend.ts';
import { grantKeys, type LoadedBackend } from './index.ts';
import type { Ask } from './memberships.ts';

/** What one backend is to do, and what it shows before of the user or group that the change is about. */
export interface Step {
  readonly loaded: LoadedBackend;
  readonly change: BackendChange;
  readonly before: BackendData | null;
}

/**
 * What became of a step: `done`; `refused` or `failed`, so that nothing is changed there; `undone` after it was made;
 * `kept`, since it could not be undone; `unknown`, since that cannot be told; `untouched`, since another one failed before.
 */
export type Outcome = 'done' | 'refused' | 'failed' | 'undone' | 'kept' | 'unknown' | 'untouched';

/** What one backend did, and said. */
export interface StepResult extends BackendResult {
  readonly backend: string;
  readonly outcome: Outcome;
}

/** The change as a whole: `status` is that of the step that failed, `message` says what is left of the others. */
export interface ChangeResult extends BackendResult {
  readonly allResponses: readonly StepResult[];
}

/**
 * Makes all steps, or none: each is checked before the first is made. When one fails after that, those made are taken
 * back, the last one first, and what each backend then shows decides whether that succeeded. Throws nothing that a
 * backend throws.
 */
export async function applyAll(steps: readonly Step[], requester: Requester, ask: Ask): Promise<ChangeResult> {
  for (const step of steps) {
    const refused = await refusalOf(step, requester, ask);
    if (refused !== null)
      return failure(
        refused,
        steps.map((other) =>
          resultOf(other, other === step ? refused : null, other === step ? 'refused' : 'untouched'),
        ),
      );
  }
  const made: StepResult[] = [];
  for (const step of steps) {
    const { said, threw } = await attempt(() => ask(step.loaded, () => perform(step.loaded, step.change, requester)));
    made.push(resultOf(step, said, said.ok ? 'done' : threw ? 'failed' : 'refused'));
    if (!said.ok) return takenBack(steps, made, said, requester, ask);
  }
  return { ok: true, status: 200, message: '', allResponses: made };
}

async function takenBack(
  steps: readonly Step[],
  made: readonly StepResult[],
  cause: BackendResult,
  requester: Requester,
  ask: Ask,
): Promise<ChangeResult> {
  const results = steps.map((step, index) => made[index] ?? resultOf(step, null, 'untouched'));
  for (const [index, step] of [...steps.entries()].slice(0, made.length).reverse()) {
    const result = results[index];
    if (result !== undefined) results[index] = await withoutEffect(step, result, requester, ask);
  }
  return failure(cause, results);
}

/** Why a step cannot be made, as far as that shows without making it. */
async function refusalOf({ loaded, change }: Step, requester: Requester, ask: Ask): Promise<BackendResult | null> {
  const { name, backend } = loaded;
  if (backend[change.method] === undefined)
    return { ok: false, status: 501, message: `Backend "${name}" cannot do this: it has no ${change.method}` };
  const { said } = await attempt(async () => (await ask(loaded, () => backend.check?.(change, requester))) ?? fine);
  return said.ok ? null : said;
}

/** Makes sure that a step that was tried, and perhaps made, has changed nothing; or says that it has. */
async function withoutEffect(step: Step, result: StepResult, requester: Requester, ask: Ask): Promise<StepResult> {
  const { loaded, change, before } = step;
  const ended = (outcome: Outcome, why?: string): StepResult => ({
    ...result,
    ok: false,
    outcome,
    message: [result.message, why ?? ''].filter((text) => text !== '').join('; '),
  });
  const isAsBefore = async () => isDeepStrictEqual(await ask(loaded, () => stateAt(loaded, change, requester)), before);
  // A password does not show, so only the backend's word tells whether it was changed.
  if (isHidden(step)) {
    if (result.outcome === 'refused') return result;
    return result.ok ? ended('kept', 'it cannot be undone') : ended('unknown');
  }
  try {
    if (await isAsBefore()) {
      if (result.ok) return ended('undone');
      return result.status === late ? ended('unknown', 'it may still do it') : result;
    }
    const inverse = inverseOf(step);
    if (inverse === null) return ended('kept', 'what is removed there cannot be brought back');
    const { said } = await attempt(() => ask(loaded, () => perform(loaded, inverse, requester)));
    return (await isAsBefore()) ? ended('undone') : ended('kept', said.message);
  } catch (error) {
    return ended('unknown', (error as Error).message);
  }
}

/** Whether a change shows in nothing that the backend tells. */
function isHidden({ loaded: { backend }, change }: Step): boolean {
  if ('group' in change) return backend.getGroup === undefined;
  return (
    backend.getUser === undefined || (change.method === 'setUser' && Object.hasOwn(change.attributes, 'userpassword'))
  );
}

/** What the backend shows of the group or user that a change is about. */
export async function stateAt(
  { backend }: LoadedBackend,
  change: BackendChange,
  requester: Requester,
): Promise<BackendData | null> {
  const data =
    'group' in change ? backend.getGroup?.(change.group, requester) : backend.getUser?.(change.user, requester);
  return (await data) ?? null;
}

async function perform(
  { backend }: LoadedBackend,
  change: BackendChange,
  requester: Requester,
): Promise<BackendResult> {
  const said = await made(backend, change, requester);
  return said ?? { ok: false, status: 501, message: `there is no ${change.method}` };
}

function made(backend: Backend, change: BackendChange, requester: Requester) {
  switch (change.method) {
    case 'addUser':
    case 'setUser':
      return backend[change.method]?.(change.user, change.attributes, requester);
    case 'delUser':
      return backend.delUser?.(change.user, requester);
    case 'addGroup':
    case 'setGroup':
      return backend[change.method]?.(change.group, change.attributes, requester);
    case 'delGroup':
      return backend.delGroup?.(change.group, requester);
    case 'addUserToGroup':
    case 'delUserFromGroup':
      return backend[change.method]?.(change.user, change.group, requester);
  }
}

/** What takes a change back; null when what it removes is more than the backend tells, such as a password or an owner. */
function inverseOf({ loaded, change, before }: Step): BackendChange | null {
  const isWhole = isRestorable(loaded);
  switch (change.method) {
    case 'addUser':
      return { method: 'delUser', user: change.user };
    case 'addGroup':
      return { method: 'delGroup', group: change.group };
    case 'setUser':
    case 'setGroup':
      return { ...change, attributes: formerOf(Object.keys(change.attributes), before) };
    case 'delUser':
      return isWhole ? { method: 'addUser', user: change.user, attributes: { ...before } } : null;
    case 'delGroup':
      return isWhole ? { method: 'addGroup', group: change.group, attributes: { ...before } } : null;
    case 'addUserToGroup':
      return { ...change, method: 'delUserFromGroup' };
    case 'delUserFromGroup':
      return { ...change, method: 'addUserToGroup' };
  }
}

/** Whether what a backend tells is all that it holds, so that what was removed can be brought back. */
export function isRestorable({ backend }: LoadedBackend): boolean {
  return backend.keys.every((key) => (grantKeys as readonly string[]).includes(key));
}

/** What these keys held; null where they held nothing. */
function formerOf(keys: readonly string[], before: BackendData | null): Readonly<Record<string, unknown>> {
  const { attributes, ...whole } = before ?? {};
  const held: Readonly<Record<string, unknown>> = { ...(isObject(attributes) ? attributes : {}), ...whole };
  return Object.fromEntries(keys.map((key) => [key, (Object.hasOwn(held, key) ? held[key] : undefined) ?? null]));
}

function resultOf({ loaded: { name } }: Step, said: BackendResult | null, outcome: Outcome): StepResult {
  const { ok, status, message } = said ?? { ok: false, status: 0, message: '' };
  return { backend: name, ok, status, message, outcome };
}

function failure({ status, message }: BackendResult, allResponses: readonly StepResult[]): ChangeResult {
  const left = allResponses.filter(({ outcome }) => outcome === 'kept' || outcome === 'unknown');
  const words = left.map(({ backend, outcome, message: why }) => {
    const what = outcome === 'kept' ? 'is changed all the same' : 'may be changed or not';
    return `backend "${backend}" ${what}${why === '' ? '' : ` (${why})`}`;
  });
  const none = allResponses.length > 1 ? ['nothing is changed'] : [];
  const told = [message, ...(words.length === 0 ? none : words)];
  return { ok: false, status, message: told.join('; '), allResponses };
}

const fine: BackendResult = { ok: true, status: 200, message: '' };

/** Of a backend that did not answer in time: one look later does not show that it will not act. */
const late = 504;

const statuses: Partial<Record<ErrorCode, number>> = {
  not_ready: 503,
  upstream_unreachable: 503,
  upstream_deadline: late,
};

/** What a backend says, an error that it throws included. */
async function attempt(
  work: () => Promise<BackendResult>,
): Promise<{ readonly said: BackendResult; readonly threw: boolean }> {
  try {
    return { said: await work(), threw: false };
  } catch (error) {
    const status = (error instanceof ApiError ? statuses[error.code] : undefined) ?? 502;
    return { said: { ok: false, status, message: (error as Error).message }, threw: true };
  }
}
