/** The disks of an instance. */

import type { FastifyRequest } from 'fastify';
import { BadRequestError, ConflictError, ForbiddenError, NotFoundError } from '../../errors.ts';
import { type Call, call, type Draft } from '../../pve/call.ts';
import { type GuestType, type Instance, isDiskSlot } from '../../pve/instance.ts';
import { driveOf } from '../../pve/projections.ts';
import { formatPropertyString } from '../../pve/property-string.ts';
import type { Resources } from '../../quota/resources.ts';
import { change, configure } from './change.ts';
import { flag, gibibytes, isoImage, mountPath, optional, readForm, storageId, wholeNumber } from './fields.ts';
import type { Surface } from './surface.ts';
import { type Target, targetOf } from './target.ts';

/** A disk slot of an instance. */
interface DiskTarget extends Target {
  readonly disk: string;
}

/** `/cluster/:node/:type/:vmid/disk/:disk/...`: `create`, `resize`, `move`, `detach`, `attach` and `delete`. */
export function diskRoutes({ app, rooms, identify }: Surface): void {
  const { resources } = rooms.config;
  const route = (
    method: 'POST' | 'DELETE',
    action: string,
    translate: (target: DiskTarget, body: unknown, resources: Resources) => Call | Draft,
  ) =>
    app.route({
      method,
      url: `/cluster/:node/:type/:vmid/disk/:disk/${action}`,
      handler: async (request) => {
        const caller = await identify(request);
        return change(rooms, translate(diskTargetOf(request), request.body, resources), caller);
      },
    });

  route('POST', 'create', createDisk);
  route('POST', 'attach', attachDisk);
  route('POST', 'resize', resizeDisk);
  route('POST', 'move', moveDisk);
  route('POST', 'detach', detachDisk);
  route('DELETE', 'delete', deleteDisk);
}

const slots: Readonly<Record<GuestType, string>> = {
  qemu: 'ide0 to ide3, sata0 to sata5, scsi0 to scsi30, virtio0 to virtio15, efidisk0, tpmstate0 or unused0 to unused255',
  lxc: 'rootfs, mp0 to mp255 or unused0 to unused255',
};

function diskTargetOf({ params }: FastifyRequest): DiskTarget {
  const target = targetOf(params);
  const { disk }: Readonly<Record<string, string>> = Object(params);
  if (disk === undefined || !isDiskSlot(target.type, disk))
    throw new BadRequestError({
      field: 'disk',
      problem: `expected ${slots[target.type]}, got ${JSON.stringify(disk)}`,
    });
  return { ...target, disk };
}

function mustNotBeUnused({ disk }: DiskTarget, why: string): void {
  if (disk.startsWith('unused')) throw new BadRequestError({ field: 'disk', problem: `${disk} ${why}` });
}

function mustBeFree({ disk, vmid }: DiskTarget, { next }: Instance): void {
  if (next[disk] !== undefined) throw new ConflictError(`instance ${vmid} has a disk ${disk} already`);
}

/** Throws unless the configuration allows slots of this kind on the storage. */
function mustSuit({ disk }: DiskTarget, storage: string, resources: Resources): void {
  const declared = Object.hasOwn(resources, storage) ? resources[storage] : undefined;
  const allowed: readonly string[] = declared?.type === 'storage' ? (declared.disks ?? []) : [];
  const prefix = disk.replace(/\d+$/, '');
  if (!allowed.includes(prefix))
    throw new ForbiddenError(
      `disk: ${prefix} disks may not lie on storage ${storage} (allowed there: ${allowed.join(', ') || 'none'})`,
    );
}

/** The text of a drive: a volume, or what PVE makes one of, and its options. */
function drive(type: GuestType, source: string, options: readonly (readonly [string, string])[]): string {
  const defaultKey = type === 'qemu' ? 'file' : 'volume';
  return formatPropertyString([[defaultKey, source], ...options], { defaultKey });
}

/** Puts a new disk into a free slot: an image of so many GiB, or an ISO image in an `ide` drive of a VM. */
function createDisk(target: DiskTarget, body: unknown, resources: Resources): Draft {
  const disk = newDisk(target, body, resources);
  return configure(target, (before) => {
    mustBeFree(target, before);
    return { [target.disk]: disk };
  });
}

