/** Copies of guests, templates to copy, and guests that change their node. */

import type { Fault } from '../../errors.ts';
import { isObject } from '../../json.ts';
import { readSnapshot } from '../../pve/archives.ts';
import { beyondIn } from '../../pve/beyond.ts';
import { call, singles } from '../../pve/call.ts';
import { type Config, type GuestType, type Instance, isDeviceSlot, isDiskSlot } from '../../pve/instance.ts';
import { cloned, migrated, storageMap } from '../../pve/projections.ts';
import type { Change, ChangePolicy } from '../policy.ts';
import { pathsIn, storagesOf } from './drives.ts';
import { hostName } from './parameters.ts';
import * as values from './values.ts';

const { flag, line, lines, oneOf, wholeNumber } = values;

function clone(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'create',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}/{vmid}/clone`,
    params: {
      newid: values.vmid,
      description: lines,
      full: flag,
      pool: values.poolId,
      snapname: values.snapshotName,
      storage: values.storageId,
      target: values.nodeName,
      ...(type === 'qemu' ? { name: line(255), format: oneOf('raw', 'qcow2', 'vmdk') } : { hostname: hostName }),
    },
    guests: ({ params }) => [Number(singles(params).newid)],
    sources: ({ named }) => [Number(named.vmid)],
    sourcePrivilege: 'VM.Clone',
    copiesSources: true,
    node: ({ params, named }) => singles(params).target ?? named.node,
    storages: ({ before }) => storagesOf(before.type, before.current),
    asks: ({ named: { node = '', vmid = '' }, params: { snapname } }) => [
      ...(snapname === undefined
        ? []
        : [call('GET', '/nodes/{}/{}/{}/snapshot/{}/config', [node, type, vmid, snapname])]),
      // Raw settings of a container are in no other answer.
      ...(snapname === undefined && type === 'lxc' ? [call('GET', '/nodes/{}/lxc/{}/config', [node, vmid])] : []),
    ],
    devices: (change) => Object.keys(copiedBy(change)?.config ?? {}).some(isDeviceSlot),
    objections: (change) => {
      const { config } = copiedBy(change) ?? { config: undefined };
      if (config === undefined)
        return [
          {
            field: change.params.snapname === undefined ? 'vmid' : 'snapname',
            problem: 'PVE does not tell what it holds',
          },
        ];
      // Who shares a template hands out what is in it.
      if (change.shared.has(Number(change.named.vmid))) return [];
      return [...beyondIn(type, config, change.allowances.parameters), ...pathsIn(type, config)].map(
        (key): Fault => ({ field: 'vmid', problem: `it has ${key}, which only an administrator can copy` }),
      );
    },
    brings: (change) => {
      const copied = copiedBy(change);
      return copied === undefined || change.shared.has(copied.source.vmid)
        ? undefined
        : { field: 'vmid', config: copied.config };
    },
    project: (change) => {
      const copied = copiedBy(change);
      const { before, params } = change;
      if (copied === undefined) return before;
      const full = params.full === undefined ? copied.source.current.template !== '1' : params.full === '1';
      return cloned(before, copied.source, copied.config, { full, storage: params.storage });
    },
  };
}

/** The guest that is copied, and its present configuration or the one of the snapshot that is asked for. */
function copiedBy({ others, named, params, told: [answer] }: Change) {
  const source = others.get(Number(named.vmid));
  if (source === undefined) return undefined;
  const config = params.snapname === undefined ? presentOf(source, answer) : readSnapshot(answer);
  return config === null ? undefined : { source, config };
}

function presentOf({ type, current }: Instance, answer: unknown): Config | null {
  if (type === 'qemu') return current;
  if (!isObject(answer)) return null;
  return answer.lxc === undefined ? current : { ...current, lxc: String(answer.lxc) };
}

/** PVE makes the disks such that others can share them; they are the same in size. */
function template(type: GuestType): ChangePolicy {
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}/{vmid}/template`,
    params:
      type === 'qemu'
        ? { disk: (value) => (isDiskSlot('qemu', value) ? null : `${JSON.stringify(value)} is not a disk slot`) }
        : {},
    project: ({ before }) => before,
  };
}

function migrate(type: GuestType): ChangePolicy {
  const mapping = type === 'qemu' ? 'targetstorage' : 'target-storage';
  return {
    class: 'consuming',
    kind: 'change',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}/{vmid}/migrate`,
    params: {
      target: values.nodeName,
      online: flag,
      [mapping]: values.storagePairs,
      ...(type === 'qemu' ? { 'with-local-disks': flag } : { restart: flag, timeout: wholeNumber(0, 86_400) }),
    },
    ...toTarget,
    project: ({ before, target, params }) => migrated(before, target, storageMap(params[mapping])),
  };
}

/** What is the same for all calls that bring guests to the node in their parameter `target`. */
export const toTarget: Pick<ChangePolicy, 'node' | 'storages' | 'devices' | 'objections'> = {
  node: ({ params }) => singles(params).target,
  storages: ({ before }) => storagesOf(before.type, before.current),
  devices: ({ before }) => Object.keys({ ...before.current, ...before.next }).some(isDeviceSlot),
  objections: ({ params }) =>
    params.target === undefined ? [{ field: 'target', problem: 'is required: to which node?' }] : [],
};

export const copyPolicies: readonly ChangePolicy[] = (['qemu', 'lxc'] as const).flatMap((type) => [
  clone(type),
  template(type),
  migrate(type),
]);
