/**
 * Replication jobs, which keep a copy of a guest's local volumes on another node. A job is a standing promise of that
 * room: it is charged when it is set up, grows with the volumes, and is given back when PVE has removed the replicas.
 */

import { call } from '../../pve/call.ts';
import { parseList } from '../../pve/projections.ts';
import { guestOfJob, readHasSnapshots, replicatedTo } from '../../pve/replication.ts';
import type { Asked, ChangePolicy, ValueCheck } from '../policy.ts';
import { decimalNumber, digest, flag, line, lines, matching, nodeName, oneOf } from './values.ts';

/** When and how fast a job runs takes nothing. */
const settings = {
  comment: lines,
  disable: flag,
  rate: decimalNumber(1, 1_000_000),
  schedule: line(128),
};

/** PVE would forget the job and leave what it has copied, which nobody but an administrator can then remove. */
const withoutReplicas: ValueCheck = (value) =>
  value === '0' ? null : 'must be 0: the replicas would stay on the target; let PVE remove them with the job';

/** Both what is set up and what is there already is called by the guest's vmid and a number. */
const jobs = {
  kind: 'change',
  guests: ({ named: { id: known }, params: { id = known } }: Asked) => [guestOfJob(String(id))],
} as const;

const create: ChangePolicy = {
  ...jobs,
  class: 'consuming',
  method: 'POST',
  path: '/cluster/replication',
  params: {
    ...settings,
    id: matching(/^[1-9]\d{2,8}-\d{1,9}$/, 'the vmid and a number, such as 100-0'),
    target: nodeName,
    type: oneOf('local'),
  },
  node: ({ params: { target } }) => (typeof target === 'string' ? target : undefined),
  storages: ({ before }) => [...new Set([...before.volumes.values()].map(({ storage }) => storage))],
  asks: ({ before: { host, type, vmid } }) => [call('GET', '/nodes/{}/{}/{}/snapshot', [host.node, type, vmid])],
  objections: ({ params }) =>
    params.target === undefined ? [{ field: 'target', problem: 'is required: to which node?' }] : [],
  project: ({ before, target, told: [snapshots] }) => replicatedTo(before, target.node, readHasSnapshots(snapshots)),
};

/** PVE lets no job change its target. One that is disabled can be enabled again, so it goes on counting. */
const change: ChangePolicy = {
  ...jobs,
  class: 'consuming',
  method: 'PUT',
  path: '/cluster/replication/{id}',
  params: {
    ...settings,
    remove_job: oneOf('full'),
    digest,
    delete: (value) => {
      const wrong = parseList(value).find((key) => !Object.hasOwn(settings, key));
      return wrong === undefined ? null : `${JSON.stringify(wrong)} is not a setting that may be dropped here`;
    },
  },
  hasOwnDigest: true,
  project: ({ before }) => before,
};

/** PVE only marks the job, and removes first its replicas and then the job when it next looks at it. */
const remove: ChangePolicy = {
  ...jobs,
  class: 'releasing',
  method: 'DELETE',
  path: '/cluster/replication/{id}',
  params: { keep: withoutReplicas, force: withoutReplicas },
  project: ({ before }) => before,
};

/** The room for a run is charged already. */
const run: ChangePolicy = {
  ...jobs,
  class: 'consuming',
  method: 'POST',
  path: '/nodes/{node}/replication/{id}/schedule_now',
  params: {},
  project: ({ before }) => before,
};

export const replicationPolicies: readonly ChangePolicy[] = [create, change, remove, run];
