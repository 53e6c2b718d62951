/** The backups of an instance. */

import { BadRequestError, NotFoundError, NotSupportedError } from '../../errors.ts';
import { type Call, call, type Draft } from '../../pve/call.ts';
import { backupOwner, drivesOf, type Instance } from '../../pve/instance.ts';
import { formatPropertyString } from '../../pve/property-string.ts';
import { type Row, rowsOf } from '../../pve/rows.ts';
import { begin } from './change.ts';
import { backupVolume, note, readForm } from './fields.ts';
import { dataOf } from './reply.ts';
import type { Surface } from './surface.ts';
import { type Target, targetOf, visibleInstance } from './target.ts';

/** `/cluster/:node/:type/:vmid/backup`: the list, making and deleting one, `notes` and `restore`. None waits for PVE's task. */
export function backupRoutes({ app, rooms, identify }: Surface): void {
  const { backups } = rooms.config;
  const url = '/cluster/:node/:type/:vmid/backup';

  app.get(url, async (request) => {
    const caller = await identify(request);
    const target = targetOf(request.params);
    const storages = backups === undefined ? [] : [backups.storage];
    const instance = await visibleInstance(rooms, caller, target, storages);
    return backups === undefined ? [] : listed(instance, backups.storage);
  });

  const route = (
    method: 'POST' | 'DELETE',
    action: string,
    translate: (target: Target, storage: string, body: unknown) => Call | Draft,
    shown: (data: unknown) => unknown,
  ) =>
    app.route({
      method,
      url: `${url}${action}`,
      handler: async (request, reply) => {
        const caller = await identify(request);
        if (backups === undefined)
          throw new NotSupportedError('there are no backups here: no storage is configured for them (backups.storage)');
        const asked = translate(targetOf(request.params), backups.storage, request.body);
        const answer = shown(await begin(rooms, asked, caller));
        return typeof answer === 'string' ? reply.type('text/html').send(answer) : answer;
      },
    });

  const asTask = (data: unknown) => (typeof data === 'string' ? data : '');
  const asData = (data: unknown) => ({ data: data ?? null });
  route('POST', '', makeBackup, asTask);
  route('DELETE', '', deleteBackup, asTask);
  route('POST', '/notes', labelBackup, asData);
  route('POST', '/restore', restoreBackup, asData);

  /** PVE's entries of the backups that count as the instance's own, newest first. */
  async function listed({ vmid, host, backups: own = [] }: Instance, storage: string): Promise<readonly Row[]> {
    const asked = call('GET', '/nodes/{}/storage/{}/content', [host.node, storage], {
      content: 'backup',
      vmid: String(vmid),
    });
    const data = dataOf(await rooms.upstream.send(asked, { kind: 'service' }));
    return rowsOf(data, 'the list of backups')
      .filter(({ volid }) => own.some((backup) => backup.volid === volid))
      .map((row): Row & { readonly ctime: number } => ({
        ...row,
        notes: String(row.notes ?? ''),
        size: Number(row.size ?? 0),
        ctime: Number(row.ctime ?? 0),
      }))
      .toSorted((a, b) => b.ctime - a.ctime);
  }
}

/** What PVE writes on a backup on which nobody has written anything. */
const defaultNotes = '{{guestname}}';

/** PVE takes a template of one line, in which a backslash announces a line break. */
function templateOf(notes: string): string {
  return notes.replaceAll('\\', '\\\\').replaceAll(/\r?\n/g, '\\n');
}

/** Backs an instance up as it runs. */
function makeBackup({ node, vmid }: Target, storage: string, body: unknown): Call {
  const { notes } = readForm(body, { notes: note });
  return call('POST', '/nodes/{}/vzdump', [node], {
    vmid: String(vmid),
    storage,
    mode: 'snapshot',
    remove: '0',
    compress: 'zstd',
    'notes-template': templateOf(notes) || defaultNotes,
  });
}

/** Writes something else on a backup. */
function labelBackup(target: Target, storage: string, body: unknown): Call {
  const { volid, notes } = readForm(body, { volid: backupVolume, notes: note });
  return call('PUT', '/nodes/{}/storage/{}/content/{}', [target.node, storage, own(target, storage, volid)], { notes });
}

/** Deletes a backup; PVE answers at once when it takes no more than some seconds. */
function deleteBackup(target: Target, storage: string, body: unknown): Call {
  const { volid } = readForm(body, { volid: backupVolume });
  return call('DELETE', '/nodes/{}/storage/{}/content/{}', [target.node, storage, own(target, storage, volid)], {
    delay: '5',
  });
}

/** Makes an instance what it was; a container gets its disks anew in the places and sizes that they have now. */
function restoreBackup(target: Target, storage: string, body: unknown): Call | Draft {
  const { volid } = readForm(body, { volid: backupVolume });
  const archive = own(target, storage, volid);
  const { node, type } = target;
  const vmid = String(target.vmid);
  if (type === 'qemu') return call('POST', '/nodes/{}/qemu', [node], { vmid, archive, force: '1' });
  const given = { vmid, restore: '1', force: '1' };
  return {
    ...call('POST', '/nodes/{}/lxc', [node]),
    given,
    params: (before) => ({ ...given, ostemplate: archive, ...disksLike(before) }),
  };
}

/** The backup, when its name and place do not say already that it is none of this instance; the gate knows which ones are. */
function own({ vmid }: Target, storage: string, volid: string): string {
  if (volid.startsWith(`${storage}:`) && backupOwner(volid) === vmid) return volid;
  throw new NotFoundError(`${volid} is no backup of instance ${vmid}`);
}

/** New disks of a container where it has disks now. */
function disksLike({ vmid, type, current, volumes }: Instance): Readonly<Record<string, string>> {
  const disks = [...drivesOf(type, current)].flatMap(([slot, drive]): [string, string][] => {
    if (drive?.kind !== 'volume' || slot.startsWith('unused')) return [];
    const bytes = volumes.get(drive.volid)?.bytes ?? drive.size;
    if (bytes === undefined)
      throw new BadRequestError({ field: 'volid', problem: `the size of ${slot} of instance ${vmid} is not known` });
    const mount = /(?:^|,)mp=([^,]+)/.exec(current[slot] ?? '')?.[1];
    const options: [string, string][] =
      mount === undefined
        ? []
        : [
            ['mp', mount],
            ['backup', '1'],
          ];
    const volume = `${drive.storage}:${gibibytesOf(bytes)}`;
    return [[slot, formatPropertyString([['volume', volume], ...options], { defaultKey: 'volume' })]];
  });
  return Object.fromEntries(disks);
}

/** GiB as PVE takes them, which cuts a fraction to whole MiB. */
function gibibytesOf(bytes: number): string {
  return String(Math.ceil(bytes / 1024 ** 2) / 1024);
}
