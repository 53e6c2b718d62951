/** Making guests and writing their configurations: what a call may carry, what it would make of the instance, and what speaks against it. */

import type { Fault } from '../../errors.ts';
import { birthMark, drivesOf, type GuestType, isDiskSlot } from '../../pve/instance.ts';
import { configured, created, importsOf, parseList, withImports, withStores } from '../../pve/projections.ts';
import type { Change, ChangePolicy } from '../policy.ts';
import { needsRoot, passesDevices, withMappings } from './devices.ts';
import {
  allocates,
  driveObjections,
  importedFrom,
  importQuestions,
  mediaOf,
  withoutAliases,
  withSizes,
} from './drives.ts';
import { configParameters, createParameters } from './parameters.ts';
import { flag, wholeNumber } from './values.ts';

/** What creating and configuring have in common for one type of guest. */
function written(
  type: GuestType,
): Pick<
  ChangePolicy,
  'storages' | 'media' | 'needsRoot' | 'canonical' | 'sources' | 'copiesSources' | 'asks' | 'devices'
> {
  const both = {
    storages: ({ params }: Change) => allocates(type, params),
    media: (params: Change['params']) => mediaOf(type, params),
    needsRoot,
  };
  return type === 'lxc'
    ? both
    : {
        ...both,
        ...{ canonical: withoutAliases, sources: importedFrom, copiesSources: true },
        ...{ asks: importQuestions, devices: passesDevices },
      };
}

function create(type: GuestType): ChangePolicy {
  return {
    ...written(type),
    class: 'consuming',
    kind: 'create',
    type,
    method: 'POST',
    path: `/nodes/{node}/${type}`,
    params: createParameters(type),
    // A container's disks have a storage by default, a VM's have not.
    canonical: (params) => {
      const named = withoutAliases(params);
      return type === 'qemu' && params.storage === undefined ? named : withStores(named, params.storage);
    },
    objections: driveObjections,
    project: ({ before, params, told }) => created(before, withImports(type, params, told)),
    // PVE makes a privileged container where nothing is said.
    forward: type === 'lxc' ? ({ params }) => ({ unprivileged: '1', ...params }) : withMappings,
  };
}

/**
 * A write that copies images goes as a task, whose end can be told: PVE would work on the other kind long after it has
 * given up answering. One that ends within so many seconds is answered as if it were of the other kind.
 */
const patience = '10';

function configure(type: GuestType, method: 'POST' | 'PUT'): ChangePolicy {
  const isLong = ({ params }: Change) => type === 'qemu' && method === 'PUT' && importsOf('qemu', params).length > 0;
  return {
    ...written(type),
    class: 'consuming',
    kind: 'change',
    type,
    method,
    path: `/nodes/{node}/${type}/{vmid}/config`,
    joined: ['delete', 'revert'],
    params: { ...configParameters(type), ...(method === 'POST' ? { background_delay: wholeNumber(1, 30) } : {}) },
    objections: (change) => [...driveObjections(change), ...mustStayItself(change)],
    project: ({ before, params, told }) => configured(before, withImports(type, params, told)),
    sentBy: (change) => (isLong(change) ? 'POST' : undefined),
    forward: (change) => {
      const params = { ...withSizes(change), ...(isLong(change) ? { background_delay: patience } : {}) };
      return type === 'qemu' ? withMappings({ ...change, params }) : params;
    },
  };
}

/** What tells a guest from others that have had its vmid says who pays for it. */
function mustStayItself({ before, params }: Change): Fault[] {
  const mark = birthMark(before.next);
  const field = ['smbios1', 'delete', 'revert'].find((name) => params[name] !== undefined) ?? 'vmid';
  return mark === undefined || birthMark(configured(before, params).next) === mark
    ? []
    : [{ field, problem: `not allowed: instance ${before.vmid} is known by its uuid, which has to stay` }];
}

/** PVE's other way to delete drives from a configuration. */
const unlink: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  type: 'qemu',
  method: 'PUT',
  path: '/nodes/{node}/qemu/{vmid}/unlink',
  joined: ['idlist'],
  params: {
    idlist: (value) => {
      const wrong = parseList(value).find((key) => !isDiskSlot('qemu', key));
      return wrong === undefined ? null : `${JSON.stringify(wrong)} is not a disk slot`;
    },
    force: flag,
  },
  project: ({ before, params: { idlist = '' } }) => configured(before, { delete: idlist }),
};

/** Writing the cloud-init drive anew, which PVE allocates where it is missing: one that is in the configuration is counted. */
const cloudInit: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  type: 'qemu',
  method: 'PUT',
  path: '/nodes/{node}/qemu/{vmid}/cloudinit',
  params: {},
  storages: ({ before }) =>
    [...drivesOf('qemu', before.current).values()].flatMap((drive) =>
      drive?.kind === 'volume' && /cloudinit/.test(drive.volid) ? [drive.storage] : [],
    ),
  project: ({ before }) => before,
};

export const consumingPolicies: readonly ChangePolicy[] = [
  create('qemu'),
  create('lxc'),
  configure('qemu', 'POST'),
  configure('qemu', 'PUT'),
  configure('lxc', 'PUT'),
  unlink,
  cloudInit,
];
