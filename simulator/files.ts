/** Files that belong to no guest: how they are named, and how they come onto a storage. */

import type { Cluster } from './cluster.ts';
import type { Context } from './method.ts';
import type { RemoteFile, StorageDefinition, Volume } from './model.ts';
import { PveError, parameterError } from './pve-error.ts';
import { isFileStorage, splitVolid, storageOn } from './volumes.ts';

type FileContent = 'iso' | 'vztmpl' | 'import';

/** Where a file goes. */
export interface Destination {
  readonly definition: StorageDefinition;
  readonly content: FileContent;
  readonly filename: string;
  readonly volid: string;
}

const endings: Readonly<Record<FileContent, RegExp>> = {
  iso: /.\.(iso|img)$/i,
  vztmpl: /.\.tar(\.(gz|xz|zst|bz2))?$/i,
  import: /^[-a-zA-Z0-9.+=_]+\.(ova|qcow2|raw|vmdk)$/,
};

/** The name that PVE gives a file: without folders, with nothing but ASCII letters, digits, `_`, `.` and `-`. */
export function normalisedName(name: string): string {
  return name
    .replace(/\n$/, '')
    .replace(/^.*[/\\]/, '')
    .replace(/[^a-zA-Z0-9_.-]/g, '_');
}

/** The storage of the call, if it keeps files. */
export function fileStorageOf({ cluster, node, param }: Context): StorageDefinition {
  const definition = storageOn(cluster, node, String(param.storage));
  if (!isFileStorage(definition)) throw new PveError(500, `can't upload to storage type '${definition.type}'`);
  return definition;
}

/** Where the file of the call goes; refused when its name or its storage does not fit its content. */
export function destinationOf(context: Context): Destination {
  const definition = fileStorageOf(context);
  const content = context.param.content as FileContent;
  const filename = normalisedName(String(context.param.filename));
  if (!endings[content].test(filename)) {
    throw parameterError({
      filename: content === 'import' ? 'invalid filename or wrong extension' : 'wrong file extension',
    });
  }
  return destination(definition, content, filename);
}

/** Refused when the storage does not keep such content. */
export function destination(definition: StorageDefinition, content: FileContent, filename: string): Destination {
  const { storage } = definition;
  if (!definition.content.includes(content)) {
    throw new PveError(500, `storage '${storage}' does not support '${content}' content`);
  }
  return { definition, content, filename, volid: `${storage}:${content}/${filename}` };
}

/** Puts a file in its place; one that has the name already is gone. */
export function store(
  { cluster, node }: Context,
  { definition, content, filename, volid }: Destination,
  { bytes, virtualBytes = bytes }: Pick<RemoteFile, 'bytes' | 'virtualBytes'>,
): Volume {
  const before = cluster.volumes.get(node, volid);
  if (before !== undefined) cluster.volumes.remove(before);
  return cluster.volumes.add({
    volid,
    storage: definition.storage,
    node: definition.shared ? '' : node,
    vmid: undefined,
    content,
    format: formatOfFile(content, filename),
    bytes: content === 'import' ? virtualBytes : bytes,
    ...(content === 'import' ? { fileBytes: bytes } : {}),
    ctime: Math.floor(cluster.now() / 1000),
  });
}

/** What a list says that a file is. */
function formatOfFile(content: FileContent, filename: string): string {
  if (content === 'iso') return 'iso';
  const [, ending = 'raw'] = /\.(tar(?:\.\w+)?|\w+)$/.exec(filename) ?? [];
  return ending.replace('tar.', 't');
}

/** A file that is fetched never takes the place of another. */
export function assertFree({ volumes }: Cluster, node: string, { volid, filename }: Destination): void {
  if (volumes.get(node, volid) !== undefined)
    throw new PveError(500, `refusing to override existing file '${filename}'`);
}

const magic = Buffer.from([0x51, 0x46, 0x49, 0xfb]);

/** What the head of an image says about its disk: nothing where its name does not end in `.qcow2`. */
export function virtualBytesIn(volid: string, head: Buffer): number | undefined {
  if (!splitVolid(volid)?.name.endsWith('.qcow2')) return undefined;
  if (head.length < 32 || !head.subarray(0, 4).equals(magic)) throw new PveError(500, 'Image is not in qcow2 format');
  return Number(head.readBigUInt64BE(24));
}

/** The first bytes of a qcow2 image whose disk is that big. */
export function qcow2Head(virtualBytes: number): Buffer {
  const head = Buffer.alloc(104);
  magic.copy(head);
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(BigInt(virtualBytes), 24);
  return head;
}
