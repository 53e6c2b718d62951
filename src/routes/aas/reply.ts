/** How answers and errors look to the dashboards: success is a 200 with an object, anything else has a text `error`. */

import type { FastifyRequest } from 'fastify';
import { QuotaExceededError, UnauthenticatedError } from '../../errors.ts';
import { type Answer, succeeded } from '../../pve/call.ts';
import type { TaskStatus } from '../../pve/task.ts';
import type { Resources } from '../../quota/resources.ts';
import { plainText, refusalOf } from '../edge.ts';

/** PVE did not do what it was asked; its status and its reason are the answer. */
export class PveRefusal extends Error {
  override readonly name = 'PveRefusal';
  readonly answer: Answer;

  constructor(answer: Answer) {
    super(reasonOf(answer));
    this.answer = answer;
  }
}

/** A task of PVE's as dashboards are shown it: its last status and its log. */
export interface EndedTask extends TaskStatus {
  readonly log: readonly unknown[];
}

/** The task of a change ended badly. */
export class TaskFailure extends Error {
  override readonly name = 'TaskFailure';
  readonly task: EndedTask;

  constructor(task: EndedTask) {
    super(task.exitstatus ?? 'the task ended without a status');
    this.task = task;
  }
}

/** What PVE answered; throws PveRefusal when it refused. */
export function dataOf(answer: Answer): unknown {
  if (!succeeded(answer)) throw new PveRefusal(answer);
  return answer.data;
}

/** PVE's reason in full: the phrase, and on bad parameters what is wrong with each. */
export function reasonOf({ status, reason, errors = {} }: Answer): string {
  const faults = Object.entries(errors).map(([name, problem]) => `${name}: ${problem.trim()}`);
  return [reason === '' ? `PVE answered ${status}` : reason, ...faults].join(' ');
}

/** The status for a refusal by PVE, 595 to 599 included; what no client expects of an error is a bad gateway. */
export function refusedStatus({ status }: Answer): number {
  return status >= 400 && status <= 599 ? status : 502;
}

/** An error as it leaves the server. */
export interface SpokenError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, unknown>>;
}

/** The answer to a request that ended in this error. */
export function errorReply(
  error: unknown,
  { params }: Pick<FastifyRequest, 'params'>,
  resources: Resources,
): SpokenError {
  if (error instanceof PveRefusal) {
    const status = refusedStatus(error.answer);
    const more = status === 401 ? { auth: false, path: checkedPath(params) } : {};
    return { status, headers: {}, body: { ...more, error: plainText(error.message) } };
  }
  if (error instanceof TaskFailure) {
    return { status: 500, headers: {}, body: { ...error.task, error: plainText(error.message) } };
  }
  const { status, message, headers } = refusalOf(error);
  const spoken = plainText(message);
  if (error instanceof QuotaExceededError) {
    return { status, headers, body: { ...quotaBody(error, resources), error: spoken } };
  }
  const more = error instanceof UnauthenticatedError ? { auth: false, path: checkedPath(params) } : {};
  return { status, headers, body: { ...more, error: spoken } };
}

/** The PVE path whose reading used to prove the caller's right, which clients find in `path`. */
function checkedPath(params: unknown): string {
  const { node, type, vmid } = Object(params);
  return vmid === undefined ? '/version' : `/nodes/${node}/${type}/${vmid}/config`;
}

/** What was requested in quota units and why it was refused, by resource; amounts in base units in `overruns`. */
function quotaBody({ overruns }: QuotaExceededError, resources: Resources): Readonly<Record<string, unknown>> {
  const request: Record<string, number | string> = {};
  const reason: Record<string, { readonly approved: false; readonly reason: string }> = {};
  for (const { resource, item, requested, sentence } of overruns) {
    const name = resource.replace(/^storage:/, '');
    const declared = Object.hasOwn(resources, name) ? resources[name] : undefined;
    const multiplier = declared === undefined || declared.type === 'list' ? 1 : declared.multiplier;
    request[name] = declared?.type === 'list' ? item : Math.ceil(requested / multiplier);
    reason[name] = { approved: false, reason: sentence };
  }
  return { request, reason, overruns };
}
