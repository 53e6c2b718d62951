/** Files that are sent to a storage, or fetched from outside: media, container templates, images to import. */

import {
  assertFree,
  destination,
  destinationOf,
  fileStorageOf,
  normalisedName,
  store,
  virtualBytesIn,
} from '../files.ts';
import type { Check, Context, MethodRow, Permissions, Schema } from '../method.ts';
import type { RemoteFile } from '../model.ts';
import { flag, oneOf, required, storageId, text } from '../parameters.ts';
import { PveError, parameterError } from '../pve-error.ts';
import { checksumAlgorithms } from '../upload.ts';

const storage = '/nodes/{node}/storage/{storage}';
const mayStore: Check = ['perm', '/storage/{storage}', ['Datastore.AllocateTemplate']];
const mayFetch: Check = ['perm', '/nodes/{node}', ['Sys.AccessNetwork']];
const mayProbe: Check = ['or', ['perm', '/', ['Sys.Audit', 'Sys.Modify']], mayFetch];
const both = (...checks: readonly Check[]): Permissions => ({ check: ['and', ...checks] });

const reference = '[a-zA-Z0-9.:-]*[a-zA-Z0-9._/-]+';
const url: Schema = { type: 'string', pattern: 'https?://.*' };
const fileParameters = {
  content: required(oneOf('iso', 'vztmpl', 'import')),
  filename: { type: 'string', maxLength: 255 },
  checksum: { ...text, requires: 'checksum-algorithm' },
  'checksum-algorithm': { ...oneOf(...checksumAlgorithms), requires: 'checksum' },
} satisfies Record<string, Schema>;

/** A file of that name is overwritten, whoever put it there. */
function upload(context: Context): string {
  const { cluster, node, caller, param, upload: file } = context;
  const place = destinationOf(context);
  if (file === undefined) throw new PveError(500, 'missing temporary file name');
  return cluster.tasks.start({
    ...{ node, type: 'imgcopy', id: '', caller },
    run(log) {
      log(`starting file import from: ${param.tmpfilename}`);
      if (file.checksum !== undefined && file.checksum !== String(param.checksum).toLowerCase()) {
        throw new PveError(500, `checksum mismatch: got '${file.checksum}' != expect '${param.checksum}'`);
      }
      const virtualBytes = place.content === 'import' ? virtualBytesIn(place.volid, file.head) : undefined;
      store(context, place, { bytes: file.bytes, ...(virtualBytes === undefined ? {} : { virtualBytes }) });
      log(`file size is: ${file.bytes}`);
    },
  });
}

function downloadUrl(context: Context): string {
  const { cluster, node, caller, param } = context;
  const place = destinationOf(context);
  return cluster.tasks.start({
    ...{ node, type: 'download', id: place.filename, caller },
    run() {
      if (param.compression !== undefined && place.content !== 'iso') {
        throw new PveError(500, `decompression not supported for ${place.content}`);
      }
      assertFree(cluster, node, place);
      const found = cluster.outside.get(String(param.url));
      if (found === undefined) throw new PveError(500, `download failed: ${param.url}: ERROR 404: Not Found.`);
      store(context, place, found);
    },
  });
}

function pullImage(context: Context): string {
  const { cluster, node, caller, param } = context;
  const name = normalisedName(String(param.filename ?? param.reference));
  const place = destination(fileStorageOf(context), 'vztmpl', `${name}.tar`);
  assertFree(cluster, node, place);
  return cluster.tasks.start({
    ...{ node, type: 'ociregistrypull', id: place.filename, caller },
    run() {
      const found = cluster.outside.get(String(param.reference));
      if (found === undefined) throw new PveError(500, `reading manifest of ${param.reference}: manifest unknown`);
      store(context, place, found);
    },
  });
}

/** A template that is there already is not fetched again. */
function fetchAppliance(context: Context): string {
  const { cluster, node, caller, param } = context;
  const template = String(param.template);
  const found = cluster.outside.get(template);
  if (found?.appliance === undefined) throw parameterError({ template: 'no such template' });
  const place = destination(fileStorageOf(context), 'vztmpl', template);
  return cluster.tasks.start({
    ...{ node, type: 'download', id: '', caller },
    run() {
      if (cluster.volumes.get(node, place.volid) === undefined) store(context, place, found);
    },
  });
}

function locationOf(template: string, { section }: NonNullable<RemoteFile['appliance']>): string {
  return `http://download.proxmox.com/images/${section}/${template}`;
}

function appliances({ cluster }: Context): readonly Record<string, unknown>[] {
  return [...cluster.outside].flatMap(([template, { appliance }]) =>
    appliance === undefined
      ? []
      : [
          {
            ...{ template, ...appliance, type: 'lxc', architecture: 'amd64', os: appliance.package.split('-')[0] },
            ...{ headline: appliance.package, source: 'http://download.proxmox.com/images' },
            location: locationOf(template, appliance),
          },
        ],
  );
}

/** Nothing but the size is certain, and not even that. */
function urlMetadata({ cluster, param }: Context): Record<string, unknown> {
  const [, found] =
    [...cluster.outside].find(
      ([name, { appliance }]) => param.url === (appliance === undefined ? name : locationOf(name, appliance)),
    ) ?? [];
  if (found === undefined) throw new PveError(500, "invalid server response: '404 Not Found'");
  const { bytes, mimetype = 'application/octet-stream' } = found;
  return { filename: new URL(String(param.url)).pathname.split('/').at(-1), size: bytes, mimetype };
}

export const fileMethods: readonly MethodRow[] = [
  {
    method: 'POST',
    path: `${storage}/upload`,
    permissions: { check: mayStore },
    parameters: { ...fileParameters, tmpfilename: { ...text, pattern: '/var/tmp/pveupload-[0-9a-f]+' } },
    run: upload,
  },
  {
    method: 'POST',
    path: `${storage}/download-url`,
    permissions: both(mayStore, mayProbe),
    parameters: { ...fileParameters, url, compression: oneOf('gz', 'lzo', 'zst', 'bz2'), 'verify-certificates': flag },
    run: downloadUrl,
  },
  {
    method: 'POST',
    path: `${storage}/oci-registry-pull`,
    permissions: both(mayStore, mayFetch),
    parameters: {
      reference: { type: 'string', pattern: `${reference}:\\w[\\w.-]{0,127}` },
      filename: { ...text, minLength: 1, maxLength: 255 },
    },
    run: pullImage,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/aplinfo',
    permissions: { user: 'all' },
    parameters: {},
    run: appliances,
  },
  {
    method: 'POST',
    path: '/nodes/{node}/aplinfo',
    permissions: { check: mayStore },
    parameters: { storage: required(storageId), template: { type: 'string', maxLength: 255 } },
    run: fetchAppliance,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/query-url-metadata',
    permissions: { check: mayProbe },
    parameters: { url, 'verify-certificates': flag },
    run: urlMetadata,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/query-oci-repo-tags',
    permissions: { check: mayFetch },
    parameters: { reference: { type: 'string', pattern: reference } },
    run: ({ cluster, param }) =>
      [...cluster.outside.keys()]
        .filter((name) => name.startsWith(`${param.reference}:`))
        .map((name) => name.slice(String(param.reference).length + 1)),
  },
];
