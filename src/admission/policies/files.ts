/** Files that belong to no guest: sending them, having a node fetch them, and deleting them. */

import type { Fault } from '../../errors.ts';
import { call } from '../../pve/call.ts';
import { faultOfName, fileVolid, normalisedName, sentKinds, withFile } from '../../pve/files.ts';
import { type Row, rowsIn } from '../../pve/rows.ts';
import { isAmong } from '../allowances.ts';
import type { Asked, Change, ChangePolicy, Policy } from '../policy.ts';
import { closedRows } from './rows.ts';
import * as values from './values.ts';

const { flag, line, matching, oneOf, storageId, wholeNumber } = values;

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
  const volid = made(change);
  return typeof volid === 'string' && isOthers(change, volid)
    ? [{ field: 'filename', problem: `${volid} is there already and not yours; choose another name` }]
    : mustBeListed(change, change.named.storage);
}

/** Whether a file is there that is not on the caller's shelf, by the list that was asked for first. */
function isOthers({ before, told: [rows] }: Change, volid: string): boolean {
  return rowsIn(rows)?.some((row) => row.volid === volid) === true && !before.volumes.has(volid);
}

function mustBeListed({ told: [rows] }: Change, storage = ''): Fault[] {
  return rowsIn(rows) !== null
    ? []
    : [{ field: 'storage', problem: `${storage} does not tell what it holds, so nothing can be put there` }];
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
  return plain && isAmong(urls, url)
    ? []
    : [
        {
          field: 'url',
          problem: `${JSON.stringify(url)} is not one that an administrator has opened (tenants.urls); upload the file instead`,
        },
      ];
}

/**
 * A container template of the list that PVE has of them. What lies at its address is no matter of the caller's: PVE
 * checks it by the sum in its signed list, and leaves a file of that name that is there already.
 */
const appliance: ChangePolicy = {
  class: 'consuming',
  kind: 'change',
  method: 'POST',
  path: '/nodes/{node}/aplinfo',
  params: {
    storage: storageId,
    template: matching(/^[A-Za-z0-9][\w.+~-]{0,240}\.tar\.[a-z0-9]{2,4}$/, 'the name of a template in the list'),
  },
  guests: () => [],
  file: {
    source: 'template',
    volid: ({ params: { storage, template } }) =>
      typeof storage === 'string' && typeof template === 'string'
        ? `${storage}:vztmpl/${template}`
        : { field: storage === undefined ? 'storage' : 'template', problem: 'is required, once' },
    bytes: ({ told: [, , metadata] }) => sizeIn(metadata),
  },
  asks: ({ named: { node = '' }, params: { storage = '' } }) => [
    call('GET', '/nodes/{}/storage/{}/content', [node, storage], { content: 'vztmpl' }),
    call('GET', '/nodes/{}/aplinfo', [node]),
  ],
  asksThen: (change) => {
    const { location } = applianceIn(change) ?? {};
    const { node = '' } = change.named;
    return typeof location === 'string' ? [call('GET', '/nodes/{}/query-url-metadata', [node], { url: location })] : [];
  },
  objections: (change) => {
    const { storage = '', template = '' } = change.params;
    if (isOthers(change, `${storage}:vztmpl/${template}`))
      return [{ field: 'template', problem: `${template} is there already, on ${storage}, and not yours to replace` }];
    return applianceIn(change) === undefined
      ? [{ field: 'template', problem: `${template} is not in the list of node ${change.named.node} (aplinfo)` }]
      : mustBeListed(change, storage);
  },
  project: projected,
};

/** What PVE's list says of the template that a call names. */
function applianceIn({ params: { template }, told: [, rows] }: Change): Row | undefined {
  return rowsIn(rows)?.find((row) => row.template === template);
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
  appliance,
  remove,
  ...closedRows(
    'PVE tells in no call how large an image of a registry is; ask an administrator to pull it, or upload it as a tar archive',
    'POST /nodes/{node}/storage/{storage}/oci-registry-pull',
  ),
];