function newDisk(target: DiskTarget, body: unknown, resources: Resources): string {
  const { type, disk } = target;
  if (type === 'qemu' && disk.startsWith('ide') && namesIso(body)) {
    const { iso } = readForm(body, { iso: isoImage });
    return drive(type, iso, [['media', 'cdrom']]);
  }
  if (!/^(?:ide|sata|scsi|virtio|mp)/.test(disk))
    throw new BadRequestError({ field: 'disk', problem: `no disk can be created as ${disk}` });
  const { storage, size } = readForm(body, { storage: storageId, size: gibibytes });
  mustSuit(target, storage, resources);
  const mount = type === 'lxc' ? [['mp', `/${disk}/`] as const] : [];
  return drive(type, `${storage}:${size}`, [...mount, ['backup', '1']]);
}

function namesIso(body: unknown): boolean {
  const { iso } = Object(body ?? {});
  return iso !== undefined && iso !== '' && iso !== 'null';
}

const source = { ...wholeNumber('', 0, 255), expected: 'the whole number N of a disk unusedN, from 0 to 255' };

/** Puts an unused disk into a free slot; a container mounts it where the form says, or below the slot's own name. */
function attachDisk(target: DiskTarget, body: unknown, resources: Resources): Draft {
  const { type, vmid, disk } = target;
  // VMs mount nothing, whatever the form says.
  const { source: number, mp } =
    type === 'qemu'
      ? { ...readForm(body, { source }, ['mp']), mp: null }
      : readForm(body, { source, mp: optional(mountPath) });
  mustNotBeUnused(target, 'is no slot to attach a disk to');
  return configure(target, (before) => {
    const unused = driveOf(before, `unused${number}`);
    if (unused?.kind !== 'volume') throw new NotFoundError(`instance ${vmid} has no disk unused${number}`);
    mustSuit(target, unused.storage, resources);
    mustBeFree(target, before);
    const options =
      type === 'lxc'
        ? ([
            ['mp', mp ?? `/${disk}/`],
            ['backup', '1'],
          ] as const)
        : [];
    return { [disk]: drive(type, unused.volid, options) };
  });
}

/** Grows a disk by so many GiB. */
function resizeDisk(target: DiskTarget, body: unknown): Call {
  mustNotBeUnused(target, 'is in no use; attach it first');
  const { node, type, vmid, disk } = target;
  const { size } = readForm(body, { size: gibibytes });
  return call('PUT', '/nodes/{}/{}/{}/resize', [node, type, vmid], { disk, size: `+${size}G` });
}

/** Copies a disk to another storage; with `delete` the old one goes, else it stays as an unused disk. */
function moveDisk({ node, type, vmid, disk }: DiskTarget, body: unknown): Call {
  const params = readForm(body, { storage: storageId, delete: flag });
  return type === 'qemu'
    ? call('POST', '/nodes/{}/qemu/{}/move_disk', [node, vmid], { disk, ...params })
    : call('POST', '/nodes/{}/lxc/{}/move_volume', [node, vmid], { volume: disk, ...params });
}

/** Takes a disk out of use; PVE keeps an image as unused, and a CD-ROM just vanishes. */
function detachDisk(target: DiskTarget, body: unknown): Draft {
  readForm(body, {});
  mustNotBeUnused(target, 'is detached already; delete it instead');
  return removeDisk(target);
}

/** Frees an unused disk, or empties an `ide` drive, whose image stays as unused. */
function deleteDisk(target: DiskTarget, body: unknown): Draft {
  readForm(body, {});
  if (!/^(?:unused|ide)/.test(target.disk))
    throw new ForbiddenError(`disk: ${target.disk} is in use; detach it first and delete the unused disk then`);
  return removeDisk(target);
}

function removeDisk(target: DiskTarget): Draft {
  const { disk, vmid } = target;
  return configure(target, ({ next }) => {
    if (next[disk] === undefined) throw new NotFoundError(`instance ${vmid} has no disk ${disk}`);
    return { delete: disk };
  });
}
