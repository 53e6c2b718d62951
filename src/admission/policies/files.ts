/** Files that belong to no guest: sending them, having a node fetch them, and deleting them. */

import type { Fault } from '../../errors.ts';
import { call } from '../../pve/call.ts';
import { faultOfName, fileVolid, normalisedName, sentKinds, withFile } from '../../pve/files.ts';
import type { Asked, Change, ChangePolicy, Policy } from '../policy.ts';
import { closedRows } from './rows.ts';
import * as values from './values.ts';

const { flag, line, matching, oneOf, wholeNumber } = values;

const storagePath = '/nodes/{node}/storage/{storage}';

/** What both ways to make a file take. */
const making = {
  content: oneOf(...sentKinds),
  filename: line(255),
  checksum: matching(/^[0-9a-f]{32,128}$/i, 'a checksum in hexadecimal digits'),
  'checksum-algorithm': oneOf('md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'),
};

/** The file that a call would make, by the name that PVE would give it. */
function made({ params: { content, filename }, named: { storage = '' } }: Asked): string | Fault {
  const kind = sentKinds.find((one) => one === content);
  if (kind === undefined) return { field: 'content', problem: `must be ${sentKinds.join(' or ')}` };
  if (typeof filename !== 'string') return { field: 'filename', problem: 'is required, once' };
  const problem = faultOfName(kind, filename);
  return problem === null ? fileVolid(storage, kind, filename) : { field: 'filename', problem };
}

/** What a storage holds of the kind: the first thing to ask before a file is made. */
function listed({ named: { node = '', storage = '' }, params: { content = '' } }: Change) {
  return call('GET', '/nodes/{}/storage/{}/content', [node, storage], { content });
}

/** PVE overwrites a file of the same name, whosesoever it is. */
function mustBeFree(change: Change): Fault[] {
  const { before, told, named } = change;
  const [rows] = told;
  if (!Array.isArray(rows))
    return [{ field: 'storage', problem: `${named.storage} does not tell what it holds, so nothing can be put there` }];
  const volid = made(change);
  const isThere = rows.some((row: { readonly volid?: unknown }) => row?.volid === volid);
  return isThere && typeof volid === 'string' && !before.volumes.has(volid)
    ? [{ field: 'filename', problem: `${volid} is there already and not yours; choose another name` }]
    : [];
}

/** PVE takes a checksum and its algorithm together, or neither. */
function mustBePaired({ params }: Change): Fault[] {
  const pair = ['checksum', 'checksum-algorithm'] as const;
  const missing = pair.filter((name) => params[name] === undefined);
  return missing.length === 1 ? missing.map((field) => ({ field, problem: `is required: ${pair.join(' and ')}` })) : [];
}

/** The parameters with the name as PVE writes it. */
const renamed = ({ params }: Change) => ({ ...params, filename: normalisedName(params.filename ?? '') });

const projected = ({ before, file }: Change) =>
  file === undefined ? before : withFile(before, file.volid, file.bytes);

const upload: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  method: 'POST',
  path: `${storagePath}/upload`,
  params: making,
  guests: () => [],
  file: { volid: made, bytes: ({ sent }) => sent ?? null },
  asks: (change) => [listed(change)],
  objections: (change) => [...mustBeFree(change), ...mustBePaired(change)],
  project: projected,
  forward: renamed,
};

const download: ChangePolicy = {
  ...upload,
  path: `${storagePath}/download-url`,
  params: {
    ...making,
    url: matching(/^https?:\/\/\S+$/, 'a URL that begins with http:// or https://'),
    'verify-certificates': flag,
  },
  file: { volid: made, bytes: ({ told: [, metadata] }) => sizeIn(metadata) },
  // A URL that is not open is not even looked at.
  asks: (change) => [listed(change), ...(mustBeOpenUrl(change).length === 0 ? [metadataOf(change)] : [])],
  objections: (change) => [...mustBeFree(change), ...mustBePaired(change), ...mustBeOpenUrl(change)],
};

/** A node that fetches for a tenant can reach what the tenant cannot, and whoever runs the server at the URL decides how much comes. */
function mustBeOpenUrl({ params: { url = '' }, allowances: { urls } }: Change): Fault[] {
  const plain = URL.canParse(url) && new URL(url).href === url;
  const isOpen = urls.some((one) => (one.endsWith('*') ? url.startsWith(one.slice(0, -1)) : url === one));
  return plain && isOpen
    ? []
    : [
        {
          field: 'url',
          problem: `${JSON.stringify(url)} is not one that an administrator has opened (tenants.urls); upload the file instead`,
        },
      ];
}

/** How the node finds the file at the URL. */
function metadataOf({ named: { node = '' }, params: { url = '', 'verify-certificates': verify } }: Change) {
  return call('GET', '/nodes/{}/query-url-metadata', [node], {
    url,
    ...(verify === undefined ? {} : { 'verify-certificates': verify }),
  });
}

function sizeIn(metadata: unknown): number | null {
  const size = Number(Object(metadata).size ?? Number.NaN);
  return Number.isSafeInteger(size) && size > 0 ? size : null;
}

const remove: ChangePolicy = {
  class: 'releasing',
  kind: 'change',
  method: 'DELETE',
  path: `${storagePath}/content/{file}`,
  params: { delay: wholeNumber(1, 30) },
  guests: () => [],
  file: {
    volid: ({ named: { storage = '', file = '' } }) => {
      const [, prefix = storage, rest = ''] = /^(?:([^:/]+):)?(.*)$/.exec(file) ?? [];
      return prefix === storage
        ? `${storage}:${rest}`
        : { field: 'storage', problem: `${file} is on storage ${prefix}, not on ${storage}` };
    },
  },
  project: ({ before }) => before,
};

export const filePolicies: readonly Policy[] = [
  upload,
  download,
  remove,
  ...closedRows(
    'PVE does not tell beforehand how much it takes; upload the template instead',
    `
    POST /nodes/{node}/aplinfo
    POST /nodes/{node}/storage/{storage}/oci-registry-pull
    `,
  ),
];
