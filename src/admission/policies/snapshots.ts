/** Going back to a snapshot: the instance becomes what it was then, so that is what is charged. */

import { readSnapshot, rolledBack } from '../../pve/archives.ts';
import { call } from '../../pve/call.ts';
import type { GuestType } from '../../pve/instance.ts';
import type { ChangePolicy } from '../policy.ts';
import { flag } from './values.ts';

function rollback(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}/{vmid}/snapshot/{snapshot}/rollback`,
    params: { start: flag },
    asks: ({ before, named }) => [
      call('GET', '/nodes/{}/{}/{}/snapshot/{}/config', [before.host.node, type, before.vmid, named.snapshot ?? '']),
    ],
    project: ({ before, told: [config] }) => rolledBack(before, readSnapshot(config)),
  };
}

export const snapshotPolicies: readonly ChangePolicy[] = [rollback('qemu'), rollback('lxc')];
